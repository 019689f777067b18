//! What the sealer has to know again after a crash: which place in the journal belongs to which size of the tree.
//!
//! Two files, written in turn. Before a checkpoint over `n` entries is published, the state for `n` is durable; the state of
//! the checkpoint before it stays in the other file until the new one is published. So at opening, whichever of the two
//! checkpoints survived, its state is there: the one whose `entries` is the ledger's size.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use journal::{Position, Storage};
use serde::{Deserialize, Serialize};
use vocabulary::SessionId;

use crate::{
    CaptureField, SessionKey, TrailError, record,
    retention::Classes,
    vault::{Ends, open_or_create, write_all_at},
};

const MAGIC: &[u8; 8] = b"tgseal\0\x02";
const HEADER_BYTES: usize = MAGIC.len() + 4;

/// A session that is not over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenSession {
    pub(crate) session: SessionId,
    /// Index of its `session.start`.
    pub(crate) start: Option<u64>,
    /// Which class its payloads belong to.
    pub(crate) classes: Classes,
    /// The slot of each class's data key.
    pub(crate) slots: Vec<(String, u32)>,
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

/// Something that is being captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenCapture {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    pub(crate) field: CaptureField,
    /// Bytes in parts.
    pub(crate) in_parts: u64,
    /// Parts, and the index of the last one's leaf.
    pub(crate) parts: Option<(u64, u64)>,
    /// Where in the journal the first record is that is in no part.
    pub(crate) since: Option<u64>,
}

/// A key to be destroyed once the checkpoint that records it is published: all that its slot then says, so that a slot that
/// was torn by the first attempt can be written again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Erasure {
    pub(crate) slot: u32,
    /// Index of the leaf that records it.
    pub(crate) entry: u64,
    pub(crate) session: SessionId,
    pub(crate) start: Option<u64>,
    pub(crate) class: String,
    pub(crate) wrapped_by: String,
}

impl Erasure {
    pub(crate) fn new(slot: u32, entry: u64, key: &SessionKey) -> Self {
        let SessionKey { session, start, class, wrapped_by, .. } = key.clone();
        Self { slot, entry, session, start, class, wrapped_by }
    }

    /// The slot once its key is destroyed.
    pub(crate) fn erased(&self) -> SessionKey {
        let Self { slot: _, entry, session, start, class, wrapped_by } = self.clone();
        SessionKey { session, start, class, wrapped_by, erasure: Some(entry), wrapped: Vec::new() }
    }
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
    /// What is being captured.
    pub(crate) captures: Vec<OpenCapture>,
    /// Sessions under a legal hold.
    pub(crate) holds: BTreeSet<SessionId>,
}

impl State {
    /// The state of an empty trail.
    pub(crate) fn empty(next: Position) -> Self {
        Self {
            entries: 0,
            next: next.0,
            ends: Ends::default(),
            sessions: Vec::new(),
            erasures: Vec::new(),
            captures: Vec::new(),
            holds: BTreeSet::new(),
        }
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

/// The files that have no whole state in them.
pub(crate) fn torn(vault: &Path) -> Vec<PathBuf> {
    let paths = [Side(false), Side(true)].map(|side| side.path(vault));
    let is_torn = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| State::decode(&bytes).is_none());
    paths.into_iter().filter(is_torn).collect()
}

/// The side for the first state of all.
pub(crate) const FIRST: Side = Side(false);

/// Writes a state and makes it durable.
pub(crate) fn save(
    storage: &dyn Storage,
    vault: &Path,
    side: Side,
    state: &State,
    buffer: &mut Vec<u8>,
) -> Result<(), TrailError> {
    state.encode(buffer)?;
    let path = side.path(vault);
    let is_new = !path.exists();
    open_or_create(storage, &path)
        .and_then(|file| {
            file.set_len(0)?;
            write_all_at(&*file, buffer, 0)?;
            file.sync()
        })
        .map_err(TrailError::file("write", &path))?;
    if is_new { storage.sync_dir(vault).map_err(TrailError::file("sync", vault)) } else { Ok(()) }
}

/// The newest state that is whole.
pub(crate) fn newest(vault: &Path) -> Result<Option<State>, TrailError> {
    Ok(load_all(vault)?.into_iter().map(|(_, state)| state).max_by_key(|state| state.entries))
}
