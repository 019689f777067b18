//! `/v1/connect`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use store::StoreError;
use vocabulary::Name;

use crate::caller::Insider;
use crate::card::ConnectCard;
use crate::control::{Control, refused};
use crate::extract::Params;
use crate::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    principal: Name,
    target: Name,
}

pub(super) async fn card(
    _: Insider,
    State(control): State<Control>,
    Params(Pair { principal, target }): Params<Pair>,
) -> Result<Json<ConnectCard>, Problem> {
    let snapshot = control.gatehouse.snapshot();
    if !snapshot.principals.contains_key(&principal) {
        return Err(Problem::not_found(
            format!("there is no agent, person or service `{principal}`"),
            format!("add it first: `trailgate agent add {principal}`"),
        ));
    }
    if !snapshot.targets.contains_key(&target) {
        return Err(refused(&StoreError::NoTarget(target)));
    }
    ConnectCard::postgres(&principal, &target, &control.node.addresses).map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "the gateway has no listener for PostgreSQL clients",
            "set postgres.listen in its settings",
        )
    })
}
