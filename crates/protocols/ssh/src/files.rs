//! Files on their way through a channel: each operation is a command of its own in the trail, judged before it leaves
//! and told before its answer is released.

mod places;
mod scp_watch;
mod sftp_watch;

use bytes::Bytes;
use classify::shell::scp_half;
use session::{NotRecorded, Permit};
use trail::record::OutcomeRecord;
use vocabulary::{Class, Facts, ObjectUse, Status, Usage};

pub(crate) use scp_watch::ScpWatch;
pub(crate) use sftp_watch::SftpWatch;

use crate::client_side::Program;
use crate::command::Asking;
use crate::visit::{Client, Visit, outcome};
use crate::wire::content::Content;

/// What is understood of the bytes in a channel.
pub(crate) enum Inside {
    /// Nothing: they are a program's own.
    Opaque,
    /// SFTP.
    Sftp(Box<SftpWatch>),
    /// scp's legacy protocol.
    Scp(Box<ScpWatch>),
}

impl Inside {
    pub(crate) fn of(program: &Program) -> Self {
        match program {
            Program::Subsystem(name) if name == "sftp" => Self::Sftp(Box::default()),
            Program::Exec(line) if is_sftp_server(line) => Self::Sftp(Box::default()),
            Program::Exec(line) => {
                scp_half(line).map_or(Self::Opaque, |half| Self::Scp(Box::new(ScpWatch::new(half))))
            }
            Program::Shell | Program::Subsystem(_) => Self::Opaque,
        }
    }

    /// Whether input, and output, are the program's own: what is in the others has entries of its own.
    pub(crate) fn is_own(&self) -> (bool, bool) {
        match self {
            Self::Opaque => (true, true),
            Self::Sftp(_) => (false, false),
            Self::Scp(watch) => (!watch.is_upload(), watch.is_upload()),
        }
    }

    /// The next bytes out of the client's `data` that may go on. `None` when there are no more.
    pub(crate) async fn to_target(&self, visit: &Visit, client: &Client<'_>, data: &mut Bytes) -> Passed {
        match self {
            Self::Opaque => Ok(Ok(Some(std::mem::take(data)).filter(|data| !data.is_empty()))),
            Self::Sftp(watch) => {
                watch.take_from_client(&std::mem::take(data));
                watch.to_target(visit, client).await
            }
            Self::Scp(watch) => watch.to_target(visit, client, data).await,
        }
    }

    /// The next bytes for the client: those out of the target's `data` that may go on, and what the gateway has to say
    /// itself. `None` when there are no more.
    pub(crate) async fn to_client(&self, visit: &Visit, client: &Client<'_>, data: &mut Bytes) -> Passed {
        match self {
            Self::Opaque => Ok(Ok(Some(std::mem::take(data)).filter(|data| !data.is_empty()))),
            Self::Sftp(watch) => {
                watch.take_from_target(&std::mem::take(data));
                watch.to_client(visit).await
            }
            Self::Scp(watch) => watch.to_client(visit, client, data).await,
        }
    }

    /// What the target has said last, if it can't be understood any more since nothing follows it.
    pub(crate) fn rest_of_target(&self) -> Bytes {
        match self {
            Self::Scp(watch) => watch.rest_of_target(),
            Self::Opaque | Self::Sftp(_) => Bytes::new(),
        }
    }

    /// Returns when the gateway has something of its own to say to the client.
    pub(crate) async fn own_answer(&self) {
        match self {
            Self::Sftp(watch) => watch.own_answer().await,
            Self::Opaque | Self::Scp(_) => std::future::pending().await,
        }
    }

    /// Returns when nothing waits for people on the target's half.
    pub(crate) async fn settled(&self) {
        match self {
            Self::Scp(watch) => watch.settled().await,
            Self::Opaque | Self::Sftp(_) => {}
        }
    }

    /// The channel has ended: what was under way is recorded as such.
    pub(crate) async fn over(self, visit: &Visit) -> Result<(), NotRecorded> {
        match self {
            Self::Opaque => Ok(()),
            Self::Sftp(watch) => watch.over(visit).await,
            Self::Scp(watch) => watch.over(visit).await,
        }
    }
}

/// `sftp -s PATH` runs the server by its path.
fn is_sftp_server(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    line.iter().all(plain) && (line == b"internal-sftp" || line.ends_with(b"sftp-server"))
}

/// The channel can't go on: what is in it is not what it should be, or may not pass.
pub(crate) struct Stop {
    /// For the client.
    pub sentence: String,
    /// Exit status.
    pub exit: u32,
}

/// Bytes that may go on, none if more are needed; or why none may any more.
pub(crate) type Passed = Result<Result<Option<Bytes>, Stop>, NotRecorded>;

/// An operation on one path, as the trail has it.
fn asking(verb: &str, class: Class, usage: Usage, path: &[u8]) -> Asking {
    let paths: &[&[u8]] = if path.is_empty() { &[] } else { &[path] };
    asking_of(verb, class, usage, paths)
}

/// An operation on two paths.
fn asking_of_two(verb: &str, class: Class, usage: Usage, from: &[u8], to: &[u8]) -> Asking {
    asking_of(verb, class, usage, &[from, to])
}

fn asking_of(verb: &str, class: Class, usage: Usage, paths: &[&[u8]]) -> Asking {
    let mut text = verb.to_ascii_lowercase().into_bytes();
    let mut objects = Vec::with_capacity(paths.len());
    for path in paths {
        text.push(b' ');
        text.extend_from_slice(path);
        objects.push(ObjectUse { name: String::from_utf8_lossy(path).into_owned(), usage });
    }
    Asking::new(Facts { objects, class, ..Facts::plain(verb, class) }, text)
}

/// A file that is being carried. One that was opened for both is carried both ways.
struct Carried {
    permit: Permit,
    written: Content,
    read: Content,
    failed: Option<String>,
}

impl Carried {
    fn new(permit: Permit) -> Self {
        Self { permit, written: Content::default(), read: Content::default(), failed: None }
    }

    /// Records what was carried. The outcome has room for one digest: of a file that was written too, what was read of it
    /// stands in the message.
    async fn told(self, visit: &Visit, status: Status, message: Option<String>) -> Result<(), NotRecorded> {
        let Self { permit, written, read, failed } = self;
        let status = if failed.is_some() && status == Status::Ok { Status::Error } else { status };
        let both = written.bytes() > 0 && read.bytes() > 0;
        let first = if written.bytes() > 0 { &written } else { &read };
        let also = both.then(|| format!("what was read of it: {}", read.told()));
        let notes = [failed.or(message), first.note(), also];
        let message = notes.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let record = OutcomeRecord {
            executed: Some(true),
            bytes_in: written.bytes(),
            bytes_out: read.bytes(),
            message: Some(message.as_str()).filter(|message| !message.is_empty()),
            not_kept: first.not_kept(),
            ..outcome(status)
        };
        visit.observe(permit, record).await.map(drop)
    }
}

/// Records the end of an operation that carried nothing.
async fn ended(
    visit: &Visit,
    permit: Permit,
    status: Status,
    message: Option<&str>,
) -> Result<(), NotRecorded> {
    let executed = match status {
        Status::Unknown => None,
        _ => Some(true),
    };
    visit.observe(permit, OutcomeRecord { executed, message, ..outcome(status) }).await.map(drop)
}
