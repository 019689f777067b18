//! Slows down those who guess.
//!
//! Three counters, each of failed logins only:
//!
//! - by address (IPv4 address, IPv6 /64: what one party usually has),
//! - by the name claimed,
//! - by the pair of both, and only for pairs that have logged in before.
//!
//! A pair that has logged in before answers to its own counter alone. Otherwise anybody who knows an agent's
//! name could lock it out, and one misconfigured agent would lock out all others behind the same address.
//!
//! Each counter is a leaky bucket kept as a single moment (the *generic cell rate algorithm*): a failure moves
//! it ahead by an interval, and whoever is further ahead than the burst allows has to wait. Checking and
//! counting are two steps, so logins under way at the same time may all pass the check: the overshoot is
//! bounded by how many may be in authentication at once. Tokens have 256 bits; this is against noise and load.
//!
//! *Invariant:* memory is bounded ([`MAX_ENTRIES`] per counter). When a counter is full, the entry with the
//! least debt goes, so flooding it with fresh addresses or names never frees somebody who is being slowed down.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use vocabulary::{Name, Timestamp};

use crate::authenticate::Rejected;

/// Most entries per counter. An entry has 50 to 150 bytes.
pub const MAX_ENTRIES: usize = 65_536;

/// Longest anybody waits after the last failure.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// How many failures pass at once, and how fast they are forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Failures that pass without waiting.
    pub burst: u32,
    /// After that, one more each.
    pub every: Duration,
}

impl Rate {
    /// The longest debt that is given.
    fn longest(self) -> Duration {
        self.every.saturating_mul(self.burst).saturating_add(MAX_WAIT)
    }

    /// What a debt that lies so far ahead means in waiting.
    fn wait(self, ahead: Duration) -> Duration {
        let allowed = self.every.saturating_mul(self.burst.saturating_sub(1));
        ahead.saturating_sub(allowed).min(MAX_WAIT)
    }
}

/// The rates of the three counters, and how much to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By address.
    pub address: Rate,
    /// By claimed name.
    pub principal: Rate,
    /// By both, for pairs that have logged in before.
    pub pair: Rate,
    /// Entries per counter.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            address: Rate { burst: 20, every: Duration::from_secs(2) },
            principal: Rate { burst: 20, every: Duration::from_secs(1) },
            pair: Rate { burst: 50, every: Duration::from_millis(500) },
            entries: MAX_ENTRIES,
        }
    }
}

/// Too many logins failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins; try again in {} s", retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))]
pub struct Throttled {
    /// How long to wait.
    pub retry_after: Duration,
}

/// The counters. Share one per process, behind a lock.
#[derive(Debug, Default)]
pub struct Throttle {
    limits: Limits,
    addresses: Counter<Network>,
    principals: Counter<Name>,
    pairs: Counter<(Network, Name)>,
    /// Pairs that have logged in, in the order in which they last did.
    known: Counter<(Network, Name)>,
    logins: u64,
}

impl Throttle {
    /// Empty counters.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether a login may be looked at now. `claimed` is whatever the client called itself.
    ///
    /// # Errors
    /// [`Rejected::Throttled`] says when to come back.
    pub fn check(&self, address: IpAddr, claimed: &str, now: Timestamp) -> Result<(), Rejected> {
        let limits = &self.limits;
        let network = Network::of(address);
        let pair = claimed.parse::<Name>().ok().map(|name| (network, name));
        let wait = match &pair {
            Some(pair) if self.known.contains(pair) => self.pairs.wait(pair, now, limits.pair),
            pair => {
                let by_name =
                    pair.as_ref().map(|(_, name)| self.principals.wait(name, now, limits.principal));
                self.addresses.wait(&network, now, limits.address).max(by_name.unwrap_or_default())
            }
        };
        if wait.is_zero() { Ok(()) } else { Err(Throttled { retry_after: wait }.into()) }
    }

    /// A login failed. Returns the wait that it earned, which may be zero.
    pub fn failed(&mut self, address: IpAddr, claimed: &str, now: Timestamp) -> Duration {
        let limits = self.limits;
        let network = Network::of(address);
        let Ok(name) = claimed.parse::<Name>() else {
            return self.addresses.push(network, now, limits.address, limits.entries);
        };
        let pair = (network, name);
        if self.known.contains(&pair) {
            return self.pairs.push(pair, now, limits.pair, limits.entries);
        }
        let by_address = self.addresses.push(network, now, limits.address, limits.entries);
        by_address.max(self.principals.push(pair.1, now, limits.principal, limits.entries))
    }

    /// A login succeeded: the principal is forgiven, and from this address it answers to its own counter from
    /// now on. The address is not forgiven: it may be trying other names as well.
    pub fn succeeded(&mut self, address: IpAddr, principal: &str) {
        let Ok(name) = principal.parse::<Name>() else { return };
        self.principals.remove(&name);
        let pair = (Network::of(address), name);
        self.pairs.remove(&pair);
        self.logins += 1;
        self.known.put(pair, self.logins, self.limits.entries);
    }
}

/// What one party usually has: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        // ::ffff:a.b.c.d is an IPv4 client on a dual-stack socket.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// A number per key, at most so many keys; the smallest number goes first. For debts the number is the moment
/// (µs since 1970) at which the debt has run out.
#[derive(Debug)]
struct Counter<K> {
    by_key: HashMap<K, u64>,
    by_number: BTreeSet<(u64, K)>,
}

impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), by_number: BTreeSet::new() }
    }
}

impl<K: Clone + Hash + Ord> Counter<K> {
    fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// How long after `now` the next login is looked at.
    fn wait(&self, key: &K, now: Timestamp, rate: Rate) -> Duration {
        rate.wait(self.ahead(key, now, rate))
    }

    /// How far the key's debt lies ahead. A debt longer than any that we give means that the clock was set
    /// back, and is forgotten.
    fn ahead(&self, key: &K, now: Timestamp, rate: Rate) -> Duration {
        let debt = self.by_key.get(key).copied().unwrap_or(0);
        let ahead = Duration::from_micros(Timestamp(debt).micros_since(now));
        if ahead > rate.longest() { Duration::ZERO } else { ahead }
    }

    /// Adds one interval to the key's debt and drops the debts that have run out.
    fn push(&mut self, key: K, now: Timestamp, rate: Rate, entries: usize) -> Duration {
        while self.by_number.first().is_some_and(|(debt, _)| *debt <= now.0) {
            if let Some((_, paid)) = self.by_number.pop_first() {
                self.by_key.remove(&paid);
            }
        }
        let ahead = self.ahead(&key, now, rate).saturating_add(rate.every).min(rate.longest());
        let debt = now.0.saturating_add(u64::try_from(ahead.as_micros()).unwrap_or(u64::MAX));
        self.put(key, debt, entries);
        rate.wait(ahead)
    }

    fn put(&mut self, key: K, number: u64, entries: usize) {
        if let Some(before) = self.by_key.insert(key.clone(), number) {
            self.by_number.remove(&(before, key.clone()));
        }
        self.by_number.insert((number, key));
        while self.by_key.len() > entries {
            let Some((_, least)) = self.by_number.pop_first() else { break };
            self.by_key.remove(&least);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(number) = self.by_key.remove(key) {
            self.by_number.remove(&(number, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
