//! Whoever may write the files changes them: verification finds it and says where.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Client, PATIENCE, assert_sound, open, verify_all};
use tempfile::{TempDir, tempdir};
use trail::TrailError;

/// A trail of two sessions, closed, with one of them erased if asked for.
fn trail(erased: bool) -> TempDir {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut one = Client::start(&trail, "chatgpt", "orders");
    let mut two = Client::start(&trail, "claude", "orders");
    for _ in 0..20 {
        one.run("SELECT 'of one session'");
        two.run("SELECT 'of two session'");
    }
    let (one, _two) = (one.end(), two.end());
    if erased {
        trail.erase(one, None, None, "for the test").unwrap();
    }
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
    data
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Whether verification fails, and names `name` if it gets to findings.
fn finds(data: &Path, name: &str) -> Result<(), String> {
    let options = trail::VerifyOptions { vkey: None, keys: Some(common::keys()) };
    match trail::verify(data, &options, |_, _| {}) {
        Err(TrailError::Key(_) | TrailError::File { .. } | TrailError::Ledger(_)) => Ok(()),
        Err(error) => Err(format!("unexpected error: {error}")),
        Ok(report) if report.is_sound() => Err("it verifies".to_owned()),
        Ok(report) => {
            let named = report.findings.iter().any(|finding| {
                let file = finding.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
                file.contains(name) || finding.problem.contains(name)
            });
            if named { Ok(()) } else { Err(format!("it is not located: {:?}", report.findings)) }
        }
    }
}

/// Every bit position of small files, some of large ones.
#[test]
fn a_flipped_bit_in_any_file_of_evidence_is_found_and_located() {
    let data = trail(true);
    let mut flips = 0;
    for path in files(data.path()) {
        let relative = path.strip_prefix(data.path()).unwrap().display().to_string();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_evidence = relative.starts_with("ledger/tile")
            || ["ledger/checkpoint", "ledger/checkpoints", "vault/index", "vault/keys"]
                .contains(&relative.as_str())
            || relative.starts_with("vault/payload");
        if !is_evidence {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        let step = (whole.len() / 60).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            if let Err(why) = finds(data.path(), &name) {
                panic!("byte {at} of {relative}: {why}");
            }
            flips += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 200, "only {flips} bits were flipped");
    assert_sound(data.path());
}

#[test]
fn a_flipped_bit_in_a_frame_is_found_and_located() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    for _ in 0..20 {
        client.run("SELECT 1");
    }
    trail.flush(PATIENCE).unwrap();
    drop(trail);
    let segment = files(&data.path().join("journal"))
        .into_iter()
        .find(|path| {
            fs::read(path)
                .is_ok_and(|bytes| bytes.len() > 4096 && bytes[4096..].iter().any(|byte| *byte != 0))
        })
        .unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[2000] ^= 4;
    fs::write(&segment, &flipped).unwrap();
    let report = verify_all(data.path());
    assert!(!report.is_sound(), "{report}");
    assert!(report.findings[0].file.as_ref().unwrap().starts_with("journal"), "{report}");
    // The journal itself, which can tell an unfinished tail from damage, names the byte.
    let refused = trail::Trail::open(data.path(), common::settings());
    assert!(matches!(refused, Err(TrailError::OpenJournal(journal::OpenError::Corrupt { .. }))));
    fs::write(&segment, &whole).unwrap();
    assert_sound(data.path());
}

#[test]
fn swapped_payloads_of_two_sessions_are_found() {
    let data = trail(false);
    let index = data.path().join("vault/index");
    let whole = fs::read(&index).unwrap();
    let records: Vec<Vec<u8>> = whole.chunks(44).map(<[u8]>::to_vec).collect();
    let command_of = |slot: u8| {
        records
            .iter()
            .position(|record| record[12] == slot && record[32] == 4)
            .expect("a command of the session")
    };
    let (one, two) = (command_of(1), command_of(2));
    // The places of the payloads and their CRC change sides, in records that are valid in themselves.
    let mut swapped = records.clone();
    for (to, from) in [(one, two), (two, one)] {
        swapped[to][..12].copy_from_slice(&records[from][..12]);
        swapped[to][36..40].copy_from_slice(&records[from][36..40]);
        let crc = crc32c::crc32c(&swapped[to][..40]).to_le_bytes();
        swapped[to][40..].copy_from_slice(&crc);
    }
    fs::write(&index, swapped.concat()).unwrap();
    let report = verify_all(data.path());
    assert_eq!((report.missing, report.problems), (2, 2), "{report}");
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.problem.contains("does not open with its session's key"))
    );
}

#[test]
fn a_key_that_was_destroyed_without_an_entry_is_found() {
    let data = trail(false);
    let keys = data.path().join("vault/keys");
    let mut slots = fs::read(&keys).unwrap();
    // Erased as the format says, but no erasure entry is in the ledger.
    let slot = &mut slots[256..512];
    slot[24..32].copy_from_slice(&3u64.to_le_bytes());
    slot[33] = 2;
    slot[34..252].fill(0);
    let crc = crc32c::crc32c(&slot[..252]).to_le_bytes();
    slot[252..].copy_from_slice(&crc);
    fs::write(&keys, slots).unwrap();
    let report = verify_all(data.path());
    assert!(!report.is_sound());
    assert!(report.findings[0].problem.contains("no erasure entry says so"), "{report}");
}

#[test]
fn a_payload_or_a_whole_file_that_is_gone_is_found() {
    for name in ["vault/payload-00000000", "vault/index"] {
        let data = trail(false);
        let path = data.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        let report = verify_all(data.path());
        assert!(report.missing > 0 && !report.is_sound(), "{name}: {report}");
        assert!(
            matches!(trail::Trail::open(data.path(), common::settings()), Err(TrailError::Vault(_))),
            "{name}"
        );
    }
}

#[test]
fn another_key_opens_nothing() {
    let data = trail(false);
    let keys = std::sync::Arc::new(trail::NodeKey::new(&[8; 32]).unwrap());
    let options = trail::VerifyOptions { vkey: None, keys: Some(keys) };
    let report = trail::verify(data.path(), &options, |_, _| {}).unwrap();
    assert_eq!(report.verified, 0);
    assert!(report.findings[0].problem.contains("could not be unwrapped"), "{report}");
}
