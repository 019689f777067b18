//! `/v1/reviews`

use axum::Json;
use axum::extract::State;
use review::{Ballot, Review};
use serde_json::json;
use vocabulary::{Kind, PrincipalKind, ReviewId};

use crate::caller::Caller;
use crate::control::{Control, blocking};
use crate::extract::{Body, Named, Params};
use crate::problem::Problem;
use crate::types::{AnswerReview, ReviewFilter, ReviewView};

/// Whether somebody may look at a review: whoever may answer it, whoever it is done for, and those with a role.
pub(super) fn may_see(caller: &Caller, review: &Review) -> bool {
    let person = caller.who.kind == PrincipalKind::Person;
    let asked = &review.asked.who;
    caller.administers
        || caller.audits
        || caller.reviews
        || (person
            && (review.groups().iter().any(|group| caller.groups.contains(group))
                || asked.name == caller.who.name
                || asked.on_behalf_of.as_ref() == Some(&caller.who.name)))
}

/// Agents and services see no reviews, whosever they are.
pub(super) fn admit(caller: &Caller) -> Result<(), Problem> {
    match caller.who.kind {
        PrincipalKind::Person => Ok(()),
        kind @ (PrincipalKind::Agent | PrincipalKind::Service) => Err(Problem::forbidden(
            format!("{kind} `{}` can't see or answer reviews", caller.who.name),
            "reviews are for persons; ask one",
        )),
    }
}

pub(super) async fn list(
    caller: Caller,
    State(control): State<Control>,
    Params(filter): Params<ReviewFilter>,
) -> Result<Json<Vec<ReviewView>>, Problem> {
    admit(&caller)?;
    blocking(move || {
        let wanted = |review: &Review| match filter.state.as_deref() {
            None => !review.state.is_over(),
            Some("all") => true,
            Some(state) => review.state.as_str() == state,
        };
        let all = control.gatehouse.desk().all();
        let shown: Vec<ReviewView> = all
            .iter()
            .filter(|review| wanted(review) && may_see(&caller, review))
            .map(|review| control.view(review))
            .collect();
        read(&control, &caller, &json!({ "read": "reviews", "count": shown.len() }))?;
        Ok(Json(shown))
    })
    .await
}

pub(super) async fn show(
    caller: Caller,
    State(control): State<Control>,
    Named(id): Named<ReviewId>,
) -> Result<Json<ReviewView>, Problem> {
    admit(&caller)?;
    blocking(move || find(&control, &caller, id).map(|review| Json(control.view(&review)))).await
}

pub(super) async fn approve(
    caller: Caller,
    State(control): State<Control>,
    Named(id): Named<ReviewId>,
    Body(AnswerReview { note }): Body<AnswerReview>,
) -> Result<Json<ReviewView>, Problem> {
    answer(caller, control, id, Ballot { approve: true, note }).await
}

pub(super) async fn deny(
    caller: Caller,
    State(control): State<Control>,
    Named(id): Named<ReviewId>,
    Body(AnswerReview { note }): Body<AnswerReview>,
) -> Result<Json<ReviewView>, Problem> {
    answer(caller, control, id, Ballot { approve: false, note }).await
}

async fn answer(
    caller: Caller,
    control: Control,
    id: ReviewId,
    ballot: Ballot,
) -> Result<Json<ReviewView>, Problem> {
    admit(&caller)?;
    blocking(move || control.answer(&caller, id, &ballot).map(|(review, _)| Json(control.view(&review))))
        .await
}

/// A review that the caller may see; that they do is recorded first.
pub(super) fn find(control: &Control, caller: &Caller, id: ReviewId) -> Result<Review, Problem> {
    let review = control.gatehouse.desk().get(id).filter(|review| may_see(caller, review));
    let review = review.ok_or_else(|| {
        Problem::not_found(
            format!("there is no review `{id}` that you may see"),
            "`trailgate review list` shows those that there are",
        )
    })?;
    read(control, caller, &json!({ "read": "review", "review": id }))?;
    Ok(review)
}

fn read(control: &Control, caller: &Caller, what: &serde_json::Value) -> Result<(), Problem> {
    control.note(Kind::TrailRead, caller, what).map_err(Problem::unrecorded)
}
