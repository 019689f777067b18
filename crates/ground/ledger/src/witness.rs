//! A witness (C2SP tlog-witness): remembers the latest checkpoint of each log that it knows, and cosigns a newer one only
//! if it is proven to be consistent with that.
//!
//! Invariants:
//! - What is cosigned was made durable before the cosignature left: neither a crash nor the loss of power makes the witness
//!   cosign two trees of one log that contradict each other.
//! - Comparing with the latest checkpoint and replacing it is one step: requests for all logs take turns.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    Checkpoint, CheckpointError, Hash, KeyKind, Note, NoteError, NoteSignature, Signer, VerifierKey,
    hash::sha256, tile::parse_decimal, tree::verify_consistency,
};

/// Proof lines of a request at most: what a tree of 2^63 entries needs.
pub const MAX_PROOF_LINES: usize = 63;
/// The `Content-Type` of the size in a 409.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

const STATE_SUFFIX: &str = "checkpoint";
const LOCK_FILE: &str = "lock";

/// The body of an `add-checkpoint` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the tree that the witness cosigned last, as far as the client knows; 0 if none.
    pub old_size: u64,
    /// That the tree of `old_size` entries is a prefix of the checkpoint's. Empty if `old_size` is 0.
    pub proof: Vec<Hash>,
    /// What is to be cosigned.
    pub checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Reads a request's body. No signature is verified.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed;
        let text = std::str::from_utf8(body).map_err(|_| malformed("the request must be UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(malformed("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(parse_decimal)
            .ok_or(malformed("the first line must be `old` and a decimal size"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_LINES {
                return Err(malformed("the consistency proof has more than 63 lines"));
            }
            let hash =
                Hash::from_base64(line).ok_or(malformed("a proof line must be the Base64 of 32 bytes"))?;
            proof.push(hash);
        }
        let checkpoint =
            Checkpoint::parse(note.as_bytes()).map_err(|_| malformed("what follows is no checkpoint"))?;
        Ok(Self { old_size, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The signature lines in a witness's answer.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn parse_cosignatures(body: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    let text = std::str::from_utf8(body).map_err(|_| NoteError::Malformed("it must be UTF-8"))?;
    let lines = text.strip_suffix('\n').ok_or(NoteError::Malformed("it must end in a newline"))?;
    lines.split('\n').take(crate::MAX_SIGNATURES).map(NoteSignature::parse).collect()
}

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request can't be understood, or contradicts itself.
    #[error("the request can't be understood: {0}")]
    Malformed(&'static str),
    /// The witness does not know the log.
    #[error("this witness does not know the log `{0}`")]
    UnknownLog(String),
    /// No signature of the log on the checkpoint.
    #[error("the checkpoint is not signed by a key of that log that this witness knows")]
    NotSigned(#[source] NoteError),
    /// Another tree was cosigned last.
    #[error("the latest checkpoint that was cosigned has {size} entries")]
    Stale {
        /// Its size.
        size: u64,
    },
    /// The log has signed two trees of one size.
    #[error("another tree of {size} entries was cosigned: the log contradicts itself")]
    Fork {
        /// Its size.
        size: u64,
    },
    /// The new tree is not proven to begin with the old.
    #[error("the consistency proof does not hold")]
    Inconsistent,
    /// Nothing was cosigned, since it could not be made durable.
    #[error("the checkpoint could not be stored")]
    Storage(#[from] WitnessError),
}

impl Refusal {
    /// The HTTP status that the specification gives it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Stale { .. } | Self::Fork { .. } => 409,
            Self::Inconsistent => 422,
            Self::Storage(_) => 500,
        }
    }

    /// The size that goes into the body of a 409.
    #[must_use]
    pub const fn size(&self) -> Option<u64> {
        match self {
            Self::Stale { size } | Self::Fork { size } => Some(*size),
            _ => None,
        }
    }
}

/// Why a witness can't work.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file system failed.
    #[error("could not {action} {}", path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("another witness uses {}: stop that one first", .0.display())]
    InUse(PathBuf),
    /// What it remembers of a log is damaged. Going on would be forgetting it.
    #[error("{} is damaged: put back a copy of it; without it the witness could cosign a second history", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A key of the wrong kind.
    #[error("the key of `{0}` is of the wrong kind: witnesses cosign (type 04), logs sign (type 01)")]
    WrongKind(String),
    /// The key did not sign.
    #[error("could not cosign")]
    Sign(#[source] NoteError),
}

impl WitnessError {
    fn storage(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Storage { action, path, source }
    }
}

/// A witness, with what it remembers in a directory of its own.
pub struct Witness {
    dir: PathBuf,
    signer: Box<dyn Signer + Sync>,
    logs: Vec<VerifierKey>,
    /// By origin. Held while a request is judged and answered.
    latest: Mutex<HashMap<String, Checkpoint>>,
    /// Held for its lock.
    _lock: File,
}

impl Witness {
    /// Opens the witness in `dir`, making the directory if there is none. `signer` is of kind
    /// [`KeyKind::Cosignature`]; a log may have several keys under one name.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(
        dir: &Path,
        signer: Box<dyn Signer + Sync>,
        logs: Vec<VerifierKey>,
    ) -> Result<Self, WitnessError> {
        let wrong = |key: &VerifierKey| WitnessError::WrongKind(key.name().to_owned());
        if signer.verifier().kind() != KeyKind::Cosignature {
            return Err(wrong(signer.verifier()));
        }
        if let Some(log) = logs.iter().find(|log| log.kind() != KeyKind::Ed25519) {
            return Err(wrong(log));
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(WitnessError::storage("create", dir))?;
        let lock = lock(dir)?;
        let mut witness = Self { dir: dir.to_owned(), signer, logs, latest: Mutex::default(), _lock: lock };
        let latest = witness.load()?;
        witness.latest = Mutex::new(latest);
        Ok(witness)
    }

    /// The key that cosignatures are made with.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// The latest checkpoint cosigned of a log.
    #[must_use]
    pub fn latest(&self, origin: &str) -> Option<Checkpoint> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    /// Judges an `add-checkpoint` request and gives the answer's body: one cosignature line.
    ///
    /// # Errors
    /// [`Refusal`], in the order that the specification checks.
    pub fn add_checkpoint(&self, body: &[u8], unix_time_s: u64) -> Result<String, Refusal> {
        let AddCheckpoint { old_size, proof, checkpoint } = AddCheckpoint::parse(body)?;
        let origin = checkpoint.origin();
        let mut signed = Err(Refusal::UnknownLog(origin.to_owned()));
        for log in self.logs.iter().filter(|log| log.name() == origin) {
            match checkpoint.note().verify(log) {
                Ok(()) => {
                    signed = Ok(log);
                    break;
                }
                Err(error) => signed = Err(Refusal::NotSigned(error)),
            }
        }
        let log = signed?;
        if old_size > checkpoint.size() {
            return Err(Refusal::Malformed("the old size is greater than the checkpoint's"));
        }
        let mut all = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = all.get(origin);
        let known_size = latest.map_or(0, Checkpoint::size);
        if old_size != known_size {
            return Err(Refusal::Stale { size: known_size });
        }
        if let Some(latest) = latest
            && latest.size() == checkpoint.size()
            && latest.root() != checkpoint.root()
        {
            return Err(Refusal::Fork { size: known_size });
        }
        let consistent = match latest {
            Some(latest) if old_size > 0 => {
                let (size, root) = (checkpoint.size(), checkpoint.root());
                verify_consistency(old_size, latest.root(), size, root, &proof).is_ok()
            }
            _ => proof.is_empty(),
        };
        if !consistent {
            return Err(Refusal::Inconsistent);
        }
        // Only the log's own signature is kept: whatever else came along was not checked.
        let mut note = Note::new(checkpoint.note().text()).map_err(WitnessError::Sign)?;
        let own = |line: &&NoteSignature| line.name == log.name() && line.key_id == log.id();
        checkpoint.note().signatures().iter().filter(own).for_each(|line| note.add(line.clone()));
        note.cosign(self.signer.as_ref(), unix_time_s).map_err(WitnessError::Sign)?;
        let text = note.to_string();
        let kept = Checkpoint::parse(text.as_bytes())
            .map_err(|_| Refusal::Malformed("the checkpoint can't be written again"))?;
        replace_durably(&self.state_file(origin), text.as_bytes())?;
        all.insert(origin.to_owned(), kept);
        let line = note.signatures().last().map(ToString::to_string).unwrap_or_default();
        Ok(format!("{line}\n"))
    }

    fn state_file(&self, origin: &str) -> PathBuf {
        self.dir.join(format!("{}.{STATE_SUFFIX}", sha256(origin.as_bytes()).hex()))
    }

    /// What was cosigned before, of all logs that are still known.
    fn load(&self) -> Result<HashMap<String, Checkpoint>, WitnessError> {
        let mut latest = HashMap::new();
        for log in &self.logs {
            let path = self.state_file(log.name());
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(WitnessError::storage("read", path)(error)),
            };
            let damaged = |source| WitnessError::Damaged { path: path.clone(), source };
            let checkpoint = Checkpoint::parse(&bytes).map_err(damaged)?;
            let cosigned = checkpoint.note().verify_cosignature(self.verifier());
            cosigned.map_err(|error| damaged(error.into()))?;
            if checkpoint.origin() != log.name() {
                let found = checkpoint.origin().to_owned();
                return Err(damaged(CheckpointError::WrongOrigin { found, expected: log.name().to_owned() }));
            }
            latest.insert(log.name().to_owned(), checkpoint);
        }
        Ok(latest)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("dir", &self.dir).field("logs", &self.logs).finish_non_exhaustive()
    }
}

fn lock(dir: &Path) -> Result<File, WitnessError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(WitnessError::storage("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WitnessError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(WitnessError::storage("lock", path)(error)),
    }
}

/// Writes a small file whole or not at all; it survives the loss of power once this returns.
pub(crate) fn replace_durably(path: &Path, bytes: &[u8]) -> Result<(), WitnessError> {
    let temporary = path.with_extension("tmp");
    let dir = path.parent().unwrap_or(Path::new("."));
    File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(WitnessError::storage("write", path))
}

#[cfg(test)]
mod tests;
