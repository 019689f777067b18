//! The sealer dies before each of its writes, and what it had half written stays behind.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Client, PATIENCE, assert_sound, facts, keys, open, open_with, settings};
use tempfile::tempdir;
use trail::{Filter, Reader, Step, Trail, TrailError};
use vocabulary::{Class, EntryId, Kind, SessionId};

/// A trail whose sealer fails at `step`, the first time after `passes` passes, and then always.
fn failing(data: &Path, step: Step, passes: u64) -> Trail {
    let mut settings = settings();
    settings.seal_after = Duration::from_millis(1);
    let seen = Arc::new(AtomicU64::new(0));
    settings.probe = Some(Arc::new(move |at| {
        if at == step && seen.fetch_add(1, Ordering::Relaxed) >= passes {
            Err(TrailError::Injected)
        } else {
            Ok(())
        }
    }));
    open_with(data, settings).0
}

/// Works until the sealer has failed.
fn work_until_trouble(trail: &Trail, mut work: impl FnMut()) {
    let begun = Instant::now();
    while trail.health().sealer.is_none() {
        assert!(begun.elapsed() < PATIENCE, "the sealer did not fail");
        work();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(trail.health().sealer.unwrap().contains("injected fault"));
}

fn work(trail: &Trail, ids: &mut BTreeSet<EntryId>) -> SessionId {
    let mut client = Client::start(trail, "chatgpt", "orders");
    for number in 0..300 {
        let seq = client.run(&format!("SELECT {number}"));
        ids.insert(EntryId { session: client.id, seq });
        thread::sleep(Duration::from_micros(50));
    }
    client.end()
}

fn commands(data: &Path) -> Vec<EntryId> {
    let mut reader = Reader::open(data, Some(keys())).unwrap();
    let filter = Filter { kind: Some(Kind::Command), ..Filter::default() };
    reader.entries(&filter).unwrap().map(|entry| entry.unwrap().id).collect()
}

/// What a write that was cut short leaves behind.
fn litter(data: &Path) {
    let vault = data.join("vault");
    for name in ["index", "keys", "payload-00000000", "payload-00000001"] {
        let mut file = OpenOptions::new().append(true).create(true).open(vault.join(name)).unwrap();
        file.write_all(&[0xa5; 301]).unwrap();
    }
}

#[test]
fn a_sealer_that_dies_before_any_write_loses_and_doubles_nothing() {
    for step in Step::ALL {
        for passes in [0, 1, 3] {
            let data = tempdir().unwrap();
            let mut ids = BTreeSet::new();
            let trail = failing(data.path(), step, passes);
            work_until_trouble(&trail, || {
                work(&trail, &mut ids);
            });
            drop(trail);
            litter(data.path());
            let (trail, _) = open(data.path());
            work(&trail, &mut ids);
            trail.close(PATIENCE).unwrap();
            let found = commands(data.path());
            assert_eq!(found.len(), ids.len(), "{step:?} after {passes}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids, "{step:?} after {passes}");
            assert_sound(data.path());
        }
    }
}

#[test]
fn a_sealer_that_failed_heals_in_the_same_run() {
    for step in Step::ALL {
        let data = tempdir().unwrap();
        let mut ids = BTreeSet::new();
        let mut settings = settings();
        settings.seal_after = Duration::from_millis(1);
        let seen = Arc::new(AtomicU64::new(0));
        settings.probe = Some(Arc::new(move |at| {
            let fails = at == step && seen.fetch_add(1, Ordering::Relaxed) == 1;
            if fails { Err(TrailError::Injected) } else { Ok(()) }
        }));
        let (trail, _) = open_with(data.path(), settings);
        work(&trail, &mut ids);
        trail.flush(PATIENCE).unwrap();
        work(&trail, &mut ids);
        trail.close(PATIENCE).unwrap();
        assert_eq!(commands(data.path()).into_iter().collect::<BTreeSet<_>>(), ids, "{step:?}");
        assert_eq!(commands(data.path()).len(), ids.len(), "{step:?}");
        assert_sound(data.path());
    }
}

#[test]
fn an_erasure_that_a_crash_cut_short_is_carried_out_by_the_next_run() {
    for step in Step::ALL {
        let data = tempdir().unwrap();
        let mut ids = BTreeSet::new();
        let (trail, _) = open(data.path());
        let session = work(&trail, &mut ids);
        trail.close(PATIENCE).unwrap();
        // The node session's first entry is published in one pass or two: the erasure's own pass is what fails.
        let trail = failing(data.path(), step, 0);
        work_until_trouble(&trail, || {});
        let event = trail::NewEvent {
            kind: Kind::Erasure,
            actor: None,
            client: None,
            subject: Some(session),
            what: "{}".to_owned(),
        };
        trail.node_session().record(event).unwrap();
        drop(trail);
        let (trail, _) = open(data.path());
        trail.close(PATIENCE).unwrap();
        let report = assert_sound(data.path());
        assert_eq!(report.erased, 301, "{step:?}");
    }
}

#[test]
fn intents_that_stay_open_survive_runs_of_the_sealer() {
    let data = tempdir().unwrap();
    let mut settings = settings();
    settings.seal_after = Duration::from_millis(1);
    settings.journal.segment_bytes = 4096;
    let (trail, _) = open_with(data.path(), settings);
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let long = client.intent(b"LISTEN news", &[], &facts("LISTEN", Class::Session, &[]));
    for number in 0..200 {
        client.run(&format!("SELECT {number}"));
    }
    trail.flush(PATIENCE).unwrap();
    let report = assert_sound(data.path());
    assert_eq!((report.open_sessions, report.missing), (2, 0));
    let session = client.id;
    drop(trail);
    let (trail, recovery) = open(data.path());
    assert_eq!(recovery.commands, 1);
    trail.close(PATIENCE).unwrap();
    let entry =
        Reader::open(data.path(), Some(keys())).unwrap().show(EntryId { session, seq: long }).unwrap();
    assert_eq!(entry.command.unwrap().text.as_deref(), Some("LISTEN news"));
    assert_sound(data.path());
}
