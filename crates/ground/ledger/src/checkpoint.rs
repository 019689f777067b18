//! Checkpoints (C2SP tlog-checkpoint): a tree head as a signed note.

use std::fmt;

use crate::{Hash, Note, NoteError, NoteSignature, Signer, VerifierKey, tile::parse_decimal};

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not origin, size and root in three lines.
    #[error("this is not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It belongs to another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    WrongOrigin {
        /// The origin in the checkpoint.
        found: String,
        /// The origin that was asked for.
        expected: String,
    },
    /// The note around it is malformed or not signed as it should be.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A tree head: the text of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// The log's identity.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// The Merkle tree hash over them.
    pub root: Hash,
}

impl TreeHead {
    /// Reads the three lines that [`Display`](fmt::Display) writes. Extension lines are refused: nobody could
    /// audit what they say.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body =
            text.strip_suffix('\n').ok_or(CheckpointError::Malformed("the text must end in a newline"))?;
        let mut lines = body.split('\n');
        let (origin, size, root) = match (lines.next(), lines.next(), lines.next(), lines.next()) {
            (Some(origin), Some(size), Some(root), None) => (origin, size, root),
            (_, _, _, Some(_)) => return Err(CheckpointError::Malformed("extension lines are not accepted")),
            _ => return Err(CheckpointError::Malformed("it must have the lines origin, size and root")),
        };
        if origin.is_empty() {
            return Err(CheckpointError::Malformed("the origin is empty"));
        }
        let size = parse_decimal(size)
            .ok_or(CheckpointError::Malformed("the size must be decimal without leading zeroes"))?;
        let root = Hash::from_base64(root)
            .ok_or(CheckpointError::Malformed("the root must be the Base64 of 32 bytes"))?;
        if size == 0 && root != Hash::empty() {
            return Err(CheckpointError::Malformed("the root of an empty tree must be the hash of nothing"));
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl fmt::Display for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)
    }
}

/// A tree head with the signed note that states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    head: TreeHead,
    note: Note,
}

impl Checkpoint {
    /// Signs a tree head.
    ///
    /// # Errors
    /// [`CheckpointError`] if the origin cannot stand in a note or the signer fails.
    pub fn sign(head: TreeHead, signer: &dyn Signer) -> Result<Self, CheckpointError> {
        let mut note = Note::new(head.to_string())?;
        TreeHead::parse(note.text())?;
        note.sign(signer)?;
        Ok(Self { head, note })
    }

    /// Reads a checkpoint *without* verifying any signature.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`], [`CheckpointError::Note`].
    pub fn parse(note: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        Ok(Self { head: TreeHead::parse(note.text())?, note })
    }

    /// Reads a checkpoint, and checks that it is of the log `origin` and signed by `key`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(note: &[u8], origin: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note)?;
        checkpoint.note.verify(key)?;
        if checkpoint.head.origin != origin {
            let found = checkpoint.head.origin;
            return Err(CheckpointError::WrongOrigin { found, expected: origin.to_owned() });
        }
        Ok(checkpoint)
    }

    /// The same checkpoint with more signature lines, none of them verified.
    #[must_use]
    pub fn with_signatures(mut self, lines: impl IntoIterator<Item = NoteSignature>) -> Self {
        lines.into_iter().for_each(|line| self.note.add(line));
        self
    }

    /// Origin, size and root.
    #[must_use]
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The log's identity.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.head.origin
    }

    /// Entries in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// The Merkle tree hash over them.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.head.root
    }

    /// The signed note; its text form is what is published.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

#[cfg(test)]
mod tests;
