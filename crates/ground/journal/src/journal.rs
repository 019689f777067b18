//! The public face: open, append, wait, retire, close.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use crate::{
    append::{Appender, Refusal},
    batch::Batch,
    error::{AppendError, OpenError, RetireError},
    follow::Follower,
    prepare, recover,
    segment::{LOCK_NAME, prepare_spare},
    storage::{Disk, Lock, Storage},
    sync::{self, SyncState},
};

/// Sequence number of a frame. The first frame of a journal is 1; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The position of the frame after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How the journal is laid out and how soon it syncs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Size of a segment file, preallocated. A batch that is larger gets a larger segment of its own.
    pub segment_bytes: u64,
    /// What nobody waits for is synced after this long at most.
    pub background_sync: Duration,
    /// After a failed write or a full disk, how long until the journal tries to heal.
    pub retry_after: Duration,
}

impl Settings {
    /// Least accepted [`segment_bytes`](Self::segment_bytes): 4 KiB.
    pub const LEAST_SEGMENT_BYTES: u64 = 4096;
}

impl Default for Settings {
    /// 64 MiB, 100 ms, 100 ms.
    fn default() -> Self {
        let tenth = Duration::from_millis(100);
        Self { segment_bytes: 64 * 1024 * 1024, background_sync: tenth, retry_after: tenth }
    }
}

/// What was found at opening. All of it is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Position of the oldest frame still there; equals `next` if there is none.
    pub oldest: Position,
    /// Position the first new frame will have.
    pub next: Position,
    /// The invalid tail that was cut off, if there was one.
    pub truncated: Option<Truncated>,
}

/// What a crash left unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The segment that was cut.
    pub file: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// How many bytes that were not zero were dropped, up to the last such byte, in this and later segments.
    pub bytes: u64,
}

/// Whether appends are accepted.
#[derive(Clone, Debug)]
pub enum Health {
    /// They are.
    Healthy,
    /// They are not, for now or until a restart; `reason` says which.
    Refusing {
        /// When it began.
        since: SystemTime,
        /// The error that each append gets.
        reason: AppendError,
    },
}

/// The journal, open for appending. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held until the threads have ended.
    lock: Mutex<Option<Lock>>,
    /// One retirement at a time, without stopping the appends.
    retiring: Mutex<()>,
}

/// What the journal, its threads and its followers share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) written: AtomicU64,
    pub(crate) synced: AtomicU64,
    /// Taken before `sync` where both are needed.
    pub(crate) appender: Mutex<Appender>,
    /// To the preparing thread: there is something to do. Goes with `appender`, as do the next two.
    pub(crate) prepare_work: Condvar,
    /// From the preparing thread: a spare is there, or could not be made.
    pub(crate) spare_changed: Condvar,
    /// To followers of written frames.
    pub(crate) written_changed: Condvar,
    pub(crate) sync: Mutex<SyncState>,
    /// To the sync thread: somebody waits. Goes with `sync`, as does the next.
    pub(crate) sync_work: Condvar,
    /// To blocking waiters and followers of synced frames.
    pub(crate) synced_changed: Condvar,
}

impl Shared {
    pub(crate) fn written(&self) -> Position {
        Position(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn synced(&self) -> Position {
        Position(self.synced.load(Ordering::Acquire))
    }
}

/// A thread that panicked under one of our locks left nothing half done that a later user would not
/// find out: frames count only once `written` says so.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Opens the journal in `dir`, making the directory if need be, after recovering what the last run
    /// left: an orderly close and a crash are the same to this function.
    ///
    /// # Errors
    /// If another process has it open, if what is on disk is damaged beyond an unfinished tail, or if the
    /// disk fails. Nothing has been changed on disk if the error is `Locked` or `Corrupt`.
    pub fn open(dir: &Path, settings: Settings) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(Disk), dir, settings)
    }

    /// As [`open`](Self::open), on other storage than the file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        storage: Arc<dyn Storage>,
        dir: &Path,
        settings: Settings,
    ) -> Result<(Self, Recovered), OpenError> {
        if settings.segment_bytes < Settings::LEAST_SEGMENT_BYTES {
            return Err(OpenError::SegmentsTooSmall {
                segment_bytes: settings.segment_bytes,
                least: Settings::LEAST_SEGMENT_BYTES,
            });
        }
        let failed = |operation, file: &Path| {
            let file = file.to_owned();
            move |source| OpenError::Io { operation, file, source }
        };
        storage.create_dir(dir).map_err(failed("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            storage.sync_dir(parent).map_err(failed("sync", parent))?;
        }
        let lock_path = dir.join(LOCK_NAME);
        let held = storage.lock(&lock_path).map_err(failed("lock", &lock_path))?;
        let held = held.ok_or_else(|| OpenError::Locked { dir: dir.to_owned() })?;

        let history = recover::recover(&*storage, dir)?;
        let spare = prepare_spare(&*storage, dir, settings.segment_bytes)
            .map_err(failed("make a segment in", dir))?;
        let recovered = history.recovered.clone();
        let appender = Appender::start(&*storage, dir, history, spare).map_err(failed("sync", dir))?;

        let last = recovered.next.0 - 1;
        let shared = Arc::new(Shared {
            storage,
            dir: dir.to_owned(),
            settings,
            written: AtomicU64::new(last),
            synced: AtomicU64::new(last),
            appender: Mutex::new(appender),
            prepare_work: Condvar::new(),
            spare_changed: Condvar::new(),
            written_changed: Condvar::new(),
            sync: Mutex::new(SyncState::default()),
            sync_work: Condvar::new(),
            synced_changed: Condvar::new(),
        });
        let handle = Handle {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
            lock: Mutex::new(Some(held)),
            retiring: Mutex::new(()),
        };
        for (name, run) in [("journal-sync", sync::run as fn(&Shared)), ("journal-prepare", prepare::run)] {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
            lock(&handle.threads).push(thread.map_err(failed("start a thread for", dir))?);
        }
        Ok((Self { handle: Arc::new(handle) }, recovered))
    }

    /// Appends all records of `batch`, in order and next to each other, with one write; returns the
    /// position of the last one. They then survive the death of this process (level `crash`). The batch
    /// is left empty on success and as it was otherwise. An empty batch is no append.
    ///
    /// Runs on the calling thread, for about a microsecond; longer only when a new segment is needed
    /// faster than the disk can make one.
    ///
    /// # Errors
    /// The batch is refused: none of its records is in the journal. Only if the process dies before the
    /// damage is repaired may they, or the first of them, still be found afterwards.
    pub fn append(&self, batch: &mut Batch) -> Result<Position, AppendError> {
        self.handle.shared.append(batch)
    }

    /// Position of the last frame that survives the death of this process.
    #[must_use]
    pub fn written(&self) -> Position {
        self.handle.shared.written()
    }

    /// Position of the last frame that survives the loss of power.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.handle.shared.synced()
    }

    /// Ready once the frame at `position` survives the loss of power (level `power`). Asks for a sync:
    /// when idle it starts at once; what comes during one shares the next. A task has one place in the
    /// line, however often it polls.
    ///
    /// # Errors
    /// If the sync failed, for all who wait; if `position` was never appended.
    pub fn poll_synced(
        &self,
        position: Position,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), AppendError>> {
        self.handle.shared.poll_synced(position, context.waker())
    }

    /// As [`poll_synced`](Self::poll_synced), for a thread that can block.
    ///
    /// # Errors
    /// As [`poll_synced`](Self::poll_synced).
    pub fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        self.handle.shared.wait_synced(position)
    }

    /// Reads frames in order, the one at `from` first, while appends go on.
    #[must_use]
    pub fn follow(&self, from: Position) -> Follower {
        Follower::new(Arc::clone(&self.handle.shared), from)
    }

    /// Deletes the oldest segments as long as all their frames are synced and stand before `before`.
    /// The segment of the last frame always stays, so that the chain goes on.
    ///
    /// # Errors
    /// If a file could not be deleted; those before it are gone.
    pub fn retire(&self, before: Position) -> Result<(), RetireError> {
        let _one_at_a_time = lock(&self.handle.retiring);
        self.handle.shared.retire(before)
    }

    /// Whether appends are accepted. What can heal does so by itself, whether or not appends are tried.
    #[must_use]
    pub fn health(&self) -> Health {
        match &lock(&self.handle.shared.appender).refusal {
            None => Health::Healthy,
            Some(Refusal { since, reason }) => Health::Refusing { since: *since, reason: reason.clone() },
        }
    }

    /// Refuses further appends, syncs all frames, ends the threads and releases the directory. Closing
    /// twice does nothing.
    ///
    /// # Errors
    /// If the last sync failed. The journal is closed all the same.
    pub fn close(&self) -> Result<(), AppendError> {
        self.handle.close()
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("dir", &self.handle.shared.dir)
            .field("written", &self.written())
            .field("synced", &self.synced())
            .finish_non_exhaustive()
    }
}

impl Handle {
    fn close(&self) -> Result<(), AppendError> {
        if lock(&self.lock).is_none() {
            return Ok(());
        }
        self.shared.begin_stop();
        let threads = std::mem::take(&mut *lock(&self.threads));
        // The last clone may go with a task that the sync thread drops: it can't wait for itself.
        let result = if threads.iter().any(|thread| thread.thread().id() == thread::current().id()) {
            Ok(())
        } else {
            let result = self.shared.finish_stop();
            for thread in threads {
                // A panic of the thread has been reported by itself; there is no more to say here.
                let _ = thread.join();
            }
            result
        };
        drop(lock(&self.lock).take());
        result
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}
