//! A command from its judgement to its outcome.

use std::rc::Rc;

use aws_lc_rs::digest::{Context, SHA256};
use session::NotRecorded;
use slab::Slab;
use trail::record::{NotKept, OutcomeRecord};
use vocabulary::{SessionId, Status, Timestamp};

use super::duty::{Duty, RowTap};
use super::{Recorder, Statement};

/// Said of a portal that returned some of its rows, and was then closed.
pub const SUSPENDED: &str = "the portal was closed before all its rows were fetched";

/// Said of a portal that was bound and closed without being executed.
pub const NEVER_EXECUTED: &str = "not run: bound, but never executed";

/// Said of a portal that was judged again as it was executed.
pub const OVERTAKEN: &str = "not run as it was bound: its names may stand for something else since, so it was judged again when executed";

/// Said of a command whose client did not wait for its outcome.
pub const CLIENT_GONE: &str = "the client was gone before the outcome was known";

/// Said of a command that the target skipped.
pub const SKIPPED: &str = "not run: an earlier command of the same pipeline or query failed";

/// A command that is judged and not yet observed.
#[derive(Debug)]
pub struct Running<P> {
    pub permit: P,
    /// What it runs: for what it changes in the session when it succeeds.
    pub statement: Rc<Statement>,
    /// Rows seen so far.
    pub rows: u64,
    /// Rows copied out so far.
    pub copied: u64,
    /// Bytes from the client, framing included.
    pub bytes_in: u64,
    /// Bytes to the client, framing included.
    pub bytes_out: u64,
    /// Executes that the target has not answered.
    pub executes: u32,
    /// The target has answered an Execute with a part of the rows.
    pub ran: bool,
    /// A message that is too long to keep whole.
    pub overflow: Option<Box<Overflow>>,
    /// What has to be kept while it runs.
    pub duty: Option<Box<Duty>>,
}

/// Names a command until it is observed. Never stands for another one, even when its place is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandKey {
    place: usize,
    serial: u64,
}

/// The commands that are judged and not yet observed.
#[derive(Debug)]
pub struct Commands<P> {
    slab: Slab<(u64, Running<P>)>,
    next_serial: u64,
}

impl<P> Default for Commands<P> {
    fn default() -> Self {
        Self { slab: Slab::new(), next_serial: 0 }
    }
}

impl<P> Commands<P> {
    pub fn insert(&mut self, running: Running<P>) -> CommandKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        CommandKey { place: self.slab.insert((serial, running)), serial }
    }

    pub fn get(&self, key: CommandKey) -> Option<&Running<P>> {
        self.slab.get(key.place).filter(|(serial, _)| *serial == key.serial).map(|(_, running)| running)
    }

    pub fn get_mut(&mut self, key: CommandKey) -> Option<&mut Running<P>> {
        self.slab.get_mut(key.place).filter(|(serial, _)| *serial == key.serial).map(|(_, running)| running)
    }

    pub fn remove(&mut self, key: CommandKey) -> Option<Running<P>> {
        self.get(key)?;
        self.slab.try_remove(key.place).map(|(_, running)| running)
    }

    /// Takes all of them out, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Running<P>> + use<P> {
        let mut all: Vec<_> = self.slab.drain().collect();
        all.sort_by_key(|(serial, _)| *serial);
        all.into_iter().map(|(_, running)| running)
    }
}

/// Follows the part of a message that is not kept.
pub struct Overflow {
    hash: Context,
    kept: u64,
    total: u64,
}

impl std::fmt::Debug for Overflow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overflow")
            .field("kept", &self.kept)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Overflow {
    /// Begins with the part that is kept.
    pub fn new(kept: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(kept);
        Self { hash, kept: kept.len() as u64, total: kept.len() as u64 }
    }

    /// Goes on with a part that is not.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.total += bytes.len() as u64;
    }

    fn finish(self) -> NotKept {
        let digest = self.hash.finish();
        let mut sha256 = [0u8; 32];
        sha256.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        NotKept { bytes: self.total - self.kept, sha256 }
    }
}

/// The parts of an outcome that an answer decides.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub status: Status,
    pub executed: Option<bool>,
    pub rows: Option<u64>,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Self { status: Status::Ok, executed: Some(true), rows: None, code: None, message: None }
    }
}

impl Parts<'_> {
    /// The target did not run it.
    pub const fn skipped(message: &'static str) -> Parts<'static> {
        Parts {
            status: Status::Cancelled,
            executed: Some(false),
            rows: None,
            code: None,
            message: Some(message),
        }
    }
}

impl<P> Running<P> {
    pub const fn new(permit: P, statement: Rc<Statement>, bytes_in: u64, duty: Option<Box<Duty>>) -> Self {
        Self {
            permit,
            statement,
            rows: 0,
            copied: 0,
            bytes_in,
            bytes_out: 0,
            executes: 0,
            ran: false,
            overflow: None,
            duty,
        }
    }

    /// Hands the outcome over.
    pub fn observe<R: Recorder<Permit = P>>(
        self,
        recorder: &mut R,
        parts: &Parts<'_>,
    ) -> Result<(), NotRecorded> {
        let rows = match parts.rows {
            Some(rows) => Some(rows.max(self.rows)),
            None => (self.rows > 0).then_some(self.rows),
        };
        // What it changed, or took in, is no row that went out.
        recorder.returned(&self.permit, self.rows + self.copied);
        let rows_not_kept = self.duty.and_then(|duty| duty.tap).and_then(RowTap::not_kept);
        let outcome = OutcomeRecord {
            executed: parts.executed,
            rows,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            code: parts.code,
            message: parts.message,
            not_kept: rows_not_kept.or_else(|| self.overflow.map(|overflow| overflow.finish())),
            // Session, number and time are the turn's to fill in.
            ..OutcomeRecord::bare(SessionId::from_bytes([0; 16]), 0, Timestamp(0), parts.status)
        };
        recorder.observe(self.permit, outcome)
    }
}
