//! The session of the gateway itself: one per run.

use std::sync::Mutex;

use aws_lc_rs::rand;
use journal::{Batch, Journal, Position};
use vocabulary::{ClientInfo, EntryId, Kind, NodeId, SessionId, Timestamp, Who};

use super::lock;
use crate::{EndReason, Event, Keeping, KeepingAct, NodeStart, Record, SessionEnd, TrailError};

/// An event to record.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What it tells of.
    pub kind: Kind,
    /// Who did it, if anybody is known to.
    pub actor: Option<Who>,
    /// From where.
    pub client: Option<ClientInfo>,
    /// The session that it is about, if it is about one.
    pub subject: Option<SessionId>,
    /// Details as a JSON object.
    pub what: String,
}

/// One run of a gateway, as a session: holds what belongs to no client's session.
pub struct NodeSession {
    journal: Journal,
    id: SessionId,
    /// The number of the next entry; `None` once the session has ended. Held while appending, so that the journal's
    /// order is that of the numbers.
    next: Mutex<Option<u64>>,
}

impl NodeSession {
    pub(super) fn start(journal: Journal, node: NodeId) -> Result<Self, TrailError> {
        let at = Timestamp::now();
        let id = new_session_id(at)?;
        let session = Self { journal, id, next: Mutex::new(Some(2)) };
        let release = env!("CARGO_PKG_VERSION").to_owned();
        session.append(&Record::NodeStart(NodeStart { session: id, seq: 1, at, node, release }))?;
        Ok(session)
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Records an event; returns once it survives the loss of power.
    ///
    /// # Errors
    /// [`TrailError::Append`]: what the event speaks of must not happen.
    pub fn record(&self, event: NewEvent) -> Result<EntryId, TrailError> {
        let (position, id) = self.append_event(event)?;
        self.journal.wait_synced(position)?;
        Ok(id)
    }

    /// Records an event; returns once it survives the death of the process. For what happens on threads that carry
    /// sessions, where a wait for the disk would be everybody's.
    ///
    /// # Errors
    /// [`TrailError::Append`]: what the event speaks of must not happen.
    pub fn record_at_once(&self, event: NewEvent) -> Result<EntryId, TrailError> {
        self.append_event(event).map(|(_, id)| id)
    }

    /// Records an event that tells the sealer to do something; returns once it survives the loss of power.
    pub(super) fn order(&self, event: NewEvent, act: KeepingAct) -> Result<EntryId, TrailError> {
        let (position, id) = self.append_as(event, |event| Record::Keeping(Keeping { event, act }))?;
        self.journal.wait_synced(position)?;
        Ok(id)
    }

    fn append_event(&self, event: NewEvent) -> Result<(Position, EntryId), TrailError> {
        self.append_as(event, Record::Event)
    }

    fn append_as(
        &self,
        event: NewEvent,
        to_record: impl FnOnce(Event) -> Record<'static>,
    ) -> Result<(Position, EntryId), TrailError> {
        let mut next = lock(&self.next);
        let seq = (*next).ok_or(journal::AppendError::Closed)?;
        let NewEvent { kind, actor, client, subject, what } = event;
        let at = Timestamp::now();
        let record = Event { session: self.id, seq, at, kind, actor, client, subject, what };
        let mut batch = Batch::new();
        to_record(record).encode(&mut batch)?;
        let position = self.journal.append(&mut batch)?;
        // A refused number is used again: the session has no gap.
        *next = Some(seq + 1);
        Ok((position, EntryId { session: self.id, seq }))
    }

    /// Ends the session. Later events are refused.
    pub(super) fn end(&self) -> Result<(), TrailError> {
        let mut next = lock(&self.next);
        let Some(seq) = *next else { return Ok(()) };
        self.append(&Record::SessionEnd(SessionEnd {
            session: self.id,
            seq,
            at: Timestamp::now(),
            entries: seq,
            reason: EndReason::Shutdown,
            detail: None,
        }))?;
        *next = None;
        Ok(())
    }

    fn append(&self, record: &Record<'_>) -> Result<(), TrailError> {
        let mut batch = Batch::new();
        record.encode(&mut batch)?;
        let position = self.journal.append(&mut batch)?;
        Ok(self.journal.wait_synced(position)?)
    }
}

/// A session id of now.
pub(super) fn new_session_id(at: Timestamp) -> Result<SessionId, TrailError> {
    let mut random = [0; 10];
    rand::fill(&mut random).map_err(|_| TrailError::Crypto("make random bytes"))?;
    Ok(SessionId::from_parts(at.unix_ms(), random))
}
