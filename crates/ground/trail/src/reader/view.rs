//! From leaf and payload to the JSON view.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use vocabulary::{Certainty, ClientInfo, Kind, Who};

use super::sessions::{Names, Payload, SessionView};
use crate::{
    CaptureField, Entry, Params,
    entry::{
        EntryCaptured, EntryClient, EntryCommand, EntryDecision, EntryLeaf, EntryNotKept, EntryOutcome,
        EntryPrincipal, EntryTarget,
    },
    leaf::{CommandLeaf, Leaf, OutcomeLeaf, StartLeaf, verb},
    sealer::split_judged,
    vault::{Field, Fields},
};

/// The payload of an event.
#[derive(Default, Deserialize)]
struct EventPayload {
    #[serde(default)]
    actor: Option<Who>,
    #[serde(default)]
    client: Option<ClientInfo>,
    #[serde(default)]
    what: Value,
}

pub(super) fn entry(leaf: &Leaf, index: u64, log: &str, session: &SessionView, payload: Payload) -> Entry {
    let (fields, closed) = match payload {
        Payload::Open(fields) => (fields, None),
        Payload::Closed(reason) => (Fields::default(), Some(reason)),
    };
    let names = session.names.clone().unwrap_or_default();
    let start = session.start;
    let mut entry = Entry {
        id: leaf.id(),
        kind: leaf.kind,
        at: leaf.at,
        duration_us: leaf.outcome.map(|outcome| outcome.duration_us),
        session: leaf.session,
        seq: leaf.seq,
        node: start.and_then(|start| start.node),
        principal: start.and_then(|start| principal(&start, &names)),
        client: names.client.clone().map(client),
        target: start.and_then(|start| target(&start, &names)),
        command: leaf.command.as_ref().map(|leaf| command(leaf, &fields)),
        decision: leaf.command.as_ref().map(|leaf| decision(leaf, &fields, closed.is_some())),
        outcome: leaf.outcome.as_ref().map(|leaf| outcome(leaf, &fields)),
        captured: captured(leaf),
        event: None,
        payload: closed,
        leaf: EntryLeaf { log: log.to_owned(), index },
    };
    match leaf.kind {
        Kind::Command | Kind::CommandStarted => {}
        Kind::SessionStart => entry.event = names.release.map(|release| json!({ "release": release })),
        Kind::SessionEnd => {
            entry.event = leaf.end.map(|end| {
                let detail = fields.find(Field::Message).map(lossy);
                json!({ "entries": end.entries, "reason": end.reason.as_str(), "detail": detail })
            });
        }
        Kind::Capture => {}
        _ => event(&mut entry, leaf, &fields),
    }
    entry
}

fn captured(leaf: &Leaf) -> Vec<EntryCaptured> {
    let of_entry = leaf.captures.iter().map(|captured| (captured.field, captured.bytes));
    let fields = of_entry.chain(leaf.part.map(|part| (part.field, part.bytes)));
    fields
        .filter_map(|(code, bytes)| Some(EntryCaptured { field: CaptureField::from_code(code)?, bytes }))
        .collect()
}

/// What an event tells; who did it takes the place of the session's principal.
fn event(entry: &mut Entry, leaf: &Leaf, fields: &Fields) {
    let payload: Option<EventPayload> =
        fields.find(Field::Event).and_then(|bytes| serde_json::from_slice(bytes).ok());
    if let Some(payload) = payload {
        entry.event = Some(payload.what);
        if let Some(who) = payload.actor {
            entry.principal = Some(EntryPrincipal {
                id: None,
                kind: Some(who.kind),
                name: Some(who.name.into()),
                on_behalf_of: who.on_behalf_of.map(Into::into),
                credential: Some(who.credential),
                proven_by: Some(who.proven_by),
                certainty: Certainty::Verified,
            });
        }
        if let Some(info) = payload.client {
            entry.client = Some(client(info));
        }
    } else if let Some(subject) = leaf.subject {
        entry.event = Some(json!({ "session": subject }));
    }
}

fn principal(start: &StartLeaf, names: &Names) -> Option<EntryPrincipal> {
    let id = start.principal?;
    Some(EntryPrincipal {
        id: names.principal.is_none().then_some(id),
        kind: start.principal_kind,
        name: names.principal.clone(),
        on_behalf_of: names.on_behalf_of.clone(),
        credential: start.credential,
        proven_by: start.proven_by,
        certainty: Certainty::Verified,
    })
}

fn client(info: ClientInfo) -> EntryClient {
    EntryClient {
        addr: Some(info.addr),
        application: info.application,
        task: info.task,
        tls: info.tls,
        settings: info.settings,
        certainty: Certainty::Asserted,
    }
}

fn target(start: &StartLeaf, names: &Names) -> Option<EntryTarget> {
    let id = start.target?;
    Some(EntryTarget {
        id: names.target.is_none().then_some(id),
        name: names.target.clone(),
        kind: start.target_kind,
        role: names.role.clone(),
        database: names.database.clone(),
        peer: names.peer.clone(),
    })
}

fn command(leaf: &CommandLeaf, fields: &Fields) -> EntryCommand {
    let text = fields.find(Field::Text);
    let params = fields
        .find(Field::Params)
        .map(|bytes| Params::new(bytes).map(|value| value.map(lossy)).collect::<Vec<_>>());
    let facts = fields.find(Field::Judged).and_then(split_judged).map(|(facts, _)| facts);
    let verb_of_leaf = leaf.verb.and_then(verb::name_of).map(str::to_owned);
    EntryCommand {
        text: text.map(lossy),
        text_base64: text
            .filter(|bytes| std::str::from_utf8(bytes).is_err())
            .map(|bytes| BASE64_STANDARD.encode(bytes)),
        // A payload that is there has all that there is.
        params: params.or_else(|| text.map(|_| Vec::new())),
        verb: facts.as_ref().map(|facts| facts.verb.clone()).or(verb_of_leaf),
        class: leaf.class,
        objects: facts.map(|facts| facts.objects).or_else(|| text.map(|_| Vec::new())),
        digest: text.map(|bytes| hex(digest(&SHA256, bytes).as_ref())),
    }
}

fn decision(leaf: &CommandLeaf, fields: &Fields, closed: bool) -> EntryDecision {
    let decision = fields.find(Field::Judged).and_then(split_judged).map(|(_, decision)| decision);
    EntryDecision {
        effect: leaf.effect,
        policies: decision.map(|decision| decision.policies).or_else(|| (!closed).then(Vec::new)),
        policy_hash: leaf.policy_hash,
        review: leaf.review.map(|review| review.to_string()),
    }
}

fn outcome(leaf: &OutcomeLeaf, fields: &Fields) -> EntryOutcome {
    EntryOutcome {
        status: leaf.status,
        executed: leaf.executed,
        rows: leaf.rows,
        bytes_in: leaf.bytes_in,
        bytes_out: leaf.bytes_out,
        code: leaf.code.map(|code| code.as_str().to_owned()).or_else(|| fields.find(Field::Code).map(lossy)),
        message: fields.find(Field::Message).map(lossy),
        exit: leaf.exit,
        not_kept: leaf
            .not_kept
            .map(|bytes| EntryNotKept { bytes, digest: fields.find(Field::NotKept).map(hex) }),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
