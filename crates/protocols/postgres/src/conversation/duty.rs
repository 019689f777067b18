//! What has to be kept while a command runs: a limit of rows, a time, no writing, rows in the trail.
//!
//! - *Rows*: no row beyond the limit reaches the client; the target is told to cancel, and nothing is sent behind the
//!   command before it is answered. If the target had finished before it heard, what must fail follows: the
//!   transaction is aborted either way, and the client never takes a part for the whole.
//! - *Time*: the gateway's own clock; the target is told to cancel.
//! - *No writing*: the gateway's own statement goes first, in the same transaction, and makes it read-only. Since it
//!   takes a snapshot, PostgreSQL refuses to make the transaction writable again before it ends.

use aws_lc_rs::digest::{Context, SHA256};
use policy::Obligations;
use session::Means;
use trail::record::NotKept;
use vocabulary::{Class, Facts};

use super::running::{CommandKey, Running};
use super::target::command_of;
use super::{Conversation, Expected};
use crate::wire::backend::Transaction;
use crate::wire::error_response::Report;
use crate::wire::packet;

/// The name of the gateway's own statement and portal.
const NAME: &str = "trailgate.read_only";

/// Makes the transaction read-only and takes a snapshot, after which nothing makes it writable again.
const READ_ONLY: &str = "SELECT pg_catalog.set_config('transaction_read_only', 'on', true)";

/// Why the gateway stops a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It returned more rows than it may.
    Rows(u64),
    /// It ran longer than it may, in milliseconds.
    Time(u64),
}

/// What has to be kept while one command runs.
#[derive(Debug)]
pub struct Duty {
    pub obligations: Obligations,
    policies: String,
    /// The gateway is stopping it.
    pub stop: Option<Stop>,
    /// Follows the rows, where they are recorded.
    pub tap: Option<RowTap>,
}

impl Duty {
    pub fn new(obligations: Obligations, policies: String) -> Box<Self> {
        let tap = obligations.record_rows.map(RowTap::new);
        Box::new(Self { obligations, policies, stop: None, tap })
    }

    /// What the gateway can keep for a command that stands alone in its message.
    pub fn means(facts: &Facts, in_transaction: bool) -> Means {
        Means {
            limit_rows: facts.class.is_harmless(),
            timeout: true,
            // What can end the transaction by itself can begin another one.
            read_only: !is_unparsed(facts) && (in_transaction || !Self::may_commit(facts)),
            record_rows: true,
        }
    }

    /// What the gateway can keep for one of several commands in a message. `moves`: one of them may end the
    /// transaction.
    pub fn means_together(facts: &Facts, moves: bool) -> Means {
        Means {
            limit_rows: facts.class == Class::Session,
            timeout: true,
            read_only: !moves && !is_unparsed(facts),
            record_rows: true,
        }
    }

    /// Whether the command itself can commit on the way, outside of an explicit transaction.
    pub fn may_commit(facts: &Facts) -> bool {
        matches!(facts.verb.as_str(), "DO" | "CALL") || is_unparsed(facts)
    }

    /// What the client hears when the gateway has stopped the command.
    pub fn report(&self, stop: Stop) -> Report {
        let policies = &self.policies;
        match stop {
            Stop::Rows(limit) => Report::error(
                "54000",
                format!("stopped by policy: more than {limit} rows ({policies}); ask for fewer, with WHERE or LIMIT"),
            )
            .with_hint("What came before this error is not the whole result. There is no other route to this target."),
            Stop::Time(limit_ms) => Report::error(
                "57014",
                format!("stopped by policy: it ran for more than {limit_ms} ms ({policies}); ask for less at once"),
            )
            .with_hint("The target has cancelled it. There is no other route to this target."),
        }
    }
}

impl<P, H> Conversation<P, H> {
    /// The command that the target works on, and its time limit in milliseconds, if it has one.
    #[must_use]
    pub fn time_limit(&self) -> Option<(CommandKey, u64)> {
        let key = super::target::command_of(self.queue.front()?)?;
        let duty = self.commands.get(key)?.duty.as_ref()?;
        duty.stop.is_none().then_some((key, duty.obligations.timeout_ms?))
    }

    /// Its time is up.
    pub fn time_is_up(&mut self, key: CommandKey) {
        if let Some(duty) = self.commands.get_mut(key).and_then(|running| running.duty.as_mut())
            && let (None, Some(limit_ms)) = (duty.stop, duty.obligations.timeout_ms)
        {
            duty.stop = Some(Stop::Time(limit_ms));
            self.cancel_wanted = true;
        }
    }

    /// Nobody is there for the rows that come: what sends them is cancelled, as a target does by itself when it can't send.
    /// What has sent nothing yet runs on, as it does there.
    pub fn nobody_listens(&mut self) {
        let Some(key) = self.queue.front().and_then(command_of) else { return };
        let amid_rows = |running: &Running<P>| running.rows + running.copied > 0;
        if self.given_up != Some(key) && self.commands.get(key).is_some_and(amid_rows) {
            self.given_up = Some(key);
            self.cancel_wanted = true;
        }
    }

    /// Whether the target is to be told now to cancel what it does.
    pub const fn take_cancel(&mut self) -> bool {
        std::mem::replace(&mut self.cancel_wanted, false)
    }

    /// Whether nothing of the client's may go to the target before what is under way is answered.
    pub(super) fn is_alone(&mut self) -> bool {
        if self.alone.is_some_and(|key| self.commands.get(key).is_none() || self.is_skipped()) {
            self.alone = None;
        }
        self.alone.is_some() || self.ready_dropped || !self.upward.is_empty()
    }

    /// Whether the target skips what is sent now, up to a Sync: then there is no answer to wait for before that.
    pub(super) fn is_skipped(&self) -> bool {
        let syncs = |expected: &Expected| matches!(expected, Expected::Ready { sync: true, .. });
        self.skipping && !self.queue.iter().any(syncs)
    }

    /// What the gateway's own hand has to put before a message, for the duties of its commands.
    pub(super) fn before(&mut self, keys: &[CommandKey], simple: bool) -> Option<Vec<u8>> {
        let wants = |key: &CommandKey| {
            self.commands.get(*key).is_some_and(|running| {
                let needs = running.statement.known.facts().transaction.is_none();
                running.duty.as_ref().is_some_and(|duty| duty.obligations.read_only && needs)
            })
        };
        // In a transaction that has failed nothing runs anyway.
        if self.transaction == Transaction::Failed || !keys.iter().any(wants) {
            return None;
        }
        self.queue.push_back(Expected::Injected { simple });
        Some(read_only())
    }

    /// Lets nothing follow a command whose rows are limited, or that has something of the gateway's before it.
    pub(super) fn isolate(&mut self, key: CommandKey, injected: bool) {
        let limited = self
            .commands
            .get(key)
            .and_then(|running| running.duty.as_ref())
            .is_some_and(|duty| duty.obligations.limit_rows.is_some());
        if limited || injected {
            self.alone = Some(key);
        }
    }

    /// Whether a command's rows are limited.
    pub(super) fn is_limited(&self, key: CommandKey) -> bool {
        let duty = self.commands.get(key).and_then(|running| running.duty.as_ref());
        duty.is_some_and(|duty| duty.obligations.limit_rows.is_some())
    }
}

/// Whether a text was not taken apart: it may hold several statements, a COMMIT among them. Such a text may change any
/// setting, and only a `set_config` of a name that is not in the text may do so as well.
fn is_unparsed(facts: &Facts) -> bool {
    facts.verb == "UNKNOWN"
        || facts.settings.iter().any(|change| change.name == "*" && change.value.is_some())
}

/// Parse, Bind, Execute and Close, without a Sync.
fn read_only() -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    packet::put(&mut out, b'P', |out| {
        packet::put_cstr(out, NAME.as_bytes());
        packet::put_cstr(out, READ_ONLY.as_bytes());
        out.extend_from_slice(&[0, 0]);
    });
    packet::put(&mut out, b'B', |out| {
        packet::put_cstr(out, NAME.as_bytes());
        packet::put_cstr(out, NAME.as_bytes());
        out.extend_from_slice(&[0; 6]);
    });
    packet::put(&mut out, b'E', |out| {
        packet::put_cstr(out, NAME.as_bytes());
        out.extend_from_slice(&[0; 4]);
    });
    packet::put(&mut out, b'C', |out| {
        out.push(b'S');
        packet::put_cstr(out, NAME.as_bytes());
    });
    out
}

/// Turns DataRow messages into lines as COPY writes them (columns apart by tabs, `\N` for NULL), and follows the whole.
pub struct RowTap {
    cap: u64,
    kept: u64,
    total: u64,
    hash: Context,
    /// Lines that are not handed over yet.
    lines: Vec<u8>,
    at: At,
}

/// Where in a DataRow the tap is.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Tag and length, and how many columns: bytes that are still to come, the last two of which count.
    Head { left: u8, columns: u16 },
    /// A column's length: columns left, this one included; bytes of the length that are to come; its value so far.
    Length { columns: u16, left: u8, value: u32 },
    /// A column's bytes.
    Value { columns: u16, left: u32 },
    /// Tag and length of COPY data: bytes that are still to come, and the length so far.
    CopyHead { left: u8, length: u32 },
    /// COPY data.
    Copy { left: u32 },
}

const HEAD: At = At::Head { left: 7, columns: 0 };

impl std::fmt::Debug for RowTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowTap").field("cap", &self.cap).field("total", &self.total).finish_non_exhaustive()
    }
}

impl RowTap {
    fn new(cap: u64) -> Self {
        Self { cap, kept: 0, total: 0, hash: Context::new(&SHA256), lines: Vec::new(), at: HEAD }
    }

    /// The next message is COPY data, which is kept as it is.
    pub const fn copy_begins(&mut self) {
        self.at = At::CopyHead { left: 5, length: 0 };
    }

    /// Takes the next bytes of DataRow messages, headers included.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((&byte, rest)) = bytes.split_first() {
            self.at = match self.at {
                At::Value { columns, left } => {
                    let count = (left as usize).min(bytes.len());
                    let (value, after) = bytes.split_at(count);
                    self.value(value);
                    bytes = after;
                    let left = left - u32::try_from(count).unwrap_or(left);
                    if left == 0 { self.column_ends(columns) } else { At::Value { columns, left } }
                }
                At::CopyHead { left, length } => {
                    bytes = rest;
                    let length = if left == 5 { 0 } else { length << 8 | u32::from(byte) };
                    match (left, length.saturating_sub(4)) {
                        (1, 0) => HEAD,
                        (1, left) => At::Copy { left },
                        (left, _) => At::CopyHead { left: left - 1, length },
                    }
                }
                At::Copy { left } => {
                    let count = (left as usize).min(bytes.len());
                    let (data, after) = bytes.split_at(count);
                    self.push(data);
                    bytes = after;
                    match left - u32::try_from(count).unwrap_or(left) {
                        0 => HEAD,
                        left => At::Copy { left },
                    }
                }
                At::Head { left, columns } => {
                    bytes = rest;
                    let columns = if left <= 2 { columns << 8 | u16::from(byte) } else { 0 };
                    match (left, columns) {
                        (1, 0) => self.row_ends(),
                        (1, columns) => At::Length { columns, left: 4, value: 0 },
                        (left, columns) => At::Head { left: left - 1, columns },
                    }
                }
                At::Length { columns, left, value } => {
                    bytes = rest;
                    let value = value << 8 | u32::from(byte);
                    if left > 1 {
                        At::Length { columns, left: left - 1, value }
                    } else {
                        match value {
                            u32::MAX => {
                                self.push(b"\\N");
                                self.column_ends(columns)
                            }
                            0 => self.column_ends(columns),
                            left => At::Value { columns, left },
                        }
                    }
                }
            };
        }
    }

    fn column_ends(&mut self, columns: u16) -> At {
        if columns <= 1 {
            return self.row_ends();
        }
        self.push(b"\t");
        At::Length { columns: columns - 1, left: 4, value: 0 }
    }

    fn row_ends(&mut self) -> At {
        self.push(b"\n");
        HEAD
    }

    fn value(&mut self, value: &[u8]) {
        let mut rest = value;
        while let Some(place) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
            let (plain, special) = rest.split_at(place);
            self.push(plain);
            let Some((byte, after)) = special.split_first() else { break };
            self.push(match byte {
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                _ => b"\\\\",
            });
            rest = after;
        }
        self.push(rest);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.total += bytes.len() as u64;
        let room = usize::try_from(self.cap - self.kept).unwrap_or(usize::MAX).min(bytes.len());
        self.lines.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.kept += room as u64;
    }

    /// Lines, as far as they are to be kept, that were not handed over before.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    /// What was not kept, if anything.
    pub fn not_kept(self) -> Option<NotKept> {
        if self.total == self.kept {
            return None;
        }
        let digest = self.hash.finish();
        let mut sha256 = [0u8; 32];
        sha256.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Some(NotKept { bytes: self.total - self.kept, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        packet::message(b'D', |out| {
            out.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
            for value in values {
                match value {
                    None => out.extend_from_slice(&[0xff; 4]),
                    Some(bytes) => {
                        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
                        out.extend_from_slice(bytes);
                    }
                }
            }
        })
    }

    #[test]
    fn rows_read_as_copy_writes_them_however_they_are_cut() {
        let bytes =
            [row(&[Some(b"1"), None, Some(b"a\tb\\c")]), row(&[]), row(&[Some(b""), Some(b"x\ny")])].concat();
        for cut in 1..bytes.len() {
            let mut tap = RowTap::new(1_000);
            for part in bytes.chunks(cut) {
                tap.feed(part);
            }
            assert_eq!(tap.take(), b"1\t\\N\ta\\tb\\\\c\n\n\tx\\ny\n");
            assert_eq!(tap.not_kept(), None);
        }
    }

    #[test]
    fn copy_data_is_kept_as_it_is() {
        let data = |bytes: &[u8]| packet::message(b'd', |out| out.extend_from_slice(bytes));
        for cut in 1..12 {
            let mut tap = RowTap::new(1_000);
            for message in [data(b"1\tx\n"), data(b""), data(b"2\ty\n")] {
                tap.copy_begins();
                message.chunks(cut).for_each(|part| tap.feed(part));
            }
            tap.feed(&row(&[Some(b"z")]));
            assert_eq!(tap.take(), b"1\tx\n2\ty\nz\n");
        }
    }

    #[test]
    fn beyond_the_cap_the_hash_of_the_whole_is_kept() {
        let mut tap = RowTap::new(4);
        tap.feed(&row(&[Some(b"abcdef")]));
        assert_eq!(tap.take(), b"abcd");
        let left = tap.not_kept().unwrap();
        assert_eq!(left.bytes, 3);
        let whole = aws_lc_rs::digest::digest(&SHA256, b"abcdef\n");
        assert_eq!(left.sha256, whole.as_ref());
    }
}
