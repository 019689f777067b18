//! How long a start takes over a large journal that nothing was sealed of: `cargo run --release --example recovery -- 1024`
//! (MiB of journal).

use std::{error::Error, sync::Arc, time::Instant};

use journal::Batch;
use trail::{
    EndReason, FactsRecord, Intent, NodeKey, OutcomeRecord, Record, SessionEnd, Settings, Trail, record,
};
use vocabulary::{Class, Decision, NodeId, PolicyHash, Status, Timestamp, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let mib: u64 = std::env::args().nth(1).map_or(Ok(1024), |text| text.parse())?;
    let data = tempfile::tempdir()?;
    let settings = || -> Result<Settings, Box<dyn Error>> {
        Ok(Settings::new(NodeId::from_bytes([9; 16]), "trail.test/node", Arc::new(NodeKey::new(&[7; 32])?)))
    };
    let (trail, _) = Trail::open(data.path(), settings()?)?;
    let facts =
        FactsRecord { verb: "UPDATE".into(), class: Class::Write, objects: vec!["public.accounts".into()] };
    let facts = facts.encode();
    let decision =
        Decision { effect: Verdict::Permit, policies: Vec::new(), policy_hash: PolicyHash([5; 32]) };
    let decision = record::encode_decision(&decision);
    let session = trail.new_session_id()?;
    let (mut seq, mut bytes) = (1, 0);
    let mut batch = Batch::new();
    let text = b"UPDATE accounts SET balance = balance + $1 WHERE id = $2";
    while bytes < mib << 20 {
        for _ in 0..256 {
            seq += 1;
            let at = Timestamp::now();
            Intent { session, seq, at, facts: &facts, decision: &decision, text, params: &[] }
                .encode(&mut batch)?;
            OutcomeRecord::bare(session, seq, at, Status::Ok).encode(&mut batch)?;
        }
        bytes += batch.bytes_len() as u64;
        trail.append(&mut batch)?;
    }
    let reason = EndReason::Client;
    let end =
        SessionEnd { session, seq: seq + 1, at: Timestamp::now(), entries: seq + 1, reason, detail: None };
    trail.append_one(&Record::from(end))?;
    drop(trail);
    println!("{} commands in {} MiB of journal, nothing sealed", seq - 1, bytes >> 20);
    let begun = Instant::now();
    let (trail, recovery) = Trail::open(data.path(), settings()?)?;
    println!(
        "accepts commands after {:.2} s ({} records to seal)",
        begun.elapsed().as_secs_f64(),
        recovery.unsealed
    );
    let begun = Instant::now();
    trail.start_sealer()?;
    trail.flush(std::time::Duration::from_secs(3600))?;
    let took = begun.elapsed().as_secs_f64();
    println!("all sealed {took:.2} s later, {:.0} entries/s", seq as f64 / took);
    trail.close(std::time::Duration::from_secs(60))?;
    Ok(())
}
