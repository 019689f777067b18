//! The latest checkpoint that witnesses have cosigned, in a file of its own beside the latest of all: under work that one is
//! replaced before any witness can have answered.

use std::path::Path;

use crate::{
    Checkpoint, Error, LedgerReader,
    at_rest::read_file,
    witness::{WitnessError, replace_durably},
};

/// The latest cosigned checkpoint's file in the ledger's directory.
pub const WITNESSED_FILE: &str = "checkpoint.witnessed";

impl LedgerReader {
    /// The latest cosigned checkpoint; `None` if there is none yet. The log's own signature is verified here, the
    /// cosignatures are not: what they must be is a policy's business.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Storage`].
    pub fn witnessed(&self) -> Result<Option<Checkpoint>, Error> {
        let path = self.dir().join(WITNESSED_FILE);
        let Some(bytes) = read_file(&path)? else { return Ok(None) };
        let key = self.verifier();
        let checkpoint = Checkpoint::verify(&bytes, key.name(), key)
            .map_err(|source| Error::Checkpoint { path, source })?;
        Ok(Some(checkpoint))
    }

    /// Puts a cosigned checkpoint in the place of the one before.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn publish_witnessed(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        replace(&self.dir().join(WITNESSED_FILE), checkpoint)
    }
}

fn replace(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    replace_durably(path, checkpoint.to_string().as_bytes()).map_err(|error| match error {
        WitnessError::Storage { action, path, source } => Error::Storage { action, path, source },
        other => Error::Storage {
            action: "write",
            path: path.to_owned(),
            source: std::io::Error::other(other.to_string()),
        },
    })
}
