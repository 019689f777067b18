//! `/v1/health` for load balancers, `/v1/status` for operators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vocabulary::Timestamp;

use crate::caller::Insider;
use crate::control::Control;
use crate::types::Health;

/// Whether commands flow; nothing else, since anybody may ask.
pub(super) async fn bare(State(control): State<Control>) -> (StatusCode, Json<Value>) {
    match journal_problem(&control) {
        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failing" }))),
    }
}

pub(super) async fn full(_: Insider, State(control): State<Control>) -> Json<Health> {
    let trail = control.trail.health();
    let node = &control.node;
    let journal_problem = journal_problem(&control);
    Json(Health {
        status: if journal_problem.is_none() { "ok" } else { "failing" }.to_owned(),
        version: node.version.clone(),
        node: node.id,
        node_name: node.name.clone(),
        pid: std::process::id(),
        started_at: node.started_at,
        now: Timestamp::now(),
        data: node.data.clone(),
        addresses: node.addresses.clone(),
        sessions: u64::try_from(control.gatehouse.sessions().len()).unwrap_or(u64::MAX),
        journal_problem,
        entries_sealed: trail.entries,
        records_unsealed: trail.unsealed,
        sealed_at: trail.sealed_at,
        sealer_problem: trail.sealer,
    })
}

/// Why commands are refused, if they are.
fn journal_problem(control: &Control) -> Option<String> {
    match control.trail.health().journal {
        journal::Health::Healthy => None,
        journal::Health::Refusing { reason, .. } => Some(reason.to_string()),
    }
}
