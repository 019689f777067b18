//! The thread that runs the sealer, and what others see of it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use journal::{Follower, Journal, Level, Position, ReadError};
use vocabulary::Timestamp;

use super::lock;
use crate::{TrailError, sealer::Sealer};

/// Under work, frames are taken this often: a wake-up per group sync would cost more than the work itself.
const TICK: Duration = Duration::from_millis(25);
/// How long an idle sealer waits for a frame before it looks around.
const IDLE: Duration = Duration::from_millis(200);
/// A backlog is published in pieces of this long.
const MOST_UNPUBLISHED: Duration = Duration::from_millis(900);
/// After a failure, the sealer tries again this much later.
const RETRY: Duration = Duration::from_millis(500);

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
}

struct Shared {
    sealed: Sealed,
    /// Somebody waits: publish at once.
    hurry: bool,
    stop: bool,
    running: bool,
}

/// The handle that the facade and the thread share.
pub(super) struct Runner {
    shared: Mutex<Shared>,
    /// Any change of `shared`.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runner {
    pub(super) fn new(through: Position, entries: u64) -> Self {
        let sealed = Sealed { through, entries, at: None, trouble: None };
        Self {
            shared: Mutex::new(Shared { sealed, hurry: false, stop: false, running: false }),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        }
    }

    pub(super) fn start(self: Arc<Self>, sealer: Sealer, journal: Journal) -> io::Result<()> {
        let runner = Arc::clone(&self);
        let thread =
            thread::Builder::new().name("sealer".to_owned()).spawn(move || runner.run(sealer, &journal))?;
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

    fn stopped(&self) -> bool {
        lock(&self.shared).stop
    }

    fn run(&self, mut sealer: Sealer, journal: &Journal) {
        let mut follower = journal.follow(sealer.next_position());
        let mut recovered = true;
        while !self.stopped() {
            let worked = if recovered { Ok(()) } else { sealer.recover() };
            if !recovered && worked.is_ok() {
                follower = journal.follow(sealer.next_position());
            }
            match worked.and_then(|()| self.work(&mut sealer, &mut follower, journal)) {
                Ok(()) => break,
                Err(error) => {
                    let reason = error.in_full();
                    tracing::error!(reason, "the sealer does not go on; it will try again");
                    lock(&self.shared).sealed.trouble = Some(reason);
                    recovered = false;
                    self.wait(RETRY, false);
                }
            }
        }
        lock(&self.shared).running = false;
        self.changed.notify_all();
    }

    /// Waits for a while; not for so long if somebody is in a hurry and that counts.
    fn wait(&self, most: Duration, heed_hurry: bool) {
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
    fn work(
        &self,
        sealer: &mut Sealer,
        follower: &mut Follower,
        journal: &Journal,
    ) -> Result<(), TrailError> {
        let mut since: Option<Instant> = None;
        while !self.stopped() {
            let patience = if since.is_some() { Duration::ZERO } else { IDLE };
            let closed = take_all(sealer, follower, patience, &mut since)?;
            sealer.announce_long_commands(Timestamp::now())?;
            if sealer.has_unpublished()? {
                let waited = since.get_or_insert_with(Instant::now).elapsed();
                let hurry = std::mem::take(&mut lock(&self.shared).hurry);
                if hurry || closed || waited >= sealer.pace().seal_after {
                    let published = sealer.publish()?;
                    self.tell(published.through, published.entries, true);
                    since = None;
                    journal.retire(published.retire_before)?;
                }
            } else {
                // Intents alone make no leaf: they are as sealed as can be.
                self.tell(sealer.sealed_through(), sealer.published_entries()?, false);
                since = None;
            }
            if closed {
                return Ok(());
            }
            if since.is_some() {
                self.wait(TICK, true);
            }
        }
        Ok(())
    }

    fn tell(&self, through: Position, entries: u64, published: bool) {
        let mut shared = lock(&self.shared);
        let sealed = &mut shared.sealed;
        (sealed.through, sealed.entries, sealed.trouble) = (through, entries, None);
        if published {
            sealed.at = Some(Timestamp::now());
        } else {
            shared.hurry = false;
        }
        drop(shared);
        self.changed.notify_all();
    }
}

/// Takes all frames that survive the loss of power, or as many as are to be published together. Returns whether the
/// journal is closed and no more will come.
fn take_all(
    sealer: &mut Sealer,
    follower: &mut Follower,
    mut patience: Duration,
    since: &mut Option<Instant>,
) -> Result<bool, TrailError> {
    loop {
        let frames = match follower.next_batch(Level::Synced, patience) {
            Ok(frames) => frames,
            Err(ReadError::Closed { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        if frames.len() == 0 {
            return Ok(false);
        }
        let since = *since.get_or_insert_with(Instant::now);
        for frame in frames {
            sealer.take(frame.position, frame.payload)?;
        }
        if since.elapsed() >= MOST_UNPUBLISHED {
            return Ok(false);
        }
        patience = Duration::ZERO;
    }
}
