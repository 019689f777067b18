//! SFTP as it passes: requests are judged, answers matched to them, contents put together.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};
use session::{NotRecorded, Permit};
use tokio::sync::Notify;
use vocabulary::{Class, Status, Usage};

use super::{Carried, Stop, asking, asking_of_two, ended};
use crate::client_side::ClientChannel;
use crate::refusal;
use crate::visit::{Client, Verdict, Visit};
use crate::wire::sftp::{self, Answer, NotSftp, Packets, Request};

/// Requests that wait for an answer. OpenSSH's client has 64 under way.
const MAX_PENDING: usize = 8192;

/// Files and folders open at once.
const MAX_OPEN: usize = 4096;

/// Refusals of one channel that are told on standard error as well: some clients never read it, and it takes of their window.
const MAX_TOLD: usize = 32;

/// What an answer will be about.
enum Pending {
    /// An operation of its own.
    Operation(Permit),
    /// A file or folder that is to be opened.
    Opening { permit: Permit, path: Bytes, upload: bool },
    /// A file or folder that is to be closed.
    Closing(Bytes),
    /// A piece of a file.
    Reading { handle: Bytes, offset: u64 },
    /// Another piece.
    Writing(Bytes),
    /// More of a folder.
    Plain,
}

#[derive(Default)]
struct State {
    client: Packets,
    target: Packets,
    pending: HashMap<u32, Pending>,
    open: HashMap<Bytes, Carried>,
    /// Answers of the gateway itself, to be said between two of the target's.
    own: VecDeque<Bytes>,
}

/// What comes next of one side's packets.
enum Next<T> {
    /// More bytes are needed.
    Nothing,
    /// Packets that may go on as they are: they belong to what was judged already, and end nothing.
    Run(Bytes),
    /// One that the trail has to hear of first.
    One(Bytes, T),
}

/// What is known of one SFTP channel; both directions share it.
#[derive(Default)]
pub(crate) struct SftpWatch {
    state: RefCell<State>,
    own: Notify,
    /// Refusals that were told on standard error.
    told: Cell<usize>,
}

fn stop(sentence: &str, exit: u32) -> Stop {
    Stop { sentence: sentence.to_owned(), exit }
}

impl From<NotSftp> for Stop {
    fn from(_: NotSftp) -> Self {
        stop("what this channel carries is not SFTP (version 3), so it is closed", 1)
    }
}

impl State {
    fn next_of_client(&mut self) -> Result<Next<Request>, Stop> {
        let Self { client, pending, open, .. } = self;
        let Some(whole) = client.whole()? else { return Ok(Next::Nothing) };
        let mut end = 0;
        while let Some(length) = sftp::packet_length(whole.get(end..).unwrap_or_default())? {
            let packet = whole.slice(end..end + length);
            let request = sftp::understood(&packet)?;
            if pending.len() >= MAX_PENDING || open.len() >= MAX_OPEN {
                let sentence = "too many SFTP requests are under way, so this channel is closed";
                return Err(stop(sentence, refusal::REFUSED));
            }
            if request.id().is_some_and(|id| pending.contains_key(&id)) {
                let sentence = "an SFTP request has the number of one that is not answered yet, so this channel is closed";
                return Err(stop(sentence, 1));
            }
            let (id, goes_on) = match request {
                Request::Init => {
                    end += length;
                    continue;
                }
                // What belongs to a file or folder that was judged when it was opened.
                Request::Close { id, handle } => (id, Pending::Closing(handle)),
                Request::Read { id, handle, offset } => (id, Pending::Reading { handle, offset }),
                Request::Write { id, handle, offset, data } => {
                    if let Some(file) = open.get_mut(&handle) {
                        file.upload = true;
                        file.content.piece(offset, &data);
                    }
                    (id, Pending::Writing(handle))
                }
                Request::ReadDir { id, .. } | Request::Handle { id, verb: "STAT", .. } => {
                    (id, Pending::Plain)
                }
                _ if end > 0 => break,
                request => {
                    whole.advance(length);
                    return Ok(Next::One(packet, request));
                }
            };
            pending.insert(id, goes_on);
            end += length;
        }
        Ok(Next::Run(whole.split_to(end)))
    }

    fn next_of_target(&mut self) -> Result<Next<Answer>, Stop> {
        let Self { target, pending, open, .. } = self;
        let Some(whole) = target.whole()? else { return Ok(Next::Nothing) };
        let mut end = 0;
        while let Some(length) = sftp::packet_length(whole.get(end..).unwrap_or_default())? {
            let packet = whole.slice(end..end + length);
            let answer = sftp::answer(&packet)?;
            let about = answer.id().and_then(|id| pending.get(&id));
            match (about, &answer) {
                (Some(Pending::Reading { handle, offset }), Answer::Data { data, .. }) => {
                    if let Some(file) = open.get_mut(handle) {
                        file.content.piece(*offset, data);
                    }
                }
                (Some(Pending::Writing(handle) | Pending::Reading { handle, .. }), _) => {
                    if let (Some(file), Some(failure)) = (open.get_mut(handle), answer.failure()) {
                        file.failed.get_or_insert(failure);
                    }
                }
                (Some(Pending::Plain) | None, _) => {}
                _ if end > 0 => break,
                _ => {
                    whole.advance(length);
                    return Ok(Next::One(packet, answer));
                }
            }
            if let Some(id) = answer.id() {
                pending.remove(&id);
            }
            end += length;
        }
        Ok(Next::Run(whole.split_to(end)))
    }

    /// The path by which something was opened.
    fn path_of(&self, handle: &Bytes) -> Bytes {
        self.open.get(handle).map_or_else(|| Bytes::from_static(b"an open file"), |file| file.path.clone())
    }
}

impl SftpWatch {
    /// Takes the client's bytes.
    pub(crate) fn take_from_client(&self, data: &[u8]) {
        self.state.borrow_mut().client.push(data);
    }

    /// The next packets of the client that may go on, as they came. `None` when more bytes are needed.
    pub(crate) async fn to_target(
        &self,
        visit: &Visit,
        channel: &ClientChannel,
    ) -> Result<Result<Option<Bytes>, Stop>, NotRecorded> {
        loop {
            let next = self.state.borrow_mut().next_of_client();
            match next {
                Ok(Next::Nothing) => return Ok(Ok(None)),
                Ok(Next::Run(packets)) => return Ok(Ok(Some(packets))),
                Ok(Next::One(packet, request)) => {
                    if self.admit(visit, channel, request).await? {
                        return Ok(Ok(Some(packet)));
                    }
                }
                Err(stop) => return Ok(Err(stop)),
            }
        }
    }

    /// Judges a request; whether it may go on. One that may not is answered by the gateway.
    async fn admit(
        &self,
        visit: &Visit,
        channel: &ClientChannel,
        request: Request,
    ) -> Result<bool, NotRecorded> {
        let (id, asking, opening) = match request {
            Request::Open { id, path, flags } if sftp::changes(flags) => {
                (id, asking("PUT", Class::Transfer, Usage::Write, &path), Some((path, true)))
            }
            Request::Open { id, path, .. } => {
                (id, asking("GET", Class::Transfer, Usage::Read, &path), Some((path, false)))
            }
            Request::OpenDir { id, path } => {
                (id, asking("LIST", Class::Read, Usage::Read, &path), Some((path, false)))
            }
            Request::Path { id, verb: verb @ ("STAT" | "REALPATH" | "READLINK"), path } => {
                (id, asking(verb, Class::Read, Usage::Read, &path), None)
            }
            Request::Path { id, verb, path } => {
                (id, asking(verb, Class::Transfer, Usage::Write, &path), None)
            }
            Request::Paths { id, verb, from, to } => {
                (id, asking_of_two(verb, Class::Transfer, Usage::Write, &from, &to), None)
            }
            Request::Handle { id, verb, handle } => {
                let path = self.state.borrow().path_of(&handle);
                (id, asking(verb, Class::Transfer, Usage::Write, &path), None)
            }
            Request::Extended { id, name, .. } => {
                (id, asking("SFTP", Class::Unknown, Usage::Write, &name), None)
            }
            Request::Unknown { id, kind } => {
                let name = format!("request {kind}");
                (id, asking("SFTP", Class::Unknown, Usage::Write, name.as_bytes()), None)
            }
            // Went on already.
            Request::Init
            | Request::Close { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::ReadDir { .. } => return Ok(true),
        };
        // OpenSSH's client shows no server's sentence, but what comes on standard error.
        let speaks = self.told.get() < MAX_TOLD;
        let client = if speaks { Client::Channel { channel, terminal: false } } else { Client::Nobody };
        match visit.judge(&asking, &client).await? {
            Verdict::Permit(permit, _) => {
                let pending = match opening {
                    Some((path, upload)) => Pending::Opening { permit, path, upload },
                    None => Pending::Operation(permit),
                };
                self.state.borrow_mut().pending.insert(id, pending);
                Ok(true)
            }
            Verdict::Refused(sentence, _) => {
                client.tell(&sentence).await;
                self.told.set(self.told.get() + 1);
                self.state.borrow_mut().own.push_back(sftp::denied(id, &format!("trailgate: {sentence}")));
                self.own.notify_one();
                Ok(false)
            }
        }
    }

    /// Takes the target's bytes.
    pub(crate) fn take_from_target(&self, data: &[u8]) {
        self.state.borrow_mut().target.push(data);
    }

    /// The next packets for the client, once the trail has what they tell. `None` when more bytes are needed.
    pub(crate) async fn to_client(&self, visit: &Visit) -> Result<Result<Option<Bytes>, Stop>, NotRecorded> {
        if let Some(own) = self.state.borrow_mut().own.pop_front() {
            return Ok(Ok(Some(own)));
        }
        let next = self.state.borrow_mut().next_of_target();
        match next {
            Ok(Next::Nothing) => Ok(Ok(None)),
            Ok(Next::Run(packets)) => Ok(Ok(Some(packets))),
            Ok(Next::One(packet, answer)) => {
                self.tell(visit, answer).await?;
                Ok(Ok(Some(packet)))
            }
            Err(stop) => Ok(Err(stop)),
        }
    }

    /// Returns when the gateway has an answer of its own to say.
    pub(crate) async fn own_answer(&self) {
        self.own.notified().await;
    }

    /// Records what an answer tells.
    async fn tell(&self, visit: &Visit, answer: Answer) -> Result<(), NotRecorded> {
        let failure = answer.failure();
        let status = if failure.is_some() { Status::Error } else { Status::Ok };
        let Some(pending) = answer.id().and_then(|id| self.state.borrow_mut().pending.remove(&id)) else {
            return Ok(());
        };
        match (pending, answer) {
            (Pending::Opening { permit, path, upload }, Answer::Handle { handle, .. }) => {
                let carried = Carried::new(permit, path, upload);
                let before = self.state.borrow_mut().open.insert(handle, carried);
                match before {
                    // A target that gives the same name to two open files: nobody can tell whose bytes are whose.
                    Some(before) => before.told(visit, Status::Unknown, None).await,
                    None => Ok(()),
                }
            }
            (Pending::Operation(permit) | Pending::Opening { permit, .. }, _) => {
                ended(visit, permit, status, failure.as_deref()).await
            }
            (Pending::Closing(handle), _) => {
                let closed = self.state.borrow_mut().open.remove(&handle);
                match closed {
                    Some(closed) => closed.told(visit, status, failure).await,
                    None => Ok(()),
                }
            }
            (Pending::Reading { .. } | Pending::Writing(_) | Pending::Plain, _) => Ok(()),
        }
    }

    /// The channel has ended: what was under way is recorded as such.
    pub(crate) async fn over(self, visit: &Visit) -> Result<(), NotRecorded> {
        let State { pending, open, .. } = self.state.into_inner();
        let why = "the channel was closed before it was answered";
        for pending in pending.into_values() {
            if let Pending::Operation(permit) | Pending::Opening { permit, .. } = pending {
                ended(visit, permit, Status::Unknown, Some(why)).await?;
            }
        }
        for carried in open.into_values() {
            carried
                .told(visit, Status::Cancelled, Some("the channel was closed before the file was".into()))
                .await?;
        }
        Ok(())
    }
}
