use proptest::{prelude::*, sample::select};

use super::*;

fn any_leaf() -> impl Strategy<Value = Leaf> {
    let command = (
        select(&Class::ALL[..]),
        any::<Option<u16>>(),
        any::<bool>(),
        any::<[u8; 32]>(),
        any::<Option<[u8; 16]>>(),
    )
        .prop_map(|(class, verb, permit, hash, review)| CommandLeaf {
            class,
            verb,
            effect: if permit { Verdict::Permit } else { Verdict::Forbid },
            policy_hash: PolicyHash(hash),
            review: review.map(ReviewId::from_bytes),
        });
    let outcome = (
        (any::<u64>(), select(&Status::ALL[..]), any::<Option<bool>>(), any::<Option<u64>>()),
        (
            any::<u64>(),
            any::<u64>(),
            "[0-9A-Z]{5}",
            any::<bool>(),
            any::<Option<i32>>(),
            any::<Option<u64>>(),
        ),
    )
        .prop_map(
            |(
                (duration_us, status, executed, rows),
                (bytes_in, bytes_out, code, has_code, exit, not_kept),
            )| {
                let code = SqlState::parse(&code).filter(|_| has_code);
                OutcomeLeaf { duration_us, status, executed, rows, bytes_in, bytes_out, code, exit, not_kept }
            },
        );
    let start = (any::<[u8; 16]>(), any::<Option<[u8; 16]>>()).prop_map(|(node, principal)| StartLeaf {
        node: Some(NodeId::from_bytes(node)),
        principal: principal.map(PrincipalId::from_bytes),
        principal_kind: principal.map(|_| PrincipalKind::Service),
        credential: principal.map(CredentialId::from_bytes),
        proven_by: principal.map(|_| ProvenBy::Bearer),
        target: principal.map(TargetId::from_bytes),
        target_kind: principal.map(|_| TargetKind::Postgres),
    });
    let end =
        (any::<u64>(), select(&EndReason::ALL[..])).prop_map(|(entries, reason)| EndLeaf { entries, reason });
    let commitments = proptest::collection::btree_map(any::<u8>(), any::<[u8; 32]>(), 0..6);
    let captures = proptest::collection::btree_map(any::<u8>(), any::<(u64, Option<(u64, u64)>)>(), 0..3);
    let part = any::<(u8, u64, u64, Option<u64>)>();
    let slot = any::<(u32, Option<[u8; 32]>)>().prop_map(|(number, begun)| SlotLeaf { number, begun });
    let keeping = (proptest::collection::btree_set(any::<u32>(), 0..4), any::<Option<bool>>(), slot);
    (
        (select(&Kind::ALL[..]), any::<[u8; 16]>(), any::<u64>(), any::<u64>()),
        (command, outcome, start, end, any::<Option<[u8; 16]>>(), commitments, captures, part, keeping),
    )
        .prop_map(
            |(
                (kind, session, seq, at),
                (command, outcome, start, end, subject, commitments, captures, part, keeping),
            )| {
                let mut leaf = Leaf::new(kind, SessionId::from_bytes(session), seq, Timestamp(at));
                leaf.command = Some(command).filter(|_| matches!(kind, Kind::Command | Kind::CommandStarted));
                leaf.outcome = Some(outcome).filter(|_| kind == Kind::Command);
                leaf.start = Some(start).filter(|_| kind == Kind::SessionStart);
                leaf.end = Some(end).filter(|_| kind == Kind::SessionEnd);
                leaf.subject = subject.map(SessionId::from_bytes);
                leaf.captures = captures
                    .into_iter()
                    .map(|(field, (bytes, parts))| CapturedLeaf { field, bytes, parts })
                    .collect();
                let (field, number, bytes, previous) = part;
                leaf.part =
                    Some(PartLeaf { field, number, bytes, previous }).filter(|_| kind == Kind::Capture);
                leaf.erased = keeping.0.into_iter().filter(|_| kind == Kind::Erasure).collect();
                leaf.hold = keeping.1;
                leaf.slot = Some(keeping.2);
                leaf.commitments =
                    commitments.into_iter().map(|(field, hmac)| Commitment { field, hmac }).collect();
                leaf
            },
        )
}

fn encoded(leaf: &Leaf) -> Vec<u8> {
    let mut bytes = Vec::new();
    leaf.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn leaves_survive(leaf in any_leaf()) {
        prop_assert_eq!(Leaf::decode(&encoded(&leaf)), Ok(leaf));
    }

    /// There is one form only: whatever decodes encodes to the same bytes, so a changed byte is another leaf or none.
    #[test]
    fn a_changed_byte_is_another_leaf_or_none(leaf in any_leaf(), at: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = encoded(&leaf);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = Leaf::decode(&bytes) {
            prop_assert_ne!(&other, &leaf);
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_leaf_or_an_error(bytes: Vec<u8>) {
        let _ = Leaf::decode(&bytes);
    }
}

/// The format on paper, byte by byte: a change here is a change of the format.
#[test]
fn a_leaf_has_these_bytes() {
    let mut leaf =
        Leaf::new(Kind::Command, SessionId::from_bytes([0x11; 16]), 3, Timestamp(1_795_424_400_123_456));
    leaf.command = Some(CommandLeaf {
        class: Class::Write,
        verb: verb::code_of("DELETE"),
        effect: Verdict::Permit,
        policy_hash: PolicyHash([0x22; 32]),
        review: None,
    });
    leaf.outcome = Some(OutcomeLeaf {
        duration_us: 812,
        status: Status::Ok,
        executed: Some(true),
        rows: Some(1),
        bytes_in: 61,
        bytes_out: 28,
        code: None,
        exit: None,
        not_kept: None,
    });
    leaf.commitments.push(Commitment { field: 1, hmac: [0x33; 32] });
    leaf.slot = Some(SlotLeaf { number: 258, begun: Some([0x44; 32]) });
    let hex: String = encoded(&leaf).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "b2",
        "0001",
        "0104",
        "025011111111111111111111111111111111",
        "0303",
        "041b000660edd1972640",
        "0519032c",
        "0604",
        "071844",
        "0801",
        "09f5",
        "0a01",
        "0b183d",
        "0c181c",
        "0f01",
        "105820",
        &"22".repeat(32),
        "13a1015820",
        &"33".repeat(32),
        "1825190102",
        "18265820",
        &"44".repeat(32),
    ];
    assert_eq!(hex, expected.concat());
}
