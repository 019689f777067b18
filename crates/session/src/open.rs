//! A session that is open: its place in the trail and its numbers.

use std::sync::Arc;

use trail::record::{EndReason, SessionEnd, SessionStart};
use vocabulary::{ClientInfo, SessionId, Timestamp, Where, Who};

use crate::budget::Seat;
use crate::gatehouse::{Gatehouse, new_session_id};
use crate::live::{EndCause, Live};
use crate::rule::Rules;
use crate::snapshot::{Snapshot, Target};
use crate::turn::Turn;

/// The trail could not take a record, so what it was about must not happen. `Display` is one sentence for the
/// client and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway can't record this, so it is refused: {reason}; try again when the gateway's journal can be written"
)]
pub struct NotRecorded {
    reason: String,
}

impl NotRecorded {
    pub(crate) fn because(reason: &str) -> Self {
        Self { reason: reason.to_owned() }
    }

    pub(crate) fn new(error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { reason }
    }
}

/// The protocol's own codes for what the gateway itself makes of a command, as the trail shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Codes {
    /// It was refused.
    pub refused: Option<&'static str>,
    /// Nobody answered its review in time.
    pub expired: Option<&'static str>,
    /// The client called it off while it was held.
    pub cancelled: Option<&'static str>,
}

/// An open session. Dropping it records its end.
#[derive(Debug)]
pub struct OpenSession {
    pub(crate) house: Arc<Gatehouse>,
    pub(crate) id: SessionId,
    pub(crate) next_seq: u64,
    /// Whether the explicit transaction that is, or may be, under way has changed anything.
    pub(crate) transaction_wrote: bool,
    pub(crate) rules: Rules,
    pub(crate) codes: Codes,
    pub(crate) client: ClientInfo,
    pub(crate) live: Arc<Live>,
    /// Its place in the budget of sessions, until it is over.
    _seat: Seat,
    ended: bool,
}

impl OpenSession {
    pub(crate) fn start(
        house: Arc<Gatehouse>,
        who: &Arc<Who>,
        expires_at: Option<Timestamp>,
        target: &Arc<Target>,
        client: ClientInfo,
        (place, seat): (Where, Seat),
    ) -> Result<Self, NotRecorded> {
        let at = Timestamp::now();
        let id = new_session_id(at);
        let start = SessionStart {
            session: id,
            seq: 1,
            at,
            node: house.node,
            who: (**who).clone(),
            client: client.clone(),
            target: place.clone(),
        };
        house.trail.append_one(&start.into()).map_err(|error| NotRecorded::new(&error))?;
        let live = Arc::new(Live::new(id, Arc::clone(who), Arc::clone(target), at, expires_at));
        house.live.add(Arc::clone(&live));
        // Added first, then looked: whoever closes the house either finds it among the others, or has said so before.
        if house.is_closing() {
            live.end(EndCause::Shutdown);
        }
        let rules = Rules::new(&house, &live, place, client.addr.clone());
        let codes = Codes::default();
        Ok(Self {
            house,
            id,
            next_seq: 2,
            transaction_wrote: false,
            rules,
            codes,
            client,
            live,
            _seat: seat,
            ended: false,
        })
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// The session as seen from outside: says when it should end.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Sets the protocol's own codes for refusals.
    pub const fn set_codes(&mut self, codes: Codes) {
        self.codes = codes;
    }

    /// The control state in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.house.snapshot()
    }

    /// Begins a turn.
    pub fn turn(&mut self) -> Turn<'_> {
        Turn::new(self)
    }

    /// Records the session's end.
    ///
    /// # Errors
    /// When the journal refuses; recovery will then close the session in the trail.
    pub fn end(mut self, reason: EndReason, detail: Option<String>) -> Result<(), NotRecorded> {
        self.record_end(reason, detail)
    }

    fn record_end(&mut self, reason: EndReason, detail: Option<String>) -> Result<(), NotRecorded> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.house.live.remove(self.id);
        let end = SessionEnd {
            session: self.id,
            seq: self.next_seq,
            at: Timestamp::now(),
            entries: self.next_seq,
            reason,
            detail,
        };
        self.house.trail.append_one(&end.into()).map(drop).map_err(|error| NotRecorded::new(&error))
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let detail = "the session's task was dropped".to_owned();
        if let Err(error) = self.record_end(EndReason::Shutdown, Some(detail)) {
            tracing::error!(session = %self.id, %error, "a session's end could not be recorded; recovery will do it");
        }
    }
}
