//! Serving the API on a listener: bounded connections, bounded time, and a clean end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::caller::Peer;

/// How long a client may take for the TLS handshake.
const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's headers, counted from when a connection is free for one.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// How long answers under way get to finish when the gateway stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after an accept that failed, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener for the API.
pub enum Listener {
    /// The control socket: whoever may open it is the local administrator.
    Control(UnixListener),
    /// The web listener, with TLS or without.
    Web(TcpListener, Option<TlsAcceptor>),
}

/// Serves `router` on `listener` until `stop` holds `true`, with at most `connections` connections at once.
///
/// Connections belong to this future: when it is dropped they are gone.
pub async fn serve(listener: Listener, router: Router, connections: usize, mut stop: watch::Receiver<bool>) {
    let mut open = JoinSet::new();
    let free = Arc::new(tokio::sync::Semaphore::new(connections));
    loop {
        let place = tokio::select! {
            () = stopped(&mut stop) => break,
            place = Arc::clone(&free).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            // Ended connections give their memory back here.
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the API can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        let stop = stop.clone();
        open.spawn(async move {
            let _place = place;
            match stream {
                Stream::Unix(stream) => connection(stream, peer, router, stop).await,
                Stream::Tcp(stream, None) => connection(stream, peer, router, stop).await,
                Stream::Tcp(stream, Some(tls)) => {
                    match tokio::time::timeout(TLS_HANDSHAKE_DEADLINE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, peer, router, stop).await,
                        Ok(Err(error)) => {
                            tracing::debug!(%error, ?peer, "a TLS handshake with the API failed");
                        }
                        Err(_) => tracing::debug!(?peer, "a TLS handshake with the API took too long"),
                    }
                }
            }
        });
    }
    let drained = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::debug!("some answers of the API were cut off");
    }
}

enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream, Option<TlsAcceptor>),
}

async fn accept(listener: &Listener) -> io::Result<(Stream, Peer)> {
    match listener {
        Listener::Control(listener) => {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred().map_or(Peer::Control { uid: None, pid: None }, |credential| {
                Peer::Control { uid: Some(credential.uid()), pid: credential.pid() }
            });
            Ok((Stream::Unix(stream), peer))
        }
        Listener::Web(listener, tls) => {
            let (stream, address): (_, SocketAddr) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Stream::Tcp(stream, tls.clone()), Peer::Web { address, tls: tls.is_some() }))
        }
    }
}

async fn connection<S>(stream: S, peer: Peer, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(WithPeer { router, peer });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

/// Resolves once the gateway stops; also if nobody is left to say so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells every request which connection it came on.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: Peer,
}

impl tower_service::Service<Request<Incoming>> for WithPeer {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = axum::routing::future::RouteFuture<Infallible>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        tower_service::Service::<Request<Body>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
    }
}
