use std::time::Duration;

use ledger::{Ed25519Signer, LedgerReader, Signer as _};
use tempfile::tempdir;

use super::*;

fn node(number: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed(&format!("node-{number}.example"), &[number; 32]).unwrap()
}

fn signed(text: String, signer: &Ed25519Signer) -> Vec<u8> {
    let mut note = Note::new(text).unwrap();
    note.sign(signer).unwrap();
    note.to_string().into_bytes()
}

fn join(number: u8) -> Vec<u8> {
    signed(TrailLeaf::join_text(1_700_000_000, node(number).verifier()), &node(number))
}

fn head(number: u8, size: u64) -> TreeHead {
    let root = if size == 0 { Hash::empty() } else { Hash([size.to_le_bytes()[0]; 32]) };
    TreeHead { origin: node(number).verifier().name().to_owned(), size, root }
}

fn checkpoint(number: u8, size: u64) -> Vec<u8> {
    Checkpoint::sign(head(number, size), &node(number)).unwrap().to_string().into_bytes()
}

fn leave(number: u8, size: u64) -> Vec<u8> {
    signed(TrailLeaf::leave_text(1_700_000_000, &head(number, size)), &node(number))
}

#[test]
fn nodes_join_grow_leave_and_a_restart_knows_them() {
    let data = tempdir().unwrap();
    let key = data.path().join("trail-log.key");
    let open = || TrailLog::open(data.path(), "trail.example", &key).unwrap();
    let mut log = open();
    for leaf in [join(1), checkpoint(1, 3), join(2), checkpoint(2, 7), checkpoint(1, 4), leave(2, 9)] {
        log.add(&leaf).unwrap();
    }
    assert!(log.heartbeat(Duration::ZERO).unwrap());
    log.add(&join(2)).unwrap();
    log.add(&checkpoint(2, 12)).unwrap();
    log.publish().unwrap();
    assert!(log.add(&checkpoint(1, 5)).is_ok(), "what no checkpoint covers");
    drop(log);

    let mut log = open();
    let sizes =
        |log: &TrailLog| log.roster().nodes().map(|node| (node.here, node.head.size)).collect::<Vec<_>>();
    assert_eq!(sizes(&log), [(true, 4), (true, 12)], "is made anew by who has it");
    log.add(&checkpoint(1, 5)).unwrap();
    log.publish().unwrap();

    // From the first leaf on, as who verifies it does.
    let reader = LedgerReader::new(&data.path().join("trail-log"), log.verifier().clone());
    let snapshot = reader.snapshot().unwrap();
    let mut roster = Roster::default();
    for entry in snapshot.entries(0..snapshot.size()) {
        roster.apply(&TrailLeaf::parse(&entry.unwrap().1).unwrap(), log.verifier()).unwrap();
    }
    assert!(roster.nodes().eq(log.roster().nodes()));
}

#[test]
fn what_does_not_follow_or_is_not_signed_by_the_node_is_refused() {
    let data = tempdir().unwrap();
    let mut log = TrailLog::open(data.path(), "trail.example", &data.path().join("k")).unwrap();
    let refused = |log: &mut TrailLog, leaf: &[u8]| log.add(leaf).unwrap_err();
    refused(&mut log, &checkpoint(1, 3));
    log.add(&join(1)).unwrap();
    log.add(&checkpoint(1, 3)).unwrap();
    for size in [0, 2] {
        assert!(matches!(refused(&mut log, &checkpoint(1, size)), TrailLogError::OutOfPlace(_)));
    }
    // The same again is told apart from another history of the same length.
    assert!(matches!(refused(&mut log, &checkpoint(1, 3)), TrailLogError::Known(3)));
    let other = TreeHead { root: Hash([7; 32]), ..head(1, 3) };
    let other = Checkpoint::sign(other, &node(1)).unwrap().to_string();
    assert!(matches!(refused(&mut log, other.as_bytes()), TrailLogError::OutOfPlace(_)));
    assert!(matches!(refused(&mut log, &leave(1, 2)), TrailLogError::OutOfPlace(_)));
    // Another key under the node's name, and another's leave.
    let thief = Ed25519Signer::from_seed("node-1.example", &[9; 32]).unwrap();
    let stolen = signed(TrailLeaf::join_text(1, thief.verifier()), &thief);
    assert!(matches!(refused(&mut log, &stolen), TrailLogError::OutOfPlace(_)));
    let forged = signed(TrailLeaf::leave_text(1, &head(1, 3)), &thief);
    assert!(matches!(refused(&mut log, &forged), TrailLogError::Note(_)));
    let forged = Checkpoint::sign(head(1, 4), &thief).unwrap().to_string();
    assert!(matches!(refused(&mut log, forged.as_bytes()), TrailLogError::Note(_)));
    // Heartbeats are the trail log's own, and one with another roster does not follow.
    let beat = signed(TrailLeaf::heartbeat_text(1, &[]), &node(1));
    assert!(matches!(refused(&mut log, &beat), TrailLogError::OutOfPlace(_)));
    log.add(&leave(1, 3)).unwrap();
    refused(&mut log, &checkpoint(1, 9));
    let mut roster = log.roster().clone();
    let trail = Ed25519Signer::load("trail.example", &data.path().join("k")).unwrap();
    let empty = TrailLeaf::parse(&signed(TrailLeaf::heartbeat_text(1, &[]), &trail)).unwrap();
    assert!(matches!(roster.apply(&empty, trail.verifier()), Err(TrailLogError::OutOfPlace(_))));
}

#[test]
fn what_is_no_leaf_is_refused() {
    let sound = String::from_utf8(join(1)).unwrap();
    TrailLeaf::parse(sound.as_bytes()).unwrap();
    for bad in [
        sound.replace("join", "jump"),
        sound.replace("1700000000", "01700000000"),
        sound.replace("1700000000", "-1"),
        sound.replace("trail log v1", "trail log v2"),
        sound.replace("node-1.example+", "node-1.example+0"),
        sound.replacen("join\n", "join\n\n", 1),
        String::new(),
    ] {
        assert!(TrailLeaf::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}
