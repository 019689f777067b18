use proptest::prelude::*;
use vocabulary::{
    ClientInfo, CredentialId, NodeId, PrincipalId, PrincipalKind, ProvenBy, SessionId, TargetId, TargetKind,
    Where, Who,
};

use super::*;
use crate::{EndReason, NotKept, ParamsBuf, vault::Fields};

const SESSION: SessionId = SessionId::from_bytes([1; 16]);

/// What is shorter might turn up in a leaf by chance.
fn free_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9]{8,40}"
}

fn leaf_of(assembler: &Assembler) -> Vec<u8> {
    let mut bytes = Vec::new();
    Leaf { slot: Some(SlotLeaf { number: 0, begun: None }), ..assembler.leaf.clone() }.encode(&mut bytes);
    bytes
}

fn assert_hidden(assembler: &Assembler, texts: &[&str]) {
    for text in texts {
        let shows = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!shows(&leaf_of(assembler)), "the leaf shows {text}");
        assert!(shows(assembler.plain()), "the payload lacks {text}");
    }
}

fn assert_committed(assembler: &Assembler) {
    let leaf = Leaf::decode(&leaf_of(assembler)).unwrap();
    let fields = Fields::parse(assembler.plain().to_vec()).unwrap();
    let mut committer = Committer::new("trail.test/node");
    committer.entry(leaf.session, leaf.seq, leaf.kind);
    let mut commitments = leaf.commitments.iter();
    for (field, r, bytes) in fields.iter() {
        let commitment = commitments.next().unwrap();
        assert_eq!(commitment.field, field);
        assert!(committer.holds(r, field, bytes, &commitment.hmac));
        let mut other = bytes.to_vec();
        other.push(0);
        assert!(!committer.holds(r, field, &other, &commitment.hmac));
        committer.entry(leaf.session, leaf.seq + 1, leaf.kind);
        assert!(!committer.holds(r, field, bytes, &commitment.hmac));
        committer.entry(leaf.session, leaf.seq, leaf.kind);
    }
    assert_eq!(commitments.next(), None);
}

proptest! {
    #[test]
    fn a_leaf_holds_no_free_text(
        text in free_text(), param in free_text(), object in free_text(), verb in free_text(), policy in free_text(),
        message in free_text(), code in free_text(), sqlstate in "[A-Z0-9]{5}",
    ) {
        let mut assembler = Assembler::new("trail.test/node");
        let mut params = ParamsBuf::new();
        prop_assert!(params.push(param.as_bytes()));
        let facts = FactsRecord { verb: verb.clone(), class: Class::Read, objects: vec![object.clone()] }.encode();
        let (effect, policy_hash) = (Verdict::Forbid, PolicyHash([2; 32]));
        let decision =
            record::encode_decision(&Decision { effect, policies: vec![policy.clone()], policy_hash });
        let intent = Intent {
            session: SESSION, seq: 2, at: Timestamp(5), facts: &facts, decision: &decision, text: text.as_bytes(),
            params: params.as_bytes(),
        };
        let outcome = OutcomeRecord {
            code: Some(&code), message: Some(&message), not_kept: Some(NotKept { bytes: 3, sha256: [4; 32] }),
            ..OutcomeRecord::bare(SESSION, 2, Timestamp(9), Status::Error)
        };
        assembler.command(&intent, Some(&outcome), &[]).unwrap();
        assert_hidden(&assembler, &[&text, &param, &object, &verb, &policy, &message, &code]);
        assert_committed(&assembler);
        // Five characters that a client chose are not taken for a SQLSTATE because they look like one.
        prop_assume!(SqlState::known(&sqlstate).is_none());
        let outcome = OutcomeRecord { code: Some(&sqlstate), ..outcome };
        assembler.command(&intent, Some(&outcome), &[]).unwrap();
        assert_hidden(&assembler, &[&sqlstate]);
        let leaf = Leaf::decode(&leaf_of(&assembler)).unwrap();
        prop_assert_eq!(leaf.command.unwrap().effect, Verdict::Forbid);
        assembler.command(&intent, None, &[]).unwrap();
        assert_hidden(&assembler, &[&text, &param, &object, &verb, &policy]);
    }

    #[test]
    fn the_leaves_of_sessions_and_events_hold_no_free_text(
        principal in "[a-z][a-z0-9]{7,30}", person in "[a-z][a-z0-9]{7,30}", target in "[a-z][a-z0-9]{7,30}",
        role in free_text(), application in free_text(), addr in free_text(), detail in free_text(),
    ) {
        let mut assembler = Assembler::new("trail.test/node");
        let who = Who {
            id: PrincipalId::from_bytes([3; 16]),
            kind: PrincipalKind::Agent,
            name: principal.parse().unwrap(),
            on_behalf_of: Some(person.parse().unwrap()),
            credential: CredentialId::from_bytes([4; 16]),
            proven_by: ProvenBy::TokenInTls,
        };
        let client = ClientInfo { addr: addr.clone(), application: Some(application.clone()), task: None, ..ClientInfo::default() };
        let at = Timestamp(5);
        let start = SessionStart {
            session: SESSION, seq: 1, at, node: NodeId::from_bytes([2; 16]), who: who.clone(), client: client.clone(),
            target: Where {
                id: TargetId::from_bytes([5; 16]), name: target.parse().unwrap(), kind: TargetKind::Postgres,
                role: role.clone(), database: Some(detail.clone()), peer: None,
            },
        };
        assembler.session_start(&start).unwrap();
        assert_hidden(&assembler, &[&principal, &person, &target, &role, &application, &addr, &detail]);
        assert_committed(&assembler);
        let end = SessionEnd {
            session: SESSION, seq: 2, at, entries: 2, reason: EndReason::Client, detail: Some(detail.clone()),
        };
        assembler.session_end(&end, &[]).unwrap();
        assert_hidden(&assembler, &[&detail]);
        assert_committed(&assembler);
        for what in [detail.clone(), json!({ "detail": detail }).to_string()] {
            let event = Event {
                session: SESSION, seq: 3, at, kind: Kind::ControlChanged, actor: Some(who.clone()),
                client: Some(client.clone()), subject: None, what,
            };
            assembler.event(&event, Beside::default()).unwrap();
            assert_hidden(&assembler, &[&detail, &principal, &addr]);
            assert_committed(&assembler);
        }
    }
}

#[test]
fn what_the_leaf_says_is_not_said_again() {
    let mut assembler = Assembler::new("trail.test/node");
    let facts = FactsRecord { verb: "BEGIN".into(), class: Class::Session, objects: Vec::new() }.encode();
    let (effect, policy_hash) = (Verdict::Permit, PolicyHash([2; 32]));
    let decision = record::encode_decision(&Decision { effect, policies: Vec::new(), policy_hash });
    let intent = Intent {
        session: SESSION,
        seq: 2,
        at: Timestamp(5),
        facts: &facts,
        decision: &decision,
        text: b"begin",
        params: &[],
    };
    assembler.command(&intent, None, &[]).unwrap();
    let leaf = Leaf::decode(&leaf_of(&assembler)).unwrap();
    let command = CommandLeaf {
        class: Class::Session,
        verb: verb::code_of("BEGIN"),
        effect,
        policy_hash,
        review: None,
    };
    assert_eq!((leaf.command, leaf.commitments.len()), (Some(command), 1));
}

#[test]
fn what_is_not_facts_or_decision_is_kept_as_it_is() {
    let mut assembler = Assembler::new("trail.test/node");
    let intent = Intent {
        session: SESSION,
        seq: 2,
        at: Timestamp(5),
        facts: b"not facts at all",
        decision: b"nor a decision",
        text: b"",
        params: &[],
    };
    assembler.command(&intent, None, &[]).unwrap();
    let leaf = Leaf::decode(&leaf_of(&assembler)).unwrap();
    assert_eq!(leaf.command.unwrap().class, Class::Unknown);
    assert_hidden(&assembler, &["not facts at allnor a decision"]);
}
