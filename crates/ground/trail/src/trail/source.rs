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
    Own(Journal, Box<Follower>),
    /// Written by another.
    Foreign(Box<Foreign>),
}

/// What a source has to give.
pub(super) enum Next<'a> {
    /// Frames that survive the loss of power; none if there are none for now.
    Frames(Frames<'a>),
    /// The journal is closed, and all of it was given.
    Closed,
}

impl Source {
    pub(super) fn own(journal: Journal, from: Position) -> Self {
        let follower = Box::new(journal.follow(from));
        Self::Own(journal, follower)
    }

    /// Goes to a position, after the sealer was set back.
    pub(super) fn go_to(&mut self, position: Position) {
        match self {
            Self::Own(journal, follower) => **follower = journal.follow(position),
            Self::Foreign(foreign) => foreign.go_to(position),
        }
    }

    /// The next frames; waits up to `patience` for one.
    pub(super) fn next_batch(&mut self, patience: Duration) -> Result<Next<'_>, TrailError> {
        match self {
            Self::Own(journal, follower) => match next_synced(journal, follower, patience) {
                Ok(frames) => Ok(Next::Frames(frames)),
                Err(ReadError::Closed { .. }) => Ok(Next::Closed),
                Err(error) => Err(error.into()),
            },
            Self::Foreign(foreign) => foreign.next_batch(patience).map(Next::Frames),
        }
    }

    /// Why frames that were written will not be sealed by this process.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Own(journal, _) => poison(journal).map(|reason| TrailError::from(reason).in_full()),
            Self::Foreign(_) => None,
        }
    }

    /// Lets the journal go of frames before `position`. Another process's is told otherwise.
    pub(super) fn retire(&self, position: Position) -> Result<(), TrailError> {
        match self {
            Self::Own(journal, _) => Ok(journal.retire(position)?),
            Self::Foreign(_) => Ok(()),
        }
    }
}

/// The next frames of this process's own journal. Waiting is for a sync: it costs who appends nothing.
fn next_synced<'f>(
    journal: &Journal,
    follower: &'f mut Follower,
    patience: Duration,
) -> Result<Frames<'f>, ReadError> {
    if journal.synced() < follower.position() && poison(journal).is_some() {
        // Nothing more will come, and there is nobody left who would let us wait for it.
        thread::sleep(patience);
    }
    follower.next_batch(Level::Synced, patience)
}

/// The sync that failed for good, if one has.
fn poison(journal: &Journal) -> Option<AppendError> {
    match journal.health() {
        Health::Refusing { reason: reason @ AppendError::Poisoned { .. }, .. } => Some(reason),
        Health::Refusing { .. } | Health::Healthy => None,
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
