//! What the sealer has to know again after a crash: which place in the journal belongs to which size of the tree.
//!
//! Two files, written in turn. Before a checkpoint over `n` entries is published, the state for `n` is durable; the state of
//! the checkpoint before it stays in the other file until the new one is published. So at opening, whichever of the two
//! checkpoints survived, its state is there: the one whose `entries` is the ledger's size.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use journal::Position;
use serde::{Deserialize, Serialize};
use vocabulary::SessionId;

use crate::{TrailError, layout::sync_dir, record, vault::Ends};

const MAGIC: &[u8; 8] = b"tgseal\0\x01";
const HEADER_BYTES: usize = MAGIC.len() + 4;

/// A session that is not over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenSession {
    pub(crate) session: SessionId,
    /// The slot of its data key.
    pub(crate) slot: u32,
    /// The highest number seen.
    pub(crate) last_seq: u64,
    /// Commands without outcome.
    pub(crate) pending: Vec<OpenIntent>,
}

/// A command without outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenIntent {
    pub(crate) seq: u64,
    /// Where its intent is in the journal.
    pub(crate) position: u64,
    /// The intent itself, once it is so old that the journal should not be kept for it.
    pub(crate) carried: Option<Vec<u8>>,
    /// Whether it has its `command.started`.
    pub(crate) started: bool,
}

/// A key to be destroyed once the checkpoint that records it is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Erasure {
    pub(crate) slot: u32,
    /// Index of the leaf that records it.
    pub(crate) entry: u64,
}

/// The sealer's memory at one size of the tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Size of the tree.
    pub(crate) entries: u64,
    /// The next frame to take from the journal.
    pub(crate) next: u64,
    /// How far the vault is filled.
    pub(crate) ends: Ends,
    /// Sessions that are not over.
    pub(crate) sessions: Vec<OpenSession>,
    /// Keys to destroy.
    pub(crate) erasures: Vec<Erasure>,
}

impl State {
    /// The state of an empty trail.
    pub(crate) fn empty(next: Position) -> Self {
        Self { entries: 0, next: next.0, ends: Ends::default(), sessions: Vec::new(), erasures: Vec::new() }
    }

    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), TrailError> {
        bytes.clear();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        record::append(self, bytes)?;
        let crc = crc32c::crc32c(bytes.get(HEADER_BYTES..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(MAGIC.len()..HEADER_BYTES) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (crc, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return None;
        }
        record::read(body).ok()
    }
}

/// Which of the two files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Side(bool);

impl Side {
    pub(crate) const fn other(self) -> Self {
        Self(!self.0)
    }

    fn path(self, vault: &Path) -> PathBuf {
        vault.join(if self.0 { "state-1" } else { "state-0" })
    }
}

/// The state that belongs to a tree of `entries` leaves, and where it was found. `None` if there is none.
pub(crate) fn load(vault: &Path, entries: u64) -> Result<Option<(Side, State)>, TrailError> {
    Ok(load_all(vault)?.into_iter().find(|(_, state)| state.entries == entries))
}

/// Every state that is whole.
pub(crate) fn load_all(vault: &Path) -> Result<Vec<(Side, State)>, TrailError> {
    let mut states = Vec::new();
    for side in [Side(false), Side(true)] {
        let path = side.path(vault);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(TrailError::file("read", path)(error)),
        }
        // One that is torn belongs to a checkpoint that was never published.
        states.extend(State::decode(&bytes).map(|state| (side, state)));
    }
    Ok(states)
}

/// The side for the first state of all.
pub(crate) const FIRST: Side = Side(false);

/// Writes a state and makes it durable.
pub(crate) fn save(vault: &Path, side: Side, state: &State, buffer: &mut Vec<u8>) -> Result<(), TrailError> {
    state.encode(buffer)?;
    let path = side.path(vault);
    let is_new = !path.exists();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(buffer)?;
            file.sync_data()
        })
        .map_err(TrailError::file("write", &path))?;
    if is_new { sync_dir(vault) } else { Ok(()) }
}
