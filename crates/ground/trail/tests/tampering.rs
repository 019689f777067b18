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
    let options = trail::VerifyOptions { keys: Some(common::keys()), ..Default::default() };
    match trail::verify(data, &options, |_, _| {}) {
        Err(TrailError::VerifierKey { .. } | TrailError::File { .. } | TrailError::Ledger(_)) => Ok(()),
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

/// What a flipped bit does to a file.
enum Flip {
    /// Verification finds it and names the file.
    Found,
    /// The file says nothing: it is a lock, or the state of a checkpoint that is no longer the published one.
    Nothing,
    /// Not evidence: the key that signs, which is not there where evidence is verified. The gateway refuses to start with it.
    Key,
}

/// What a flipped bit in a file does: every file of the directory is one of these.
fn flip_of(relative: &str, live_state: &str) -> Flip {
    match relative {
        _ if relative.ends_with("lock") => Flip::Nothing,
        "vault/state-0" | "vault/state-1" if relative != live_state => Flip::Nothing,
        "log.key" => Flip::Key,
        _ => Flip::Found,
    }
}

/// The side with the state of the published checkpoint: the newer one of a closed trail.
fn live_state(data: &Path) -> &'static str {
    let entries = |name: &str| {
        let bytes = fs::read(data.join(name)).unwrap_or_default();
        // After the header, the tree's size as LEB128.
        let size = bytes.iter().skip(12).scan(true, |more, byte| {
            let taken = more.then_some(*byte);
            *more &= byte & 0x80 != 0;
            taken
        });
        size.enumerate().fold(0u64, |sum, (place, byte)| sum | u64::from(byte & 0x7f) << (7 * place))
    };
    if entries("vault/state-0") > entries("vault/state-1") { "vault/state-0" } else { "vault/state-1" }
}

/// Flips `flips` bits, spread over all files of a trail, each by itself, and says how many were flipped in each file.
fn flip_bits(data: &Path, flips_per_file: usize) -> std::collections::BTreeMap<String, usize> {
    let live = live_state(data);
    let mut flipped = std::collections::BTreeMap::new();
    for path in files(data) {
        let relative = path.strip_prefix(data).unwrap().display().to_string();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let whole = fs::read(&path).unwrap();
        // A segment is preallocated: what stands behind its last frame is zeroes that nothing reads as anything.
        let written = if relative.starts_with("journal/") { used(&whole) } else { whole.len() };
        let step = (written / flips_per_file).max(1);
        for at in (0..written).step_by(step) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            let result = match flip_of(&relative, live) {
                Flip::Found => finds(data, &name),
                Flip::Nothing => Ok(()),
                Flip::Key => refuses(data),
            };
            if let Err(why) = result {
                panic!("byte {at} of {relative}: {why}");
            }
            *flipped.entry(relative.clone()).or_default() += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    flipped
}

/// A gateway with a damaged signing key does not start over its ledger. Bits that say nothing of the key (PEM's armour, spare
/// bits of its wrapping) leave it the same.
fn refuses(data: &Path) -> Result<(), String> {
    let copy = tempdir().unwrap();
    for path in files(data) {
        let to = copy.path().join(path.strip_prefix(data).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&path, &to).unwrap();
    }
    let vkey = copy.path().join("ledger/log.vkey");
    let before = fs::read(&vkey).unwrap();
    let opened = trail::Trail::open(copy.path(), common::settings());
    if fs::read(&vkey).unwrap() != before {
        return Err("the vkey of the ledger was overwritten".to_owned());
    }
    let Ok((trail, _)) = opened else { return Ok(()) };
    // Then it has signed on with the key that it always had.
    trail.start_sealer().unwrap();
    trail.close(PATIENCE).unwrap();
    if verify_all(copy.path()).is_sound() { Ok(()) } else { Err("another key signs on".to_owned()) }
}

/// Where the last frame of a segment ends.
fn used(segment: &[u8]) -> usize {
    segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_flipped_bit_in_any_file_is_found_and_located() {
    let data = trail(true);
    let flips: usize = std::env::var("TRAIL_FLIPS").map_or(40, |flips| flips.parse().unwrap());
    let flipped = flip_bits(data.path(), flips);
    let total: usize = flipped.values().sum();
    assert!(total > 300, "only {total} bits were flipped: {flipped:?}");
    for part in [
        "journal/",
        "ledger/tile/0/",
        "ledger/tile/entries/",
        "ledger/checkpoints",
        "vault/payload",
        "vault/keys",
    ] {
        assert!(flipped.keys().any(|file| file.starts_with(part)), "nothing in {part}: {flipped:?}");
    }
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

/// Everything but the files that say nothing: locks, the key that signs, the older state.
fn evidence(data: &Path) -> Vec<PathBuf> {
    let live = live_state(data);
    let says_something = |path: &PathBuf| {
        let relative = path.strip_prefix(data).unwrap().display().to_string();
        matches!(flip_of(&relative, live), Flip::Found)
    };
    files(data).into_iter().filter(says_something).collect()
}

#[test]
fn a_file_that_is_cut_anywhere_is_found() {
    let data = trail(true);
    for path in evidence(data.path()) {
        let relative = path.strip_prefix(data.path()).unwrap().display().to_string();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let whole = fs::read(&path).unwrap();
        let written = if relative.starts_with("journal/") { used(&whole) } else { whole.len() };
        for length in [0, written / 2, written.saturating_sub(1)] {
            // The line break behind the key says nothing.
            if length == written || name == "log.vkey" && length + 1 == written {
                continue;
            }
            fs::write(&path, &whole[..length]).unwrap();
            if let Err(why) = finds(data.path(), &name) {
                panic!("{relative} cut to {length} of {written} bytes: {why}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_sound(data.path());
}

#[test]
fn an_older_copy_of_any_file_in_the_place_of_the_newer_is_found() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    for _ in 0..300 {
        client.run("SELECT 1");
    }
    trail.flush(PATIENCE).unwrap();
    let before: Vec<(PathBuf, Vec<u8>)> = files(data.path())
        .into_iter()
        .filter(|path| !path.ends_with("lock"))
        .map(|path| (path.strip_prefix(data.path()).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    // One checkpoint more than is published is what a crash may leave; several are not.
    for _ in 0..4 {
        for _ in 0..75 {
            client.run("SELECT 2");
        }
        trail.flush(PATIENCE).unwrap();
    }
    client.end();
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
    let mut replayed = 0;
    let now = evidence(data.path());
    for (relative, older) in before {
        let path = data.path().join(&relative);
        let Ok(newer) = fs::read(&path) else { continue };
        if newer == older || !now.contains(&path) {
            continue;
        }
        fs::write(&path, &older).unwrap();
        let name = relative.file_name().unwrap().to_string_lossy().into_owned();
        // What is missing at its end may be told of by another file: that it is found is what counts.
        let found = finds(data.path(), &name)
            .or_else(|why| if why.starts_with("it is not located") { Ok(()) } else { Err(why) });
        assert!(found.is_ok(), "an older {}: {found:?}", relative.display());
        fs::write(&path, &newer).unwrap();
        replayed += 1;
    }
    assert!(replayed > 4, "only {replayed} files had changed");
    assert_sound(data.path());
}

#[test]
fn entries_in_another_order_are_found() {
    let data = trail(false);
    // Two entries of a bundle change places: all lengths are right, and so is each entry.
    let bundle = files(&data.path().join("ledger/tile/entries")).pop().unwrap();
    let whole = fs::read(&bundle).unwrap();
    let mut entries = Vec::new();
    let mut rest = whole.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        entries.push(rest[..2 + length].to_vec());
        rest = &tail[length..];
    }
    entries.swap(5, 9);
    fs::write(&bundle, entries.concat()).unwrap();
    finds(data.path(), &bundle.file_name().unwrap().to_string_lossy()).unwrap();
    fs::write(&bundle, &whole).unwrap();
    // Two index records change places, with their CRCs.
    let index = data.path().join("vault/index");
    let whole = fs::read(&index).unwrap();
    let mut records: Vec<&[u8]> = whole.chunks(44).collect();
    records.swap(5, 9);
    fs::write(&index, records.concat()).unwrap();
    finds(data.path(), "index").unwrap();
    // One record stands twice: a payload replayed for another entry.
    let mut records: Vec<&[u8]> = whole.chunks(44).collect();
    records[9] = records[5];
    fs::write(&index, records.concat()).unwrap();
    finds(data.path(), "index").unwrap();
    fs::write(&index, &whole).unwrap();
    assert_sound(data.path());
}

#[test]
fn bytes_behind_the_last_frame_are_found() {
    let data = tempdir().unwrap();
    let (trail, _) = open(data.path());
    let mut client = Client::start(&trail, "chatgpt", "orders");
    client.run("SELECT 1");
    client.end();
    trail.close(PATIENCE).unwrap();
    assert_sound(data.path());
    let (segment, end) = used_of_journal(data.path());
    let mut bytes = fs::read(&segment).unwrap();
    bytes.resize(bytes.len().max(end + 200), 0);
    bytes[end + 100] = 0x20;
    fs::write(&segment, &bytes).unwrap();
    let report = verify_all(data.path());
    assert!(!report.is_sound(), "{report}");
}

/// The segment with the last frame, and where that ends.
fn used_of_journal(data: &Path) -> (PathBuf, usize) {
    let mut segments = files(&data.join("journal")).into_iter().map(|path| {
        let used = used(&fs::read(&path).unwrap());
        (path, used)
    });
    segments.rfind(|(_, used)| *used > 64).unwrap()
}

#[test]
fn a_key_that_was_destroyed_without_an_entry_is_found() {
    let data = trail(false);
    let keys = data.path().join("vault/keys");
    let mut slots = fs::read(&keys).unwrap();
    // Erased as the format says, but no erasure entry is in the ledger.
    let slot = &mut slots[512..1024];
    slot[24..32].copy_from_slice(&3u64.to_le_bytes());
    slot[32] = 2;
    slot[36..38].fill(0);
    slot[136..508].fill(0);
    let crc = crc32c::crc32c(&slot[..508]).to_le_bytes();
    slot[508..].copy_from_slice(&crc);
    fs::write(&keys, slots).unwrap();
    let report = verify_all(data.path());
    assert!(!report.is_sound());
    assert!(report.findings[0].problem.contains("no erasure entry says so"), "{report}");
}

/// Writes a slot again with its CRC, so that it is valid in itself.
fn change_slot(data: &Path, number: usize, change: impl Fn(&mut [u8])) {
    let keys = data.join("vault/keys");
    let mut slots = fs::read(&keys).unwrap();
    let slot = &mut slots[512 * number..512 * (number + 1)];
    change(slot);
    let crc = crc32c::crc32c(&slot[..508]).to_le_bytes();
    slot[508..].copy_from_slice(&crc);
    fs::write(&keys, slots).unwrap();
}

#[test]
fn a_key_that_was_replaced_by_one_for_nobody_is_found() {
    let data = trail(false);
    let keys = data.path().join("vault/keys");
    let whole = fs::read(&keys).unwrap();
    // The key is gone; the slot says that somebody else could open it.
    change_slot(data.path(), 1, |slot| {
        let name = b"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
        slot[34] = u8::try_from(name.len()).unwrap();
        slot[72..136].fill(0);
        slot[72..72 + name.len()].copy_from_slice(name);
        slot[136..508].fill(7);
        slot[36..38].copy_from_slice(&372u16.to_le_bytes());
    });
    for keys in [Some(common::keys()), None] {
        let options = trail::VerifyOptions { keys, ..Default::default() };
        let report = trail::verify(data.path(), &options, |_, _| {}).unwrap();
        assert_eq!(report.problems, 1, "{report}");
        assert!(report.findings[0].problem.starts_with("key slot 1 is not what"), "{report}");
    }
    // Another class would expire at another time.
    fs::write(&keys, &whole).unwrap();
    change_slot(data.path(), 1, |slot| {
        slot[33] = 5;
        slot[40..47].copy_from_slice(b"brief\0\0");
    });
    assert!(
        verify_all(data.path()).findings.iter().any(|finding| finding.problem.contains("key slot 1 is not"))
    );
    // What stands between the parts of a slot is zeroes.
    fs::write(&keys, &whole).unwrap();
    change_slot(data.path(), 1, |slot| slot[60] = 1);
    finds(data.path(), "key slot 1").unwrap();
    fs::write(&keys, &whole).unwrap();
    assert_sound(data.path());
}

#[test]
fn a_payload_that_is_pointed_to_an_erased_key_is_found() {
    let data = tempdir().unwrap();
    let rule = trail::RetentionRule {
        target: None,
        principal: None,
        covers: trail::Covers::Captured,
        class: "output".to_owned(),
    };
    let periods = [("output".to_owned(), trail::Keep::ForMicros(1))].into_iter().collect();
    let retention = trail::Retention { rules: vec![rule], periods };
    let (trail, _) = common::open_with(data.path(), trail::Settings { retention, ..common::settings() });
    let mut client = Client::start(&trail, "chatgpt", "orders");
    client.run("SELECT 'evidence'");
    let seq = client.intent(b"make", &[], &common::facts("EXEC", vocabulary::Class::Execute, &[]));
    client.capture(seq, trail::CaptureField::Stdout, b"done\n");
    client.ok(seq, 0);
    client.end();
    assert_eq!(trail.expire(vocabulary::Timestamp(u64::MAX / 2)).unwrap().keys, 1);
    trail.close(PATIENCE).unwrap();
    assert_eq!(assert_sound(data.path()).erased, 1, "the output alone");
    // The command's text is under the key that is there. Let its record name the one that was destroyed.
    let index = data.path().join("vault/index");
    let whole = fs::read(&index).unwrap();
    let mut records: Vec<Vec<u8>> = whole.chunks(44).map(<[u8]>::to_vec).collect();
    let output = records.iter().find(|record| record[32] == 13).unwrap()[12];
    let command = records.iter_mut().find(|record| record[32] == 4).unwrap();
    assert_ne!(command[12], output);
    command[12] = output;
    let crc = crc32c::crc32c(&command[..40]).to_le_bytes();
    command[40..].copy_from_slice(&crc);
    fs::write(&index, records.concat()).unwrap();
    let report = verify_all(data.path());
    assert_eq!((report.missing, report.problems), (1, 1), "{report}");
    assert!(report.findings[0].problem.contains("another key slot than the entry"), "{report}");
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
    // All else is still verified, and the file named.
    for name in ["vault/payload-00000000", "vault/index", "vault/keys"] {
        let data = trail(false);
        fs::remove_file(data.path().join(name)).unwrap();
        let report = verify_all(data.path());
        assert!(report.missing > 40 && report.entries > 40 && report.sessions == 3, "{name}: {report}");
        assert_eq!(report.findings[0].file.as_deref(), Some(Path::new(name)), "{report}");
    }
}

#[test]
fn another_key_opens_nothing() {
    let data = trail(false);
    let keys = std::sync::Arc::new(trail::NodeKey::new(&[8; 32]).unwrap());
    let options = trail::VerifyOptions { keys: Some(keys), ..Default::default() };
    let report = trail::verify(data.path(), &options, |_, _| {}).unwrap();
    assert_eq!(report.verified, 0);
    assert!(report.findings[0].problem.contains("could not be unwrapped"), "{report}");
}
