//! What a target sends on one channel, and how its input is kept from waiting for its output.
//!
//! The library reads a connection in one task, which stops while a channel's queue is full. That slows a target down whose
//! client reads slowly, and it also leaves the target's window adjustments unread: input would wait for output. A client
//! that sends all of its input before it looks at any output would then wait for ever. So while input waits, output is
//! taken out of the library's queue into this one, up to a bound that all channels of a client share.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;

use russh::ChannelMsg;
use tokio::sync::Notify;

use crate::relay::Reading;

/// Bytes of output that are held for one client so that input can go on. Programs that say more before their input is
/// taken have to wait.
const MAX_HELD_BYTES: usize = 64 << 20;

/// Output that is held, of all channels of one client.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Cell<usize>,
    freed: Notify,
}

impl Held {
    fn is_full(&self) -> bool {
        self.bytes.get() >= MAX_HELD_BYTES
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    fn free(&self, bytes: usize) {
        let was_full = self.is_full();
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        if was_full && !self.is_full() {
            self.freed.notify_waiters();
        }
    }
}

/// Whether input waits for the target to take it.
#[derive(Debug, Default)]
pub(crate) struct Thirst {
    waits: Cell<bool>,
    begins: Notify,
}

impl Thirst {
    /// Sends input, and says so while it waits.
    pub(crate) async fn watch<T>(&self, send: impl Future<Output = T>) -> T {
        let mut send = pin!(send);
        let sent = poll_fn(|cx| {
            let polled = send.as_mut().poll(cx);
            if polled.is_pending() && !self.waits.replace(true) {
                self.begins.notify_one();
            }
            polled
        });
        let sent = sent.await;
        self.waits.set(false);
        sent
    }
}

/// The target's end of a channel.
pub(crate) struct Outflow<'a> {
    read: &'a mut Reading,
    held: VecDeque<ChannelMsg>,
    total: &'a Held,
}

impl<'a> Outflow<'a> {
    pub(crate) const fn new(read: &'a mut Reading, total: &'a Held) -> Self {
        Self { read, held: VecDeque::new(), total }
    }

    /// The next message; `None` when the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<ChannelMsg> {
        match self.held.pop_front() {
            Some(message) => {
                self.total.free(bytes(&message));
                Some(message)
            }
            None => self.read.wait().await,
        }
    }

    /// Sends output to the client; meanwhile input does not wait for it.
    pub(crate) async fn meanwhile<T>(&mut self, thirst: &Thirst, send: impl Future<Output = T>) -> T {
        let mut send = pin!(send);
        let mut over = false;
        loop {
            let drains = thirst.waits.get() && !self.total.is_full() && !over;
            tokio::select! {
                biased;
                sent = &mut send => return sent,
                message = self.read.wait(), if drains => match message {
                    Some(message) => {
                        self.total.add(bytes(&message));
                        self.held.push_back(message);
                    }
                    // Told by `next`, behind what is held.
                    None => over = true,
                },
                () = thirst.begins.notified(), if !drains && !over => {}
                () = self.total.freed.notified(), if !drains && !over => {}
            }
        }
    }
}

impl Drop for Outflow<'_> {
    fn drop(&mut self) {
        self.total.free(self.held.iter().map(bytes).sum());
    }
}

/// What a message takes of memory, whatever it holds.
fn bytes(message: &ChannelMsg) -> usize {
    let data = match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
        _ => 0,
    };
    data + size_of::<ChannelMsg>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_over_all_channels_however_small_it_is() {
        let held = Held::default();
        let one = bytes(&ChannelMsg::Data { data: bytes::Bytes::from_static(b"x") });
        assert!(one > 16);
        let most = MAX_HELD_BYTES.div_ceil(one);
        (0..most).for_each(|_| held.add(one));
        assert!(held.is_full());
        held.free(one);
        assert!(!held.is_full());
        held.free(usize::MAX);
        assert_eq!(held.bytes.get(), 0);
    }
}
