//! `trailgate policy explain`

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use api::explain::Situation;
use api::types::policy::{ExplainPolicy, Explained};
use policy::Policy;
use vocabulary::{PrincipalKind, TargetKind, Timestamp, Usage};

use super::compiled;
use crate::cli::args::{PolicyExplain, Shared};
use crate::cli::output;
use crate::cli::{Failure, terminal};
use crate::client::{Client, ClientError};

pub async fn run(shared: &Shared, client: &Client, asked: PolicyExplain) -> Result<(), Failure> {
    let own = match &asked.policy {
        Some(file) => Some(compiled(shared, file)?),
        None => None,
    };
    let request = ExplainPolicy {
        principal: asked.principal,
        target: asked.target,
        command: asked.command,
        database: asked.database,
        in_transaction: asked.in_transaction,
        from: asked.from,
        at: asked.at,
        approved_by: asked.approved_by,
        source: own.as_ref().map(|(text, _)| text.source.clone()),
    };
    let explained: Vec<Explained> = match (client.post("/v1/policy/explain", &request).await, &own) {
        (Ok(explained), _) => explained,
        (Err(ClientError::NoGateway { place, .. }), Some((_, policy))) => {
            eprintln!(
                "no gateway answers at {place}: {} is taken for an agent in no group, {} for a PostgreSQL target without labels",
                request.principal, request.target
            );
            alone(policy, &request)
        }
        (Err(error), _) => return Err(error.into()),
    };
    if shared.json {
        return explained.iter().try_for_each(output::json);
    }
    let shown: Vec<String> = explained.iter().map(shown).collect();
    output::line(&shown.join("\n\n"))
}

/// Without a gateway: of principal and target only the names are known.
fn alone(policy: &Policy, request: &ExplainPolicy) -> Vec<Explained> {
    let situation = Situation {
        kind: PrincipalKind::Agent,
        principal: request.principal.clone(),
        on_behalf_of: None,
        groups: Vec::new(),
        person_groups: Vec::new(),
        target: request.target.clone(),
        target_kind: TargetKind::Postgres,
        role: String::new(),
        database: request.database.clone(),
        other_database: request.database.is_some(),
        labels: BTreeMap::new(),
        allow: BTreeSet::new(),
        from: request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        in_transaction: request.in_transaction,
        now: request.at.unwrap_or_else(Timestamp::now),
        approved_by: request.approved_by.clone(),
    };
    match request.command.as_str() {
        "" => vec![situation.connect(policy)],
        command => situation.explain(policy, command),
    }
}

/// One statement for people.
pub fn shown(explained: &Explained) -> String {
    let usage = |wanted: Usage| {
        let names = explained.objects.iter().filter(|object| object.usage == wanted);
        names.map(|object| object.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let functions: Vec<String> = explained
        .functions
        .iter()
        .map(|function| format!("{} ({})", function.name, format!("{:?}", function.effect).to_lowercase()))
        .collect();
    let settings: Vec<&str> = explained.settings.iter().map(|setting| setting.name.as_str()).collect();
    let yes_or_no = |value: Option<bool>| match value {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => String::new(),
    };
    let review = explained.review.as_ref().map(|review| {
        let groups: Vec<&str> = review.groups.iter().map(vocabulary::Name::as_str).collect();
        let note = if review.note_required { ", with a note" } else { "" };
        let hold = review.hold_for_ms.map(|ms| format!(", held for {ms} ms")).unwrap_or_default();
        format!("{} of each of: {}{note}{hold}", review.approvals, groups.join(", "))
    });
    output::fields(&[
        ("statement", terminal::one_line(&explained.statement)),
        ("class", explained.class.to_string()),
        ("verb", explained.verb.clone()),
        ("not understood", explained.not_understood.clone().unwrap_or_default()),
        ("reads", usage(Usage::Read)),
        ("writes", usage(Usage::Write)),
        ("defines", usage(Usage::Define)),
        ("calls", functions.join(", ")),
        ("sets", settings.join(", ")),
        ("has WHERE", yes_or_no(explained.has_where)),
        ("decision", explained.effect.clone()),
        ("policies", explained.decision.policies.join(", ")),
        ("policy hash", explained.decision.policy_hash.to_string()),
        ("review by", review.unwrap_or_default()),
        ("obligations", duties(explained)),
        ("budget", budget(explained)),
        ("reason", explained.words.reason.clone()),
        ("approvers", explained.words.approvers.clone()),
        ("advice", explained.words.advice.clone()),
    ])
}

fn duties(explained: &Explained) -> String {
    let duties = &explained.obligations;
    let all = [
        duties.limit_rows.map(|rows| format!("at most {rows} rows")),
        duties.timeout_ms.map(|ms| format!("at most {ms} ms")),
        duties.read_only.then(|| "read only".to_owned()),
        duties.record_rows_bytes.map(|bytes| format!("rows recorded, up to {bytes} bytes")),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn budget(explained: &Explained) -> String {
    let budget = &explained.budget;
    let all = [
        budget.commands_per_minute.map(|count| format!("{count} commands a minute")),
        budget.rows_per_hour.map(|rows| format!("{rows} rows an hour")),
        budget.sessions.map(|sessions| format!("{sessions} sessions")),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
