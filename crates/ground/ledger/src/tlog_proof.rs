//! The C2SP tlog-proof text: one entry's inclusion proof with the checkpoint it leads to, checkable offline.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    Checkpoint, CheckpointError, Hash, ProofError, VerifierKey, tile::parse_decimal, tree::verify_inclusion,
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// What is wrong with a proof.
#[derive(Debug, thiserror::Error)]
pub enum TlogProofError {
    /// It does not have the form of a tlog-proof.
    #[error("this is not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it is malformed or not signed by the log.
    #[error("the checkpoint in the proof cannot be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the entry to the checkpoint's root.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// One entry's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Data that goes along and that nothing authenticates.
    pub extra: Option<Vec<u8>>,
    /// The entry's index in the log.
    pub index: u64,
    /// The inclusion proof, the leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The checkpoint, with all its signatures.
    pub checkpoint: Checkpoint,
}

impl TlogProof {
    /// Reads a proof without verifying anything.
    ///
    /// # Errors
    /// [`TlogProofError::Malformed`], [`TlogProofError::Checkpoint`].
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let malformed = TlogProofError::Malformed;
        let (head, note) = text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("the first line must be `c2sp.org/tlog-proof@v1`"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            None => None,
            Some(extra) => {
                let bytes = BASE64_STANDARD.decode(extra);
                lines.next();
                Some(bytes.map_err(|_| malformed("the extra data must be standard Base64"))?)
            }
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(parse_decimal)
            .ok_or(malformed("a line `index` with the entry's decimal index is missing"))?;
        let hashes = lines
            .map(|line| {
                Hash::from_base64(line).ok_or(malformed("a proof line must be the Base64 of 32 bytes"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { extra, index, hashes, checkpoint: Checkpoint::parse(note.as_bytes())? })
    }

    /// Checks that the log with this key holds `entry`: the checkpoint's origin and signature, and the path to its root.
    ///
    /// # Errors
    /// [`TlogProofError::Checkpoint`], [`TlogProofError::Proof`].
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<(), TlogProofError> {
        let note = self.checkpoint.to_string();
        let checkpoint = Checkpoint::verify(note.as_bytes(), key.name(), key)?;
        Ok(verify_inclusion(entry, self.index, checkpoint.size(), &self.hashes, checkpoint.root())?)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests;
