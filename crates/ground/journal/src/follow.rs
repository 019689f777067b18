//! Reading what this process appends, as soon as it is as durable as asked.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Position,
    error::ReadError,
    journal::{Shared, lock},
    read::{Cursor, Frames},
};

/// What frames must survive before they are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The death of the process: up to [`crate::Journal::written`].
    Written,
    /// The loss of power: up to [`crate::Journal::synced`].
    Synced,
}

/// Reads the frames of an open journal in order. Does not keep it open.
pub struct Follower {
    shared: Arc<Shared>,
    cursor: Cursor,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, from: Position) -> Self {
        let cursor = Cursor::new(Arc::clone(&shared.storage), &shared.dir, from);
        Self { shared, cursor }
    }

    /// Position of the frame that comes next.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.cursor.wanted)
    }

    /// The next frames, about 256 KiB at once. If there is none at this level, waits for one up to
    /// `timeout` (zero: does not wait), then returns none.
    ///
    /// # Errors
    /// If the frame was retired, is damaged, or cannot be read; the same frame then comes next. If the
    /// journal is closed and all its frames were handed out.
    pub fn next_batch(&mut self, level: Level, timeout: Duration) -> Result<Frames<'_>, ReadError> {
        let deadline = Instant::now().checked_add(timeout);
        let limit = match level {
            Level::Written => self.wait_written(deadline),
            Level::Synced => self.wait_synced(deadline),
        };
        if limit >= self.position() {
            self.cursor.read(Some(limit.0))?;
        } else {
            self.cursor.clear();
            if lock(&self.shared.appender).closed && self.position() > self.shared.written() {
                return Err(ReadError::Closed { next: self.position() });
            }
        }
        Ok(self.cursor.frames())
    }

    fn wait_written(&self, deadline: Option<Instant>) -> Position {
        if self.shared.written() >= self.position() {
            return self.shared.written();
        }
        let mut appender = lock(&self.shared.appender);
        appender.waiting_followers += 1;
        while self.shared.written() < self.position() && !appender.closed {
            let Some(left) = time_left(deadline) else { break };
            let waited = self.shared.written_changed.wait_timeout(appender, left);
            appender = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        appender.waiting_followers -= 1;
        self.shared.written()
    }

    fn wait_synced(&self, deadline: Option<Instant>) -> Position {
        let mut state = lock(&self.shared.sync);
        while self.shared.synced() < self.position() && !state.has_ended() {
            let Some(left) = time_left(deadline) else { break };
            let waited = self.shared.synced_changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.shared.synced()
    }
}

/// `None` once the deadline has passed. One too far to be told is waited for a day at a time.
fn time_left(deadline: Option<Instant>) -> Option<Duration> {
    let Some(deadline) = deadline else {
        return Some(Duration::from_secs(24 * 60 * 60));
    };
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}
