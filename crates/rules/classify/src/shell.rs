//! Command lines as a POSIX shell understands them.
//!
//! The grammar is brush-parser's. What it is given, and what comes of it, is held to what bash, dash, ksh and zsh read
//! alike: the shell of the account is the target's business, and a text that they would read differently is unknown.
//!
//! The facts tell what the text asks for. What a name leads to is decided at the target: PATH, aliases, functions
//! that its configuration defines, the configuration of the programs. See README.md.

mod cache;
mod dispatch;
mod facts;
mod lexer;
pub mod limits;
mod programs;
mod scp;
mod scripts;
mod syntax;
mod walk;
mod word;

use vocabulary::{Class, Facts};

pub use cache::Cache;
pub use scp::{ScpHalf, ScpPath, scp_half};

/// Whether the command has a terminal: then some programs start a pager, which runs what is typed into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Terminal {
    /// The client asked for none.
    Absent,
    /// The client asked for one, or it is not known.
    Possible,
}

/// The verb of what has no program that we know.
pub const VERB: &str = "EXEC";

/// What fetched text that a shell runs is called among the functions.
pub const FETCHED: &str = "fetch | shell";

/// What decoded text (base64, xxd, openssl) that a shell runs is called among the functions.
pub const DECODED: &str = "decode | shell";

/// Why a text is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// Above [`limits::MAX_BYTES`], [`limits::MAX_TOKENS`], [`limits::MAX_PROGRAMS`] or [`limits::MAX_FACTS`].
    #[error("the text is too long to judge")]
    TooLong,
    /// Above [`limits::MAX_NESTING`], [`limits::MAX_DOUBLING`] or [`limits::MAX_DEPTH`].
    #[error("too much is nested in the text")]
    TooDeep,
    /// NUL and control characters other than tab and newline, and what is not UTF-8.
    #[error("the text holds bytes that are no text")]
    NotText,
    /// The grammar does not have it.
    #[error("the text is not a command that every shell reads")]
    Syntax,
    /// Shells read it differently, or run more than it says.
    #[error("the text holds {0}")]
    Ambiguous(&'static str),
    /// The grammar failed.
    #[error("the parser could not finish")]
    Parser,
}

/// What is known of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Understood {
    /// Its facts. What was found before something was not understood stays in them.
    pub facts: Facts,
    /// Why its class is unknown, if the text itself could not be read. A program that is not known makes the class
    /// unknown too, and is among the functions.
    pub reason: Option<Reason>,
}

/// The facts of a command line of which it is not known whether it has a terminal.
#[must_use]
pub fn understand(text: &[u8]) -> Facts {
    understand_with(text, Terminal::Possible).facts
}

/// Judges a command line. Never panics; takes time in proportion to the text, which is bounded by
/// [`limits::MAX_BYTES`]; needs less than 1 MiB of stack.
#[must_use]
pub fn understand_with(text: &[u8], terminal: Terminal) -> Understood {
    let mut walk = walk::Walk::new(terminal);
    let reason = readable(text).and_then(|text| walk.text(text)).err();
    let mut facts = walk.found.into_facts();
    if reason.is_some() {
        facts.class = Class::Unknown;
        facts.outlives_rollback = true;
    }
    Understood { facts, reason }
}

/// The text, if a shell of any locale reads the same characters in it.
fn readable(text: &[u8]) -> Result<&str, Reason> {
    if text.len() > limits::MAX_BYTES {
        return Err(Reason::TooLong);
    }
    if text.iter().any(|byte| (*byte < b' ' && !matches!(byte, b'\t' | b'\n')) || *byte == 0x7F) {
        return Err(Reason::NotText);
    }
    // In some encodings of East Asia these are the second half of a character.
    let swallowed = |pair: &[u8]| matches!(pair, [first, b'\\' | b'`' | b'|' | b'{' | b'}' | b'~' | b'[' | b']' | b'^'] if !first.is_ascii());
    if !text.is_ascii() && text.windows(2).any(swallowed) {
        return Err(Reason::Ambiguous("a sign behind a letter that is not ASCII"));
    }
    std::str::from_utf8(text).map_err(|_| Reason::NotText)
}
