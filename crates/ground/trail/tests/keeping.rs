//! Retention classes, expiry, legal holds, and gateways that can write but not read.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::{path::Path, sync::Arc};

use common::{Client, PATIENCE, assert_sound, facts, keys, open_with, settings, verify_all};
use tempfile::tempdir;
use trail::{
    CaptureField, Covers, DataKey, Entry, Keep, KeyRing, KeyWrap, NodeKey, Reader, Retention, RetentionRule,
    Settings, Trail, TrailError, VaultError, VerifyOptions, verify,
};
use vocabulary::{Class, EntryId, Kind, SessionId, Timestamp};

const HOUR_US: u64 = 3_600_000_000;

/// Output for an hour, all of the target `scratch` for two, everything else for ever.
fn retention() -> Retention {
    let rule = |target: Option<&str>, covers, class: &str| RetentionRule {
        target: target.map(str::to_owned),
        principal: None,
        covers,
        class: class.to_owned(),
    };
    let hours = |class: &str, hours| (class.to_owned(), Keep::ForMicros(hours * HOUR_US));
    Retention {
        rules: vec![rule(Some("scratch"), Covers::All, "brief"), rule(None, Covers::Captured, "output")],
        periods: [hours("output", 1), hours("brief", 2)].into_iter().collect(),
    }
}

fn with_retention() -> Settings {
    Settings { retention: retention(), ..settings() }
}

/// A session with one command that writes something.
fn session(trail: &Trail, target: &str) -> EntryId {
    let mut client = Client::start(trail, "chatgpt", target);
    let seq = client.intent(b"make all", &[], &facts("EXEC", Class::Execute, &[]));
    client.capture(seq, CaptureField::Stdout, b"done\n");
    client.ok(seq, 0);
    EntryId { session: client.end(), seq }
}

fn in_hours(hours: u64) -> Timestamp {
    Timestamp(Timestamp::now().0 + hours * HOUR_US + 60_000_000)
}

fn show(data: &Path, id: EntryId) -> Entry {
    Reader::open(data, Some(keys())).unwrap().show(id).unwrap()
}

fn output(data: &Path, id: EntryId) -> Result<Vec<u8>, TrailError> {
    let mut reader = Reader::open(data, Some(keys())).unwrap();
    let pieces: Result<Vec<Vec<u8>>, TrailError> =
        reader.captured(id, CaptureField::Stdout).unwrap().collect();
    Ok(pieces?.concat())
}

fn text(data: &Path, id: EntryId) -> Option<String> {
    show(data, id).command.unwrap().text
}

#[test]
fn each_class_expires_by_itself_and_an_entry_says_so() {
    let data = tempdir().unwrap();
    let (trail, _) = open_with(data.path(), with_retention());
    let (kept, brief) = (session(&trail, "orders"), session(&trail, "scratch"));
    let open = Client::start(&trail, "claude", "scratch");
    assert_eq!(trail.expire(Timestamp::now()).unwrap().keys, 0);
    assert_eq!(output(data.path(), kept).unwrap(), b"done\n");

    let expired = trail.expire(in_hours(1)).unwrap();
    assert_eq!((expired.keys, expired.entries), (1, 1));
    let gone = output(data.path(), kept).unwrap_err();
    assert!(matches!(gone, TrailError::Closed { ref reason, .. } if reason.starts_with("erased")), "{gone}");
    assert_eq!(text(data.path(), kept).as_deref(), Some("make all"));
    assert_eq!(text(data.path(), brief).as_deref(), Some("make all"));

    assert_eq!(trail.expire(in_hours(2)).unwrap().keys, 1, "not that of the session that is open");
    assert_eq!(text(data.path(), brief), None);
    assert_eq!(text(data.path(), kept).as_deref(), Some("make all"));
    assert_eq!(trail.expire(in_hours(2)).unwrap().keys, 0, "once is enough");
    open.end();
    trail.close(PATIENCE).unwrap();
    let report = assert_sound(data.path());
    assert_eq!(report.missing, 0);
    let mut reader = Reader::open(data.path(), Some(keys())).unwrap();
    let filter = trail::Filter { kind: Some(Kind::Erasure), ..trail::Filter::default() };
    let entries = reader.list(&filter).unwrap();
    assert_eq!(entries.len(), 2);
    let event = entries[1].event.as_ref().unwrap();
    assert_eq!(event["reason"], "its retention is over");
    assert_eq!(event["sessions"]["output"][0], kept.session.to_string());
}

#[test]
fn a_hold_keeps_payloads_from_people_and_from_time() {
    let data = tempdir().unwrap();
    let (trail, _) = open_with(data.path(), with_retention());
    let id = session(&trail, "scratch");
    let hold = trail.hold(id.session, Some(common::who("alice")), None, "a lawsuit").unwrap();
    assert!(matches!(trail.hold(id.session, None, None, "again"), Err(TrailError::OnHold(_))));
    assert!(matches!(trail.erase(id.session, None, None, "please"), Err(TrailError::OnHold(_))));
    assert_eq!(trail.expire(in_hours(5)).unwrap().keys, 0);
    // It holds over a restart.
    trail.close(PATIENCE).unwrap();
    let (trail, _) = open_with(data.path(), with_retention());
    assert_eq!(trail.holds().unwrap().into_iter().collect::<Vec<_>>(), [id.session]);
    assert_eq!(trail.expire(in_hours(5)).unwrap().keys, 0);
    assert!(matches!(trail.erase(id.session, None, None, "please"), Err(TrailError::OnHold(_))));
    let entry = show(data.path(), hold);
    assert_eq!(
        (entry.kind, entry.event.unwrap()["reason"].clone()),
        (Kind::ControlChanged, "a lawsuit".into())
    );

    trail.release(id.session, None, None, "settled").unwrap();
    assert!(matches!(trail.release(id.session, None, None, "again"), Err(TrailError::NotOnHold(_))));
    assert_eq!(trail.expire(in_hours(5)).unwrap().keys, 1);
    assert!(matches!(trail.hold(id.session, None, None, "too late"), Err(TrailError::AlreadyErased(_))));
    let nobody = SessionId::from_bytes([0xaa; 16]);
    assert!(matches!(trail.hold(nobody, None, None, "who"), Err(TrailError::NoSession(_))));
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

#[test]
fn an_open_session_can_be_held() {
    let data = tempdir().unwrap();
    let (trail, _) = open_with(data.path(), with_retention());
    let mut client = Client::start(&trail, "chatgpt", "scratch");
    client.run("SELECT 1");
    trail.hold(client.id, None, None, "watched").unwrap();
    let session = client.end();
    assert!(matches!(trail.erase(session, None, None, "please"), Err(TrailError::OnHold(_))));
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
}

/// Wraps for somebody else: what a gateway has that only knows an age recipient, or may only call a service's `Encrypt`.
struct WriteOnly(NodeKey);

impl KeyWrap for WriteOnly {
    fn id(&self) -> &str {
        "age1somebody"
    }

    fn opens(&self, _id: &str) -> bool {
        false
    }

    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError> {
        self.0.wrap(context, key)
    }

    fn unwrap(&self, _id: &str, _context: &[u8], _wrapped: &[u8]) -> Result<DataKey, VaultError> {
        Err(VaultError::Unwrap)
    }
}

/// The somebody.
struct Reads(NodeKey);

impl KeyWrap for Reads {
    fn id(&self) -> &str {
        "age1somebody"
    }

    fn opens(&self, id: &str) -> bool {
        id == "age1somebody"
    }

    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError> {
        self.0.wrap(context, key)
    }

    fn unwrap(&self, id: &str, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
        self.0.unwrap(id, context, wrapped)
    }
}

fn write_only() -> Settings {
    let writes: Arc<dyn KeyWrap> = Arc::new(WriteOnly(NodeKey::new(&[1; 32]).unwrap()));
    Settings { keys: Arc::new(KeyRing::new(writes, vec![keys()])), ..settings() }
}

#[test]
fn a_gateway_that_can_only_write_goes_on_after_a_crash() {
    let data = tempdir().unwrap();
    // Before there was a recipient, the node key wrapped.
    let (trail, _) = open_with(data.path(), settings());
    let before = session(&trail, "orders");
    trail.close(PATIENCE).unwrap();
    let during = {
        let (trail, _) = open_with(data.path(), write_only());
        let mut client = Client::start(&trail, "chatgpt", "orders");
        let seq = client.intent(b"make all", &[], &facts("EXEC", Class::Execute, &[]));
        trail.flush(PATIENCE).unwrap();
        EntryId { session: client.id, seq }
    };
    // It can't unwrap the key that the session had: what is left of it is sealed under a new one.
    let (trail, recovery) = open_with(data.path(), write_only());
    assert_eq!(recovery.commands, 1);
    trail.close(PATIENCE).unwrap();
    assert_eq!(text(data.path(), before).as_deref(), Some("make all"));
    let sealed = show(data.path(), during);
    assert_eq!(sealed.command.unwrap().text, None);
    assert!(sealed.payload.unwrap().contains("age1somebody"));
    let report = verify_all(data.path());
    assert!(report.is_sound() && report.sealed > 0, "{report}");

    let reads: Arc<dyn KeyWrap> = Arc::new(Reads(NodeKey::new(&[1; 32]).unwrap()));
    let ring: Arc<dyn KeyWrap> = Arc::new(KeyRing::new(reads, vec![keys()]));
    let entry = Reader::open(data.path(), Some(Arc::clone(&ring))).unwrap().show(during).unwrap();
    assert_eq!(entry.command.unwrap().text.as_deref(), Some("make all"));
    assert_eq!(
        entry.principal.unwrap().name.as_deref(),
        Some("chatgpt"),
        "named under the session's first key"
    );
    let report =
        verify(data.path(), &VerifyOptions { keys: Some(ring), ..VerifyOptions::default() }, |_, _| {})
            .unwrap();
    assert!(report.is_sound() && report.sealed == 0, "{report}");
}
