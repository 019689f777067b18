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
//!   waits, since the target may owe its answers until the Sync.
//! - Memory is bounded by [`limits`]: a message is either buffered whole up to a limit or passed on as it comes.

mod client;
pub mod limits;
mod names;
mod running;
mod target;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use classify::postgres::{ClientEncoding, PreparedStatement, SearchPath, Settings};
use session::{Command, Known, NotRecorded};
use trail::record::{OutcomeRecord, ParamsBuf};
use vocabulary::Status;

use crate::facts::FactsCache;
use crate::wire::backend::Transaction;
use names::{Names, Opened, SlotId};
use running::{CommandKey, Commands, Parts};

/// Takes what the conversation judges and observes.
pub trait Recorder {
    /// The right to forward one command.
    type Permit;

    /// Judges a command.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn judge(&mut self, command: &Command<'_>) -> Result<Self::Permit, NotRecorded>;

    /// Takes a command's outcome.
    ///
    /// # Errors
    /// When it can't be recorded.
    fn observe(&mut self, permit: Self::Permit, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded>;

    /// No explicit transaction is under way.
    fn outside_transaction(&mut self);
}

impl Recorder for session::Turn<'_> {
    type Permit = session::Permit;

    fn judge(&mut self, command: &Command<'_>) -> Result<Self::Permit, NotRecorded> {
        session::Turn::judge(self, command)
    }

    fn observe(&mut self, permit: Self::Permit, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded> {
        session::Turn::observe(self, permit, outcome)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Bytes from the start that may go on once the turn is recorded.
    pub taken: usize,
    /// What the scan needs to go on.
    pub next: Next,
}

/// What a scan needs to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At least this many bytes behind what was taken, those present included.
    Bytes(usize),
    /// Answers of the target.
    Stalled,
    /// Nothing: the client has said goodbye.
    Finished,
}

/// A prepared statement.
#[derive(Debug)]
struct Statement {
    text: Box<[u8]>,
    known: Rc<Known>,
    prepares: Option<PreparedStatement>,
    /// OIDs of its parameters, big-endian, as the client declared or the target described them.
    types: RefCell<Box<[u8]>>,
    /// Its share of [`limits::MAX_PREPARED_BYTES`], given back when it is dropped.
    _charge: Option<Charge>,
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
}

/// What the target still has to answer.
#[derive(Debug)]
enum Expected {
    Parse {
        name: Box<[u8]>,
        opened: Option<Opened<Rc<Statement>>>,
        statement: Rc<Statement>,
        bytes_in: u64,
    },
    Bind {
        name: Box<[u8]>,
        opened: Option<Opened<Portal>>,
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
    /// The end of a segment: a Sync, or the end of a simple query or function call.
    Ready {
        segment: u64,
        sync: bool,
    },
}

/// The state of one session's conversation.
pub struct Conversation<P> {
    queue: VecDeque<Expected>,
    commands: Commands<P>,
    statements: Names<Rc<Statement>>,
    portals: Names<Portal>,
    settings: Settings,
    /// What RESET goes back to.
    start_settings: Settings,
    /// Those from before the explicit transaction under way; boxed, since most sessions have none.
    settings_before: Option<Box<Settings>>,
    /// The transaction under way was undone, or will be.
    rolled_back: bool,
    transaction: Transaction,
    /// A command under way may end the transaction.
    transaction_may_end: bool,
    /// Segments the client has ended so far.
    segment: u64,
    /// The last segment that the target has answered.
    answered: u64,
    /// The last segment with a command that may change names or settings.
    doubt: u64,
    /// The last segment with a command that may change how text is read.
    lexing_doubt: u64,
    /// The target skips everything until a Sync.
    skipping: bool,
    /// The target reads COPY data.
    copying_in: bool,
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
    /// Bytes that prepared statements hold.
    prepared_bytes: Rc<Cell<usize>>,
}

impl<P> Conversation<P> {
    /// A conversation right after login. `parameters` are the target's `ParameterStatus`, by name.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut conversation = Self {
            queue: VecDeque::new(),
            commands: Commands::default(),
            statements: Names::default(),
            portals: Names::default(),
            settings: Settings::default(),
            start_settings: Settings::default(),
            settings_before: None,
            rolled_back: false,
            transaction: Transaction::Idle,
            transaction_may_end: false,
            segment: 1,
            answered: 0,
            doubt: 0,
            lexing_doubt: 0,
            skipping: false,
            copying_in: false,
            client_body: 0,
            client_body_of: None,
            target_body: 0,
            target_said_goodbye: false,
            client_gone: false,
            params: ParamsBuf::new(),
            prepared_bytes: Rc::default(),
        };
        for (name, value) in parameters {
            conversation.set_parameter(name, value);
        }
        conversation.start_settings = conversation.settings.clone();
        conversation
    }

    /// Sets the search path that the client asked for at start, which the target may not report.
    pub fn set_search_path(&mut self, value: &str) {
        self.set_parameter("search_path", value);
        self.start_settings = self.settings.clone();
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

    /// Ends the conversation: observes every command that has no outcome yet. `running` is said of the one that
    /// the target was working on, and of those behind it.
    ///
    /// # Errors
    /// When an outcome can't be recorded.
    pub fn abandon<R: Recorder<Permit = P>>(
        &mut self,
        recorder: &mut R,
        reason: &str,
    ) -> Result<(), NotRecorded> {
        self.queue.clear();
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

    /// Follows a setting that the target reports or that a command has changed.
    fn set_parameter(&mut self, name: &str, value: &str) {
        match name {
            "standard_conforming_strings" => self.settings.standard_conforming_strings = value == "on",
            "client_encoding" => self.settings.client_encoding = ClientEncoding::from_name(value),
            "search_path" => {
                if let Some(path) = SearchPath::parse(value) {
                    self.settings.search_path = path;
                }
            }
            "server_version" => {
                let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                self.settings.server_major = digits.parse().ok();
            }
            _ => {}
        }
    }

    /// Whether every segment before the one being sent is answered.
    fn all_answered(&self) -> bool {
        self.answered + 1 >= self.segment || self.queue.is_empty()
    }

    /// Whether an earlier segment may yet change names or settings.
    fn in_doubt(&self) -> bool {
        self.doubt > self.answered && self.doubt < self.segment && !self.queue.is_empty()
    }

    /// What is known of a text under the session's settings.
    fn understand(&self, text: &[u8], facts: &mut FactsCache) -> crate::facts::Understood {
        let prepared = |name: &str| {
            self.statements
                .peek(name.as_bytes())
                .map(|statement| std::sync::Arc::clone(statement.known.facts()))
        };
        if self.lexing_doubt == self.segment && self.segment > 0 {
            return facts.unknown();
        }
        facts.understand(text, &self.settings, &prepared)
    }
}
