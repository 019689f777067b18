//! Sessions that are open now: who they belong to, and how to end them from outside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use vocabulary::{SessionId, Timestamp, Who};

use crate::desk::Ticket;
use crate::snapshot::{Snapshot, Target};

/// Why a session is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The principal, its credential or the target is no longer allowed; the text says which.
    Revoked(String),
    /// The gateway stops.
    Shutdown,
}

/// One open session, as seen from outside its thread.
#[derive(Debug)]
pub struct Live {
    /// The session.
    pub id: SessionId,
    /// Whose it is.
    pub who: Arc<Who>,
    /// Where it runs.
    pub target: Arc<Target>,
    /// When it was opened.
    pub since: Timestamp,
    /// When its credential expires.
    pub expires_at: Option<Timestamp>,
    ending: AtomicBool,
    cell: Mutex<(Option<EndCause>, Option<Waker>)>,
    /// The command that waits for a review, if one does.
    held: Mutex<Option<Arc<Ticket>>>,
}

impl Live {
    pub(crate) fn new(
        id: SessionId,
        who: Arc<Who>,
        target: Arc<Target>,
        since: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            id,
            who,
            target,
            since,
            expires_at,
            ending: AtomicBool::new(false),
            cell: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Calls off the command that waits for a review. `false` if none does.
    pub fn cancel_hold(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.inspect(|ticket| ticket.cancel()).is_some()
    }

    pub(crate) fn hold(&self, ticket: Option<Arc<Ticket>>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = ticket;
    }

    /// Asks the session to end; the first cause stands.
    pub fn end(&self, cause: EndCause) {
        let waker = {
            let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
            cell.0.get_or_insert(cause);
            self.ending.store(true, Ordering::Release);
            cell.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The cause for which the session should end; otherwise registers `waker` for when there is one. Costs one
    /// atomic load while there is none and the waker is known.
    pub fn ending(&self, waker: &Waker, registered: &mut bool) -> Option<EndCause> {
        if *registered && !self.ending.load(Ordering::Acquire) {
            return None;
        }
        let mut cell = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        if cell.0.is_none() {
            cell.1 = Some(waker.clone());
            *registered = true;
        }
        cell.0.clone()
    }
}

/// All open sessions.
#[derive(Debug, Default)]
pub(crate) struct LiveSessions {
    by_id: Mutex<HashMap<SessionId, Arc<Live>>>,
}

impl LiveSessions {
    pub(crate) fn add(&self, live: Arc<Live>) {
        self.lock().insert(live.id, live);
    }

    pub(crate) fn remove(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.lock().values().cloned().collect()
    }

    /// Ends every session that `snapshot` no longer allows at `now`.
    pub(crate) fn enforce(&self, snapshot: &Snapshot, now: Timestamp) {
        for live in self.all() {
            if let Some(reason) = objection(&live, snapshot, now) {
                live.end(EndCause::Revoked(reason));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Live>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an open session may not go on, if so.
fn objection(live: &Live, snapshot: &Snapshot, now: Timestamp) -> Option<String> {
    let Some(principal) = snapshot.principals.get(&live.who.name).filter(|found| found.id == live.who.id)
    else {
        return Some(format!("{} `{}` was removed", live.who.kind, live.who.name));
    };
    if principal.disabled {
        return Some(format!("{} `{}` was disabled", live.who.kind, live.who.name));
    }
    match principal.validity(live.who.credential) {
        None => return Some("its credential was removed".to_owned()),
        Some(known) if known.revoked_at.is_some_and(|at| at <= now) => {
            return Some("its credential was revoked".to_owned());
        }
        Some(known) if known.expires_at.is_some_and(|at| at <= now) => {
            return Some("its credential expired".to_owned());
        }
        Some(_) => {}
    }
    if let Some(person) = &principal.on_behalf_of
        && snapshot.principals.get(person).is_none_or(|found| found.disabled)
    {
        return Some(format!("person `{person}`, for whom it acts, was disabled or removed"));
    }
    match snapshot.targets.get(&live.target.name) {
        Some(target) if target.id == live.target.id => None,
        _ => Some(format!("target `{}` was removed", live.target.name)),
    }
}
