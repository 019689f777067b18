//! Every write of the ledger × {fails, is torn, is done and reported as failed}, and power loss after each write with
//! whatever had not been synced lost, torn or kept. Afterwards the ledger opens, nothing published is missing, and it
//! goes on.
#![allow(clippy::unwrap_used, reason = "a test says plainly what it expects")]

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{key, leaf, open, reader, signer};
use ledger::{
    Checkpoint, Error, FileSystem, History, Ledger, Options, Storage, verify_all, verify_consistency,
};

mod common;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Nothing happens, and an error is returned.
    Fails,
    /// Half of it happens (of a write), and an error is returned.
    Torn,
    /// It happens, and an error is returned all the same.
    DoneButFailed,
}

/// Lets the write number `fail_at` go wrong, once.
struct Faulty {
    disk: FileSystem,
    case: Case,
    fail_at: u64,
    count: Arc<AtomicU64>,
}

impl Faulty {
    fn run(
        &mut self,
        whole: impl FnOnce(&mut FileSystem) -> io::Result<()>,
        half: impl FnOnce(&mut FileSystem) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) != self.fail_at {
            return whole(&mut self.disk);
        }
        match self.case {
            Case::Fails => {}
            Case::Torn => half(&mut self.disk)?,
            Case::DoneButFailed => whole(&mut self.disk)?,
        }
        Err(io::Error::other("injected"))
    }
}

impl Storage for Faulty {
    fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|disk| disk.create_dir(dir), |_| Ok(()))
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.run(|disk| disk.write(file, bytes), |disk| disk.write(file, &bytes[..bytes.len() / 2]))
    }

    fn write_at(&mut self, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.run(
            |disk| disk.write_at(file, offset, bytes),
            |disk| disk.write_at(file, offset, &bytes[..bytes.len() / 2]),
        )
    }

    fn truncate(&mut self, file: &Path, length: u64) -> io::Result<()> {
        self.run(|disk| disk.truncate(file, length), |_| Ok(()))
    }

    fn sync_files(&mut self, files: &[PathBuf]) -> io::Result<()> {
        // Nothing here loses what was not synced (PowerCut does), so the waiting is spared.
        self.run(
            |disk| {
                assert!(files.iter().all(|file| file.exists()));
                disk.forget();
                Ok(())
            },
            |_| Ok(()),
        )
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|_| dir.read_dir().map(drop), |_| Ok(()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(|disk| disk.rename(from, to), |_| Ok(()))
    }

    fn remove_file(&mut self, file: &Path) -> io::Result<()> {
        self.run(|disk| disk.remove_file(file), |_| Ok(()))
    }

    fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|disk| disk.remove_dir(dir), |_| Ok(()))
    }

    fn forget(&mut self) {
        self.disk.forget();
    }
}

/// Sizes at which the workload publishes: partial tiles, a tile just full, several at once.
const SIZES: [u64; 6] = [3, 5, 256, 257, 700, 1100];

/// Appends and publishes, recovering in place after a failure as a sealer would. Returns every checkpoint that was
/// handed out.
fn work(ledger: &mut Ledger) -> Vec<Checkpoint> {
    let mut published = Vec::new();
    for size in SIZES {
        let mut tries = 0;
        while let Err(error) = advance(ledger, size, &mut published) {
            tries += 1;
            assert!(tries < 5, "it does not heal: {error:?}");
            while let Err(error) = ledger.recover() {
                tries += 1;
                assert!(tries < 5, "it does not recover: {error:?}");
                assert!(matches!(ledger.append(b"x"), Err(Error::Stopped)));
            }
        }
    }
    published
}

fn advance(ledger: &mut Ledger, size: u64, published: &mut Vec<Checkpoint>) -> Result<(), Error> {
    for index in ledger.size()?..size {
        ledger.append(&leaf(index))?;
    }
    published.push(ledger.checkpoint()?);
    Ok(())
}

/// The ledger is sound, holds all that was handed out, and never signed two things of one size.
fn check(dir: &Path, handed_out: &[Checkpoint]) {
    let report = verify_all(dir, &key(), |_, _| {}).unwrap();
    let latest = report.checkpoint;
    let snapshot = reader(dir).snapshot().unwrap();
    for checkpoint in handed_out {
        assert!(checkpoint.size() <= latest.size(), "a checkpoint that was handed out is gone");
        let proof = snapshot.prove_consistency(checkpoint.size()).unwrap();
        verify_consistency(checkpoint.size(), checkpoint.root(), latest.size(), latest.root(), &proof)
            .unwrap();
    }
    for entry in snapshot.entries(0..latest.size()) {
        let (index, entry) = entry.unwrap();
        assert_eq!(entry, leaf(index), "entry {index}");
    }
    let history = History::open(dir, &key()).unwrap();
    for checkpoint in handed_out {
        let found = (0..history.len())
            .any(|position| history.checkpoint(position).unwrap().to_string() == checkpoint.to_string());
        assert!(found, "checkpoint of size {} is not in the history", checkpoint.size());
    }
}

fn open_faulty(dir: &Path, case: Case, fail_at: u64, count: &Arc<AtomicU64>) -> Result<Ledger, Error> {
    let storage = Faulty { disk: FileSystem::new(), case, fail_at, count: Arc::clone(count) };
    Ledger::open_with(dir, Box::new(signer()), Options::default(), Box::new(storage))
}

/// How many writes the workload makes when nothing fails.
fn writes_of_workload() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    work(&mut open_faulty(dir.path(), Case::Fails, u64::MAX, &count).unwrap());
    count.load(Ordering::Relaxed)
}

/// Lets every write go wrong once, in the process that goes on.
fn every_write(case: Case) {
    let writes = writes_of_workload();
    assert!(writes > 100, "the workload shrank to {writes} writes");
    for fail_at in 0..writes {
        let dir = tempfile::tempdir().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let mut ledger = match open_faulty(dir.path(), case, fail_at, &count) {
            Ok(ledger) => ledger,
            Err(Error::Storage { .. }) => open(dir.path()),
            Err(error) => panic!("write {fail_at}: {error:?}"),
        };
        let handed_out = work(&mut ledger);
        assert_eq!(ledger.size().unwrap(), 1100);
        drop(ledger);
        check(dir.path(), &handed_out);
        drop(open(dir.path()));
    }
}

#[test]
fn a_write_that_fails_stops_the_ledger_and_recovery_heals_it() {
    every_write(Case::Fails);
}

#[test]
fn a_torn_write_stops_the_ledger_and_recovery_heals_it() {
    every_write(Case::Torn);
}

#[test]
fn a_write_that_is_persisted_but_reported_as_failed_is_not_repeated_differently() {
    every_write(Case::DoneButFailed);
}

#[test]
fn a_failed_write_stops_everything_until_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let mut ledger = open_faulty(dir.path(), Case::Fails, u64::MAX, &count).unwrap();
    ledger.append(&leaf(0)).unwrap();
    drop(ledger);
    let opening = count.swap(0, Ordering::Relaxed);
    drop(open(dir.path()));
    let mut ledger = open_faulty(dir.path(), Case::Fails, opening, &count).unwrap();
    ledger.append(&leaf(0)).unwrap();
    let error = ledger.checkpoint().unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error:?}");
    assert!(matches!(ledger.checkpoint(), Err(Error::Stopped)));
    assert!(matches!(ledger.append(b""), Err(Error::Stopped)));
    assert!(matches!(ledger.size(), Err(Error::Stopped)));
    ledger.recover().unwrap();
    assert_eq!(ledger.size().unwrap(), 0);
}

/// A file system that loses power: after the write number `off_at` nothing more reaches it, and what was not synced
/// is lost, torn or kept as `luck` has it.
struct PowerCut {
    disk: FileSystem,
    off_at: u64,
    count: Arc<AtomicU64>,
    unsynced: Arc<std::sync::Mutex<Unsynced>>,
}

/// What power loss may undo.
#[derive(Default)]
struct Unsynced {
    /// The durable content of files (`None`: the file did not exist) with writes not yet synced.
    contents: BTreeMap<PathBuf, Option<Vec<u8>>>,
    /// Names not yet durable in their directory: the content the name had before, if any.
    names: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl PowerCut {
    fn run(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.off_at {
            return Err(io::Error::other("the power is off"));
        }
        write(self)
    }

    fn before(&mut self, file: &Path) {
        let mut unsynced = self.unsynced.lock().unwrap();
        let content = fs::read(file).ok();
        if content.is_none() {
            unsynced.names.entry(file.to_owned()).or_insert(None);
        }
        unsynced.contents.entry(file.to_owned()).or_insert(content);
    }
}

impl Unsynced {
    /// Undoes what the power loss takes.
    fn lose(self, mut luck: u64) {
        let mut throw = || {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            luck >> 33
        };
        for (file, durable) in self.contents {
            let Ok(written) = fs::read(&file) else { continue };
            match (throw() % 3, durable) {
                (0, _) => {}
                (1, Some(durable)) => fs::write(&file, durable).unwrap(),
                (1, None) => fs::write(&file, []).unwrap(),
                (_, durable) => {
                    // Torn: the first part of the new content, and after it the old or zeroes.
                    let mut torn = durable.unwrap_or_default();
                    torn.resize(torn.len().max(written.len()), 0);
                    let length = usize::try_from(throw()).unwrap() % (written.len() + 1);
                    torn[..length].copy_from_slice(&written[..length]);
                    fs::write(&file, torn).unwrap();
                }
            }
        }
        for (file, before) in self.names {
            if throw() % 2 == 0 {
                match before {
                    Some(before) => fs::write(&file, before).unwrap(),
                    None => drop(fs::remove_file(&file)),
                }
            }
        }
    }
}

impl Storage for PowerCut {
    fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|this| this.disk.create_dir(dir))
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.run(|this| {
            this.before(file);
            this.disk.write(file, bytes)
        })
    }

    fn write_at(&mut self, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.run(|this| {
            this.before(file);
            this.disk.write_at(file, offset, bytes)
        })
    }

    fn truncate(&mut self, file: &Path, length: u64) -> io::Result<()> {
        self.run(|this| {
            this.before(file);
            this.disk.truncate(file, length)
        })
    }

    fn sync_files(&mut self, files: &[PathBuf]) -> io::Result<()> {
        self.run(|this| {
            let mut unsynced = this.unsynced.lock().unwrap();
            for file in files {
                unsynced.contents.remove(file);
            }
            Ok(())
        })
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|this| {
            let dir = dir.components().collect::<PathBuf>();
            this.unsynced.lock().unwrap().names.retain(|file, _| file.parent() != Some(&dir));
            Ok(())
        })
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(|this| {
            let replaced = fs::read(to).ok();
            let mut unsynced = this.unsynced.lock().unwrap();
            let content = unsynced.contents.remove(from);
            unsynced.contents.extend(content.map(|content| (to.to_owned(), content)));
            unsynced.names.remove(from);
            unsynced.names.entry(to.to_owned()).or_insert(replaced);
            this.disk.rename(from, to)
        })
    }

    fn remove_file(&mut self, file: &Path) -> io::Result<()> {
        self.run(|this| this.disk.remove_file(file))
    }

    fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.run(|this| this.disk.remove_dir(dir))
    }

    fn forget(&mut self) {
        self.disk.forget();
    }
}

/// Works until the power goes off at write `off_at`; then what was not synced is (partly) lost.
fn work_until_power_is_lost(dir: &Path, off_at: u64, luck: u64) -> Vec<Checkpoint> {
    let unsynced = Arc::new(std::sync::Mutex::new(Unsynced::default()));
    let count = Arc::new(AtomicU64::new(0));
    let storage = PowerCut { disk: FileSystem::new(), off_at, count, unsynced: Arc::clone(&unsynced) };
    let mut published = Vec::new();
    if let Ok(mut ledger) = Ledger::open_with(dir, Box::new(signer()), Options::default(), Box::new(storage))
    {
        for size in SIZES {
            if advance(&mut ledger, size, &mut published).is_err() {
                break;
            }
        }
    }
    std::mem::take(&mut *unsynced.lock().unwrap()).lose(luck);
    published
}

#[test]
fn power_loss_after_any_write_loses_nothing_published() {
    let writes = writes_of_workload();
    // A longer run: LEDGER_POWER_LOSSES=20 tries each moment with 20 different losses.
    let losses = std::env::var("LEDGER_POWER_LOSSES").map_or(1, |text| text.parse().unwrap());
    for off_at in 0..=writes {
        for luck in 0..losses {
            let dir = tempfile::tempdir().unwrap();
            let mut handed_out = work_until_power_is_lost(dir.path(), off_at, luck * 1000 + off_at);
            // And once more, while it recovers from the first.
            handed_out.extend(work_until_power_is_lost(dir.path(), off_at % 17 + luck, off_at));
            let mut ledger = Ledger::open(dir.path(), Box::new(signer()))
                .unwrap_or_else(|error| panic!("power off at write {off_at}, luck {luck}: {error:?}"));
            handed_out.extend(work(&mut ledger));
            drop(ledger);
            check(dir.path(), &handed_out);
        }
    }
}

#[test]
fn a_checkpoint_signed_but_not_published_when_the_power_went_is_published_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    common::fill(&mut ledger, 10, &[]);
    let before = fs::read(dir.path().join("checkpoint")).unwrap();
    common::fill(&mut ledger, 20, &[]);
    drop(ledger);
    fs::write(dir.path().join("checkpoint"), before).unwrap();
    let ledger = open(dir.path());
    assert_eq!(ledger.published().unwrap().size(), 20);
    check(dir.path(), &[ledger.published().unwrap().clone()]);
}
