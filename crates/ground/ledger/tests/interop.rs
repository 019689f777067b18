//! What others wrote must agree with what we write: the crates `tlog_tiles` and `signed_note`, and Go's
//! `golang.org/x/mod/sumdb` from Debian.
#![allow(clippy::unwrap_used, reason = "a test says plainly what it expects")]

use std::{collections::HashMap, fs, path::Path, process::Command};

use common::{fill, key, leaf, open, reader, signer};
use ledger::{CHECKPOINT_FILE, Hash, Note, TlogProof, leaf_hash, tree};
use proptest::prelude::*;
use tlog_tiles::{HashReader, Tile as TheirTile, TileHashReader, TileReader};

mod common;

/// Reads our files for their verifier.
struct Files<'a>(&'a Path);

impl TileReader for Files<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[TheirTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let path = |tile: &TheirTile| {
            let theirs = tile.path();
            // Their paths carry the tile height, as Go's do; tlog-tiles fixes it to 8.
            self.0.join(theirs.replacen("tile/8/data/", "tile/entries/", 1).replacen("tile/8/", "tile/", 1))
        };
        Ok(tiles.iter().map(|tile| fs::read(path(tile)).expect("a tile of the checkpoint")).collect())
    }

    fn save_tiles(&self, _: &[TheirTile], _: &[Vec<u8>]) {}
}

#[test]
fn tlog_tiles_and_signed_note_accept_our_files() {
    for size in [1u64, 2, 256, 300, 1000, 70_000] {
        let dir = tempfile::tempdir().unwrap();
        fill(&mut open(dir.path()), size, &[]);
        let bytes = fs::read(dir.path().join(CHECKPOINT_FILE)).unwrap();
        let note = signed_note::Note::from_bytes(&bytes).unwrap();
        let verifier = signed_note::StandardVerifier::new(&key().to_string()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let (verified, unverified) = note.verify(&known).unwrap();
        assert_eq!((verified.len(), unverified.len()), (1, 0));
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!((checkpoint.origin(), checkpoint.size()), (common::ORIGIN, size));

        let files = Files(dir.path());
        let tiles = TileHashReader::new(size, *checkpoint.hash(), &files);
        assert_eq!(tlog_tiles::tree_hash(size, &tiles).unwrap(), *checkpoint.hash());
        let snapshot = reader(dir.path()).snapshot().unwrap();
        for index in [0, size / 2, size - 1] {
            let theirs = tlog_tiles::prove_record(size, index, &tiles).unwrap();
            let ours = snapshot.prove_inclusion(index).unwrap();
            assert_eq!(
                theirs.iter().map(|hash| hash.0).collect::<Vec<_>>(),
                ours.iter().map(|hash| hash.0).collect::<Vec<_>>()
            );
            let leaf = tlog_tiles::record_hash(&leaf(index));
            tlog_tiles::check_record(&theirs, size, *checkpoint.hash(), index, leaf).unwrap();
        }
        for old in [1, size / 2 + 1, size] {
            let theirs = tlog_tiles::prove_tree(size, old, &tiles).unwrap();
            let ours = snapshot.prove_consistency(old).unwrap();
            assert_eq!(
                theirs.iter().map(|hash| hash.0).collect::<Vec<_>>(),
                ours.iter().map(|hash| hash.0).collect::<Vec<_>>()
            );
        }
    }
}

/// Their storage of all hashes of a small tree.
struct Stored(HashMap<u64, tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[index]).collect())
    }
}

proptest! {
    #[test]
    fn both_compute_the_same_roots_and_proofs(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..600), at in any::<prop::sample::Index>()) {
        let mut stored = Stored(HashMap::new());
        for (index, leaf) in (0u64..).zip(&leaves) {
            let first = tlog_tiles::stored_hash_count(index);
            let hashes = tlog_tiles::stored_hashes(index, leaf, &stored).unwrap();
            stored.0.extend((first..).zip(hashes));
        }
        let size = leaves.len() as u64;
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        prop_assert_eq!(tlog_tiles::tree_hash(size, &stored).unwrap().0, tree::root_of(&hashes).0);
        let index = at.index(leaves.len()) as u64;
        let subtree = |level: u8, index: u64| {
            let start = usize::try_from(index << level).unwrap();
            Ok::<_, ()>(tree::root_of(&hashes[start..start + (1 << level)]))
        };
        let inclusion: Vec<_> = tree::prove_inclusion(index, size, subtree).unwrap().iter().map(|hash| hash.0).collect();
        let theirs: Vec<_> = tlog_tiles::prove_record(size, index, &stored).unwrap().iter().map(|hash| hash.0).collect();
        prop_assert_eq!(inclusion, theirs);
        let consistency: Vec<_> = tree::prove_consistency(index + 1, size, subtree).unwrap().iter().map(|hash| hash.0).collect();
        let theirs: Vec<_> = tlog_tiles::prove_tree(size, index + 1, &stored).unwrap().iter().map(|hash| hash.0).collect();
        prop_assert_eq!(consistency, theirs);
    }

    #[test]
    fn both_write_and_read_notes_alike(text in "([\\PC ]{0,30}\n){1,4}") {
        let mut ours = Note::new(text.clone()).unwrap();
        ours.sign(&signer()).unwrap();
        let theirs = signed_note::Note::from_bytes(ours.to_string().as_bytes()).unwrap();
        prop_assert_eq!(theirs.to_bytes(), ours.to_string().into_bytes());
        let verifier = signed_note::StandardVerifier::new(&key().to_string()).unwrap();
        prop_assert!(theirs.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).is_ok());
        prop_assert_eq!(Note::parse(&theirs.to_bytes()).unwrap(), ours);
    }
}

/// Runs the Go program, which uses nothing of ours but the files.
fn go_verify(arguments: &[&str]) -> Result<String, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/interop/go/verify.go");
    let cache = std::env::temp_dir().join("trailgate-go-cache");
    let output = Command::new("go")
        .arg("run")
        .arg(source)
        .args(arguments)
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOFLAGS", "")
        .env("GOCACHE", cache)
        .output()
        .expect("this test needs Go and golang.org/x/mod: apt-get install golang-go golang-golang-x-mod-dev");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn go_verifies_a_checkpoint_an_entry_and_a_tlog_proof_from_our_files() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 70_000, &[500]);
    let (path, vkey) = (dir.path().to_str().unwrap(), key().to_string());
    for index in ["0", "255", "65536", "69999"] {
        let said = go_verify(&["ledger", &vkey, path, index]).unwrap();
        assert_eq!(said, format!("entry {index} is in the signed tree of 70000 entries\n"));
    }

    let proof: TlogProof = reader(dir.path()).snapshot().unwrap().prove(4242).unwrap();
    let (proof_file, entry_file) = (dir.path().join("4242.tlog-proof"), dir.path().join("4242.entry"));
    fs::write(&proof_file, proof.to_string()).unwrap();
    fs::write(&entry_file, leaf(4242)).unwrap();
    let arguments = ["proof", &vkey, proof_file.to_str().unwrap(), entry_file.to_str().unwrap()];
    assert_eq!(go_verify(&arguments).unwrap(), "entry 4242 is in the signed tree of 70000 entries\n");

    // It must be able to say no.
    fs::write(&entry_file, leaf(4243)).unwrap();
    assert!(go_verify(&arguments).unwrap_err().contains("does not hold"));
    let bundle = dir.path().join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[2] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(go_verify(&["ledger", &vkey, path, "0"]).unwrap_err().contains("does not hold"));
}
