//! Every write of journal, vault, sealer's state, ledger and checkpoint × {fails, is half done, is done but reported as failed}:
//! the trail heals or refuses, and the next start has everything that was acknowledged, once, and nothing torn.
//!
//! `TRAIL_FAULTS` is how many writes of each part are tried in each way (30); `all` tries every one.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

#[path = "common/chaos.rs"]
mod chaos;
mod common;

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use chaos::{Chaos, Fault, Part};
use common::{Client, PATIENCE, assert_sound, decision, facts, keys, open, settings, start};
use journal::Batch;
use tempfile::tempdir;
use trail::{
    Capture, CaptureField, EndReason, Filter, Intent, OutcomeRecord, Reader, Record, SessionEnd, Settings,
    Trail, TrailError,
};
use vocabulary::{Class, EntryId, Kind, SessionId, Status, Timestamp};

/// What the trail has promised, and what it was asked for without a promise.
#[derive(Default)]
struct Debt {
    acknowledged: BTreeSet<EntryId>,
    attempted: BTreeSet<EntryId>,
    erased: BTreeSet<SessionId>,
    held: BTreeSet<SessionId>,
    /// An erasure was recorded, and its carrying out was not waited for.
    maybe_erased: BTreeSet<SessionId>,
}

fn quick(chaos: &Chaos) -> Settings {
    let mut settings = settings();
    settings.seal_after = Duration::from_millis(1);
    settings.retry_after = Duration::from_millis(2);
    settings.journal.segment_bytes = 64 * 1024;
    settings.journal.background_sync = Duration::from_millis(1);
    settings.journal.retry_after = Duration::from_millis(2);
    settings.storages = chaos.storages();
    settings
}

/// One append as a session makes it: tried again for a moment where the journal heals by itself.
fn append(trail: &Trail, batch: &mut Batch) -> bool {
    let deadline = Instant::now() + Duration::from_millis(400);
    loop {
        match trail.append(batch) {
            Ok(_) => return true,
            Err(journal::AppendError::Poisoned { .. }) => return false,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return false,
        }
    }
}

/// A session with commands and output, as far as the trail goes along.
fn session(trail: &Trail, commands: u64, debt: &mut Debt) -> Option<SessionId> {
    let id = trail.new_session_id().unwrap();
    let mut batch = Batch::new();
    Record::from(start(id, "chatgpt", "orders")).encode(&mut batch).unwrap();
    if !append(trail, &mut batch) {
        return None;
    }
    let (facts, decision) = (facts("SELECT", Class::Read, &["public.carts"]), decision());
    for seq in 2..2 + commands {
        let at = Timestamp::now();
        let text = format!("SELECT {seq}");
        let intent = Intent {
            session: id,
            seq,
            at,
            facts: &facts,
            decision: &decision,
            text: text.as_bytes(),
            params: &[],
        };
        intent.encode(&mut batch).unwrap();
        let entry = EntryId { session: id, seq };
        debt.attempted.insert(entry);
        if !append(trail, &mut batch) {
            return None;
        }
        // From here on the command may run: it must never be missing.
        debt.acknowledged.insert(entry);
        let output = vec![b'x'; if seq == 3 { 300_000 } else { 50 }];
        for bytes in output.chunks(trail::record::CAPTURE_RECORD_BYTES) {
            let piece = Capture { session: id, seq, at, field: CaptureField::Stdout, bytes };
            piece.encode(&mut batch).unwrap();
        }
        let outcome = OutcomeRecord { rows: Some(1), ..OutcomeRecord::bare(id, seq, at, Status::Ok) };
        outcome.encode(&mut batch).unwrap();
        if !append(trail, &mut batch) {
            return None;
        }
    }
    let seq = 2 + commands;
    let (at, reason, detail) = (Timestamp::now(), EndReason::Client, None);
    Record::from(SessionEnd { session: id, seq, at, entries: seq, reason, detail })
        .encode(&mut batch)
        .unwrap();
    append(trail, &mut batch).then_some(id)
}

/// Everything that a trail can be asked to write.
fn work(data: &Path, chaos: &Chaos, debt: &mut Debt) {
    const WAIT: Duration = Duration::from_secs(2);
    let Ok((trail, _)) = Trail::open(data, quick(chaos)) else { return };
    if trail.start_sealer().is_err() {
        return;
    }
    let Some(first) = session(&trail, 4, debt) else { return };
    if trail.flush(WAIT).is_err() {
        return;
    }
    let Some(second) = session(&trail, 2, debt) else { return };
    match trail.erase(first, None, None, "asked for") {
        Ok(_) => drop(debt.erased.insert(first)),
        Err(_) => drop(debt.maybe_erased.insert(first)),
    }
    if trail.hold(second, None, None, "a lawsuit").is_ok() {
        debt.held.insert(second);
    }
    // Enough for a second segment, so that the first is retired.
    let _ = session(&trail, 6, debt);
    let _ = trail.flush(WAIT);
    let _ = trail.close(WAIT);
}

fn check(data: &Path, debt: &Debt, context: &str) {
    // The lock is free: whoever had it open is gone.
    let (trail, _) = open(data);
    for session in &debt.held {
        let refused = trail.erase(*session, None, None, "not now");
        assert!(matches!(refused, Err(TrailError::OnHold(_))), "{context}: {refused:?}");
    }
    let mut client = Client::start(&trail, "claude", "orders");
    client.run("SELECT 'it goes on'");
    client.end();
    trail.close(PATIENCE).unwrap();
    let report = assert_sound(data);
    assert_eq!((report.missing, report.unsealed), (0, 0), "{context}");
    let mut reader = Reader::open(data, Some(keys())).unwrap();
    let mut found = BTreeSet::new();
    for entry in reader.entries(&Filter { kind: Some(Kind::Command), ..Filter::default() }).unwrap() {
        let entry = entry.unwrap();
        assert!(found.insert(entry.id), "{context}: {} stands twice", entry.id);
        let known = debt.attempted.contains(&entry.id) || entry.id.session == client_of(&entry.id, debt);
        assert!(known, "{context}: {} was never asked for", entry.id);
        if debt.erased.contains(&entry.session) {
            assert!(entry.payload.is_some_and(|why| why.starts_with("erased")), "{context}");
        } else if !debt.maybe_erased.contains(&entry.session) {
            assert!(entry.payload.is_none(), "{context}: {:?}", entry.payload);
        }
    }
    let lost: Vec<&EntryId> = debt.acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{context}: {lost:?} are lost");
}

/// The session that `check` itself adds is known, too: it is none that was attempted.
fn client_of(id: &EntryId, debt: &Debt) -> SessionId {
    let is_old = debt.attempted.iter().any(|attempted| attempted.session == id.session);
    if is_old { SessionId::from_bytes([0; 16]) } else { id.session }
}

fn every_write_of(part: Part) {
    // Threads race, so a run may have more writes than another: of several the least.
    let counts = (0..3).map(|_| {
        let (data, chaos) = (tempdir().unwrap(), Chaos::none(part));
        let mut debt = Debt::default();
        work(data.path(), &chaos, &mut debt);
        assert_eq!((debt.acknowledged.len(), debt.erased.len(), debt.held.len()), (12, 1, 1), "{part:?}");
        check(data.path(), &debt, "without a fault");
        chaos.count()
    });
    let total = counts.min().unwrap();
    let tried = match std::env::var("TRAIL_FAULTS").as_deref() {
        Ok("all") => total,
        Ok(number) => number.parse().unwrap(),
        Err(_) => 30,
    };
    let step = usize::try_from((total / tried.max(1)).max(1)).unwrap();
    let (mut runs, mut hits) = (0, 0);
    for fault in [Fault::Fails, Fault::Half, Fault::DoneButFailed] {
        for at in (0..total).step_by(step) {
            let (data, chaos) = (tempdir().unwrap(), Chaos::new(part, fault, at));
            let mut debt = Debt::default();
            work(data.path(), &chaos, &mut debt);
            check(data.path(), &debt, &format!("{part:?}, write {at} of {total}, {fault:?}"));
            runs += 1;
            hits += u64::from(chaos.hit());
        }
    }
    // The last writes are not always there even so.
    assert!(hits * 10 >= runs * 6, "{part:?}: only {hits} of {runs} faults happened");
    eprintln!("{part:?}: {total} writes, {runs} faults, nothing lost");
}

#[test]
fn every_write_of_the_journal() {
    every_write_of(Part::Journal);
}

#[test]
fn every_write_of_the_vault_and_the_sealers_state() {
    every_write_of(Part::Vault);
}

#[test]
fn every_write_of_the_ledger_and_its_checkpoints() {
    every_write_of(Part::Ledger);
}

/// The sealer takes what is written before it is synced. Nothing that then can't be synced may come under a checkpoint.
#[test]
fn a_failed_sync_of_the_journal_ends_sealing_and_says_why() {
    let (data, chaos) = (tempdir().unwrap(), Chaos::none(Part::Journal));
    let mut debt = Debt::default();
    let (trail, _) = Trail::open(data.path(), quick(&chaos)).unwrap();
    trail.start_sealer().unwrap();
    session(&trail, 4, &mut debt).unwrap();
    trail.flush(PATIENCE).unwrap();
    chaos.break_syncs();
    // As far as it is let, and it is not for long.
    while session(&trail, 4, &mut debt).is_some() {}
    let deadline = Instant::now() + PATIENCE;
    while trail.health().sealer.is_none() {
        assert!(Instant::now() < deadline, "the sealer says nothing of it");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    let health = trail.health();
    assert!(health.sealer.is_some_and(|reason| reason.contains("injected fault")), "it has forgotten why");
    assert!(health.unsealed > 0, "a checkpoint covers what no sync has confirmed");
    assert!(trail.close(Duration::from_millis(100)).is_err());
    drop(trail);
    check(data.path(), &debt, "after a failed sync");
}
