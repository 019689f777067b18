//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says plainly what it expects")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use ledger::{Ed25519Signer, FileSystem, Ledger, LedgerReader, Options, Signer as _, VerifierKey};

pub const ORIGIN: &str = "example.com/trail/node-1";

pub fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub fn key() -> VerifierKey {
    signer().verifier().clone()
}

pub fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, Box::new(signer())).unwrap()
}

pub fn open_compressing(dir: &Path) -> Ledger {
    let options = Options { compress_full_bundles: true };
    Ledger::open_with(dir, Box::new(signer()), options, Box::new(FileSystem::new())).unwrap()
}

pub fn reader(dir: &Path) -> LedgerReader {
    LedgerReader::new(dir, key())
}

/// A leaf that differs in content and length from its neighbours.
pub fn leaf(index: u64) -> Vec<u8> {
    let mut leaf = format!("entry {index} ").into_bytes();
    leaf.resize(leaf.len() + usize::try_from(index % 7).unwrap() * 9, 0xb5);
    leaf
}

/// Appends leaves `from..to`, with a checkpoint whenever the size is in `checkpoints` and at the end.
pub fn fill(ledger: &mut Ledger, to: u64, checkpoints: &[u64]) {
    for index in ledger.size().unwrap()..to {
        assert_eq!(ledger.append(&leaf(index)).unwrap(), index);
        if checkpoints.contains(&(index + 1)) {
            ledger.checkpoint().unwrap();
        }
    }
    ledger.checkpoint().unwrap();
}

/// All files below a directory, relative, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
