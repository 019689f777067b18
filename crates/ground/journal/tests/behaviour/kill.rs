//! `kill -9` of a process that appends as fast as it can.

use std::{
    env,
    io::{BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use journal::{Batch, Journal, Position, Settings};

use crate::support::contents;

const CHILD_DIR: &str = "JOURNAL_TEST_CHILD_DIR";
/// How many runs, 30 if not set.
const RUNS: &str = "JOURNAL_KILL_RUNS";

fn settings() -> Settings {
    Settings { segment_bytes: 256 * 1024, ..Settings::default() }
}

/// The payload of frame `position`: its number, then a pattern of a length up to 20 KB, so that appends
/// cross pages and the kill can fall within a write.
fn payload(position: u64) -> Vec<u8> {
    let length = if position.is_multiple_of(16) { 20_000 } else { 50 + position % 900 };
    let pattern = position.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    position.to_le_bytes().into_iter().chain(pattern.into_iter().cycle().take(length as usize)).collect()
}

/// Not a test by itself: the process that is killed. Appends batches of 1 to 4 frames and says so, one
/// position after the other, as 8 bytes each.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(dir) = env::var(CHILD_DIR) else { return };
    let (journal, recovered) = Journal::open(Path::new(&dir), settings()).unwrap();
    let mut next = recovered.next;
    let mut batch = Batch::new();
    // Not stdout: the test harness writes there.
    let mut pipe = std::io::stderr();
    loop {
        for _ in 0..=next.0 % 4 {
            batch.push(|buffer| buffer.extend(payload(next.0)));
            next = next.next();
        }
        let position = journal.append(&mut batch).unwrap();
        pipe.write_all(&position.0.to_le_bytes()).unwrap();
    }
}

#[test]
fn killed_under_load_no_acknowledged_frame_is_lost_torn_or_doubled() {
    let runs: u32 = env::var(RUNS).ok().map_or(30, |runs| runs.parse().expect("a number of runs"));
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut torn) = (0, 0);
    for run in 0..runs {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["kill::child_that_appends_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = BufReader::new(child.stderr.take().unwrap());
        let (sender, first_append) = mpsc::channel();
        let listening = thread::spawn(move || {
            let (mut last, mut bytes) = (0, [0; 8]);
            while pipe.read_exact(&mut bytes).is_ok() {
                if last == 0 {
                    let _ = sender.send(());
                }
                last = u64::from_le_bytes(bytes);
            }
            last
        });
        // Every fifth one is killed a little after its start: within recovery, if it so happens.
        if run % 5 != 4 {
            first_append.recv_timeout(Duration::from_secs(30)).expect("the child appends");
        }
        thread::sleep(Duration::from_micros(u64::from(run * 1709 % 25_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = listening.join().unwrap().max(acknowledged);

        let (journal, recovered) = Journal::open(dir.path(), settings()).unwrap();
        assert!(
            recovered.next > Position(acknowledged),
            "run {run}: frames up to {acknowledged} were acknowledged"
        );
        torn += u32::from(recovered.truncated.is_some());
        let found = contents(&journal, recovered.oldest);
        assert_eq!(found.len() as u64, recovered.next.0 - recovered.oldest.0);
        for (frame, position) in found.iter().zip(recovered.oldest.0..) {
            assert!(*frame == payload(position), "run {run}: frame {position} holds something else");
        }
        // Keeps the disk small; the next runs go on where this one ended.
        journal.retire(recovered.next).unwrap();
    }
    assert!(acknowledged > 0, "no child got to append");
    println!("{runs} kills, {acknowledged} frames acknowledged, {torn} torn tails cut off, nothing lost");
}
