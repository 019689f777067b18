//! A command that waits for people, and what came of the waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use review::{Fingerprint, Review, State};
use serde_json::json;
use tokio::time::{Sleep, sleep};
use trail::{NewEvent, TrailError};
use vocabulary::{Kind, Name, ReviewId, SessionId, Timestamp};

use crate::desk::Ticket;
use crate::gatehouse::Gatehouse;
use crate::live::Live;

/// What a client is told at once of a command that is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What is held, why, and for how long.
    pub message: String,
    /// Who can approve it, and where.
    pub hint: String,
}

/// How waiting ended. To be given back to the turn that judges again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Enough people have approved, and the store knows that the grant is used now.
    Granted,
    /// Somebody said no.
    Denied {
        /// Who.
        by: Name,
        /// Why.
        note: Option<String>,
    },
    /// Nobody has decided while the command was held; the review stays open.
    Lapsed,
    /// The client called its command off.
    Cancelled,
    /// The client is gone, or its session ends.
    Left,
    /// Another policy is in force.
    PolicyChanged,
    /// It can't be granted any more: one word for what it is.
    Over(&'static str),
    /// The use of the grant could not be stored.
    NotStored(String),
}

/// A command that waits for people. Dropping it withdraws the review.
#[must_use = "a hold that is dropped withdraws its review"]
#[derive(Debug)]
pub struct Hold {
    pub(crate) house: Arc<Gatehouse>,
    pub(crate) review: ReviewId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) session: SessionId,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) live: Arc<Live>,
    pub(crate) hold_for: Duration,
    pub(crate) notice: Option<Notice>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The grant is taken; the store's answer is awaited.
    taking: bool,
    /// What becomes of the review is said otherwise.
    pub(crate) settled: bool,
}

impl Hold {
    pub(crate) fn new(
        house: Arc<Gatehouse>,
        live: Arc<Live>,
        (review, fingerprint): (ReviewId, Fingerprint),
        ticket: Arc<Ticket>,
        hold_for: Duration,
        notice: Option<Notice>,
    ) -> Self {
        live.hold(Some(Arc::clone(&ticket)));
        let session = live.id;
        Self {
            house,
            review,
            fingerprint,
            session,
            ticket,
            live,
            hold_for,
            notice,
            timer: None,
            taking: false,
            settled: false,
        }
    }

    /// The review that it waits for.
    #[must_use]
    pub const fn review(&self) -> ReviewId {
        self.review
    }

    /// What to tell the client at once; nothing where the command is about to go on.
    #[must_use]
    pub const fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    /// Waits for the verdict. Wants a tokio runtime with time.
    pub fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let (cancelled, changed, saved) = self.ticket.listen(cx.waker(), |signals| {
            (signals.cancelled, std::mem::take(&mut signals.policy_changed), signals.saved.take())
        });
        if self.taking {
            return match saved {
                Some(Ok(())) => Poll::Ready(Verdict::Granted),
                Some(Err(reason)) => Poll::Ready(Verdict::NotStored(reason)),
                None => Poll::Pending,
            };
        }
        if cancelled {
            return Poll::Ready(Verdict::Cancelled);
        }
        let known = self.house.desk.get(self.review);
        let met = known.as_ref().is_some_and(|review: &Review| review.is_met(Timestamp::now()));
        match known.map(|review| review.state) {
            None => return Poll::Ready(Verdict::Over("forgotten")),
            Some(State::Granted { .. }) => {
                return match self.house.desk.take(self.review, self.fingerprint, self.session) {
                    Ok(()) => {
                        self.taking = true;
                        // It may be stored already.
                        self.poll_verdict(cx)
                    }
                    Err(_) => Poll::Ready(Verdict::Over("expired")),
                };
            }
            Some(State::Denied { by, note }) => return Poll::Ready(Verdict::Denied { by, note }),
            Some(over) if over.is_over() => return Poll::Ready(Verdict::Over(over.as_str())),
            Some(_) => {}
        }
        if changed {
            return Poll::Ready(Verdict::PolicyChanged);
        }
        if met {
            return match self.grant() {
                Ok(()) => self.poll_verdict(cx),
                Err(error) => Poll::Ready(Verdict::NotStored(error.to_string())),
            };
        }
        let hold_for = self.hold_for;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(hold_for)));
        timer.as_mut().poll(cx).map(|()| Verdict::Lapsed)
    }

    /// A changed policy is content with the votes given: nobody votes for that to be said, so it is said here.
    fn grant(&self) -> Result<(), TrailError> {
        let why = "the policy was changed, and the votes given are enough";
        self.record("granted", why)?;
        self.house.desk.grant(self.review);
        Ok(())
    }

    fn record(&self, step: &str, why: &str) -> Result<(), TrailError> {
        let event = NewEvent {
            kind: Kind::ReviewDecided,
            actor: None,
            client: None,
            subject: Some(self.session),
            what: json!({ "review": self.review, "step": step, "why": why }).to_string(),
        };
        self.house.trail.node_session().record_at_once(event).map(drop)
    }

    /// What becomes of the review is said elsewhere from now on.
    pub(crate) fn settle(mut self) -> ReviewId {
        self.settled = true;
        self.review
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.live.hold(None);
        self.house.desk.detach(self.review, &self.ticket);
        if self.settled || self.taking {
            return;
        }
        let why = "the session ended";
        match self.record("withdrawn", why) {
            Ok(()) => self.house.desk.withdraw(self.review, why),
            Err(error) => {
                tracing::error!(review = %self.review, %error, "a review stays open, since its withdrawal can't be recorded");
            }
        }
    }
}
