//! `trailgate trail …`

use std::path::Path;

use api::filters::{DEFAULT_LIMIT, Filters};
use api::types::{Erase, Erased};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use trail::Reader;
use vocabulary::EntryId;

use super::args::{Shared, Trail, TrailCommand};
use super::filters::FilterArgs;
use super::{Failure, entry, output, terminal, verify};
use crate::client::{Client, ClientError};

pub async fn run(shared: &Shared, client: &Client, data: &Path, trail: Trail) -> Result<(), Failure> {
    match trail.command {
        None => list(shared, client, data, &trail.filters).await,
        Some(TrailCommand::List(filters)) => list(shared, client, data, &filters).await,
        Some(TrailCommand::Tail(filters)) => tail(shared, client, &filters).await,
        Some(TrailCommand::Show { id }) => show(shared, client, data, id).await,
        Some(TrailCommand::Erase { session, reason }) => {
            let path = format!("/v1/trail/sessions/{session}/erase");
            let erased: Erased = client.post(&path, &Erase { reason }).await?;
            if shared.json {
                return output::json(&erased);
            }
            output::line(&format!("the payloads of session {session} are destroyed (entry {})", erased.entry))
        }
        Some(TrailCommand::Verify) => verify::verify(data, shared.json),
    }
}

async fn list(shared: &Shared, client: &Client, data: &Path, filters: &FilterArgs) -> Result<(), Failure> {
    let entries = match client.lines(&path("/v1/trail", filters, Some(DEFAULT_LIMIT))).await {
        Ok(mut lines) => {
            let mut entries = Vec::new();
            while let Some(line) = lines.next().await? {
                if shared.json {
                    output::bytes(&with_break(line))?;
                } else {
                    entries.push(parsed(&line)?);
                }
            }
            entries
        }
        Err(ClientError::NoGateway { local: true, .. }) => {
            let entries = list_offline(data, filters)?;
            if shared.json {
                return entries.iter().try_for_each(output::json);
            }
            entries
        }
        Err(error) => return Err(error.into()),
    };
    if shared.json {
        return Ok(());
    }
    if entries.is_empty() {
        eprintln!("there is no such entry");
        return Ok(());
    }
    output::line(&entry::table(&entries, terminal::width()))?;
    if filters.limit.is_none() && entries.len() as u64 == DEFAULT_LIMIT {
        eprintln!("these are the newest {DEFAULT_LIMIT}; --limit shows more, filters show others");
    }
    Ok(())
}

async fn tail(shared: &Shared, client: &Client, filters: &FilterArgs) -> Result<(), Failure> {
    let mut lines = client.lines(&path("/v1/trail/tail", filters, None)).await?;
    while let Some(line) = lines.next().await? {
        if shared.json {
            output::bytes(&with_break(line))?;
        } else {
            output::line(&entry::tail_line(&parsed(&line)?, terminal::width()))?;
        }
    }
    if filters.limit.is_some() {
        return Ok(());
    }
    Err(Failure::new(
        "the gateway ended the connection",
        "it may have stopped: see its log, or `trailgate doctor`",
    ))
}

async fn show(shared: &Shared, client: &Client, data: &Path, id: EntryId) -> Result<(), Failure> {
    let entry: Value = match client.get(&format!("/v1/trail/{id}")).await {
        Err(ClientError::NoGateway { local: true, .. }) => {
            let entry = offline(data)?.show(id).map_err(|error| Failure::from_sentence(&error.in_full()))?;
            serde_json::to_value(entry).map_err(|error| Failure::from_error(&error))?
        }
        answer => answer?,
    };
    if shared.json { output::json(&entry) } else { output::line(&entry::in_full(&entry)) }
}

fn list_offline(data: &Path, filters: &FilterArgs) -> Result<Vec<Value>, Failure> {
    let query: Filters = filters.to_filters();
    let wanted = query.wanted_for_ever()?;
    let limit = usize::try_from(filters.limit.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
    let mut reader = offline(data)?;
    let entries = reader.entries(&wanted.filter).map_err(|error| Failure::from_sentence(&error.in_full()))?;
    entries
        .filter(|entry| entry.as_ref().map_or(true, |entry| wanted.admits(entry)))
        .take(limit)
        .map(|entry| {
            let entry = entry.map_err(|error| Failure::from_sentence(&error.in_full()))?;
            serde_json::to_value(entry).map_err(|error| Failure::from_error(&error))
        })
        .collect()
}

/// The files of a trail whose gateway does not run. Who holds them and the node key can read them by any means, so
/// nothing is recorded; it is said instead.
fn offline(data: &Path) -> Result<Reader, Failure> {
    if !data.join("ledger").is_dir() {
        return Err(ClientError::NoGateway {
            place: crate::data::control_socket(data).display().to_string(),
            local: true,
        }
        .into());
    }
    let keys = verify::keys_at_hand(data)?;
    eprintln!(
        "no gateway answers, so this is read from the files in {} (and is no entry of the trail)",
        data.display()
    );
    Reader::open(data, keys).map_err(|error| Failure::from_sentence(&error.in_full()))
}

fn path(route: &str, filters: &FilterArgs, limit: Option<u64>) -> String {
    let limit = filters.limit.or(limit).map(|limit| ("limit", limit.to_string()));
    let pairs: Vec<String> = filters
        .to_query()
        .into_iter()
        .chain(limit)
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)))
        .collect();
    if pairs.is_empty() { route.to_owned() } else { format!("{route}?{}", pairs.join("&")) }
}

fn parsed(line: &[u8]) -> Result<Value, Failure> {
    let entry: Value = serde_json::from_slice(line).map_err(|error| {
        Failure::new(format!("an entry can't be read: {error}"), "use the same version on both sides")
    })?;
    match entry.get("detail").and_then(Value::as_str) {
        // A problem that came up while following.
        Some(detail) => Err(Failure::new(detail, "see the gateway's log")),
        None => Ok(entry),
    }
}

fn with_break(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}
