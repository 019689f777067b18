//! Sessions that are not over, and the data keys that their payloads are sealed under.

use std::{collections::VecDeque, sync::Arc};

use vocabulary::{SessionId, Timestamp};

use super::{Sealer, captures::Capturing};
use crate::{
    CaptureField, TrailError,
    leaf::SlotLeaf,
    retention::Classes,
    vault::{OpenKey, VaultError},
};

/// A command without outcome.
pub(super) struct Pending {
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    pub(super) position: u64,
    /// The whole record.
    pub(super) frame: Vec<u8>,
    pub(super) started: bool,
}

/// The data key of one class of a session.
pub(super) struct ClassKey {
    pub(super) class: String,
    pub(super) slot: u32,
    /// Unwrapped at first need.
    pub(super) key: Option<Arc<OpenKey>>,
}

/// A session that is not over.
pub(super) struct Session {
    /// Index of its `session.start`.
    pub(super) start: Option<u64>,
    pub(super) classes: Classes,
    pub(super) keys: Vec<ClassKey>,
    pub(super) last_seq: u64,
    pub(super) pending: VecDeque<Pending>,
    pub(super) captures: Vec<Capturing>,
}

impl Session {
    pub(super) const fn new(start: Option<u64>, classes: Classes) -> Self {
        Self { start, classes, keys: Vec::new(), last_seq: 0, pending: VecDeque::new(), captures: Vec::new() }
    }
}

impl Sealer {
    pub(super) fn add_session(
        &mut self,
        id: SessionId,
        has_start: bool,
        classes: Classes,
    ) -> Result<(), TrailError> {
        let start = if has_start { Some(self.ledger.size()?) } else { None };
        if let Some(old) = self.sessions.insert(id, Session::new(start, classes)) {
            // A second beginning of one session: nothing of the first may be lost.
            self.pending -= old.pending.len();
            tracing::warn!(session = %id, "a session begins twice");
        }
        Ok(())
    }

    pub(super) fn session(&mut self, id: SessionId) -> Result<&mut Session, TrailError> {
        if !self.sessions.contains_key(&id) {
            self.add_session(id, false, Classes::default())?;
        }
        // It is there now: the failure is there for the compiler alone.
        self.sessions.get_mut(&id).ok_or(TrailError::NoSession(id))
    }

    /// The key that an entry of a session is sealed under, and its slot. `field` is what was captured, if it is that.
    pub(super) fn key_for(
        &mut self,
        id: SessionId,
        seq: u64,
        field: Option<CaptureField>,
    ) -> Result<(SlotLeaf, Arc<OpenKey>), TrailError> {
        let session = self.session(id)?;
        session.last_seq = session.last_seq.max(seq);
        let class = field.map_or(session.classes.own.as_str(), |field| session.classes.of(field));
        let place = session.keys.iter().position(|key| key.class == class);
        if let Some(key) = place.and_then(|place| session.keys.get(place)) {
            let slot = SlotLeaf { number: key.slot, begun: None };
            if let Some(key) = &key.key {
                return Ok((slot, Arc::clone(key)));
            }
            match self.vault.key(slot.number) {
                Ok(key) => {
                    let key = Arc::new(key);
                    if let Some(known) = self.class_key(id, place) {
                        known.key = Some(Arc::clone(&key));
                    }
                    return Ok((slot, key));
                }
                // A gateway that only writes can't take a key up again that an earlier run made: there is a new one.
                Err(VaultError::OtherKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (start, class) = match self.sessions.get(&id) {
            Some(session) => (
                session.start,
                field.map_or(session.classes.own.as_str(), |field| session.classes.of(field)).to_owned(),
            ),
            None => return Err(TrailError::NoSession(id)),
        };
        let (slot, key) = self.vault.add_key(id, start, &class)?;
        let key = Arc::new(key);
        let made = ClassKey { class, slot: slot.number, key: Some(Arc::clone(&key)) };
        if let Some(known) = self.class_key(id, place) {
            *known = made;
        } else if let Some(session) = self.sessions.get_mut(&id) {
            session.keys.push(made);
        }
        Ok((slot, key))
    }

    fn class_key(&mut self, id: SessionId, place: Option<usize>) -> Option<&mut ClassKey> {
        self.sessions.get_mut(&id)?.keys.get_mut(place?)
    }
}
