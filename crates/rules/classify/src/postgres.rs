//! SQL as PostgreSQL 13 to 18 understand it.
//!
//! The grammar is PostgreSQL's own. The walk over the parse tree keeps its stack on the heap; the one
//! recursion left (the grammar's search for the start of an expression, when it reports an error) is
//! bounded by [`limits::INLINE_TOKENS`] on the calling thread and by [`limits::HELPER_STACK_BYTES`] on a
//! helper thread beyond it. So [`classify`] may be called from any thread with an ordinary stack.

mod cache;
mod children;
mod following;
mod functions;
pub mod limits;
mod names;
mod parse;
mod settings;
mod statement;
mod template;
mod utility;
mod walk;

use std::ops::Range;
use std::sync::Arc;

use vocabulary::Facts;

pub use cache::Cache;
pub use following::{Following, QUESTION, TransactionStatus};
pub use parse::classify;
pub use settings::{ClientEncoding, SearchPath, Settings, UNKNOWN_VALUE, arranged};

/// Which way rows flow in a COPY over the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CopyDirection {
    /// COPY … FROM STDIN: the client sends rows.
    In,
    /// COPY … TO STDOUT: the server sends rows.
    Out,
}

/// A statement that PREPARE names, or a query that DECLARE does. The caller remembers it once the server has said that
/// it succeeded, and gives it back through [`Prepared`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedStatement {
    /// Its name, as the server folds it.
    pub name: String,
    /// What running it does.
    pub facts: Arc<Facts>,
}

/// Prepared statements whose names a statement frees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Freed {
    /// All that have a name.
    All,
    /// The one of this name, as the server folds it.
    One(String),
}

/// A name that the session gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name<'a> {
    /// Of a prepared statement: by PREPARE or by the protocol's Parse, for EXECUTE runs both.
    Statement(&'a str),
    /// Of a cursor: by DECLARE or by the protocol's Bind, for FETCH takes both.
    Cursor(&'a str),
}

/// Finds the facts of a statement or a cursor that the session has named. `None` makes the EXECUTE or FETCH unknown.
pub type Prepared<'a> = &'a dyn Fn(Name<'_>) -> Option<Arc<Facts>>;

/// A session that has prepared nothing.
pub const NOTHING_PREPARED: Prepared<'static> = &|_| None;

/// One statement of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Where it stands in the text, in bytes, without the white space and comments before it, the white space
    /// after it, and the semicolon.
    pub span: Range<usize>,
    /// What it does.
    pub facts: Arc<Facts>,
    /// Set for a COPY over the connection.
    pub copy: Option<CopyDirection>,
    /// Set for PREPARE.
    pub prepares: Option<PreparedStatement>,
    /// Set for DECLARE.
    pub declares: Option<PreparedStatement>,
    /// Set for DEALLOCATE and DISCARD ALL.
    pub frees: Option<Freed>,
    /// Whether another session, or this one later, may get other facts for the same text: it runs what has a name.
    pub by_name: bool,
}

/// What a text holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Statements in the order they run. Never empty.
    Statements(Vec<Statement>),
    /// Nothing but white space, comments and semicolons.
    Empty,
    /// Not understood. The facts cover the whole text; their class is unknown.
    Unknown(UnknownReason, Arc<Facts>),
}

impl Parsed {
    /// The worst class in it; `None` if it is empty.
    #[must_use]
    pub fn class(&self) -> Option<vocabulary::Class> {
        match self {
            Self::Statements(statements) => statements.iter().map(|statement| statement.facts.class).max(),
            Self::Empty => None,
            Self::Unknown(_, facts) => Some(facts.class),
        }
    }
}

/// Why a text is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnknownReason {
    /// Above [`limits::MAX_BYTES`].
    #[error("the text is longer than {} bytes", limits::MAX_BYTES)]
    TooLong,
    /// Above [`limits::MAX_TOKENS`].
    #[error("the text has more than {} words and signs", limits::MAX_TOKENS)]
    TooManyTokens,
    /// Above [`limits::MAX_STEPS`] or [`limits::MAX_SIGN_WORK`].
    #[error("the text takes too long to judge")]
    TooManySteps,
    /// The server ends the text there; what follows would be unseen.
    #[error("the text holds a NUL byte")]
    Nul,
    /// The server would refuse it or read it otherwise.
    #[error("the text is not valid UTF-8")]
    NotUtf8,
    /// Bytes beyond ASCII mean something else under the session's `client_encoding`.
    #[error("the text is not plain ASCII and client_encoding is not UTF8")]
    Encoding,
    /// With `standard_conforming_strings = off` or an encoding whose characters end in a backslash byte, the
    /// server reads a backslash otherwise than the parser.
    #[error("the text holds a backslash, which this session's settings make ambiguous")]
    Backslash,
    /// The grammar of PostgreSQL 18 does not have it; the message is the parser's.
    #[error("not parsed: {0}")]
    Syntax(String),
    /// The parser failed, or a thread for it could not be started.
    #[error("the parser could not finish")]
    Parser,
}
