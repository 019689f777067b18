//! `/log/…`: the node's ledger, read-only, as [tlog-tiles](https://c2sp.org/tlog-tiles) says, for any client of that
//! specification. Leaves hold no free text, and a tile nothing but hashes. `/trail-log/…`: likewise the trail log, if this
//! gateway keeps one.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path as RoutePath, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use ledger::{Checkpoint, LedgerReader, Tile, TileKind};
use trail::{Link, TrailError, TrailInbox, TrailLeaf};

use crate::caller::Monitor;
use crate::control::{Control, blocking};
use crate::problem::Problem;

/// A checkpoint is replaced every second or so.
const FRESH: &str = "no-cache";

/// A tile never changes (tlog-tiles, "Merkle Tree").
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// How long a submitted leaf waits to stand in the trail log, which is written once a second.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(10);

/// How much longer it waits for the trail log's witnesses, so that the proof shows that they have seen it. A node that got one
/// without their cosignatures gets the next one with them.
const COSIGN_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked for.
const ACCEPT_GLANCE: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// What is asked of a log.
enum Wanted {
    Checkpoint,
    /// Ours: the latest checkpoint whether or not witnesses have cosigned it.
    Newest,
    /// Ours: the log's vkey.
    VerifierKey,
    Tile(Tile),
}

impl Wanted {
    fn parse(path: &str) -> Option<Self> {
        match path {
            "checkpoint" => Some(Self::Checkpoint),
            "checkpoint.newest" => Some(Self::Newest),
            "log.vkey" => Some(Self::VerifierKey),
            path => Tile::from_path(path).map(Self::Tile),
        }
    }
}

/// The node's own log.
pub(super) async fn node(
    _: Monitor,
    State(control): State<Control>,
    RoutePath(path): RoutePath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let data = control.trail.data_dir();
    let witnessed = control.node.log.witnessed;
    serve(path, headers, move || trail::ledger_reader(&data), witnessed).await
}

/// The trail log that this gateway keeps.
pub(super) async fn trail(
    _: Monitor,
    State(control): State<Control>,
    RoutePath(path): RoutePath<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let data = control.trail.data_dir();
    let witnessed = control.node.log.witnessed;
    serve(path, headers, move || trail::trail_log_reader(&data), witnessed).await
}

/// A leaf for the trail log from another node: its checkpoint, or that it joins or leaves. The node's signature on it is
/// what proves where it comes from. Answers once the leaf stands under a checkpoint, with the proof of that.
pub(super) async fn submit(State(control): State<Control>, leaf: Bytes) -> Result<Json<Link>, Problem> {
    let refused = |status: StatusCode, what: String| {
        Problem::new(status, what, "see docs/ledger-format.md, \"Trail log\"")
    };
    let parsed =
        TrailLeaf::parse(&leaf).map_err(|error| refused(StatusCode::BAD_REQUEST, error.to_string()))?;
    let (note, origin) = match &parsed {
        TrailLeaf::Checkpoint(checkpoint) => (checkpoint.note(), checkpoint.origin()),
        TrailLeaf::Join { key, note, .. } => (note, key.name()),
        TrailLeaf::Leave { head, note, .. } => (note, head.origin.as_str()),
        TrailLeaf::Heartbeat { .. } => {
            return Err(refused(StatusCode::FORBIDDEN, "heartbeats are the trail log's own".to_owned()));
        }
    };
    let key = control.node.log.trail_nodes.iter().find(|key| key.name() == origin).ok_or_else(|| {
        Problem::not_found(
            format!("this gateway takes no checkpoints of {origin}"),
            "its operator adds the vkey to the file that trail_log.nodes names, and restarts it",
        )
    })?;
    note.verify(key).map_err(|error| refused(StatusCode::FORBIDDEN, error.to_string()))?;
    if note.signatures().len() != 1 {
        return Err(refused(StatusCode::BAD_REQUEST, "a leaf has one signature, the node's".to_owned()));
    }
    let witnessed = control.node.log.witnessed;
    blocking(move || accept(&control.trail.data_dir(), &leaf, witnessed)).await.map(Json)
}

/// Hands a leaf to whoever writes the trail log, this process or the sealer's, and waits until it stands there.
fn accept(data: &Path, leaf: &[u8], witnessed: bool) -> Result<Link, Problem> {
    let reader = trail::trail_log_reader(data).map_err(|error| Problem::internal(error.in_full()))?;
    let mut from = reader.snapshot().map_err(Problem::internal)?.size();
    let inbox = TrailInbox::open(data).map_err(|error| Problem::internal(error.in_full()))?;
    let letter = inbox.put(leaf).map_err(|error| Problem::internal(error.in_full()))?;
    let deadline = Instant::now() + ACCEPT_PATIENCE;
    while Instant::now() < deadline {
        let snapshot = reader.snapshot().map_err(Problem::internal)?;
        for entry in snapshot.entries(from..snapshot.size()) {
            let (index, bytes) = entry.map_err(Problem::internal)?;
            if bytes == leaf {
                let cosigned = if witnessed { cosigned(&reader, index)? } else { None };
                let snapshot = cosigned.map_or(snapshot, |checkpoint| reader.snapshot_at(checkpoint));
                let proof = snapshot.prove(index).map_err(Problem::internal)?.to_string();
                let leaf = String::from_utf8(bytes).map_err(Problem::internal)?;
                return Ok(Link { vkey: reader.verifier().to_string(), leaf, proof });
            }
        }
        from = snapshot.size();
        if let Some(reason) = letter.refusal() {
            return Err(Problem::conflict(
                reason,
                "a node's sizes never decrease, and it joins before all else",
            ));
        }
        std::thread::sleep(ACCEPT_GLANCE);
    }
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the trail log does not take leaves just now",
        "see the log of the gateway that keeps it",
    ))
}

/// The checkpoint with the entry at `index` that witnesses have cosigned, once there is one.
fn cosigned(reader: &LedgerReader, index: u64) -> Result<Option<Checkpoint>, Problem> {
    let deadline = Instant::now() + COSIGN_PATIENCE;
    loop {
        let found = reader.witnessed().map_err(Problem::internal)?;
        let found = found.filter(|checkpoint| checkpoint.size() > index);
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
        std::thread::sleep(ACCEPT_GLANCE);
    }
}

async fn serve(
    path: String,
    headers: HeaderMap,
    open: impl FnOnce() -> Result<LedgerReader, TrailError> + Send + 'static,
    witnessed: bool,
) -> Result<Response, Problem> {
    let wanted = Wanted::parse(&path).ok_or_else(nothing_there)?;
    let gzip = takes_gzip(&headers);
    blocking(move || {
        let reader = open().map_err(|error| match error {
            TrailError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                nothing_there()
            }
            error => Problem::internal(error.in_full()),
        })?;
        match wanted {
            Wanted::Checkpoint if witnessed => {
                let checkpoint = reader.witnessed().map_err(Problem::internal)?;
                checkpoint.map_or_else(|| newest(&reader), |checkpoint| text(checkpoint.to_string()))
            }
            Wanted::Checkpoint | Wanted::Newest => newest(&reader),
            Wanted::VerifierKey => text(format!("{}\n", reader.verifier())),
            Wanted::Tile(tile) => self::tile(&reader, &tile, gzip),
        }
    })
    .await
}

fn newest(reader: &LedgerReader) -> Result<Response, Problem> {
    text(reader.snapshot().map_err(Problem::internal)?.checkpoint().to_string())
}

fn text(body: String) -> Result<Response, Problem> {
    answer(TEXT, FRESH, body.into_bytes(), None)
}

fn tile(reader: &LedgerReader, tile: &Tile, gzip: bool) -> Result<Response, Problem> {
    let snapshot = reader.snapshot().map_err(Problem::internal)?;
    let bytes = snapshot.tile(tile).map_err(Problem::internal)?.ok_or_else(nothing_there)?;
    let is_bundle = tile.kind == TileKind::Entries;
    if !is_bundle || !gzip {
        // Who caches must tell apart who takes gzip and who does not.
        return answer(BYTES, IMMUTABLE, bytes, is_bundle.then_some(None));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    let encoded = encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_err(Problem::internal)?;
    answer(BYTES, IMMUTABLE, encoded, Some(Some("gzip")))
}

/// `encoding`: `None` if the answer is the same for all, else the encoding chosen.
fn answer(
    content_type: &'static str,
    cache: &'static str,
    body: Vec<u8>,
    encoding: Option<Option<&'static str>>,
) -> Result<Response, Problem> {
    let mut response = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CACHE_CONTROL, cache)
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    if let Some(encoding) = encoding {
        response = response.header(header::VARY, "accept-encoding");
        if let Some(encoding) = encoding {
            response = response.header(header::CONTENT_ENCODING, encoding);
        }
    }
    response.body(Body::from(body)).map_err(Problem::internal)
}

/// Whether `Accept-Encoding` names gzip (RFC 9110, section 12.5.3) and does not rule it out with `q=0`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
        named && !matches!(quality, Some(Ok(0.0) | Err(_)))
    })
}

fn nothing_there() -> Problem {
    Problem::not_found(
        "the log has nothing at this path",
        "it has checkpoint, tile/LEVEL/INDEX and tile/entries/INDEX, as c2sp.org/tlog-tiles says",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("xgzip", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(takes_gzip(&headers), takes, "{value}");
        }
    }
}
