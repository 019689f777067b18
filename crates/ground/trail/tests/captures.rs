//! What commands read and wrote: short, long, of commands that never end, over crashes, of whole sessions.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::{path::Path, time::Duration};

use common::{Client, PATIENCE, assert_sound, facts, keys, open, open_with, settings, verify_all};
use trail::{CaptureField, Entry, Filter, Reader, Trail, TrailError};
use vocabulary::{Class, EntryId, Kind, Status};

use CaptureField::{Recording, Stderr, Stdout};

fn shell(client: &mut Client<'_>) -> u64 {
    client.intent(b"make all", &[], &facts("EXEC", Class::Execute, &[]))
}

fn entry(data: &Path, id: EntryId) -> Entry {
    Reader::open(data, Some(keys())).unwrap().show(id).unwrap()
}

fn captured(data: &Path, id: EntryId, field: CaptureField) -> Vec<u8> {
    let mut reader = Reader::open(data, Some(keys())).unwrap();
    let captured = reader.captured(id, field).unwrap();
    let claimed = captured.len();
    let bytes: Vec<u8> = captured.flat_map(Result::unwrap).collect();
    assert_eq!(claimed, bytes.len() as u64);
    bytes
}

fn sizes(entry: &Entry) -> Vec<(CaptureField, u64)> {
    entry.captured.iter().map(|captured| (captured.field, captured.bytes)).collect()
}

/// Bytes that no compression makes small and no two places share.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&(state >> 8).to_le_bytes()[..7]);
    }
    bytes.truncate(length);
    bytes
}

fn leaves(data: &Path) -> u64 {
    Reader::open(data, None).unwrap().len().unwrap()
}

#[test]
fn short_output_is_part_of_its_commands_entry() {
    let data = tempfile::tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "shop");
    let seq = shell(&mut client);
    client.capture(seq, Stderr, b"warning\n");
    client.capture(seq, Stdout, b"one\n");
    client.capture(seq, Stdout, b"two\n");
    client.ok(seq, 0);
    let id = EntryId { session: client.end(), seq };
    trail.flush(PATIENCE).unwrap();
    assert_eq!(leaves(data.path()), 4, "start of the node, start, command and end of the session");
    assert_eq!(sizes(&entry(data.path(), id)), [(Stdout, 8), (Stderr, 8)]);
    assert_eq!(captured(data.path(), id, Stdout), b"one\ntwo\n");
    assert_eq!(captured(data.path(), id, Stderr), b"warning\n");
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    assert!(matches!(
        reader.captured(id, CaptureField::Upload).err(),
        Some(TrailError::NothingCaptured { field: CaptureField::Upload, .. })
    ));
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn long_output_is_sealed_in_parts_as_it_comes() {
    let data = tempfile::tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "shop");
    let seq = shell(&mut client);
    let id = EntryId { session: client.id, seq };
    let (out, err) = (noise(3_000_000), noise(700_001));
    for (out, err) in out.chunks(10_000).zip(err.chunks(2_334).map(Some).chain(std::iter::repeat(None))) {
        client.capture(seq, Stdout, out);
        client.capture(seq, Stderr, err.unwrap_or_default());
    }
    trail.flush(PATIENCE).unwrap();
    assert!(leaves(data.path()) > 10, "parts are sealed while the command runs");
    client.ok(seq, 0);
    client.end();
    trail.flush(PATIENCE).unwrap();
    assert_eq!(sizes(&entry(data.path(), id)), [(Stdout, 3_000_000), (Stderr, 700_001)]);
    assert_eq!(captured(data.path(), id, Stdout), out);
    assert_eq!(captured(data.path(), id, Stderr), err);
    // Parts are no entries of their own to those who read.
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    assert!(reader.list(&Filter::default()).unwrap().iter().all(|entry| entry.kind != Kind::Capture));
    let parts = Filter { kind: Some(Kind::Capture), ..Filter::default() };
    assert!(reader.list(&parts).unwrap().len() > 10);
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
    assert!(trail_is_erasable(data.path(), id), "erasing a session erases what was captured in it");
}

fn trail_is_erasable(data: &Path, id: EntryId) -> bool {
    let (trail, _) = open(data);
    trail.erase(id.session, None, None, "asked for").unwrap();
    trail.close(PATIENCE).unwrap();
    assert_sound(data);
    let mut reader = Reader::open(data, Some(keys())).unwrap();
    let first = reader.captured(id, Stdout).unwrap().next().unwrap();
    matches!(first, Err(TrailError::Closed { reason, .. }) if reason.starts_with("erased"))
}

#[test]
fn what_a_command_wrote_so_far_can_be_read_while_it_runs() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.started_after = Duration::from_millis(1);
    let (trail, _) = open_with(data.path(), settings);
    let mut client = Client::start(&trail, "chatgpt", "shop");
    let seq = shell(&mut client);
    let id = EntryId { session: client.id, seq };
    let bytes = noise(600_000);
    client.capture(seq, Stdout, &bytes);
    let deadline = std::time::Instant::now() + PATIENCE;
    let entry = loop {
        trail.flush(PATIENCE).unwrap();
        match Reader::open(data.path(), Some(keys())).unwrap().show(id) {
            Ok(entry) if !entry.captured.is_empty() => break entry,
            Ok(_) | Err(TrailError::NoEntry(_)) => assert!(std::time::Instant::now() < deadline),
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(entry.kind, Kind::CommandStarted);
    let so_far = captured(data.path(), id, Stdout);
    assert!(!so_far.is_empty() && bytes.starts_with(&so_far));
    trail.close(PATIENCE).unwrap();
}

#[test]
fn a_session_can_have_a_recording_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "shop");
    client.capture(1, Recording, b"[0.1,\"o\",\"$ \"]\n");
    client.run("SELECT 1");
    client.capture(1, Recording, b"[0.2,\"o\",\"bye\"]\n");
    let last = client.next;
    let id = EntryId { session: client.end(), seq: last };
    trail.flush(PATIENCE).unwrap();
    assert_eq!(entry(data.path(), id).kind, Kind::SessionEnd);
    assert_eq!(captured(data.path(), id, Recording), b"[0.1,\"o\",\"$ \"]\n[0.2,\"o\",\"bye\"]\n");
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn a_crash_loses_nothing_of_what_was_captured() {
    let data = tempfile::tempdir().unwrap();
    let (long, short) = (noise(800_000), b"short".to_vec());
    let (session, first, second) = {
        let (trail, _) = open(data.path());
        let mut client = Client::start(&trail, "chatgpt", "shop");
        let (first, second) = (shell(&mut client), shell(&mut client));
        client.capture(first, Stdout, &long);
        client.capture(second, Stdout, &short);
        client.capture(1, Recording, &short);
        // Some of it is sealed, some waits for the outcome in memory and journal.
        trail.flush(PATIENCE).unwrap();
        client.capture(first, Stdout, &short);
        crash(&trail, &mut client)
    };
    for round in 0..2 {
        let (trail, recovery) = open(data.path());
        if round == 0 {
            assert_eq!((recovery.commands, recovery.sessions), (2, 2));
        }
        trail.close(PATIENCE).unwrap();
        let of = |seq, field| captured(data.path(), EntryId { session, seq }, field);
        assert_eq!(of(first, Stdout), [long.as_slice(), &short].concat());
        assert_eq!(of(second, Stdout), short);
        assert_eq!(of(second + 1, Recording), short);
        let entry = entry(data.path(), EntryId { session, seq: first });
        assert_eq!(entry.outcome.unwrap().status, Status::Unknown);
        assert_sound(data.path());
    }
}

/// Leaves everything as a crash would.
fn crash(trail: &Trail, client: &mut Client<'_>) -> (vocabulary::SessionId, u64, u64) {
    trail.wait_synced(trail.append(&mut empty_frame(client)).unwrap()).unwrap();
    (client.id, 2, 3)
}

/// Something to wait for.
fn empty_frame(client: &Client<'_>) -> journal::Batch {
    let mut batch = journal::Batch::new();
    let at = vocabulary::Timestamp::now();
    let piece = trail::Capture { session: client.id, seq: 2, at, field: Stdout, bytes: b"" };
    piece.encode(&mut batch).unwrap();
    batch
}

#[test]
fn what_belongs_to_no_command_does_not_hold_anybody_up() {
    let data = tempfile::tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "shop");
    client.capture(77, Stdout, b"lost");
    client.run("SELECT 1");
    client.end();
    trail.close(PATIENCE).unwrap();
    assert!(verify_all(data.path()).is_sound());
}
