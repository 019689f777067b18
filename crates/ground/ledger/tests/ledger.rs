//! Writing, reading, proving and verifying on a real directory.
#![allow(clippy::unwrap_used, reason = "a test says plainly what it expects")]

use std::{fs, sync::atomic::AtomicBool, sync::atomic::Ordering, thread};

use common::{files, fill, key, leaf, open, open_compressing, reader, signer};
use ledger::{
    Checkpoint, Ed25519Signer, Error, History, KeyError, Ledger, Tile, TileKind, TlogProof, TreeHead, tile,
    verify_all, verify_consistency,
};

mod common;

#[test]
fn a_new_ledger_has_a_signed_checkpoint_of_size_0() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert_eq!(ledger.published().unwrap().size(), 0);
    let text = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    assert!(
        text.starts_with("example.com/trail/node-1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— ")
    );
    assert_eq!(verify_all(dir.path(), &key(), |_, _| {}).unwrap().checkpoints, 1);
}

#[test]
fn the_files_are_exactly_those_that_tlog_tiles_specifies() {
    for size in [1u64, 255, 256, 257, 700, 65_536, 70_000] {
        let dir = tempfile::tempdir().unwrap();
        fill(&mut open(dir.path()), size, &[3, 300, 1000]);
        let mut expected: Vec<_> = tile::tiles_of(size).map(|tile| tile.file()).collect();
        // Partial tiles of earlier checkpoints stay as long as their tile is not full.
        for earlier in [3u64, 300, 1000].into_iter().filter(|earlier| *earlier < size) {
            for kind in tile::kinds() {
                let Some(partial) = tile::frontier(kind, earlier) else { continue };
                let now = tile::tile_at(kind, partial.index, size).unwrap();
                if !now.is_full() && now != partial {
                    expected.push(partial.file());
                }
            }
        }
        expected.extend(["checkpoint".into(), "checkpoints".into(), "lock".into()]);
        expected.sort();
        expected.dedup();
        assert_eq!(files(dir.path()), expected, "size {size}");
        verify_all(dir.path(), &key(), |_, _| {}).unwrap();
    }
}

#[test]
fn a_tree_of_70_000_has_the_tiles_of_the_specifications_example() {
    let tiles: Vec<_> = tile::tiles_of(70_000).filter(|tile| tile.kind != TileKind::Entries).collect();
    let at = |level| tiles.iter().filter(move |tile| tile.kind == TileKind::Level(level));
    assert_eq!(at(0).filter(|tile| tile.is_full()).count(), 273);
    assert_eq!(at(0).find(|tile| !tile.is_full()).map(|tile| tile.width), Some(112));
    assert_eq!(at(1).map(|tile| tile.width).collect::<Vec<_>>(), [256, 17]);
    assert_eq!(at(2).map(|tile| tile.width).collect::<Vec<_>>(), [1]);
    assert_eq!(tiles.len(), 273 + 1 + 2 + 1);
}

#[test]
fn entries_read_back_forwards_backwards_and_from_both_ends() {
    for compressing in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = if compressing { open_compressing(dir.path()) } else { open(dir.path()) };
        fill(&mut ledger, 1000, &[10, 600]);
        let snapshot = reader(dir.path()).snapshot().unwrap();
        let all: Vec<_> = (0..1000).map(|index| (index, leaf(index))).collect();
        assert_eq!(snapshot.entries(0..u64::MAX).collect::<Result<Vec<_>, _>>().unwrap(), all);
        let mut backwards = snapshot.entries(0..1000).rev().collect::<Result<Vec<_>, _>>().unwrap();
        backwards.reverse();
        assert_eq!(backwards, all);
        let mut both = snapshot.entries(250..260);
        assert_eq!(both.next().unwrap().unwrap().0, 250);
        assert_eq!(both.next_back().unwrap().unwrap().0, 259);
        assert_eq!(both.count(), 8);
        assert_eq!(snapshot.entry(999).unwrap(), leaf(999));
        assert!(matches!(snapshot.entry(1000), Err(Error::OutOfRange { position: 1000, size: 1000 })));
        assert_eq!(dir.path().join("tile/entries/000.zst").exists(), compressing);
        assert_eq!(dir.path().join("tile/entries/000").exists(), !compressing);
    }
}

#[test]
fn reopening_goes_on_where_the_checkpoint_stands() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0u64, 1, 2, 255, 256, 257, 511, 513, 800, 65_535, 65_537, 66_000];
    for size in sizes {
        let mut ledger = open(dir.path());
        fill(&mut ledger, size, &[]);
        drop(ledger);
        let mut ledger = open(dir.path());
        assert_eq!(ledger.size().unwrap(), size);
        // What no checkpoint covers is gone after reopening.
        for _ in 0..300 {
            ledger.append(b"never published").unwrap();
        }
    }
    drop(open(dir.path()));
    let report = verify_all(dir.path(), &key(), |_, _| {}).unwrap();
    assert_eq!((report.checkpoint.size(), report.unpublished_files), (66_000, 0));
    assert_eq!(report.checkpoints, sizes.len() as u64);
}

#[test]
fn an_idle_checkpoint_is_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    fill(&mut ledger, 5, &[]);
    let first = ledger.checkpoint().unwrap();
    assert_eq!(ledger.checkpoint().unwrap(), first);
    assert_eq!(History::open(dir.path(), &key()).unwrap().len(), 2);
}

#[test]
fn the_history_gives_back_every_checkpoint_and_each_is_a_prefix_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [1u64, 7, 256, 300, 5000];
    let mut published = Vec::new();
    let mut ledger = open(dir.path());
    for size in sizes {
        fill(&mut ledger, size, &[]);
        published.push(ledger.checkpoint().unwrap());
    }
    let history = History::open(dir.path(), &key()).unwrap();
    let reader = reader(dir.path());
    for (position, checkpoint) in (1..).zip(&published) {
        let older = history.checkpoint(position).unwrap();
        assert_eq!(older.to_string(), checkpoint.to_string());
        // Proofs of an old checkpoint can still be made although its partial tiles are gone.
        let snapshot = reader.snapshot_at(older);
        let entry = checkpoint.size() - 1;
        snapshot.prove(entry).unwrap().verify(&leaf(entry), &key()).unwrap();
    }
    for pair in published.windows(2) {
        let [old, new] = pair else { unreachable!() };
        let proof = reader.snapshot_at(new.clone()).prove_consistency(old.size()).unwrap();
        verify_consistency(old.size(), old.root(), new.size(), new.root(), &proof).unwrap();
    }
}

#[test]
fn a_tlog_proof_convinces_a_third_party_and_a_changed_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 1234, &[]);
    let text = reader(dir.path()).snapshot().unwrap().prove(777).unwrap().to_string();
    let proof = TlogProof::parse(&text).unwrap();
    proof.verify(&leaf(777), &key()).unwrap();
    assert!(proof.verify(&leaf(778), &key()).is_err());
    let other = Ed25519Signer::generate("example.com/other").unwrap();
    assert!(proof.verify(&leaf(777), ledger::Signer::verifier(&other)).is_err());
    let moved = TlogProof { index: 776, ..proof };
    assert!(moved.verify(&leaf(777), &key()).is_err());
}

#[test]
fn narrower_partial_tiles_can_be_served_after_they_were_removed() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 600, &[100]);
    let snapshot = reader(dir.path()).snapshot().unwrap();
    let narrow = Tile { kind: TileKind::Entries, index: 0, width: 100 };
    assert!(!dir.path().join(narrow.file()).exists());
    let bytes = snapshot.tile(&narrow).unwrap().unwrap();
    assert_eq!(ledger::bundle::split(&bytes, 100).unwrap().len(), 100);
    assert!(snapshot.tile(&Tile { index: 3, ..narrow }).unwrap().is_none());
    assert!(snapshot.tile(&Tile { index: 2, ..narrow }).unwrap().is_none(), "it has 88 entries only");
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert!(matches!(Ledger::open(dir.path(), Box::new(signer())), Err(Error::InUse { .. })));
    drop(first);
    open(dir.path());
}

#[test]
fn an_entry_of_64_kib_is_refused_and_one_byte_less_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    assert!(matches!(ledger.append(&[1; 65_536]), Err(Error::EntryTooLong { bytes: 65_536 })));
    ledger.append(&[1; 65_535]).unwrap();
    ledger.append(b"").unwrap();
    ledger.checkpoint().unwrap();
    let snapshot = reader(dir.path()).snapshot().unwrap();
    assert_eq!(snapshot.entry(0).unwrap(), [1; 65_535]);
    assert_eq!(snapshot.entry(1).unwrap(), b"");
}

#[test]
fn another_key_cannot_open_or_read_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 3, &[]);
    let other = Ed25519Signer::generate(common::ORIGIN).unwrap();
    let other_key = ledger::Signer::verifier(&other).clone();
    assert!(matches!(Ledger::open(dir.path(), Box::new(other)), Err(Error::Checkpoint { .. })));
    assert!(verify_all(dir.path(), &other_key, |_, _| {}).is_err());
}

#[test]
fn a_ledger_that_lost_its_checkpoint_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 3, &[]);
    for file in ["checkpoint", "checkpoints"] {
        fs::remove_file(dir.path().join(file)).unwrap();
        let error = Ledger::open(dir.path(), Box::new(signer())).unwrap_err();
        assert!(error.to_string().contains("checkpoint: the file is missing"), "{error}");
    }
}

#[test]
fn a_checkpoint_put_back_from_a_copy_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    fill(&mut ledger, 3, &[]);
    let copy = fs::read(dir.path().join("checkpoint")).unwrap();
    fill(&mut ledger, 5, &[]);
    fill(&mut ledger, 9, &[]);
    drop(ledger);
    fs::write(dir.path().join("checkpoint"), copy).unwrap();
    let error = Ledger::open(dir.path(), Box::new(signer())).unwrap_err();
    assert!(error.to_string().contains("put back from a copy"), "{error}");
}

#[test]
fn a_signed_checkpoint_that_contradicts_the_ledger_is_found_in_the_history() {
    // The key's owner rewrites the past: everything is recomputed and signed again, but one old checkpoint remains.
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    fill(&mut ledger, 300, &[]);
    drop(ledger);
    let history = dir.path().join("checkpoints");
    let mut bytes = fs::read(&history).unwrap();
    let head =
        TreeHead { origin: common::ORIGIN.into(), size: 200, root: ledger::leaf_hash(b"another past") };
    let forged = Checkpoint::sign(head.clone(), &signer()).unwrap();
    let mut record = head.size.to_be_bytes().to_vec();
    record.extend_from_slice(head.root.as_bytes());
    record.extend_from_slice(&forged.note().signatures()[0].signature);
    let last = bytes.len() - record.len();
    let kept = bytes.split_off(last);
    bytes.extend(record);
    bytes.extend(kept);
    fs::write(&history, bytes).unwrap();
    let error = verify_all(dir.path(), &key(), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("checkpoint 1 is signed and contradicts the ledger"), "{error}");
}

#[test]
fn readers_keep_reading_while_a_writer_appends() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = reader(dir.path());
                let mut reads = 0u64;
                while !stop.load(Ordering::Relaxed) || reads == 0 {
                    let snapshot = reader.snapshot().unwrap();
                    let size = snapshot.size();
                    if size == 0 {
                        continue;
                    }
                    for index in [0, size / 2, size - 1] {
                        snapshot.prove(index).unwrap().verify(&leaf(index), &key()).unwrap();
                    }
                    snapshot.prove_consistency(size / 3).unwrap();
                    reads += 1;
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                verify_all(dir.path(), &key(), |_, _| {}).unwrap();
            }
        });
        for size in (0..3000).step_by(17) {
            fill(&mut ledger, size, &[]);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_signing_key_file_is_private_and_reads_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let made = Ed25519Signer::load_or_generate("example.com/a", &path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = Ed25519Signer::load_or_generate("example.com/a", &path).unwrap();
    assert_eq!(ledger::Signer::verifier(&made), ledger::Signer::verifier(&loaded));
    assert!(matches!(made.save(&path), Err(KeyError::File { .. })), "an existing key is never replaced");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Ed25519Signer::load("example.com/a", &path), Err(KeyError::Exposed { .. })));
}
