//! kill -9 in the middle of work: what was acknowledged stands in the trail exactly once, and the trail verifies.
//!
//! `TRAIL_KILLS` sets the number of runs (20).

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{Client, PATIENCE, assert_sound, facts, keys, open, settings};
use tempfile::tempdir;
use trail::{Filter, Reader};
use vocabulary::{Class, EntryId, Kind};

const DATA: &str = "TRAIL_KILL_DATA";

/// Run by the test below in a process of its own: works on the trail until it is killed, and says what is acknowledged.
#[test]
#[ignore = "it runs until it is killed"]
fn child() {
    let Ok(data) = std::env::var(DATA) else { return };
    let mut settings = settings();
    settings.seal_after = Duration::from_millis(2);
    let (trail, _) = common::open_with(Path::new(&data), settings);
    thread::scope(|scope| {
        for number in 0..3 {
            let trail = &trail;
            scope.spawn(move || {
                let select = facts("SELECT", Class::Read, &["t"]);
                loop {
                    let mut client = Client::start(trail, &format!("agent-{number}"), "orders");
                    for round in 0..50 {
                        let text = format!("SELECT {round}");
                        let seq = client.intent(text.as_bytes(), &[], &select);
                        // One write per line: a killed process leaves no half line.
                        let line = format!("\nacknowledged {}-{seq}\n", client.id);
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                        client.ok(seq, 1);
                    }
                    let id = client.id;
                    if number != 2 {
                        client.end();
                        if number == 1 {
                            // Needs its end sealed, which it waits for.
                            let _ = trail.erase(id, None, None, "for the test");
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_exactly_once() {
    let runs: u64 = std::env::var("TRAIL_KILLS").map_or(20, |runs| runs.parse().unwrap());
    let data = tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for run in 0..runs {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DATA, data.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let ids = lines.filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned));
            ids.map(|id| id.parse::<EntryId>().unwrap()).collect::<Vec<_>>()
        });
        thread::sleep(Duration::from_millis(30 + run * 37 % 211));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
        // Every other time the next child recovers, under load.
        if run % 2 == 0 {
            let (trail, _) = open(data.path());
            trail.flush(PATIENCE).unwrap();
            let report = assert_sound(data.path());
            assert_eq!(report.missing, 0);
            drop(trail);
        }
    }
    let (trail, _) = open(data.path());
    trail.close(PATIENCE).unwrap();
    let report = assert_sound(data.path());
    assert_eq!((report.missing, report.open_sessions, report.unsealed), (0, 0, 0));
    assert!(acknowledged.len() > 100, "only {} commands were acknowledged", acknowledged.len());

    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let commands = Filter { kind: Some(Kind::Command), ..Filter::default() };
    let mut found = BTreeSet::new();
    for entry in reader.entries(&commands).unwrap() {
        let entry = entry.unwrap();
        assert!(found.insert(entry.id), "{} stands twice", entry.id);
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} acknowledged commands are lost, the first is {}", lost.len(), lost[0]);
    eprintln!("{runs} kills, {} acknowledged, {} entries, 0 lost", acknowledged.len(), report.entries);
}
