//! The I/O shell around the [`Conversation`]: both directions of a session in one future on one thread.
//!
//! Bytes are scanned in the buffer they were read into, recorded with one append, and written from the same buffer.
//! A side that does not read makes the other wait: a direction reads nothing while it has bytes to write.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use session::{Barrier, Cleared, EndCause, Forwarder, NotRecorded, OpenSession, Permit, Recorded, Verdict};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::buffer::Buffer;
use crate::cancel::CancelRoute;
use crate::conversation::{CommandKey, Conversation, Edit, Fault, Next, Scan};
use crate::facts::FactsCache;

/// Bytes that are read ahead of a client whose command is held, to see whether it is still there.
const HELD_AHEAD_BYTES: usize = 64 * 1024;

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
    /// The scan waits for people.
    held: bool,
    /// A change of the stream where the scan stands, and how much of what it inserts is written.
    edit: Option<(Edit, usize)>,
    /// The gateway's own messages, and how much of them is written: they go between two others.
    aside: (Vec<u8>, usize),
    /// Nothing more will be read.
    ended: bool,
    /// Nothing more will be read once the message that waited is dealt with.
    left: bool,
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
            held: false,
            edit: None,
            aside: (Vec::new(), 0),
            ended: false,
            left: false,
            unflushed: false,
            message_ends: (true, true),
        }
    }

    /// Takes over what a scan and its recording came to.
    fn scanned(&mut self, scan: Scan, recorded: Recorded) {
        self.buffer.scanned += scan.taken;
        // Where the scan waits for something else, the next message is there already, however short it is.
        self.wanted = 1;
        match scan.next {
            Next::Bytes(wanted) => self.wanted = wanted,
            Next::Stalled => self.stalled = true,
            Next::Held => self.held = true,
            Next::Edit(edit) => self.edit = Some((edit, 0)),
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
        self.ended && self.buffer.start == self.buffer.scanned && self.edit.is_none() && !self.unflushed
    }

    /// What of the gateway's own may be written now: everything before it is.
    fn own(&self) -> &[u8] {
        if self.buffer.start != self.buffer.cleared {
            return &[];
        }
        if self.speaks_aside() {
            return self.aside.0.get(self.aside.1..).unwrap_or_default();
        }
        match &self.edit {
            Some((edit, written)) if self.is_cleared() => edit.insert.get(*written..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Whether a message of its own kind may go now: between two others, and not into the middle of an edit.
    fn speaks_aside(&self) -> bool {
        let in_edit = self.edit.as_ref().is_some_and(|(_, written)| *written > 0);
        self.message_ends.1 && !in_edit && self.aside.1 < self.aside.0.len()
    }

    /// Everything scanned is recorded as durably as it has to be.
    const fn is_cleared(&self) -> bool {
        self.barrier.is_none() && self.buffer.cleared == self.buffer.scanned
    }

    /// So much of it was written.
    fn own_written(&mut self, count: usize) {
        self.unflushed = true;
        if self.speaks_aside() {
            self.aside.1 += count;
            if self.aside.1 >= self.aside.0.len() {
                self.aside = (Vec::new(), 0);
            }
        } else if let Some((_, written)) = &mut self.edit {
            *written += count;
        }
    }

    /// Carries the change of the stream out, once its bytes are written. Whether there was one.
    fn finish_edit(&mut self) -> bool {
        let here = self.is_cleared() && self.buffer.start == self.buffer.scanned;
        let Some((edit, _)) = self.edit.take_if(|(edit, written)| here && *written >= edit.insert.len())
        else {
            return false;
        };
        self.buffer.skip(edit.skip);
        self.buffer.scanned += edit.pass;
        self.buffer.cleared = self.buffer.scanned;
        true
    }
}

/// What runs at the target is being cancelled there.
type Cancelling = Pin<Box<dyn Future<Output = ()>>>;

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
    route: Option<CancelRoute>,
    cancelling: Option<Cancelling>,
    /// The command whose time is running, and its end.
    timer: Option<(CommandKey, Pin<Box<Sleep>>)>,
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
        route: Option<CancelRoute>,
        (from_client, from_target): (&[u8], &[u8]),
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
            route,
            cancelling: None,
            timer: None,
        }
    }

    /// Takes back what waits for people, since the session ends.
    pub fn withdraw(&mut self) -> Result<(), Over> {
        if self.conversation.held().is_none() {
            return Ok(());
        }
        self.conversation.answered(Verdict::Left);
        let Self { session, conversation, up, .. } = self;
        let mut turn = session.turn();
        FACTS.with_borrow_mut(|facts| conversation.client(up.buffer.unscanned(), &mut turn, facts))?;
        match turn.record().map_err(Over::NotRecorded)? {
            Recorded::Cleared(_) | Recorded::Waiting(_) => Ok(()),
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
            if (was_stalled && !self.up.stalled) || self.poll_duties(cx) {
                continue;
            }
            self.up.buffer.release();
            self.down.buffer.release();
            return Poll::Pending;
        }
    }

    /// Sees to limits of time and rows. Whether there is something new to do for the other two.
    fn poll_duties(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { conversation, up, down, route, cancelling, timer, .. } = self;
        match conversation.time_limit() {
            None => *timer = None,
            Some((key, limit_ms)) => {
                if timer.as_ref().is_none_or(|(known, _)| *known != key) {
                    *timer = Some((key, Box::pin(sleep(Duration::from_millis(limit_ms)))));
                }
                if let Some((_, sleep)) = timer
                    && sleep.as_mut().poll(cx).is_ready()
                {
                    *timer = None;
                    conversation.time_is_up(key);
                }
            }
        }
        if conversation.take_cancel()
            && let Some(route) = route.clone()
        {
            *cancelling = Some(Box::pin(async move {
                if let Err(error) = route.send().await {
                    tracing::warn!(place = %route.place, %error, "what broke a limit could not be cancelled");
                }
            }));
        }
        let mut news = false;
        if let Some(future) = cancelling
            && future.as_mut().poll(cx).is_ready()
        {
            *cancelling = None;
            news = true;
        }
        let (asides, upward) = (conversation.take_asides(), conversation.take_upward());
        for (lane, messages) in [(down, asides), (up, upward)] {
            if !messages.is_empty() {
                lane.aside.0.extend_from_slice(&messages);
                // The other direction may have said so: then this one has not looked yet.
                lane.stalled = false;
                news = true;
            }
        }
        news
    }

    /// Client → target, as far as it goes now. `Ready(Ok)` when the client has nothing more to say.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        let Self {
            client,
            target,
            session,
            conversation,
            up,
            client_gone,
            target_told,
            target_gone,
            cancelling,
            ..
        } = self;
        loop {
            while let Some(cleared) = &up.cleared {
                let own = up.buffer.ready().is_empty();
                let bytes = if own { up.own() } else { up.buffer.ready() };
                if bytes.is_empty() {
                    break;
                }
                match ready!(target.poll_forward(cx, cleared, bytes)) {
                    Ok(0) => return Poll::Ready(Err(Over::Target(None))),
                    Ok(count) if own => up.own_written(count),
                    Ok(count) => {
                        up.buffer.start += count;
                        up.unflushed = true;
                    }
                    // What the target said before it closed is still to be read.
                    Err(_) => {
                        up.buffer.discard();
                        up.edit = None;
                        up.aside = (Vec::new(), 0);
                        up.unflushed = false;
                        up.ended = true;
                        *target_told = true;
                        *target_gone = true;
                        break;
                    }
                }
            }
            if up.finish_edit() {
                continue;
            }
            if up.barrier.is_some() {
                ready!(up.poll_barrier(session, cx)).map_err(Over::NotRecorded)?;
                continue;
            }
            if up.held
                && let Some(hold) = conversation.held()
                && let Poll::Ready(verdict) = hold.poll_verdict(cx)
            {
                conversation.answered(verdict);
                up.held = false;
                continue;
            }
            // What is being cancelled must not be taken for what comes behind it.
            let waits = up.stalled || up.held || cancelling.is_some() || up.edit.is_some();
            if !waits && !up.ended && up.buffer.unscanned().len() >= up.wanted {
                let mut turn = session.turn();
                let scan = FACTS
                    .with_borrow_mut(|facts| conversation.client(up.buffer.unscanned(), &mut turn, facts))?;
                let recorded = turn.record().map_err(Over::NotRecorded)?;
                up.message_ends.0 = conversation.between_client_messages();
                up.scanned(scan, recorded);
                up.ended |= up.left;
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
            let ahead = if up.held { up.buffer.unscanned().len() + 1 } else { up.wanted };
            if (waits && !up.held) || ahead > up.wanted.max(1) + HELD_AHEAD_BYTES {
                return Poll::Pending;
            }
            up.buffer.rewind();
            let left = match ready!(
                poll_fill(&mut up.buffer, ahead, |room| Pin::new(&mut *client).poll_read(cx, room))
            ) {
                Ok(count) => count == 0,
                Err(_) => {
                    *client_gone = true;
                    true
                }
            };
            if left {
                conversation.client_left();
                if std::mem::take(&mut up.held) {
                    // What it waits for is taken back with the next look.
                    conversation.answered(Verdict::Left);
                    up.left = true;
                } else {
                    up.ended = true;
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
                conversation.nobody_listens();
                down.aside = (Vec::new(), 0);
                if let Some((edit, written)) = &mut down.edit {
                    *written = edit.insert.len();
                }
            }
            loop {
                let own = down.buffer.ready().is_empty();
                let bytes = if own { down.own() } else { down.buffer.ready() };
                if bytes.is_empty() {
                    break;
                }
                match ready!(Pin::new(&mut *client).poll_write(cx, bytes)) {
                    Ok(count) if count > 0 && own => down.own_written(count),
                    Ok(count) if count > 0 => {
                        down.buffer.start += count;
                        down.unflushed = true;
                    }
                    Ok(_) | Err(_) => {
                        *client_gone = true;
                        conversation.client_left();
                        down.buffer.start = down.buffer.cleared;
                        down.unflushed = false;
                        break;
                    }
                }
            }
            if *client_gone && !down.own().is_empty() {
                continue;
            }
            if down.finish_edit() {
                continue;
            }
            if down.barrier.is_some() {
                match ready!(down.poll_barrier(session, cx)) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Over::NotRecorded(error)),
                }
            }
            if !down.ended && down.edit.is_none() && down.buffer.unscanned().len() >= down.wanted {
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
            if down.edit.is_some() {
                return Poll::Pending;
            }
            if down.unflushed {
                match Pin::new(&mut *client).poll_flush(cx) {
                    Poll::Ready(Ok(())) => down.unflushed = false,
                    Poll::Ready(Err(_)) => {
                        *client_gone = true;
                        conversation.client_left();
                    }
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
            down.buffer.rewind();
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
