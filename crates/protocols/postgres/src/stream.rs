//! A connection to a client or to a target: TCP or a Unix socket, plain or inside TLS.

pub mod inbox;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use session::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A connection, boxed where TLS makes it large, so that a plain one stays small.
#[derive(Debug)]
pub enum Stream {
    /// Not encrypted.
    Plain(Socket),
    /// The client's leg inside TLS: we are the server.
    ClientTls(Box<server::TlsStream<Socket>>),
    /// The target's leg inside TLS: we are the client.
    TargetTls(Box<client::TlsStream<Socket>>),
}

/// A socket, and bytes that were read from it too early and are to be read again.
#[derive(Debug)]
pub struct Socket {
    kind: SocketKind,
    /// In reverse, so that reading takes from the end. Empty but in the first moments of direct TLS.
    early: Vec<u8>,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes a TCP connection over and turns Nagle's algorithm off.
    ///
    /// # Errors
    /// If the socket is already dead.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Plain(Socket { kind: SocketKind::Tcp(stream), early: Vec::new() }))
    }

    /// Takes a connection over a Unix socket over.
    #[must_use]
    pub const fn unix(stream: UnixStream) -> Self {
        Self::Plain(Socket { kind: SocketKind::Unix(stream), early: Vec::new() })
    }

    /// Connects to a TCP address.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        Self::tcp(TcpStream::connect(address).await?)
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::unix(UnixStream::connect(path).await?))
    }

    /// The TLS handshake as the server. `early` are bytes of the handshake itself that were read already (direct
    /// TLS); after an SSLRequest it has to be empty, since nothing sent in plain text may be read as if it had
    /// come inside TLS (CVE-2021-23214).
    ///
    /// # Errors
    /// If the handshake fails, or this stream is already inside TLS.
    pub async fn accept_tls(self, tls: &ServerTls, early: &[u8]) -> io::Result<Self> {
        let mut socket = self.into_socket()?;
        socket.early = early.iter().rev().copied().collect();
        let accepted = TlsAcceptor::from(Arc::clone(&tls.config)).accept(socket).await?;
        Ok(Self::ClientTls(Box::new(accepted)))
    }

    /// The TLS handshake as the client.
    ///
    /// # Errors
    /// If the handshake fails, or this stream is already inside TLS.
    pub async fn connect_tls(self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connected = TlsConnector::from(config).connect(name, self.into_socket()?).await?;
        Ok(Self::TargetTls(Box::new(connected)))
    }

    /// Whether it is inside TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Whether it is a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.socket().kind, SocketKind::Unix(_))
    }

    /// The TLS version as the trail writes it, `TLSv1.3`; `None` on a plain connection.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        let version = match self {
            Self::Plain(_) => return None,
            Self::ClientTls(stream) => stream.get_ref().1.protocol_version(),
            Self::TargetTls(stream) => stream.get_ref().1.protocol_version(),
        };
        Some(match version {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLS",
        })
    }

    /// The protocol agreed on inside TLS (ALPN).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::ClientTls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::TargetTls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The name that a client asked for inside TLS (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::ClientTls(stream) => stream.get_ref().1.server_name(),
            Self::Plain(_) | Self::TargetTls(_) => None,
        }
    }

    /// The target's own certificate in DER.
    #[must_use]
    pub fn target_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::TargetTls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
            Self::Plain(_) | Self::ClientTls(_) => None,
        }
    }

    /// The TCP socket underneath, for its options.
    #[must_use]
    pub fn tcp_socket(&self) -> Option<&TcpStream> {
        match &self.socket().kind {
            SocketKind::Tcp(stream) => Some(stream),
            SocketKind::Unix(_) => None,
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::ClientTls(stream) => stream.get_ref().0,
            Self::TargetTls(stream) => stream.get_ref().0,
        }
    }

    fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Plain(socket) => Ok(socket),
            Self::ClientTls(_) | Self::TargetTls(_) => {
                Err(io::Error::other("the connection is in TLS already"))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            while buffer.remaining() > 0 {
                let Some(byte) = this.early.pop() else { break };
                buffer.put_slice(&[byte]);
            }
            if this.early.is_empty() {
                this.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            SocketKind::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            SocketKind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            SocketKind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            SocketKind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::ClientTls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::TargetTls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::ClientTls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Self::TargetTls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::ClientTls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
            Self::TargetTls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::ClientTls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Self::TargetTls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::ClientTls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::TargetTls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
