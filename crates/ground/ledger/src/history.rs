//! Every checkpoint that was ever published, in one compact file of ours.
//!
//! A text header (`trailgate ledger history v1`, newline, the log's vkey, newline), then one record of 104 bytes per
//! checkpoint: tree size (8 bytes, big-endian), root (32), Ed25519 signature (64). With the origin, which is the name in
//! the vkey, a record gives back the checkpoint byte for byte. No byte of the file is outside a signature or the header.
//!
//! *Invariant*: a record is durable before its checkpoint is published, so no signature ever left that is not here.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Checkpoint, CheckpointError, Error, Fault, HASH_BYTES, Hash, Note, NoteSignature, SIGNATURE_BYTES,
    TreeHead, VerifierKey,
};

/// The history's file in the ledger's directory.
pub const HISTORY_FILE: &str = "checkpoints";

pub(crate) const RECORD_BYTES: usize = 8 + HASH_BYTES + SIGNATURE_BYTES;

/// One checkpoint in the history, its signature not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

impl Record {
    /// The record of a checkpoint; `None` if `key` did not sign it.
    pub(crate) fn of(checkpoint: &Checkpoint, key: &VerifierKey) -> Option<Self> {
        let line = checkpoint
            .note()
            .signatures()
            .iter()
            .find(|line| line.name == key.name() && line.key_id == key.id())?;
        let signature = line.signature.as_slice().try_into().ok()?;
        Some(Self { size: checkpoint.size(), root: *checkpoint.root(), signature })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<8>()?;
        let (root, signature) = rest.split_first_chunk::<HASH_BYTES>()?;
        let signature = signature.try_into().ok()?;
        Some(Self { size: u64::from_be_bytes(*size), root: Hash(*root), signature })
    }

    /// The checkpoint as it was published, its signature verified.
    pub(crate) fn checkpoint(&self, key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
        let head = TreeHead { origin: key.name().to_owned(), size: self.size, root: self.root };
        let mut note = Note::new(head.to_string())?;
        note.add(NoteSignature {
            name: key.name().to_owned(),
            key_id: key.id(),
            signature: self.signature.to_vec(),
        });
        Checkpoint::verify(note.to_string().as_bytes(), key.name(), key)
    }
}

/// The history file's first bytes for a log with this key.
pub(crate) fn header(key: &VerifierKey) -> Vec<u8> {
    format!("trailgate ledger history v1\n{key}\n").into_bytes()
}

/// Reads the history of a ledger.
#[derive(Debug)]
pub struct History {
    file: File,
    path: PathBuf,
    key: VerifierKey,
    header_bytes: u64,
    len: u64,
}

impl History {
    /// Opens the history of the ledger in `dir`, whose log key is `key`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Storage`], [`Error::Corrupt`] if the header is not that of `key`.
    pub fn open(dir: &Path, key: &VerifierKey) -> Result<Self, Error> {
        let path = dir.join(HISTORY_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { dir: dir.to_owned() });
            }
            Err(error) => return Err(Error::storage("open", path)(error)),
        };
        let expected = header(key);
        let mut found = vec![0; expected.len()];
        let read = file.read_exact_at(&mut found, 0);
        if read.is_err() || found != expected {
            let problem = "its header does not name the key that the ledger should be signed with";
            return Err(Error::Corrupt(Fault::new(HISTORY_FILE, problem)));
        }
        let bytes = file.metadata().map_err(Error::storage("read", &path))?.len();
        let header_bytes = expected.len() as u64;
        let len = bytes.saturating_sub(header_bytes) / RECORD_BYTES as u64;
        Ok(Self { file, path, key: key.clone(), header_bytes, len })
    }

    /// Checkpoints in the history. While a writer is at work the last may not be published yet.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The checkpoint at `position`, oldest first, its signature verified.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Storage`], [`Error::Corrupt`] if the signature does not verify.
    pub fn checkpoint(&self, position: u64) -> Result<Checkpoint, Error> {
        self.record(position)?.checkpoint(&self.key).map_err(|_| Error::Corrupt(bad_record(position)))
    }

    pub(crate) fn record(&self, position: u64) -> Result<Record, Error> {
        if position >= self.len {
            return Err(Error::OutOfRange { position, size: self.len });
        }
        let mut bytes = [0; RECORD_BYTES];
        let offset = self.offset(position);
        self.file.read_exact_at(&mut bytes, offset).map_err(Error::storage("read", &self.path))?;
        Record::decode(&bytes).ok_or_else(|| Error::Corrupt(bad_record(position)))
    }

    /// Where the record at `position` begins in the file, in bytes.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        self.header_bytes + position * RECORD_BYTES as u64
    }
}

pub(crate) fn bad_record(position: u64) -> Fault {
    Fault::new(
        HISTORY_FILE,
        format!("the signature of checkpoint {position} (counted from 0) does not verify"),
    )
}
