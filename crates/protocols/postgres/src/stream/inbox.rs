//! Bytes that came in during login, with a budget: whoever is not authenticated yet can't make us keep more.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::packet::{self, PacketError};

/// Room for the first bytes of a connection. Thousands of connections may wait with nothing but this.
const FIRST_READ: usize = 64;

/// Room for each read after that.
const NEXT_READ: usize = 2_048;

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub tag: u8,
    /// All its bytes as they came.
    pub bytes: Vec<u8>,
}

impl Message {
    /// Its content.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(packet::HEADER_LEN..).unwrap_or_default()
    }
}

/// Why no message can be read.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The bytes are no message.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// More bytes than the login may have.
    #[error("more than {0} bytes came before the login was over")]
    Budget(usize),
}

/// What came in and is not used up.
#[derive(Debug)]
pub struct Inbox {
    buffer: Vec<u8>,
    used: usize,
    received: usize,
    budget: usize,
}

impl Inbox {
    /// An empty one that takes at most `budget` bytes in all.
    #[must_use]
    pub const fn new(budget: usize) -> Self {
        Self { buffer: Vec::new(), used: 0, received: 0, budget }
    }

    /// What is not used up yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Whether nothing ever came.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.received == 0
    }

    /// Uses up that many bytes.
    pub fn consume(&mut self, count: usize) {
        self.used = self.used.saturating_add(count).min(self.buffer.len());
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
    }

    /// Takes out what is not used up.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        let rest = self.unread().to_vec();
        self.consume(rest.len());
        rest
    }

    /// Waits for more bytes.
    ///
    /// # Errors
    /// [`InboxError`] but for [`InboxError::Packet`].
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<(), InboxError> {
        let room = self.budget.saturating_sub(self.received);
        if room == 0 {
            return Err(InboxError::Budget(self.budget));
        }
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let wanted = if self.received == 0 { FIRST_READ } else { NEXT_READ };
        let wanted = wanted.min(room);
        self.buffer.reserve(wanted);
        let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
        match stream.take(limit).read_buf(&mut self.buffer).await? {
            0 => Err(InboxError::Closed),
            count => {
                self.received = self.received.saturating_add(count);
                Ok(())
            }
        }
    }

    /// The next whole message, whose body has at most `max_body` bytes.
    ///
    /// # Errors
    /// [`InboxError`].
    pub async fn message<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        max_body: usize,
    ) -> Result<Message, InboxError> {
        loop {
            if let Some(packet) = packet::split(self.unread(), max_body)? {
                let (tag, len) = (packet.tag, packet.len);
                let bytes = self.unread().get(..len).unwrap_or_default().to_vec();
                self.consume(len);
                return Ok(Message { tag, bytes });
            }
            self.fill(stream).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_whole_however_they_came_in() {
        let mut sent = Vec::new();
        packet::put(&mut sent, b'p', |out| out.extend_from_slice(&[7; 300]));
        packet::put(&mut sent, b'X', |_| {});
        sent.extend_from_slice(b"rest");
        let mut reader = &sent[..];
        let mut inbox = Inbox::new(1_000);
        assert_eq!(inbox.message(&mut reader, 300).await.unwrap().body(), [7; 300]);
        assert_eq!(inbox.message(&mut reader, 300).await.unwrap().tag, b'X');
        assert_eq!(inbox.take(), b"rest");
        assert!(matches!(inbox.fill(&mut reader).await, Err(InboxError::Closed)));
    }

    #[tokio::test]
    async fn the_budget_is_for_everything_that_comes() {
        let sent = [b'p'; 500];
        let mut reader = &sent[..];
        let mut inbox = Inbox::new(100);
        let error = loop {
            match inbox.fill(&mut reader).await {
                Ok(()) => inbox.consume(usize::MAX),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, InboxError::Budget(100)));
    }
}
