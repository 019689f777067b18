//! What the tests share: a small gateway that knows nothing but the trail.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{path::Path, sync::Arc, time::Duration};

use journal::Batch;
use trail::{
    Capture, CaptureField, EndReason, FactsRecord, Intent, KeyWrap, NodeKey, OutcomeRecord, ParamsBuf,
    Record, Recovery, SessionEnd, SessionStart, Settings, Trail, VerifyOptions, VerifyReport,
    record::{CAPTURE_RECORD_BYTES, encode_decision},
    verify,
};
use vocabulary::{
    Class, ClientInfo, CredentialId, Decision, NodeId, PolicyHash, PrincipalId, PrincipalKind, ProvenBy,
    SessionId, Status, TargetId, TargetKind, Timestamp, Verdict, Where, Who,
};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn keys() -> Arc<dyn KeyWrap> {
    Arc::new(NodeKey::new(&[7; 32]).unwrap())
}

pub fn settings() -> Settings {
    let mut settings = Settings::new(NodeId::from_bytes([9; 16]), "trail.test/node", keys());
    settings.seal_after = Duration::from_millis(20);
    settings.journal.segment_bytes = 256 * 1024;
    settings.journal.background_sync = Duration::from_millis(5);
    settings
}

pub fn open(data: &Path) -> (Trail, Recovery) {
    open_with(data, settings())
}

pub fn open_with(data: &Path, settings: Settings) -> (Trail, Recovery) {
    let (trail, recovery) = Trail::open(data, settings).unwrap();
    trail.start_sealer().unwrap();
    (trail, recovery)
}

pub fn verify_all(data: &Path) -> VerifyReport {
    let options = VerifyOptions { keys: Some(keys()), ..VerifyOptions::default() };
    verify(data, &options, |_, _| {}).unwrap()
}

pub fn assert_sound(data: &Path) -> VerifyReport {
    let report = verify_all(data);
    assert!(report.is_sound(), "{report}\n{:#?}", report.findings);
    report
}

pub fn who(name: &str) -> Who {
    Who {
        id: PrincipalId::from_bytes([3; 16]),
        kind: PrincipalKind::Agent,
        name: name.parse().unwrap(),
        on_behalf_of: Some("alice".parse().unwrap()),
        credential: CredentialId::from_bytes([4; 16]),
        proven_by: ProvenBy::ScramSha256,
    }
}

pub fn decision() -> Vec<u8> {
    let (effect, policy_hash) = (Verdict::Permit, PolicyHash([5; 32]));
    encode_decision(&Decision { effect, policies: Vec::new(), policy_hash })
}

pub fn facts(verb: &str, class: Class, objects: &[&str]) -> Vec<u8> {
    let objects = objects.iter().map(|&object| object.to_owned()).collect();
    FactsRecord { verb: verb.to_owned(), class, objects }.encode()
}

/// The first record of a client's session.
pub fn start(session: SessionId, name: &str, target: &str) -> SessionStart {
    SessionStart {
        session,
        seq: 1,
        at: Timestamp::now(),
        node: NodeId::from_bytes([9; 16]),
        who: who(name),
        client: ClientInfo {
            addr: "10.0.0.7:51234".into(),
            application: Some("psql".into()),
            task: None,
            ..ClientInfo::default()
        },
        target: Where {
            id: TargetId::from_bytes([6; 16]),
            name: target.parse().unwrap(),
            kind: TargetKind::Postgres,
            role: "app".into(),
            database: None,
            peer: Some("backend 4242".into()),
        },
    }
}

/// A client's session.
pub struct Client<'a> {
    trail: &'a Trail,
    pub id: SessionId,
    pub next: u64,
    batch: Batch,
}

impl<'a> Client<'a> {
    pub fn start(trail: &'a Trail, name: &str, target: &str) -> Self {
        let id = trail.new_session_id().unwrap();
        let mut client = Self { trail, id, next: 1, batch: Batch::new() };
        let seq = client.number();
        let start = start(id, name, target);
        assert_eq!(start.seq, seq);
        trail.append_one(&start.into()).unwrap();
        client
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn intent(&mut self, text: &[u8], params: &[Option<&str>], facts: &[u8]) -> u64 {
        let seq = self.number();
        let mut values = ParamsBuf::new();
        for param in params {
            match param {
                Some(value) => assert!(values.push(value.as_bytes())),
                None => values.push_null(),
            }
        }
        let decision = decision();
        Intent {
            session: self.id,
            seq,
            at: Timestamp::now(),
            facts,
            decision: &decision,
            text,
            params: values.as_bytes(),
        }
        .encode(&mut self.batch)
        .unwrap();
        self.trail.append(&mut self.batch).unwrap();
        seq
    }

    pub fn outcome(&mut self, outcome: OutcomeRecord<'_>) {
        outcome.encode(&mut self.batch).unwrap();
        self.trail.append(&mut self.batch).unwrap();
    }

    pub fn capture(&mut self, seq: u64, field: CaptureField, bytes: &[u8]) {
        for bytes in bytes.chunks(CAPTURE_RECORD_BYTES) {
            let piece = Capture { session: self.id, seq, at: Timestamp::now(), field, bytes };
            piece.encode(&mut self.batch).unwrap();
        }
        self.trail.append(&mut self.batch).unwrap();
    }

    pub fn ok(&mut self, seq: u64, rows: u64) {
        self.outcome(OutcomeRecord {
            duration_us: 812,
            executed: Some(true),
            rows: Some(rows),
            bytes_in: 61,
            bytes_out: 28,
            ..OutcomeRecord::bare(self.id, seq, Timestamp::now(), Status::Ok)
        });
    }

    pub fn run(&mut self, text: &str) -> u64 {
        let facts = facts("SELECT", Class::Read, &["public.carts"]);
        let seq = self.intent(text.as_bytes(), &[], &facts);
        self.ok(seq, 1);
        seq
    }

    pub fn end(mut self) -> SessionId {
        let seq = self.number();
        let reason = EndReason::Client;
        let end =
            SessionEnd { session: self.id, seq, at: Timestamp::now(), entries: seq, reason, detail: None };
        self.trail.append_one(&Record::SessionEnd(end)).unwrap();
        self.id
    }
}
