//! SFTP as it passes: requests are judged, answers matched to them, contents put together.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use bytes::{Buf, Bytes};
use session::{NotRecorded, Permit};
use tokio::sync::Notify;
use vocabulary::{Class, Status, Usage};

use super::{Carried, Passed, Stop, asking, asking_of_two, ended};
use crate::refusal;
use crate::visit::{Client, Verdict, Visit};
use crate::wire::sftp::{self, Answer, NotSftp, Packets, Request};

/// Requests that wait for an answer. OpenSSH's client has 64 under way.
const MAX_PENDING: usize = 8192;

/// Files and folders open at once.
const MAX_OPEN: usize = 4096;

/// Refusals of one channel that are told on standard error as well: some clients never read it, and it takes of their window.
const MAX_TOLD: usize = 32;

/// An open file or folder. Its number is the gateway's own: targets use a handle again as soon as it is closed.
type Number = u64;

/// What an answer will be about.
enum Pending {
    /// An operation of its own.
    Operation(Permit),
    /// A file or folder that is to be opened.
    Opening { permit: Permit, path: Bytes },
    /// A file or folder that is to be closed.
    Closing(Number),
    /// A piece of a file.
    Reading { file: Number, offset: u64 },
    /// Another piece.
    Writing(Number),
    /// More of a folder.
    Plain,
}

/// A file or folder that was opened and is not closed yet.
struct Opened {
    carried: Carried,
    path: Bytes,
}

#[derive(Default)]
struct State {
    client: Packets,
    target: Packets,
    pending: HashMap<u32, Pending>,
    /// Handles that the client may use: not those whose closing has been asked for.
    handles: HashMap<Bytes, Number>,
    files: HashMap<Number, Opened>,
    opened: Number,
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
    /// None: those that were there are answered by the gateway.
    Refused,
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
        let Self { client, pending, handles, files, own, .. } = self;
        let Some(whole) = client.whole()? else { return Ok(Next::Nothing) };
        let mut end = 0;
        while let Some(length) = sftp::packet_length(whole.get(end..).unwrap_or_default())? {
            let packet = whole.slice(end..end + length);
            let request = sftp::understood(&packet)?;
            if pending.len() + own.len() >= MAX_PENDING || files.len() >= MAX_OPEN {
                let sentence = "too many SFTP requests are under way, so this channel is closed";
                return Err(stop(sentence, refusal::REFUSED));
            }
            if request.id().is_some_and(|id| pending.contains_key(&id)) {
                let sentence = "an SFTP request has the number of one that is not answered yet, so this channel is closed";
                return Err(stop(sentence, 1));
            }
            // A handle that was never given, or is closed: what is done by it could not be told of any file.
            let file = request.handle().map(|handle| handles.get(handle).copied());
            if let (Some(None), Some(id)) = (file, request.id()) {
                if end > 0 {
                    break;
                }
                whole.advance(length);
                own.push_back(sftp::failed(id, "trailgate: no file is open by that handle"));
                if whole.is_empty() {
                    return Ok(Next::Refused);
                }
                continue;
            }
            let file = file.flatten().unwrap_or_default();
            let (id, goes_on) = match request {
                Request::Init => {
                    end += length;
                    continue;
                }
                // What belongs to a file or folder that was judged when it was opened.
                Request::Close { id, handle } => {
                    handles.remove(&handle);
                    (id, Pending::Closing(file))
                }
                Request::Read { id, offset, .. } => (id, Pending::Reading { file, offset }),
                Request::Write { id, offset, data, .. } => {
                    if let Some(opened) = files.get_mut(&file) {
                        opened.carried.written.piece(offset, &data);
                    }
                    (id, Pending::Writing(file))
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
        let Self { target, pending, files, .. } = self;
        let Some(whole) = target.whole()? else { return Ok(Next::Nothing) };
        let mut end = 0;
        while let Some(length) = sftp::packet_length(whole.get(end..).unwrap_or_default())? {
            let packet = whole.slice(end..end + length);
            let answer = sftp::answer(&packet)?;
            let about = answer.id().and_then(|id| pending.get(&id));
            match (about, &answer) {
                (Some(Pending::Reading { file, offset }), Answer::Data { data, .. }) => {
                    if let Some(opened) = files.get_mut(file) {
                        opened.carried.read.piece(*offset, data);
                    }
                }
                (Some(Pending::Writing(file) | Pending::Reading { file, .. }), _) => {
                    if let (Some(opened), Some(failure)) = (files.get_mut(file), answer.failure()) {
                        opened.carried.failed.get_or_insert(failure);
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
        let opened = self.handles.get(handle).and_then(|file| self.files.get(file));
        opened.map_or_else(|| Bytes::from_static(b"an open file"), |opened| opened.path.clone())
    }

    /// Takes in what a target has opened; returns what has lost its handle by that.
    fn opened(&mut self, handle: Bytes, opened: Opened) -> Option<Opened> {
        self.opened += 1;
        self.files.insert(self.opened, opened);
        let before = self.handles.insert(handle, self.opened)?;
        self.files.remove(&before)
    }
}

impl SftpWatch {
    /// Takes the client's bytes.
    pub(crate) fn take_from_client(&self, data: &[u8]) {
        self.state.borrow_mut().client.push(data);
    }

    /// The next packets of the client that may go on, as they came. `None` when more bytes are needed.
    pub(crate) async fn to_target(&self, visit: &Visit, client: &Client<'_>) -> Passed {
        loop {
            let next = self.state.borrow_mut().next_of_client();
            if !self.state.borrow().own.is_empty() {
                self.own.notify_one();
            }
            match next {
                Ok(Next::Nothing) => return Ok(Ok(None)),
                Ok(Next::Refused) => {}
                Ok(Next::Run(packets)) => return Ok(Ok(Some(packets))),
                Ok(Next::One(packet, request)) => {
                    if self.admit(visit, client, request).await? {
                        return Ok(Ok(Some(packet)));
                    }
                }
                Err(stop) => return Ok(Err(stop)),
            }
        }
    }

    /// Judges a request; whether it may go on. One that may not is answered by the gateway.
    async fn admit(&self, visit: &Visit, client: &Client<'_>, request: Request) -> Result<bool, NotRecorded> {
        let (id, asking, opening) = match request {
            Request::Open { id, path, flags } if sftp::changes(flags) => {
                (id, asking("PUT", Class::Transfer, Usage::Write, &path), Some(path))
            }
            Request::Open { id, path, .. } => {
                (id, asking("GET", Class::Transfer, Usage::Read, &path), Some(path))
            }
            Request::OpenDir { id, path } => {
                (id, asking("LIST", Class::Read, Usage::Read, &path), Some(path))
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
        let client = if self.told.get() < MAX_TOLD { *client } else { client.muted() };
        match visit.judge(&asking, &client).await? {
            Verdict::Permit(permit, _) => {
                let pending = match opening {
                    Some(path) => Pending::Opening { permit, path },
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
    pub(crate) async fn to_client(&self, visit: &Visit) -> Passed {
        if let Some(own) = self.state.borrow_mut().own.pop_front() {
            return Ok(Ok(Some(own)));
        }
        let next = self.state.borrow_mut().next_of_target();
        match next {
            Ok(Next::Nothing | Next::Refused) => Ok(Ok(None)),
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
            (Pending::Opening { permit, path }, Answer::Handle { handle, .. }) => {
                let opened = Opened { carried: Carried::new(permit), path };
                let before = self.state.borrow_mut().opened(handle, opened);
                match before {
                    // A target that gives the same name to two open files: nobody can tell whose bytes are whose.
                    Some(before) => before.carried.told(visit, Status::Unknown, None).await,
                    None => Ok(()),
                }
            }
            (Pending::Operation(permit) | Pending::Opening { permit, .. }, _) => {
                ended(visit, permit, status, failure.as_deref()).await
            }
            (Pending::Closing(file), _) => {
                let closed = self.state.borrow_mut().files.remove(&file);
                match closed {
                    Some(closed) => closed.carried.told(visit, status, failure).await,
                    None => Ok(()),
                }
            }
            (Pending::Reading { .. } | Pending::Writing(_) | Pending::Plain, _) => Ok(()),
        }
    }

    /// The channel has ended: what was under way is recorded as such.
    pub(crate) async fn over(self, visit: &Visit) -> Result<(), NotRecorded> {
        let State { pending, files, .. } = self.state.into_inner();
        let why = "the channel was closed before it was answered";
        for pending in pending.into_values() {
            if let Pending::Operation(permit) | Pending::Opening { permit, .. } = pending {
                ended(visit, permit, Status::Unknown, Some(why)).await?;
            }
        }
        for opened in files.into_values() {
            let why = "the channel was closed before the file was".to_owned();
            opened.carried.told(visit, Status::Cancelled, Some(why)).await?;
        }
        Ok(())
    }
}
