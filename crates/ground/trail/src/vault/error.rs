//! What can go wrong in the vault.

use std::{io, path::PathBuf};

/// Failures of the vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
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
    /// A file is not as it was written.
    #[error("{} is damaged or was changed at byte {offset}: {problem}; restore the file from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, from its start.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The key of the payloads was destroyed.
    #[error("the payload was erased (entry {entry} of the ledger)")]
    Erased {
        /// Index of the leaf that records the erasure.
        entry: u64,
    },
    /// A data key can't be unwrapped.
    #[error("a data key could not be unwrapped with this node key; is it the key of this data directory?")]
    Unwrap,
    /// A data key can't be wrapped.
    #[error("a data key could not be wrapped")]
    Wrap,
    /// A data key was wrapped by another key than is at hand.
    #[error(
        "a data key could not be unwrapped: it was wrapped by {wrapped_by}, and only {at_hand} is at hand"
    )]
    OtherKey {
        /// Its [`KeyWrap::id`](super::KeyWrap::id).
        wrapped_by: String,
        /// What is at hand.
        at_hand: String,
    },
    /// Something is longer than a slot has room for.
    #[error("a {what} of {bytes} bytes does not fit a key slot, which has room for {most}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// Too much for the format.
    #[error("the vault is full: {0}")]
    Full(&'static str),
    /// Cryptography failed.
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
}

impl VaultError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
