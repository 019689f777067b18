//! The leaf's bytes.

use minicbor::{Decoder, decode::Error as DecodeError};
use vocabulary::{
    Class, CredentialId, Kind, NodeId, PolicyHash, PrincipalId, ReviewId, SessionId, Status, TargetId,
    Timestamp, Verdict,
};

use super::{
    CapturedLeaf, CommandLeaf, Commitment, EndLeaf, Leaf, LeafError, OutcomeLeaf, PartLeaf, SlotLeaf,
    SqlState, StartLeaf, VERSION, principal_kind_from_code, proven_code, proven_from_code,
    target_kind_from_code,
};
use crate::EndReason;

/// The keys. Never reused for something else.
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
    pub const REVIEW: u8 = 17;
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
    pub const CAPTURES: u8 = 30;
    pub const PART_FIELD: u8 = 31;
    pub const PART_NUMBER: u8 = 32;
    pub const PART_BYTES: u8 = 33;
    pub const PART_PREVIOUS: u8 = 34;
    pub const ERASED: u8 = 35;
    pub const HOLD: u8 = 36;
    pub const SLOT: u8 = 37;
    pub const SLOT_BEGUN: u8 = 38;
}

/// Writes the pairs that are there, and counts them. By hand: a leaf is written for every command, and through an
/// encoder made for all of CBOR that costs three times as much. What reads it is such a one.
struct Pairs<'a> {
    bytes: &'a mut Vec<u8>,
    count: u8,
}

/// Major types of CBOR (RFC 8949, section 3.1), in the high three bits of a head.
mod major {
    pub const UNSIGNED: u8 = 0 << 5;
    pub const NEGATIVE: u8 = 1 << 5;
    pub const BYTES: u8 = 2 << 5;
    pub const TEXT: u8 = 3 << 5;
    pub const ARRAY: u8 = 4 << 5;
    pub const MAP: u8 = 5 << 5;
    pub const SIMPLE: u8 = 7 << 5;
}

/// The simple values false and true.
const FALSE: u64 = 20;
const TRUE: u64 = 21;

impl Pairs<'_> {
    /// A head in its shortest form.
    #[inline]
    fn head(&mut self, major: u8, value: u64) {
        let bytes = value.to_be_bytes();
        let [.., lowest] = bytes;
        // Most are of one byte: keys, codes, short lengths.
        if value < 24 {
            self.bytes.push(major | lowest);
        } else {
            self.long_head(major, value, bytes);
        }
    }

    fn long_head(&mut self, major: u8, value: u64, bytes: [u8; 8]) {
        let (length, argument) = match value {
            0..=0xff => (1, 24),
            0x100..=0xffff => (2, 25),
            0x1_0000..=0xffff_ffff => (4, 26),
            _ => (8, 27),
        };
        self.bytes.push(major | argument);
        self.bytes.extend_from_slice(bytes.get(8 - length..).unwrap_or_default());
    }

    fn key(&mut self, key: u8) {
        self.head(major::UNSIGNED, u64::from(key));
        self.count += 1;
    }

    fn string(&mut self, major: u8, value: &[u8]) {
        self.head(major, value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    fn number(&mut self, key: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            self.head(major::UNSIGNED, value);
        }
    }

    fn bytes(&mut self, key: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.key(key);
            self.string(major::BYTES, value);
        }
    }
}

/// More pairs than fit the one byte of a short map head are never written.
const SHORT_MAP: u8 = major::MAP;
const LONG_MAP: [u8; 2] = [0xb8, 0];

pub(super) fn encode(leaf: &Leaf, bytes: &mut Vec<u8>) {
    // A short map's head has one byte, a long one's two: which it is shows at the end.
    let head = bytes.len();
    bytes.extend_from_slice(&LONG_MAP);
    let mut pairs = Pairs { bytes: &mut *bytes, count: 0 };
    pairs.number(key::VERSION, Some(u64::from(VERSION)));
    pairs.number(key::KIND, Some(u64::from(leaf.kind.code())));
    pairs.bytes(key::SESSION, Some(leaf.session.as_bytes()));
    pairs.number(key::SEQ, Some(leaf.seq));
    pairs.number(key::AT, Some(leaf.at.0));
    let (command, outcome) = (leaf.command, leaf.outcome);
    pairs.number(key::DURATION, outcome.map(|outcome| outcome.duration_us));
    pairs.number(key::CLASS, command.map(|command| u64::from(command.class.code())));
    pairs.number(key::VERB, command.and_then(|command| command.verb).map(u64::from));
    if let Some(outcome) = outcome {
        encode_outcome(&mut pairs, &outcome);
    }
    if let Some(command) = command {
        pairs.number(key::EFFECT, Some(u64::from(command.effect.code())));
        pairs.bytes(key::POLICY_HASH, Some(&command.policy_hash.0));
        pairs.bytes(key::REVIEW, command.review.as_ref().map(|id| id.as_bytes().as_slice()));
    }
    pairs.number(key::NOT_KEPT, outcome.and_then(|outcome| outcome.not_kept));
    if !leaf.commitments.is_empty() {
        pairs.key(key::COMMITMENTS);
        pairs.head(major::MAP, leaf.commitments.len() as u64);
        for commitment in &leaf.commitments {
            pairs.head(major::UNSIGNED, u64::from(commitment.field));
            pairs.string(major::BYTES, &commitment.hmac);
        }
    }
    if let Some(start) = leaf.start {
        pairs.bytes(key::NODE, start.node.as_ref().map(|id| id.as_bytes().as_slice()));
        pairs.bytes(key::PRINCIPAL, start.principal.as_ref().map(|id| id.as_bytes().as_slice()));
        pairs.number(key::PRINCIPAL_KIND, start.principal_kind.map(|kind| kind as u64));
        pairs.bytes(key::CREDENTIAL, start.credential.as_ref().map(|id| id.as_bytes().as_slice()));
        pairs.number(key::PROVEN_BY, start.proven_by.map(|proven| u64::from(proven_code(proven))));
        pairs.bytes(key::TARGET, start.target.as_ref().map(|id| id.as_bytes().as_slice()));
        pairs.number(key::TARGET_KIND, start.target_kind.map(|kind| kind as u64));
    }
    pairs.number(key::ENTRIES, leaf.end.map(|end| end.entries));
    pairs.number(key::REASON, leaf.end.map(|end| u64::from(end.reason.code())));
    pairs.bytes(key::SUBJECT, leaf.subject.as_ref().map(|id| id.as_bytes().as_slice()));
    encode_captures(&mut pairs, leaf);
    pairs.number(key::SLOT, leaf.slot.map(|slot| u64::from(slot.number)));
    pairs.bytes(key::SLOT_BEGUN, leaf.slot.as_ref().and_then(|slot| Some(slot.begun.as_ref()?.as_slice())));
    let count = pairs.count;
    if count < 24 {
        bytes.remove(head);
        if let Some(place) = bytes.get_mut(head) {
            *place = SHORT_MAP | count;
        }
    } else if let Some(place) = bytes.get_mut(head + 1) {
        *place = count;
    }
}

fn encode_outcome(pairs: &mut Pairs<'_>, outcome: &OutcomeLeaf) {
    pairs.number(key::STATUS, Some(u64::from(outcome.status.code())));
    if let Some(executed) = outcome.executed {
        pairs.key(key::EXECUTED);
        pairs.head(major::SIMPLE, if executed { TRUE } else { FALSE });
    }
    pairs.number(key::ROWS, outcome.rows);
    pairs.number(key::BYTES_IN, Some(outcome.bytes_in));
    pairs.number(key::BYTES_OUT, Some(outcome.bytes_out));
    if let Some(code) = &outcome.code {
        pairs.key(key::CODE);
        pairs.string(major::TEXT, code.as_str().as_bytes());
    }
    if let Some(exit) = outcome.exit {
        pairs.key(key::EXIT);
        // −1 − n, for what is negative: all bits but the sign's turned over.
        let (major, value) = if exit < 0 { (major::NEGATIVE, !exit) } else { (major::UNSIGNED, exit) };
        pairs.head(major, u64::from(value.cast_unsigned()));
    }
}

fn encode_captures(pairs: &mut Pairs<'_>, leaf: &Leaf) {
    if !leaf.captures.is_empty() {
        pairs.key(key::CAPTURES);
        pairs.head(major::MAP, leaf.captures.len() as u64);
        for captured in &leaf.captures {
            pairs.head(major::UNSIGNED, u64::from(captured.field));
            pairs.head(major::ARRAY, if captured.parts.is_some() { 3 } else { 1 });
            pairs.head(major::UNSIGNED, captured.bytes);
            if let Some((parts, last)) = captured.parts {
                pairs.head(major::UNSIGNED, parts);
                pairs.head(major::UNSIGNED, last);
            }
        }
    }
    if let Some(part) = leaf.part {
        pairs.number(key::PART_FIELD, Some(u64::from(part.field)));
        pairs.number(key::PART_NUMBER, Some(part.number));
        pairs.number(key::PART_BYTES, Some(part.bytes));
        pairs.number(key::PART_PREVIOUS, part.previous);
    }
    if !leaf.erased.is_empty() {
        pairs.key(key::ERASED);
        pairs.head(major::ARRAY, leaf.erased.len() as u64);
        for slot in &leaf.erased {
            pairs.head(major::UNSIGNED, u64::from(*slot));
        }
    }
    if let Some(hold) = leaf.hold {
        pairs.key(key::HOLD);
        pairs.head(major::SIMPLE, if hold { TRUE } else { FALSE });
    }
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
    review: Option<ReviewId>,
    not_kept: Option<u64>,
    commitments: Vec<Commitment>,
    start: Option<StartLeaf>,
    entries: Option<u64>,
    reason: Option<u8>,
    subject: Option<SessionId>,
    captures: Vec<CapturedLeaf>,
    part_field: Option<u8>,
    part_number: Option<u64>,
    part_bytes: Option<u64>,
    part_previous: Option<u64>,
    erased: Vec<u32>,
    hold: Option<bool>,
    slot: Option<u32>,
    slot_begun: Option<[u8; 32]>,
}

fn captured(decoder: &mut Decoder<'_>) -> Result<CapturedLeaf, DecodeError> {
    let field = decoder.u8()?;
    let length = decoder.array()?;
    let bytes = decoder.u64()?;
    let parts = match length {
        Some(1) => None,
        Some(3) => Some((decoder.u64()?, decoder.u64()?)),
        _ => return Err(DecodeError::message("a captured field has one number or three")),
    };
    Ok(CapturedLeaf { field, bytes, parts })
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
                let code = SqlState::parse(decoder.str()?);
                read.code = Some(code.ok_or_else(|| DecodeError::message("a code that is no SQLSTATE"))?);
            }
            key::EXIT => read.exit = Some(decoder.i32()?),
            key::EFFECT => read.effect = Some(decoder.u8()?),
            key::POLICY_HASH => read.policy_hash = Some(PolicyHash(hash(&mut decoder)?)),
            key::REVIEW => read.review = Some(ReviewId::from_bytes(id(&mut decoder)?)),
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
            key::CAPTURES => {
                for _ in 0..decoder.map()?.ok_or_else(indefinite)? {
                    read.captures.push(captured(&mut decoder)?);
                }
            }
            key::PART_FIELD => read.part_field = Some(decoder.u8()?),
            key::PART_NUMBER => read.part_number = Some(decoder.u64()?),
            key::PART_BYTES => read.part_bytes = Some(decoder.u64()?),
            key::PART_PREVIOUS => read.part_previous = Some(decoder.u64()?),
            key::ERASED => {
                for _ in 0..decoder.array()?.ok_or_else(indefinite)? {
                    read.erased.push(decoder.u32()?);
                }
            }
            key::HOLD => read.hold = Some(decoder.bool()?),
            key::SLOT => read.slot = Some(decoder.u32()?),
            key::SLOT_BEGUN => read.slot_begun = Some(hash(&mut decoder)?),
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
            review: read.review,
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
    if kind == Kind::Capture {
        leaf.part = Some(PartLeaf {
            field: read.part_field.ok_or_else(missing("captured field"))?,
            number: read.part_number.ok_or_else(missing("number of the part"))?,
            bytes: read.part_bytes.ok_or_else(missing("count of captured bytes"))?,
            previous: read.part_previous,
        });
    }
    leaf.captures = read.captures;
    if kind == Kind::Erasure {
        leaf.erased = read.erased;
    }
    leaf.hold = read.hold;
    leaf.subject = read.subject;
    let number = read.slot.ok_or_else(missing("key slot"))?;
    leaf.slot = Some(SlotLeaf { number, begun: read.slot_begun });
    leaf.commitments = read.commitments;
    let rises = |fields: &mut dyn Iterator<Item = u8>| fields.is_sorted_by(|one, next| one < next);
    if !rises(&mut leaf.commitments.iter().map(|commitment| commitment.field))
        || !rises(&mut leaf.captures.iter().map(|captured| captured.field))
        || !leaf.erased.is_sorted_by(|one, next| one < next)
    {
        return Err(LeafError("its fields are not in rising order".to_owned()));
    }
    // What is written another way, twice, out of order, or where its kind has no place for it, is not a leaf.
    let mut canonical = Vec::with_capacity(bytes.len());
    leaf.encode(&mut canonical);
    if canonical != bytes {
        return Err(LeafError("it is not in the one form that a leaf is written in".to_owned()));
    }
    Ok(leaf)
}
