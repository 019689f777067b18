use std::{
    fs::{self, OpenOptions},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use journal::{Journal, OpenError, Position, Reader};
use proptest::prelude::*;

use crate::support::{Faulty, append, contents, numbered, open, settings};

const SEGMENT_HEADER: u64 = 64;
const FRAME_OVERHEAD: u64 = 64;
const FRAME_EPOCH: Range<u64> = 12..20;
const FRAME_HEADER: u64 = 60;

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    paths.sort();
    paths
}

/// A journal of `count` frames whose process was killed after the last append.
fn killed_after(dir: &Path, count: usize) {
    let storage = Faulty::default();
    let (journal, _) = Journal::open_on(std::sync::Arc::new(storage.clone()), dir, settings()).unwrap();
    for number in 0..count {
        append(&journal, numbered(number));
    }
    storage.kill();
}

fn write(path: &Path, bytes: &[u8], offset: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn flip(path: &Path, offset: u64, bit: u32) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], offset).unwrap();
}

/// Where the frames of the only segment end, by the payloads it was given.
fn end_of(count: usize) -> u64 {
    SEGMENT_HEADER + (0..count).map(|number| numbered(number).len() as u64 + FRAME_OVERHEAD).sum::<u64>()
}

#[test]
fn killed_between_two_appends() {
    let dir = tempfile::tempdir().unwrap();
    killed_after(dir.path(), 50);
    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.next, recovered.truncated), (Position(51), None));
    assert_eq!(contents(&journal, Position(1)), (0..50).map(numbered).collect::<Vec<_>>());
}

#[test]
fn killed_within_an_append_at_any_byte() {
    let whole = tempfile::tempdir().unwrap();
    killed_after(whole.path(), 5);
    let bytes = fs::read(&segments(whole.path())[0]).unwrap();
    let (start, end) = (end_of(4), end_of(5));
    for cut in (start..end).step_by(5).chain([start + 1, end - 1]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000001.journal");
        let mut torn = bytes.clone();
        torn[usize::try_from(cut).unwrap()..].fill(0);
        fs::write(&path, &torn).unwrap();
        let (journal, recovered) = open(dir.path());
        assert_eq!(recovered.next, Position(5), "cut at {cut}");
        let truncated = recovered.truncated;
        // Without its epoch it is a frame that was never published.
        if cut <= start + FRAME_EPOCH.start {
            assert_eq!(truncated, None);
        } else {
            let truncated = truncated.expect("the torn frame is reported");
            assert_eq!((&truncated.file, truncated.offset), (&path, start));
            assert!(truncated.bytes <= cut - start && truncated.bytes > 0);
        }
        assert_eq!(append(&journal, numbered(4)), Position(5));
        assert_eq!(contents(&journal, Position(1)), (0..5).map(numbered).collect::<Vec<_>>());
        drop(journal);
        assert_eq!(open(dir.path()).1.truncated, None);
    }
}

/// Where the parts stand of which two frames are written through memory, in order: all but the epochs, then those.
fn parts(first: u64, second: u64, end: u64) -> Vec<Range<u64>> {
    let epoch = |frame: u64| frame + FRAME_EPOCH.start..frame + FRAME_EPOCH.end;
    vec![
        first..epoch(first).start,
        epoch(first).end..first + FRAME_HEADER,
        first + FRAME_HEADER..epoch(second).start,
        epoch(second).end..second + FRAME_HEADER,
        second + FRAME_HEADER..end,
        epoch(first),
        epoch(second),
    ]
}

#[test]
fn killed_while_frames_are_written_through_memory_leaves_those_with_an_epoch_and_no_word() {
    let whole = tempfile::tempdir().unwrap();
    killed_after(whole.path(), 6);
    let whole = fs::read(&segments(whole.path())[0]).unwrap();
    let (first, second, end) = (end_of(4), end_of(5), end_of(6));
    let parts = parts(first, second, end);
    for done in 0..=parts.len() {
        // Of the part that is being written, its beginning or its end: which comes first is not ours to say. An epoch is written
        // at once.
        let under_way = parts.get(done).cloned().filter(|_| done < 5).unwrap_or_default();
        let middle = under_way.start.midpoint(under_way.end);
        for begun in [under_way.start..middle, middle..under_way.end] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("00000000000000000001.journal");
            let mut torn = whole.clone();
            torn[usize::try_from(first).unwrap()..].fill(0);
            for part in parts.iter().take(done).cloned().chain([begun]) {
                let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                torn[part.clone()].copy_from_slice(&whole[part]);
            }
            fs::write(&path, &torn).unwrap();
            let published = done.saturating_sub(5);
            let mut reader = Reader::open(dir.path(), Position(1));
            while reader.next_batch().unwrap().len() > 0 {}
            assert_eq!(
                (reader.position().0, reader.rest().unwrap()),
                (5 + published as u64, None),
                "{done} parts"
            );
            let (journal, recovered) = open(dir.path());
            assert_eq!((recovered.next.0, recovered.truncated), (5 + published as u64, None), "{done} parts");
            append(&journal, numbered(4 + published));
            assert_eq!(contents(&journal, Position(1)).len(), 5 + published);
        }
    }
}

#[test]
fn bytes_that_no_writing_of_the_next_frame_can_leave_are_reported() {
    let whole = tempfile::tempdir().unwrap();
    killed_after(whole.path(), 5);
    let whole = fs::read(&segments(whole.path())[0]).unwrap();
    let start = end_of(4);
    let at = |offset: u64| usize::try_from(start + offset).unwrap();
    let blank = |bytes: &mut [u8]| bytes[at(0)..].fill(0);
    let without_epoch = |bytes: &mut [u8]| bytes[at(FRAME_EPOCH.start)..at(FRAME_EPOCH.end)].fill(0);
    type Spoil<'a> = &'a dyn Fn(&mut [u8]);
    let cases: [(&str, Spoil<'_>); 6] = [
        ("a payload without its header", &|bytes| {
            blank(bytes);
            bytes[at(100)] = 1;
        }),
        ("another sequence", &|bytes| {
            without_epoch(bytes);
            bytes[at(4)] ^= 8;
        }),
        ("another frame before it", &|bytes| {
            without_epoch(bytes);
            bytes[at(30)] ^= 1;
        }),
        ("a part of the epoch", &|bytes| bytes[at(13)..at(FRAME_EPOCH.end)].fill(0)),
        ("a sequence that is none of its parts", &|bytes| {
            blank(bytes);
            bytes[at(9)] = 1;
        }),
        ("more than is written through memory", &|bytes| {
            without_epoch(bytes);
            bytes[at(17 * 1024)] = 1;
        }),
    ];
    for (name, spoil) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes.resize(20 * 1024, 0);
        spoil(&mut bytes);
        fs::write(dir.path().join("00000000000000000001.journal"), &bytes).unwrap();
        let mut reader = Reader::open(dir.path(), Position(1));
        while reader.next_batch().unwrap().len() > 0 {}
        assert!(reader.rest().unwrap().is_some(), "{name}");
        let (_, recovered) = open(dir.path());
        assert_eq!(recovered.next, Position(5), "{name}");
        assert!(recovered.truncated.is_some(), "{name}");
    }
}

#[test]
fn killed_between_making_a_segment_and_its_first_frame() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        // Each open begins a segment, under the same name as long as no frame comes.
        killed_after(dir.path(), 0);
    }
    assert_eq!(segments(dir.path()).len(), 1);
    killed_after(dir.path(), 3);
    killed_after(dir.path(), 0);
    let (journal, recovered) = open(dir.path());
    assert_eq!((recovered.next, recovered.truncated), (Position(4), None));
    assert_eq!(contents(&journal, Position(1)).len(), 3);
}

#[test]
fn the_last_segment_is_empty_or_all_zeroes() {
    for zeroes in [0, 10, 64, 4096] {
        let dir = tempfile::tempdir().unwrap();
        killed_after(dir.path(), 3);
        fs::write(dir.path().join("00000000000000000004.journal"), vec![0; zeroes]).unwrap();
        let (journal, recovered) = open(dir.path());
        assert_eq!((recovered.next, recovered.truncated), (Position(4), None));
        assert_eq!(append(&journal, "x"), Position(4));
    }
}

#[test]
fn spares_of_an_earlier_run_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let stray = dir.path().join("0123456789abcdef.spare");
    fs::write(&stray, "anything").unwrap();
    open(dir.path());
    assert!(!stray.exists());
}

#[test]
fn frames_of_an_earlier_epoch_behind_the_tail_are_not_taken_for_new_ones() {
    let old = tempfile::tempdir().unwrap();
    killed_after(old.path(), 8);
    let stale = fs::read(&segments(old.path())[0]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    killed_after(dir.path(), 3);
    // Frames 4 to 8 stand exactly where the next ones would: right in all but the epoch.
    let end = end_of(3);
    write(&segments(dir.path())[0], &stale[usize::try_from(end).unwrap()..], end);
    let (journal, recovered) = open(dir.path());
    assert_eq!(recovered.next, Position(4));
    assert_eq!(recovered.truncated.unwrap().offset, end);
    assert_eq!(contents(&journal, Position(1)).len(), 3);
}

#[test]
fn a_missing_segment_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    killed_after(dir.path(), 60);
    let paths = segments(dir.path());
    fs::remove_file(&paths[1]).unwrap();
    let error = Journal::open(dir.path(), settings()).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { file, .. } if *file == paths[2]), "{error}");
}

#[test]
fn two_swapped_segments_are_corruption() {
    let dir = tempfile::tempdir().unwrap();
    killed_after(dir.path(), 60);
    let paths = segments(dir.path());
    let (first, second) = (fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
    fs::write(&paths[0], second).unwrap();
    fs::write(&paths[1], first).unwrap();
    let error = Journal::open(dir.path(), settings()).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { file, .. } if *file == paths[0]), "{error}");
}

#[test]
fn a_cut_in_what_was_closed_in_order_is_corruption_even_at_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for number in 0..3 {
        append(&journal, numbered(number));
    }
    journal.close().unwrap();
    let path = &segments(dir.path())[0];
    OpenOptions::new().write(true).open(path).unwrap().set_len(end_of(3) - 1).unwrap();
    let error = Journal::open(dir.path(), settings()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { offset, .. } if offset == end_of(2)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_flipped_bit_anywhere_is_located(segment in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let dir = tempfile::tempdir().unwrap();
        killed_after(dir.path(), 40);
        let paths = segments(dir.path());
        let path = segment.get(&paths);
        let length = fs::metadata(path).unwrap().len();
        let offset = place.index(usize::try_from(length).unwrap()) as u64;
        flip(path, offset, bit);
        match Journal::open(dir.path(), settings()) {
            Err(OpenError::Corrupt { file, offset: at, .. }) => {
                prop_assert_eq!(&file, path);
                // Within the frame, or the rest of a segment that was too short for one.
                prop_assert!(at <= offset && offset - at < 500);
            }
            Err(error) => prop_assert!(false, "{}", error),
            Ok((_, recovered)) => {
                // Only where no valid frame follows: the last frame, or the zeroes after it.
                let truncated = recovered.truncated.expect("the damage is reported");
                prop_assert_eq!(&truncated.file, &paths[paths.len() - 1]);
                prop_assert!(truncated.offset <= offset && recovered.next >= Position(40));
            }
        }
    }
}
