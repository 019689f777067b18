//! The checks themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use api::types::{Addresses, Health, TrailLogView, Witnessing};
use rustix::process::{Pid, Resource};
use vocabulary::Timestamp;

use super::Finding;
use crate::client::authority;

/// Under this much free space, somebody should look, in bytes.
const LITTLE_SPACE: u64 = 2 << 30;

/// Under this much free space, the journal will soon refuse, in bytes.
const NO_SPACE: u64 = 256 << 20;

/// Clocks that differ more make times in the trail misleading, in microseconds.
const CLOCK_TOLERANCE_US: u64 = 2_000_000;

/// Before this release, no clock was right: 2025-01-01T00:00:00Z, in microseconds.
const CLOCK_FLOOR: Timestamp = Timestamp(1_735_689_600_000_000);

/// Records that wait longer to be sealed mean that sealing does not keep up, in microseconds.
const SEALING_LAG_US: u64 = 10_000_000;

/// Cosignatures that are older, while there is something new, mean that too few witnesses answer, in microseconds.
const WITNESS_LAG_US: u64 = 60_000_000;

/// Descriptors that let 2,000 sessions be open.
const ENOUGH_FILES: u64 = 4096;

/// How long a listener may take to accept.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// The data directory of this machine.
pub fn directory(data: &Path) -> Vec<Finding> {
    let shown = data.display();
    let metadata = match data.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            let finding = format!("{shown} can't be used: {error}");
            return vec![Finding::failed(
                "data directory",
                finding,
                "start a gateway with `trailgate up`, or name its data directory with --data",
            )];
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    // With a sealer in a process of its own, the group may look in.
    let others = if data.join("vault/sealer.json").exists() { 0o027 } else { 0o077 };
    let mut findings = vec![if mode & others != 0 {
        let finding = format!("{shown} is open to other users (mode {mode:03o})");
        Finding::failed("data directory", finding, format!("chmod 700 {shown}"))
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        let finding = format!("{shown} belongs to user {}", metadata.uid());
        Finding::warning("data directory", finding, "run this as the user that runs the gateway")
    } else {
        Finding::ok("data directory", format!("{shown} is yours alone"))
    }];
    for name in ["node.key", "log.key"] {
        findings.extend(key(&data.join(name), name));
    }
    findings.extend(space(data));
    findings
}

/// A private key: there, and nobody else's. A key that is kept elsewhere is not checked.
fn key(path: &Path, check: &str) -> Option<Finding> {
    let metadata = path.metadata().ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    Some(if mode & 0o077 != 0 {
        let finding = format!("{} can be read by others (mode {mode:03o})", path.display());
        Finding::failed(check, finding, format!("chmod 600 {}, and ask who may have read it", path.display()))
    } else {
        Finding::ok(check, "is readable by you alone; keep a backup of it apart from the data")
    })
}

fn space(data: &Path) -> Option<Finding> {
    let system = rustix::fs::statvfs(data).ok()?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let finding = format!("{} MiB are free", free >> 20);
    let advice = "make room: when the disk is full, commands are refused";
    Some(match free {
        0..NO_SPACE => Finding::failed("disk space", finding, advice),
        NO_SPACE..LITTLE_SPACE => Finding::warning("disk space", finding, advice),
        _ => Finding::ok("disk space", finding),
    })
}

/// What the gateway says of itself.
pub fn gateway(health: &Health) -> Vec<Finding> {
    let Health { version, pid, node_name, sessions, .. } = health;
    let up = format!("{node_name} answers (process {pid}, {sessions} open sessions)");
    let mut findings = vec![if version == env!("CARGO_PKG_VERSION") {
        Finding::ok("gateway", up)
    } else {
        Finding::warning(
            "gateway",
            format!("{up}, but is version {version}"),
            "restart it with the new version",
        )
    }];
    findings.push(match &health.journal_problem {
        None => Finding::ok("journal", "accepts records"),
        Some(problem) => Finding::failed(
            "journal",
            format!("commands are refused: {problem}"),
            "make room on the disk; if the disk is faulty, replace it and restart the gateway",
        ),
    });
    findings.push(match &health.sealer_problem {
        None => Finding::ok(
            "sealer",
            format!(
                "{} entries sealed, {} records under way",
                health.entries_sealed, health.records_unsealed
            ),
        ),
        Some(problem) => Finding::failed(
            "sealer",
            format!("does not get on: {problem}"),
            "commands are still recorded in the journal; check the disk, it goes on by itself",
        ),
    });
    if let Some(problem) = &health.untold_problem {
        findings.push(Finding::warning(
            "webhooks",
            format!("{} messages about reviews were not taken; the latest by {problem}", health.untold),
            "check the webhook's address and secret in the settings; they are tried again for a day",
        ));
    }
    findings.extend(lag(health));
    findings.extend(health.witnessing.iter().flat_map(|witnessing| witnesses(witnessing, health.now)));
    findings.extend(health.trail_log.as_ref().map(trail_log));
    findings.push(clock(health.now));
    findings
}

/// Sealing goes on, and does not keep up.
fn lag(health: &Health) -> Option<Finding> {
    let since = health.sealed_at.unwrap_or(health.started_at);
    let behind_us = health.now.micros_since(since);
    let lags = health.sealer_problem.is_none() && health.records_unsealed > 0 && behind_us > SEALING_LAG_US;
    lags.then(|| {
        let finding = format!(
            "{} records wait since {} s to be sealed",
            health.records_unsealed,
            behind_us / 1_000_000
        );
        Finding::warning(
            "sealing",
            finding,
            "the journal grows meanwhile: look at the disk and at the load of this machine",
        )
    })
}

/// Whether a trail log elsewhere has this node's checkpoints.
fn trail_log(view: &TrailLogView) -> Finding {
    let TrailLogView { url, size, at, problem } = view;
    match (problem, at) {
        (Some(problem), _) => Finding::failed(
            "trail log",
            format!("{url} does not have the newest checkpoint: {problem}"),
            "commands go on and are sealed; that gateway must be up and have this log's vkey in the file trail_log.nodes",
        ),
        (None, Some(at)) => Finding::ok("trail log", format!("{url} has {size} entries, since {at}")),
        (None, None) => Finding::ok("trail log", format!("{url} has nothing yet")),
    }
}

/// How far witnesses are behind, and which of them do not answer.
fn witnesses(witnessing: &Witnessing, now: Timestamp) -> Vec<Finding> {
    let Witnessing { newest, witnessed, witnessed_at, witnesses } = witnessing;
    let age_us = witnessed_at.map_or(u64::MAX, |at| now.micros_since(at));
    let state = match witnessed_at {
        Some(at) => format!("{witnessed} of {newest} entries are cosigned as the policy asks, since {at}"),
        None => format!("none of {newest} entries is cosigned as the policy asks"),
    };
    let mut findings = vec![if witnessed < newest && age_us > WITNESS_LAG_US {
        Finding::failed(
            "witnesses",
            state,
            "commands go on and are sealed; get enough of the witnesses below to answer",
        )
    } else {
        Finding::ok("witnesses", state)
    }];
    for witness in witnesses {
        let Some(problem) = &witness.problem else { continue };
        let check = format!("witness {}", witness.name);
        let finding = format!("{} does not cosign: {problem}", witness.url);
        findings.push(Finding::warning(
            check,
            finding,
            "ask who runs it; it must know this log's vkey (DATA/ledger/log.vkey)",
        ));
    }
    findings
}

fn clock(gateway: Timestamp) -> Finding {
    let here = Timestamp::now();
    let apart_us = here.micros_since(gateway).max(gateway.micros_since(here));
    if gateway < CLOCK_FLOOR {
        return Finding::failed(
            "clock",
            format!("the gateway's clock says {gateway}"),
            "set it, and keep it set with NTP",
        );
    }
    if apart_us > CLOCK_TOLERANCE_US {
        let finding = format!("the gateway's clock and this machine's are {} s apart", apart_us / 1_000_000);
        return Finding::warning(
            "clock",
            finding,
            "keep both set with NTP: the trail's times are the gateway's",
        );
    }
    Finding::ok("clock", format!("says {gateway}"))
}

/// The running gateway's own limit, where this machine may look at it. It must be the gateway's machine: elsewhere, another
/// process has that id.
pub fn open_files(pid: u32) -> Option<Finding> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let own = rustix::process::getpid() == pid;
    let limit = if own { rustix::process::getrlimit(Resource::Nofile) } else { limit_of(pid)? };
    let shown = limit.current.map_or_else(|| "unlimited".to_owned(), |files| files.to_string());
    let finding = format!("the gateway may open {shown} files");
    Some(if limit.current.is_some_and(|files| files < ENOUGH_FILES) {
        Finding::warning(
            "open files",
            finding,
            format!(
                "each session takes two; raise the hard limit to {ENOUGH_FILES} or more (ulimit -Hn, LimitNOFILE)"
            ),
        )
    } else {
        Finding::ok("open files", finding)
    })
}

/// `/proc/PID/limits`: `prlimit` can only read a limit while setting it.
fn limit_of(pid: Pid) -> Option<rustix::process::Rlimit> {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    let mut numbers = line.split_whitespace().skip(3);
    let read = |number: Option<&str>| number.and_then(|text| text.parse().ok());
    Some(rustix::process::Rlimit { current: read(numbers.next()), maximum: read(numbers.next()) })
}

/// A listener, and how it is reached from here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Road {
    check: &'static str,
    host: String,
    port: u16,
}

/// Each listener takes connections. `elsewhere` is the host of a gateway that may be on another machine.
pub async fn listeners(addresses: &Addresses, elsewhere: Option<&str>) -> Vec<Finding> {
    let roads = match elsewhere {
        None => roads_here(addresses),
        Some(host) => roads_there(addresses, host),
    };
    let mut findings = Vec::new();
    for road in roads {
        findings.push(connects(&road).await);
    }
    findings
}

fn roads_here(addresses: &Addresses) -> Vec<Road> {
    let Addresses { postgres, ssh, web, .. } = addresses;
    let roads = [("postgres listener", postgres), ("ssh listener", ssh), ("web listener", web)];
    let road = |(check, address): (&'static str, &Option<String>)| {
        let address: SocketAddr = address.as_deref()?.parse().ok()?;
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            ip => ip.to_string(),
        };
        Some(Road { check, host, port: address.port() })
    };
    roads.into_iter().filter_map(road).collect()
}

/// By the name that operators gave the gateway, or else the one that was asked. The web listener is left out, for it has
/// just answered; so is what listens on a loopback address, which is for that machine alone.
fn roads_there(addresses: &Addresses, asked: &str) -> Vec<Road> {
    let Addresses { host, postgres, ssh, .. } = addresses;
    let host = host.as_deref().unwrap_or(asked);
    let roads = [("postgres listener", postgres), ("ssh listener", ssh)];
    let road = |(check, address): (&'static str, &Option<String>)| {
        let address: SocketAddr = address.as_deref()?.parse().ok()?;
        let open = !address.ip().is_loopback();
        open.then(|| Road { check, host: host.to_owned(), port: address.port() })
    };
    roads.into_iter().filter_map(road).collect()
}

async fn connects(road: &Road) -> Finding {
    let Road { check, host, port } = road;
    let shown = authority(host, *port);
    let connecting =
        tokio::time::timeout(CONNECT_DEADLINE, tokio::net::TcpStream::connect((host.as_str(), *port)));
    match connecting.await {
        Ok(Ok(_)) => Finding::ok(*check, format!("takes connections at {shown}")),
        Ok(Err(error)) => Finding::failed(
            *check,
            format!("{shown} can't be reached from here: {error}"),
            "check the firewall, and that the address is the gateway's: the first of node.hosts is what clients are told",
        ),
        Err(_) => Finding::failed(
            *check,
            format!("{shown} does not answer within {} s", CONNECT_DEADLINE.as_secs()),
            "check the firewall; if the gateway has its limit of connections, raise limits.connections",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_directory_that_others_may_enter_fails() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("node.key"), "x").unwrap();
        std::fs::set_permissions(temp.path().join("node.key"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let failed: Vec<String> = directory(temp.path())
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Failed)
            .map(|finding| finding.check)
            .collect();
        assert_eq!(failed, ["data directory", "node.key"]);
    }

    #[test]
    fn clocks_that_differ_are_seen() {
        assert_eq!(clock(Timestamp::now()).verdict, Verdict::Ok);
        assert_eq!(clock(Timestamp(Timestamp::now().0 - 10_000_000)).verdict, Verdict::Warning);
        assert_eq!(clock(Timestamp(5)).verdict, Verdict::Failed);
    }

    #[test]
    fn listeners_of_a_gateway_elsewhere_are_not_looked_for_here() {
        let addresses = Addresses {
            postgres: Some("0.0.0.0:15432".into()),
            ssh: Some("[::]:12222".into()),
            web: Some("127.0.0.1:18080".into()),
            ..Addresses::default()
        };
        let shown = |roads: Vec<Road>| {
            roads.iter().map(|road| authority(&road.host, road.port)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(roads_here(&addresses)), "127.0.0.1:15432 [::1]:12222 127.0.0.1:18080");
        assert_eq!(shown(roads_there(&addresses, "10.0.0.9")), "10.0.0.9:15432 10.0.0.9:12222");
        let named = Addresses { host: Some("gateway.example".into()), ..addresses.clone() };
        assert_eq!(shown(roads_there(&named, "::9")), "gateway.example:15432 gateway.example:12222");
        let closed = Addresses { postgres: Some("[::1]:15432".into()), ssh: None, ..addresses };
        assert_eq!(roads_there(&closed, "10.0.0.9"), []);
    }

    #[test]
    fn the_limit_of_another_process_can_be_read() {
        let own = limit_of(rustix::process::getpid()).unwrap();
        assert_eq!(own.current, rustix::process::getrlimit(Resource::Nofile).current);
    }
}
