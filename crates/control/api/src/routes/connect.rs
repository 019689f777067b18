//! `/v1/connect`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use store::StoreError;
use vocabulary::{Name, TargetKind};

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
    let Some(found) = snapshot.targets.get(&target) else {
        return Err(refused(&StoreError::NoTarget(target)));
    };
    let addresses = &control.node.addresses;
    let card = match found.kind {
        TargetKind::Postgres => ConnectCard::postgres(&principal, &target, addresses),
        TargetKind::Ssh => ConnectCard::ssh(&principal, &target, addresses),
    };
    card.map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            format!("the gateway has no listener for {} clients", found.kind),
            format!("set {}.listen in its settings", found.kind),
        )
    })
}
