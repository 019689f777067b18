//! The connection to the target, behind the one road that leads there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::turn::Cleared;

/// Owns the connection to the target. Reading from it is free; writing wants a [`Cleared`].
#[derive(Debug)]
pub struct Forwarder<S> {
    stream: S,
}

/// A way to the target that is a library's, not a stream of bytes: a channel, a handle. What can be done with it needs
/// a [`Cleared`].
#[derive(Debug)]
pub struct Guarded<T> {
    way: T,
}

impl<T> Guarded<T> {
    /// Puts a way to the target behind the road.
    #[must_use]
    pub const fn new(way: T) -> Self {
        Self { way }
    }

    /// The way itself, for what stands in the journal.
    #[must_use]
    pub const fn forward(&self, _cleared: &Cleared) -> &T {
        &self.way
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Forwarder<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream }
    }

    /// Reads what the target sends.
    ///
    /// # Errors
    /// As the connection fails.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    /// Writes bytes whose commands stand in the journal; returns how many were taken.
    ///
    /// # Errors
    /// As the connection fails.
    pub fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        _cleared: &Cleared,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Pushes out what the connection (a TLS layer) still holds of forwarded bytes.
    ///
    /// # Errors
    /// As the connection fails.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends the connection in an orderly way.
    ///
    /// # Errors
    /// As the connection fails.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
