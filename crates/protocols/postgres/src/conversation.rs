//! The command half of a session as a pure state machine: which commands there are, and what came of them.
//!
//! Bytes of both directions are scanned as they are read and forwarded as they are; nothing is ever re-encoded. The
//! client's half ([`client`]) turns messages into commands and has them judged; the target's half ([`target`])
//! matches answers to them, in order, and has their outcomes recorded. Both hand what they judged and observed to a
//! [`Recorder`], which in the gateway is one [`session::Turn`].
//!
//! *Invariants.*
//! - Every command that is judged is observed exactly once: by an answer, by the Sync that skips it, or by
//!   [`Conversation::abandon`].
//! - A message that depends on an answer which the target still owes for an *earlier* segment (a name, a setting that
//!   changes how text is read) is not scanned before that answer: [`Next::Stalled`]. Inside one segment nothing
//!   waits, since the target may owe its answers until the Sync; but for a Sync behind what may read COPY data, whose
//!   answer comes without it.
//! - Memory is bounded by [`limits`]: a message is either buffered whole up to a limit or passed on as it comes.

mod client;
mod cursors;
mod duty;
mod gate;
pub mod limits;
mod names;
mod running;
mod target;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use classify::postgres::{Following, Freed, Name, PreparedStatement, SearchPath, Settings};
use policy::Obligations;
use session::{CaptureField, Command, Known, NotRecorded, Notice, Together, Verdict};
use trail::record::{OutcomeRecord, ParamsBuf};
use vocabulary::{Facts, Status};

use crate::facts::FactsCache;
use crate::wire::backend::Transaction;
use crate::wire::error_response::Report;
use cursors::Cursors;
use names::{Found, Moment, Names, Opened, SlotId};
pub use running::CommandKey;
use running::{Commands, Parts};

/// Takes what the conversation judges and observes.
pub trait Recorder {
    /// The right to forward one command.
    type Permit;
    /// A command that waits for people.
    type Hold;

    /// The permit, if the command may go on at once. Otherwise nothing has happened.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn try_permit(&mut self, command: &Command<'_>) -> Result<Option<Self::Permit>, NotRecorded>;

    /// Judges commands that stand or fall together; `whole` is the text that has all of them.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn judge_all(
        &mut self,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together<Self::Permit, Self::Hold>, NotRecorded>;

    /// Judges commands again that waited.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn resume_all(
        &mut self,
        hold: Self::Hold,
        verdict: Verdict,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together<Self::Permit, Self::Hold>, NotRecorded>;

    /// Takes note of a command that does not run since something before it was refused.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn not_run(&mut self, command: &Command<'_>, message: &str) -> Result<(), NotRecorded>;

    /// Takes note of a command that shows itself by its answer alone.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn acknowledge(&mut self, command: &Command<'_>) -> Result<Self::Permit, NotRecorded>;

    /// Keeps a part of a command's rows.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn capture_rows(&mut self, permit: &Self::Permit, bytes: &[u8]) -> Result<(), NotRecorded>;

    /// What has to be kept while a command runs, and the policies that want it.
    fn obligations(permit: &Self::Permit) -> Option<(Obligations, String)>;

    /// What the client is told at once of a command that is held.
    fn notice(hold: &Self::Hold) -> Option<&Notice>;

    /// So many rows of a command went to the client. Called once, right before its outcome is observed.
    fn returned(&mut self, permit: &Self::Permit, rows: u64) {
        let _ = (permit, rows);
    }

    /// Takes a command's outcome.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn observe(&mut self, permit: Self::Permit, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded>;

    /// Whether policy permits what nothing is known of: then it does not matter what code may have set.
    fn permits_unknown(&mut self) -> bool;

    /// No explicit transaction is under way, and nothing that was sent can have begun one.
    fn outside_transaction(&mut self);
}

impl Recorder for session::Turn<'_> {
    type Permit = session::Permit;
    type Hold = session::Hold;

    fn judge_all(&mut self, commands: &[Command<'_>], whole: &[u8]) -> Result<Together, NotRecorded> {
        session::Turn::judge_all(self, commands, whole)
    }

    fn resume_all(
        &mut self,
        hold: Self::Hold,
        verdict: Verdict,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together, NotRecorded> {
        session::Turn::resume_all(self, hold, verdict, commands, whole)
    }

    fn not_run(&mut self, command: &Command<'_>, message: &str) -> Result<(), NotRecorded> {
        session::Turn::not_run(self, command, message)
    }

    fn acknowledge(&mut self, command: &Command<'_>) -> Result<Self::Permit, NotRecorded> {
        session::Turn::acknowledge(self, command)
    }

    fn capture_rows(&mut self, permit: &Self::Permit, bytes: &[u8]) -> Result<(), NotRecorded> {
        session::Turn::capture(self, permit, CaptureField::Rows, bytes)
    }

    fn obligations(permit: &Self::Permit) -> Option<(Obligations, String)> {
        permit.obligations().map(|obligations| (*obligations, permit.policies()))
    }

    fn notice(hold: &Self::Hold) -> Option<&Notice> {
        hold.notice()
    }

    fn try_permit(&mut self, command: &Command<'_>) -> Result<Option<Self::Permit>, NotRecorded> {
        session::Turn::try_permit(self, command)
    }

    fn returned(&mut self, permit: &Self::Permit, rows: u64) {
        session::Turn::returned(self, permit, rows);
    }

    fn observe(&mut self, permit: Self::Permit, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded> {
        session::Turn::observe(self, permit, outcome)
    }

    fn permits_unknown(&mut self) -> bool {
        session::Turn::permits_unknown(self)
    }

    fn outside_transaction(&mut self) {
        session::Turn::outside_transaction(self);
    }
}

/// Why a session can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client broke the protocol or a limit; with the SQLSTATE it hears.
    #[error("{message}")]
    Client {
        /// SQLSTATE.
        code: &'static str,
        /// One sentence.
        message: String,
    },
    /// The target broke the protocol.
    #[error("the target broke the protocol: {0}")]
    Target(String),
    /// The trail can't take it.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
}

impl Fault {
    fn client(code: &'static str, message: impl Into<String>) -> Self {
        Self::Client { code, message: message.into() }
    }
}

/// What a scan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Bytes from the start that may go on once the turn is recorded.
    pub taken: usize,
    /// What the scan needs to go on.
    pub next: Next,
}

/// What a scan needs to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// At least this many bytes behind what was taken, those present included.
    Bytes(usize),
    /// Answers of the target.
    Stalled,
    /// People: see [`Conversation::held`]. The message that waits is the next.
    Held,
    /// Once what was taken has gone on, this.
    Edit(Edit),
    /// Nothing: the client has said goodbye.
    Finished,
}

/// A change of the stream, between two messages or in place of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// The gateway's own bytes, to go first.
    pub insert: Vec<u8>,
    /// Bytes of the stream that are dropped then.
    pub skip: usize,
    /// Bytes of the stream that go on then, without another look.
    pub pass: usize,
}

/// What the target may yet ask COPY data for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyToCome {
    Nothing,
    /// A command that was executed.
    Execute(CommandKey),
    /// The simple query of this segment, for any of its statements.
    Query(u64),
}

/// A command that waits for people.
#[derive(Debug)]
enum Held<H> {
    Nothing,
    Waiting(H),
    Answered(H, Verdict),
}

/// The rest of a segment in which a command was refused: nothing of it runs.
#[derive(Debug, Default)]
struct Doomed {
    /// Statements that it would have prepared, for what the trail says of those that would have run.
    statements: HashMap<Box<[u8]>, Rc<Statement>>,
}

/// A prepared statement.
#[derive(Debug)]
struct Statement {
    text: Box<[u8]>,
    known: Rc<Known>,
    prepares: Option<PreparedStatement>,
    declares: Option<PreparedStatement>,
    frees: Option<Freed>,
    /// It is a COPY that reads from the client, or may be one.
    copies_in: bool,
    /// What is known of it holds under this path; `None`: it is not known from its text.
    path: Option<Arc<SearchPath>>,
    /// What is known of it hangs on what a name stands for when it runs.
    by_name: bool,
    /// OIDs of its parameters, big-endian, as the client declared or the target described them.
    types: RefCell<Box<[u8]>>,
    /// Its share of [`limits::MAX_PREPARED_BYTES`], given back when it is dropped.
    _charge: Option<Charge>,
}

impl Statement {
    /// Whether the target looks its names up only when it is executed. What it plans, it plans at Bind.
    fn is_late(&self) -> bool {
        !matches!(self.known.facts().verb.as_str(), "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE")
    }
}

/// Bytes that a prepared statement holds of its session's allowance.
#[derive(Debug)]
struct Charge {
    held: Rc<Cell<usize>>,
    bytes: usize,
}

impl Charge {
    fn new(held: &Rc<Cell<usize>>, bytes: usize) -> Self {
        held.set(held.get() + bytes);
        Self { held: Rc::clone(held), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.set(self.held.get() - self.bytes);
    }
}

/// A portal: a statement with parameters. Its command is judged when it is bound, since planning can run functions.
#[derive(Debug)]
struct Portal {
    statement: Rc<Statement>,
    /// The command, until it is observed.
    command: Option<CommandKey>,
    /// Where [`Conversation::changes_for`] its statement stood when it was judged.
    changes: u64,
    /// What judging it again takes, where there are parameters.
    bound: Option<Box<Bound>>,
}

/// Parameters of a portal that may have to be judged again.
#[derive(Debug)]
struct Bound {
    params: ParamsBuf,
    /// Whether that is all of them.
    whole: bool,
}

/// What the target still has to answer.
#[derive(Debug)]
enum Expected {
    Parse {
        name: Box<[u8]>,
        opened: Opened<Rc<Statement>>,
        statement: Rc<Statement>,
        bytes_in: u64,
    },
    Bind {
        name: Box<[u8]>,
        opened: Opened<Portal>,
        command: CommandKey,
    },
    DescribeStatement {
        name: Box<[u8]>,
    },
    DescribePortal,
    Execute {
        command: Option<CommandKey>,
    },
    CloseStatement {
        name: Box<[u8]>,
        id: Option<SlotId>,
    },
    ClosePortal {
        name: Box<[u8]>,
        id: Option<SlotId>,
    },
    /// One statement of a simple query, or a function call.
    Statement {
        command: CommandKey,
    },
    /// A simple query whose statements we can't tell apart; each completion is one command.
    Opaque {
        command: Option<CommandKey>,
        statement: Rc<Statement>,
    },
    /// The client ended a COPY that the target had not asked for yet.
    CopyEnd,
    /// What stands for a refused command: it must fail, and the client hears this instead.
    Refused {
        report: Box<Report>,
        extended: bool,
    },
    /// The gateway's own statement before a command; the client hears nothing of it.
    Injected {
        /// Before a simple query: if it fails, the target takes the query for part of a pipeline.
        simple: bool,
    },
    /// The gateway's own question between two segments; the client hears nothing of it. The answers are those about
    /// settings.
    Asked {
        answers: Vec<String>,
    },
    /// The end of a segment: a Sync, or the end of a simple query or function call.
    Ready {
        segment: u64,
        sync: bool,
    },
}

/// The state of one session's conversation.
pub struct Conversation<P, H = session::Hold> {
    queue: VecDeque<Expected>,
    commands: Commands<P>,
    statements: Names<Rc<Statement>>,
    portals: Names<Portal>,
    /// Cursors that DECLARE made.
    cursors: Cursors,
    following: Following,
    transaction: Transaction,
    /// A command under way may end the transaction.
    transaction_may_end: bool,
    /// The segment in which a BEGIN was sent last, with nothing behind it that may end what it began. It succeeds, or
    /// nothing behind it in the segment runs.
    begun: u64,
    /// Segments the client has ended so far.
    segment: u64,
    /// The last segment that the target has answered.
    answered: u64,
    /// The last segment with a command that may change names or settings.
    doubt: u64,
    /// The last segment with a command that may change how text is read.
    lexing_doubt: u64,
    /// The last segment with a command that runs code, which may change anything.
    code: u64,
    /// How many commands so far may have changed what names in a text stand for: the search path, the role, cursors,
    /// what SQL has prepared.
    changes: u64,
    /// How many messages so far gave or freed names of prepared statements and portals.
    renames: u64,
    /// The text looked at last has a name that the target still owes an answer for.
    unsure: Cell<bool>,
    /// What texts mean is in doubt, and policy cares.
    wary: bool,
    /// Nothing of the segment under way was sent yet.
    at_start: bool,
    /// The target skips everything until a Sync.
    skipping: bool,
    /// The target reads COPY data.
    copying_in: bool,
    /// What the target may yet read COPY data for.
    copy_to_come: CopyToCome,
    /// Bytes of a client message's body that are still to pass.
    client_body: u64,
    /// The command that those bytes belong to.
    client_body_of: Option<CommandKey>,
    /// Bytes of a target message's body that are still to pass.
    target_body: u64,
    /// The target has said why it will close the connection.
    target_said_goodbye: bool,
    /// The client went away without a goodbye.
    client_gone: bool,
    params: ParamsBuf,
    /// The command that waits for people.
    held: Held<H>,
    /// A command of the segment under way was refused.
    doomed: Option<Box<Doomed>>,
    /// The body that is still to pass is dropped instead: of the client's, of the target's.
    dropping: (bool, bool),
    /// Messages for the client that belong to no answer.
    asides: Vec<u8>,
    /// The gateway's own messages to the target that are due now.
    upward: Vec<u8>,
    /// The gateway's own message that goes to the target behind the one scanned last.
    behind: Vec<u8>,
    /// A command behind which nothing may be sent before it is answered.
    alone: Option<CommandKey>,
    /// The command whose row is passing, where its rows are recorded.
    tapped: Option<CommandKey>,
    /// The next ReadyForQuery is not for the client: something that must fail comes first.
    ready_dropped: bool,
    /// The command under way has broken a limit: the target has to be told.
    cancel_wanted: bool,
    /// The command that is cancelled since nobody is there for its rows.
    given_up: Option<CommandKey>,
    /// Differs in the whole process whenever a setting may have changed: stands for values that only the server knows.
    mark: u64,
    /// Bytes that prepared statements hold.
    prepared_bytes: Rc<Cell<usize>>,
}

impl<P, H> Conversation<P, H> {
    /// A conversation right after login. `parameters` are the target's `ParameterStatus`, by name.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut conversation = Self {
            queue: VecDeque::new(),
            commands: Commands::default(),
            statements: Names::default(),
            portals: Names::default(),
            cursors: Cursors::default(),
            following: Following::new(Settings::default()),
            transaction: Transaction::Idle,
            transaction_may_end: false,
            begun: 0,
            segment: 1,
            answered: 0,
            doubt: 0,
            lexing_doubt: 0,
            code: 0,
            changes: 0,
            renames: 0,
            unsure: Cell::new(false),
            wary: false,
            at_start: true,
            skipping: false,
            copying_in: false,
            copy_to_come: CopyToCome::Nothing,
            client_body: 0,
            client_body_of: None,
            target_body: 0,
            target_said_goodbye: false,
            client_gone: false,
            params: ParamsBuf::new(),
            held: Held::Nothing,
            doomed: None,
            dropping: (false, false),
            asides: Vec::new(),
            upward: Vec::new(),
            behind: Vec::new(),
            alone: None,
            tapped: None,
            ready_dropped: false,
            cancel_wanted: false,
            given_up: None,
            mark: 0,
            prepared_bytes: Rc::default(),
        };
        for (name, value) in parameters {
            conversation.following.reports(name, value);
        }
        conversation.following.starts_here();
        conversation
    }

    /// As whom the session's commands run from the start, where the client asked for another role as it connected.
    pub fn starts_as(&mut self, role: &str) {
        self.following.starts_as(role);
    }

    /// The transaction status that the target greeted with.
    pub const fn greeted(&mut self, status: u8) {
        self.transaction = Transaction::read(status);
    }

    /// Whether the target still has something to answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the target has announced that it closes the connection, and why.
    #[must_use]
    pub const fn target_said_goodbye(&self) -> bool {
        self.target_said_goodbye
    }

    /// The client went away without a goodbye: what is under way is recorded as such.
    pub const fn client_left(&mut self) {
        self.client_gone = true;
    }

    /// Whether the next byte to the client begins a message.
    #[must_use]
    pub const fn between_target_messages(&self) -> bool {
        self.target_body == 0
    }

    /// The command that waits for people, for whoever polls it.
    pub const fn held(&mut self) -> Option<&mut H> {
        match &mut self.held {
            Held::Waiting(hold) => Some(hold),
            Held::Nothing | Held::Answered(..) => None,
        }
    }

    /// How the waiting ended. The message that waited is to be scanned again.
    pub fn answered(&mut self, verdict: Verdict) {
        self.held = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Waiting(hold) => Held::Answered(hold, verdict),
            other @ (Held::Nothing | Held::Answered(..)) => other,
        };
    }

    /// Messages for the client that belong to no answer, to be put between two others.
    pub fn take_asides(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.asides)
    }

    /// The gateway's own messages to the target, to be put between two of the client's.
    pub fn take_upward(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.upward)
    }

    /// Whether the next byte to the target begins a message.
    #[must_use]
    pub const fn between_client_messages(&self) -> bool {
        self.client_body == 0
    }

    /// Ends the conversation: observes every command that has no outcome yet. `running` is said of the one that
    /// the target was working on, and of those behind it.
    ///
    /// # Errors
    /// When an outcome can't be recorded.
    pub fn abandon<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        recorder: &mut R,
        reason: &str,
    ) -> Result<(), NotRecorded> {
        self.queue.clear();
        self.held = Held::Nothing;
        self.portals.drain().for_each(drop);
        for running in self.commands.drain() {
            // A portal that nobody executes any more has nothing under way.
            let parts = if running.executes == 0 && running.ran {
                Parts {
                    status: Status::Ok,
                    executed: Some(true),
                    message: Some(running::SUSPENDED),
                    ..Parts::default()
                }
            } else {
                Parts { status: Status::Unknown, executed: None, message: Some(reason), ..Parts::default() }
            };
            running.observe(recorder, &parts)?;
        }
        Ok(())
    }

    /// Whether every segment before the one being sent is answered.
    fn all_answered(&self) -> bool {
        self.answered + 1 >= self.segment || self.queue.is_empty()
    }

    /// Whether an earlier segment may yet change names or settings.
    fn in_doubt(&self) -> bool {
        self.doubt > self.answered && self.doubt < self.segment && !self.queue.is_empty()
    }

    /// When names are looked up now.
    fn moment(&self) -> Moment {
        Moment { segment: self.segment, answered: self.all_answered(), wary: self.wary }
    }

    /// A number that differs if what is known of a statement may not be so any more.
    const fn changes_for(&self, statement: &Statement) -> u64 {
        // Both only grow.
        if statement.by_name { self.changes + self.renames } else { self.changes }
    }

    /// What is known of a text under the session's settings.
    fn understand(&self, text: &[u8], facts: &mut FactsCache) -> crate::facts::Understood {
        self.understand_if(self.reads_in_doubt(), text, facts)
    }

    /// What is known of a text; if it is read `in_doubt`, of no name that the search path decides.
    fn understand_if(&self, in_doubt: bool, text: &[u8], facts: &mut FactsCache) -> crate::facts::Understood {
        self.unsure.set(false);
        let named = |name: Name<'_>| self.named(name);
        if in_doubt {
            return facts.understand(text, &self.following.doubtful(), &named);
        }
        facts.understand(text, self.following.settings(), &named)
    }

    /// What is known of what has this name.
    fn named(&self, name: Name<'_>) -> Option<Arc<Facts>> {
        let in_doubt = || {
            self.unsure.set(true);
            None
        };
        match name {
            Name::Statement(name) => match self.statements.look(name.as_bytes(), self.moment()) {
                Found::Known(statement) => {
                    self.still_holds(statement).then(|| Arc::clone(statement.known.facts()))
                }
                Found::InDoubt => in_doubt(),
                Found::Missing => None,
            },
            Name::Cursor(name) => {
                self.cursors.find(name).or_else(|| match self.portals.look(name.as_bytes(), self.moment()) {
                    Found::Known(portal) => Some(Arc::clone(portal.statement.known.facts())),
                    Found::InDoubt => in_doubt(),
                    Found::Missing => None,
                })
            }
        }
    }

    /// Whether what is known of a prepared statement is still so: the target reads its text again where the search
    /// path is another, and looks names up when it runs.
    fn still_holds(&self, statement: &Statement) -> bool {
        let same = |path: &Arc<SearchPath>| {
            Arc::ptr_eq(path, self.following.path()) || path == self.following.path()
        };
        !statement.by_name && !self.reads_in_doubt() && statement.path.as_ref().is_none_or(same)
    }

    /// Whether what a text means hangs on settings that are not known, and can't be before the segment ends.
    const fn reads_in_doubt(&self) -> bool {
        self.wary || self.lexing_doubt == self.segment
    }

    /// Whether the next command runs in an explicit transaction for certain, or not at all.
    fn in_transaction(&self) -> bool {
        let open = self.transaction == Transaction::Open && !self.transaction_may_end;
        open || self.begun == self.segment
    }
}
