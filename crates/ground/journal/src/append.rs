//! The append path: everything a session's thread does under the mutex.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use crate::{
    Position,
    batch::Batch,
    error::{AppendError, RetireError},
    format::{FrameHash, Place, SEGMENT_HEADER_BYTES, SegmentHeader},
    journal::{Shared, lock},
    recover::History,
    segment::{Spare, segment_path, write_all_frames},
    storage::{Storage, StorageFile},
};

/// Why appends are refused, and since when.
pub(crate) struct Refusal {
    pub(crate) since: SystemTime,
    pub(crate) reason: AppendError,
}

/// The segment that takes the frames.
struct Active {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    header: SegmentHeader,
    /// Where the next frame goes.
    offset: u64,
}

/// A segment that takes no more frames, and has some that may not be synced.
pub(crate) struct Ended {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) path: PathBuf,
    /// Where its last frame ends.
    pub(crate) end: u64,
}

/// What the append mutex guards.
pub(crate) struct Appender {
    active: Active,
    next: u64,
    /// Hash of the last frame.
    previous: FrameHash,
    /// First sequences of all segments, the active one included.
    segments: VecDeque<u64>,
    /// A write failed: bytes of a refused batch may stand behind `active.offset`.
    damaged: bool,
    /// The active segment takes no more frames.
    must_roll: bool,
    pub(crate) ended: Vec<Ended>,
    pub(crate) dir_changed: bool,
    pub(crate) spare: Option<Spare>,
    pub(crate) spare_error: Option<Arc<io::Error>>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) closed: bool,
    pub(crate) waiting_followers: usize,
}

/// What one sync has to cover.
pub(crate) struct SyncScope {
    pub(crate) target: u64,
    pub(crate) dir_changed: bool,
    pub(crate) ended: Vec<Ended>,
    pub(crate) active: (Arc<dyn StorageFile>, PathBuf),
}

impl Appender {
    /// Begins a new segment after what was recovered: each has one writer, so one epoch and one boot id.
    pub(crate) fn start(
        storage: &dyn Storage,
        dir: &Path,
        history: History,
        spare: Spare,
    ) -> io::Result<Self> {
        let next = history.recovered.next.0;
        let path = segment_path(dir, next);
        storage.rename(&spare.path, &path)?;
        storage.sync_dir(dir)?;
        let mut segments = history.segments;
        segments.push_back(next);
        Ok(Self {
            active: Active::new(spare, path),
            next,
            previous: history.previous,
            segments,
            damaged: false,
            must_roll: false,
            ended: Vec::new(),
            dir_changed: false,
            spare: None,
            spare_error: None,
            refusal: None,
            closed: false,
            waiting_followers: 0,
        })
    }

    /// Takes what must be synced for all frames so far to be durable.
    pub(crate) fn sync_scope(&mut self) -> SyncScope {
        SyncScope {
            target: self.next - 1,
            dir_changed: std::mem::take(&mut self.dir_changed),
            ended: std::mem::take(&mut self.ended),
            active: (Arc::clone(&self.active.file), self.active.path.clone()),
        }
    }

    /// The active segment, for the last sync of all.
    pub(crate) fn end_active(&self) -> Ended {
        let Active { file, path, offset, .. } = &self.active;
        Ended { file: Arc::clone(file), path: path.clone(), end: *offset }
    }

    pub(crate) fn refuse(&mut self, reason: AppendError) -> AppendError {
        // A failed sync is never covered up by a later, lesser error.
        if self.poison().is_none() {
            let since = self.refusal.as_ref().map_or_else(SystemTime::now, |refusal| refusal.since);
            self.refusal = Some(Refusal { since, reason: reason.clone() });
        }
        reason
    }

    /// The failed sync, if there was one.
    pub(crate) fn poison(&self) -> Option<&AppendError> {
        let reason = &self.refusal.as_ref()?.reason;
        matches!(reason, AppendError::Poisoned { .. }).then_some(reason)
    }

    pub(crate) fn needs_repair(&self) -> bool {
        self.damaged && self.poison().is_none()
    }

    /// Back to health, if nothing stands in the way of the next append.
    pub(crate) fn heal(&mut self) {
        if self.poison().is_none() && !self.damaged && (!self.must_roll || self.spare.is_some()) {
            self.refusal = None;
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let empty = self.active.offset == SEGMENT_HEADER_BYTES as u64;
        let fits = self.active.offset + bytes as u64 <= self.active.header.capacity;
        // What fits no segment goes alone into an empty one, which grows.
        !self.must_roll && (fits || empty)
    }

    fn roll(&mut self, storage: &dyn Storage, dir: &Path, spare: Spare) -> Result<(), AppendError> {
        let path = segment_path(dir, self.next);
        if let Err(error) = storage.rename(&spare.path, &path) {
            // Whether it was renamed is not known. Under either name it is empty: the next spare
            // replaces it, as the frame that gives it its name can stand nowhere else.
            self.must_roll = true;
            let _ = storage.remove(&spare.path);
            return Err(AppendError::NoSegment { dir: dir.to_owned(), source: Arc::new(error) });
        }
        let ended = std::mem::replace(&mut self.active, Active::new(spare, path));
        if ended.offset > SEGMENT_HEADER_BYTES as u64 {
            self.ended.push(Ended { file: ended.file, path: ended.path, end: ended.offset });
        } else {
            // It was empty: the new one has taken its name.
            self.segments.pop_back();
        }
        self.segments.push_back(self.next);
        self.dir_changed = true;
        self.must_roll = false;
        Ok(())
    }

    /// The last segment that can be retired, when the caller knows its frames to be all before `bound`.
    fn retirable(&self, bound: u64) -> Option<u64> {
        let (&first, &following) = (self.segments.front()?, self.segments.get(1)?);
        (following <= bound && following < self.next).then_some(first)
    }
}

impl Active {
    fn new(spare: Spare, path: PathBuf) -> Self {
        Self { file: spare.file, path, header: spare.header, offset: SEGMENT_HEADER_BYTES as u64 }
    }
}

pub(crate) fn poisoned(file: &Path, error: io::Error) -> AppendError {
    AppendError::Poisoned { file: file.to_owned(), source: Arc::new(error) }
}

impl Shared {
    pub(crate) fn append(&self, batch: &mut Batch) -> Result<Position, AppendError> {
        batch.check_limits()?;
        if batch.is_empty() {
            return Ok(self.written());
        }
        let mut appender = self.ready_appender(batch.bytes_len())?;
        let place = Place {
            sequence: appender.next,
            epoch: appender.active.header.epoch,
            durable: self.synced.load(Ordering::Relaxed),
            previous: appender.previous,
        };
        let (bytes, ends, hash) = batch.seal(place);
        if let Err(error) = write_all_frames(&*appender.active.file, bytes, ends, appender.active.offset) {
            appender.damaged = true;
            let file = appender.active.path.clone();
            let reason = appender.refuse(AppendError::Write { file, source: Arc::new(error) });
            // Now, if the disk lets us; else before the next append or by the preparing thread.
            let _ = self.repair(&mut appender);
            self.prepare_work.notify_one();
            return Err(reason);
        }
        appender.active.offset += bytes.len() as u64;
        appender.next += batch.len() as u64;
        appender.previous = hash;
        appender.refusal = None;
        let last = appender.next - 1;
        self.written.store(last, Ordering::Release);
        if appender.waiting_followers > 0 {
            self.written_changed.notify_all();
        }
        drop(appender);
        batch.clear();
        Ok(Position(last))
    }

    /// The appender, with room for `bytes` in a sound segment.
    fn ready_appender(&self, bytes: usize) -> Result<MutexGuard<'_, Appender>, AppendError> {
        let mut appender = lock(&self.appender);
        loop {
            if appender.closed {
                return Err(AppendError::Closed);
            }
            if appender.refusal.is_some() {
                if let Some(Refusal { reason: reason @ AppendError::Poisoned { .. }, .. }) = &appender.refusal
                {
                    return Err(reason.clone());
                }
                if appender.damaged {
                    self.repair(&mut appender)?;
                }
            }
            if appender.has_room(bytes) {
                return Ok(appender);
            }
            let no_segment = |source| AppendError::NoSegment { dir: self.dir.clone(), source };
            if let Some(spare) = appender.spare.take() {
                let rolled = appender.roll(&*self.storage, &self.dir, spare);
                self.prepare_work.notify_one();
                if let Err(reason) = rolled {
                    return Err(appender.refuse(reason));
                }
            } else if let Some(error) = &appender.spare_error {
                let reason = no_segment(Arc::clone(error));
                return Err(appender.refuse(reason));
            } else {
                // The disk makes segments more slowly than they fill: its speed is the limit.
                appender = self.spare_changed.wait(appender).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Cuts off what a failed write may have left. The segment is synced before: one that is shorter than
    /// its capacity counts as durable as a whole (see `recover`).
    pub(crate) fn repair(&self, appender: &mut Appender) -> Result<(), AppendError> {
        if let Err(error) = appender.active.file.sync() {
            let reason = appender.refuse(poisoned(&appender.active.path, error));
            // The kernel tells of a failure once: the sync thread would not hear of this one.
            self.fail_waiting(reason.clone());
            return Err(reason);
        }
        if let Err(error) = appender.active.file.set_len(appender.active.offset) {
            let reason = AppendError::Write { file: appender.active.path.clone(), source: Arc::new(error) };
            return Err(appender.refuse(reason));
        }
        appender.damaged = false;
        appender.must_roll = true;
        Ok(())
    }

    pub(crate) fn retire(&self, before: Position) -> Result<(), RetireError> {
        let bound = before.0.min(self.synced().next().0);
        loop {
            let Some(first) = lock(&self.appender).retirable(bound) else {
                return Ok(());
            };
            let file = segment_path(&self.dir, first);
            match self.storage.remove(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(RetireError { file, source });
                }
                // An earlier try may have deleted it and failed to say so.
                Ok(()) | Err(_) => {}
            }
            // One at a time, so that what is left after a power loss has no gap.
            if let Err(source) = self.storage.sync_dir(&self.dir) {
                return Err(RetireError { file, source });
            }
            lock(&self.appender).segments.pop_front();
        }
    }
}
