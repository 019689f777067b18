use crate::{Ed25519Signer, TreeHead, leaf_hash, tree};

use super::*;

const ORIGIN: &str = "example.com/log";

fn log() -> Ed25519Signer {
    Ed25519Signer::from_seed(ORIGIN, &[3; 32]).unwrap()
}

fn witness(dir: &Path) -> Witness {
    let signer = Ed25519Signer::from_seed("witness.example/w1", &[4; 32]).unwrap().into_cosigner().unwrap();
    Witness::open(dir, Box::new(signer), vec![log().verifier().clone()]).unwrap()
}

/// The leaves of two histories that part at entry 5.
fn leaves(size: u64, fork: bool) -> Vec<Hash> {
    (0..size).map(|index| leaf_hash(format!("{index} {}", fork && index >= 5).as_bytes())).collect()
}

fn checkpoint(size: u64, fork: bool) -> Checkpoint {
    let head = TreeHead { origin: ORIGIN.into(), size, root: tree::root_of(&leaves(size, fork)) };
    Checkpoint::sign(head, &log()).unwrap()
}

fn request(old_size: u64, size: u64, fork: bool) -> AddCheckpoint {
    let hashes = leaves(size, fork);
    let subtree = |level: u8, index: u64| {
        let start = usize::try_from(index << level).unwrap();
        Ok::<_, ()>(tree::root_of(&hashes[start..start + (1 << level)]))
    };
    let proof =
        if old_size == 0 { Vec::new() } else { tree::prove_consistency(old_size, size, subtree).unwrap() };
    AddCheckpoint { old_size, proof, checkpoint: checkpoint(size, fork) }
}

fn send(witness: &Witness, request: &AddCheckpoint) -> Result<String, Refusal> {
    witness.add_checkpoint(request.to_string().as_bytes(), 1_700_000_000)
}

#[test]
fn a_growing_log_is_cosigned_and_a_restart_remembers_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = witness(dir.path());
    for (old, new) in [(0, 3), (3, 3), (3, 8), (8, 300)] {
        let request = request(old, new, false);
        let lines = parse_cosignatures(send(&first, &request).unwrap().as_bytes()).unwrap();
        let cosigned = request.checkpoint.with_signatures(lines);
        assert_eq!(cosigned.note().verify_cosignature(first.verifier()).unwrap(), 1_700_000_000);
    }
    drop(first);
    let second = witness(dir.path());
    assert_eq!(second.latest(ORIGIN).unwrap().size(), 300);
    assert!(matches!(send(&second, &request(0, 400, false)), Err(Refusal::Stale { size: 300 })));
    send(&second, &request(300, 400, false)).unwrap();
}

#[test]
fn a_log_that_was_set_back_or_forked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let witness = witness(dir.path());
    send(&witness, &request(0, 7, false)).unwrap();
    let refusal = |request: &AddCheckpoint| {
        let refusal = send(&witness, request).unwrap_err();
        (refusal.status(), refusal.size())
    };
    // Set back: the client knows of an older size only.
    assert_eq!(refusal(&request(4, 6, false)), (409, Some(7)));
    // Another tree of the same size, and one that goes on from another.
    assert_eq!(refusal(&request(7, 7, true)), (409, Some(7)));
    assert_eq!(refusal(&request(7, 9, true)), (422, None));
    let without_proof = AddCheckpoint { proof: Vec::new(), ..request(7, 9, false) };
    assert_eq!(refusal(&without_proof), (422, None));
    assert_eq!(witness.latest(ORIGIN).unwrap().root(), checkpoint(7, false).root());
}

#[test]
fn what_is_not_the_logs_is_refused_in_the_specifications_order() {
    let dir = tempfile::tempdir().unwrap();
    let witness = witness(dir.path());
    let status = |body: &str| witness.add_checkpoint(body.as_bytes(), 1).unwrap_err().status();
    let sound = request(0, 3, false).to_string();
    for malformed in [
        "",
        "old 0\n",
        &sound.replace("old 0", "old 00"),
        &sound.replace("old 0", "old -1"),
        &sound.replace("old 0", "old 4"),
        &sound.replace("old 0\n", "old 0\nAAAA\n"),
        &sound.replace("old 0\n", &format!("old 0\n{}", format!("{}\n", Hash::empty()).repeat(64))),
        &sound.replace("\n3\n", "\n3\nextension\n"),
    ] {
        assert_eq!(status(malformed), 400, "{malformed}");
    }
    assert_eq!(status(&sound.replacen(ORIGIN, "example.com/other", 1)), 404);
    assert_eq!(status(&sound.replace(&format!("— {ORIGIN} "), "— example.com/else ")), 403);
    assert_eq!(status(&sound.replace("\n3\n", "\n2\n")), 403);
    let with_proof = sound.replace("old 0\n", &format!("old 0\n{}\n", Hash::empty()));
    assert_eq!(status(&with_proof), 422);
    assert_eq!(witness.latest(ORIGIN), None);
    witness.add_checkpoint(sound.as_bytes(), 1).unwrap();
}

#[test]
fn a_witness_whose_memory_was_damaged_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = {
        let witness = witness(dir.path());
        send(&witness, &request(0, 7, false)).unwrap();
        witness.state_file(ORIGIN)
    };
    let sound = fs::read(&file).unwrap();
    for position in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[position] ^= 1;
        fs::write(&file, bytes).unwrap();
        let signer = Ed25519Signer::from_seed("witness.example/w1", &[4; 32]).unwrap();
        let logs = vec![log().verifier().clone()];
        let opened = Witness::open(dir.path(), Box::new(signer.into_cosigner().unwrap()), logs);
        let unnoticed = opened.ok().and_then(|witness| witness.latest(ORIGIN));
        // The log's own signature line is not looked at again: the cosignature covers what counts.
        assert!(
            unnoticed
                .is_none_or(|latest| *latest.root() == *checkpoint(7, false).root() && latest.size() == 7)
        );
    }
}

#[test]
fn nothing_is_cosigned_that_could_not_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let witness = witness(dir.path());
    send(&witness, &request(0, 3, false)).unwrap();
    // A directory in its place can't be replaced by a file.
    let file = witness.state_file(ORIGIN);
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in the way")).unwrap();
    assert_eq!(send(&witness, &request(3, 5, false)).unwrap_err().status(), 500);
    assert_eq!(witness.latest(ORIGIN).unwrap().size(), 3);
}
