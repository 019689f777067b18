//! What the trail reads back: records, leaves, the journal and the ledger's files.

use std::{fs, io};

use journal::{Batch, Journal, Settings};
use ledger::{
    Checkpoint, Ed25519Signer, Hash, KeyError, KeyKind, Signer as _, TlogProof, TreeHead, VerifierKey,
    bundle, leaf_hash, node_hash, tile,
};
use trail::leaf::{CommandLeaf, Commitment, EndLeaf, Leaf, OutcomeLeaf, SlotLeaf, SqlState, StartLeaf};
use trail::record::{
    EndReason, Event, FactsRecord, Intent, NodeStart, NotKept, OutcomeRecord, ParamsBuf, Record, SessionEnd,
    SessionStart, encode_decision,
};
use vocabulary::{
    Class, ClientInfo, CredentialId, Decision, Kind, NodeId, PolicyHash, PrincipalId, PrincipalKind,
    ProvenBy, SessionId, Status, TargetId, TargetKind, Timestamp, Verdict, Where, Who,
};

use super::super::Seed;

const AT: Timestamp = Timestamp(1_795_424_400_123_456);
const ORIGIN: &str = "example.com/log";

pub fn seeds() -> io::Result<Vec<Seed>> {
    let journal = journal()?;
    let torn = journal.get(..journal.len() - 40).unwrap_or_default().to_vec();
    let mut seeds = vec![
        ("journal", "three_frames", journal),
        ("journal", "torn", torn),
        ("journal", "no_header", b"tgjrnl\0\x01".to_vec()),
    ];
    seeds.extend(params());
    seeds.extend(records());
    seeds.extend(leaves());
    seeds.extend(notes().map_err(io::Error::other)?);
    seeds.extend(tiles());
    Ok(seeds)
}

fn session() -> SessionId {
    SessionId::from_bytes([1; 16])
}

/// A segment with three frames, cut to 32 bytes behind the last.
fn journal() -> io::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let settings = Settings { segment_bytes: Settings::LEAST_SEGMENT_BYTES, ..Settings::default() };
    let (journal, _) = Journal::open(folder.path(), settings).map_err(io::Error::other)?;
    for payload in [&b"first"[..], b"", b"and the third"] {
        let mut batch = Batch::new();
        batch.push(|buffer| buffer.extend_from_slice(payload));
        journal.append(&mut batch).map_err(io::Error::other)?;
    }
    drop(journal);
    let mut bytes = fs::read(folder.path().join("00000000000000000001.journal"))?;
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
    bytes.truncate(end + 33);
    Ok(bytes)
}

fn params() -> Vec<Seed> {
    let mut some = ParamsBuf::new();
    some.push_null();
    for value in [&b"42"[..], b"", b"\xff"] {
        assert!(some.push(value));
    }
    let torn = some.as_bytes().split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default();
    vec![
        ("params", "some", some.as_bytes().to_vec()),
        ("params", "torn", torn),
        ("params", "length_4_gib", vec![0xff, 0xff, 0xff, 0xff, 1]),
    ]
}

fn who() -> Who {
    Who {
        id: PrincipalId::from_bytes([3; 16]),
        kind: PrincipalKind::Agent,
        name: "chatgpt".parse().expect("a name"),
        on_behalf_of: Some("alice".parse().expect("a name")),
        credential: CredentialId::from_bytes([4; 16]),
        proven_by: ProvenBy::ScramSha256,
    }
}

fn client() -> ClientInfo {
    ClientInfo {
        addr: "10.0.0.7:51234".into(),
        application: Some("psql".into()),
        task: None,
        tls: None,
        settings: Default::default(),
    }
}

fn records() -> Vec<Seed> {
    let (session, at, node) = (session(), AT, NodeId::from_bytes([2; 16]));
    let facts =
        FactsRecord { verb: "DELETE".into(), class: Class::Write, objects: vec!["public.carts".into()] };
    let decision = Decision {
        effect: Verdict::Permit,
        policies: vec!["default".into()],
        policy_hash: PolicyHash([6; 32]),
    };
    let mut params = ParamsBuf::new();
    assert!(params.push(b"7"));
    let target = Where {
        id: TargetId::from_bytes([5; 16]),
        name: "orders".parse().expect("a name"),
        kind: TargetKind::Postgres,
        role: "app".into(),
        database: None,
        peer: Some("backend 4242".into()),
    };
    let intent = Intent {
        session,
        seq: 2,
        at,
        facts: &facts.encode(),
        decision: &encode_decision(&decision),
        text: b"DELETE FROM carts WHERE id = $1",
        params: params.as_bytes(),
    };
    let outcome = OutcomeRecord {
        executed: Some(true),
        rows: Some(3),
        code: Some("57014"),
        message: Some("canceling statement due to user request"),
        exit: Some(-1),
        not_kept: Some(NotKept { bytes: 1 << 40, sha256: [9; 32] }),
        ..OutcomeRecord::bare(session, 2, at, Status::Cancelled)
    };
    let end = SessionEnd {
        session,
        seq: 3,
        at,
        entries: 3,
        reason: EndReason::Revoked,
        detail: Some("over".into()),
    };
    let event = Event {
        session,
        seq: 2,
        at,
        kind: Kind::ControlChanged,
        actor: Some(who()),
        client: Some(client()),
        subject: Some(session),
        what: "{}".into(),
    };
    let start = SessionStart { session, seq: 1, at, node, who: who(), client: client(), target };
    [
        ("session_start", Record::from(start)),
        ("intent", Record::from(intent)),
        ("outcome", Record::from(outcome)),
        ("session_end", Record::from(end)),
        ("event", Record::from(event)),
        ("node_start", Record::from(NodeStart { session, seq: 1, at, node, release: "0.1.0".into() })),
    ]
    .into_iter()
    .map(|(name, record)| {
        let mut bytes = Vec::new();
        record.encode_into(&mut bytes).expect("memory takes everything");
        ("record", name, bytes)
    })
    .collect()
}

fn leaves() -> Vec<Seed> {
    let slot = Some(SlotLeaf { number: 7, begun: Some([8; 32]) });
    let leaf = |kind| Leaf { slot, ..Leaf::new(kind, session(), 2, AT) };
    let command = CommandLeaf {
        class: Class::Write,
        verb: Some(3),
        effect: Verdict::Permit,
        policy_hash: PolicyHash([6; 32]),
        review: None,
    };
    let outcome = OutcomeLeaf {
        duration_us: 1_500,
        status: Status::Error,
        executed: Some(true),
        rows: Some(u64::MAX),
        bytes_in: 23,
        bytes_out: 24,
        code: SqlState::known("42P01"),
        exit: Some(-1),
        not_kept: Some(256),
    };
    let start = StartLeaf {
        node: Some(NodeId::from_bytes([2; 16])),
        principal: Some(PrincipalId::from_bytes([3; 16])),
        principal_kind: Some(PrincipalKind::Agent),
        credential: Some(CredentialId::from_bytes([4; 16])),
        proven_by: Some(ProvenBy::Bearer),
        target: Some(TargetId::from_bytes([5; 16])),
        target_kind: Some(TargetKind::Postgres),
    };
    let commitments = (1..3).map(|field| Commitment { field, hmac: [field; 32] }).collect();
    let full = Leaf { command: Some(command), outcome: Some(outcome), commitments, ..leaf(Kind::Command) };
    let started = Leaf { command: Some(command), ..leaf(Kind::CommandStarted) };
    let first = Leaf { start: Some(start), ..leaf(Kind::SessionStart) };
    let last =
        Leaf { end: Some(EndLeaf { entries: 24, reason: EndReason::Client }), ..leaf(Kind::SessionEnd) };
    let subject = Leaf { subject: Some(session()), ..leaf(Kind::ControlChanged) };
    [
        ("command", full),
        ("command_started", started),
        ("session_start", first),
        ("session_end", last),
        ("subject", subject),
    ]
    .into_iter()
    .map(|(name, leaf)| {
        let mut bytes = Vec::new();
        leaf.encode(&mut bytes);
        ("leaf", name, bytes)
    })
    .collect()
}

fn notes() -> Result<Vec<Seed>, KeyError> {
    let signer = Ed25519Signer::from_seed(ORIGIN, &[3; 32])?;
    let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
    let head = TreeHead { origin: ORIGIN.into(), size: 2, root: node_hash(&a, &b) };
    let checkpoint = Checkpoint::sign(head.clone(), &signer).expect("a checkpoint");
    let empty = TreeHead { origin: ORIGIN.into(), size: 0, root: Hash::empty() };
    let proof = TlogProof {
        extra: Some(b"extra".to_vec()),
        index: 1,
        hashes: vec![a],
        checkpoint: checkpoint.clone(),
    };
    let bare = TlogProof { extra: None, ..proof.clone() };
    let note = checkpoint.to_string();
    let line = note.lines().last().unwrap_or_default().to_owned();
    let cosigner = VerifierKey::new("witness.example", KeyKind::Cosignature, [7; 32])?;
    let numbers = |small: u64, large: u64| [small.to_le_bytes(), large.to_le_bytes()].concat();
    let hashes = |hashes: &[Hash]| tile::encode_hashes(hashes);
    let c = leaf_hash(b"c");
    let three = node_hash(&head.root, &c);
    Ok(vec![
        ("note", "signed", note.clone().into()),
        ("note", "two_signatures", format!("{note}— a AAAAAAE=\n").into()),
        ("note", "line", line.into()),
        ("note", "blank_lines", "text\n\n\n— a AAAAAAE=\n".into()),
        ("note", "not_canonical", "text\n\n— a AAAAAAF=\n".into()),
        ("checkpoint", "signed", note.into()),
        ("checkpoint", "text", head.to_string().into()),
        ("checkpoint", "empty", empty.to_string().into()),
        ("checkpoint", "leading_zero", head.to_string().replace("\n2\n", "\n02\n").into()),
        ("checkpoint", "largest", head.to_string().replace("\n2\n", "\n18446744073709551616\n").into()),
        ("tlog_proof", "extra", proof.to_string().into()),
        ("tlog_proof", "bare", bare.to_string().into()),
        ("tlog_proof", "empty_extra", bare.to_string().replace("index", "extra \nindex").into()),
        ("verifier_key", "log", signer.verifier().to_string().into()),
        ("verifier_key", "cosigner", cosigner.to_string().into()),
        (
            "verifier_key",
            "wrong_id",
            "example.com/log+00000000+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH".into(),
        ),
        ("proof", "inclusion", [numbers(1, 2), hashes(&[b, head.root, a])].concat()),
        ("proof", "consistency", [numbers(2, 3), hashes(&[head.root, three, c])].concat()),
        ("proof", "largest", [numbers(u64::MAX - 1, u64::MAX), hashes(&[a; 66])].concat()),
        ("proof", "empty", [numbers(0, 0), hashes(&[Hash::empty(); 2])].concat()),
    ])
}

fn tiles() -> Vec<Seed> {
    let mut entries = vec![0, 3];
    for entry in [&b"one"[..], b"", b"three"] {
        assert!(bundle::push_entry(&mut entries, entry));
    }
    let torn = entries.split_last().map(|(_, rest)| rest.to_vec()).unwrap_or_default();
    let hashes = [&[0, 2][..], &tile::encode_hashes(&[leaf_hash(b"a"), leaf_hash(b"b")])].concat();
    let path = |name, text: &str| ("tile_path", name, text.as_bytes().to_vec());
    vec![
        ("bundle", "three", entries),
        ("bundle", "torn", torn),
        ("bundle", "hashes", hashes),
        ("bundle", "width_65535", vec![0xff, 0xff, 0, 0]),
        path("full", "tile/0/x001/x234/067"),
        path("partial", "tile/entries/000.p/255"),
        path("width_256", "tile/entries/000.p/256"),
        path("largest", "tile/7/x018/x446/x744/x073/x709/x551/615"),
        path("too_large", "tile/7/x018/x446/x744/x073/x709/x551/616"),
        path("level_64", "tile/64/000"),
        path("upwards", "tile/0/../../key"),
    ]
}
