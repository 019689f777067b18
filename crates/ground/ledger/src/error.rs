//! What can go wrong, in the words of whoever has to act on it.

use std::{fmt, io, ops::Range, path::PathBuf};

use crate::{CheckpointError, MAX_ENTRY_BYTES, ProofError};

/// Something in a ledger file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, relative to the ledger's directory.
    pub file: PathBuf,
    /// The entries concerned, if it can be told.
    pub entries: Option<Range<u64>>,
    /// What is wrong, as a clause without a capital.
    pub problem: String,
}

impl Fault {
    pub(crate) fn new(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), entries: None, problem: problem.into() }
    }

    pub(crate) fn at(mut self, entries: Range<u64>) -> Self {
        self.entries = Some(entries);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match &self.entries {
            Some(range) if range.end - range.start == 1 => write!(f, ", entry {}", range.start)?,
            Some(range) => write!(f, ", entries {} to {}", range.start, range.end.saturating_sub(1))?,
            None => {}
        }
        write!(f, ": {}", self.problem)
    }
}

/// Failures of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system failed.
    #[error("could not {action} {}", path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A write failed earlier. What was appended since the last checkpoint is not in the ledger.
    #[error(
        "the ledger stopped after a failed write: recover it, then append again what no checkpoint covers"
    )]
    Stopped,
    /// An entry longer than [`MAX_ENTRY_BYTES`].
    #[error("an entry of {bytes} bytes is too long: the most is {MAX_ENTRY_BYTES}; store it as a payload")]
    EntryTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Another process or thread has the ledger open for writing.
    #[error("the ledger in {} is being written by another process: stop that one first", dir.display())]
    InUse {
        /// The ledger's directory.
        dir: PathBuf,
    },
    /// There is no ledger.
    #[error("there is no ledger in {}: it has no checkpoint", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file is not as it was written.
    #[error("the ledger is damaged or was changed: {0}; run verify and restore the file from a copy")]
    Corrupt(Fault),
    /// The checkpoint does not verify.
    #[error("the checkpoint in {} cannot be trusted", path.display())]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A new checkpoint could not be signed.
    #[error("could not sign a checkpoint")]
    Sign(#[source] CheckpointError),
    /// An entry or tree size that the checkpoint does not cover.
    #[error("position {position} is beyond the checkpoint, which covers {size} entries")]
    OutOfRange {
        /// What was asked for.
        position: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// A proof made from the tiles does not lead to the signed root.
    #[error("the tiles do not lead to the signed root: run verify to see which file was changed")]
    Proof(#[from] ProofError),
}

impl Error {
    pub(crate) fn storage(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Storage { action, path, source }
    }
}
