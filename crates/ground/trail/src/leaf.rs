//! The leaf: what the ledger holds of an entry. Small, canonical, and without any free text.
//!
//! A CBOR map (RFC 8949, section 4.2.1: definite lengths, shortest integers, keys in rising order) whose keys are small
//! integers; `docs/ledger-format.md` has the table. What a client, a target or an administrator wrote stands in the
//! payload, to which the leaf only holds commitments.

mod cbor;
mod sqlstate;
pub(crate) mod verb;

use vocabulary::{
    Class, CredentialId, EntryId, Kind, NodeId, PolicyHash, PrincipalId, PrincipalKind, ProvenBy, ReviewId,
    SessionId, Status, TargetId, TargetKind, Timestamp, Verdict,
};

use crate::EndReason;

pub use sqlstate::SqlState;

/// The version of the format that is written and read here.
pub(crate) const VERSION: u8 = 1;

/// Why bytes are not a leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LeafError(pub(crate) String);

/// A commitment to one payload field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commitment {
    /// Code of the field.
    pub field: u8,
    /// The HMAC.
    pub hmac: [u8; 32],
}

/// What is known of a command: leaves of kind `command` and `command.started`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandLeaf {
    /// What it does, at its most dangerous.
    pub class: Class,
    /// Code of its verb, if the verb is in the fixed list.
    pub verb: Option<u16>,
    /// What policy said.
    pub effect: Verdict,
    /// The policy in force.
    pub policy_hash: PolicyHash,
    /// The review that it hung on.
    pub review: Option<ReviewId>,
}

/// What came of a command: leaves of kind `command`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutcomeLeaf {
    /// Microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub status: Status,
    /// Whether the target ran it, if anybody can tell.
    pub executed: Option<bool>,
    /// Rows.
    pub rows: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// SQLSTATE, if the code is one that is known.
    pub code: Option<SqlState>,
    /// Exit status.
    pub exit: Option<i32>,
    /// Bytes of output that were not kept.
    pub not_kept: Option<u64>,
}

/// Who and where: leaves of kind `session.start`. Other leaves refer to it by the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StartLeaf {
    /// The gateway.
    pub node: Option<NodeId>,
    /// The principal; none in a node session.
    pub principal: Option<PrincipalId>,
    /// What sort of principal.
    pub principal_kind: Option<PrincipalKind>,
    /// Which credential.
    pub credential: Option<CredentialId>,
    /// How it was proven.
    pub proven_by: Option<ProvenBy>,
    /// The target; none in a node session.
    pub target: Option<TargetId>,
    /// Its protocol.
    pub target_kind: Option<TargetKind>,
}

/// Leaves of kind `session.end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndLeaf {
    /// Entries of the session, its first and this one included.
    pub entries: u64,
    /// Why it ended.
    pub reason: EndReason,
}

/// What was captured of one field. It is either whole in the entry's own payload, or whole in parts before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapturedLeaf {
    /// Code of the field.
    pub field: u8,
    /// Bytes in all.
    pub bytes: u64,
    /// How many parts it has, and the index of the last one's leaf; `None` if it is in the entry's own payload.
    pub parts: Option<(u64, u64)>,
}

/// Leaves of kind `capture`: one part of what was captured of a command. They have the command's own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartLeaf {
    /// Code of the field.
    pub field: u8,
    /// Which part, from 1.
    pub number: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Index of the leaf of the part before, but for the first.
    pub previous: Option<u64>,
}

/// The key slot of the vault that an entry's payload is sealed under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotLeaf {
    /// Its number.
    pub number: u32,
    /// If the entry is the first under it: what the slot says, as the SHA-256 of it.
    pub begun: Option<[u8; 32]>,
}

/// One entry as the ledger holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// What it tells of.
    pub kind: Kind,
    /// Its session.
    pub session: SessionId,
    /// Its place in the session. A `command.started` has the place of the command that it announces.
    pub seq: u64,
    /// When what it tells of began.
    pub at: Timestamp,
    /// For commands.
    pub command: Option<CommandLeaf>,
    /// For finished commands.
    pub outcome: Option<OutcomeLeaf>,
    /// For the first entry of a session.
    pub start: Option<StartLeaf>,
    /// For the last entry of a session.
    pub end: Option<EndLeaf>,
    /// The session that an event is about: the erased one.
    pub subject: Option<SessionId>,
    /// What was captured of the command, or of the session as a whole where it ends, by rising field code.
    pub captures: Vec<CapturedLeaf>,
    /// For a part of what was captured.
    pub part: Option<PartLeaf>,
    /// For an erasure: the slots of the vault whose keys it destroys, rising.
    pub erased: Vec<u32>,
    /// Whether its subject is put under a legal hold, or released.
    pub hold: Option<bool>,
    /// Where its key lies: known once it is sealed.
    pub slot: Option<SlotLeaf>,
    /// What the payload is committed to, by rising field code.
    pub commitments: Vec<Commitment>,
}

impl Leaf {
    /// A leaf that says only which entry it is.
    #[must_use]
    pub const fn new(kind: Kind, session: SessionId, seq: u64, at: Timestamp) -> Self {
        Self {
            kind,
            session,
            seq,
            at,
            command: None,
            outcome: None,
            start: None,
            end: None,
            subject: None,
            captures: Vec::new(),
            part: None,
            erased: Vec::new(),
            hold: None,
            slot: None,
            commitments: Vec::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> EntryId {
        EntryId { session: self.session, seq: self.seq }
    }

    /// When what it tells of was over.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        let duration = self.outcome.map_or(0, |outcome| outcome.duration_us);
        Timestamp(self.at.0.saturating_add(duration))
    }

    /// Appends the leaf's bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        cbor::encode(self, bytes);
    }

    /// Reads a leaf. Anything but the one canonical form is refused.
    ///
    /// # Errors
    /// [`LeafError`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        cbor::decode(bytes)
    }
}

/// The code of a way to prove who one is. Part of the format.
pub(crate) const fn proven_code(proven_by: ProvenBy) -> u8 {
    match proven_by {
        ProvenBy::ScramSha256 => 1,
        ProvenBy::ScramSha256Plus => 2,
        ProvenBy::TokenInTls => 3,
        ProvenBy::Bearer => 4,
        ProvenBy::ControlSocket => 5,
        ProvenBy::SshKey => 6,
        ProvenBy::SshCertificate => 7,
        ProvenBy::TokenInSsh => 8,
    }
}

pub(crate) const fn proven_from_code(code: u8) -> Option<ProvenBy> {
    match code {
        1 => Some(ProvenBy::ScramSha256),
        2 => Some(ProvenBy::ScramSha256Plus),
        3 => Some(ProvenBy::TokenInTls),
        4 => Some(ProvenBy::Bearer),
        5 => Some(ProvenBy::ControlSocket),
        6 => Some(ProvenBy::SshKey),
        7 => Some(ProvenBy::SshCertificate),
        8 => Some(ProvenBy::TokenInSsh),
        _ => None,
    }
}

const fn principal_kind_from_code(code: u8) -> Option<PrincipalKind> {
    match code {
        1 => Some(PrincipalKind::Agent),
        2 => Some(PrincipalKind::Person),
        3 => Some(PrincipalKind::Service),
        _ => None,
    }
}

fn target_kind_from_code(code: u8) -> Option<TargetKind> {
    TargetKind::from_code(code)
}

#[cfg(test)]
mod tests;
