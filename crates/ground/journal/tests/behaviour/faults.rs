//! Every operation on the disk, each call of it, in each way it can go wrong.

use std::{
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use journal::{AppendError, Health, Journal, Level, Position};

use crate::support::{Fault, Faulty, Operation, Plan, append, batch, contents, numbered, open, settings};

const BATCHES: usize = 14;
const LONG: Duration = Duration::from_secs(10);

/// What a journal owes to who used it.
#[derive(Default)]
struct Debt {
    acknowledged: Vec<Vec<u8>>,
    /// The batch that was refused last, if nothing has been accepted since.
    refused: Vec<Vec<u8>>,
    synced: usize,
}

impl Debt {
    /// `found` is all that was acknowledged, in order, once; then, if the very last append was refused,
    /// perhaps a beginning of that.
    fn check(&self, found: &[Vec<u8>], context: &str) {
        assert!(
            found.len() >= self.acknowledged.len(),
            "{context}: {} of {} frames are there",
            found.len(),
            self.acknowledged.len()
        );
        let (paid, extra) = found.split_at(self.acknowledged.len());
        assert!(paid == self.acknowledged, "{context}: other frames than were acknowledged");
        assert!(self.refused.starts_with(extra), "{context}: frames nobody knows");
    }
}

fn payloads(number: usize) -> Vec<Vec<u8>> {
    (0..3).map(|part| numbered(number * 3 + part)).collect()
}

/// Appends, waits and retries as a session would; gives up when the journal says that it must be restarted.
fn work(journal: &Journal, debt: &mut Debt, context: &str) {
    for number in 0..BATCHES {
        let payloads = payloads(number);
        let deadline = Instant::now() + LONG;
        loop {
            match journal.append(&mut batch(&payloads)) {
                Ok(position) => {
                    debt.acknowledged.extend(payloads);
                    debt.refused.clear();
                    assert_eq!(position.0 as usize, debt.acknowledged.len(), "{context}");
                    break;
                }
                Err(AppendError::Poisoned { .. }) => return,
                Err(AppendError::Write { .. } | AppendError::NoSegment { .. }) => {
                    debt.refused.clone_from(&payloads);
                    assert!(Instant::now() < deadline, "{context}: never healed");
                    thread::sleep(Duration::from_millis(1));
                }
                Err(other) => panic!("{context}: {other}"),
            }
        }
        if number % 3 == 0 {
            match journal.wait_synced(journal.written()) {
                Ok(()) => debt.synced = debt.acknowledged.len(),
                Err(AppendError::Poisoned { .. }) => return,
                Err(other) => panic!("{context}: {other}"),
            }
        }
    }
}

/// Something to recover: two sealed segments, one that was being written, a torn frame, a stray spare.
fn prepare(dir: &Path) -> Debt {
    let storage = Faulty::default();
    let (journal, _) = Journal::open_on(Arc::new(storage.clone()), dir, settings()).unwrap();
    let mut debt = Debt::default();
    for number in 0..30 {
        append(&journal, numbered(number));
        debt.acknowledged.push(numbered(number));
    }
    storage.kill();
    drop(journal);
    // Half of a frame that was never acknowledged, behind the last one.
    let path = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let last =
        path.filter(|path| path.extension().is_some_and(|extension| extension == "journal")).max().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
    assert!(end + 40 < bytes.len() as u64, "there is room for the torn frame");
    let file = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
    file.write_all_at(&[0xee; 40], end + 8).unwrap();
    std::fs::write(dir.join("0123456789abcdef.spare"), [1; 100]).unwrap();
    debt
}

fn run(operation: Operation, fault: Fault, at: usize, times: usize) -> usize {
    let context = format!("{operation:?} no. {at} ({times} times) {fault:?}");
    let dir = tempfile::tempdir().unwrap();
    let mut debt = prepare(dir.path());
    let storage = Faulty::default();
    storage.plan(Plan { operation, fault, at, times });
    // Recovery is part of what can fail.
    if let Ok((journal, recovered)) = Journal::open_on(Arc::new(storage.clone()), dir.path(), settings()) {
        assert_eq!(recovered.next, Position(31), "{context}");
        work(&journal, &mut debt, &context);
        // The process reads back what it was promised, whatever befell the disk.
        debt.check(&contents(&journal, Position(1)), &context);
        assert!(journal.synced().0 as usize >= debt.synced, "{context}");
        // Every other run ends in an orderly way, the rest by a kill.
        if at.is_multiple_of(2) {
            storage.kill();
        } else {
            let _ = journal.close();
        }
    }
    let hits = storage.hits();
    let (journal, recovered) = open(dir.path());
    debt.check(&contents(&journal, Position(1)), &context);
    assert_eq!(recovered.oldest, Position(1), "{context}");
    append(&journal, "and on it goes");
    let next = recovered.next;
    drop(journal);
    assert_eq!(open(dir.path()).1.next, next.next(), "{context}");
    hits
}

/// Hits the first call, the second, and so on, until there is none left to hit.
fn each_call(operation: Operation, faults: &[Fault]) {
    for &fault in faults {
        let mut at = 0;
        while run(operation, fault, at, 1) > 0 {
            at += 1;
        }
        assert!(at > 0, "{operation:?} is never called");
        run(operation, fault, 5, 4);
    }
}

const ALL_OR_NOTHING: [Fault; 2] = [Fault::Fails, Fault::PersistsButFails];

#[test]
fn a_write_fails_or_is_cut_short() {
    each_call(Operation::Write, &[Fault::Fails, Fault::HalfFails, Fault::Short, Fault::PersistsButFails]);
}

#[test]
fn a_sync_fails() {
    each_call(Operation::Sync, &ALL_OR_NOTHING);
}

#[test]
fn making_a_file_fails() {
    each_call(Operation::Create, &ALL_OR_NOTHING);
}

#[test]
fn giving_a_segment_its_name_fails() {
    each_call(Operation::Rename, &ALL_OR_NOTHING);
}

#[test]
fn cutting_a_file_fails() {
    each_call(Operation::SetLength, &ALL_OR_NOTHING);
}

#[test]
fn deleting_a_file_fails() {
    each_call(Operation::Remove, &ALL_OR_NOTHING);
}

#[test]
fn syncing_the_directory_fails() {
    each_call(Operation::SyncDirectory, &ALL_OR_NOTHING);
}

#[test]
fn a_refused_append_leaves_nothing_once_the_journal_has_healed() {
    for fault in [Fault::Fails, Fault::HalfFails, Fault::Short, Fault::PersistsButFails] {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::default();
        let (journal, _) = Journal::open_on(Arc::new(storage.clone()), dir.path(), settings()).unwrap();
        append(&journal, "before");
        storage.settle();
        storage.plan(Plan { operation: Operation::Write, fault, at: 0, times: 1 });
        let refused = journal.append(&mut batch(&["a", "b", "c"]));
        assert!(matches!(refused, Err(AppendError::Write { .. })));
        assert_eq!(journal.written(), Position(1));
        // It heals without being asked.
        let deadline = Instant::now() + LONG;
        while !matches!(journal.health(), Health::Healthy) {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
        storage.kill();
        drop(journal);
        let (journal, recovered) = open(dir.path());
        assert_eq!(recovered.truncated, None);
        append(&journal, "after");
        assert_eq!(contents(&journal, Position(1)), [&b"before"[..], b"after"]);
    }
}

#[test]
fn a_segment_that_got_its_name_in_spite_of_the_error_stays_without_frames_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let (journal, _) = Journal::open_on(Arc::new(storage.clone()), dir.path(), settings()).unwrap();
    let large = vec![1; 3000];
    append(&journal, &large);
    storage.settle();
    storage.plan(Plan { operation: Operation::Rename, fault: Fault::PersistsButFails, at: 0, times: 1 });
    let refused = journal.append(&mut batch(&[&large]));
    assert!(matches!(refused, Err(AppendError::NoSegment { .. })));
    // This one would still fit the old segment, which must not take it: the new name says otherwise.
    let deadline = Instant::now() + LONG;
    while journal.append(&mut batch(&["small"])).is_err() {
        assert!(Instant::now() < deadline, "never healed");
        thread::sleep(Duration::from_millis(1));
    }
    append(&journal, &large);
    append(&journal, &large);
    storage.kill();
    drop(journal);
    let (journal, _) = open(dir.path());
    assert_eq!(contents(&journal, Position(1)), [large.clone(), b"small".to_vec(), large.clone(), large]);
}

#[test]
fn a_segment_that_can_not_be_deleted_is_deleted_by_the_next_retirement() {
    for fault in ALL_OR_NOTHING {
        for operation in [Operation::Remove, Operation::SyncDirectory] {
            let dir = tempfile::tempdir().unwrap();
            let storage = Faulty::default();
            let (journal, _) = Journal::open_on(Arc::new(storage.clone()), dir.path(), settings()).unwrap();
            for number in 0..60 {
                append(&journal, numbered(number));
            }
            journal.wait_synced(Position(60)).unwrap();
            storage.plan(Plan { operation, fault, at: 1, times: 1 });
            assert!(journal.retire(Position(50)).is_err());
            journal.retire(Position(50)).unwrap();
            let frames =
                journal.follow(Position(50)).next_batch(Level::Written, Duration::ZERO).unwrap().len();
            assert!(frames > 0);
            drop(journal);
            let (journal, recovered) = open(dir.path());
            assert!(recovered.oldest > Position(20) && recovered.oldest <= Position(50));
            assert_eq!(contents(&journal, Position(50)).len(), 11);
        }
    }
}
