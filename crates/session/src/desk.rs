//! Where all reviews of a gateway lie: sessions lay theirs down and wait, people answer, a keeper stores.
//!
//! *Invariants.*
//! - A grant is used only after the store knows that it is: a crash can't give it back.
//! - What people say is recorded before it counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use review::{Ballot, Fingerprint, Objection, Pace, Review, Reviewer, State, Step};
use tokio::sync::Notify;
use vocabulary::{PrincipalId, ReviewId, SessionId, Timestamp};

/// Reviews of one principal that may be pending at once: beyond that its commands are refused.
const MAX_PENDING_EACH: usize = 32;

/// Reviews that may be pending at once in all.
const MAX_PENDING: usize = 10_000;

/// How long a review that is over can still be looked at.
const SHOWN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How reviews are held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReviewSettings {
    /// How long a command is held on the wire where the policy does not say.
    pub hold_for: Duration,
    /// The longest that one is held while its session keeps locks: in a transaction that has written.
    pub hold_for_in_transaction: Duration,
    /// How long reviews and grants stay open.
    pub pace: Pace,
    /// Where people answer: the web listener's URL without a path.
    pub address: Option<String>,
    /// Whether the local administrator may approve.
    pub operator_approves: bool,
}

impl Default for ReviewSettings {
    fn default() -> Self {
        Self {
            hold_for: Duration::from_secs(20),
            hold_for_in_transaction: Duration::from_secs(5),
            pace: Pace::default(),
            address: None,
            operator_approves: true,
        }
    }
}

/// All reviews of a gateway.
#[derive(Debug, Default)]
pub struct Desk {
    inner: Mutex<Inner>,
    /// One answer at a time: recording one waits for the disk.
    answering: Mutex<()>,
    changed: Notify,
    settings: OnceLock<ReviewSettings>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<ReviewId, Slot>,
    /// The review that is pending or granted for a command.
    by_fingerprint: HashMap<Fingerprint, ReviewId>,
    /// What the store does not know yet.
    unsaved: Vec<ReviewId>,
    /// Somebody stores reviews.
    kept: bool,
}

#[derive(Debug)]
struct Slot {
    review: Review,
    /// Whoever waits for it on the wire.
    ticket: Option<Arc<Ticket>>,
}

/// What is there for a command that needs a review.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// It was asked before, and nobody waits for the answer on the wire.
    Pending(ReviewId),
    /// It may go on.
    Granted(ReviewId),
}

/// Why an answer did not count.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// There is no such review.
    #[error("there is no review `{0}`; `trailgate review list` shows those that there are")]
    NoReview(ReviewId),
    /// The one who answers may not, or not like that.
    #[error(transparent)]
    Objection(Objection),
    /// It could not be recorded or stored.
    #[error("{0}")]
    NotKept(E),
}

impl Desk {
    /// The settings in force.
    pub fn settings(&self) -> &ReviewSettings {
        self.settings.get_or_init(ReviewSettings::default)
    }

    /// Sets the settings, before the first session comes.
    ///
    /// # Errors
    /// The settings, if others are in force already.
    pub fn configure(&self, settings: ReviewSettings) -> Result<(), ReviewSettings> {
        self.settings.set(settings)
    }

    /// Puts back what the store knows. From now on a grant counts as used once [`saved`](Self::saved) says so.
    pub fn restore(&self, reviews: Vec<Review>) {
        let mut inner = self.lock();
        inner.kept = true;
        for review in reviews {
            inner.index(&review);
            inner.slots.insert(review.id, Slot { review, ticket: None });
        }
    }

    /// Waits until something is to be stored.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the store does not know yet, and whether somebody waits for it on the wire. Whoever takes it stores it before
    /// anybody else takes more: what is older must not be stored over what is newer.
    #[must_use]
    pub fn unsaved(&self) -> Vec<(Review, bool)> {
        let mut inner = self.lock();
        let ids = std::mem::take(&mut inner.unsaved);
        let slots = ids.iter().filter_map(|id| inner.slots.get(id));
        slots.map(|slot| (slot.review.clone(), slot.ticket.is_some())).collect()
    }

    /// A review could not be stored: it is to be tried again.
    pub fn not_saved(&self, id: ReviewId) {
        self.lock().dirty(id);
    }

    /// The store knows a review as it was, or could not take it. A grant that could not be stored as used is not
    /// used: the command is refused.
    pub fn saved(&self, review: &Review, result: Result<(), String>) {
        let inner = self.lock();
        let Some(ticket) = inner.slots.get(&review.id).and_then(|slot| slot.ticket.clone()) else { return };
        drop(inner);
        if matches!(review.state, State::Used { .. }) {
            ticket.saved(result);
        }
    }

    /// Every review, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Review> {
        let mut all: Vec<Review> = self.lock().slots.values().map(|slot| slot.review.clone()).collect();
        all.sort_unstable_by_key(|review| std::cmp::Reverse((review.requested_at, review.id)));
        all
    }

    /// One review.
    #[must_use]
    pub fn get(&self, id: ReviewId) -> Option<Review> {
        self.lock().slots.get(&id).map(|slot| slot.review.clone())
    }

    /// Whether somebody waits for it on the wire.
    #[must_use]
    pub fn is_held(&self, id: ReviewId) -> bool {
        self.lock().slots.get(&id).is_some_and(|slot| slot.ticket.is_some())
    }

    /// Somebody answers. `record` records what that makes of the review; only then it counts. The caller then has to see to
    /// it that what is [unsaved](Self::unsaved) is stored, before it tells anybody.
    ///
    /// `record` waits for the disk, and meanwhile whoever asked may have gone: what it is given is not what the review has
    /// become, and must not be stored.
    ///
    /// # Errors
    /// [`AnswerError`]; nothing has changed then.
    pub fn answer<E>(
        &self,
        id: ReviewId,
        reviewer: &Reviewer<'_>,
        ballot: &Ballot,
        mut record: impl FnMut(&Review, Step) -> Result<(), E>,
    ) -> Result<(Review, Step), AnswerError<E>> {
        let _alone = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = self.settings().pace;
        let now = Timestamp::now();
        let mut review = self.get(id).ok_or(AnswerError::NoReview(id))?;
        let mut step = review.vote(reviewer, ballot.clone(), now, pace).map_err(AnswerError::Objection)?;
        loop {
            record(&review, step).map_err(AnswerError::NotKept)?;
            let mut inner = self.lock();
            let slot = inner.slots.get_mut(&id).ok_or(AnswerError::NoReview(id))?;
            // If it is over by now, the trail says both, in order.
            let mut voted = slot.review.clone();
            let came_to = voted.vote(reviewer, ballot.clone(), now, pace).map_err(AnswerError::Objection)?;
            if came_to != step {
                // The policy was changed, and the same vote is worth more or less.
                (review, step) = (voted, came_to);
                continue;
            }
            slot.review = voted.clone();
            let ticket = slot.ticket.clone();
            inner.index(&voted);
            inner.dirty(id);
            drop(inner);
            self.changed.notify_one();
            if let Some(ticket) = ticket {
                ticket.wake();
            }
            return Ok((voted, step));
        }
    }

    /// Reviews and grants whose time is over at `now`. The caller records that, and then calls
    /// [`expire`](Self::expire).
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Vec<Review> {
        let inner = self.lock();
        inner
            .slots
            .values()
            .map(|slot| &slot.review)
            .filter(|review| review.is_overdue(now))
            .cloned()
            .collect()
    }

    /// A review's time is over, and the trail says so.
    pub fn expire(&self, id: ReviewId, now: Timestamp) {
        self.change(id, |review| review.expire(now));
    }

    /// Whoever asked is gone, and the trail says so.
    pub fn withdraw(&self, id: ReviewId, why: &str) {
        self.change(id, |review| review.withdraw(why, Timestamp::now()));
    }

    /// Forgets what was over long ago; returns it, for the store to forget it too.
    #[must_use]
    pub fn forget(&self, now: Timestamp) -> Vec<ReviewId> {
        let before = now.0.saturating_sub(u64::try_from(SHOWN_FOR.as_micros()).unwrap_or(u64::MAX));
        self.forget_if(|review| review.over_at().is_some_and(|at| at.0 < before))
    }

    /// Forgets the reviews of a session that is erased; returns them, for the store to forget them too.
    #[must_use]
    pub fn forget_session(&self, session: SessionId) -> Vec<ReviewId> {
        self.forget_if(|review| review.asked.session == session)
    }

    fn forget_if(&self, mut gone: impl FnMut(&Review) -> bool) -> Vec<ReviewId> {
        let mut inner = self.lock();
        let ids: Vec<ReviewId> = inner
            .slots
            .values()
            .map(|slot| &slot.review)
            .filter(|review| gone(review))
            .map(|review| review.id)
            .collect();
        for id in &ids {
            inner.slots.remove(id);
        }
        inner.by_fingerprint.retain(|_, id| !ids.contains(id));
        ids
    }

    /// The policy was changed: whoever waits is judged anew.
    pub(crate) fn policy_changed(&self) {
        let tickets: Vec<_> = self.lock().slots.values().filter_map(|slot| slot.ticket.clone()).collect();
        for ticket in tickets {
            ticket.policy_changed();
        }
    }

    pub(crate) fn find(&self, fingerprint: Fingerprint, now: Timestamp) -> Found {
        let inner = self.lock();
        let Some(slot) = inner.by_fingerprint.get(&fingerprint).and_then(|id| inner.slots.get(id)) else {
            return Found::Nothing;
        };
        match &slot.review.state {
            _ if slot.ticket.is_some() || slot.review.is_overdue(now) => Found::Nothing,
            State::Pending => Found::Pending(slot.review.id),
            State::Granted { .. } => Found::Granted(slot.review.id),
            _ => Found::Nothing,
        }
    }

    /// Whether one more review of a principal may wait.
    pub(crate) fn has_room(&self, principal: PrincipalId) -> bool {
        let inner = self.lock();
        let pending = || inner.slots.values().filter(|slot| !slot.review.state.is_over());
        pending().count() < MAX_PENDING
            && pending().filter(|slot| slot.review.asked.who.id == principal).count() < MAX_PENDING_EACH
    }

    /// Lays a review down, and waits for it.
    pub(crate) fn open(&self, review: Review, ticket: Arc<Ticket>) {
        let mut inner = self.lock();
        let id = review.id;
        inner.index(&review);
        inner.slots.insert(id, Slot { review, ticket: Some(ticket) });
        inner.dirty(id);
        drop(inner);
        self.changed.notify_one();
    }

    /// Waits for a review that is there. `false` if somebody else does.
    pub(crate) fn attach(&self, id: ReviewId, ticket: &Arc<Ticket>) -> bool {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.get_mut(&id).filter(|slot| slot.ticket.is_none()) else { return false };
        slot.ticket = Some(Arc::clone(ticket));
        true
    }

    /// Waits no longer; the review goes on.
    pub(crate) fn detach(&self, id: ReviewId, ticket: &Arc<Ticket>) {
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.get_mut(&id)
            && slot.ticket.as_ref().is_some_and(|own| Arc::ptr_eq(own, ticket))
        {
            slot.ticket = None;
            inner.dirty(id);
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// The policy asks for something else now. If the votes given are enough, whoever holds the command records that, and
    /// then calls [`grant`](Self::grant).
    pub(crate) fn require(&self, id: ReviewId, requirement: &policy::Requirement) {
        self.change(id, |review| {
            review.require(requirement);
            true
        });
    }

    /// The votes given are enough since the policy was changed, and the trail says so.
    pub(crate) fn grant(&self, id: ReviewId) {
        let pace = self.settings().pace;
        self.change(id, |review| review.grant(Timestamp::now(), pace));
    }

    /// Uses a grant. Whether it is stored is said by the ticket, at once if nobody stores.
    pub(crate) fn take(
        &self,
        id: ReviewId,
        fingerprint: Fingerprint,
        session: SessionId,
    ) -> Result<(), Objection> {
        let mut inner = self.lock();
        let kept = inner.kept;
        let slot = inner.slots.get_mut(&id).ok_or(Objection::Over("forgotten"))?;
        slot.review.take(fingerprint, session, Timestamp::now())?;
        let (review, ticket) = (slot.review.clone(), slot.ticket.clone());
        inner.index(&review);
        inner.dirty(id);
        drop(inner);
        self.changed.notify_one();
        if let (false, Some(ticket)) = (kept, ticket) {
            ticket.saved(Ok(()));
        }
        Ok(())
    }

    fn change(&self, id: ReviewId, change: impl FnOnce(&mut Review) -> bool) {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.get_mut(&id) else { return };
        if !change(&mut slot.review) {
            return;
        }
        let (review, ticket) = (slot.review.clone(), slot.ticket.clone());
        inner.index(&review);
        inner.dirty(id);
        drop(inner);
        self.changed.notify_one();
        if let Some(ticket) = ticket {
            ticket.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn dirty(&mut self, id: ReviewId) {
        if self.kept && !self.unsaved.contains(&id) {
            self.unsaved.push(id);
        }
    }

    fn index(&mut self, review: &Review) {
        let fingerprint = review.asked.fingerprint;
        if !review.state.is_over() {
            self.by_fingerprint.insert(fingerprint, review.id);
        } else if self.by_fingerprint.get(&fingerprint) == Some(&review.id) {
            self.by_fingerprint.remove(&fingerprint);
        }
    }
}

/// Wakes a session that waits for a review.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    cell: Mutex<Signals>,
}

/// What was said to a session that waits.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The client has called its command off.
    pub cancelled: bool,
    /// Another policy is in force.
    pub policy_changed: bool,
    /// The store's answer to the use of the grant.
    pub saved: Option<Result<(), String>>,
    waker: Option<Waker>,
}

impl Ticket {
    /// The client calls its command off.
    pub fn cancel(&self) {
        self.signal(|signals| signals.cancelled = true);
    }

    pub fn wake(&self) {
        self.signal(|_| {});
    }

    fn policy_changed(&self) {
        self.signal(|signals| signals.policy_changed = true);
    }

    fn saved(&self, result: Result<(), String>) {
        self.signal(|signals| signals.saved = Some(result));
    }

    fn signal(&self, set: impl FnOnce(&mut Signals)) {
        let waker = {
            let mut signals = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
            set(&mut signals);
            signals.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Registers the waker, then shows what was said so far.
    pub fn listen<T>(&self, waker: &Waker, look: impl FnOnce(&mut Signals) -> T) -> T {
        let mut signals = self.cell.lock().unwrap_or_else(PoisonError::into_inner);
        signals.waker = Some(waker.clone());
        look(&mut signals)
    }
}

#[cfg(test)]
mod tests;
