//! The sealer: from records that survive the loss of power to leaves that a signed checkpoint covers.
//!
//! It joins intents and outcomes, gives each finished command one leaf, seals what was said into the vault, and publishes a
//! checkpoint. It knows nothing of threads or of who writes the journal: whoever runs it hands it frames in order
//! ([`Sealer::take`]) and says when to publish ([`Sealer::publish`]).
//!
//! # One checkpoint, step by step
//! 1. payloads, index and new key slots are written and synced;
//! 2. the sealer's state for the new size of the tree is written and synced, beside the state of the published one;
//! 3. the ledger writes and syncs its tiles, signs the checkpoint and publishes it;
//! 4. keys of erased sessions are destroyed;
//! 5. the journal may let go of what is no longer needed.
//!
//! A crash before 3 leaves the old checkpoint with its state: what lies beyond in the vault is cut off, the frames are
//! taken again. A crash after 3 leaves the new checkpoint with its own state. Either way each record becomes exactly one
//! leaf.
//!
//! After any error the sealer has to be [recovered](Sealer::recover), which is also what opening does.

mod assemble;
mod captures;
mod keeping;
mod restore;
mod sessions;
pub(crate) mod state;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::Duration,
};

use journal::{Position, Storage};
use ledger::{Ledger, Signer};
use serde_json::json;
use vocabulary::{Kind, SessionId, Timestamp};

use assemble::Assembler;
pub(crate) use assemble::{Beside, split_judged};
pub(crate) use captures::Captured;
use sessions::{Pending, Session};
use state::{Erasure, OpenCapture, OpenIntent, OpenSession, Side, State};

use crate::{
    CaptureField, Event, Intent, OutcomeRecord, Record, Retention, TrailError,
    layout::Layout,
    trail::Open,
    vault::{IndexRecord, KeyWrap, Owner, VaultWriter},
};

/// Where the sealer is about to write, for tests that let it fail there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Leaves and payloads are in memory; the vault is synced next.
    SyncVault,
    /// The vault is synced; the state is saved next.
    SaveState,
    /// The state is saved; the ledger is written next.
    Publish,
    /// The checkpoint is published; keys are destroyed next.
    Erase,
    /// All is done; the journal is cleaned up next.
    Retire,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [Self::SyncVault, Self::SaveState, Self::Publish, Self::Erase, Self::Retire];
}

/// Asked before each step; an error stops the sealer there as a crash would.
pub type Probe = Arc<dyn Fn(Step) -> Result<(), TrailError> + Send + Sync>;

/// When the sealer does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the first unsealed record to the checkpoint.
    pub(crate) seal_after: Duration,
    /// From an intent to its `command.started`.
    pub(crate) started_after: Duration,
}

/// An intent this much older than a checkpoint is carried in the state, so that it does not keep the journal.
const CARRY_AFTER_US: u64 = 5_000_000;
/// The number of a `session.start`: what is captured under it is of the whole session.
const FIRST_SEQ: u64 = 1;
/// Buffers kept for intents.
const MAX_SPARE_BUFFERS: usize = 1024;
/// A buffer that grew beyond this is not kept.
const MAX_SPARE_BYTES: usize = 16 * 1024;

/// Takes the random half of a session's id for its hash: gateways make those ids, no client does.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The id comes in one piece, and before it its length, which says nothing.
        if let Some(random) = bytes.last_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*random);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// What a checkpoint left behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// The last frame that was taken.
    pub(crate) through: Position,
    /// Size of the tree.
    pub(crate) entries: u64,
    /// The journal may delete what stands before.
    pub(crate) retire_before: Position,
}

/// See the module's documentation.
pub(crate) struct Sealer {
    layout: Layout,
    keys: Arc<dyn KeyWrap>,
    retention: Retention,
    storage: Arc<dyn Storage>,
    pace: Pace,
    probe: Option<Probe>,
    ledger: Ledger,
    vault: VaultWriter,
    assembler: Assembler,
    sessions: HashMap<SessionId, Session, BuildHasherDefault<IdHasher>>,
    /// Commands without outcome in all sessions.
    pending: usize,
    /// Captured bytes that are in no part yet, in all sessions.
    waiting_bytes: usize,
    erasures: Vec<Erasure>,
    /// Sessions under a legal hold.
    holds: BTreeSet<SessionId>,
    /// The next frame to take.
    next: u64,
    /// Where the state of the published checkpoint is.
    side: Side,
    spare: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    /// Outcomes that belong to no intent.
    orphans: u64,
}

/// What a sealer works with.
pub(crate) struct SealerOptions {
    pub(crate) signer: Box<dyn Signer>,
    /// Wraps the data keys of payloads.
    pub(crate) keys: Arc<dyn KeyWrap>,
    /// Which class what belongs to.
    pub(crate) retention: Retention,
    pub(crate) pace: Pace,
    pub(crate) probe: Option<Probe>,
    /// Where vault and state are written.
    pub(crate) storage: Arc<dyn Storage>,
    /// Where the ledger is written.
    pub(crate) ledger_storage: Box<dyn ledger::Storage>,
}

impl Sealer {
    /// Opens ledger and vault, and returns to the published checkpoint.
    pub(crate) fn open(layout: &Layout, options: SealerOptions) -> Result<Self, TrailError> {
        let SealerOptions { signer, keys, retention, pace, probe, storage, ledger_storage } = options;
        let options = ledger::Options { compress_full_bundles: true };
        let ledger = Ledger::open_with(&layout.ledger(), signer, options, ledger_storage)?;
        let (side, state) = restore::load(layout, &ledger)?;
        let origin = ledger.origin().to_owned();
        let vault =
            VaultWriter::open(Arc::clone(&storage), &layout.vault(), &origin, Arc::clone(&keys), state.ends)?;
        let mut sealer = Self {
            layout: layout.clone(),
            keys,
            retention,
            storage,
            pace,
            probe,
            ledger,
            vault,
            assembler: Assembler::new(&origin),
            sessions: HashMap::default(),
            pending: 0,
            waiting_bytes: 0,
            erasures: Vec::new(),
            holds: BTreeSet::new(),
            next: 0,
            side,
            spare: Vec::new(),
            buffer: Vec::new(),
            orphans: 0,
        };
        sealer.restore(state)?;
        Ok(sealer)
    }

    /// Returns to the published checkpoint after an error.
    pub(crate) fn recover(&mut self) -> Result<(), TrailError> {
        self.ledger.recover()?;
        let (side, state) = restore::load(&self.layout, &self.ledger)?;
        self.side = side;
        let origin = self.ledger.origin().to_owned();
        let (storage, keys) = (Arc::clone(&self.storage), Arc::clone(&self.keys));
        self.vault = VaultWriter::open(storage, &self.layout.vault(), &origin, keys, state.ends)?;
        self.restore(state)
    }

    /// Takes the record of the next frame.
    pub(crate) fn take(&mut self, position: Position, frame: &[u8]) -> Result<(), TrailError> {
        match Record::decode(frame)? {
            Record::Intent(intent) => self.intent(position, &intent, frame)?,
            Record::Outcome(outcome) => self.outcome(&outcome)?,
            Record::SessionStart(record) => {
                let who = std::iter::once(&record.who.name).chain(&record.who.on_behalf_of);
                let who: Vec<&str> = who.map(vocabulary::Name::as_str).collect();
                let classes = self.retention.classes(Some(record.target.name.as_str()), &who);
                self.add_session(record.session, true, classes)?;
                let ended_at = self.assembler.session_start(&record)?;
                self.emit(Kind::SessionStart, record.session, record.seq, ended_at)?;
            }
            Record::NodeStart(record) => {
                let classes = self.retention.classes(None, &[]);
                self.add_session(record.session, true, classes)?;
                let ended_at = self.assembler.node_start(&record)?;
                self.emit(Kind::SessionStart, record.session, record.seq, ended_at)?;
            }
            Record::SessionEnd(record) => {
                self.finish_pending(record.session, record.at)?;
                let captured = self.captured(record.session, FIRST_SEQ)?;
                let ended_at = self.assembler.session_end(&record, &captured)?;
                self.emit(Kind::SessionEnd, record.session, record.seq, ended_at)?;
                self.sessions.remove(&record.session);
            }
            Record::Event(record) => match (record.kind, record.subject) {
                (Kind::Erasure, Some(subject)) => {
                    let slots = self.slots_of(subject)?;
                    self.erase(&record, slots)?;
                }
                _ => self.event(&record, Beside::default())?,
            },
            Record::Keeping(record) => self.keep(record)?,
            Record::Capture(record) => self.capture(position.0, &record)?,
        }
        self.next = position.next().0;
        Ok(())
    }

    fn intent(&mut self, position: Position, intent: &Intent<'_>, frame: &[u8]) -> Result<(), TrailError> {
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.extend_from_slice(frame);
        let session = self.session(intent.session)?;
        session.last_seq = session.last_seq.max(intent.seq);
        let (seq, at) = (intent.seq, intent.at);
        session.pending.push_back(Pending { seq, at, position: position.0, frame: kept, started: false });
        self.pending += 1;
        Ok(())
    }

    fn outcome(&mut self, outcome: &OutcomeRecord<'_>) -> Result<(), TrailError> {
        let found = self.sessions.get_mut(&outcome.session).and_then(|session| {
            // Nearly always the first.
            let place = session.pending.iter().position(|pending| pending.seq == outcome.seq)?;
            session.pending.remove(place)
        });
        let Some(pending) = found else {
            self.orphans += 1;
            tracing::warn!(session = %outcome.session, seq = outcome.seq, "an outcome belongs to no open command");
            return Ok(());
        };
        self.pending -= 1;
        self.finish(outcome.session, pending, Some(outcome), outcome.at)
    }

    /// One leaf for a command that is over.
    fn finish(
        &mut self,
        session: SessionId,
        pending: Pending,
        outcome: Option<&OutcomeRecord<'_>>,
        at: Timestamp,
    ) -> Result<(), TrailError> {
        let seq = pending.seq;
        let captured = self.captured(session, seq)?;
        if let Ok(Record::Intent(intent)) = Record::decode(&pending.frame) {
            let ended_at = match outcome {
                Some(outcome) => self.assembler.command(&intent, Some(outcome), &captured)?,
                None => self.assembler.command_of_ended_session(&intent, at, &captured)?,
            };
            self.emit(Kind::Command, session, seq, ended_at)?;
        } else {
            // The journal that held the intent is gone; its number must not be missing too.
            let what = json!({ "lost": "the journal no longer has the command of this number" }).to_string();
            let kind = Kind::Gap;
            let event = Event { session, seq, at, kind, actor: None, client: None, subject: None, what };
            self.event(&event, Beside { captured: &captured, ..Beside::default() })?;
        }
        if self.spare.len() < MAX_SPARE_BUFFERS && pending.frame.capacity() <= MAX_SPARE_BYTES {
            let mut frame = pending.frame;
            frame.clear();
            self.spare.push(frame);
        }
        Ok(())
    }

    /// Commands that a session leaves without outcome: nobody will ever tell.
    fn finish_pending(&mut self, session: SessionId, at: Timestamp) -> Result<(), TrailError> {
        let left = self.sessions.get_mut(&session).map(|session| std::mem::take(&mut session.pending));
        for pending in left.unwrap_or_default() {
            self.pending -= 1;
            self.finish(session, pending, None, at)?;
        }
        Ok(())
    }

    /// Announces commands that run for long, and seals what was captured of them. Only when all frames have been taken:
    /// the outcome may be among them.
    pub(crate) fn announce_long_commands(&mut self, now: Timestamp) -> Result<(), TrailError> {
        self.cut_old_parts(now)?;
        if self.pending == 0 {
            return Ok(());
        }
        let after_us = u64::try_from(self.pace.started_after.as_micros()).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        for (id, session) in &mut self.sessions {
            for pending in session.pending.iter_mut().filter(|pending| !pending.started) {
                if now.micros_since(pending.at) >= after_us && !pending.frame.is_empty() {
                    pending.started = true;
                    due.push((pending.at, *id, pending.seq, pending.frame.clone()));
                }
            }
        }
        due.sort_unstable_by_key(|(at, id, seq, _)| (*at, *id, *seq));
        for (_, session, seq, frame) in due {
            if let Record::Intent(intent) = Record::decode(&frame)? {
                let ended_at = self.assembler.command(&intent, None, &[])?;
                self.emit(Kind::CommandStarted, session, seq, ended_at)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, beside: Beside<'_>) -> Result<(), TrailError> {
        let ended_at = self.assembler.event(event, beside)?;
        self.emit(event.kind, event.session, event.seq, ended_at)
    }

    /// Hands the entry just assembled to ledger and vault.
    fn emit(&mut self, kind: Kind, id: SessionId, seq: u64, ended_at: Timestamp) -> Result<(), TrailError> {
        self.emit_in(None, kind, id, seq, ended_at)
    }

    /// The same, under the key of the class that a captured field has.
    fn emit_in(
        &mut self,
        field: Option<CaptureField>,
        kind: Kind,
        id: SessionId,
        seq: u64,
        ended_at: Timestamp,
    ) -> Result<(), TrailError> {
        let (slot, key) = self.key_for(id, seq, field)?;
        self.ledger.append(self.assembler.leaf_under(slot))?;
        let owner = Owner { session: id, seq, kind };
        let record = IndexRecord {
            file: 0,
            offset: 0,
            length: 0,
            slot: slot.number,
            seq,
            ended_at: ended_at.0,
            kind: kind.code(),
            payload_crc: 0,
        };
        self.vault.put(&key, &owner, self.assembler.plain(), record)?;
        Ok(())
    }

    /// Whether something was taken that the published checkpoint does not cover.
    pub(crate) fn has_unpublished(&self) -> Result<bool, TrailError> {
        Ok(self.ledger.size()? != self.ledger.published()?.size())
    }

    /// Publishes a checkpoint over everything taken. Does nothing if there is nothing new.
    pub(crate) fn publish(&mut self) -> Result<Published, TrailError> {
        let entries = self.ledger.size()?;
        let mut published =
            Published { through: self.sealed_through(), entries, retire_before: Position::default() };
        if !self.has_unpublished()? {
            return Ok(published);
        }
        self.probe(Step::SyncVault)?;
        self.vault.sync()?;
        self.probe(Step::SaveState)?;
        let state = self.state(entries);
        let other = self.side.other();
        state::save(&*self.storage, &self.layout.vault(), other, &state, &mut self.buffer)?;
        self.probe(Step::Publish)?;
        self.ledger.checkpoint()?;
        self.side = other;
        self.probe(Step::Erase)?;
        self.destroy_keys()?;
        self.probe(Step::Retire)?;
        let pending = state.sessions.iter().flat_map(|session| &session.pending);
        let intents = pending.filter(|pending| pending.carried.is_none()).map(|pending| pending.position);
        let oldest = intents.chain(state.captures.iter().filter_map(|capture| capture.since)).min();
        published.retire_before = Position(oldest.unwrap_or(state.next).min(state.next));
        Ok(published)
    }

    fn probe(&self, step: Step) -> Result<(), TrailError> {
        self.probe.as_ref().map_or(Ok(()), |probe| probe(step))
    }

    fn destroy_keys(&mut self) -> Result<(), TrailError> {
        for erasure in &self.erasures {
            self.vault.erase(erasure.slot, &erasure.erased())?;
        }
        self.erasures.clear();
        Ok(())
    }

    fn state(&self, entries: u64) -> State {
        let now = Timestamp::now();
        let pending = |pending: &Pending| OpenIntent {
            seq: pending.seq,
            position: pending.position,
            carried: (now.micros_since(pending.at) > CARRY_AFTER_US).then(|| pending.frame.clone()),
            started: pending.started,
        };
        let sessions = self.sessions.iter().map(|(id, session)| OpenSession {
            session: *id,
            start: session.start,
            classes: session.classes.clone(),
            slots: session.keys.iter().map(|key| (key.class.clone(), key.slot)).collect(),
            last_seq: session.last_seq,
            pending: session.pending.iter().map(pending).collect(),
        });
        let captures = self.sessions.iter().flat_map(|(id, session)| {
            session.captures.iter().map(|capture| OpenCapture {
                session: *id,
                seq: capture.seq,
                field: capture.field,
                in_parts: capture.bytes - capture.buffer.len() as u64,
                parts: capture.parts,
                since: capture.since.map(|(position, _)| position),
            })
        });
        State {
            entries,
            next: self.next,
            ends: self.vault.ends(),
            sessions: sessions.collect(),
            erasures: self.erasures.clone(),
            captures: captures.collect(),
            holds: self.holds.clone(),
        }
    }

    /// The sessions that are not over, as of the frames taken.
    pub(crate) fn open_sessions(&self) -> BTreeMap<SessionId, Open> {
        let open = |session: &Session| Open {
            last_seq: session.last_seq,
            pending: session.pending.iter().map(|pending| pending.seq).collect(),
        };
        self.sessions.iter().map(|(id, session)| (*id, open(session))).collect()
    }

    /// The next frame to take.
    pub(crate) const fn next_position(&self) -> Position {
        Position(self.next)
    }

    /// The last frame that was taken.
    pub(crate) const fn sealed_through(&self) -> Position {
        Position(self.next.saturating_sub(1))
    }

    /// Leaves that the published checkpoint covers.
    pub(crate) fn published_entries(&self) -> Result<u64, TrailError> {
        Ok(self.ledger.published()?.size())
    }

    /// When to publish.
    pub(crate) const fn pace(&self) -> Pace {
        self.pace
    }
}
