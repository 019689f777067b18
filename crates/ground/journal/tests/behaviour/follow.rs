use std::{
    thread,
    time::{Duration, Instant},
};

use journal::{Level, Position, ReadError, Reader};

use crate::support::{append, numbered, open};

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_follower_gets_each_frame_once_and_in_order_while_appends_go_on() {
    for level in [Level::Written, Level::Synced] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path());
        let mut follower = journal.follow(Position(1));
        let reading = thread::spawn(move || {
            let mut payloads = Vec::new();
            loop {
                match follower.next_batch(level, LONG) {
                    Ok(frames) => payloads.extend(frames.map(|frame| frame.payload.to_vec())),
                    Err(ReadError::Closed { .. }) => return payloads,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let payloads: Vec<_> = (0..1000).map(numbered).collect();
        for payload in &payloads {
            append(&journal, payload);
        }
        journal.close().unwrap();
        assert_eq!(reading.join().unwrap(), payloads);
    }
}

#[test]
fn a_follower_of_synced_frames_sees_none_before_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = crate::support::settings();
    settings.background_sync = Duration::from_secs(3600);
    let (journal, _) = journal::Journal::open(dir.path(), settings).unwrap();
    let mut follower = journal.follow(Position(1));
    append(&journal, "one");
    assert_eq!(follower.next_batch(Level::Synced, Duration::from_millis(20)).unwrap().len(), 0);
    journal.wait_synced(Position(1)).unwrap();
    assert_eq!(follower.next_batch(Level::Synced, Duration::ZERO).unwrap().len(), 1);
}

#[test]
fn what_nobody_waits_for_is_synced_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    append(&journal, "one");
    assert_eq!(journal.follow(Position(1)).next_batch(Level::Synced, LONG).unwrap().len(), 1);
}

#[test]
fn a_follower_waits_no_longer_than_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let started = Instant::now();
    for level in [Level::Written, Level::Synced] {
        let mut follower = journal.follow(Position(1));
        assert_eq!(follower.next_batch(level, Duration::from_millis(30)).unwrap().len(), 0);
    }
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_reader_sees_what_another_writes_and_survives_its_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(dir.path(), Position(1));
    assert_eq!(reader.next_batch().unwrap().len(), 0);
    let mut read = Vec::new();
    let mut expected = Vec::new();
    for run in 0..3 {
        let (journal, _) = open(dir.path());
        for number in 0..100 {
            expected.push(numbered(run * 100 + number));
            append(&journal, &expected[expected.len() - 1]);
            if number % 7 == 0 {
                read.extend(reader.next_batch().unwrap().map(|frame| frame.payload.to_vec()));
            }
        }
    }
    loop {
        let frames = reader.next_batch().unwrap();
        if frames.len() == 0 {
            break;
        }
        read.extend(frames.map(|frame| frame.payload.to_vec()));
    }
    assert_eq!(read, expected);
    assert!(reader.durable() >= Position(200), "each run is synced before the next begins");
    assert_eq!(reader.position(), Position(301));
}

#[test]
fn a_reader_in_a_race_with_the_writer_yields_whole_frames_only() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let path = dir.path().to_owned();
    let reading = thread::spawn(move || {
        let mut reader = Reader::open(&path, Position(1));
        let mut next = 0;
        while next < 3000 {
            for frame in reader.next_batch().unwrap() {
                assert_eq!(frame.payload, numbered(next));
                next += 1;
            }
        }
    });
    for number in 0..3000 {
        append(&journal, numbered(number));
    }
    reading.join().unwrap();
}

#[test]
fn a_follower_may_begin_in_the_middle_and_is_told_what_was_retired() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for number in 0..60 {
        append(&journal, numbered(number));
    }
    let mut follower = journal.follow(Position(41));
    let first = follower.next_batch(Level::Written, Duration::ZERO).unwrap().next().unwrap();
    assert_eq!((first.position, first.payload), (Position(41), &numbered(40)[..]));
    journal.wait_synced(Position(60)).unwrap();
    journal.retire(Position(30)).unwrap();
    let error = journal.follow(Position(2)).next_batch(Level::Written, Duration::ZERO).unwrap_err();
    assert!(matches!(error, ReadError::Retired { wanted: Position(2), oldest } if oldest > Position(2)));
}
