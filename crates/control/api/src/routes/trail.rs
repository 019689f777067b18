//! `/v1/trail`: entries as JSON lines. Whoever reads them is recorded before the first is given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;
use trail::{CaptureField, Entry, KeyWrap, Reader, TrailError};
use vocabulary::{EntryId, Kind, SessionId};

use crate::caller::{Administrator, Auditor};
use crate::control::{Control, blocking};
use crate::extract::{Body as RequestBody, Named, Params};
use crate::filters::{Filters, Wanted};
use crate::problem::Problem;
use crate::types::{Erase, Erased, HeldSession, HeldSessions, HoldSession, Proof, Reading, ReadingNoted};

/// Media type of JSON lines.
const JSON_LINES: &str = "application/jsonl";

/// Longest reason of an erasure or a hold, in bytes.
const MAX_REASON: usize = 1024;

/// How long reading waits for what was recorded just before to be sealed. After that it shows what is.
const FRESHNESS: Duration = Duration::from_secs(2);

/// How often a follower looks whether its reader or the gateway is gone.
const GLANCE: Duration = Duration::from_millis(250);

/// Glances without an entry after which an empty line is sent, so that a dead connection is noticed: 15 s.
const KEEPALIVE_GLANCES: u32 = 60;

/// Pieces of captured bytes, of a few hundred KiB each, that wait for a slow reader.
const CAPTURED_PIECES: usize = 2;

/// Lines that wait for a slow follower. Then the reading of the trail waits.
const TAIL_LINES: usize = 256;

/// The newest entries, newest first.
pub(super) async fn list(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let wanted = filters.wanted()?;
    let lines = blocking(move || {
        let mut reader = fresh_reader(&control)?;
        let mut lines = Vec::new();
        let mut count = 0u64;
        for entry in reader.entries(&wanted.filter).map_err(|error| unreadable(&error))? {
            let entry = entry.map_err(|error| unreadable(&error))?;
            if !wanted.admits(&entry) {
                continue;
            }
            push_line(&mut lines, &entry)?;
            count += 1;
            if count >= wanted.limit {
                break;
            }
        }
        let what = json!({ "read": "list", "filters": filters, "count": count });
        control
            .note(Kind::TrailRead, &caller, &what)
            .map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok(lines)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], lines).into_response())
}

/// One entry.
pub(super) async fn show(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Named(id): Named<EntryId>,
) -> Result<Json<Entry>, Problem> {
    blocking(move || {
        let entry = fresh_reader(&control)?.show(id).map_err(|error| unreadable(&error))?;
        let what = json!({ "read": "show", "entry": id });
        control
            .note(Kind::TrailRead, &caller, &what)
            .map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok(Json(entry))
    })
    .await
}

/// What was captured of an entry, as it was: the bytes and nothing else.
pub(super) async fn captured(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Named((id, field)): Named<(EntryId, CaptureField)>,
) -> Result<Response, Problem> {
    let place = Arc::clone(&control.tails).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many are reading the trail already",
            "end one of the others first",
        )
    })?;
    let opened = control.clone();
    let (mut reader, bytes) = blocking(move || {
        let mut reader = fresh_reader(&opened)?;
        let bytes = reader.captured(id, field).map_err(|error| unreadable(&error))?.len();
        let what = json!({ "read": "captured", "entry": id, "field": field, "bytes": bytes });
        opened.note(Kind::TrailRead, &caller, &what).map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok((reader, bytes))
    })
    .await?;
    let (pieces, waiting) = mpsc::channel(CAPTURED_PIECES);
    drop(tokio::task::spawn_blocking(move || {
        let _place = place;
        // What goes wrong half-way breaks the answer off: nobody takes it for the whole.
        match reader.captured(id, field) {
            Ok(found) => {
                for piece in found {
                    let ended = piece.is_err();
                    let piece = piece.map(Bytes::from).map_err(|error| error.in_full());
                    if pieces.blocking_send(piece).is_err() || ended {
                        break;
                    }
                }
            }
            Err(error) => drop(pieces.blocking_send(Err(error.in_full()))),
        }
    }));
    let stream = stream::unfold(waiting, |mut waiting| async move {
        let piece: Result<Bytes, String> = waiting.recv().await?;
        Some((piece.map_err(std::io::Error::other), waiting))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        // Whatever a program wrote: no browser may make anything of it.
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// The proof of one entry, with its payload unless told: a C2SP tlog-proof.
pub(super) async fn prove(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Named(id): Named<EntryId>,
    Params(options): Params<Proof>,
) -> Result<Response, Problem> {
    let text = blocking(move || {
        let proof = fresh_reader(&control)?.prove(id, options.payload).map_err(|error| unreadable(&error))?;
        let what = json!({ "read": "prove", "entry": id, "payload": options.payload });
        control
            .note(Kind::TrailRead, &caller, &what)
            .map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok(proof.to_string())
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// Entries as they come, oldest first, until the reader goes away.
pub(super) async fn tail(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let wanted = filters.wanted_for_ever()?;
    let place = Arc::clone(&control.tails).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many are following the trail already",
            "end one of the others first",
        )
    })?;
    let started = control.clone();
    let from = blocking(move || {
        let from = fresh_reader(&started)?.len().map_err(|error| unreadable(&error))?;
        let what = json!({ "read": "tail", "filters": filters, "from_leaf": from });
        started
            .note(Kind::TrailRead, &caller, &what)
            .map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok(from)
    })
    .await?;
    let (lines, waiting) = mpsc::channel(TAIL_LINES);
    // Ends by itself, at the next glance, when the reader or the gateway is gone.
    drop(tokio::task::spawn_blocking(move || {
        let _place = place;
        if let Err(problem) = follow(&control, &wanted, from, &lines) {
            let line = serde_json::to_vec(&problem).unwrap_or_default();
            drop(lines.blocking_send(with_break(line)));
        }
    }));
    let stream = stream::unfold(waiting, |mut waiting| async move {
        let line: Bytes = waiting.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), waiting))
    });
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(stream)).into_response())
}

/// Destroys the key of a session's payloads; its entries and their proofs stay.
pub(super) async fn erase(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Named(session): Named<SessionId>,
    RequestBody(Erase { reason }): RequestBody<Erase>,
) -> Result<Json<Erased>, Problem> {
    let reason = reason_of("an erasure", &reason)?;
    blocking(move || {
        let erased = control.trail.erase(session, Some(caller.who), Some(caller.client), &reason);
        let entry = erased.map_err(|error| unreadable(&error))?;
        control.forget_reviews_of(session)?;
        Ok(Json(Erased { session, entry }))
    })
    .await
}

/// Puts a session's payloads under a legal hold.
pub(super) async fn hold(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Named(session): Named<SessionId>,
    RequestBody(HoldSession { reason }): RequestBody<HoldSession>,
) -> Result<Json<HeldSession>, Problem> {
    let reason = reason_of("a hold", &reason)?;
    blocking(move || {
        let held = control.trail.hold(session, Some(caller.who), Some(caller.client), &reason);
        let entry = held.map_err(|error| unreadable(&error))?;
        Ok(Json(HeldSession { session, held: true, entry }))
    })
    .await
}

/// Releases a session's payloads from a legal hold.
pub(super) async fn release(
    Administrator(caller): Administrator,
    State(control): State<Control>,
    Named(session): Named<SessionId>,
    RequestBody(HoldSession { reason }): RequestBody<HoldSession>,
) -> Result<Json<HeldSession>, Problem> {
    let reason = reason_of("a release", &reason)?;
    blocking(move || {
        let released = control.trail.release(session, Some(caller.who), Some(caller.client), &reason);
        let entry = released.map_err(|error| unreadable(&error))?;
        Ok(Json(HeldSession { session, held: false, entry }))
    })
    .await
}

/// The sessions under a legal hold.
pub(super) async fn holds(
    Auditor(_): Auditor,
    State(control): State<Control>,
) -> Result<Json<HeldSessions>, Problem> {
    blocking(move || {
        let sessions = control.trail.holds().map_err(|error| unreadable(&error))?.into_iter().collect();
        Ok(Json(HeldSessions { sessions }))
    })
    .await
}

/// Records a reading of the files past the API, before it is done.
pub(super) async fn reading(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    RequestBody(Reading { what }): RequestBody<Reading>,
) -> Result<Json<ReadingNoted>, Problem> {
    if what.is_empty() || what.len() > MAX_REASON {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("a reading is told of in at most {MAX_REASON} bytes"),
            "say what is read",
        ));
    }
    blocking(move || {
        let what = json!({ "read": what, "with": "an identity of the reader's own" });
        let noted = control.trail.note(Kind::TrailRead, Some(caller.who), Some(caller.client), &what);
        let entry = noted.map_err(|error| Problem::unrecorded(error.in_full()))?;
        if let Err(error) = control.trail.flush(FRESHNESS) {
            tracing::warn!(error = error.in_full(), "the trail is read without its newest records");
        }
        Ok(Json(ReadingNoted { entry }))
    })
    .await
}

/// A reason that says something.
fn reason_of(what: &str, reason: &str) -> Result<String, Problem> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{what} needs a reason of at most {MAX_REASON} bytes"),
            "say who asked for it and why: it stands in the trail",
        ));
    }
    Ok(reason.to_owned())
}

fn follow(
    control: &Control,
    wanted: &Wanted,
    mut from: u64,
    lines: &mpsc::Sender<Bytes>,
) -> Result<(), Problem> {
    let (data, keys) = place(control);
    let mut reader = Reader::open(&data, Some(keys)).map_err(|error| unreadable(&error))?;
    let (mut left, mut quiet) = (wanted.limit, 0);
    while !lines.is_closed() && !*control.stop.borrow() && left > 0 {
        let (entries, next) =
            reader.follow(from, &wanted.filter, GLANCE).map_err(|error| unreadable(&error))?;
        from = next;
        quiet += 1;
        for entry in entries.iter().filter(|entry| wanted.admits(entry)) {
            let mut line = Vec::new();
            push_line(&mut line, entry)?;
            if lines.blocking_send(line.into()).is_err() {
                return Ok(());
            }
            quiet = 0;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        if quiet >= KEEPALIVE_GLANCES {
            quiet = 0;
            if lines.blocking_send(Bytes::from_static(b"\n")).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A reader that sees everything recorded up to now, if sealing keeps up.
fn fresh_reader(control: &Control) -> Result<Reader, Problem> {
    if let Err(error) = control.trail.flush(FRESHNESS) {
        tracing::warn!(error = error.in_full(), "the trail is read without its newest records");
    }
    let (data, keys) = place(control);
    Reader::open(&data, Some(keys)).map_err(|error| unreadable(&error))
}

fn place(control: &Control) -> (PathBuf, Arc<dyn KeyWrap>) {
    (control.trail.data_dir(), Arc::clone(control.trail.keys()))
}

fn push_line(lines: &mut Vec<u8>, entry: &Entry) -> Result<(), Problem> {
    serde_json::to_writer(&mut *lines, entry).map_err(Problem::internal)?;
    lines.push(b'\n');
    Ok(())
}

fn with_break(mut line: Vec<u8>) -> Bytes {
    line.push(b'\n');
    line.into()
}

/// What the trail's reader says, as the caller sees it.
fn unreadable(error: &TrailError) -> Problem {
    let status = match error {
        TrailError::NoEntry(_) | TrailError::NoSession(_) | TrailError::NothingCaptured { .. } => {
            StatusCode::NOT_FOUND
        }
        TrailError::SessionOpen(_)
        | TrailError::AlreadyErased(_)
        | TrailError::OnHold(_)
        | TrailError::NotOnHold(_) => StatusCode::CONFLICT,
        _ => return Problem::internal(error.in_full()),
    };
    Problem::from_sentence(status, &error.to_string())
}
