//! One turn of a session: what was read together is judged, recorded and cleared together.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use journal::{Batch, Position};
use policy::Obligations;
use review::Review;
use trail::record::{CAPTURE_RECORD_BYTES, Capture, CaptureField, FactsRecord, Intent, OutcomeRecord};
use vocabulary::{Decision, Facts, Status, Timestamp, TransactionControl};

use crate::budget::Meter;
use crate::desk::Ticket;
use crate::gatehouse::{Durability, Level};
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
    /// Bytes from the client for it, protocol framing included.
    pub bytes_in: u64,
    /// Whether it runs inside an explicit transaction for certain.
    pub in_transaction: bool,
    /// Whether work of the same session stays open while it waits: an earlier command of the same pipeline.
    pub amid: bool,
    /// Whether text and parameters are all there is. What is cut can't be reviewed.
    pub whole: bool,
    /// What changes its meaning besides text and parameters.
    pub context: Context<'a>,
    /// Which obligations the protocol can keep for it.
    pub means: Means,
}

impl<'a> Command<'a> {
    /// A command of these facts and this text, outside any transaction, for which no obligation can be kept.
    #[must_use]
    pub fn new(known: &'a Known, text: &'a [u8]) -> Self {
        Self {
            known,
            text,
            params: &[],
            bytes_in: 0,
            in_transaction: false,
            amid: false,
            whole: true,
            context: Context::default(),
            means: Means::default(),
        }
    }
}

/// What changes a command's meaning besides text and parameters; a grant binds it. What a protocol has no word for
/// stays empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// As whom it runs at the target, if that is not whom the gateway logged in as.
    pub role: Option<&'a str>,
    /// Where unqualified names are looked up: a search path, a working directory.
    pub search_path: Option<&'a str>,
}

/// Which obligations a protocol can keep for a command. One that can't be kept refuses the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each obligation")]
pub struct Means {
    /// It can stop at so many rows.
    pub limit_rows: bool,
    /// It can stop after a time.
    pub timeout: bool,
    /// It can make the target refuse to write.
    pub read_only: bool,
    /// It can record the rows.
    pub record_rows: bool,
}

/// The right to forward one command, and the duty to say what came of it. Its scope is one command, one COPY
/// stream, or one shell channel.
#[must_use = "a permit that is not observed leaves a command without an outcome"]
#[derive(Debug)]
pub struct Permit {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) level: Level,
    pub(crate) duties: Option<Box<Duties>>,
}

/// What comes with a permit.
#[derive(Debug)]
pub(crate) struct Duties {
    pub obligations: Obligations,
    /// Names of the policies that permit.
    pub policies: Vec<String>,
    /// Counts the rows.
    pub meter: Option<Arc<Meter>>,
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

    /// What has to be kept while it runs; `None` where there is nothing.
    #[must_use]
    pub fn obligations(&self) -> Option<&Obligations> {
        self.duties.as_ref().map(|duties| &duties.obligations).filter(|obligations| !obligations.is_empty())
    }

    /// The policies that permit it, for messages about its obligations; empty where there are none.
    #[must_use]
    pub fn policies(&self) -> String {
        let names = self.duties.as_ref().map(|duties| duties.policies.iter().map(|name| format!("`{name}`")));
        names.map(|names| names.collect::<Vec<_>>().join(", ")).unwrap_or_default()
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
    pub fn poll(
        &self,
        session: &OpenSession,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Result<Cleared, NotRecorded>> {
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
    pub(crate) session: &'s mut OpenSession,
    pub(crate) batch: Batch,
    pub(crate) level: Level,
    /// The session's next number when the turn began: what the journal refuses leaves no gap.
    first_seq: u64,
    /// Reviews that people hear of once the turn is recorded.
    pub(crate) requests: Vec<(Review, Arc<Ticket>)>,
}

impl<'s> Turn<'s> {
    pub(crate) fn new(session: &'s mut OpenSession) -> Self {
        let mut batch = BATCH.take().unwrap_or_default();
        batch.clear();
        let first_seq = session.next_seq;
        Self { session, batch, level: Level::Crash, first_seq, requests: Vec::new() }
    }

    /// Puts a command's intent into the turn; its number.
    pub(crate) fn intend(
        &mut self,
        command: &Command<'_>,
        decision: &[u8],
        at: Timestamp,
    ) -> Result<u64, NotRecorded> {
        let seq = self.session.next_seq;
        let intent = Intent {
            session: self.session.id,
            seq,
            at,
            facts: &command.known.record,
            decision,
            text: command.text,
            params: command.params,
        };
        intent.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))?;
        self.session.next_seq += 1;
        Ok(seq)
    }

    /// Puts a piece of what a command read or wrote into the turn. Pieces of one field are joined in the order in which they
    /// come, whatever their length. They never wait for the disk by themselves.
    ///
    /// # Errors
    /// When the piece can't be encoded: it must not be passed on.
    pub fn capture(&mut self, permit: &Permit, field: CaptureField, bytes: &[u8]) -> Result<(), NotRecorded> {
        self.capture_as(permit.seq, field, bytes)
    }

    /// As [`capture`](Self::capture), for what belongs to the session as a whole, such as the recording of its terminal.
    ///
    /// # Errors
    /// When the piece can't be encoded: it must not be passed on.
    pub fn capture_session(&mut self, field: CaptureField, bytes: &[u8]) -> Result<(), NotRecorded> {
        /// The number of every `session.start`.
        const FIRST_SEQ: u64 = 1;
        self.capture_as(FIRST_SEQ, field, bytes)
    }

    fn capture_as(&mut self, seq: u64, field: CaptureField, bytes: &[u8]) -> Result<(), NotRecorded> {
        let (session, at) = (self.session.id, Timestamp::now());
        for bytes in bytes.chunks(CAPTURE_RECORD_BYTES) {
            let piece = Capture { session, seq, at, field, bytes };
            piece.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))?;
        }
        Ok(())
    }

    /// Puts a command into the turn that the gateway refuses whatever policy says, such as a privilege that its target
    /// does not grant. It must be observed as denied.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub fn refused_by_gateway(&mut self, command: &Command<'_>) -> Result<Permit, NotRecorded> {
        let at = Timestamp::now();
        let policy_hash = self.session.house.snapshot().policy.hash();
        let decision = Decision { effect: vocabulary::Verdict::Forbid, policies: Vec::new(), policy_hash };
        let seq = self.intend(command, &trail::record::encode_decision(&decision), at)?;
        Ok(Permit { seq, at, level: Level::Crash, duties: None })
    }

    /// Puts a command into the turn that was seen to be done within the scope of `under`: a line typed into a shell that
    /// was permitted as a whole. It has run already, so it is not judged, and it needs no permit of its own.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub fn seen(
        &mut self,
        under: &Permit,
        command: &Command<'_>,
        outcome: OutcomeRecord<'_>,
    ) -> Result<(), NotRecorded> {
        let seen = self.seen_running(under, command)?;
        let record =
            OutcomeRecord { session: self.session.id, seq: seen.seq, at: seen.at, duration_us: 0, ..outcome };
        record.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))
    }

    /// As [`seen`](Self::seen), for what still runs: its end is observed with what is returned.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub fn seen_running(&mut self, _under: &Permit, command: &Command<'_>) -> Result<Permit, NotRecorded> {
        let at = Timestamp::now();
        let policy_hash = self.session.house.snapshot().policy.hash();
        let decision = Decision { effect: vocabulary::Verdict::Permit, policies: Vec::new(), policy_hash };
        let seq = self.intend(command, &trail::record::encode_decision(&decision), at)?;
        Ok(Permit { seq, at, level: Level::Crash, duties: None })
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

    /// Counts rows of a command that went to the client against its budget. An outcome's rows are not those: of an
    /// UPDATE they are what it changed.
    pub fn returned(&mut self, permit: &Permit, rows: u64) {
        let meter = permit.duties.as_ref().and_then(|duties| duties.meter.as_ref());
        if let Some(meter) = meter.filter(|_| rows > 0) {
            meter.rows(rows, Timestamp::now());
        }
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
        for (review, ticket) in self.requests.drain(..) {
            self.session.house.desk.open(review, ticket);
        }
        Ok(match self.level {
            Level::Crash => Recorded::Cleared(Cleared(())),
            Level::Power => Recorded::Waiting(Barrier(position)),
        })
    }

    /// Whether policy permits this session what nothing is known of.
    pub fn permits_unknown(&mut self) -> bool {
        static UNKNOWN: LazyLock<Arc<Facts>> = LazyLock::new(|| Arc::new(Facts::unknown("UNKNOWN")));
        let OpenSession { rules, house, .. } = &mut *self.session;
        rules.rule(house, &UNKNOWN, false, &[]).ruling.is_permit()
    }

    /// The protocol saw that no explicit transaction is under way, and that nothing it has sent can have begun one.
    pub const fn outside_transaction(&mut self) {
        self.session.transaction_wrote = false;
    }

    /// What a command needs before it leaves.
    pub(crate) fn level_of(&mut self, command: &Command<'_>) -> Level {
        let OpenSession { house, transaction_wrote, .. } = &mut *self.session;
        level(house.durability, &command.known.facts, command.in_transaction, transaction_wrote)
    }
}

/// What a command needs before it leaves. In an explicit transaction the effects do not last before its end, so the
/// barrier stands there; what outlives a rollback waits at once. `wrote`: whether the transaction has changed anything.
fn level(durability: Durability, facts: &Facts, in_transaction: bool, wrote: &mut bool) -> Level {
    if facts.transaction == Some(TransactionControl::Commit) {
        // It may be skipped or fail, and the transaction go on: what was written stays so until there is none.
        return if *wrote { durability.changes } else { durability.reads };
    }
    if facts.class.is_harmless() && !facts.outlives_rollback {
        return durability.reads;
    }
    // Whatever waits by itself may have written, and hold locks, all the same; and where it is not known for certain
    // that a transaction is under way, there may be one.
    *wrote = true;
    if in_transaction && !facts.outlives_rollback { durability.reads } else { durability.changes }
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

#[cfg(test)]
mod tests {
    use vocabulary::Class;

    use super::*;

    /// Levels of these commands one after another, each with whether it is in a transaction for certain.
    fn levels(commands: &[(&Facts, bool)]) -> Vec<Level> {
        let mut wrote = false;
        let of = |(facts, inside): &(&Facts, bool)| level(Durability::default(), facts, *inside, &mut wrote);
        commands.iter().map(of).collect()
    }

    fn control(verb: &str, transaction: TransactionControl) -> Facts {
        Facts { transaction: Some(transaction), ..Facts::plain(verb, Class::Session) }
    }

    #[test]
    fn a_transaction_is_synced_with_its_commit_if_it_wrote() {
        let (begin, commit) =
            (control("BEGIN", TransactionControl::Begin), control("COMMIT", TransactionControl::Commit));
        let (read, write) = (Facts::plain("SELECT", Class::Read), Facts::plain("INSERT", Class::Write));
        let lasting = Facts { outlives_rollback: true, ..write.clone() };
        let (crash, power) = (Level::Crash, Level::Power);
        assert_eq!(levels(&[(&begin, false), (&read, true), (&commit, true)]), [crash; 3]);
        assert_eq!(levels(&[(&begin, false), (&write, true), (&commit, true)]), [crash, crash, power]);
        // A sequence's next number stands at once; the row beside it with the COMMIT.
        assert_eq!(levels(&[(&begin, false), (&lasting, true), (&commit, true)]), [crash, power, power]);
        // Sent together, the BEGIN is not answered yet.
        assert_eq!(levels(&[(&begin, false), (&write, false), (&commit, false)]), [crash, power, power]);
        // A COMMIT that was skipped has ended nothing.
        assert_eq!(levels(&[(&write, true), (&commit, true), (&commit, true)]), [crash, power, power]);
    }
}
