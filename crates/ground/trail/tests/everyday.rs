//! A day of a trail: sessions, commands, events, reading, following, erasing, verifying.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::time::Duration;

use common::{Client, PATIENCE, assert_sound, facts, keys, open, open_with, settings, verify_all};
use serde_json::{Value, json};
use tempfile::tempdir;
use trail::{Filter, NotKept, OutcomeRecord, Reader, TrailError};
use vocabulary::{Class, EntryId, Kind, Status, Timestamp};

fn list(reader: &mut Reader, filter: &Filter) -> Vec<trail::Entry> {
    reader.list(filter).unwrap()
}

#[test]
fn a_command_stands_in_the_trail_with_who_what_when_and_its_result() {
    let data = tempdir().unwrap();
    let (trail, recovery) = open(data.path());
    assert_eq!((recovery.commands, recovery.sessions, recovery.unsealed), (0, 0, 0));
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let delete = facts("DELETE", Class::Write, &["public.carts"]);
    let seq = client.intent(b"DELETE FROM carts WHERE id = $1", &[Some("42"), None], &delete);
    client.ok(seq, 1);
    let id = EntryId { session: client.id, seq };
    client.end();
    trail.flush(PATIENCE).unwrap();

    let entry = Reader::open(data.path(), Some(keys())).unwrap().show(id).unwrap();
    let mut shown = serde_json::to_value(&entry).unwrap();
    let at = shown["at"].take();
    assert!(at.as_str().unwrap().parse::<Timestamp>().is_ok());
    assert_eq!(
        shown,
        json!({
            "id": id, "kind": "command", "at": null, "duration_us": 812,
            "session": id.session, "seq": 2, "node": entry.node,
            "principal": {"kind":"agent","name":"chatgpt","on_behalf_of":"alice","credential":entry.principal.as_ref().unwrap().credential,
                          "proven_by":"scram-sha-256","certainty":"verified"},
            "client": {"addr":"10.0.0.7:51234","application":"psql","task":null,"certainty":"asserted"},
            "target": {"name":"orders","kind":"postgres","role":"app","peer":"backend 4242"},
            "command": {"text":"DELETE FROM carts WHERE id = $1","params":["42", null],"verb":"DELETE","class":"write",
                        "objects":["public.carts"],
                        "digest": entry.command.as_ref().unwrap().digest},
            "decision": {"effect":"permit","policies":[],"policy_hash":entry.decision.as_ref().unwrap().policy_hash,"review":null},
            "outcome": {"status":"ok","executed":true,"rows":1,"bytes_in":61,"bytes_out":28,"code":null,"message":null,"exit":null},
            "leaf": {"log":"trail.test/node","index":2}
        })
    );
    let digest = entry.command.as_ref().unwrap().digest.clone().unwrap();
    assert_eq!(digest.len(), "sha256:".len() + 64);
    assert!(entry.node.unwrap().to_string().starts_with("no_"));
    // What a program reads back is what was shown.
    assert_eq!(serde_json::from_str::<trail::Entry>(&serde_json::to_string(&entry).unwrap()).unwrap(), entry);

    trail.close(PATIENCE).unwrap();
    let report = assert_sound(data.path());
    assert_eq!((report.sessions, report.open_sessions, report.unsealed, report.missing), (2, 0, 0, 0));
    // Two starts, the command; the ends have nothing to keep.
    assert_eq!((report.entries, report.verified, report.bare), (5, 3, 2));
    assert!(report.to_string().contains("5 entries of 2 sessions (0 open) verify"), "{report}");
}

#[test]
fn outcomes_of_every_kind_are_kept() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let plain = facts("SELECT", Class::Read, &[]);
    let seq = client.intent(b"SELECT \xff", &[], &plain);
    client.outcome(OutcomeRecord {
        code: Some("42P01"),
        message: Some("relation \"carts\" does not exist"),
        executed: Some(false),
        ..OutcomeRecord::bare(client.id, seq, Timestamp::now(), Status::Error)
    });
    let odd = client.intent(b"frobnicate", &[], &facts("FROBNICATE", Class::Unknown, &[]));
    client.outcome(OutcomeRecord {
        code: Some("not a state"),
        exit: Some(-3),
        not_kept: Some(NotKept { bytes: 99, sha256: [0xab; 32] }),
        ..OutcomeRecord::bare(client.id, odd, Timestamp::now(), Status::Unknown)
    });
    let session = client.end();
    trail.flush(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let failed = reader.show(EntryId { session, seq }).unwrap();
    let command = failed.command.unwrap();
    assert_eq!(command.text.as_deref(), Some("SELECT \u{fffd}"));
    assert_eq!(command.text_base64.as_deref(), Some("U0VMRUNUIP8="));
    assert_eq!((command.verb.as_deref(), command.params), (Some("SELECT"), Some(Vec::new())));
    let outcome = failed.outcome.unwrap();
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Error, Some("42P01")));
    assert_eq!(outcome.message.as_deref(), Some("relation \"carts\" does not exist"));
    let odd = reader.show(EntryId { session, seq: odd }).unwrap();
    assert_eq!(odd.command.unwrap().verb.as_deref(), Some("FROBNICATE"));
    let outcome = odd.outcome.unwrap();
    assert_eq!(
        (outcome.executed, outcome.exit, outcome.code.as_deref()),
        (None, Some(-3), Some("not a state"))
    );
    let not_kept = outcome.not_kept.unwrap();
    assert_eq!((not_kept.bytes, not_kept.digest.unwrap()), (99, format!("sha256:{}", "ab".repeat(32))));
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn filters_choose_and_the_newest_comes_first() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut one = Client::start(&trail, "chatgpt", "orders");
    let mut two = Client::start(&trail, "claude", "stock");
    for number in 0..600 {
        one.run(&format!("SELECT {number} FROM Carts"));
        two.run(&format!("SELECT {number} FROM bins"));
    }
    let (one, two) = (one.end(), two.end());
    trail.flush(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();

    let newest = list(&mut reader, &Filter { limit: Some(50), ..Filter::default() });
    assert_eq!(newest.len(), 50);
    assert!(newest.windows(2).all(|pair| pair[0].leaf.index == pair[1].leaf.index + 1));
    assert_eq!(newest[0].kind, Kind::SessionEnd);

    let of_two = list(&mut reader, &Filter { session: Some(two), ..Filter::default() });
    assert_eq!(of_two.len(), 602);
    let numbers: Vec<u64> = of_two.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (1..=602).rev().collect::<Vec<_>>());

    let by = |principal: &str| Filter { principal: Some(principal.to_owned()), ..Filter::default() };
    assert!(list(&mut reader, &by("claude")).iter().all(|entry| entry.session == two));
    assert_eq!(list(&mut reader, &by("claude")).len(), 602);
    assert_eq!(list(&mut reader, &by("alice")).len(), 1204);
    assert_eq!(list(&mut reader, &by("nobody")).len(), 0);
    let at = |target: &str| Filter {
        target: Some(target.to_owned()),
        kind: Some(Kind::Command),
        ..Filter::default()
    };
    assert_eq!(list(&mut reader, &at("orders")).len(), 600);
    let grep = |text: &str| Filter { grep: Some(text.to_owned()), ..Filter::default() };
    // Small letters find either case, a capital only itself.
    assert_eq!(list(&mut reader, &grep("599 from carts")).len(), 1);
    assert_eq!(list(&mut reader, &grep("599 FROM carts")).len(), 0);
    assert_eq!(list(&mut reader, &grep("599 FROM Carts"))[0].session, one);
    let status = Filter { status: Some(Status::Error), ..Filter::default() };
    assert_eq!(list(&mut reader, &status).len(), 0);
    let class = Filter { class: Some(Class::Read), limit: Some(7), ..Filter::default() };
    assert_eq!(list(&mut reader, &class).len(), 7);
    let middle = of_two[300].at;
    let since = list(&mut reader, &Filter { since: Some(middle), ..Filter::default() });
    let until = list(&mut reader, &Filter { until: Some(middle), ..Filter::default() });
    assert!(since.iter().all(|entry| entry.at >= middle) && until.iter().all(|entry| entry.at <= middle));
    assert!(since.len() + until.len() >= 1205);
    trail.close(PATIENCE).unwrap();
}

#[test]
fn without_the_key_leaves_speak_and_payloads_stay_sealed() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let seq = client.run("SELECT secret");
    let session = client.end();
    trail.close(PATIENCE).unwrap();
    let entry = Reader::open(data.path(), None).unwrap().show(EntryId { session, seq }).unwrap();
    let command = entry.command.unwrap();
    assert_eq!(
        (command.text, command.params, command.objects, command.class),
        (None, None, None, Class::Read)
    );
    assert_eq!(command.verb.as_deref(), Some("SELECT"));
    assert!(entry.payload.unwrap().starts_with("sealed"));
    let principal = entry.principal.unwrap();
    assert!(principal.name.is_none() && principal.id.is_some());
    let options = trail::VerifyOptions::default();
    let report = trail::verify(data.path(), &options, |_, _| {}).unwrap();
    assert!(report.is_sound());
    assert_eq!((report.verified, report.sealed), (0, 3));
}

#[test]
fn a_command_that_runs_for_long_is_announced_and_then_told() {
    let data = tempdir().unwrap();
    let mut settings = settings();
    settings.started_after = Duration::from_millis(30);
    let (trail, _) = open_with(data.path(), settings);
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let seq = client.intent(b"SELECT pg_sleep(60)", &[], &facts("SELECT", Class::Read, &[]));
    let id = EntryId { session: client.id, seq };
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let mut from = 0;
    let announced = loop {
        let (entries, next) = reader.follow(from, &Filter::default(), PATIENCE).unwrap();
        assert!(next > from, "nothing was announced");
        from = next;
        if let Some(found) = entries.into_iter().find(|entry| entry.kind == Kind::CommandStarted) {
            break found;
        }
    };
    assert_eq!((announced.id, announced.outcome), (id, None));
    assert_eq!(announced.command.unwrap().text.as_deref(), Some("SELECT pg_sleep(60)"));
    assert_eq!(reader.show(id).unwrap().kind, Kind::CommandStarted);
    let report = assert_sound(data.path());
    assert_eq!(report.open_sessions, 2);
    client.ok(seq, 1);
    client.end();
    trail.flush(PATIENCE).unwrap();
    assert_eq!(reader.show(id).unwrap().kind, Kind::Command);
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn events_tell_who_did_what() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let what = json!({ "did": "target.added", "name": "orders" });
    let changed = trail.note(Kind::ControlChanged, Some(common::who("bob")), None, &what).unwrap();
    let failed = trail.note(Kind::AuthFailed, None, None, &json!({ "claimed": "mallory" })).unwrap();
    assert_eq!((changed.seq, failed.seq), (2, 3));
    trail.flush(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let entry = reader.show(changed).unwrap();
    assert_eq!(entry.principal.unwrap().name.as_deref(), Some("bob"));
    assert_eq!((entry.event, entry.kind), (Some(what), Kind::ControlChanged));
    let entry = reader.show(failed).unwrap();
    assert_eq!((entry.principal, entry.target), (None, None));
    assert_eq!(entry.event.unwrap()["claimed"], Value::from("mallory"));
    let by_bob = Filter { principal: Some("bob".into()), ..Filter::default() };
    assert_eq!(list(&mut reader, &by_bob).len(), 1);
    trail.close(PATIENCE).unwrap();
    assert!(matches!(trail.note(Kind::Gap, None, None, &json!({})), Err(TrailError::Append(_))));
    assert_sound(data.path());
}

#[test]
fn erasing_destroys_the_payloads_of_one_session_and_proves_it() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut gone = Client::start(&trail, "chatgpt", "orders");
    let mut kept = Client::start(&trail, "claude", "orders");
    let seq = gone.run("SELECT 'personal'");
    let other = kept.run("SELECT 'other'");
    let open_session = gone.id;
    assert!(matches!(trail.erase(open_session, None, None, "asked"), Err(TrailError::SessionOpen(_))));
    let (gone, kept) = (gone.end(), kept.end());
    let before = assert_sound(data.path()).verified;
    let erasure = trail.erase(gone, Some(common::who("bob")), None, "asked for by the person").unwrap();
    assert!(matches!(trail.erase(gone, None, None, "again"), Err(TrailError::AlreadyErased(_))));
    let never = trail.new_session_id().unwrap();
    assert!(matches!(trail.erase(never, None, None, "x"), Err(TrailError::NoSession(_))));

    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let entry = reader.show(EntryId { session: gone, seq }).unwrap();
    assert_eq!(entry.payload, Some(format!("erased (entry {erasure})")));
    assert_eq!(entry.command.unwrap().text, None);
    assert_eq!(entry.outcome.unwrap().rows, Some(1));
    let entry = reader.show(EntryId { session: kept, seq: other }).unwrap();
    assert_eq!(entry.command.unwrap().text.as_deref(), Some("SELECT 'other'"));
    let entry = reader.show(erasure).unwrap();
    assert_eq!(entry.event.unwrap()["reason"], Value::from("asked for by the person"));
    trail.close(PATIENCE).unwrap();
    let report = verify_all(data.path());
    assert!(report.is_sound(), "{report}");
    assert!(report.erased == 2 && report.verified + report.erased > before);
}

#[test]
fn payloads_of_any_length_are_kept_whole() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    let plain = facts("SELECT", Class::Read, &[]);
    let mut state = 1u64;
    let noise: String = (0..3_000_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
        })
        .collect();
    let texts = [String::new(), "x".repeat(5_000_000), noise];
    let numbers: Vec<u64> = texts
        .iter()
        .map(|text| {
            let seq = client.intent(text.as_bytes(), &[], &plain);
            client.ok(seq, 0);
            seq
        })
        .collect();
    let session = client.end();
    trail.close(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    for (text, seq) in texts.iter().zip(numbers) {
        let entry = reader.show(EntryId { session, seq }).unwrap();
        assert_eq!(entry.command.unwrap().text.as_ref(), Some(text));
    }
    assert_sound(data.path());
}

#[test]
fn what_a_run_left_open_is_closed_by_the_next() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    client.run("SELECT 1");
    let seq = client.intent(b"UPDATE carts SET n = 1", &[], &facts("UPDATE", Class::Write, &["carts"]));
    let session = client.id;
    drop(trail);
    let (trail, recovery) = open(data.path());
    assert_eq!((recovery.commands, recovery.sessions), (1, 2));
    trail.flush(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let entry = reader.show(EntryId { session, seq }).unwrap();
    let outcome = entry.outcome.unwrap();
    assert_eq!((outcome.status, outcome.executed), (Status::Unknown, None));
    let end = reader.show(EntryId { session, seq: seq + 1 }).unwrap();
    assert_eq!(end.event.unwrap(), json!({ "entries": seq + 1, "reason": "crash", "detail": null }));
    trail.close(PATIENCE).unwrap();
    let (trail, recovery) = open(data.path());
    assert_eq!((recovery.commands, recovery.sessions), (0, 0));
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn a_journal_that_was_moved_away_leaves_a_gap_that_shows() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    client.run("SELECT 1");
    client.intent(b"SELECT 2", &[], &facts("SELECT", Class::Read, &[]));
    client.run("SELECT 3");
    trail.flush(PATIENCE).unwrap();
    drop(trail);
    std::fs::remove_dir_all(data.path().join("journal")).unwrap();
    let (trail, _) = open(data.path());
    Client::start(&trail, "chatgpt", "orders").end();
    trail.close(PATIENCE).unwrap();
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    // One for the journal, one for the command whose text is lost.
    let gaps = list(&mut reader, &Filter { kind: Some(Kind::Gap), ..Filter::default() });
    assert_eq!(gaps.len(), 2);
    assert_sound(data.path());
}
