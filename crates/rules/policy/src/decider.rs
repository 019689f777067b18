//! Rulings remembered, so that what a session sends over and over is judged once.
//!
//! *Invariant:* a decider says what [`Policy::decide`] would say at that moment. Whatever the policy looks at besides the
//! command itself is part of the key; what was approved is never remembered.

use std::collections::HashMap;
use std::sync::Arc;

use vocabulary::Facts;

use crate::policy::Policy;
use crate::ruling::Ruling;
use crate::scene::Scene;

/// Most rulings that one decider remembers. Beyond that it forgets all and begins anew.
const MAX_ENTRIES: usize = 1_024;

/// Rulings of one session: everything in the [`Scene`] but the transaction, the time and approvals has to stay the same
/// from call to call, or [`Decider::forget`] be called. `V` is what the caller makes of a ruling, once.
#[derive(Debug)]
pub struct Decider<V> {
    policy: Arc<Policy>,
    /// By address of the facts, which the entry keeps alive: for statements that are parsed once and run often.
    by_address: HashMap<(usize, Key), (Arc<Facts>, Arc<V>)>,
    /// By the facts themselves: for statements that differ in their text alone.
    by_facts: HashMap<(Arc<Facts>, Key), Arc<V>>,
    constant: Option<Arc<V>>,
    /// What was asked last: most sessions repeat themselves.
    last: Option<(Arc<Facts>, Key, Arc<V>)>,
}

/// What a ruling depends on besides the facts, as far as the policy looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    in_transaction: bool,
    /// Minutes since 1970, where the policy looks at the time.
    minute: u64,
}

impl<V: From<Ruling>> Decider<V> {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, by_address: HashMap::new(), by_facts: HashMap::new(), constant: None, last: None }
    }

    /// The policy that it asks.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// How many rulings it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_facts.len() + usize::from(self.constant.is_some())
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything: another policy is in force, or the session's principal or target changed.
    pub fn forget(&mut self, policy: Arc<Policy>) {
        *self = Self::new(policy);
    }

    /// What the policy says of a command with nothing approved, if that takes neither a scene nor Cedar: it is the same
    /// for all, or the command is the one asked last and the policy looks at nothing else.
    pub fn at_once(&mut self, facts: &Arc<Facts>) -> Option<Arc<V>> {
        if let Some(ruling) = self.policy.constant() {
            let constant = self.constant.get_or_insert_with(|| Arc::new(Ruling::clone(ruling).into()));
            return Some(Arc::clone(constant));
        }
        match &self.last {
            Some((known, Key { in_transaction: false, minute: 0 }, value))
                if Arc::ptr_eq(known, facts) && !self.policy.looks_at().anything() =>
            {
                Some(Arc::clone(value))
            }
            _ => None,
        }
    }

    /// What the policy says of a command.
    pub fn decide(&mut self, scene: &Scene<'_>, facts: &Arc<Facts>) -> Arc<V> {
        if self.policy.constant().is_some()
            && let Some(constant) = self.at_once(facts)
        {
            return constant;
        }
        if !scene.approvals.is_empty() {
            return Arc::new(self.policy.decide(scene, facts).into());
        }
        let looks_at = self.policy.looks_at();
        let key = Key {
            in_transaction: looks_at.in_transaction && scene.in_transaction,
            minute: if looks_at.time { scene.now.unix_ms() / 60_000 } else { 0 },
        };
        if let Some((known, of, value)) = &self.last
            && *of == key
            && Arc::ptr_eq(known, facts)
        {
            return Arc::clone(value);
        }
        let value = self.look_up(scene, facts, key);
        self.last = Some((Arc::clone(facts), key, Arc::clone(&value)));
        value
    }

    fn look_up(&mut self, scene: &Scene<'_>, facts: &Arc<Facts>, key: Key) -> Arc<V> {
        let address = (Arc::as_ptr(facts) as usize, key);
        if let Some((_, known)) = self.by_address.get(&address) {
            return Arc::clone(known);
        }
        if self.by_address.len() >= MAX_ENTRIES {
            self.by_address.clear();
        }
        let by_facts = (Arc::clone(facts), key);
        let value = match self.by_facts.get(&by_facts) {
            Some(known) => Arc::clone(known),
            None => {
                if self.by_facts.len() >= MAX_ENTRIES {
                    self.by_facts.clear();
                }
                let value = Arc::new(V::from(self.policy.decide(scene, facts)));
                self.by_facts.insert(by_facts, Arc::clone(&value));
                value
            }
        };
        self.by_address.insert(address, (Arc::clone(facts), Arc::clone(&value)));
        value
    }
}
