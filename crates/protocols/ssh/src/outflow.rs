//! What a target sends on one channel, and how its input is kept from waiting for its output.
//!
//! The library reads a connection in one task, which stops while a channel's queue is full. That slows a target down whose
//! client reads slowly, and it also leaves the target's window adjustments unread: input would wait for output. A client
//! that sends all of its input before it looks at any output would then wait for ever. So while input waits, output is
//! taken out of the library's queue into this one, up to a bound.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;

use russh::ChannelMsg;
use tokio::sync::Notify;

use crate::relay::Reading;

/// Bytes of output that are held so that input can go on. A program that says more before its input is taken has to wait.
const MAX_HELD_BYTES: usize = 64 << 20;

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
    held_bytes: usize,
}

impl<'a> Outflow<'a> {
    pub(crate) const fn new(read: &'a mut Reading) -> Self {
        Self { read, held: VecDeque::new(), held_bytes: 0 }
    }

    /// The next message; `None` when the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<ChannelMsg> {
        match self.held.pop_front() {
            Some(message) => {
                self.held_bytes -= bytes(&message);
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
            let drains = thirst.waits.get() && self.held_bytes < MAX_HELD_BYTES && !over;
            tokio::select! {
                biased;
                sent = &mut send => return sent,
                message = self.read.wait(), if drains => match message {
                    Some(message) => {
                        self.held_bytes += bytes(&message);
                        self.held.push_back(message);
                    }
                    // Told by `next`, behind what is held.
                    None => over = true,
                },
                () = thirst.begins.notified(), if !drains && !over => {}
            }
        }
    }
}

fn bytes(message: &ChannelMsg) -> usize {
    match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
        _ => 0,
    }
}
