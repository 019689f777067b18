//! A local forwarding to what one of the gateway's own targets serves is joined to the listener of that protocol: what is
//! said in it is recorded as commands, not as bytes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use session::{NotRecorded, Permit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use trail::record::OutcomeRecord;
use vocabulary::{Status, TargetKind};

use crate::client_side::ClientChannel;
use crate::inbox::Event;
use crate::keep::Keep;
use crate::relay::left;
use crate::target_url::Address;
use crate::visit::{Visit, outcome};

/// Bytes read at once from a listener of the gateway's own.
const JOINED_BYTES: usize = 32 * 1024;

/// How long looking up a name may take: one that is not found in time is compared as it is written.
const LOOKUP_TIME: Duration = Duration::from_secs(1);

/// Port of PostgreSQL, where a URL names none.
const POSTGRES_PORT: u16 = 5432;

/// What a forwarding leads to, as the gateway knows it.
pub(crate) struct Served {
    /// The target that is there.
    pub name: String,
    /// The gateway's own listener for it.
    pub listener: SocketAddr,
}

/// Whether one of the gateway's own targets is at an address as seen from the session's target. Names count as the same
/// place if they are written alike or have an address in common. To the session's target, loopback is itself, by
/// whatever name.
pub(crate) async fn served(visit: &Visit, host: &str, port: u32) -> Option<Served> {
    let snapshot = visit.snapshot();
    let listener_of = |kind| visit.joins.iter().find(|(joined, _)| *joined == kind).map(|(_, at)| *at);
    let own = Address::of_url(&visit.target.url).map(|address| address.host).unwrap_or_default();
    let mut meant = None;
    for target in snapshot.targets.values().filter(|target| target.kind != TargetKind::Ssh) {
        let Some(listener) = listener_of(target.kind) else { continue };
        for place in places(&target.url).into_iter().filter(|place| u32::from(place.1) == port) {
            if meant.is_none() {
                meant = Some(Meant::of(host, &own).await);
            }
            let there = looked_up(named(&place.0)).await;
            if meant.as_ref().is_some_and(|meant| meant.is(named(&place.0), &there)) {
                return Some(Served { name: target.name.to_string(), listener });
            }
        }
    }
    None
}

/// What a client means by a host.
struct Meant {
    name: String,
    addresses: HashSet<IpAddr>,
}

impl Meant {
    /// By its own name, or by that of the session's target, `own`.
    async fn of(host: &str, own: &str) -> Self {
        let addresses = looked_up(named(host)).await;
        if is_loopback(host) || addresses.contains(&LOOPBACK) {
            let own = named(own);
            return Self { name: own.to_owned(), addresses: looked_up(own).await };
        }
        Self { name: named(host).to_owned(), addresses }
    }

    fn is(&self, name: &str, addresses: &HashSet<IpAddr>) -> bool {
        self.name.eq_ignore_ascii_case(name) || !self.addresses.is_disjoint(addresses)
    }
}

/// A name without the dot that says that it is whole.
fn named(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// What stands for a host itself, whichever of its own addresses is written.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn is_loopback(host: &str) -> bool {
    let host = named(host);
    let is_below_localhost = |(_, last): (&str, &str)| last.eq_ignore_ascii_case("localhost");
    host.eq_ignore_ascii_case("localhost")
        || host.rsplit_once('.').is_some_and(is_below_localhost)
        || host.parse().is_ok_and(|ip| canonical(ip) == LOOPBACK)
}

/// One form for each address: IPv4 within IPv6 is IPv4, and who connects to no address in particular reaches itself.
fn canonical(ip: IpAddr) -> IpAddr {
    let ip = ip.to_canonical();
    if ip.is_loopback() || ip.is_unspecified() { LOOPBACK } else { ip }
}

/// Hosts and ports in a target's URL.
fn places(url: &str) -> Vec<(String, u16)> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let places = authority.rsplit_once('@').map_or(authority, |(_, places)| places);
    let place = |place: &str| {
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, POSTGRES_PORT),
        };
        Some((host.trim_matches(['[', ']']).to_owned(), port))
    };
    places.split(',').filter_map(place).collect()
}

async fn looked_up(host: &str) -> HashSet<IpAddr> {
    if let Ok(ip) = host.parse() {
        return HashSet::from([canonical(ip)]);
    }
    match timeout(LOOKUP_TIME, lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| canonical(address.ip())).collect(),
        Ok(Err(_)) | Err(_) => HashSet::new(),
    }
}

/// Carries a channel to a listener of the gateway's own, which speaks the target's protocol and records it.
///
/// # Errors
/// When the trail can't take a record.
pub(crate) async fn carry(
    visit: &Visit,
    channel: &ClientChannel,
    permit: Permit,
    mut stream: TcpStream,
    name: &str,
) -> Result<(), NotRecorded> {
    let (mut read, mut write) = stream.split();
    let (mut sent, mut received) = (Keep::count(), Keep::count());
    let inbound = async {
        loop {
            match channel.inbox.next().await {
                Event::Data(data) => {
                    sent.take(&data);
                    if write.write_all(&data).await.is_err() {
                        return;
                    }
                }
                Event::Eof => drop(write.shutdown().await),
                Event::Signal(_) | Event::Resize(_) => {}
                Event::Gone => return,
            }
        }
    };
    let outbound = async {
        let mut buffer = vec![0; JOINED_BYTES];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            let data = buffer.get(..count).unwrap_or_default();
            received.take(data);
            if channel.write.data_bytes(data.to_vec()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
        () = left(channel) => {}
        () = visit.until_ended() => {}
    }
    let message = format!("joined to the target `{name}`, whose sessions tell what was done");
    let record = OutcomeRecord {
        executed: Some(true),
        bytes_in: sent.bytes(),
        bytes_out: received.bytes(),
        message: Some(&message),
        ..outcome(Status::Ok)
    };
    visit.observe(permit, record).await?;
    let _ = channel.write.eof().await;
    let _ = channel.write.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_out_of_urls() {
        let of =
            |url| places(url).into_iter().map(|(host, port)| format!("{host} {port}")).collect::<Vec<_>>();
        assert_eq!(of("postgres://app@db.internal/orders?sslmode=disable"), ["db.internal 5432"]);
        assert_eq!(of("postgres://app:a%40b@[2001:db8::1]:5433/orders"), ["2001:db8::1 5433"]);
        assert_eq!(of("postgres://app@[2001:db8::1]/orders"), ["2001:db8::1 5432"]);
        assert_eq!(of("postgres://app@a:1,b/orders"), ["a 1", "b 5432"]);
        assert_eq!(of("postgres://app@a:x/orders"), Vec::<String>::new());
    }

    #[test]
    fn loopback_has_many_names() {
        for name in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "db.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["db.internal", "10.0.0.1", "localhost.example.com", "notlocalhost", "::2", ""] {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[tokio::test]
    async fn the_same_place_is_found_however_it_is_written() {
        // Whether a client that writes `host` by way of the target `own` means what a URL calls `there`.
        for (host, own, there, expected) in [
            ("10.0.0.1", "web", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.1", "web", "10.0.0.1", true),
            ("10.0.0.2", "web", "10.0.0.1", false),
            ("localhost.", "10.0.0.1", "10.0.0.1", true),
            ("0.0.0.0", "10.0.0.1", "10.0.0.1", true),
            ("::ffff:127.0.0.1", "10.0.0.1", "10.0.0.1", true),
            // The gateway's own host is another than the session's target.
            ("localhost", "10.0.0.1", "127.0.0.1", false),
            ("localhost", "127.0.0.1", "::1", true),
            // By the resolver: an abbreviation of 127.0.0.1.
            ("127.1", "10.0.0.1", "10.0.0.1", true),
            ("DB.invalid.", "web", "db.invalid", true),
        ] {
            let meant = Meant::of(host, own).await;
            let found = meant.is(named(there), &looked_up(named(there)).await);
            assert_eq!(found, expected, "{host} by way of {own}, and {there}");
        }
    }
}
