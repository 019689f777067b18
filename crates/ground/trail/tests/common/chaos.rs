//! A disk that fails at one chosen write, in one chosen way, whatever part of the trail makes it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use journal::{Disk, Lock, StorageFile};
use ledger::FileSystem;
use trail::Storages;

/// Whose writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Journal,
    /// The vault and the sealer's state.
    Vault,
    /// Tiles, bundles and checkpoints.
    Ledger,
}

/// What happens to the write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing, and an error is returned.
    Fails,
    /// Half of it, and an error is returned.
    Half,
    /// All of it, and an error is returned.
    DoneButFailed,
}

/// Counts the writes of one part, and lets one of them go wrong.
#[derive(Clone)]
pub struct Chaos {
    part: Part,
    fault: Fault,
    at: u64,
    count: Arc<AtomicU64>,
    syncs_fail: Arc<AtomicBool>,
}

impl Chaos {
    /// Write number `at` of `part`, from 0, goes wrong.
    pub fn new(part: Part, fault: Fault, at: u64) -> Self {
        Self { part, fault, at, count: Arc::default(), syncs_fail: Arc::default() }
    }

    /// Nothing goes wrong; writes are counted.
    pub fn none(part: Part) -> Self {
        Self::new(part, Fault::Fails, u64::MAX)
    }

    /// From now on no sync of the part's files succeeds.
    pub fn break_syncs(&self) {
        self.syncs_fail.store(true, Ordering::SeqCst);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether it has happened.
    pub fn hit(&self) -> bool {
        self.count() > self.at
    }

    pub fn storages(&self) -> Storages {
        let faulty = |part| {
            let chaos = (part == self.part).then(|| self.clone());
            Arc::new(Faulty { chaos, disk: FileSystem::new() })
        };
        let chaos = (self.part == Part::Ledger).then(|| self.clone());
        Storages {
            journal: faulty(Part::Journal),
            vault: faulty(Part::Vault),
            ledger: Box::new(Faulty { chaos, disk: FileSystem::new() }),
        }
    }
}

fn injected<T>() -> io::Result<T> {
    Err(io::Error::other("injected fault"))
}

struct Faulty {
    chaos: Option<Chaos>,
    disk: FileSystem,
}

/// Does a write, or what the fault leaves of it.
fn act<T>(
    chaos: Option<&Chaos>,
    whole: impl FnOnce() -> io::Result<T>,
    half: impl FnOnce() -> io::Result<()>,
) -> io::Result<T> {
    let Some(chaos) = chaos else { return whole() };
    if chaos.count.fetch_add(1, Ordering::SeqCst) != chaos.at {
        return whole();
    }
    match chaos.fault {
        Fault::Fails => injected(),
        Fault::Half => half().and_then(|()| injected()),
        Fault::DoneButFailed => whole().and_then(|_| injected()),
    }
}

impl journal::Storage for Faulty {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        Disk.lock(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = act(self.chaos.as_ref(), || Disk.create(path), || Ok(()))?;
        Ok(Arc::new(FaultyFile { file, chaos: self.chaos.clone() }))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(FaultyFile { file: Disk.open(path, write)?, chaos: self.chaos.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        act(self.chaos.as_ref(), || Disk.rename(from, to), || Ok(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // Looking for what is not there is no write.
        if !path.exists() {
            return Disk.remove(path);
        }
        act(self.chaos.as_ref(), || Disk.remove(path), || Ok(()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        act(self.chaos.as_ref(), || Disk.sync_dir(dir), || Ok(()))
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Disk.boot_id()
    }
}

struct FaultyFile {
    file: Arc<dyn StorageFile>,
    chaos: Option<Chaos>,
}

impl FaultyFile {
    /// `whole` writes all of `bytes`.
    fn write(
        &self,
        bytes: &[u8],
        offset: u64,
        whole: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let half = &bytes[..bytes.len() / 2];
        act(self.chaos.as_ref(), whole, || self.file.write_at(half, offset).map(|_| ()))
    }
}

impl StorageFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write(bytes, offset, || self.file.write_at(bytes, offset))
    }

    fn write_frames_at(&self, bytes: &[u8], ends: &[usize], offset: u64) -> io::Result<usize> {
        self.write(bytes, offset, || self.file.write_frames_at(bytes, ends, offset))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.chaos.as_ref().is_some_and(|chaos| chaos.syncs_fail.load(Ordering::SeqCst)) {
            return injected();
        }
        act(self.chaos.as_ref(), || self.file.sync(), || Ok(()))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        act(self.chaos.as_ref(), || self.file.set_len(bytes), || Ok(()))
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

impl ledger::Storage for Faulty {
    fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.create_dir(dir), || Ok(()))
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = file_half(file, &bytes[..bytes.len() / 2]);
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.write(file, bytes), half)
    }

    fn write_at(&mut self, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = &mut self.disk;
        let half = || FileSystem::new().write_at(file, offset, &bytes[..bytes.len() / 2]);
        act(self.chaos.as_ref(), || disk.write_at(file, offset, bytes), half)
    }

    fn truncate(&mut self, file: &Path, length: u64) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.truncate(file, length), || Ok(()))
    }

    fn sync_files(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.sync_files(files), || Ok(()))
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.sync_dir(dir), || Ok(()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.rename(from, to), || Ok(()))
    }

    fn remove_file(&mut self, file: &Path) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.remove_file(file), || Ok(()))
    }

    fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        let disk = &mut self.disk;
        act(self.chaos.as_ref(), || disk.remove_dir(dir), || Ok(()))
    }

    fn forget(&mut self) {
        self.disk.forget();
    }
}

fn file_half(file: &Path, half: &[u8]) -> impl FnOnce() -> io::Result<()> {
    move || std::fs::write(file, half)
}
