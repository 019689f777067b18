//! scp's legacy protocol as it passes: each file is judged when its name comes, before its line leaves, and over when the
//! side that takes it has said so.

use std::cell::RefCell;

use bytes::Bytes;
use classify::shell::ScpHalf;
use session::NotRecorded;
use tokio::sync::{Mutex, Notify};
use vocabulary::Status;

use super::places::Places;
use super::{Carried, Passed, Stop};
use crate::visit::{Client, Verdict, Visit};
use crate::wire::scp::{Answer, Exchange, Fault, FileName, Sent, Way};

struct State {
    exchange: Exchange,
    carried: Option<Carried>,
}

/// What is known of one copy; both directions share it.
pub(crate) struct ScpWatch {
    way: Way,
    places: Places,
    state: RefCell<State>,
    /// The sender has gone on; the receiver has answered.
    sent: Notify,
    answered: Notify,
    /// Held while a file is judged.
    judging: Mutex<()>,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self { sentence: format!("{fault}, so it is ended"), exit: 1 }
    }
}

impl ScpWatch {
    pub(crate) fn new(half: ScpHalf) -> Self {
        let way = if half.takes { Way::Upload } else { Way::Download };
        let state = State { exchange: Exchange::new(way), carried: None };
        let (sent, answered, judging) = (Notify::new(), Notify::new(), Mutex::new(()));
        Self { way, places: Places::new(half), state: RefCell::new(state), sent, answered, judging }
    }

    /// Whether the files go to the target.
    pub(crate) fn is_upload(&self) -> bool {
        self.way == Way::Upload
    }

    /// The next bytes out of the client's `data` that may go on. `None` when there are no more.
    pub(crate) async fn to_target(&self, visit: &Visit, client: &Client<'_>, data: &mut Bytes) -> Passed {
        match self.way {
            Way::Upload => self.pass(visit, client, data).await,
            Way::Download => self.pass_answer(visit, data).await,
        }
    }

    /// The next bytes out of the target's `data` that may go on. `None` when there are no more.
    pub(crate) async fn to_client(&self, visit: &Visit, client: &Client<'_>, data: &mut Bytes) -> Passed {
        match self.way {
            Way::Upload => self.pass_answer(visit, data).await,
            Way::Download => self.pass(visit, client, data).await,
        }
    }

    /// What the target has said last, if it never became whole.
    pub(crate) fn rest_of_target(&self) -> Bytes {
        self.state.borrow_mut().exchange.rest_of_target()
    }

    /// Returns when no file is being judged: one that is held sees by itself that its client is gone, and is recorded.
    pub(crate) async fn settled(&self) {
        drop(self.judging.lock().await);
    }

    /// Bytes of the side that has the files.
    async fn pass(&self, visit: &Visit, client: &Client<'_>, data: &mut Bytes) -> Passed {
        loop {
            let sent = self.state.borrow_mut().exchange.send(data);
            let bytes = match sent {
                Ok(Some(Sent::Early)) => {
                    self.answered.notified().await;
                    continue;
                }
                Ok(Some(Sent::Plain(bytes))) => bytes,
                Ok(Some(Sent::Content(bytes))) => {
                    self.carries(&bytes);
                    bytes
                }
                Ok(Some(Sent::Whole { bytes, trouble })) => {
                    if let Some(carried) = &mut self.state.borrow_mut().carried {
                        carried.failed = trouble;
                    }
                    bytes
                }
                Ok(Some(Sent::File { line, name, size })) => {
                    match self.begin(visit, client, &name, size).await? {
                        Ok(()) => line,
                        Err(stop) => return Ok(Err(stop)),
                    }
                }
                Ok(None) => return Ok(Ok(None)),
                Err(fault) => return Ok(Err(fault.into())),
            };
            self.sent.notify_one();
            return Ok(Ok(Some(bytes)));
        }
    }

    /// Judges a file.
    async fn begin(
        &self,
        visit: &Visit,
        client: &Client<'_>,
        name: &FileName,
        size: u64,
    ) -> Result<Result<(), Stop>, NotRecorded> {
        let _judging = self.judging.lock().await;
        match visit.judge(&self.places.asking(name), client).await? {
            Verdict::Permit(permit, _) => {
                let mut state = self.state.borrow_mut();
                // Also of one that can't go on after all: it is told when the channel is over.
                state.carried = Some(Carried::new(permit));
                Ok(state.exchange.begin(size).map_err(Stop::from))
            }
            Verdict::Refused(sentence, exit) => Ok(Err(Stop { sentence, exit })),
        }
    }

    fn carries(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        let Some(carried) = &mut state.carried else { return };
        let content = if self.is_upload() { &mut carried.written } else { &mut carried.read };
        content.piece(content.bytes(), bytes);
    }

    /// Bytes of the side that takes the files.
    async fn pass_answer(&self, visit: &Visit, data: &mut Bytes) -> Passed {
        loop {
            let answer = self.state.borrow_mut().exchange.answer(data);
            let bytes = match answer {
                Ok(Some(Answer::Early)) => {
                    self.sent.notified().await;
                    continue;
                }
                Ok(Some(Answer::Plain(bytes))) => bytes,
                Ok(Some(Answer::Ends(bytes, trouble))) => {
                    let carried = self.state.borrow_mut().carried.take();
                    if let Some(carried) = carried {
                        let status = if trouble.is_some() { Status::Error } else { Status::Ok };
                        carried.told(visit, status, trouble).await?;
                    }
                    bytes
                }
                Ok(None) => return Ok(Ok(None)),
                Err(fault) => return Ok(Err(fault.into())),
            };
            self.answered.notify_one();
            return Ok(Ok(Some(bytes)));
        }
    }

    /// The channel has ended: a file that nobody has taken is recorded as such.
    pub(crate) async fn over(self, visit: &Visit) -> Result<(), NotRecorded> {
        let Some(left) = self.state.into_inner().carried else { return Ok(()) };
        // What its sender said of it is its end.
        let status = if left.failed.is_some() { Status::Error } else { Status::Cancelled };
        left.told(visit, status, Some("the file was not carried whole".into())).await
    }
}
