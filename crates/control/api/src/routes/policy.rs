//! `/v1/policy`

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use policy::{Policy, PolicyError, shipped};
use serde::Deserialize;
use session::Snapshot;
use store::{AppliedPolicy, NewPolicy, StoreError};
use vocabulary::{Name, PrincipalKind, Timestamp};

use crate::caller::{Administrator, Insider};
use crate::control::{Control, blocking, refused};
use crate::explain::Situation;
use crate::extract::{Body, Params};
use crate::problem::Problem;
use crate::types::policy::{ApplyPolicy, ExplainPolicy, Explained, PolicyApplied, PolicyView};

/// Most policies that the history gives.
const MAX_HISTORY: usize = 1_000;

/// Longest command that is explained, in bytes.
const MAX_COMMAND: usize = 256 << 10;

/// The policy in force.
pub(super) async fn show(_: Insider, State(control): State<Control>) -> Result<Json<PolicyView>, Problem> {
    in_force(control).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Most {
    #[serde(default)]
    limit: Option<usize>,
}

/// What was applied, newest first.
pub(super) async fn history(
    _: Insider,
    State(control): State<Control>,
    Params(Most { limit }): Params<Most>,
) -> Result<Json<Vec<PolicyView>>, Problem> {
    let most = limit.unwrap_or(20).clamp(1, MAX_HISTORY);
    let applied = blocking(move || control.policies(most)).await?;
    Ok(Json(applied.into_iter().map(view).collect()))
}

/// Puts a policy in force.
pub(super) async fn apply(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Body(ApplyPolicy { name, source }): Body<ApplyPolicy>,
) -> Result<Json<PolicyApplied>, Problem> {
    let source = match source {
        Some(source) => source,
        None => shipped::source(name.as_str()).map(str::to_owned).ok_or_else(|| {
            Problem::not_found(
                format!("there is no shipped policy `{name}`"),
                format!("shipped are {}; for your own give a file", shipped::names().join(", ")),
            )
        })?,
    };
    let compiled = compiled(&source)?;
    let before = control.gatehouse.snapshot().policy.hash();
    let new = NewPolicy { name, source, applied_by: caller.who.name.clone() };
    control.change(&caller, move |edit| edit.apply_policy(&new)).await?;
    let snapshot = control.gatehouse.snapshot();
    let mut policy = in_force(control).await?;
    policy.warnings = compiled.warnings().iter().map(|warning| format!("line {warning}")).collect();
    policy.warnings.extend(nobody_to_ask(&compiled, &snapshot));
    Ok(Json(PolicyApplied { changed: before != policy.hash, before, policy }))
}

/// What a policy says of a command, without running it.
pub(super) async fn explain(
    _: Insider,
    State(control): State<Control>,
    Body(request): Body<ExplainPolicy>,
) -> Result<Json<Vec<Explained>>, Problem> {
    if request.command.len() > MAX_COMMAND {
        let advice = "explain a shorter one";
        return Err(Problem::bad_request(format!("the command is longer than {MAX_COMMAND} bytes"), advice));
    }
    let snapshot = control.gatehouse.snapshot();
    let policy = match &request.source {
        Some(source) => compiled(source)?,
        None => Arc::clone(&snapshot.policy),
    };
    let situation = situation(&snapshot, &request)?;
    // Long texts take a while to parse.
    let explained = blocking(move || {
        Ok(if request.command.is_empty() {
            vec![situation.connect(&policy)]
        } else {
            situation.explain(&policy, &request.command)
        })
    });
    explained.await.map(Json)
}

fn situation(snapshot: &Snapshot, request: &ExplainPolicy) -> Result<Situation, Problem> {
    let principal = snapshot.principals.get(&request.principal).ok_or_else(|| {
        Problem::not_found(
            format!("there is no agent, person or service `{}`", request.principal),
            format!("add it first: `trailgate agent add {}`", request.principal),
        )
    })?;
    let target = snapshot
        .targets
        .get(&request.target)
        .ok_or_else(|| refused(&StoreError::NoTarget(request.target.clone())))?;
    let person = principal.on_behalf_of.as_ref().and_then(|person| snapshot.principals.get(person));
    let own = target.database();
    Ok(Situation {
        kind: principal.kind,
        principal: principal.name.clone(),
        on_behalf_of: principal.on_behalf_of.clone(),
        groups: principal.groups.clone(),
        person_groups: person.map(|person| person.groups.clone()).unwrap_or_default(),
        target: target.name.clone(),
        target_kind: target.kind,
        role: target.role(),
        other_database: request.database.is_some() && request.database != own,
        database: request.database.clone().or(own),
        labels: target.labels.clone(),
        allow: target.allow.clone(),
        from: request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        in_transaction: request.in_transaction,
        now: request.at.unwrap_or_else(Timestamp::now),
        approved_by: request.approved_by.clone(),
    })
}

async fn in_force(control: Control) -> Result<PolicyView, Problem> {
    let snapshot = control.gatehouse.snapshot();
    let latest = blocking(move || control.policies(1)).await?;
    let latest = latest.into_iter().next().map(view);
    // What decides is what the snapshot has; if that is another one, `locked` stands in for what can't be read.
    Ok(match latest {
        Some(latest) if latest.hash == snapshot.policy.hash() => latest,
        latest => {
            let number = latest.map_or(0, |latest| latest.number);
            let source = snapshot.policy.source();
            let name = shipped::name_of(source).unwrap_or(shipped::OBSERVE);
            PolicyView {
                number,
                name: name.parse().map_err(Problem::internal)?,
                hash: snapshot.policy.hash(),
                applied_at: None,
                applied_by: None,
                source: source.to_owned(),
                warnings: Vec::new(),
            }
        }
    })
}

fn view(applied: AppliedPolicy) -> PolicyView {
    let AppliedPolicy { number, name, hash, source, applied_at, applied_by } = applied;
    PolicyView {
        number,
        name,
        hash,
        applied_at: Some(applied_at),
        applied_by: Some(applied_by),
        source,
        warnings: Vec::new(),
    }
}

fn compiled(source: &str) -> Result<Arc<Policy>, Problem> {
    Policy::parse(source).map(Arc::new).map_err(|error| bad_policy(&error))
}

/// The first thing that is wrong, with its place.
fn bad_policy(error: &PolicyError) -> Problem {
    let (detail, advice) = match error.problems.first() {
        Some(first) => {
            let others = match error.problems.len() - 1 {
                0 => String::new(),
                1 => " (and one more problem)".to_owned(),
                more => format!(" (and {more} more problems)"),
            };
            let place = format!("line {}, column {}", first.line, first.column);
            (format!("this is no policy: {place}: {}{others}", first.what), first.advice.clone())
        }
        None => ("this is no policy".to_owned(), String::new()),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail, advice)
}

/// Groups that have too few people to approve what they are asked.
fn nobody_to_ask(policy: &Policy, snapshot: &Snapshot) -> Vec<String> {
    let people = |group: &Name| {
        let of_group = |one: &&Arc<identity::Principal>| {
            one.kind == PrincipalKind::Person && !one.disabled && one.groups.contains(group)
        };
        snapshot.principals.values().filter(of_group).count()
    };
    let short = policy.reviewers().iter().filter(|(group, needed)| people(group) < usize::from(**needed));
    short
        .map(|(group, needed)| {
            let people = people(group);
            format!(
                "group `{group}` has {people} people, and {needed} have to approve: trailgate person add NAME --group {group}"
            )
        })
        .collect()
}
