//! How long it takes from a recorded command to a published checkpoint that covers it, under a steady load:
//! `cargo run --release -p trail --example lag -- [COMMANDS PER SECOND] [SECONDS]`

use std::{
    error::Error,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use journal::Batch;
use trail::{FactsRecord, Intent, NodeKey, OutcomeRecord, Settings, Trail, record};
use vocabulary::{Class, Decision, NodeId, PolicyHash, Status, Timestamp, Verdict};

/// Commands are appended in bursts this far apart, and one of each burst is timed.
const BURST: Duration = Duration::from_millis(5);
/// How exactly a checkpoint's time is known.
const GLANCE: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let per_second: u32 = arguments.next().map_or(Ok(5000), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let data = tempfile::tempdir()?;
    let keys = Arc::new(NodeKey::new(&[7; 32])?);
    let settings = Settings::new(NodeId::from_bytes([9; 16]), "trail.lag/node", keys);
    let (trail, _) = Trail::open(data.path(), settings)?;
    trail.start_sealer()?;

    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut written, seen) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&trail, until + Duration::from_secs(5)));
        let written = load(&trail, per_second, until);
        (written, watcher.join())
    });
    let seen = seen.map_err(|_| "the watcher failed")?;
    let written = written.as_mut().map_err(|error| error.to_string())?;
    let mut lags: Vec<Duration> = Vec::new();
    for (position, at) in written.iter() {
        let covered = seen.partition_point(|(through, _)| through < position);
        let (_, published) = seen.get(covered).ok_or("a command was not sealed within 5 s")?;
        lags.push(published.duration_since(*at));
    }
    lags.sort_unstable();
    let quantile = |of_100: usize| lags.get((lags.len().saturating_sub(1)) * of_100 / 100);
    let ms = |lag: Option<&Duration>| lag.map_or(0.0, |lag| lag.as_secs_f64() * 1e3);
    println!(
        "checkpoint lag at {per_second} commands/s for {seconds} s: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms ({} timed)",
        ms(quantile(50)),
        ms(quantile(99)),
        ms(lags.last()),
        lags.len()
    );
    trail.close(Duration::from_secs(60))?;
    Ok(())
}

/// When which frame was covered by a published checkpoint.
fn watch(trail: &Trail, until: Instant) -> Vec<(u64, Instant)> {
    let mut seen = vec![(0, Instant::now())];
    while Instant::now() < until {
        let through = trail.health().sealed.0;
        if seen.last().is_some_and(|(last, _)| *last < through) {
            seen.push((through, Instant::now()));
        }
        thread::sleep(GLANCE);
    }
    seen
}

/// Appends commands at a steady pace; gives the position of the last of each burst, and when it was appended.
fn load(
    trail: &Trail,
    per_second: u32,
    until: Instant,
) -> Result<Vec<(u64, Instant)>, Box<dyn Error + Send + Sync>> {
    let facts =
        FactsRecord { verb: "UPDATE".into(), class: Class::Write, objects: vec!["public.accounts".into()] };
    let facts = facts.encode();
    let decision =
        Decision { effect: Verdict::Permit, policies: Vec::new(), policy_hash: PolicyHash([5; 32]) };
    let decision = record::encode_decision(&decision);
    let text = b"UPDATE accounts SET balance = balance + $1 WHERE id = $2";
    let session = trail.new_session_id()?;
    let (mut seq, mut batch, mut written) = (1, Batch::new(), Vec::new());
    let begun = Instant::now();
    while Instant::now() < until {
        let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)).round();
        let mut last = None;
        while f64::from(u32::try_from(seq - 1)?) < due {
            seq += 1;
            let at = Timestamp::now();
            Intent { session, seq, at, facts: &facts, decision: &decision, text, params: &[] }
                .encode(&mut batch)?;
            OutcomeRecord::bare(session, seq, at, Status::Ok).encode(&mut batch)?;
            last = Some(trail.append(&mut batch)?);
        }
        written.extend(last.map(|position| (position.0, Instant::now())));
        thread::sleep(BURST);
    }
    Ok(written)
}
