//! One turn of a session: what was read together is judged, recorded and cleared together.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll};

use journal::{Batch, Position};
use trail::record::{FactsRecord, Intent, OutcomeRecord};
use vocabulary::{Facts, Status, Timestamp, TransactionControl};

use crate::gatehouse::Level;
use crate::open::{NotRecorded, OpenSession};

thread_local! {
    /// The batch of whichever session has its turn on this thread. Turns never wait, so one is enough.
    static BATCH: Cell<Option<Batch>> = const { Cell::new(None) };
}

/// Facts together with their form in the trail, made once per distinct statement.
#[derive(Debug)]
pub struct Known {
    facts: Arc<Facts>,
    record: Vec<u8>,
}

impl Known {
    /// Encodes the facts once, for all commands that have them.
    #[must_use]
    pub fn new(facts: Arc<Facts>) -> Self {
        let record = FactsRecord::from(&*facts).encode();
        Self { facts, record }
    }

    /// The facts.
    #[must_use]
    pub const fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }
}

/// A command as a protocol hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// What is known of it.
    pub known: &'a Known,
    /// Its text as the client sent it; may be invalid UTF-8.
    pub text: &'a [u8],
    /// Its parameters, encoded by `trail::record::ParamsBuf`.
    pub params: &'a [u8],
    /// Whether it runs inside an explicit transaction for certain.
    pub in_transaction: bool,
}

/// The right to forward one command, and the duty to say what came of it. Its scope is one command, one COPY
/// stream, or one shell channel.
#[must_use = "a permit that is not observed leaves a command without an outcome"]
#[derive(Debug)]
pub struct Permit {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) level: Level,
}

impl Permit {
    /// When the command was judged.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The command's place in its session.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}

/// Proof that everything judged and observed in a turn is recorded.
#[derive(Debug)]
pub struct Cleared(());

/// A turn is in the journal; some of it must still reach the disk.
#[must_use = "nothing may be forwarded or released before the barrier is passed"]
#[derive(Debug, Clone, Copy)]
pub struct Barrier(Position);

impl Barrier {
    /// Waits for the disk.
    ///
    /// # Errors
    /// When the journal can't make it durable.
    pub fn poll(&self, session: &OpenSession, cx: &mut Context<'_>) -> Poll<Result<Cleared, NotRecorded>> {
        session.house.trail.poll_synced(self.0, cx).map(|result| match result {
            Ok(()) => Ok(Cleared(())),
            Err(error) => Err(NotRecorded::new(&error)),
        })
    }
}

/// What [`Turn::record`] leads to.
#[must_use = "nothing may be forwarded or released before the turn is cleared"]
#[derive(Debug)]
pub enum Recorded {
    /// All is as durable as it has to be.
    Cleared(Cleared),
    /// A sync has to finish first.
    Waiting(Barrier),
}

/// One turn: judge and observe any number of commands, then record all of it with one write.
#[derive(Debug)]
pub struct Turn<'s> {
    session: &'s mut OpenSession,
    batch: Batch,
    level: Level,
    /// The session's next number when the turn began: what the journal refuses leaves no gap.
    first_seq: u64,
}

impl<'s> Turn<'s> {
    pub(crate) fn new(session: &'s mut OpenSession) -> Self {
        let mut batch = BATCH.take().unwrap_or_default();
        batch.clear();
        let first_seq = session.next_seq;
        Self { session, batch, level: Level::Crash, first_seq }
    }

    /// Judges a command and puts its intent into the turn. It may be forwarded once the turn is recorded.
    ///
    /// # Errors
    /// When the intent can't be encoded: the command must be refused.
    pub fn judge(&mut self, command: &Command<'_>) -> Result<Permit, NotRecorded> {
        let at = Timestamp::now();
        let level = self.level_of(command);
        let seq = self.session.next_seq;
        let intent = Intent {
            session: self.session.id,
            seq,
            at,
            facts: &command.known.record,
            decision: &self.session.house.decision,
            text: command.text,
            params: command.params,
        };
        intent.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))?;
        self.session.next_seq += 1;
        self.level = self.level.max(level);
        Ok(Permit { seq, at, level })
    }

    /// Puts a command's outcome into the turn and uses up its permit. `outcome`'s session, number, time and
    /// duration are filled in here.
    ///
    /// # Errors
    /// When the outcome can't be encoded: the client must not hear of a success.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up by its one outcome")]
    pub fn observe(&mut self, permit: Permit, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded> {
        let now = Timestamp::now();
        let record = OutcomeRecord {
            session: self.session.id,
            seq: permit.seq,
            at: now,
            duration_us: now.micros_since(permit.at),
            ..outcome
        };
        record.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))?;
        if outcome.executed != Some(false) && outcome.status != Status::Denied {
            self.level = self.level.max(permit.level);
        }
        Ok(())
    }

    /// Writes the turn into the journal with one append.
    ///
    /// # Errors
    /// When the journal refuses: nothing of this turn may be forwarded or released, and none of its permits may
    /// be observed, since the trail does not know their commands.
    pub fn record(mut self) -> Result<Recorded, NotRecorded> {
        if self.batch.is_empty() {
            return Ok(Recorded::Cleared(Cleared(())));
        }
        let appended = self.session.house.trail.append(&mut self.batch);
        let position = appended.map_err(|error| NotRecorded::new(&error))?;
        self.batch.clear();
        Ok(match self.level {
            Level::Crash => Recorded::Cleared(Cleared(())),
            Level::Power => Recorded::Waiting(Barrier(position)),
        })
    }

    /// The protocol saw that no explicit transaction is under way.
    pub const fn outside_transaction(&mut self) {
        self.session.transaction_wrote = false;
    }

    /// What a command needs before it leaves. In an explicit transaction the effects do not last before its
    /// end, so the barrier stands there; what outlives a rollback waits at once.
    fn level_of(&mut self, command: &Command<'_>) -> Level {
        let durability = self.session.house.durability;
        let facts = &command.known.facts;
        if facts.transaction == Some(TransactionControl::Commit) {
            let wrote = std::mem::take(&mut self.session.transaction_wrote);
            return if wrote { durability.changes } else { durability.reads };
        }
        if facts.class.is_harmless() && !facts.outlives_rollback {
            return durability.reads;
        }
        if command.in_transaction && !facts.outlives_rollback {
            self.session.transaction_wrote = true;
            return durability.reads;
        }
        durability.changes
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            // A turn that is given up (its session ends with an error) must not leak into the next one's batch.
            self.batch.clear();
            self.session.next_seq = self.first_seq;
        }
        BATCH.set(Some(std::mem::take(&mut self.batch)));
    }
}
