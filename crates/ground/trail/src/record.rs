//! What the gateway writes into the journal, one record per frame, in the order in which it happened.
//!
//! Encoding appends to a [`journal::Batch`] and allocates nothing once the batch is warm; decoding borrows from the
//! frame. [`Intent`] and [`OutcomeRecord`] of one command carry the same session and sequence number; the sealer
//! joins them later, never the thread that serves the client.
//!
//! The bytes are those of postcard. New variants and new kinds are only ever added at the end: a journal written by an
//! older release must stay readable until it is sealed.

mod capture;
mod hot;
mod keeping;
mod params;

use journal::Batch;
use serde::{Deserialize, Serialize, Serializer};
use vocabulary::{
    Class, ClientInfo, Facts, Kind, NodeId, ReviewId, SessionId, Status, Timestamp, Where, Who,
};

pub use capture::{CAPTURE_RECORD_BYTES, Capture, CaptureField};
pub use keeping::{Keeping, KeepingAct};
pub use params::{Params, ParamsBuf};

/// Bytes that are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record of the journal could not be {0}; was it written by a newer release?")]
pub struct RecordError(&'static str, #[source] postcard::Error);

/// Anything that a journal frame can hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record<'a> {
    /// A client's session begins: it has proven who it is and its target answered.
    SessionStart(SessionStart),
    /// A command is about to leave for the target, or is refused.
    #[serde(borrow)]
    Intent(Intent<'a>),
    /// What came of a command.
    #[serde(borrow)]
    Outcome(OutcomeRecord<'a>),
    /// A session is over.
    SessionEnd(SessionEnd),
    /// Something else that the trail tells of.
    Event(Event),
    /// A gateway begins to run: the first record of its node session.
    NodeStart(NodeStart),
    /// A piece of what a command read or wrote.
    #[serde(borrow)]
    Capture(Capture<'a>),
    /// Payloads are to be erased, or to be held.
    Keeping(Keeping),
}

/// The first entry of a client's session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStart {
    /// The new session.
    pub session: SessionId,
    /// Always 1.
    pub seq: u64,
    /// When it was let in.
    pub at: Timestamp,
    /// The gateway that it came to.
    pub node: NodeId,
    /// Who it is.
    pub who: Who,
    /// What the client shows of itself.
    pub client: ClientInfo,
    /// Where its commands run.
    pub target: Where,
}

/// The first entry of a node session: one run of a gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStart {
    /// The new node session.
    pub session: SessionId,
    /// Always 1.
    pub seq: u64,
    /// When the gateway began to run.
    pub at: Timestamp,
    /// The gateway.
    pub node: NodeId,
    /// Its release: `0.1.0`.
    pub release: String,
}

/// A command before it leaves for the target. Borrows everything: building and encoding one allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent<'a> {
    /// The session it belongs to.
    pub session: SessionId,
    /// Its place in the session.
    pub seq: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// [`FactsRecord::encode`], made once per distinct statement.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub facts: &'a [u8],
    /// [`encode_decision`], made once per distinct decision.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub decision: &'a [u8],
    /// The command as it was sent; may be invalid UTF-8.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub text: &'a [u8],
    /// Its parameters: [`ParamsBuf::as_bytes`]. Empty if it has none.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub params: &'a [u8],
}

/// What came of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutcomeRecord<'a> {
    /// The session it belongs to.
    pub session: SessionId,
    /// The command's place in the session.
    pub seq: u64,
    /// When the outcome was known.
    pub at: Timestamp,
    /// Microseconds from the command's arrival to its outcome, by the monotonic clock.
    pub duration_us: u64,
    /// How it ended.
    pub status: Status,
    /// Whether the target ran it; `None` where nobody can tell any more.
    pub executed: Option<bool>,
    /// Rows returned, affected or copied.
    pub rows: Option<u64>,
    /// Bytes from the client, framing included.
    pub bytes_in: u64,
    /// Bytes to the client, framing included.
    pub bytes_out: u64,
    /// The protocol's own code: SQLSTATE for SQL.
    #[serde(borrow)]
    pub code: Option<&'a str>,
    /// The target's or the gateway's message.
    #[serde(borrow)]
    pub message: Option<&'a str>,
    /// Exit status of a program.
    pub exit: Option<i32>,
    /// What a cap on captured output left out.
    pub not_kept: Option<NotKept>,
}

impl OutcomeRecord<'_> {
    /// An outcome with a status and nothing counted.
    #[must_use]
    pub const fn bare(session: SessionId, seq: u64, at: Timestamp, status: Status) -> Self {
        Self {
            session,
            seq,
            at,
            duration_us: 0,
            status,
            executed: None,
            rows: None,
            bytes_in: 0,
            bytes_out: 0,
            code: None,
            message: None,
            exit: None,
            not_kept: None,
        }
    }
}

/// Output that a configured cap kept out of the trail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NotKept {
    /// How many bytes were left out.
    pub bytes: u64,
    /// SHA-256 of the whole output, what was kept included.
    pub sha256: [u8; 32],
}

/// The last entry of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session that is over.
    pub session: SessionId,
    /// Its last place.
    pub seq: u64,
    /// When it ended.
    pub at: Timestamp,
    /// How many entries the session has, this one and the first included; equal to `seq`.
    pub entries: u64,
    /// Why it ended.
    pub reason: EndReason,
    /// More about it, for people.
    pub detail: Option<String>,
}

/// Why a session ended. Codes are part of the leaf format and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum EndReason {
    /// The client went away.
    Client = 1,
    /// The target went away.
    Target = 2,
    /// An administrator took the right away.
    Revoked = 3,
    /// One side broke the protocol.
    Protocol = 4,
    /// The gateway was stopped.
    Shutdown = 5,
    /// The gateway died; written when it ran again.
    Crash = 6,
}

impl EndReason {
    /// Every reason, in the order of its code.
    pub const ALL: [Self; 6] =
        [Self::Client, Self::Target, Self::Revoked, Self::Protocol, Self::Shutdown, Self::Crash];

    /// The code in a leaf.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason that a leaf's code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Revoked => "revoked",
            Self::Protocol => "protocol",
            Self::Shutdown => "shutdown",
            Self::Crash => "crash",
        }
    }
}

/// An entry that is neither a command nor the edge of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The session it belongs to: a client's, or the node session.
    pub session: SessionId,
    /// Its place in the session.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What it tells of.
    pub kind: Kind,
    /// Who did it, if anybody is known to.
    pub actor: Option<Who>,
    /// From where.
    pub client: Option<ClientInfo>,
    /// The session that the event is about, other than its own: the erased one.
    pub subject: Option<SessionId>,
    /// Details as a JSON object; `{}` if there are none.
    pub what: String,
}

/// What is known of a command without running it, as far as the trail keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FactsRecord {
    /// The command's own word in upper case.
    pub verb: String,
    /// The most dangerous thing it does.
    pub class: Class,
    /// Names of the objects it names.
    pub objects: Vec<String>,
}

impl FactsRecord {
    /// The facts as [`Intent::facts`] carries them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_vec(self)
    }

    /// Reads [`Intent::facts`].
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are no facts.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes)
    }
}

impl From<&Facts> for FactsRecord {
    fn from(facts: &Facts) -> Self {
        let mut objects: Vec<String> = facts.objects.iter().map(|object| object.name.clone()).collect();
        objects.dedup();
        Self { verb: facts.verb.clone(), class: facts.class, objects }
    }
}

/// A decision as [`Intent::decision`] carries it.
#[must_use]
pub fn encode_decision(decision: &vocabulary::Decision) -> Vec<u8> {
    to_vec(decision)
}

/// A decision that hung on a review: the encoded decision, and the review behind it.
#[must_use]
pub fn reviewed(decision: &[u8], review: ReviewId) -> Vec<u8> {
    [decision, review.as_bytes()].concat()
}

/// Reads [`Intent::decision`], and the review that it hung on.
///
/// # Errors
/// [`RecordError`] if the bytes are no decision.
pub fn decode_decision(bytes: &[u8]) -> Result<(vocabulary::Decision, Option<ReviewId>), RecordError> {
    let (decision, rest) = postcard::take_from_bytes(bytes).map_err(|source| RecordError("read", source))?;
    match <[u8; 16]>::try_from(rest) {
        Ok(review) => Ok((decision, Some(ReviewId::from_bytes(review)))),
        Err(_) if rest.is_empty() => Ok((decision, None)),
        Err(_) => Err(RecordError("read to its end", postcard::Error::DeserializeBadEncoding)),
    }
}

impl<'a> Record<'a> {
    /// Adds the record to a batch.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be encoded; the batch is then as it was before.
    pub fn encode(&self, batch: &mut Batch) -> Result<(), RecordError> {
        batch.try_push(|buffer| self.encode_into(buffer))
    }

    /// Appends the record's bytes to a buffer. Allocates nothing but the buffer's growth.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be encoded.
    pub fn encode_into(&self, buffer: &mut Vec<u8>) -> Result<(), RecordError> {
        append(self, buffer)
    }

    /// Reads the record of one frame, borrowing from it.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are no record, or more than one.
    pub fn decode(frame: &'a [u8]) -> Result<Self, RecordError> {
        hot::read(frame).map_or_else(|| read(frame), Ok)
    }

    /// The session that the record belongs to.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        match self {
            Self::SessionStart(record) => record.session,
            Self::Intent(record) => record.session,
            Self::Outcome(record) => record.session,
            Self::SessionEnd(record) => record.session,
            Self::Event(record) => record.session,
            Self::NodeStart(record) => record.session,
            Self::Capture(record) => record.session,
            Self::Keeping(record) => record.event.session,
        }
    }

    /// The place in the session.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::SessionStart(record) => record.seq,
            Self::Intent(record) => record.seq,
            Self::Outcome(record) => record.seq,
            Self::SessionEnd(record) => record.seq,
            Self::Event(record) => record.seq,
            Self::NodeStart(record) => record.seq,
            Self::Capture(record) => record.seq,
            Self::Keeping(record) => record.event.seq,
        }
    }
}

impl Intent<'_> {
    /// Adds the intent to a batch.
    ///
    /// # Errors
    /// None today; callers must refuse the command if there is one.
    pub fn encode(&self, batch: &mut Batch) -> Result<(), RecordError> {
        batch.push(|buffer| hot::intent(self, buffer));
        Ok(())
    }
}

impl OutcomeRecord<'_> {
    /// Adds the outcome to a batch.
    ///
    /// # Errors
    /// None today; callers must not release the outcome if there is one.
    pub fn encode(&self, batch: &mut Batch) -> Result<(), RecordError> {
        batch.push(|buffer| hot::outcome(self, buffer));
        Ok(())
    }
}

impl<'a> From<Intent<'a>> for Record<'a> {
    fn from(record: Intent<'a>) -> Self {
        Self::Intent(record)
    }
}

impl<'a> From<Capture<'a>> for Record<'a> {
    fn from(record: Capture<'a>) -> Self {
        Self::Capture(record)
    }
}

impl<'a> From<OutcomeRecord<'a>> for Record<'a> {
    fn from(record: OutcomeRecord<'a>) -> Self {
        Self::Outcome(record)
    }
}

macro_rules! from_owned {
    ($($record:ident),*) => {
        $(impl From<$record> for Record<'_> {
            fn from(record: $record) -> Self {
                Self::$record(record)
            }
        })*
    };
}

from_owned!(SessionStart, SessionEnd, Event, NodeStart, Keeping);

/// Serde would write `&[u8]` element by element.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Lets postcard append to a buffer that already holds other records.
struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

pub(crate) fn append<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<(), RecordError> {
    postcard::serialize_with_flavor(value, Appender(buffer)).map_err(|source| RecordError("written", source))
}

/// For types without maps or sequences of unknown length, which is all that postcard can refuse to write.
fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    if append(value, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|source| RecordError("read", source))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(RecordError("read to its end", postcard::Error::DeserializeBadEncoding))
    }
}

#[cfg(test)]
mod tests;
