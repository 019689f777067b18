//! The I/O shell around the [`Conversation`]: both directions of a session in one future on one thread.
//!
//! Bytes are scanned in the buffer they were read into, recorded with one append, and written from the same buffer.
//! A side that does not read makes the other wait: a direction reads nothing while it has bytes to write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use session::{Barrier, Cleared, EndCause, Forwarder, NotRecorded, OpenSession, Permit, Recorded};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::conversation::{Conversation, Fault, Next, Scan};
use crate::facts::FactsCache;

thread_local! {
    static FACTS: RefCell<FactsCache> = RefCell::default();
}

/// Why a session is over.
#[derive(Debug)]
pub enum Over {
    /// The client said goodbye or went away, and the target has finished.
    Client,
    /// The target closed the connection, or it failed.
    Target(Option<io::Error>),
    /// One side broke the protocol.
    Fault(Fault),
    /// The trail could not take a record.
    NotRecorded(NotRecorded),
    /// Ended from outside.
    Ended(EndCause),
}

impl From<Fault> for Over {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotRecorded(error) => Self::NotRecorded(error),
            other @ (Fault::Client { .. } | Fault::Target(_)) => Self::Fault(other),
        }
    }
}

/// One direction: bytes on their way, and what they wait for.
#[derive(Debug)]
struct Lane {
    buffer: Buffer,
    /// Proof that `buffer.ready()` may be written.
    cleared: Option<Cleared>,
    /// What `buffer.cleared..buffer.scanned` waits for.
    barrier: Option<Barrier>,
    /// Bytes that the next scan needs.
    wanted: usize,
    /// The scan waits for the other direction.
    stalled: bool,
    /// Nothing more will be read.
    ended: bool,
    /// Bytes were written that the connection may still hold.
    unflushed: bool,
    /// Whether a message ends where `buffer.scanned` stands, and where `buffer.cleared` does.
    message_ends: (bool, bool),
}

impl Lane {
    fn new() -> Self {
        Self {
            buffer: Buffer::default(),
            cleared: None,
            barrier: None,
            wanted: 1,
            stalled: false,
            ended: false,
            unflushed: false,
            message_ends: (true, true),
        }
    }

    /// Takes over what a scan and its recording came to.
    fn scanned(&mut self, scan: Scan, recorded: Recorded) {
        self.buffer.scanned += scan.taken;
        match scan.next {
            Next::Bytes(wanted) => self.wanted = wanted,
            Next::Stalled => self.stalled = true,
            Next::Finished => self.ended = true,
        }
        match recorded {
            Recorded::Cleared(cleared) => {
                self.buffer.cleared = self.buffer.scanned;
                self.message_ends.1 = self.message_ends.0;
                self.cleared = Some(cleared);
            }
            Recorded::Waiting(barrier) => self.barrier = Some(barrier),
        }
    }

    /// Waits for the disk, if it must.
    fn poll_barrier(&mut self, session: &OpenSession, cx: &mut Context<'_>) -> Poll<Result<(), NotRecorded>> {
        if let Some(barrier) = &self.barrier {
            self.cleared = Some(ready!(barrier.poll(session, cx))?);
            self.buffer.cleared = self.buffer.scanned;
            self.message_ends.1 = self.message_ends.0;
            self.barrier = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Everything that was read is written, and nothing more will come.
    const fn is_done(&self) -> bool {
        self.ended && self.buffer.start == self.buffer.scanned && !self.unflushed
    }
}

/// A session's two connections and what is between them.
pub struct Relay<C, T> {
    /// The client's connection.
    pub client: C,
    /// The target's connection.
    pub target: Forwarder<T>,
    /// The session in the trail.
    pub session: OpenSession,
    /// What was said so far.
    pub conversation: Conversation<Permit>,
    up: Lane,
    down: Lane,
    /// The client does not listen any more; the target's answers are still recorded.
    client_gone: bool,
    target_told: bool,
    /// The target does not take bytes any more; what it said before is still read.
    target_gone: bool,
    watched: bool,
}

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// A relay right after login. `from_client` and `from_target` were read during login and not used there.
    pub fn new(
        client: C,
        target: Forwarder<T>,
        session: OpenSession,
        conversation: Conversation<Permit>,
        from_client: &[u8],
        from_target: &[u8],
    ) -> Self {
        let (mut up, mut down) = (Lane::new(), Lane::new());
        up.buffer.extend(from_client);
        down.buffer.extend(from_target);
        Self {
            client,
            target,
            session,
            conversation,
            up,
            down,
            client_gone: false,
            target_told: false,
            target_gone: false,
            watched: false,
        }
    }

    /// Relays until the session is over.
    pub async fn run(&mut self) -> Over {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Whether a message of the gateway's own may be put into the stream to the client.
    pub fn may_speak(&self) -> bool {
        !self.client_gone && self.down.message_ends.1 && self.down.buffer.ready().is_empty()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if let Some(cause) = self.session.live().ending(cx.waker(), &mut self.watched) {
            return Poll::Ready(Over::Ended(cause));
        }
        loop {
            let up = self.poll_up(cx);
            if let Poll::Ready(Err(over)) = up {
                return Poll::Ready(over);
            }
            let was_stalled = self.up.stalled;
            let down = self.poll_down(cx);
            if let Poll::Ready(over) = down {
                return Poll::Ready(over);
            }
            // Answers may be what the client's next message has waited for.
            if was_stalled && !self.up.stalled {
                continue;
            }
            self.up.buffer.release();
            self.down.buffer.release();
            return Poll::Pending;
        }
    }

    /// Client → target, as far as it goes now. `Ready(Ok)` when the client has nothing more to say.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let Self { client, target, session, conversation, up, client_gone, target_told, target_gone, .. } =
            self;
        loop {
            while let (Some(cleared), false) = (&up.cleared, up.buffer.ready().is_empty()) {
                match ready!(target.poll_forward(cx, cleared, up.buffer.ready())) {
                    Ok(0) => return Poll::Ready(Err(Over::Target(None))),
                    Ok(count) => {
                        up.buffer.start += count;
                        up.unflushed = true;
                    }
                    // What the target said before it closed is still to be read.
                    Err(_) => {
                        up.buffer.discard();
                        up.unflushed = false;
                        up.ended = true;
                        *target_told = true;
                        *target_gone = true;
                    }
                }
            }
            if up.barrier.is_some() {
                ready!(up.poll_barrier(session, cx)).map_err(Over::NotRecorded)?;
                continue;
            }
            if !up.stalled && !up.ended && up.buffer.unscanned().len() >= up.wanted {
                let mut turn = session.turn();
                let scan = FACTS
                    .with_borrow_mut(|facts| conversation.client(up.buffer.unscanned(), &mut turn, facts))?;
                let recorded = turn.record().map_err(Over::NotRecorded)?;
                up.scanned(scan, recorded);
                continue;
            }
            if up.unflushed && target.poll_flush(cx).map_err(|error| Over::Target(Some(error)))?.is_ready() {
                up.unflushed = false;
            }
            if up.ended {
                if up.is_done() && !*target_told {
                    // An error here is seen again when reading from the target.
                    let _ = ready!(target.poll_shutdown(cx));
                    *target_told = true;
                }
                return if *target_told { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if up.stalled {
                return Poll::Pending;
            }
            up.buffer.release();
            match ready!(
                poll_fill(&mut up.buffer, up.wanted, |room| Pin::new(&mut *client).poll_read(cx, room))
            ) {
                Ok(0) => {
                    up.ended = true;
                    conversation.client_left();
                }
                Ok(_) => {}
                Err(_) => {
                    up.ended = true;
                    *client_gone = true;
                    conversation.client_left();
                }
            }
        }
    }

    /// Target → client, as far as it goes now. `Ready` when the session is over.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        let Self { client, target, session, conversation, up, down, client_gone, target_gone, .. } = self;
        loop {
            if *client_gone {
                down.buffer.start = down.buffer.cleared;
                down.unflushed = false;
            }
            while !down.buffer.ready().is_empty() {
                match ready!(Pin::new(&mut *client).poll_write(cx, down.buffer.ready())) {
                    Ok(count) if count > 0 => {
                        down.buffer.start += count;
                        down.unflushed = true;
                    }
                    Ok(_) | Err(_) => {
                        *client_gone = true;
                        conversation.client_left();
                        down.buffer.start = down.buffer.cleared;
                        down.unflushed = false;
                    }
                }
            }
            if down.barrier.is_some() {
                match ready!(down.poll_barrier(session, cx)) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Over::NotRecorded(error)),
                }
            }
            if !down.ended && down.buffer.unscanned().len() >= down.wanted {
                let mut turn = session.turn();
                let scan = match conversation.target(down.buffer.unscanned(), &mut turn) {
                    Ok(scan) => scan,
                    Err(fault) => return Poll::Ready(fault.into()),
                };
                match turn.record() {
                    Ok(recorded) => {
                        down.message_ends.0 = conversation.between_target_messages();
                        down.scanned(scan, recorded);
                    }
                    Err(error) => return Poll::Ready(Over::NotRecorded(error)),
                }
                up.stalled = false;
                continue;
            }
            if down.unflushed {
                match Pin::new(&mut *client).poll_flush(cx) {
                    Poll::Ready(Ok(())) => down.unflushed = false,
                    Poll::Ready(Err(_)) => *client_gone = true,
                    Poll::Pending => {}
                }
            }
            if down.ended {
                if down.unflushed {
                    return Poll::Pending;
                }
                let over = if up.ended && !*target_gone { Over::Client } else { Over::Target(None) };
                return Poll::Ready(over);
            }
            down.buffer.release();
            match ready!(poll_fill(&mut down.buffer, down.wanted, |room| target.poll_read(cx, room))) {
                Ok(0) => down.ended = true,
                Ok(_) => {}
                Err(error) if up.ended && !*target_gone => {
                    tracing::debug!(%error, "the target's connection failed after the client's end");
                    down.ended = true;
                }
                Err(error) => return Poll::Ready(Over::Target(Some(error))),
            }
        }
    }
}

/// Reads into the buffer's room by `poll_read`, whichever side it is of; how many bytes came.
fn poll_fill(
    buffer: &mut Buffer,
    wanted: usize,
    poll_read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(buffer.room(wanted));
    ready!(poll_read(&mut room))?;
    let count = room.filled().len();
    buffer.filled(count);
    Poll::Ready(Ok(count))
}
