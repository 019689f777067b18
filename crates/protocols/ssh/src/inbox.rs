//! What a client sends on one channel, until the channel's own task takes it.
//!
//! The SSH library grants a client new window as it receives, not as anybody reads, and its one task per connection must
//! never wait for one channel: the others' output, and the client's window adjustments, go through it. So data is queued
//! here, and where too much is, the client is granted almost nothing until it is less ([`Inbox::is_crowded`]).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use russh::{ChannelId, Sig};
use tokio::sync::{Notify, watch};

/// Bytes that a client may have on its way on one channel (RFC 4254, section 5.2).
pub(crate) const WINDOW_BYTES: u32 = 2 << 20;

/// Queued bytes of one channel above which its connection is granted almost no new window, and below which it is again.
const CROWDED_BYTES: usize = 4 << 20;
const ROOMY_BYTES: usize = 1 << 20;

/// Queued bytes that no client can come to that keeps to its window.
const FLOOD_BYTES: usize = CROWDED_BYTES + 4 * WINDOW_BYTES as usize;

/// Requests (signals, window changes) that may wait.
const MAX_REQUESTS: usize = 1024;

/// Input is put together up to pieces of this size, in bytes, so that small packets take no more memory than large ones.
const PIECE_BYTES: usize = 32 * 1024;

/// Something that a client sent.
#[derive(Debug)]
pub(crate) enum Event {
    /// Input.
    Data(Bytes),
    /// No more input.
    Eof,
    /// A signal for the program.
    Signal(Sig),
    /// Another size of the terminal: columns, rows, and both in pixels.
    Resize([u32; 4]),
    /// The channel is closed, or the connection is gone.
    Gone,
}

#[derive(Debug)]
enum Queued {
    Data(BytesMut),
    Request(Event),
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Queued>,
    bytes: usize,
    requests: usize,
    gone: bool,
}

/// The queue of one channel.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
    crowded: AtomicBool,
    left: watch::Sender<bool>,
    /// Crowded channels of the connection.
    crowd: Arc<AtomicUsize>,
}

/// The inboxes of one connection, by channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inboxes(Arc<Mutex<HashMap<ChannelId, Arc<Inbox>>>>);

impl Inboxes {
    /// The inbox of a channel, if it is open.
    pub(crate) fn of(&self, id: ChannelId) -> Option<Arc<Inbox>> {
        self.lock().get(&id).cloned()
    }

    pub(crate) fn insert(&self, id: ChannelId, inbox: Arc<Inbox>) {
        self.lock().insert(id, inbox);
    }

    pub(crate) fn remove(&self, id: ChannelId) -> Option<Arc<Inbox>> {
        self.lock().remove(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The connection is gone, and every channel with it.
    pub(crate) fn gone(&self) {
        self.lock().values().for_each(|inbox| inbox.gone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<Inbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client sends more than its window allows.
#[derive(Debug)]
pub(crate) struct Flood;

impl Inbox {
    pub(crate) fn new(crowd: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            arrived: Notify::new(),
            crowded: AtomicBool::new(false),
            left: watch::Sender::new(false),
            crowd,
        })
    }

    /// Takes input over.
    ///
    /// # Errors
    /// [`Flood`] ends the connection.
    pub(crate) fn data(&self, data: &[u8]) -> Result<(), Flood> {
        let mut queue = self.lock();
        // A packet may be empty: it says nothing, and takes nothing of the window.
        if queue.gone || data.is_empty() {
            return Ok(());
        }
        queue.bytes += data.len();
        if queue.bytes > FLOOD_BYTES {
            return Err(Flood);
        }
        if queue.bytes > CROWDED_BYTES && !self.crowded.swap(true, Ordering::AcqRel) {
            self.crowd.fetch_add(1, Ordering::AcqRel);
        }
        match queue.events.back_mut() {
            Some(Queued::Data(last)) if last.len() + data.len() <= PIECE_BYTES => {
                last.extend_from_slice(data);
            }
            _ => queue.events.push_back(Queued::Data(data.into())),
        }
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes anything else over.
    ///
    /// # Errors
    /// [`Flood`] ends the connection.
    pub(crate) fn push(&self, event: Event) -> Result<(), Flood> {
        let mut queue = self.lock();
        if queue.gone {
            return Ok(());
        }
        queue.requests += 1;
        if queue.requests > MAX_REQUESTS {
            return Err(Flood);
        }
        queue.events.push_back(Queued::Request(event));
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// The channel, or the connection, is gone.
    pub(crate) fn gone(&self) {
        self.lock().gone = true;
        self.arrived.notify_one();
        self.left.send_replace(true);
    }

    /// Whether so much waits that the client should wait too.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// The next event, in the order of their coming; [`Event::Gone`] after the last one, again and again.
    pub(crate) async fn next(&self) -> Event {
        loop {
            {
                let mut queue = self.lock();
                match queue.events.pop_front() {
                    Some(Queued::Data(data)) => {
                        queue.bytes -= data.len();
                        if queue.bytes < ROOMY_BYTES && self.crowded.swap(false, Ordering::AcqRel) {
                            self.crowd.fetch_sub(1, Ordering::AcqRel);
                        }
                        return Event::Data(data.freeze());
                    }
                    Some(Queued::Request(event)) => {
                        queue.requests -= 1;
                        return event;
                    }
                    None if queue.gone => return Event::Gone,
                    None => {}
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Returns when the channel is gone, whatever still waits in it.
    pub(crate) async fn until_gone(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.left.subscribe().wait_for(|left| *left).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if self.crowded.load(Ordering::Acquire) {
            self.crowd.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Arc<Inbox> {
        Inbox::new(Arc::default())
    }

    #[test]
    fn packets_take_no_more_memory_than_what_is_in_them() {
        let inbox = inbox();
        for _ in 0..100_000 {
            inbox.data(b"").unwrap();
        }
        assert_eq!(inbox.lock().events.len(), 0);
        for _ in 0..100_000 {
            inbox.data(b"x").unwrap();
        }
        assert_eq!(inbox.lock().events.len(), 100_000_usize.div_ceil(PIECE_BYTES));
        assert_eq!(inbox.lock().bytes, 100_000);
    }

    #[tokio::test]
    async fn input_comes_as_it_was_sent_and_requests_between_it() {
        let inbox = inbox();
        inbox.data(b"a").unwrap();
        inbox.data(b"b").unwrap();
        inbox.push(Event::Signal(Sig::INT)).unwrap();
        inbox.data(b"c").unwrap();
        inbox.push(Event::Eof).unwrap();
        inbox.gone();
        let mut told = Vec::new();
        loop {
            match inbox.next().await {
                Event::Data(data) => told.push(String::from_utf8_lossy(&data).into_owned()),
                Event::Gone => break,
                other => told.push(format!("{other:?}")),
            }
        }
        assert_eq!(told, ["ab", "Signal(INT)", "c", "Eof"]);
        let queue = inbox.lock();
        assert_eq!((queue.bytes, queue.requests), (0, 0));
    }

    #[test]
    fn more_than_any_window_allows_is_a_flood() {
        let inbox = inbox();
        let most = FLOOD_BYTES / PIECE_BYTES;
        (0..most).for_each(|_| inbox.data(&[0; PIECE_BYTES]).unwrap());
        assert!(inbox.is_crowded());
        assert!(inbox.data(&[0; PIECE_BYTES]).is_err());
    }
}
