//! Files on their way through a channel: each operation is a command of its own in the trail, judged before it leaves
//! and told before its answer is released.

mod scp_watch;
mod sftp_watch;

use bytes::Bytes;
use session::{NotRecorded, Permit};
use trail::record::{NotKept, OutcomeRecord};
use vocabulary::{Class, Facts, ObjectUse, Status, Usage};

pub(crate) use scp_watch::ScpWatch;
pub(crate) use sftp_watch::SftpWatch;

use crate::client_side::Program;
use crate::command::Asking;
use crate::visit::{Visit, outcome};
use crate::wire::content::Content;
use crate::wire::scp;

/// What is understood of the bytes in a channel.
pub(crate) enum Inside {
    /// Nothing: they are a program's own.
    Opaque,
    /// SFTP.
    Sftp(SftpWatch),
    /// scp's legacy protocol.
    Scp(ScpWatch),
}

impl Inside {
    pub(crate) fn of(program: &Program) -> Self {
        match program {
            Program::Subsystem(name) if name == "sftp" => Self::Sftp(SftpWatch::default()),
            Program::Exec(line) if is_sftp_server(line) => Self::Sftp(SftpWatch::default()),
            Program::Exec(line) => scp::way(line).map_or(Self::Opaque, |way| Self::Scp(ScpWatch::new(way))),
            Program::Shell | Program::Subsystem(_) => Self::Opaque,
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

/// A file that is being carried.
struct Carried {
    permit: Permit,
    path: Bytes,
    /// To the target, as against from it.
    upload: bool,
    content: Content,
    failed: Option<String>,
}

impl Carried {
    fn new(permit: Permit, path: Bytes, upload: bool) -> Self {
        Self { permit, path, upload, content: Content::default(), failed: None }
    }

    /// Records what was carried.
    async fn told(self, visit: &Visit, status: Status, message: Option<String>) -> Result<(), NotRecorded> {
        let Self { permit, upload, content, failed, path: _ } = self;
        let bytes = content.bytes();
        let not_kept = content.sha256().filter(|_| bytes > 0).map(|sha256| NotKept { bytes, sha256 });
        let status = if failed.is_some() && status == Status::Ok { Status::Error } else { status };
        let unclear =
            (not_kept.is_none() && bytes > 0).then(|| "its parts overlap, so there is no digest".to_owned());
        let partial = content.offset().map(|offset| format!("from byte {offset} on"));
        let message = failed.or(message).or(unclear).or(partial);
        let record = OutcomeRecord {
            executed: Some(true),
            bytes_in: if upload { bytes } else { 0 },
            bytes_out: if upload { 0 } else { bytes },
            message: message.as_deref(),
            not_kept,
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
