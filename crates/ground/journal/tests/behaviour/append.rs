use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, thread};

use journal::{AppendError, Batch, Health, Journal, MAX_FRAME_BYTES, OpenError, Position, Settings};
use proptest::prelude::*;

use crate::support::{append, batch, contents, numbered, open, settings};

#[test]
fn what_was_appended_is_there_after_an_orderly_close() {
    let dir = tempfile::tempdir().unwrap();
    let payloads: Vec<_> = (0..200).map(numbered).collect();
    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.oldest, recovered.next, recovered.truncated), (Position(1), Position(1), None));
    for (number, payload) in payloads.iter().enumerate() {
        assert_eq!(append(&journal, payload), Position(number as u64 + 1));
    }
    journal.close().unwrap();
    assert_eq!(journal.synced(), Position(200));
    assert!(matches!(journal.append(&mut batch(&["late"])), Err(AppendError::Closed)));

    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.next, recovered.truncated), (Position(201), None));
    assert_eq!(contents(&journal, Position(1)), payloads);
    assert!(matches!(journal.health(), Health::Healthy));
}

#[test]
fn an_empty_batch_is_no_append() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    assert_eq!(journal.append(&mut Batch::new()).unwrap(), Position(0));
    append(&journal, "");
    assert_eq!(contents(&journal, Position(1)), [b""]);
}

#[test]
fn an_encoder_that_fails_leaves_the_batch_as_it_was() {
    let mut batch = batch(&["kept"]);
    let bytes = batch.bytes_len();
    let failed: Result<(), &str> = batch.try_push(|buffer| {
        buffer.extend_from_slice(b"half");
        Err("no")
    });
    assert_eq!((failed, batch.len(), batch.bytes_len()), (Err("no"), 1, bytes));
    batch.clear();
    assert!(batch.is_empty());
}

#[test]
fn what_is_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let payloads = [vec![1; 100], vec![2; 600_000], vec![3; 100], vec![4; 5_000_000], vec![5; 10]];
    for payload in &payloads {
        append(&journal, payload);
    }
    let many: Vec<_> = (0..100).map(numbered).collect();
    journal.append(&mut batch(&many)).unwrap();
    let all: Vec<_> = payloads.into_iter().chain(many).collect();
    assert_eq!(contents(&journal, Position(1)), all);
    drop(journal);
    let (journal, recovered) = open(dir.path());
    assert_eq!(recovered.truncated, None);
    assert_eq!(contents(&journal, Position(1)), all);
}

#[test]
fn a_record_above_the_limit_is_refused_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut too_large = batch(&[vec![0; 10], vec![0; MAX_FRAME_BYTES + 1]]);
    let refused = journal.append(&mut too_large);
    assert!(matches!(refused, Err(AppendError::FrameTooLarge { bytes }) if bytes == MAX_FRAME_BYTES + 1));
    assert_eq!(append(&journal, "next"), Position(1));
}

#[test]
fn a_second_writer_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let second = Journal::open(dir.path(), settings());
    assert!(matches!(&second, Err(OpenError::Locked { dir: locked }) if locked == dir.path()));
    drop(journal);
    open(dir.path());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    let (journal, _) = open(&dir);
    append(&journal, "secret");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o027, 0);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o137, 0);
    }
}

#[test]
fn eight_threads_keep_their_order_and_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let journal = Arc::new(journal);
    thread::scope(|scope| {
        for writer in 0..8_u8 {
            let journal = Arc::clone(&journal);
            scope.spawn(move || {
                let mut mine = Batch::new();
                let mut last = Position(0);
                for round in 0..300_u16 {
                    for part in 0..2_u8 {
                        mine.push(|buffer| {
                            buffer.extend([writer, part]);
                            buffer.extend(round.to_le_bytes());
                        });
                    }
                    let position = journal.append(&mut mine).unwrap();
                    assert!(position.0 >= last.0 + 2);
                    last = position;
                }
            });
        }
    });
    let check = |payloads: Vec<Vec<u8>>| {
        assert_eq!(payloads.len(), 8 * 300 * 2);
        let mut rounds = [0_u16; 8];
        for pair in payloads.chunks_exact(2) {
            let writer = pair[0][0];
            let expected = rounds[usize::from(writer)].to_le_bytes();
            // A batch is never torn apart by another thread's.
            assert_eq!(pair[0], [&[writer, 0], &expected[..]].concat());
            assert_eq!(pair[1], [&[writer, 1], &expected[..]].concat());
            rounds[usize::from(writer)] += 1;
        }
    };
    check(contents(&journal, Position(1)));
    drop(journal);
    // Opening verifies each frame against the hash of the one before.
    let (journal, _) = open(dir.path());
    check(contents(&journal, Position(1)));
}

#[test]
fn retiring_deletes_whole_segments_and_keeps_the_last_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for number in 0..100 {
        append(&journal, numbered(number));
    }
    journal.wait_synced(Position(100)).unwrap();
    journal.retire(Position(50)).unwrap();
    assert!(
        journal.follow(Position(1)).next_batch(journal::Level::Written, std::time::Duration::ZERO).is_err()
    );
    assert_eq!(contents(&journal, Position(50)).len(), 51);
    journal.retire(Position(1000)).unwrap();
    append(&journal, "after");
    drop(journal);
    let (journal, recovered) = open(dir.path());
    assert!(recovered.oldest > Position(50) && recovered.oldest <= Position(100));
    assert_eq!(recovered.next, Position(102));
    assert_eq!(contents(&journal, Position(101)), [b"after"]);
}

#[test]
fn retiring_all_after_a_restart_keeps_the_frame_that_the_next_one_names() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, "last");
    drop(journal);
    let (journal, _) = open(dir.path());
    journal.retire(Position(1000)).unwrap();
    drop(journal);
    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.oldest, recovered.next), (Position(1), Position(2)));
    assert_eq!(contents(&journal, Position(1)), [b"last"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_batches_come_back_across_any_reopenings(
        runs in prop::collection::vec(
            prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 1..5), 0..12),
            1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for batches in runs {
            let (journal, recovered) = open(dir.path());
            prop_assert_eq!(recovered.truncated, None);
            for payloads in batches {
                journal.append(&mut batch(&payloads)).unwrap();
                expected.extend(payloads);
            }
            prop_assert_eq!(&contents(&journal, Position(1)), &expected);
        }
        let (journal, _) = open(dir.path());
        prop_assert_eq!(contents(&journal, Position(1)), expected);
    }
}

#[test]
fn a_segment_that_is_cut_under_the_journal_is_never_called_durable() {
    // To nothing, and in the midst of a page: there a store into memory goes nowhere without a word.
    for kept in [0, 100, 5000] {
        // A file system that frames are written through memory on.
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            println!("skipped: there is no /dev/shm");
            return;
        };
        let settings = Settings { segment_bytes: 1 << 20, ..Settings::default() };
        let (journal, _) = Journal::open(dir.path(), settings).unwrap();
        for _ in 0..10 {
            append(&journal, vec![7; 1000]);
        }
        journal.wait_synced(journal.written()).unwrap();
        let segment = dir.path().join("00000000000000000001.journal");
        fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(kept).unwrap();
        let lost =
            journal.append(&mut batch(&[&[8; 1000]])).and_then(|position| journal.wait_synced(position));
        assert!(lost.is_err(), "cut to {kept} bytes");
        let refused = journal.append(&mut batch(&[&[9; 10]])).unwrap_err();
        assert!(matches!(refused, AppendError::Poisoned { .. }), "cut to {kept} bytes: {refused}");
    }
}
