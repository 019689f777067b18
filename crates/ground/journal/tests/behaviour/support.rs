//! Small segments, batches from slices, and storage that fails when told to.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use journal::{Batch, Disk, Journal, Level, Lock, Position, Recovered, Settings, Storage, StorageFile};

pub(crate) fn settings() -> Settings {
    let (background_sync, retry_after) = (Duration::from_millis(5), Duration::from_millis(2));
    Settings { segment_bytes: 4096, background_sync, retry_after }
}

pub(crate) fn open(dir: &Path) -> (Journal, Recovered) {
    Journal::open(dir, settings()).expect("the journal opens")
}

pub(crate) fn batch<T: AsRef<[u8]>>(payloads: &[T]) -> Batch {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.push(|buffer| buffer.extend_from_slice(payload.as_ref()));
    }
    batch
}

pub(crate) fn append(journal: &Journal, payload: impl AsRef<[u8]>) -> Position {
    journal.append(&mut batch(&[payload])).expect("the append is accepted")
}

/// A payload that tells which one it is, of a size that varies.
pub(crate) fn numbered(number: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(100 + number * 37 % 300, b'.');
    payload
}

/// All payloads that are there now.
pub(crate) fn contents(journal: &Journal, oldest: Position) -> Vec<Vec<u8>> {
    let mut follower = journal.follow(oldest);
    let mut payloads = Vec::new();
    loop {
        let next = follower.position();
        let frames = follower.next_batch(Level::Written, Duration::ZERO).expect("the frames can be read");
        if frames.len() == 0 {
            return payloads;
        }
        for (place, frame) in frames.enumerate() {
            assert_eq!(frame.position.0, next.0 + place as u64);
            payloads.push(frame.payload.to_vec());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Sync,
    SetLength,
    Rename,
    Remove,
    SyncDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens, an error is returned.
    Fails,
    /// Half of it happens, an error is returned.
    HalfFails,
    /// Half of it happens, which is said by the count of bytes.
    Short,
    /// All of it happens, an error is returned.
    PersistsButFails,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) operation: Operation,
    pub(crate) fault: Fault,
    /// Which call of the operation is hit first, from 0.
    pub(crate) at: usize,
    /// How many calls in a row are hit.
    pub(crate) times: usize,
}

#[derive(Default)]
struct State {
    /// With the number of calls so far.
    plans: Mutex<Vec<(Plan, usize)>>,
    hits: AtomicUsize,
    syncs: AtomicUsize,
    /// Whoever holds it makes all syncs wait.
    gate: Mutex<()>,
    /// As if the process had been killed: nothing reaches the disk any more.
    dead: AtomicBool,
}

/// The disk, with faults at chosen calls, one kind per operation.
#[derive(Clone, Default)]
pub(crate) struct Faulty {
    state: Arc<State>,
}

impl Faulty {
    pub(crate) fn plan(&self, plan: Plan) {
        self.state.plans.lock().unwrap().push((plan, 0));
    }

    pub(crate) fn repair(&self) {
        self.state.plans.lock().unwrap().clear();
    }

    pub(crate) fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }

    pub(crate) fn syncs(&self) -> usize {
        self.state.syncs.load(Ordering::SeqCst)
    }

    /// Waits until a journal that was just opened has its spare, so that a plan does not hit that one.
    pub(crate) fn settle(&self) {
        // One sync of the first segment, one of the spare, which then only has to be handed over.
        while self.syncs() < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
    }

    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.state.gate.lock().unwrap()
    }

    pub(crate) fn kill(&self) {
        self.state.dead.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn fault(&self, operation: Operation) -> io::Result<Option<Fault>> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("killed"));
        }
        let mut plans = self.plans.lock().unwrap();
        let Some((plan, calls)) = plans.iter_mut().find(|(plan, _)| plan.operation == operation) else {
            return Ok(None);
        };
        let hit = (plan.at..plan.at + plan.times).contains(calls);
        *calls += 1;
        if hit {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        Ok(hit.then_some(plan.fault))
    }

    fn run<T>(&self, operation: Operation, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.fault(operation)? {
            None => act(),
            Some(Fault::PersistsButFails) => {
                act()?;
                Err(io::Error::other("injected, though it happened"))
            }
            Some(Fault::Fails | Fault::HalfFails | Fault::Short) => Err(io::Error::other("injected")),
        }
    }
}

impl Storage for Faulty {
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
        let file = self.state.run(Operation::Create, || Disk.create(path))?;
        Ok(Arc::new(FaultyFile { file, state: Arc::clone(&self.state) }))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        let file = Disk.open(path, write)?;
        Ok(Arc::new(FaultyFile { file, state: Arc::clone(&self.state) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.run(Operation::Rename, || Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state.run(Operation::Remove, || Disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.run(Operation::SyncDirectory, || Disk.sync_dir(dir))
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Disk.boot_id()
    }
}

struct FaultyFile {
    file: Arc<dyn StorageFile>,
    state: Arc<State>,
}

impl FaultyFile {
    /// `whole` writes all of `bytes`.
    fn write(&self, bytes: &[u8], offset: u64, whole: impl Fn() -> io::Result<usize>) -> io::Result<usize> {
        let half = &bytes[..bytes.len() / 2];
        match self.state.fault(Operation::Write)? {
            None => whole(),
            Some(Fault::Fails) => Err(io::Error::other("injected")),
            Some(Fault::Short) => self.file.write_at(half, offset),
            Some(Fault::HalfFails) => {
                self.file.write_at(half, offset)?;
                Err(io::Error::other("injected in the middle"))
            }
            Some(Fault::PersistsButFails) => {
                whole()?;
                Err(io::Error::other("injected, though it happened"))
            }
        }
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
        let _gate = self.state.gate.lock().unwrap();
        let result = self.state.run(Operation::Sync, || self.file.sync());
        self.state.syncs.fetch_add(1, Ordering::SeqCst);
        result
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.state.run(Operation::SetLength, || self.file.set_len(bytes))
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
