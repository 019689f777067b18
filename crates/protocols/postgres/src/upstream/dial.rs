//! From a host to a connection, in TLS or not.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::Problem;
use super::tls;
use super::url::{Host, Keepalives};
use crate::stream::Stream;
use crate::wire::startup::ssl_request;

/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Where a server listens, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How to get into TLS with a server.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    /// Settings, client certificate and what is checked.
    pub config: Arc<ClientConfig>,
    /// The name to check the certificate for.
    pub name: ServerName<'static>,
    /// TLS from the first byte on.
    pub direct: bool,
}

/// The addresses of a host, in the resolver's order.
///
/// # Errors
/// [`Problem::Resolve`] if it has none.
pub async fn places(host: &Host) -> Result<Vec<Place>, Problem> {
    match host {
        Host::Unix(path) => Ok(vec![Place::Unix(path.clone())]),
        Host::Tcp { address: Some(address), port, .. } => {
            Ok(vec![Place::Tcp(SocketAddr::new(*address, *port))])
        }
        Host::Tcp { name, port, .. } => {
            if let Ok(address) = name.parse() {
                return Ok(vec![Place::Tcp(SocketAddr::new(address, *port))]);
            }
            let found = tokio::net::lookup_host((name.as_str(), *port)).await;
            let found = found.map_err(|error| Problem::Resolve(error.to_string()))?;
            let places: Vec<Place> = found.take(MAX_ADDRESSES).map(Place::Tcp).collect();
            if places.is_empty() {
                Err(Problem::Resolve("the resolver knows none".to_owned()))
            } else {
                Ok(places)
            }
        }
    }
}

/// The name to check a certificate for.
///
/// # Errors
/// [`Problem::Certificate`] if no certificate can be for it.
pub fn server_name(host: &Host) -> Result<ServerName<'static>, Problem> {
    let name = match host {
        Host::Tcp { name, .. } => name.as_str(),
        Host::Unix(_) => "localhost",
    };
    ServerName::try_from(name.to_owned())
        .map_err(|_| Problem::Certificate(format!("no certificate can be for the host name `{name}`")))
}

/// A plain connection.
///
/// # Errors
/// [`Problem::Connect`].
pub async fn connect(place: &Place, keepalives: Option<&Keepalives>) -> Result<Stream, Problem> {
    let stream = match place {
        Place::Tcp(address) => Stream::connect_tcp(*address).await,
        Place::Unix(path) => Stream::connect_unix(path).await,
    };
    let stream = stream.map_err(Problem::Connect)?;
    if let (Some(socket), Some(keepalives)) = (stream.tcp_socket(), keepalives) {
        keep_alive(&SockRef::from(socket), keepalives).map_err(Problem::Connect)?;
    }
    Ok(stream)
}

fn keep_alive(socket: &SockRef<'_>, keepalives: &Keepalives) -> io::Result<()> {
    socket.set_keepalive(keepalives.on)?;
    if keepalives.on {
        let mut timing = TcpKeepalive::new();
        if let Some(idle) = keepalives.idle {
            timing = timing.with_time(idle);
        }
        if let Some(interval) = keepalives.interval {
            timing = timing.with_interval(interval);
        }
        if let Some(count) = keepalives.count {
            timing = timing.with_retries(count);
        }
        if keepalives.idle.is_some() || keepalives.interval.is_some() || keepalives.count.is_some() {
            socket.set_tcp_keepalive(&timing)?;
        }
    }
    if keepalives.user_timeout.is_some() {
        socket.set_tcp_user_timeout(keepalives.user_timeout)?;
    }
    Ok(())
}

/// What a server says to an SSLRequest.
#[derive(Debug)]
pub enum Offer {
    /// It is in TLS now.
    Encrypted(Stream),
    /// It does not do TLS; the connection is still good.
    Declined(Stream),
}

/// Asks for TLS and goes into it.
///
/// # Errors
/// [`Problem`] if the handshake fails or the answer makes no sense.
pub async fn encrypt(mut stream: Stream, plan: &TlsPlan) -> Result<Offer, Problem> {
    if !plan.direct {
        stream.write_all(&ssl_request()).await.map_err(Problem::Broken)?;
        let mut answer = [0u8; 1];
        // One byte and no more: what comes after it is read by TLS alone (CVE-2021-23222).
        match stream.read_exact(&mut answer).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Problem::Closed),
            Err(error) => return Err(Problem::Broken(error)),
        }
        match answer {
            [b'S'] => {}
            [b'N'] => return Ok(Offer::Declined(stream)),
            // Not passed on: nobody has proven yet who wrote it (CVE-2024-10977).
            [b'E'] => {
                return Err(Problem::Protocol("it answered the request for TLS with an error".to_owned()));
            }
            _ => {
                let reason = "it answered the request for TLS with neither yes nor no".to_owned();
                return Err(Problem::Protocol(reason));
            }
        }
    }
    let handshake = stream.connect_tls(Arc::clone(&plan.config), plan.name.clone());
    let stream = Box::pin(handshake).await.map_err(|error| tls::explain(&error))?;
    if plan.direct && stream.alpn() != Some(tls::ALPN) {
        let reason = "it did not agree on the protocol `postgresql` (ALPN), which direct TLS needs";
        return Err(Problem::Tls(reason.to_owned()));
    }
    Ok(Offer::Encrypted(stream))
}
