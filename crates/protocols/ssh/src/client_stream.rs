//! The client's connection, as the SSH library sees it: with a budget of bytes until the client is known, and an end
//! that the gateway can bring about.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that a client may send before it is authenticated. A key exchange is 3 KiB, an offered key less than 1 KiB.
const PRE_AUTH_BYTES: u64 = 256 * 1024;

/// Bytes read at once from a client or a target. The library asks for a packet's length and then for the packet: without
/// this each would be a call of the system.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Longest line by which a client says what it is, in bytes (RFC 4253, section 4.2).
const GREETING_BYTES: usize = 255;

/// Ends the connection from outside, and lifts its budget.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    cut: AtomicBool,
    known: AtomicBool,
    received: AtomicU64,
    greeting: Mutex<Greeting>,
    wakers: Mutex<Vec<Waker>>,
}

/// The line by which a client says what it is (RFC 4253, section 4.2).
#[derive(Debug, Default)]
struct Greeting {
    line: Vec<u8>,
    whole: bool,
}

impl Greeting {
    fn read(&mut self, bytes: &[u8]) {
        if self.whole {
            return;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        self.line.extend(part.iter().take(GREETING_BYTES.saturating_sub(self.line.len())));
        self.whole = end.is_some() || self.line.len() >= GREETING_BYTES;
    }

    fn software(&self) -> Option<String> {
        let line = std::str::from_utf8(&self.line).ok()?.trim_end();
        let software = line.strip_prefix("SSH-2.0-")?;
        (!software.is_empty() && software.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
            .then(|| software.to_owned())
    }
}

impl Switch {
    /// Ends the connection: the library sees it fail.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What the client calls its program, once it has said so.
    pub(crate) fn software(&self) -> Option<String> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner).software()
    }

    /// The client is authenticated: what it sends is bounded by windows from here on.
    pub(crate) fn lift_budget(&self) {
        self.known.store(true, Ordering::Release);
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cut.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the gateway ended the connection"));
        }
        // The library reads and writes in one task, so there is one waker, seldom two.
        if !wakers.iter().any(|known| known.will_wake(cx.waker())) {
            wakers.clear();
            wakers.push(cx.waker().clone());
        }
        Ok(())
    }

    fn received(&self, received: &[u8]) -> io::Result<()> {
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner).read(received);
        let bytes = u64::try_from(received.len()).unwrap_or(u64::MAX);
        if self.received.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes) > PRE_AUTH_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many bytes before authentication"));
        }
        Ok(())
    }
}

/// The client's connection.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: TcpStream,
    switch: Arc<Switch>,
}

impl ClientStream {
    pub(crate) const fn new(stream: TcpStream, switch: Arc<Switch>) -> Self {
        Self { stream, switch }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = self.switch.check(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(())))
            && let Err(error) = self.switch.received(buffer.filled().get(before..).unwrap_or_default())
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(error) = self.switch.check(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn software(parts: &[&[u8]]) -> Option<String> {
        let mut greeting = Greeting::default();
        parts.iter().for_each(|part| greeting.read(part));
        greeting.software()
    }

    #[test]
    fn a_client_says_what_it_is_in_its_first_line() {
        assert_eq!(
            software(&[b"SSH-2.0-OpenSSH_9.2p1 Debian\r\nmore"]).as_deref(),
            Some("OpenSSH_9.2p1 Debian")
        );
        assert_eq!(software(&[b"SSH-2.", b"0-a\n", b"b\n"]).as_deref(), Some("a"));
        assert_eq!(software(&[b"SSH-2.0-\n"]), None);
        assert_eq!(software(&[b"SSH-2.0-a\x1b[2K\n"]), None);
        assert_eq!(software(&[b"GET / HTTP/1.1\n"]), None);
        assert_eq!(software(&[&[b'x'; 5000]]), None);
    }
}
