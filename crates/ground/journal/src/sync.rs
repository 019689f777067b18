//! Group fsync: one thread syncs for all who wait.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, atomic::Ordering},
    task::{Poll, Waker},
};

use crate::{
    Position,
    append::{Ended, SyncScope, poisoned},
    error::AppendError,
    journal::{Shared, lock},
};

/// What the sync mutex guards.
#[derive(Default)]
pub(crate) struct SyncState {
    /// Highest position anybody waits for.
    wanted: u64,
    /// By the identity of the task, so that polling again takes no second place. All who wait are woken
    /// by the next sync at the latest but one: there are never more than tasks that wait.
    waiting: HashMap<WakerIdentity, (u64, Waker)>,
    /// The sync that failed, for good.
    failure: Option<AppendError>,
    /// The thread waits for work.
    idle: bool,
    stop: bool,
    /// The thread has ended.
    ended: bool,
}

/// The same two pointers that `Waker::will_wake` compares.
#[derive(PartialEq, Eq, Hash)]
struct WakerIdentity(usize, usize);

impl WakerIdentity {
    fn of(waker: &Waker) -> Self {
        Self(waker.data() as usize, std::ptr::from_ref(waker.vtable()) as usize)
    }
}

impl SyncState {
    /// The answer to who waits for `position`, if it is known.
    fn verdict(&self, position: Position, shared: &Shared) -> Option<Result<(), AppendError>> {
        if shared.synced() >= position {
            return Some(Ok(()));
        }
        if let Some(failure) = &self.failure {
            return Some(Err(failure.clone()));
        }
        let written = shared.written();
        if position > written {
            return Some(Err(AppendError::NotWritten { position, written }));
        }
        self.ended.then_some(Err(AppendError::Closed))
    }

    /// No frame will be synced any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    fn take_wakers(&mut self, synced: Option<u64>) -> Vec<Waker> {
        let done = |&(position, _): &(u64, Waker)| synced.is_none_or(|synced| position <= synced);
        self.waiting.extract_if(|_, waiter| done(waiter)).map(|(_, (_, waker))| waker).collect()
    }
}

impl Shared {
    pub(crate) fn poll_synced(&self, position: Position, waker: &Waker) -> Poll<Result<(), AppendError>> {
        if self.synced() >= position {
            return Poll::Ready(Ok(()));
        }
        let mut state = lock(&self.sync);
        if let Some(verdict) = state.verdict(position, self) {
            return Poll::Ready(verdict);
        }
        let waiter = state.waiting.entry(WakerIdentity::of(waker));
        let waited_for = &mut waiter.or_insert_with(|| (position.0, waker.clone())).0;
        // A task may wait for several frames; it is woken for the first and polls again for the rest.
        *waited_for = position.0.min(*waited_for);
        self.want(&mut state, position);
        Poll::Pending
    }

    pub(crate) fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        let mut state = lock(&self.sync);
        loop {
            if let Some(verdict) = state.verdict(position, self) {
                return verdict;
            }
            self.want(&mut state, position);
            state = self.synced_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn want(&self, state: &mut SyncState, position: Position) {
        state.wanted = state.wanted.max(position.0);
        if state.idle {
            state.idle = false;
            self.sync_work.notify_one();
        }
    }

    /// Refuses appends from now on and lets both threads finish, after a last sync.
    pub(crate) fn begin_stop(&self) {
        lock(&self.appender).closed = true;
        self.prepare_work.notify_all();
        self.spare_changed.notify_all();
        self.written_changed.notify_all();
        let mut state = lock(&self.sync);
        state.stop = true;
        self.want(&mut state, self.written());
    }

    /// Waits for the last sync, then seals the last segment. Not for the sync thread itself.
    pub(crate) fn finish_stop(&self) -> Result<(), AppendError> {
        self.wait_synced(self.written())?;
        let ended = lock(&self.appender).end_active();
        seal_all(&[ended]).map_err(|(file, error)| poisoned(&file, error))
    }

    /// Lets the sync thread end and tell all who wait, after a sync that failed elsewhere.
    pub(crate) fn fail_waiting(&self, reason: AppendError) {
        lock(&self.sync).failure = Some(reason);
        self.sync_work.notify_one();
    }
}

pub(crate) fn run(shared: &Shared) {
    while wait_for_work(shared) {
        let scope = lock(&shared.appender).sync_scope();
        let done = sync_all(shared, &scope).and_then(|()| {
            publish(shared, scope.target);
            seal_all(&scope.ended)
        });
        if let Err((file, error)) = done {
            let reason = lock(&shared.appender).refuse(poisoned(&file, error));
            lock(&shared.sync).failure = Some(reason);
        }
    }
    let mut state = lock(&shared.sync);
    state.ended = true;
    let wakers = state.take_wakers(None);
    drop(state);
    shared.synced_changed.notify_all();
    wakers.into_iter().for_each(Waker::wake);
}

fn publish(shared: &Shared, target: u64) {
    // A repair under this mutex may have been told of a failure that our own sync then was not.
    let poisoned = lock(&shared.appender).poison().is_some();
    if poisoned {
        return;
    }
    shared.synced.store(target, Ordering::Release);
    let wakers = lock(&shared.sync).take_wakers(Some(target));
    shared.synced_changed.notify_all();
    wakers.into_iter().for_each(Waker::wake);
}

/// False once the thread shall end.
fn wait_for_work(shared: &Shared) -> bool {
    let mut state = lock(&shared.sync);
    loop {
        if state.failure.is_some() {
            return false;
        }
        let synced = shared.synced();
        if state.wanted > synced.0 {
            return true;
        }
        if state.stop {
            return false;
        }
        state.idle = true;
        let waited = shared.sync_work.wait_timeout(state, shared.settings.background_sync);
        let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state = back;
        state.idle = false;
        if timeout.timed_out() && shared.written() > synced {
            return true;
        }
    }
}

type SyncError = (PathBuf, io::Error);

/// Never tried again: the kernel reports a failed write-back once, then takes the pages for clean.
fn sync_all(shared: &Shared, scope: &SyncScope) -> Result<(), SyncError> {
    let named = |file: &Path| {
        let file = file.to_owned();
        move |error| (file, error)
    };
    // The names first: a frame in a file that a power loss removes is not durable.
    if scope.dir_changed {
        shared.storage.sync_dir(&shared.dir).map_err(named(&shared.dir))?;
    }
    for ended in &scope.ended {
        ended.file.sync().map_err(named(&ended.path))?;
    }
    let (file, path) = &scope.active;
    file.sync().map_err(named(path))
}

/// Cuts synced segments to their last frame, by which recovery knows that no invalid tail is excused.
fn seal_all(ended: &[Ended]) -> Result<(), SyncError> {
    for Ended { file, path, end } in ended {
        // Nothing depends on the cut itself: uncut, the segment is read as one that was being written.
        if file.set_len(*end).is_ok() {
            file.sync().map_err(|error| (path.clone(), error))?;
        }
    }
    Ok(())
}
