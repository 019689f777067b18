//! `trailgate witness up`: a small witness (c2sp.org/tlog-witness).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::serve::{Listener, serve as serve_http};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger::{Ed25519Signer, SIZE_CONTENT_TYPE, Signer, VerifierKey, Witness};
use tokio_rustls::TlsAcceptor;

use crate::cli::{Failure, args};
use crate::supervisor::Supervisor;
use crate::tls::Identity;
use crate::up::{Signals, close_to_others};

/// Where a witness keeps everything unless told.
const DEFAULT_DIR: &str = "./trailgate-witness";

/// Longest request, in bytes: a checkpoint with its signatures and 63 hashes fits many times.
const MAX_REQUEST: usize = 64 << 10;

/// Connections at once.
const CONNECTIONS: usize = 256;

/// How long the thread may take to end.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Stack of the thread that serves, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// Runs a witness until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failure`] if it can't come up.
pub fn run(dir: Option<&Path>, options: &args::WitnessUp) -> Result<(), Failure> {
    close_to_others(false);
    let dir = dir.map_or_else(|| PathBuf::from(DEFAULT_DIR), Path::to_owned);
    let logs = logs(options)?;
    let address: SocketAddr = options.listen.parse().map_err(|_| {
        Failure::new(
            format!("`{}` is no address and port", options.listen),
            "write 127.0.0.1:18090 or [::]:18090",
        )
    })?;
    let tls = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => Some(Identity::from_files(cert, key)?.web()?),
        _ if address.ip().is_loopback() || options.allow_plaintext => None,
        _ => {
            return Err(Failure::new(
                format!("{} can be reached from other machines", address.ip()),
                "give the witness a certificate (--cert, --key), or --allow-plaintext if something in front of it has one",
            ));
        }
    };
    std::fs::create_dir_all(&dir).map_err(|error| Failure::file("make", &dir, &error))?;
    let signer = Ed25519Signer::load_or_generate(&options.name, &dir.join("witness.key"))
        .and_then(Ed25519Signer::into_cosigner)
        .map_err(|error| Failure::from_error(&error))?;
    let vkey = signer.verifier().to_string();
    let known = logs.len();
    let witness = Witness::open(&dir.join("logs"), Box::new(signer), logs)
        .map_err(|error| Failure::from_error(&error))?;
    let vkey_file = dir.join("witness.vkey");
    std::fs::write(&vkey_file, format!("{vkey}\n"))
        .map_err(|error| Failure::file("write", &vkey_file, &error))?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the system gives no resources: {error}"), "try again"))?;
    let mut signals = Signals::new(&runtime)?;
    let socket = std::net::TcpListener::bind(address)
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .map_err(|error| {
            Failure::new(format!("can't listen on {address}: {error}"), "choose another --listen")
        })?;
    let at = socket.local_addr().map_err(|error| Failure::new(error.to_string(), "try again"))?;
    let mut supervisor = Supervisor::default();
    let stop = supervisor.stopping();
    let router = router(Arc::new(witness));
    let scheme = if tls.is_some() { "https" } else { "http" };
    supervisor
        .start("witness", STACK_BYTES, move || async move {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    let listener = Listener::Web(socket, tls.map(TlsAcceptor::from));
                    serve_http(listener, router, CONNECTIONS, stop).await;
                }
                Err(error) => tracing::error!(%error, "the socket can't be used"),
            }
        })
        .map_err(|error| Failure::new(format!("the system gives no thread: {error}"), "try again"))?;
    eprintln!("Trailgate witness {} is up; it knows {known} logs", options.name);
    eprintln!("  URL   {scheme}://{at}");
    eprintln!("  vkey  {vkey}");
    eprintln!("  data  {}", dir.display());
    eprintln!("In a gateway's witness policy:");
    eprintln!("  witness {} {vkey} {scheme}://{at}", options.name);
    let ended = runtime.block_on(async {
        tokio::select! {
            () = signals.next() => None,
            ended = supervisor.ended() => ended,
        }
    });
    supervisor.stop();
    drop(supervisor.join(JOIN_PATIENCE));
    match ended {
        None => Ok(()),
        Some(_) => Err(Failure::new("the witness ended by itself", "see its log, and please report this")),
    }
}

/// The logs that are known: vkeys given one by one, and files with one on each line.
fn logs(options: &args::WitnessUp) -> Result<Vec<VerifierKey>, Failure> {
    let mut vkeys = options.log.clone();
    for path in &options.logs {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        vkeys.extend(lines.map(str::to_owned));
    }
    if vkeys.is_empty() {
        return Err(Failure::new(
            "this witness would know no log",
            "name the logs' vkeys with --log, or a file of them with --logs; a gateway's is in DATA/ledger/log.vkey",
        ));
    }
    vkeys.iter().map(|vkey| VerifierKey::parse(vkey).map_err(|error| Failure::from_error(&error))).collect()
}

fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/", get(about))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(witness)
}

async fn about(State(witness): State<Arc<Witness>>) -> String {
    format!("a witness, c2sp.org/tlog-witness\n{}\n", witness.verifier())
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // It writes and syncs a file: that blocks, and requests take turns anyway.
    let judged = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now)).await;
    let text = "text/plain; charset=utf-8";
    match judged {
        Ok(Ok(line)) => (StatusCode::OK, [(header::CONTENT_TYPE, text)], line).into_response(),
        Ok(Err(refusal)) => {
            tracing::info!(status = refusal.status(), "refused: {refusal}");
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match refusal.size() {
                Some(size) => {
                    (status, [(header::CONTENT_TYPE, SIZE_CONTENT_TYPE)], format!("{size}\n")).into_response()
                }
                None => (status, [(header::CONTENT_TYPE, text)], format!("{refusal}\n")).into_response(),
            }
        }
        Err(error) => {
            tracing::error!(%error, "a request failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
