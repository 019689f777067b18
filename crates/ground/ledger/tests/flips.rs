//! A single flipped bit in any file of a ledger is found, and located.
#![allow(clippy::unwrap_used, reason = "a test says plainly what it expects")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{files, fill, key, open, open_compressing};
use ledger::{Fault, Tile, TileKind, VerifyError, verify_all};
use proptest::prelude::*;
use tempfile::TempDir;

mod common;

fn faults(dir: &Path) -> Vec<Fault> {
    match verify_all(dir, &key(), |_, _| {}) {
        Ok(_) => Vec::new(),
        Err(VerifyError::Faults { faults }) => faults,
        Err(VerifyError::Unreadable(error)) => panic!("{error:?}"),
    }
}

/// A ledger of 66,000 entries (three tile levels) with earlier checkpoints, plain or compressed.
fn ledger(compressing: bool) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = if compressing { open_compressing(dir.path()) } else { open(dir.path()) };
    fill(&mut ledger, 66_000, &[100, 5000, 65_900, 65_950]);
    dir
}

/// What of a file's entries a fault at `offset` may concern.
fn check_located(found: &[Fault], file: &PathBuf, offset: usize) {
    let fault = found.first().unwrap_or_else(|| panic!("byte {offset} of {} was not missed", file.display()));
    assert_eq!(found.len(), 1, "one changed bit, several faults: {found:?}");
    assert_eq!(&fault.file, file, "{fault}");
    let tile = file.to_str().and_then(Tile::from_path);
    let Some(tile) = tile else {
        // A compressed bundle, the checkpoint, or the history: the file, and for a bundle its entries, are named.
        assert_eq!(fault.entries.is_some(), file.extension().is_some_and(|extension| extension == "zst"));
        return;
    };
    let entries = fault.entries.clone().unwrap_or_else(|| panic!("{fault}"));
    let first = tile.index * 256;
    match tile.kind {
        TileKind::Entries => assert!(entries.start >= first && entries.end <= first + 256, "{fault}"),
        TileKind::Level(level) => {
            let position = first + offset as u64 / 32;
            let width = 256u64.pow(u32::from(level));
            assert!(entries.start == position * width, "{fault}");
        }
    }
}

fn flip(dir: &Path, file: &Path, bit: usize) -> impl FnOnce() + use<> {
    let path = dir.join(file);
    let sound = fs::read(&path).unwrap();
    let mut changed = sound.clone();
    changed[bit / 8] ^= 1 << (bit % 8);
    fs::write(&path, changed).unwrap();
    move || fs::write(path, sound).unwrap()
}

#[test]
fn a_flipped_bit_in_any_file_is_found_and_located() {
    for compressing in [false, true] {
        let dir = ledger(compressing);
        assert_eq!(faults(dir.path()), []);
        let files: Vec<PathBuf> =
            files(dir.path()).into_iter().filter(|file| file.as_os_str() != "lock").collect();
        // Every kind of file gets its turn, whatever the proportions.
        let mut kinds: Vec<Vec<PathBuf>> = Vec::new();
        for file in files {
            let kind = |file: &PathBuf| {
                let text = file.to_str().unwrap();
                let tile = Tile::from_path(text.trim_end_matches(".zst"));
                (tile.map(|tile| (tile.kind, tile.is_full())), tile.is_none().then(|| text.to_owned()))
            };
            match kinds.iter_mut().find(|group| kind(&group[0]) == kind(&file)) {
                Some(group) => group.push(file),
                None => kinds.push(vec![file]),
            }
        }
        assert!(kinds.len() >= 9, "{kinds:?}");
        let strategy =
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
        let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |((kind, which, bit) in strategy)| {
            let group: &Vec<PathBuf> = kind.get(kinds.as_slice());
            let file: &PathBuf = which.get(group.as_slice());
            let bits = fs::metadata(dir.path().join(file)).unwrap().len() * 8;
            let bit = bit.index(usize::try_from(bits).unwrap());
            let mend = flip(dir.path(), file, bit);
            let found = faults(dir.path());
            mend();
            check_located(&found, file, bit / 8);
        });
        assert_eq!(faults(dir.path()), []);
    }
}

#[test]
fn every_byte_of_the_checkpoint_and_of_the_history_counts() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 20, &[7]);
    for file in ["checkpoint", "checkpoints"] {
        let file = PathBuf::from(file);
        for byte in 0..usize::try_from(fs::metadata(dir.path().join(&file)).unwrap().len()).unwrap() {
            let bit = byte * 8 + byte % 8;
            let mend = flip(dir.path(), &file, bit);
            let found = faults(dir.path());
            mend();
            assert_eq!(found.first().map(|fault| &fault.file), Some(&file), "bit {bit}: {found:?}");
        }
    }
}

#[test]
fn an_entry_changed_together_with_its_tile_is_found_by_the_level_above() {
    let dir = ledger(false);
    let entry = PathBuf::from("tile/entries/003");
    let mut bundle = fs::read(dir.path().join(&entry)).unwrap();
    bundle[2] ^= 1;
    fs::write(dir.path().join(&entry), &bundle).unwrap();
    let tile = PathBuf::from("tile/0/003");
    let mut hashes = fs::read(dir.path().join(&tile)).unwrap();
    let first = ledger::bundle::entries(&bundle).next().unwrap();
    hashes[..32].copy_from_slice(ledger::leaf_hash(first).as_bytes());
    fs::write(dir.path().join(&tile), hashes).unwrap();
    let found = faults(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].file, &found[0].entries), (&tile, &Some(768..1024)));
    assert!(found[0].problem.contains("changed together"), "{}", found[0]);
}

#[test]
fn a_missing_a_shortened_and_a_foreign_file_are_named() {
    let dir = ledger(false);
    let cases =
        [("tile/entries/010", 2560), ("tile/0/010", 2560), ("tile/1/000", 0), ("tile/0/257.p/208", 65_792)];
    for (file, entry) in cases {
        let path = dir.path().join(file);
        let sound = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = faults(dir.path());
        assert_eq!(found.iter().map(|fault| fault.file.to_str().unwrap()).collect::<Vec<_>>(), [file]);
        assert_eq!(found[0].entries.as_ref().map(|range| range.start), Some(entry), "{}", found[0]);
        fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert_eq!(faults(dir.path())[0].file, Path::new(file));
        fs::write(&path, sound).unwrap();
    }
    fs::write(dir.path().join("tile/0/note.txt"), "hello").unwrap();
    let found = faults(dir.path());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "tile/0/note.txt: it is not a file of a ledger");
}

#[test]
fn a_checkpoint_that_was_put_back_from_a_copy_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    fill(&mut ledger, 20, &[7]);
    let path = dir.path().join("checkpoint");
    let older = fs::read(&path).unwrap();
    fill(&mut ledger, 40, &[]);
    let newer = fs::read(&path).unwrap();
    // What a crash between the record and its publication leaves: the next start publishes it.
    fs::write(&path, &older).unwrap();
    assert_eq!(faults(dir.path()), []);
    fs::write(&path, newer).unwrap();
    fill(&mut ledger, 60, &[]);
    fs::write(&path, older).unwrap();
    let found = faults(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].file, Path::new("checkpoint"));
    assert!(found[0].problem.contains("put back from a copy"), "{}", found[0]);
}

#[test]
fn a_ledger_with_a_changed_right_edge_is_not_opened_and_the_file_is_named() {
    let dir = ledger(false);
    for (file, entry) in [
        ("tile/0/257.p/208", 65_792),
        ("tile/entries/257.p/208", 65_792),
        ("tile/1/001.p/1", 65_536),
        ("tile/2/000.p/1", 0),
    ] {
        let mend = flip(dir.path(), Path::new(file), 21);
        let error = ledger::Ledger::open(dir.path(), Box::new(common::signer())).unwrap_err();
        mend();
        let ledger::Error::Corrupt(fault) = error else { panic!("{error:?}") };
        assert_eq!(fault.file, Path::new(file), "{fault}");
        assert_eq!(fault.entries.as_ref().map(|range| range.start), Some(entry), "{fault}");
    }
    drop(open(dir.path()));
}
