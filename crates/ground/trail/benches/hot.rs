//! What the thread that serves a client pays for a command's two records: `cargo bench -p trail`. What sealing costs,
//! `examples/measure.rs` says.

use divan::{Bencher, black_box};
use journal::Batch;
use trail::record::{FactsRecord, Intent, OutcomeRecord, ParamsBuf, encode_decision};
use vocabulary::{Class, Decision, PolicyHash, SessionId, Status, Timestamp, Verdict};

const TEXT: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;";

fn main() {
    divan::main();
}

#[divan::bench]
fn encode_intent(bencher: Bencher<'_, '_>) {
    let objects = vec!["pgbench_accounts".to_owned()];
    let facts = FactsRecord { verb: "SELECT".to_owned(), class: Class::Read, objects }.encode();
    let (effect, policy_hash) = (Verdict::Permit, PolicyHash([5; 32]));
    let decision = encode_decision(&Decision { effect, policies: Vec::new(), policy_hash });
    let intent = Intent {
        session: SessionId::from_bytes([1; 16]),
        seq: 4711,
        at: Timestamp::now(),
        facts: &facts,
        decision: &decision,
        text: TEXT,
        params: &[],
    };
    let mut batch = Batch::new();
    bencher.bench_local(|| {
        batch.clear();
        black_box(&intent).encode(&mut batch)
    });
}

#[divan::bench]
fn encode_outcome(bencher: Bencher<'_, '_>) {
    let outcome = OutcomeRecord {
        duration_us: 812,
        executed: Some(true),
        rows: Some(1),
        bytes_in: 61,
        bytes_out: 28,
        ..OutcomeRecord::bare(SessionId::from_bytes([1; 16]), 4711, Timestamp::now(), Status::Ok)
    };
    let mut batch = Batch::new();
    bencher.bench_local(|| {
        batch.clear();
        black_box(&outcome).encode(&mut batch)
    });
}

/// A parameter as a Bind carries it.
#[divan::bench]
fn capture_parameter(bencher: Bencher<'_, '_>) {
    let mut params = ParamsBuf::new();
    bencher.bench_local(|| {
        params.clear();
        params.push(black_box(b"12345"))
    });
}
