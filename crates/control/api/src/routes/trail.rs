//! `/v1/trail`: entries as JSON lines. Whoever reads them is recorded before the first is given.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::mpsc;
use trail::{CaptureField, Entry, KeyWrap, Reader, TrailError};
use vocabulary::{EntryId, Kind, SessionId};

use crate::caller::{Administrator, Auditor};
use crate::control::{Control, blocking};
use crate::extract::{Body as RequestBody, Named, Params};
use crate::filters::{CUT_HEADER, Filters, MAX_LIST_BYTES, Wanted};
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

/// Pieces of lines that wait for a slow follower. Then the reading of the trail waits.
const TAIL_PIECES: usize = 256;

/// Longest piece of a line, in bytes: so what waits for a follower has 64 MiB, not as many lines of any length.
const TAIL_PIECE_BYTES: usize = 256 << 10;

/// The newest entries, newest first.
pub(super) async fn list(
    Auditor(caller): Auditor,
    State(control): State<Control>,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let wanted = filters.wanted()?;
    let listed = blocking(move || {
        let listed = Listed::read(&mut fresh_reader(&control)?, &wanted, MAX_LIST_BYTES)?;
        let what = json!({ "read": "list", "filters": filters, "count": listed.count });
        control
            .note(Kind::TrailRead, &caller, &what)
            .map_err(|error| Problem::unrecorded(error.in_full()))?;
        Ok(listed)
    })
    .await?;
    let cut = listed.cut.then(|| AppendHeaders([(CUT_HEADER, cut_after(listed.count))]));
    Ok(([(header::CONTENT_TYPE, JSON_LINES)], cut, listed.lines).into_response())
}

/// Entries of one answer. They are in memory until it is sent, since how many were read is recorded before.
#[derive(Debug, Default)]
struct Listed {
    lines: Vec<u8>,
    count: u64,
    /// Whether there are more, which would have made it too long.
    cut: bool,
}

impl Listed {
    /// Stops after `most_bytes`. At least one entry is given, however long it is.
    fn read(reader: &mut Reader, wanted: &Wanted, most_bytes: usize) -> Result<Self, Problem> {
        let mut listed = Self::default();
        for entry in reader.entries(&wanted.filter).map_err(|error| unreadable(&error))? {
            let entry = entry.map_err(|error| unreadable(&error))?;
            if !wanted.admits(&entry) {
                continue;
            }
            if listed.lines.len() >= most_bytes {
                listed.cut = true;
                break;
            }
            push_line(&mut listed.lines, &entry)?;
            listed.count += 1;
            if listed.count >= wanted.limit {
                break;
            }
        }
        Ok(listed)
    }
}

fn cut_after(count: u64) -> String {
    format!(
        "these are the newest {count}, for an answer has at most {} MiB; a narrower filter (--until, --session) shows others, `trailgate trail show ID` one",
        MAX_LIST_BYTES >> 20
    )
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
    let (lines, waiting) = mpsc::channel(TAIL_PIECES);
    // Ends by itself, at the next glance, when the reader or the gateway is gone.
    drop(tokio::task::spawn_blocking(move || {
        let _place = place;
        if let Err(problem) = follow(&control, &wanted, from, &lines) {
            let line = serde_json::to_vec(&problem).unwrap_or_default();
            send(&lines, with_break(line));
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
            if !send(lines, line.into()) {
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

/// Whether the follower is still there to take it.
fn send(lines: &mpsc::Sender<Bytes>, mut line: Bytes) -> bool {
    while !line.is_empty() {
        let piece = line.split_to(line.len().min(TAIL_PIECE_BYTES));
        if lines.blocking_send(piece).is_err() {
            return false;
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let keys = Arc::new(trail::NodeKey::new(&[7; 32]).unwrap());
        let settings = trail::Settings::new(
            vocabulary::NodeId::from_bytes([1; 16]),
            "test/node",
            Arc::clone(&keys) as _,
        );
        let trail = trail::Trail::open(temp.path(), settings).unwrap().0;
        trail.start_sealer().unwrap();
        for number in 0..3 {
            trail.note(Kind::TrailRead, None, None, &json!({ "number": number })).unwrap();
        }
        trail.flush(Duration::from_secs(10)).unwrap();
        let mut reader = Reader::open(temp.path(), Some(keys)).unwrap();
        let filters = Filters { kind: Some("trail.read".to_owned()), ..Filters::default() };
        let mut read = |most_bytes| {
            let listed = Listed::read(&mut reader, &filters.wanted().unwrap(), most_bytes).unwrap();
            (listed.count, listed.cut, listed.lines.split(|byte| *byte == b'\n').count() - 1)
        };
        assert_eq!(read(1), (1, true, 1));
        assert_eq!(read(MAX_LIST_BYTES), (3, false, 3));
        axum::http::HeaderValue::from_str(&cut_after(3)).unwrap();
        trail.close(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn what_waits_for_a_follower_is_bounded_in_bytes() {
        let (lines, mut waiting) = mpsc::channel(TAIL_PIECES);
        assert!(send(&lines, vec![b'x'; TAIL_PIECE_BYTES + 1].into()));
        let mut next = || waiting.try_recv().unwrap().len();
        assert_eq!((next(), next()), (TAIL_PIECE_BYTES, 1));
        drop(waiting);
        assert!(!send(&lines, Bytes::from_static(b"\n")));
    }
}
