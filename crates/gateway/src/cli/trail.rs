//! `trailgate trail …`

use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use api::filters::{DEFAULT_LIMIT, Filters};
use api::types::{Erase, Erased, HeldSession, HeldSessions, HoldSession, Reading, ReadingNoted};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use trail::Reader;
use vocabulary::{EntryId, SessionId};

use super::args::{Shared, Trail, TrailCommand};
use super::filters::FilterArgs;
use super::{Failure, captured, entry, output, prove, replay, terminal, verify};
use crate::client::{Client, ClientError, Lines};

pub async fn run(shared: &Shared, client: &Client, data: &Path, trail: Trail) -> Result<(), Failure> {
    match trail.command {
        None => list(shared, client, data, &trail.filters).await,
        Some(TrailCommand::List(filters)) => list(shared, client, data, &filters).await,
        Some(TrailCommand::Tail(filters)) => tail(shared, client, &filters).await,
        Some(TrailCommand::Show { id, captured: None, .. }) => show(shared, client, data, id).await,
        Some(TrailCommand::Show { id, captured: Some(field), raw }) => {
            captured::write(shared, client, data, id, field, raw).await
        }
        Some(TrailCommand::Erase { session, reason }) => {
            let path = format!("/v1/trail/sessions/{session}/erase");
            let erased: Erased = client.post(&path, &Erase { reason }).await?;
            if shared.json {
                return output::json(&erased);
            }
            output::line(&format!("the payloads of session {session} are destroyed (entry {})", erased.entry))
        }
        Some(TrailCommand::Hold { session, reason }) => hold(shared, client, session, "hold", reason).await,
        Some(TrailCommand::Release { session, reason }) => {
            hold(shared, client, session, "release", reason).await
        }
        Some(TrailCommand::Holds) => {
            let held: HeldSessions = client.get("/v1/trail/holds").await?;
            if shared.json {
                return output::json(&held);
            }
            held.sessions.iter().try_for_each(|session| output::line(&session.to_string()))
        }
        Some(TrailCommand::Replay(asked)) => replay::run(shared, client, data, &asked).await,
        Some(TrailCommand::Verify(options)) => match &options.file {
            Some(file) => prove::verify(file, &options, shared.json),
            None => verify::verify(data, &options, shared.identity.as_deref(), shared.json),
        },
        Some(TrailCommand::Prove(options)) => prove::prove(shared, client, data, &options).await,
    }
}

async fn hold(
    shared: &Shared,
    client: &Client,
    session: SessionId,
    action: &str,
    reason: String,
) -> Result<(), Failure> {
    let path = format!("/v1/trail/sessions/{session}/{action}");
    let held: HeldSession = client.post(&path, &HoldSession { reason }).await?;
    if shared.json {
        return output::json(&held);
    }
    let now = if held.held { "is under a hold" } else { "is under no hold any more" };
    output::line(&format!("session {session} {now} (entry {})", held.entry))
}

async fn list(shared: &Shared, client: &Client, data: &Path, filters: &FilterArgs) -> Result<(), Failure> {
    let answer = if note_own_reading(shared, client, "list").await? {
        Err(ClientError::NoGateway { place: String::new(), local: true })
    } else {
        client.lines(&path("/v1/trail", filters, Some(DEFAULT_LIMIT))).await
    };
    let entries = match answer {
        Ok(mut lines) => {
            let mut entries = Vec::new();
            while let Some(line) = lines.next().await? {
                if shared.json {
                    output::bytes(&with_break(line))?;
                } else {
                    entries.push(parsed(&line)?);
                }
            }
            tell_of_cut(&lines);
            entries
        }
        Err(ClientError::NoGateway { local: true, .. }) => {
            let entries = list_offline(shared, data, filters)?;
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

/// On standard error: what is listed stays a list.
fn tell_of_cut(lines: &Lines) {
    if let Some(cut) = lines.cut() {
        eprintln!("{}", terminal::one_line(cut));
    }
}

/// Entries of one session, newest first.
pub(super) async fn of_session(
    shared: &Shared,
    client: &Client,
    data: &Path,
    session: SessionId,
) -> Result<Vec<Value>, Failure> {
    /// More than any session that somebody would look at.
    const MOST: u64 = 10_000;
    let filters = FilterArgs { session: Some(session), limit: Some(MOST), ..FilterArgs::default() };
    let answer = if note_own_reading(shared, client, &format!("replay {session}")).await? {
        Err(ClientError::NoGateway { place: String::new(), local: true })
    } else {
        client.lines(&path("/v1/trail", &filters, None)).await
    };
    match answer {
        Ok(mut lines) => {
            let mut entries = Vec::new();
            while let Some(line) = lines.next().await? {
                entries.push(parsed(&line)?);
            }
            tell_of_cut(&lines);
            Ok(entries)
        }
        Err(ClientError::NoGateway { local: true, .. }) => list_offline(shared, data, &filters),
        Err(error) => Err(error.into()),
    }
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
    let answer = if note_own_reading(shared, client, &format!("show {id}")).await? {
        Err(ClientError::NoGateway { place: String::new(), local: true })
    } else {
        client.get(&format!("/v1/trail/{id}")).await
    };
    let entry: Value = match answer {
        Err(ClientError::NoGateway { local: true, .. }) => {
            let entry =
                offline(shared, data)?.show(id).map_err(|error| Failure::from_sentence(&error.in_full()))?;
            serde_json::to_value(entry).map_err(|error| Failure::from_error(&error))?
        }
        answer => answer?,
    };
    if shared.json {
        return output::json(&entry);
    }
    output::line(&entry::in_full(&entry))?;
    captured::show_all(shared, client, data, id, &entry).await
}

fn list_offline(shared: &Shared, data: &Path, filters: &FilterArgs) -> Result<Vec<Value>, Failure> {
    let query: Filters = filters.to_filters();
    let wanted = query.wanted_for_ever()?;
    let limit = usize::try_from(filters.limit.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX);
    let mut reader = offline(shared, data)?;
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

/// With an identity of one's own the files are read past the gateway, which is told of it first. Whether that is so.
pub(super) async fn note_own_reading(shared: &Shared, client: &Client, what: &str) -> Result<bool, Failure> {
    if shared.identity.is_none() {
        return Ok(false);
    }
    match client.post::<ReadingNoted>("/v1/trail/readings", &Reading { what: what.to_owned() }).await {
        Ok(_) => NOTED.store(true, Ordering::Relaxed),
        // Nobody is there to record it; that is said as the files are opened.
        Err(ClientError::NoGateway { local: true, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// Whether a gateway has recorded the reading of its files.
static NOTED: AtomicBool = AtomicBool::new(false);

/// The files of a trail whose gateway does not run, or can't open its payloads. Who holds them and the key can read them by
/// any means, so nothing can make sure that it is recorded; it is said instead.
pub(super) fn offline(shared: &Shared, data: &Path) -> Result<Reader, Failure> {
    static SAID: Once = Once::new();
    if !data.join("ledger").is_dir() {
        return Err(ClientError::NoGateway {
            place: crate::data::control_socket(data).display().to_string(),
            local: true,
        }
        .into());
    }
    let keys = verify::keys_at_hand(data, shared.identity.as_deref())?;
    SAID.call_once(|| {
        if !NOTED.load(Ordering::Relaxed) {
            eprintln!(
                "no gateway answers, so this is read from the files in {} (and is no entry of the trail)",
                data.display()
            );
        }
    });
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
