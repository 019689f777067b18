//! Power that fails while the page cache holds what was not synced, which then reaches the disk in part
//! and in any order: each sector by itself, each length by itself, the names in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use journal::{Batch, Journal, Level, Lock, OpenError, Position, Settings, Storage, StorageFile};
use proptest::{prelude::*, test_runner::TestRng};

use crate::support::numbered;

const SECTOR_BYTES: usize = 512;
const DIR: &str = "/machine/journal";

#[derive(Clone, Default)]
struct Contents {
    cached: Vec<u8>,
    on_disk: Vec<u8>,
    /// Sectors that the kernel still means to write.
    dirty: BTreeSet<usize>,
}

impl Contents {
    /// Writes what is dirty; if `broken`, takes it for written and says once that it was not.
    fn sync(&mut self, broken: bool) -> io::Result<()> {
        self.on_disk.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.cached.len());
            if !broken && start < end {
                self.on_disk[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
        if broken { Err(io::Error::other("write-back failed")) } else { Ok(()) }
    }
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Clone, Default)]
struct Machine {
    files: Vec<Contents>,
    names: Names,
    names_on_disk: Names,
    /// The names after each change since the directory was synced.
    names_pending: Vec<Names>,
    boot: u8,
    /// Operations of who ran before the power failed are without effect.
    off: bool,
    next_sync_fails: bool,
}

#[derive(Clone, Default)]
struct Simulated(Arc<Mutex<Machine>>);

impl Simulated {
    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.0.lock().unwrap();
        if machine.off {
            return Err(io::Error::other("no power"));
        }
        act(&mut machine)
    }

    /// The machine after the power came back.
    fn power_cycle(&self, rng: &mut TestRng) -> Self {
        let mut machine = self.0.lock().unwrap();
        machine.off = true;
        let mut kept = vec![machine.names_on_disk.clone()];
        kept.append(&mut machine.names_pending.clone());
        let names = kept[rng.random_range(0..kept.len())].clone();
        let files = machine.files.iter().map(|file| after_power_loss(file, rng)).collect();
        let boot = machine.boot + 1;
        let again = Machine { files, names_on_disk: names.clone(), names, boot, ..Machine::default() };
        Self(Arc::new(Mutex::new(again)))
    }
}

fn after_power_loss(file: &Contents, rng: &mut TestRng) -> Contents {
    let length = if rng.random_bool(0.5) { file.cached.len() } else { file.on_disk.len() };
    let mut bytes = vec![0; length];
    for (number, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        let from =
            if file.dirty.contains(&number) && rng.random_bool(0.5) { &file.cached } else { &file.on_disk };
        let start = (number * SECTOR_BYTES).min(from.len());
        let there = &from[start..from.len().min(start + sector.len())];
        sector[..there.len()].copy_from_slice(there);
    }
    Contents { cached: bytes.clone(), on_disk: bytes, dirty: BTreeSet::new() }
}

impl Machine {
    fn rename_all(&mut self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        self.names_pending.push(self.names.clone());
    }

    fn number(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for Simulated {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.with(|machine| {
            let inside = machine.names.keys().filter(|path| path.parent() == Some(dir));
            Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        self.with(|machine| {
            let number = machine.files.len();
            machine.files.push(Contents::default());
            machine.rename_all(|names| {
                names.insert(path.to_owned(), number);
            });
            Ok(Arc::new(SimulatedFile(self.clone(), number)) as _)
        })
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.with(|machine| Ok(Arc::new(SimulatedFile(self.clone(), machine.number(path)?)) as _))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|machine| {
            let number = machine.number(from)?;
            machine.rename_all(|names| {
                names.remove(from);
                names.insert(to.to_owned(), number);
            });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|machine| {
            machine.number(path)?;
            machine.rename_all(|names| {
                names.remove(path);
            });
            Ok(())
        })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.with(|machine| {
            machine.names_on_disk = machine.names.clone();
            machine.names_pending.clear();
            Ok(())
        })
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some([self.0.lock().unwrap().boot + 1; 16])
    }
}

struct SimulatedFile(Simulated, usize);

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> io::Result<T> {
        self.0.with(|machine| Ok(act(&mut machine.files[self.1])))
    }
}

impl StorageFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|file| {
            let start = usize::try_from(offset).unwrap();
            let length = file.cached.len().max(start + bytes.len());
            file.cached.resize(length, 0);
            file.cached[start..start + bytes.len()].copy_from_slice(bytes);
            file.dirty.extend(start / SECTOR_BYTES..(start + bytes.len()).div_ceil(SECTOR_BYTES));
            bytes.len()
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|file| {
            let rest = file.cached.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let read = rest.len().min(bytes.len());
            bytes[..read].copy_from_slice(&rest[..read]);
            read
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.0.with(|machine| {
            let broken = std::mem::take(&mut machine.next_sync_fails);
            machine.files[self.1].sync(broken)
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with(|file| file.cached.resize(usize::try_from(bytes).unwrap(), 0))
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|file| file.cached.len() as u64)
    }
}

/// Syncs happen when asked for, and only then.
fn settings() -> Settings {
    let (background_sync, retry_after) = (Duration::from_secs(3600), Duration::from_millis(1));
    Settings { segment_bytes: 4096, background_sync, retry_after }
}

fn open(machine: &Simulated) -> Result<(Journal, Vec<Vec<u8>>), OpenError> {
    let (journal, recovered) = Journal::open_on(Arc::new(machine.clone()), Path::new(DIR), settings())?;
    let mut follower = journal.follow(recovered.oldest);
    let mut found = Vec::new();
    while follower.position() < recovered.next {
        let frames = follower.next_batch(Level::Synced, Duration::ZERO).unwrap();
        found.extend(frames.map(|frame| frame.payload.to_vec()));
    }
    Ok((journal, found))
}

/// What a run does between two power failures.
#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => (1..6_usize).prop_map(Step::Append), 1 => Just(Step::Sync)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_was_synced_is_there_and_the_rest_ends_at_a_frame(
        runs in prop::collection::vec(prop::collection::vec(step(), 0..30), 1..4),
        mut rng in Just(()).prop_perturb(|(), rng| rng),
    ) {
        let mut machine = Simulated::default();
        let mut appended: Vec<Vec<u8>> = Vec::new();
        let mut number = 0;
        for steps in runs {
            let (journal, found) = open(&machine).expect("a power loss alone is never corruption");
            prop_assert!(found == appended);
            for step in steps {
                match step {
                    Step::Append(count) => {
                        let mut batch = Batch::new();
                        for _ in 0..count {
                            let payload = numbered(number);
                            batch.push(|buffer| buffer.extend_from_slice(&payload));
                            appended.push(payload);
                            number += 1;
                        }
                        journal.append(&mut batch).unwrap();
                    }
                    Step::Sync => journal.wait_synced(journal.written()).unwrap(),
                }
            }
            let synced = usize::try_from(journal.synced().0).unwrap();
            machine = machine.power_cycle(&mut rng);
            drop(journal);
            let (journal, found) = open(&machine).expect("a power loss alone is never corruption");
            prop_assert!(found.len() >= synced, "{} of {} synced frames are there", found.len(), synced);
            prop_assert!(appended.starts_with(&found));
            appended = found;
            // And what recovery has kept is durable at once.
            machine = machine.power_cycle(&mut rng);
            drop(journal);
        }
        prop_assert!(open(&machine).unwrap().1 == appended);
    }
}

#[test]
fn what_is_read_back_after_a_failed_sync_is_not_taken_for_durable() {
    let machine = Simulated::default();
    let (journal, _) = open(&machine).unwrap();
    // The spare has been made and synced once it has its name and no operation follows.
    std::thread::sleep(Duration::from_millis(50));
    let payloads: Vec<_> = (0..5).map(numbered).collect();
    for payload in &payloads {
        journal.append(&mut crate::support::batch(&[payload])).unwrap();
    }
    machine.0.lock().unwrap().next_sync_fails = true;
    assert!(journal.wait_synced(Position(5)).is_err());
    drop(journal);
    // The process restarts: the page cache shows the frames, the disk does not have them.
    let (journal, found) = open(&machine).unwrap();
    assert_eq!((&found, journal.synced()), (&payloads, Position(5)));
    let mut rng = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let machine = machine.power_cycle(&mut rng);
    drop(journal);
    assert_eq!(open(&machine).unwrap().1, payloads);
}

#[test]
fn a_flipped_bit_in_what_was_synced_is_corruption_also_after_a_power_loss() {
    let machine = Simulated::default();
    let (journal, _) = open(&machine).unwrap();
    let append = |count: usize| {
        for number in 0..count {
            let mut batch = Batch::new();
            batch.push(|buffer| buffer.extend(numbered(number)));
            journal.append(&mut batch).unwrap();
        }
    };
    append(3);
    journal.wait_synced(Position(3)).unwrap();
    append(1);
    journal.wait_synced(Position(4)).unwrap();
    let mut rng = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let machine = machine.power_cycle(&mut rng);
    drop(journal);
    {
        let mut machine = machine.0.lock().unwrap();
        let number = machine.number(&Path::new(DIR).join("00000000000000000001.journal")).unwrap();
        machine.files[number].cached[64 + 80] ^= 1;
    }
    let error = open(&machine).expect_err("the damage is found");
    let OpenError::Corrupt { offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*offset, 64);
}
