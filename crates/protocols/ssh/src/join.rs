//! A local forwarding to what one of the gateway's own targets serves is joined to the listener of that protocol: what is
//! said in it is recorded as commands, not as bytes.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
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
/// place if they are written alike or have an address in common.
pub(crate) async fn served(visit: &Visit, host: &str, port: u32) -> Option<Served> {
    let snapshot = visit.snapshot();
    let listener_of = |kind| visit.joins.iter().find(|(joined, _)| *joined == kind).map(|(_, at)| *at);
    let own = Address::of_url(&visit.target.url).map(|address| address.host);
    // To the session's target, loopback is itself.
    let meant = match own {
        Some(own) if is_loopback(host) => own,
        _ => host.to_owned(),
    };
    let mut addresses = None;
    for target in snapshot.targets.values().filter(|target| target.kind != TargetKind::Ssh) {
        let Some(listener) = listener_of(target.kind) else { continue };
        for place in places(&target.url).into_iter().filter(|place| u32::from(place.1) == port) {
            let found = || Served { name: target.name.to_string(), listener };
            if place.0.eq_ignore_ascii_case(&meant) || place.0.eq_ignore_ascii_case(host) {
                return Some(found());
            }
            if addresses.is_none() {
                addresses = Some(looked_up(&meant).await);
            }
            let known = looked_up(&place.0).await;
            if addresses.as_ref().is_some_and(|addresses| !addresses.is_disjoint(&known)) {
                return Some(found());
            }
        }
    }
    None
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
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
        return HashSet::from([ip]);
    }
    match timeout(LOOKUP_TIME, lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
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
        assert!(["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"].into_iter().all(is_loopback));
        assert!(!is_loopback("db.internal") && !is_loopback("10.0.0.1"));
    }
}
