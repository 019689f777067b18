//! Reviews between sessions, people, the trail and the store.
//!
//! Sessions lay reviews on the gatehouse's desk; the keeper here stores them and lets their time run out; people answer
//! by the routes. *Invariants.* Each step is recorded before it counts. What is stored is what lies on the desk then, and
//! one at a time stores: a review is never stored as it was over what it has become.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use review::{Ballot, Review, Reviewer, State, Step};
use serde::Serialize;
use serde_json::json;
use session::AnswerError;
use store::{Delivered, Delivery, NewDelivery, StoreError, StoredReview};
use trail::{NewEvent, TrailError};
use vocabulary::{Kind, ReviewId, SessionId, Timestamp};

use crate::caller::Caller;
use crate::control::{Control, blocking};
use crate::problem::Problem;
use crate::types::ReviewView;
use axum::http::StatusCode;

/// How often it is looked whether a review's time is over.
const TICK: Duration = Duration::from_secs(1);

/// Messages that one receiver is told at once.
const BATCH: u32 = 8;

/// A message about a review, ready to be told.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// What happened: `review.requested` or `review.decided`.
    pub event: String,
    /// The gateway.
    pub node: String,
    /// When it was told first.
    pub at: Timestamp,
    /// The review.
    pub review: ReviewView,
}

impl Control {
    /// Puts back the reviews of earlier runs. Those that a client waited for are withdrawn: it is gone.
    ///
    /// # Errors
    /// If they can't be read, or that can't be recorded.
    pub fn restore_reviews(&self) -> Result<(), Problem> {
        let stored = self.store().reviews().map_err(Problem::internal)?;
        let mut reviews = Vec::with_capacity(stored.len());
        for StoredReview { mut review, held } in stored {
            if held && !review.state.is_over() {
                let why = "the gateway went down while the command was held";
                self.record_step(&review, None, "withdrawn", Some(why)).map_err(Problem::unrecorded)?;
                review.withdraw(why, Timestamp::now());
                let changed = [StoredReview { review: review.clone(), held: false }];
                let news = self.news_of(&review);
                self.store().save_reviews(Timestamp::now(), &changed, &news).map_err(Problem::internal)?;
            }
            reviews.push(review);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(reviews.iter().map(|review| (review.id, Told::of(&review.state))));
        drop(told);
        self.gatehouse.desk().restore(reviews);
        Ok(())
    }

    /// Stores what sessions and people make of reviews, and lets their time run out, until it is dropped.
    pub async fn keep_reviews(&self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = self.gatehouse.desk().changed() => {}
                _ = tick.tick() => {}
            }
            self.keep_the_rest().await;
        }
    }

    /// Stores what there is now: also what is left once the last session is over.
    pub async fn keep_the_rest(&self) {
        let control = self.clone();
        if let Err(problem) = blocking(move || {
            control.keep_now();
            Ok(())
        })
        .await
        {
            tracing::error!(%problem, "reviews could not be stored");
        }
    }

    fn keep_now(&self) {
        let desk = self.gatehouse.desk();
        let now = Timestamp::now();
        for review in desk.overdue(now) {
            match self.record_step(&review, None, "expired", None) {
                Ok(()) => desk.expire(review.id, now),
                Err(error) => {
                    tracing::error!(review = %review.id, %error, "a review's end can't be recorded yet");
                }
            }
        }
        if let Err(error) = self.store_reviews() {
            tracing::error!(%error, "reviews could not be stored");
        }
        let forgotten = desk.forget(now);
        if !forgotten.is_empty() {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !forgotten.contains(id));
            if let Err(error) = self.store().forget_reviews(&forgotten) {
                tracing::warn!(%error, "old reviews could not be deleted");
            }
        }
    }

    /// Stores what the store does not know yet of reviews, with what webhooks have to be told of them.
    fn store_reviews(&self) -> Result<(), StoreError> {
        let _alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = self.gatehouse.desk();
        let changed = desk.unsaved();
        if changed.is_empty() {
            return Ok(());
        }
        let stored: Vec<StoredReview> = changed
            .iter()
            .map(|(review, held)| StoredReview { review: review.clone(), held: *held })
            .collect();
        let messages: Vec<NewDelivery> =
            changed.iter().flat_map(|(review, _)| self.news_of(review)).collect();
        let saved = self.store().save_reviews(Timestamp::now(), &stored, &messages);
        for (review, _) in &changed {
            match &saved {
                Ok(()) => {
                    self.tells(review);
                    desk.saved(review, Ok(()));
                }
                Err(error) => {
                    desk.saved(review, Err(error.to_string()));
                    desk.not_saved(review.id);
                }
            }
        }
        saved
    }

    /// What webhooks have to be told of a review that they were not told yet, to be stored with it.
    fn news_of(&self, review: &Review) -> Vec<NewDelivery> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&review.id).copied();
        let news = Told::of(&review.state);
        if told >= Some(news) {
            return Vec::new();
        }
        let to = |webhook: &String| NewDelivery {
            review: review.id,
            webhook: webhook.clone(),
            event: news.as_str(),
        };
        self.webhooks.iter().map(to).collect()
    }

    /// What is to be told of a review is stored.
    fn tells(&self, review: &Review) {
        let news = Told::of(&review.state);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.entry(review.id).or_insert(news);
        *known = news.max(*known);
    }

    /// Somebody answers.
    pub(crate) fn answer(
        &self,
        caller: &Caller,
        id: ReviewId,
        ballot: &Ballot,
    ) -> Result<(Review, Step), Problem> {
        let desk = self.gatehouse.desk();
        if caller.is_local && ballot.approve && !desk.settings().operator_approves {
            return Err(Problem::forbidden(
                "on this gateway the local administrator approves nothing (review.operator_approves = false)",
                "approve with the token of a person: set TRAILGATE_URL and TRAILGATE_TOKEN",
            ));
        }
        let reviewer = Reviewer { who: &caller.who, groups: &caller.groups, operator: caller.is_local };
        let answered = desk.answer(id, &reviewer, ballot, |review, step| {
            self.record_step(review, Some((caller, ballot)), step.as_str(), None)
        });
        let answered = answered.map_err(|error| match error {
            AnswerError::NoReview(_) => Problem::from_sentence(StatusCode::NOT_FOUND, &error.to_string()),
            AnswerError::Objection(objection) => {
                let status = match &objection {
                    about if about.is_about_the_caller() => StatusCode::FORBIDDEN,
                    review::Objection::NoteRequired | review::Objection::NoteTooLong => {
                        StatusCode::UNPROCESSABLE_ENTITY
                    }
                    _ => StatusCode::CONFLICT,
                };
                Problem::from_sentence(status, &objection.to_string())
            }
            AnswerError::NotKept(error) => Problem::unrecorded(error),
        })?;
        // Before anybody hears that it counts, so that it does after a crash, too. With the messages: people hear of it then.
        self.store_reviews().map_err(Problem::internal)?;
        Ok(answered)
    }

    /// Records a step of a review; returns once it survives the loss of power.
    fn record_step(
        &self,
        review: &Review,
        by: Option<(&Caller, &Ballot)>,
        step: &str,
        why: Option<&str>,
    ) -> Result<(), TrailError> {
        let vote = by.and_then(|_| review.votes.last());
        let what = json!({
            "review": review.id,
            "step": step,
            "why": why,
            "approve": by.map(|(_, ballot)| ballot.approve),
            "note": vote.and_then(|vote| vote.note.clone()),
            "groups": vote.map(|vote| vote.groups.clone()),
            "operator": vote.map(|vote| vote.operator),
            "missing": review.missing().into_iter().map(|(group, count)| (group.to_string(), count)).collect::<HashMap<_, _>>(),
        });
        let mut what = what;
        if let Some(fields) = what.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        self.trail
            .node_session()
            .record(NewEvent {
                kind: Kind::ReviewDecided,
                actor: by.map(|(caller, _)| caller.who.clone()),
                client: by.map(|(caller, _)| caller.client.clone()),
                subject: Some(review.asked.session),
                what: what.to_string(),
            })
            .map(drop)
    }

    /// A session is erased, and what its reviews say of its commands with it.
    pub(crate) fn forget_reviews_of(&self, session: SessionId) -> Result<(), Problem> {
        // What was taken off the desk to be stored must not come behind what is forgotten.
        let _alone = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids = self.gatehouse.desk().forget_session(session);
        let stored = self.store().reviews().map_err(Problem::internal)?;
        ids.extend(
            stored
                .iter()
                .map(|stored| &stored.review)
                .filter(|review| review.asked.session == session)
                .map(|review| review.id),
        );
        self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !ids.contains(id));
        self.store().forget_reviews(&ids).map_err(Problem::internal)
    }

    /// How a review is shown.
    pub(crate) fn view(&self, review: &Review) -> ReviewView {
        let desk = self.gatehouse.desk();
        ReviewView::of(review, desk.is_held(review.id), desk.settings().address.as_deref())
    }

    /// Messages that are due, each with what to tell. Blocks.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn due_messages(&self) -> Result<Vec<(Delivery, Option<Message>)>, StoreError> {
        let due = self.store().due_deliveries(Timestamp::now(), BATCH)?;
        let message = |delivery: &Delivery| {
            let review = self.gatehouse.desk().get(delivery.review)?;
            Some(Message {
                event: delivery.event.clone(),
                node: self.node.name.clone(),
                at: delivery.created_at,
                review: self.view(&review),
            })
        };
        Ok(due
            .into_iter()
            .map(|delivery| (message(&delivery), delivery))
            .map(|(message, delivery)| (delivery, message))
            .collect())
    }

    /// Notes what came of a message. Blocks.
    ///
    /// # Errors
    /// If the store can't be written.
    pub fn message_told(&self, id: i64, outcome: &Delivered) -> Result<(), StoreError> {
        self.store().delivered(id, outcome)
    }
}

/// What webhooks hear of a review, the latest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Told {
    Requested,
    /// Between two looks a grant can have been used already.
    Decided,
    Over,
}

impl Told {
    const fn of(state: &State) -> Self {
        match state {
            State::Pending => Self::Requested,
            State::Granted { .. } | State::Denied { .. } | State::Used { .. } => Self::Decided,
            State::Expired { .. } | State::Withdrawn { .. } => Self::Over,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "review.requested",
            Self::Decided => "review.decided",
            Self::Over => "review.over",
        }
    }
}
