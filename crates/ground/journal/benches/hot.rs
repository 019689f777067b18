//! What the thread that serves a client pays for the journal: `cargo bench -p journal`.

use divan::{Bencher, black_box};
use journal::{Batch, Journal, Settings};

/// As long as the intent of a short SELECT.
const RECORD: [u8; 150] = [0x5a; 150];

fn main() {
    divan::main();
}

/// One append of a turn with this many records.
#[divan::bench(args = [1, 8, 64])]
fn append(bencher: Bencher<'_, '_>, records: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (journal, _) = Journal::open(dir.path(), Settings::default()).expect("a journal in it");
    let mut batch = Batch::new();
    bencher.counter(divan::counter::ItemsCount::new(records)).bench_local(|| {
        for _ in 0..records {
            batch.push(|buffer| buffer.extend_from_slice(black_box(&RECORD)));
        }
        journal.append(&mut batch)
    });
    journal.close().expect("a last sync");
}
