//! What can go wrong with the trail.

use std::{io, path::PathBuf};

use vocabulary::{EntryId, SessionId};

use crate::{CaptureField, RecordError, vault::VaultError};

/// Failures of the trail.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The journal could not be opened.
    #[error("could not open the journal")]
    OpenJournal(#[from] journal::OpenError),
    /// The journal refused.
    #[error("the journal does not accept records")]
    Append(#[from] journal::AppendError),
    /// The journal could not be read.
    #[error("could not read the journal")]
    ReadJournal(#[from] journal::ReadError),
    /// A segment of the journal could not be deleted.
    #[error("could not clean up the journal")]
    Retire(#[from] journal::RetireError),
    /// The ledger failed.
    #[error("could not use the ledger")]
    Ledger(#[from] ledger::Error),
    /// The key that signs checkpoints could not be read, made or written.
    #[error("could not use the key that signs the trail's checkpoints")]
    Key(#[from] ledger::KeyError),
    /// What lies beside a log as its verifier key is none.
    #[error("{} is not the verifier key of a log; put back a copy of it, or give the key itself", path.display())]
    VerifierKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ledger::KeyError,
    },
    /// There is a ledger, but the key that signed it is gone.
    #[error("{} is gone, but the ledger that it signed is here; put a backup of it in its place", .0.display())]
    SigningKeyLost(PathBuf),
    /// The vault failed.
    #[error("could not use the payload vault")]
    Vault(#[from] VaultError),
    /// A record could not be encoded or decoded.
    #[error("could not encode or decode a record")]
    Record(#[from] RecordError),
    /// A file could not be used.
    #[error("could not {action} {}; check the disk and the permissions", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No saved position fits the ledger.
    #[error(
        "the ledger in {} has {size} entries, but no position of the journal was saved for that; restore the data directory from one copy, not from several", dir.display()
    )]
    NoState {
        /// The directory of the vault.
        dir: PathBuf,
        /// Size of the ledger.
        size: u64,
    },
    /// The journal is not the one that was sealed so far.
    #[error(
        "the journal in {} is not the one that was sealed so far: frame {next} comes next, but it had frames {oldest} to {first} when the gateway began; put the right journal back, or start the gateway once with sealer.run = \"inside\", which records the gap", dir.display()
    )]
    OtherJournal {
        /// The journal's directory.
        dir: PathBuf,
        /// The frame to seal next.
        next: journal::Position,
        /// The oldest frame that it had.
        oldest: journal::Position,
        /// The frame that it went on with.
        first: journal::Position,
    },
    /// A leaf is not one that this release knows.
    #[error("entry {index} of the ledger could not be read: {reason}; run `trailgate trail verify`")]
    Leaf {
        /// Its index in the ledger.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A leaf of the trail log is not one.
    #[error("leaf {index} of the trail log can't be used: {reason}; run `trailgate trail verify`")]
    TrailLog {
        /// Its index in the trail log.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A proof that is none, or does not hold.
    #[error("the proof does not hold: {0}")]
    Proof(String),
    /// There is no such entry.
    #[error(
        "there is no entry {0}; `trailgate trail list` shows the newest ones, a command still under way is not among them"
    )]
    NoEntry(EntryId),
    /// Nothing of that sort was captured.
    #[error("entry {entry} has no {field}; `trailgate trail show {entry}` lists what it has")]
    NothingCaptured {
        /// The entry.
        entry: EntryId,
        /// What was asked for.
        field: CaptureField,
    },
    /// What was captured can't be shown.
    #[error("the {field} of entry {entry} can't be shown: {reason}")]
    Closed {
        /// The entry.
        entry: EntryId,
        /// What was asked for.
        field: CaptureField,
        /// Erased, sealed or missing.
        reason: String,
    },
    /// There is no such session.
    #[error(
        "there is no session {0} in the trail; `trailgate trail list --kind session.start` shows those that there are"
    )]
    NoSession(SessionId),
    /// The session is not over.
    #[error("session {0} is not over; end it first, then its payloads can be erased")]
    SessionOpen(SessionId),
    /// Its key is gone already.
    #[error("session {0} has been erased before")]
    AlreadyErased(SessionId),
    /// Its payloads must be kept.
    #[error("session {0} is under a legal hold; `trailgate trail release {0}` ends that")]
    OnHold(SessionId),
    /// There is nothing to release.
    #[error("session {0} is under no legal hold; `trailgate trail holds` lists those that are")]
    NotOnHold(SessionId),
    /// The sealer has not caught up.
    #[error("the sealer has not caught up within {seconds} s: {behind} records are not sealed yet{}", reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
    NotSealed {
        /// How long was waited.
        seconds: u64,
        /// How many records are left.
        behind: u64,
        /// Why the sealer does not go on, if it said so.
        reason: Option<String>,
    },
    /// Cryptography failed.
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
    /// A fault that a test asked for.
    #[error("injected fault")]
    Injected,
}

impl TrailError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// The error and everything that led to it, as one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}
