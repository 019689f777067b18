//! `/v1/health` for load balancers, `/v1/status` for operators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vocabulary::Timestamp;

use crate::caller::Insider;
use crate::control::{Control, blocking};
use crate::problem::Problem;
use crate::types::Health;

/// Whether commands flow; nothing else, since anybody may ask.
pub(super) async fn bare(State(control): State<Control>) -> (StatusCode, Json<Value>) {
    match journal_problem(&control) {
        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failing" }))),
    }
}

pub(super) async fn full(_: Insider, State(control): State<Control>) -> Result<Json<Health>, Problem> {
    let asked = control.clone();
    let untold = blocking(move || asked.store().undelivered().map_err(Problem::internal)).await?;
    let trail = control.trail.health();
    let node = &control.node;
    let journal_problem = journal_problem(&control);
    Ok(Json(Health {
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
        untold: u64::try_from(untold.len()).unwrap_or(u64::MAX),
        untold_problem: untold
            .last()
            .map(|late| format!("{}: {}", late.webhook, late.problem.as_deref().unwrap_or("not tried yet"))),
        witnessing: control.node.log.witnessed.then(|| written(&control, "ledger/witnesses.json")).flatten(),
        trail_log: control
            .node
            .log
            .trail_elsewhere
            .then(|| written(&control, "ledger/trail-log.json"))
            .flatten(),
    }))
}

/// What whoever speaks with others about the log, this process or the sealer's, has written down.
fn written<T: DeserializeOwned>(control: &Control, file: &str) -> Option<T> {
    let file = control.trail.data_dir().join(file);
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Why commands are refused, if they are.
fn journal_problem(control: &Control) -> Option<String> {
    match control.trail.health().journal {
        journal::Health::Healthy => None,
        journal::Health::Refusing { reason, .. } => Some(reason.to_string()),
    }
}
