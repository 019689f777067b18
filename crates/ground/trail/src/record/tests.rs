use proptest::prelude::*;
use vocabulary::{
    CredentialId, Decision, PolicyHash, PrincipalId, PrincipalKind, ProvenBy, TargetId, TargetKind, Verdict,
};

use super::*;

fn session_start() -> SessionStart {
    SessionStart {
        session: SessionId::from_bytes([1; 16]),
        seq: 1,
        at: Timestamp(1_795_424_400_123_456),
        node: NodeId::from_bytes([2; 16]),
        who: Who {
            id: PrincipalId::from_bytes([3; 16]),
            kind: PrincipalKind::Agent,
            name: "chatgpt".parse().unwrap(),
            on_behalf_of: Some("alice".parse().unwrap()),
            credential: CredentialId::from_bytes([4; 16]),
            proven_by: ProvenBy::ScramSha256,
        },
        client: ClientInfo {
            addr: "10.0.0.7:51234".into(),
            application: Some("psql".into()),
            task: None,
            ..ClientInfo::default()
        },
        target: Where {
            id: TargetId::from_bytes([5; 16]),
            name: "orders".parse().unwrap(),
            kind: TargetKind::Postgres,
            role: "app".into(),
            database: None,
            peer: Some("backend 4242".into()),
        },
    }
}

#[test]
fn whole_records_survive() {
    let start = session_start();
    let records = [
        Record::SessionStart(start.clone()),
        Record::SessionEnd(SessionEnd {
            session: start.session,
            seq: 9,
            at: start.at,
            entries: 9,
            reason: EndReason::Revoked,
            detail: Some("token revoked".into()),
        }),
        Record::Event(Event {
            session: start.session,
            seq: 2,
            at: start.at,
            kind: Kind::ControlChanged,
            actor: Some(start.who.clone()),
            client: Some(start.client),
            subject: Some(SessionId::from_bytes([8; 16])),
            what: "{}".into(),
        }),
        Record::NodeStart(NodeStart {
            session: start.session,
            seq: 1,
            at: start.at,
            node: start.node,
            release: "0.1.0".into(),
        }),
    ];
    for record in records {
        let mut bytes = Vec::new();
        record.encode_into(&mut bytes).unwrap();
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        // No record is the beginning of another: a cut one is never read as whole.
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err());
        }
        bytes.push(0);
        assert!(Record::decode(&bytes).is_err());
    }
}

proptest! {
    #[test]
    fn what_is_written_by_hand_is_what_postcard_writes(
        numbers: [u64; 6],
        small in 0u64..300,
        texts: [Vec<u8>; 4],
        status in prop::sample::select(Status::ALL.to_vec()),
        executed: Option<bool>,
        rows: Option<u64>,
        code: Option<String>,
        message: Option<String>,
        exit: Option<i32>,
        not_kept: Option<(u64, [u8; 32])>,
    ) {
        let [seq, at, duration_us, bytes_in, bytes_out, _] = numbers;
        let session = SessionId::from_bytes([7; 16]);
        let [facts, decision, text, params] = &texts;
        let at = Timestamp(at);
        for seq in [seq, small] {
            let intent = Intent { session, seq, at, facts, decision, text, params };
            let outcome = OutcomeRecord {
                session, seq, at, duration_us, status, executed, rows, bytes_in, bytes_out,
                code: code.as_deref(),
                message: message.as_deref(),
                exit,
                not_kept: not_kept.map(|(bytes, sha256)| NotKept { bytes, sha256 }),
            };
            let (mut by_hand, mut derived) = (b"before".to_vec(), b"before".to_vec());
            hot::intent(&intent, &mut by_hand);
            hot::outcome(&outcome, &mut by_hand);
            Record::Intent(intent).encode_into(&mut derived).unwrap();
            Record::Outcome(outcome).encode_into(&mut derived).unwrap();
            prop_assert_eq!(by_hand, derived);
            for record in [Record::Intent(intent), Record::Outcome(outcome)] {
                let mut bytes = Vec::new();
                record.encode_into(&mut bytes).unwrap();
                prop_assert_eq!(hot::read(&bytes), Some(record));
            }
        }
    }

    #[test]
    fn what_is_read_by_hand_is_what_postcard_reads(
        variant in 0u8..4,
        head: [u8; 16],
        mut tail in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60),
    ) {
        let mut bytes = vec![variant];
        bytes.extend_from_slice(&head);
        bytes.append(&mut tail);
        if let Some(by_hand) = hot::read(&bytes) {
            prop_assert_eq!(read::<Record>(&bytes).unwrap(), by_hand);
        } else if let Ok(derived) = read::<Record>(&bytes) {
            prop_assert!(!matches!(derived, Record::Intent(_) | Record::Outcome(_)));
        }
    }
}

#[test]
fn decision_and_facts_survive() {
    let decision = Decision {
        effect: Verdict::Forbid,
        policies: vec!["no-drop".into()],
        policy_hash: PolicyHash([9; 32]),
    };
    assert_eq!(decode_decision(&encode_decision(&decision)).unwrap(), (decision.clone(), None));
    let review = vocabulary::ReviewId::from_bytes([9; 16]);
    let hung = reviewed(&encode_decision(&decision), review);
    assert_eq!(decode_decision(&hung).unwrap(), (decision, Some(review)));
    assert!(decode_decision(&hung[..hung.len() - 1]).is_err());
    let facts =
        FactsRecord { verb: "DROP TABLE".into(), class: Class::Define, objects: vec!["public.carts".into()] };
    assert_eq!(FactsRecord::decode(&facts.encode()).unwrap(), facts);
}

#[test]
fn a_batch_that_a_record_was_pushed_to_has_it_as_its_frame() {
    let mut batch = Batch::new();
    Record::SessionStart(session_start()).encode(&mut batch).unwrap();
    assert_eq!(batch.len(), 1);
}

proptest! {
    #[test]
    fn intents_survive(
        session: [u8; 16], seq: u64, at: u64, facts: Vec<u8>, decision: Vec<u8>, text: Vec<u8>, params: Vec<u8>,
    ) {
        let intent = Intent {
            session: SessionId::from_bytes(session), seq, at: Timestamp(at),
            facts: &facts, decision: &decision, text: &text, params: &params,
        };
        let mut bytes = Vec::new();
        Record::Intent(intent).encode_into(&mut bytes).unwrap();
        prop_assert_eq!(Record::decode(&bytes).unwrap(), Record::Intent(intent));
    }

    #[test]
    fn outcomes_survive(
        seq: u64, duration_us: u64, status in 0..6usize, executed: Option<bool>, rows: Option<u64>, bytes_in: u64,
        bytes_out: u64, code: Option<String>, message: Option<String>, exit: Option<i32>, not_kept: Option<(u64, [u8; 32])>,
    ) {
        let outcome = OutcomeRecord {
            session: SessionId::from_bytes([7; 16]), seq, at: Timestamp(5), duration_us,
            status: Status::ALL[status], executed, rows, bytes_in, bytes_out,
            code: code.as_deref(), message: message.as_deref(), exit,
            not_kept: not_kept.map(|(bytes, sha256)| NotKept { bytes, sha256 }),
        };
        let mut bytes = Vec::new();
        Record::Outcome(outcome).encode_into(&mut bytes).unwrap();
        prop_assert_eq!(Record::decode(&bytes).unwrap(), Record::Outcome(outcome));
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
        let _ = Record::decode(&bytes);
        let _ = FactsRecord::decode(&bytes);
        let _ = decode_decision(&bytes);
        let _ = Params::new(&bytes).count();
    }

    #[test]
    fn params_survive(values: Vec<Option<Vec<u8>>>) {
        let mut pushed = ParamsBuf::new();
        let mut written = ParamsBuf::new();
        for value in &values {
            match value {
                None => { pushed.push_null(); written.push_null(); }
                Some(value) => {
                    prop_assert!(pushed.push(value));
                    prop_assert!(written.push_with(|buffer| buffer.extend_from_slice(value)));
                }
            }
        }
        prop_assert_eq!(&pushed, &written);
        let mut read = Params::new(pushed.as_bytes());
        let back: Vec<Option<Vec<u8>>> = read.by_ref().map(|value| value.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(back, values);
        prop_assert!(read.is_whole());
    }
}
