//! Where the sealer's frames come from: the journal of its own process, or that of a gateway in another one.

use std::{
    thread,
    time::{Duration, Instant},
};

use journal::{AppendError, Follower, Frames, Health, Journal, Level, Position, ReadError, Reader};

use super::link::{self, GLANCE, JournalSide};
use crate::{TrailError, layout::Layout};

/// A journal to seal.
pub(super) enum Source {
    /// Written by this process.
    Own(Box<Own>),
    /// Written by another.
    Foreign(Box<Foreign>),
}

/// What a source has to give.
pub(super) enum Next<'a> {
    /// Frames; none if there are none for now. [`Source::settle`] has to be asked before a checkpoint covers them.
    Frames(Frames<'a>),
    /// The journal is closed, and all of it was given.
    Closed,
}

impl Source {
    pub(super) fn own(journal: Journal, from: Position) -> Self {
        let follower = journal.follow(from);
        Self::Own(Box::new(Own { journal, follower, ahead: true }))
    }

    /// Goes to a position, after the sealer was set back.
    pub(super) fn go_to(&mut self, position: Position) {
        match self {
            Self::Own(own) => own.follower = own.journal.follow(position),
            Self::Foreign(foreign) => foreign.go_to(position),
        }
    }

    /// The next frames; waits up to `patience` for one.
    pub(super) fn next_batch(&mut self, patience: Duration) -> Result<Next<'_>, TrailError> {
        match self {
            Self::Own(own) => match own.next_batch(patience) {
                Ok(frames) => Ok(Next::Frames(frames)),
                Err(ReadError::Closed { .. }) => Ok(Next::Closed),
                Err(error) => Err(error.into()),
            },
            Self::Foreign(foreign) => foreign.next_batch(patience).map(Next::Frames),
        }
    }

    /// Returns once all frames that were given up to `position` survive the loss of power: only then may a checkpoint
    /// cover them.
    pub(super) fn settle(&mut self, position: Position) -> Result<(), TrailError> {
        match self {
            Self::Own(own) => own.settle(position),
            // Gives no others.
            Self::Foreign(_) => Ok(()),
        }
    }

    /// The last frame that is known to survive the loss of power, of those up to `position`.
    pub(super) fn settled(&self, position: Position) -> Position {
        match self {
            Self::Own(own) => position.min(own.journal.synced()),
            Self::Foreign(_) => position,
        }
    }

    /// Why frames that were written will not be sealed by this process.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Own(own) => own.poison().map(|reason| TrailError::from(reason).in_full()),
            Self::Foreign(_) => None,
        }
    }

    /// Lets the journal go of frames before `position`. Another process's is told otherwise.
    pub(super) fn retire(&self, position: Position) -> Result<(), TrailError> {
        match self {
            Self::Own(own) => Ok(own.journal.retire(position)?),
            Self::Foreign(_) => Ok(()),
        }
    }
}

/// The journal of this process. Frames are given as soon as they are written, so that sealing is many small pieces of work
/// and none that makes commands wait for a core.
pub(super) struct Own {
    journal: Journal,
    follower: Follower,
    /// Frames are given before they are synced. Not any more once a sync has failed: what was not synced then never will be.
    ahead: bool,
}

impl Own {
    fn next_batch(&mut self, patience: Duration) -> Result<Frames<'_>, ReadError> {
        let next = self.follower.position();
        if self.ahead && self.journal.written() >= next {
            return self.follower.next_batch(Level::Written, Duration::ZERO);
        }
        if self.journal.synced() < next && self.poison().is_some() {
            // Nothing more will come, and there is nobody left who would let us wait for it.
            thread::sleep(patience);
        }
        // Waiting is for a sync: it costs who appends nothing.
        self.follower.next_batch(Level::Synced, patience)
    }

    /// The sync that failed for good, if one has.
    fn poison(&self) -> Option<AppendError> {
        match self.journal.health() {
            Health::Refusing { reason: reason @ AppendError::Poisoned { .. }, .. } => Some(reason),
            Health::Refusing { .. } | Health::Healthy => None,
        }
    }

    fn settle(&mut self, position: Position) -> Result<(), TrailError> {
        let settled = self.journal.wait_synced(position);
        self.ahead &= settled.is_ok();
        Ok(settled?)
    }
}

/// The journal of a gateway in another process.
pub(super) struct Foreign {
    layout: Layout,
    reader: Reader,
    side: Option<JournalSide>,
    /// The run of the gateway whose journal was found to be the one that is being sealed, also by a sealer before this one.
    accepted: Option<String>,
}

impl Foreign {
    pub(super) fn new(layout: &Layout, from: Position) -> Self {
        let reader = Reader::open(&layout.journal(), from);
        Self { layout: layout.clone(), reader, side: None, accepted: link::read(&layout.sealed_run()) }
    }

    fn go_to(&mut self, position: Position) {
        self.reader = Reader::open(&self.layout.journal(), position);
        self.side = None;
    }

    fn next_batch(&mut self, patience: Duration) -> Result<Frames<'_>, TrailError> {
        let deadline = Instant::now() + patience;
        while self.durable() < self.reader.position() {
            self.look()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.durable() >= self.reader.position() || left.is_zero() {
                break;
            }
            thread::sleep(GLANCE.min(left));
        }
        let limit = self.durable();
        Ok(self.reader.next_batch_until(limit)?)
    }

    fn durable(&self) -> Position {
        Position(self.side.as_ref().map_or(0, |side| side.durable))
    }

    /// Reads what the gateway says. Each of its runs must go on where the sealer is, or have what it still needs.
    fn look(&mut self) -> Result<(), TrailError> {
        let Some(side) = link::read::<JournalSide>(&self.layout.journal_side()) else { return Ok(()) };
        let next = self.reader.position();
        if self.side.as_ref().is_none_or(|known| known.run != side.run) {
            let is_accepted = self.accepted.as_ref() == Some(&side.run);
            // A journal that begins anew soon has frames of any number: of a run that is new to us they prove nothing.
            let last = if is_accepted { side.durable.saturating_add(1) } else { side.first };
            if !(side.oldest..=last).contains(&next.0) {
                return Err(TrailError::OtherJournal {
                    dir: self.layout.journal(),
                    next,
                    oldest: Position(side.oldest),
                    first: Position(side.first),
                });
            }
            if !is_accepted {
                // Before anything of it is sealed: where a sealer after this one goes on is then no riddle.
                link::write(&self.layout.sealed_run(), &side.run)?;
                self.accepted = Some(side.run.clone());
            }
            // What this reader saw of the last segment may have been cut off since.
            self.reader = Reader::open(&self.layout.journal(), next);
        }
        self.side = Some(side);
        Ok(())
    }
}
