//! Sessions as entries need them: who, where, and the key of the payloads.

use std::{collections::HashMap, sync::Arc};

use ledger::Snapshot;
use serde::Deserialize;
use vocabulary::{ClientInfo, EntryId, Kind, SessionId};

use super::decode;
use crate::{
    TrailError,
    leaf::{Leaf, StartLeaf},
    vault::{
        Field, Fields, IndexRecord, KeyWrap, NODE_KEY_PREFIX, OpenKey, Owner, VaultError, VaultReader, open,
    },
};

/// Sessions kept at once.
const MAX_SESSIONS: usize = 65_536;

/// The payload of a `session.start`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Names {
    #[serde(default)]
    pub(super) principal: Option<String>,
    #[serde(default)]
    pub(super) on_behalf_of: Option<String>,
    #[serde(default)]
    pub(super) client: Option<ClientInfo>,
    #[serde(default)]
    pub(super) target: Option<String>,
    #[serde(default)]
    pub(super) role: Option<String>,
    #[serde(default)]
    pub(super) database: Option<String>,
    #[serde(default)]
    pub(super) peer: Option<String>,
    /// Of a node session.
    #[serde(default)]
    pub(super) release: Option<String>,
}

/// Why a payload can't be shown, or what is in it.
pub(super) enum Payload {
    /// Opened; empty if the entry has none.
    Open(Fields),
    /// For a reader: erased, sealed, missing.
    Closed(String),
}

/// What opens a session's payloads.
enum Key {
    Open(OpenKey),
    Closed(String),
}

/// A session.
pub(super) struct SessionView {
    pub(super) start: Option<StartLeaf>,
    pub(super) names: Option<Names>,
    /// The slot that its first entry is sealed under, until that was looked at.
    first_elsewhere: Option<u32>,
    key: Key,
}

impl SessionView {
    /// Opens a leaf's payload.
    pub(super) fn open_payload(&self, leaf: &Leaf, record: &IndexRecord, vault: &mut VaultReader) -> Payload {
        if leaf.commitments.is_empty() {
            return Payload::Open(Fields::default());
        }
        let key = match &self.key {
            Key::Open(key) => key,
            Key::Closed(reason) => return Payload::Closed(reason.clone()),
        };
        let mut sealed = match vault.payload(record) {
            Ok(sealed) => sealed,
            Err(error) => return Payload::Closed(format!("missing ({error})")),
        };
        let owner = Owner { session: leaf.session, seq: leaf.seq, kind: leaf.kind };
        match open(key, &owner, &mut sealed).and_then(Fields::parse) {
            Some(fields) => Payload::Open(fields),
            None => Payload::Closed("missing (it does not open with its session's key)".to_owned()),
        }
    }
}

/// Sessions by the slot of their key.
pub(super) struct Sessions {
    origin: String,
    keys: Option<Arc<dyn KeyWrap>>,
    known: HashMap<u32, Arc<SessionView>>,
}

impl Sessions {
    pub(super) fn new(origin: &str, keys: Option<Arc<dyn KeyWrap>>) -> Self {
        Self { origin: origin.to_owned(), keys, known: HashMap::new() }
    }

    pub(super) fn find(
        &mut self,
        slot: u32,
        snapshot: &Snapshot,
        vault: &mut VaultReader,
    ) -> Result<Arc<SessionView>, TrailError> {
        if let Some(known) = self.known.get(&slot) {
            return Ok(Arc::clone(known));
        }
        let mut view = self.load(slot, snapshot, vault)?;
        if let Some(first) = view.first_elsewhere.take() {
            // The session's first entry is sealed under the key of another class, or of an earlier run.
            let owner = self.find(first, snapshot, vault)?;
            (view.start, view.names) = (owner.start, owner.names.clone());
        }
        let view = Arc::new(view);
        if self.known.len() >= MAX_SESSIONS {
            self.known.clear();
        }
        self.known.insert(slot, Arc::clone(&view));
        Ok(view)
    }

    fn load(
        &self,
        number: u32,
        snapshot: &Snapshot,
        vault: &mut VaultReader,
    ) -> Result<SessionView, TrailError> {
        let slot = match vault.slot(number) {
            Ok(slot) => slot,
            Err(error @ VaultError::Damaged { .. }) => {
                let key = Key::Closed(format!("missing ({error})"));
                return Ok(SessionView { start: None, names: None, first_elsewhere: None, key });
            }
            Err(error) => return Err(error.into()),
        };
        let key = match (slot.erasure, &self.keys) {
            (Some(entry), _) => Key::Closed(format!("erased (entry {})", name_of(snapshot, entry))),
            (None, None) => Key::Closed("sealed (the key is not at hand)".to_owned()),
            (None, Some(keys)) => match slot.unwrap(&self.origin, keys.as_ref()) {
                Ok(key) => Key::Open(OpenKey::new(&key)?),
                Err(VaultError::OtherKey { wrapped_by, .. }) if !wrapped_by.starts_with(NODE_KEY_PREFIX) => {
                    Key::Closed(format!("sealed for {wrapped_by}, whose identity is not at hand"))
                }
                Err(error) => Key::Closed(format!("missing ({error})")),
            },
        };
        let mut view = SessionView { start: None, names: None, first_elsewhere: None, key };
        if let Some(first) = slot.start.filter(|first| *first < snapshot.size()) {
            let record = vault.index(first)?;
            if record.slot == number {
                view.read_start(slot.session, first, snapshot, vault)?;
            } else if record.slot < number {
                view.first_elsewhere = Some(record.slot);
            }
        }
        Ok(view)
    }
}

impl SessionView {
    fn read_start(
        &mut self,
        session: SessionId,
        first: u64,
        snapshot: &Snapshot,
        vault: &mut VaultReader,
    ) -> Result<(), TrailError> {
        let leaf = decode(first, &snapshot.entry(first)?)?;
        if leaf.kind != Kind::SessionStart || leaf.session != session {
            let reason = "the key slot of a session names another entry as the session's first".to_owned();
            return Err(TrailError::Leaf { index: first, reason });
        }
        self.start = leaf.start;
        if let Payload::Open(fields) = self.open_payload(&leaf, &vault.index(first)?, vault) {
            self.names = fields.find(Field::Names).and_then(|names| serde_json::from_slice(names).ok());
        }
        Ok(())
    }
}

/// The id of an entry, or its place in the ledger if it can't be read.
fn name_of(snapshot: &Snapshot, index: u64) -> String {
    let leaf = snapshot.entry(index).ok().and_then(|bytes| Leaf::decode(&bytes).ok());
    leaf.map_or_else(
        || index.to_string(),
        |leaf| EntryId { session: leaf.session, seq: leaf.seq }.to_string(),
    )
}
