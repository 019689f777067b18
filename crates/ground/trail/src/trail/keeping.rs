//! What becomes of payloads: erased on demand or when their time is over, unless they are under a legal hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use vocabulary::{ClientInfo, EntryId, Kind, SessionId, Timestamp, Who};

use super::{NewEvent, Trail, lock};
use crate::{
    KeepingAct, TrailError,
    sealer::state::{self, State},
    vault::{INDEX_RECORD_BYTES, IndexRecord, VaultReader, each_slot, numbered_keys_of},
};

/// How long to wait for the sealer. What was recorded is done later nevertheless.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Keys that one entry tells of. The leaf has room for ten thousand.
const KEYS_PER_ENTRY: usize = 4096;
/// Index records read at once.
const INDEX_BLOCK: u64 = 16_384;

/// What was over and is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Keys destroyed, one for each session and class.
    pub keys: u64,
    /// Entries that tell of it.
    pub entries: u64,
}

/// A key whose time may be over.
struct Candidate {
    session: SessionId,
    class: String,
    start: u64,
    /// When the last of what it seals was over.
    ended_at: Timestamp,
}

impl Trail {
    /// Destroys the keys of a session's payloads, and records who did it and why. Returns once it is done: the entry of
    /// the erasure is then sealed, and nobody can read the payloads any more. Their commitments still verify.
    ///
    /// # Errors
    /// [`TrailError::NoSession`], [`TrailError::SessionOpen`], [`TrailError::AlreadyErased`], [`TrailError::OnHold`];
    /// [`TrailError::NotSealed`] if the sealer does not get there within 60 s: it is then done as soon as it does.
    pub fn erase(
        &self,
        session: SessionId,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        reason: &str,
    ) -> Result<EntryId, TrailError> {
        let _deciding = lock(&self.deciding);
        // What is not sealed yet would be sealed under the destroyed key.
        let (state, live) = self.free_keys(session)?;
        if state.sessions.iter().any(|open| open.session == session) {
            return Err(TrailError::SessionOpen(session));
        }
        let what = json!({ "session": session, "reason": reason });
        let event = event(Kind::Erasure, actor, client, Some(session), &what);
        let entry = self.node_session.order(event, KeepingAct::Erase(live))?;
        self.flush(TIMEOUT)?;
        Ok(entry)
    }

    /// Puts a session's payloads under a legal hold: until it is released, nothing erases them, neither a person nor
    /// their retention. The session may be open.
    ///
    /// # Errors
    /// [`TrailError::NoSession`], [`TrailError::AlreadyErased`] if nothing is left to hold, [`TrailError::OnHold`] if it is held
    /// already; [`TrailError::NotSealed`] if the sealer does not get there within 60 s.
    pub fn hold(
        &self,
        session: SessionId,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        reason: &str,
    ) -> Result<EntryId, TrailError> {
        let _deciding = lock(&self.deciding);
        self.free_keys(session)?;
        self.decide_hold(session, actor, client, "hold", reason, KeepingAct::Hold)
    }

    /// Releases a session's payloads from a legal hold. They may be erased again, and are once their retention is over.
    ///
    /// # Errors
    /// [`TrailError::NotOnHold`]; [`TrailError::NotSealed`] if the sealer does not get there within 60 s.
    pub fn release(
        &self,
        session: SessionId,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        reason: &str,
    ) -> Result<EntryId, TrailError> {
        let _deciding = lock(&self.deciding);
        if !self.sealed_state()?.holds.contains(&session) {
            return Err(TrailError::NotOnHold(session));
        }
        self.decide_hold(session, actor, client, "release", reason, KeepingAct::Release)
    }

    fn decide_hold(
        &self,
        session: SessionId,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        action: &str,
        reason: &str,
        act: KeepingAct,
    ) -> Result<EntryId, TrailError> {
        let what = json!({ "subject": "session", "action": action, "name": session, "reason": reason });
        let event = event(Kind::ControlChanged, actor, client, Some(session), &what);
        let entry = self.node_session.order(event, act)?;
        self.flush(TIMEOUT)?;
        Ok(entry)
    }

    /// The sessions under a legal hold.
    ///
    /// # Errors
    /// [`TrailError`] if the sealer's state can't be read.
    pub fn holds(&self) -> Result<BTreeSet<SessionId>, TrailError> {
        Ok(self.sealed_state()?.holds)
    }

    /// Destroys the keys of all that is to be kept no longer at `now`, and records which and why, thousands in one entry.
    /// What belongs to open sessions or is under a hold is left alone. To be called from time to time; what it costs is a walk
    /// over the key slots, and over the index from the first session on whose time may be over.
    ///
    /// # Errors
    /// [`TrailError`] if the vault can't be read or the journal refuses; what was recorded before is done.
    pub fn expire(&self, now: Timestamp) -> Result<Expired, TrailError> {
        let _deciding = lock(&self.deciding);
        let mut expired = Expired::default();
        if self.retention.periods.is_empty() {
            return Ok(expired);
        }
        let state = self.sealed_state()?;
        let mut candidates = self.candidates(&state, now)?;
        self.find_ends(&state, &mut candidates)?;
        let over: Vec<(u32, Candidate)> = candidates
            .into_iter()
            .filter(|(_, key)| self.retention.is_over(&key.class, key.ended_at, now))
            .collect();
        for batch in over.chunks(KEYS_PER_ENTRY) {
            let mut sessions: BTreeMap<&str, BTreeSet<SessionId>> = BTreeMap::new();
            for (_, key) in batch {
                sessions.entry(&key.class).or_default().insert(key.session);
            }
            let what =
                json!({ "reason": "its retention is over", "keys": batch.len(), "sessions": sessions });
            let slots = batch.iter().map(|(slot, _)| *slot).collect();
            self.node_session
                .order(event(Kind::Erasure, None, None, None, &what), KeepingAct::Erase(slots))?;
            expired.keys += batch.len() as u64;
            expired.entries += 1;
        }
        if expired.entries > 0 {
            self.flush(TIMEOUT)?;
        }
        Ok(expired)
    }

    /// Keys of closed sessions without hold that are old enough by their session's beginning.
    fn candidates(&self, state: &State, now: Timestamp) -> Result<BTreeMap<u32, Candidate>, TrailError> {
        let open: BTreeSet<SessionId> = state.sessions.iter().map(|open| open.session).collect();
        let mut candidates = BTreeMap::new();
        each_slot(&self.layout.vault(), state.ends.slots, |number, key| {
            // A damaged slot is for `verify` to name.
            let Some(key) = key.filter(|key| key.erasure.is_none()) else { return };
            let began = Timestamp(key.session.unix_ms().saturating_mul(1000));
            let is_kept = open.contains(&key.session) || state.holds.contains(&key.session);
            if !is_kept && self.retention.is_over(&key.class, began, now) {
                let (start, ended_at) = (key.start.unwrap_or(0), began);
                candidates
                    .insert(number, Candidate { session: key.session, class: key.class, start, ended_at });
            }
        })?;
        Ok(candidates)
    }

    /// Looks up when the last of what each key seals was over.
    fn find_ends(&self, state: &State, candidates: &mut BTreeMap<u32, Candidate>) -> Result<(), TrailError> {
        let Some(mut first) = candidates.values().map(|key| key.start).min() else { return Ok(()) };
        let vault = VaultReader::open(&self.layout.vault())?;
        while first < state.entries {
            let count = INDEX_BLOCK.min(state.entries - first);
            let bytes = vault.index_bytes(first, usize::try_from(count).unwrap_or_default())?;
            let (records, _) = bytes.as_chunks::<INDEX_RECORD_BYTES>();
            for index in first..first + count {
                // What can't be read may be the last of a session: nothing is destroyed on a guess.
                let place = usize::try_from(index - first).ok();
                let record = place.and_then(|place| records.get(place)).and_then(IndexRecord::decode);
                let record = record.ok_or_else(|| {
                    VaultReader::damaged_index(&self.layout.vault(), index, "the index record is not valid")
                })?;
                if let Some(key) = candidates.get_mut(&record.slot) {
                    key.ended_at = key.ended_at.max(Timestamp(record.ended_at));
                }
            }
            first += count;
        }
        Ok(())
    }

    /// The sealer's state and the slots of a session's keys: some are there, and no hold is on them.
    fn free_keys(&self, session: SessionId) -> Result<(State, Vec<u32>), TrailError> {
        let state = self.sealed_state()?;
        let live = self.live_keys(session)?;
        if live.is_empty() {
            return Err(TrailError::AlreadyErased(session));
        }
        if state.holds.contains(&session) {
            return Err(TrailError::OnHold(session));
        }
        Ok((state, live))
    }

    /// The slots of a session whose keys are there.
    fn live_keys(&self, session: SessionId) -> Result<Vec<u32>, TrailError> {
        let keys = numbered_keys_of(&self.layout.vault(), session)?;
        if keys.is_empty() {
            return Err(TrailError::NoSession(session));
        }
        Ok(keys.into_iter().filter(|(_, key)| key.erasure.is_none()).map(|(slot, _)| slot).collect())
    }

    /// The sealer's state once everything recorded so far is sealed.
    fn sealed_state(&self) -> Result<State, TrailError> {
        self.flush(TIMEOUT)?;
        let state = state::newest(&self.layout.vault())?;
        state.ok_or_else(|| TrailError::NoState { dir: self.layout.vault(), size: 0 })
    }
}

fn event(
    kind: Kind,
    actor: Option<Who>,
    client: Option<ClientInfo>,
    subject: Option<SessionId>,
    what: &Value,
) -> NewEvent {
    NewEvent { kind, actor, client, subject, what: what.to_string() }
}
