//! The thread that runs the sealer, and what others see of it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use journal::Position;
use vocabulary::Timestamp;

use super::{
    lock,
    source::{Next, Source},
};
use crate::{TrailError, sealer::Sealer};

/// Under work, frames are taken this often: as often as they are synced. Each time, the sealer takes a core from commands and
/// their caches with it, so that more often costs more in all.
const TICK: Duration = Duration::from_millis(100);
/// How long an idle sealer waits for a frame before it looks around.
const IDLE: Duration = Duration::from_millis(200);
/// A backlog is published in pieces of this long.
const MOST_UNPUBLISHED: Duration = Duration::from_millis(900);

/// What is sealed so far.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// The last frame that a checkpoint covers.
    pub(super) through: Position,
    /// Size of the tree.
    pub(super) entries: u64,
    /// When the checkpoint was published.
    pub(super) at: Option<Timestamp>,
    /// Why it does not go on.
    pub(super) trouble: Option<String>,
    /// The journal may let go of what stands before.
    pub(super) retire_before: Position,
}

struct Shared {
    sealed: Sealed,
    /// Somebody waits: publish at once.
    hurry: bool,
    stop: bool,
    /// Stop as soon as nothing is left to seal.
    finish: bool,
    running: bool,
}

/// The handle that the facade and the thread share.
pub(super) struct Runner {
    retry_after: Duration,
    shared: Mutex<Shared>,
    /// Any change of `shared`.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runner {
    pub(super) fn new(retry_after: Duration, through: Position, entries: u64) -> Self {
        let sealed = Sealed { through, entries, at: None, trouble: None, retire_before: Position::default() };
        Self {
            retry_after,
            shared: Mutex::new(Shared { sealed, hurry: false, stop: false, finish: false, running: false }),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        }
    }

    pub(super) fn start(self: Arc<Self>, sealer: Sealer, source: Source) -> io::Result<()> {
        let runner = Arc::clone(&self);
        let thread =
            thread::Builder::new().name("sealer".to_owned()).spawn(move || runner.run(sealer, source))?;
        lock(&self.shared).running = true;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    pub(super) fn sealed(&self) -> Sealed {
        lock(&self.shared).sealed.clone()
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.shared).running
    }

    pub(super) fn wait_sealed(&self, target: Position, timeout: Duration) -> Result<(), TrailError> {
        let deadline = Instant::now() + timeout;
        let mut shared = lock(&self.shared);
        while shared.sealed.through < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.stop {
                let behind = target.0 - shared.sealed.through.0;
                let reason = shared.sealed.trouble.clone();
                return Err(TrailError::NotSealed { seconds: timeout.as_secs(), behind, reason });
            }
            shared.hurry = true;
            self.changed.notify_all();
            shared = self.changed.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Ends the thread, in the state that a crash would leave.
    pub(super) fn stop(&self) {
        lock(&self.shared).stop = true;
        self.changed.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread has been reported by itself.
            let _ = thread.join();
        }
    }

    pub(super) fn stopped(&self) -> bool {
        lock(&self.shared).stop
    }

    /// Ends the thread once everything there is has been sealed; if that fails, at once.
    pub(super) fn stop_when_sealed(&self) {
        lock(&self.shared).finish = true;
        self.changed.notify_all();
    }

    /// Another process seals: it is watched from now on.
    pub(super) fn watch(&self) {
        lock(&self.shared).running = true;
    }

    /// What the other process has sealed.
    pub(super) fn heard(&self, through: Position, entries: u64, at: Option<Timestamp>) {
        let mut shared = lock(&self.shared);
        let sealed = &mut shared.sealed;
        let news = sealed.through != through;
        (sealed.through, sealed.entries, sealed.at, sealed.trouble) = (through, entries, at, None);
        drop(shared);
        // Who waits asks for haste again when woken: not for nothing.
        if news {
            self.changed.notify_all();
        }
    }

    /// Why the other process does not seal.
    pub(super) fn trouble(&self, reason: String) {
        lock(&self.shared).sealed.trouble = Some(reason);
    }

    /// Publishes at once what there is.
    pub(super) fn hurry(&self) {
        lock(&self.shared).hurry = true;
        self.changed.notify_all();
    }

    /// Whether somebody waits; forgotten by asking.
    pub(super) fn take_hurry(&self) -> bool {
        std::mem::take(&mut lock(&self.shared).hurry)
    }

    fn finishing(&self) -> bool {
        lock(&self.shared).finish
    }

    fn run(&self, mut sealer: Sealer, mut source: Source) {
        let mut recovered = true;
        while !self.stopped() {
            let worked = if recovered { Ok(()) } else { sealer.recover() };
            if !recovered && worked.is_ok() {
                source.go_to(sealer.next_position());
            }
            match worked.and_then(|()| self.work(&mut sealer, &mut source)) {
                Ok(()) => break,
                Err(error) => {
                    let reason = error.in_full();
                    tracing::error!(reason, "the sealer does not go on; it will try again");
                    lock(&self.shared).sealed.trouble = Some(reason);
                    recovered = false;
                    if self.finishing() {
                        break;
                    }
                    self.wait(self.retry_after, false);
                }
            }
        }
        lock(&self.shared).running = false;
        self.changed.notify_all();
    }

    /// Waits for a while; not for so long if somebody is in a hurry and that counts.
    pub(super) fn wait(&self, most: Duration, heed_hurry: bool) {
        let deadline = Instant::now() + most;
        let mut shared = lock(&self.shared);
        while !(shared.stop || heed_hurry && shared.hurry) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            shared = self.changed.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Seals until told to stop or the journal is closed and sealed.
    fn work(&self, sealer: &mut Sealer, source: &mut Source) -> Result<(), TrailError> {
        let mut since: Option<Instant> = None;
        while !self.stopped() {
            let finishing = self.finishing();
            let patience = if since.is_some() || finishing { Duration::ZERO } else { IDLE };
            let taken = take_all(sealer, source, patience, &mut since)?;
            let closed = taken.closed || (finishing && taken.all);
            sealer.announce_long_commands(Timestamp::now())?;
            if sealer.has_unpublished()? {
                let waited = since.get_or_insert_with(Instant::now).elapsed();
                let hurry = std::mem::take(&mut lock(&self.shared).hurry);
                if hurry || closed || waited >= sealer.pace().seal_after {
                    let published = sealer.publish()?;
                    self.tell(published.through, published.entries, true, None);
                    since = None;
                    lock(&self.shared).sealed.retire_before = published.retire_before;
                    source.retire(published.retire_before)?;
                }
            } else {
                // Intents alone make no leaf: they are as sealed as can be.
                let through = sealer.sealed_through();
                self.tell(through, sealer.published_entries()?, false, source.trouble());
                since = None;
            }
            if closed {
                return Ok(());
            }
            if let Some(since) = since {
                self.wait(TICK.min(sealer.pace().seal_after.saturating_sub(since.elapsed())), true);
            }
        }
        Ok(())
    }

    fn tell(&self, through: Position, entries: u64, published: bool, trouble: Option<String>) {
        let mut shared = lock(&self.shared);
        let sealed = &mut shared.sealed;
        (sealed.through, sealed.entries, sealed.trouble) = (through, entries, trouble);
        if published {
            sealed.at = Some(Timestamp::now());
        } else {
            shared.hurry = false;
        }
        drop(shared);
        self.changed.notify_all();
    }
}

/// What [`take_all`] has taken.
#[derive(Default)]
struct Taken {
    /// There were no more.
    all: bool,
    /// The journal is closed, and no more will come.
    closed: bool,
}

/// Takes all frames that survive the loss of power, or as many as are to be published together.
fn take_all(
    sealer: &mut Sealer,
    source: &mut Source,
    mut patience: Duration,
    since: &mut Option<Instant>,
) -> Result<Taken, TrailError> {
    let mut taken = Taken::default();
    loop {
        let frames = match source.next_batch(patience)? {
            Next::Frames(frames) => frames,
            Next::Closed => return Ok(Taken { closed: true, ..taken }),
        };
        if frames.len() == 0 {
            return Ok(Taken { all: true, ..taken });
        }
        let since = *since.get_or_insert_with(Instant::now);
        taken.all = frames.are_all();
        for frame in frames {
            sealer.take(frame.position, frame.payload)?;
        }
        if taken.all || since.elapsed() >= MOST_UNPUBLISHED {
            return Ok(taken);
        }
        patience = Duration::ZERO;
    }
}
