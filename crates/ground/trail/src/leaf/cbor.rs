//! The leaf's bytes.

use std::convert::Infallible;

use minicbor::{Decoder, Encoder, decode::Error as DecodeError, encode::Error as EncodeError};
use vocabulary::{
    Class, CredentialId, Kind, NodeId, PolicyHash, PrincipalId, SessionId, Status, TargetId, Timestamp,
    Verdict,
};

use super::{
    CommandLeaf, Commitment, EndLeaf, Leaf, LeafError, OutcomeLeaf, SqlState, StartLeaf, VERSION,
    principal_kind_from_code, proven_code, proven_from_code, target_kind_from_code,
};
use crate::EndReason;

/// The keys. Never reused for something else; 17 is kept for reviews.
mod key {
    pub const VERSION: u8 = 0;
    pub const KIND: u8 = 1;
    pub const SESSION: u8 = 2;
    pub const SEQ: u8 = 3;
    pub const AT: u8 = 4;
    pub const DURATION: u8 = 5;
    pub const CLASS: u8 = 6;
    pub const VERB: u8 = 7;
    pub const STATUS: u8 = 8;
    pub const EXECUTED: u8 = 9;
    pub const ROWS: u8 = 10;
    pub const BYTES_IN: u8 = 11;
    pub const BYTES_OUT: u8 = 12;
    pub const CODE: u8 = 13;
    pub const EXIT: u8 = 14;
    pub const EFFECT: u8 = 15;
    pub const POLICY_HASH: u8 = 16;
    pub const NOT_KEPT: u8 = 18;
    pub const COMMITMENTS: u8 = 19;
    pub const NODE: u8 = 20;
    pub const PRINCIPAL: u8 = 21;
    pub const PRINCIPAL_KIND: u8 = 22;
    pub const CREDENTIAL: u8 = 23;
    pub const PROVEN_BY: u8 = 24;
    pub const TARGET: u8 = 25;
    pub const TARGET_KIND: u8 = 26;
    pub const ENTRIES: u8 = 27;
    pub const REASON: u8 = 28;
    pub const SUBJECT: u8 = 29;
}

/// Writes the pairs that are there, and counts them.
struct Pairs<'a> {
    encoder: Encoder<&'a mut Vec<u8>>,
    count: u8,
}

type Written = Result<(), EncodeError<Infallible>>;

impl Pairs<'_> {
    fn number(&mut self, key: u8, value: Option<u64>) -> Written {
        if let Some(value) = value {
            self.encoder.u8(key)?.u64(value)?;
            self.count += 1;
        }
        Ok(())
    }

    fn bytes(&mut self, key: u8, value: Option<&[u8]>) -> Written {
        if let Some(value) = value {
            self.encoder.u8(key)?.bytes(value)?;
            self.count += 1;
        }
        Ok(())
    }
}

/// More pairs than fit the one byte of a short map head are never written.
const SHORT_MAP: u8 = 0xa0;
const LONG_MAP: [u8; 2] = [0xb8, 0];

pub(super) fn encode(leaf: &Leaf, bytes: &mut Vec<u8>) -> Written {
    // A short map's head has one byte, a long one's two: which it is shows at the end.
    let head = bytes.len();
    bytes.extend_from_slice(&LONG_MAP);
    let mut pairs = Pairs { encoder: Encoder::new(&mut *bytes), count: 0 };
    pairs.number(key::VERSION, Some(u64::from(VERSION)))?;
    pairs.number(key::KIND, Some(u64::from(leaf.kind.code())))?;
    pairs.bytes(key::SESSION, Some(leaf.session.as_bytes()))?;
    pairs.number(key::SEQ, Some(leaf.seq))?;
    pairs.number(key::AT, Some(leaf.at.0))?;
    let (command, outcome) = (leaf.command, leaf.outcome);
    pairs.number(key::DURATION, outcome.map(|outcome| outcome.duration_us))?;
    pairs.number(key::CLASS, command.map(|command| u64::from(command.class.code())))?;
    pairs.number(key::VERB, command.and_then(|command| command.verb).map(u64::from))?;
    if let Some(outcome) = outcome {
        encode_outcome(&mut pairs, &outcome)?;
    }
    if let Some(command) = command {
        pairs.number(key::EFFECT, Some(u64::from(command.effect.code())))?;
        pairs.bytes(key::POLICY_HASH, Some(&command.policy_hash.0))?;
    }
    pairs.number(key::NOT_KEPT, outcome.and_then(|outcome| outcome.not_kept))?;
    if !leaf.commitments.is_empty() {
        pairs.encoder.u8(key::COMMITMENTS)?.map(leaf.commitments.len() as u64)?;
        for commitment in &leaf.commitments {
            pairs.encoder.u8(commitment.field)?.bytes(&commitment.hmac)?;
        }
        pairs.count += 1;
    }
    if let Some(start) = leaf.start {
        pairs.bytes(key::NODE, start.node.as_ref().map(|id| id.as_bytes().as_slice()))?;
        pairs.bytes(key::PRINCIPAL, start.principal.as_ref().map(|id| id.as_bytes().as_slice()))?;
        pairs.number(key::PRINCIPAL_KIND, start.principal_kind.map(|kind| kind as u64))?;
        pairs.bytes(key::CREDENTIAL, start.credential.as_ref().map(|id| id.as_bytes().as_slice()))?;
        pairs.number(key::PROVEN_BY, start.proven_by.map(|proven| u64::from(proven_code(proven))))?;
        pairs.bytes(key::TARGET, start.target.as_ref().map(|id| id.as_bytes().as_slice()))?;
        pairs.number(key::TARGET_KIND, start.target_kind.map(|kind| kind as u64))?;
    }
    pairs.number(key::ENTRIES, leaf.end.map(|end| end.entries))?;
    pairs.number(key::REASON, leaf.end.map(|end| u64::from(end.reason.code())))?;
    pairs.bytes(key::SUBJECT, leaf.subject.as_ref().map(|id| id.as_bytes().as_slice()))?;
    let count = pairs.count;
    if count < 24 {
        bytes.remove(head);
        if let Some(place) = bytes.get_mut(head) {
            *place = SHORT_MAP | count;
        }
    } else if let Some(place) = bytes.get_mut(head + 1) {
        *place = count;
    }
    Ok(())
}

fn encode_outcome(pairs: &mut Pairs<'_>, outcome: &OutcomeLeaf) -> Written {
    pairs.number(key::STATUS, Some(u64::from(outcome.status.code())))?;
    if let Some(executed) = outcome.executed {
        pairs.encoder.u8(key::EXECUTED)?.bool(executed)?;
        pairs.count += 1;
    }
    pairs.number(key::ROWS, outcome.rows)?;
    pairs.number(key::BYTES_IN, Some(outcome.bytes_in))?;
    pairs.number(key::BYTES_OUT, Some(outcome.bytes_out))?;
    if let Some(code) = &outcome.code {
        pairs.encoder.u8(key::CODE)?.str(code.as_str())?;
        pairs.count += 1;
    }
    if let Some(exit) = outcome.exit {
        pairs.encoder.u8(key::EXIT)?.i32(exit)?;
        pairs.count += 1;
    }
    Ok(())
}

/// Every value that a leaf can have, as read.
#[derive(Default)]
struct Read {
    version: Option<u8>,
    kind: Option<u8>,
    session: Option<SessionId>,
    seq: Option<u64>,
    at: Option<u64>,
    duration_us: Option<u64>,
    class: Option<u8>,
    verb: Option<u16>,
    status: Option<u8>,
    executed: Option<bool>,
    rows: Option<u64>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    code: Option<SqlState>,
    exit: Option<i32>,
    effect: Option<u8>,
    policy_hash: Option<PolicyHash>,
    not_kept: Option<u64>,
    commitments: Vec<Commitment>,
    start: Option<StartLeaf>,
    entries: Option<u64>,
    reason: Option<u8>,
    subject: Option<SessionId>,
}

fn id(decoder: &mut Decoder<'_>) -> Result<[u8; 16], DecodeError> {
    decoder.bytes()?.try_into().map_err(|_| DecodeError::message("an id has 16 bytes"))
}

fn hash(decoder: &mut Decoder<'_>) -> Result<[u8; 32], DecodeError> {
    decoder.bytes()?.try_into().map_err(|_| DecodeError::message("a hash has 32 bytes"))
}

fn read(bytes: &[u8]) -> Result<Read, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let indefinite = || DecodeError::message("a map of unknown length");
    let mut read = Read::default();
    for _ in 0..decoder.map()?.ok_or_else(indefinite)? {
        let key = decoder.u8()?;
        let start = read.start.get_or_insert_default();
        match key {
            key::VERSION => read.version = Some(decoder.u8()?),
            key::KIND => read.kind = Some(decoder.u8()?),
            key::SESSION => read.session = Some(SessionId::from_bytes(id(&mut decoder)?)),
            key::SEQ => read.seq = Some(decoder.u64()?),
            key::AT => read.at = Some(decoder.u64()?),
            key::DURATION => read.duration_us = Some(decoder.u64()?),
            key::CLASS => read.class = Some(decoder.u8()?),
            key::VERB => read.verb = Some(decoder.u16()?),
            key::STATUS => read.status = Some(decoder.u8()?),
            key::EXECUTED => read.executed = Some(decoder.bool()?),
            key::ROWS => read.rows = Some(decoder.u64()?),
            key::BYTES_IN => read.bytes_in = Some(decoder.u64()?),
            key::BYTES_OUT => read.bytes_out = Some(decoder.u64()?),
            key::CODE => {
                let code = SqlState::new(decoder.str()?);
                read.code = Some(code.ok_or_else(|| DecodeError::message("a code that is no SQLSTATE"))?);
            }
            key::EXIT => read.exit = Some(decoder.i32()?),
            key::EFFECT => read.effect = Some(decoder.u8()?),
            key::POLICY_HASH => read.policy_hash = Some(PolicyHash(hash(&mut decoder)?)),
            key::NOT_KEPT => read.not_kept = Some(decoder.u64()?),
            key::COMMITMENTS => {
                for _ in 0..decoder.map()?.ok_or_else(indefinite)? {
                    read.commitments.push(Commitment { field: decoder.u8()?, hmac: hash(&mut decoder)? });
                }
            }
            key::NODE => start.node = Some(NodeId::from_bytes(id(&mut decoder)?)),
            key::PRINCIPAL => start.principal = Some(PrincipalId::from_bytes(id(&mut decoder)?)),
            key::PRINCIPAL_KIND => start.principal_kind = principal_kind_from_code(decoder.u8()?),
            key::CREDENTIAL => start.credential = Some(CredentialId::from_bytes(id(&mut decoder)?)),
            key::PROVEN_BY => start.proven_by = proven_from_code(decoder.u8()?),
            key::TARGET => start.target = Some(TargetId::from_bytes(id(&mut decoder)?)),
            key::TARGET_KIND => start.target_kind = target_kind_from_code(decoder.u8()?),
            key::ENTRIES => read.entries = Some(decoder.u64()?),
            key::REASON => read.reason = Some(decoder.u8()?),
            key::SUBJECT => read.subject = Some(SessionId::from_bytes(id(&mut decoder)?)),
            _ => return Err(DecodeError::message("a key that this release does not know")),
        }
    }
    Ok(read)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Leaf, LeafError> {
    let read = read(bytes).map_err(|error| LeafError(format!("it is not a leaf: {error}")))?;
    let missing = |what| move || LeafError(format!("it has no valid {what}"));
    if read.version != Some(VERSION) {
        return Err(LeafError("it is of another version of the format".to_owned()));
    }
    let kind = read.kind.and_then(Kind::from_code).ok_or_else(missing("kind"))?;
    let mut leaf = Leaf::new(
        kind,
        read.session.ok_or_else(missing("session"))?,
        read.seq.ok_or_else(missing("sequence number"))?,
        Timestamp(read.at.ok_or_else(missing("time"))?),
    );
    if matches!(kind, Kind::Command | Kind::CommandStarted) {
        leaf.command = Some(CommandLeaf {
            class: read.class.and_then(Class::from_code).ok_or_else(missing("class"))?,
            verb: read.verb,
            effect: read.effect.and_then(Verdict::from_code).ok_or_else(missing("decision"))?,
            policy_hash: read.policy_hash.ok_or_else(missing("policy hash"))?,
        });
    }
    if kind == Kind::Command {
        leaf.outcome = Some(OutcomeLeaf {
            duration_us: read.duration_us.ok_or_else(missing("duration"))?,
            status: read.status.and_then(Status::from_code).ok_or_else(missing("status"))?,
            executed: read.executed,
            rows: read.rows,
            bytes_in: read.bytes_in.ok_or_else(missing("count of bytes"))?,
            bytes_out: read.bytes_out.ok_or_else(missing("count of bytes"))?,
            code: read.code,
            exit: read.exit,
            not_kept: read.not_kept,
        });
    }
    if kind == Kind::SessionStart {
        leaf.start = read.start;
    }
    if kind == Kind::SessionEnd {
        leaf.end = Some(EndLeaf {
            entries: read.entries.ok_or_else(missing("count of entries"))?,
            reason: read.reason.and_then(EndReason::from_code).ok_or_else(missing("reason"))?,
        });
    }
    leaf.subject = read.subject;
    leaf.commitments = read.commitments;
    // What is written another way, twice, out of order, or where its kind has no place for it, is not a leaf.
    let mut canonical = Vec::with_capacity(bytes.len());
    leaf.encode(&mut canonical)?;
    if canonical != bytes {
        return Err(LeafError("it is not in the one form that a leaf is written in".to_owned()));
    }
    Ok(leaf)
}
