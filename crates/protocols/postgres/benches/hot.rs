//! What one command costs in the conversation, both directions, without I/O: `cargo bench -p postgres`.

use divan::{Bencher, black_box};
use postgres::conversation::{Conversation, Recorder};
use postgres::facts::FactsCache;
use postgres::wire::packet;
use session::{Command, NotRecorded, Notice, Together, Verdict};
use trail::record::OutcomeRecord;

/// Takes everything and keeps nothing.
struct Blind;

impl Recorder for Blind {
    type Permit = ();
    type Hold = ();

    fn try_permit(&mut self, command: &Command<'_>) -> Result<Option<()>, NotRecorded> {
        black_box(command);
        Ok(Some(()))
    }

    fn judge_all(&mut self, commands: &[Command<'_>], _: &[u8]) -> Result<Together<(), ()>, NotRecorded> {
        Ok(Together::Permits(vec![(); black_box(commands).len()]))
    }

    fn resume_all(
        &mut self,
        (): (),
        _: Verdict,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together<(), ()>, NotRecorded> {
        self.judge_all(commands, whole)
    }

    fn not_run(&mut self, command: &Command<'_>, _: &str) -> Result<(), NotRecorded> {
        black_box(command);
        Ok(())
    }

    fn acknowledge(&mut self, command: &Command<'_>) -> Result<(), NotRecorded> {
        black_box(command);
        Ok(())
    }

    fn capture_rows(&mut self, (): &(), bytes: &[u8]) -> Result<(), NotRecorded> {
        black_box(bytes);
        Ok(())
    }

    fn obligations((): &()) -> Option<(policy::Obligations, String)> {
        None
    }

    fn notice((): &()) -> Option<&Notice> {
        None
    }

    fn observe(&mut self, (): (), outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded> {
        black_box(outcome);
        Ok(())
    }

    fn permits_unknown(&mut self) -> bool {
        true
    }

    fn outside_transaction(&mut self) {}
}

fn main() {
    divan::main();
}

fn put(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    packet::put(out, tag, |out| out.extend_from_slice(body));
}

fn answer(extended: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if extended {
        put(&mut out, b'2', b"");
    }
    put(&mut out, b'T', b"\0\x01abalance\0\0\0\x40\x01\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    put(&mut out, b'D', b"\0\x01\0\0\0\x01\x30");
    put(&mut out, b'C', b"SELECT 1\0");
    put(&mut out, b'Z', b"I");
    out
}

fn converse(bencher: Bencher<'_, '_>, prepare: &[u8], prepared: &[u8], question: &[u8], answer: &[u8]) {
    let mut conversation = Conversation::<(), ()>::new([("standard_conforming_strings", "on")]);
    let mut facts = FactsCache::default();
    let mut one = move |question: &[u8], answer: &[u8]| {
        let up = conversation.client(black_box(question), &mut Blind, &mut facts);
        let down = conversation.target(black_box(answer), &mut Blind);
        (up, down)
    };
    let (up, down) = one(prepare, prepared);
    assert!(up.is_ok() && down.is_ok(), "{up:?} {down:?}");
    bencher.bench_local(|| one(question, answer));
}

#[divan::bench]
fn simple_query(bencher: Bencher<'_, '_>) {
    let mut question = Vec::new();
    put(&mut question, b'Q', b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;\0");
    converse(bencher, &[], &[], &question, &answer(false));
}

#[divan::bench]
fn prepared_statement(bencher: Bencher<'_, '_>) {
    let (mut prepare, mut prepared, mut question) = (Vec::new(), Vec::new(), Vec::new());
    put(&mut prepare, b'P', b"P0\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0");
    put(&mut prepare, b'S', b"");
    put(&mut prepared, b'1', b"");
    put(&mut prepared, b'Z', b"I");
    put(&mut question, b'B', b"\0P0\0\0\0\0\x01\0\0\0\x0512345\0\0");
    put(&mut question, b'D', b"P\0");
    put(&mut question, b'E', b"\0\0\0\0\0");
    put(&mut question, b'S', b"");
    converse(bencher, &prepare, &prepared, &question, &answer(true));
}

/// A megabyte of a result with rows of 100 bytes.
#[divan::bench]
fn rows(bencher: Bencher<'_, '_>) {
    let mut question = Vec::new();
    put(&mut question, b'Q', b"SELECT pad FROM rows_100\0");
    let mut rows = Vec::new();
    let mut body = b"\0\x01\0\0\0\x64".to_vec();
    body.resize(106, b'x');
    while rows.len() < 1_000_000 {
        put(&mut rows, b'D', &body);
    }
    let mut conversation = Conversation::<(), ()>::new([]);
    let mut facts = FactsCache::default();
    let asked = conversation.client(&question, &mut Blind, &mut facts);
    assert!(asked.is_ok(), "{asked:?}");
    bencher
        .counter(divan::counter::BytesCount::new(rows.len()))
        .bench_local(|| conversation.target(black_box(&rows), &mut Blind));
}
