//! From records to a leaf and the plain text of its payload.

use serde_json::json;
use vocabulary::{Class, Decision, Kind, PolicyHash, SessionId, Status, Timestamp, Verdict};

use super::Captured;
use crate::{
    Event, FactsRecord, Intent, NodeStart, OutcomeRecord, SessionEnd, SessionStart, TrailError,
    commitment::Committer,
    leaf::{
        CommandLeaf, Commitment, EndLeaf, Leaf, OutcomeLeaf, PartLeaf, SlotLeaf, SqlState, StartLeaf, verb,
    },
    record,
    vault::{Field, VaultError, push_field},
};

/// Builds one entry after the other. Keeps its buffers.
pub(crate) struct Assembler {
    committer: Committer,
    /// Buffer of the last leaf's commitments.
    commitments: Vec<Commitment>,
    /// The payload of the entry built last: its fields in plain text.
    plain: Vec<u8>,
    /// The leaf of the entry built last, and its bytes once its key slot is known.
    leaf: Leaf,
    bytes: Vec<u8>,
    /// Facts and decision side by side.
    judged: Vec<u8>,
}

/// What the leaf of an event says beyond which entry it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    /// What was captured, where a command became a gap.
    pub(crate) captured: &'a [Captured],
    /// Slots whose keys are destroyed.
    pub(crate) erased: &'a [u32],
    /// Whether the subject is put under a hold, or released.
    pub(crate) hold: Option<bool>,
}

/// What is in an intent's `facts` and `decision`.
struct Judged {
    command: CommandLeaf,
    /// The leaf says all there is to say.
    all_in_leaf: bool,
}

fn judged(intent: &Intent<'_>) -> Judged {
    let (class, verb, no_objects) = match postcard_prefix::<(&str, Class)>(intent.facts) {
        Some(((verb, class), [0])) => (class, verb::code_of(verb), true),
        Some(((verb, class), _)) => (class, verb::code_of(verb), false),
        // Not facts: kept as they are, and the class is that of what can't be understood.
        None => (Class::Unknown, None, false),
    };
    let (effect, policy_hash, no_policies, review) = match intent.decision.split_first_chunk::<2>() {
        // The usual case without allocation: no policy named.
        Some(([effect @ (0 | 1), 0], hash)) if hash.len() == 32 => {
            let mut policy_hash = PolicyHash([0; 32]);
            policy_hash.0.copy_from_slice(hash);
            (if *effect == 0 { Verdict::Permit } else { Verdict::Forbid }, policy_hash, true, None)
        }
        _ => match record::decode_decision(intent.decision) {
            Ok((Decision { effect, policies, policy_hash }, review)) => {
                (effect, policy_hash, policies.is_empty(), review)
            }
            // Not a decision: kept as it is, under a policy hash that no policy has.
            Err(_) => (Verdict::Permit, PolicyHash([0; 32]), false, None),
        },
    };
    let all_in_leaf = no_objects && no_policies && verb.is_some();
    Judged { command: CommandLeaf { class, verb, effect, policy_hash, review }, all_in_leaf }
}

fn postcard_prefix<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).ok()
}

impl Assembler {
    pub(crate) fn new(origin: &str) -> Self {
        Self {
            committer: Committer::new(origin),
            commitments: Vec::new(),
            plain: Vec::new(),
            leaf: Leaf::new(Kind::Gap, SessionId::from_bytes([0; 16]), 0, Timestamp(0)),
            bytes: Vec::new(),
            judged: Vec::new(),
        }
    }

    /// The leaf's bytes, now that it is known where its key lies.
    pub(crate) fn leaf_under(&mut self, slot: SlotLeaf) -> &[u8] {
        self.leaf.slot = Some(slot);
        self.bytes.clear();
        self.leaf.encode(&mut self.bytes);
        &self.bytes
    }

    /// The payload's plain text; empty if the entry has none.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    fn begin(&mut self, leaf: &Leaf) {
        self.commitments = std::mem::take(&mut self.leaf.commitments);
        self.commitments.clear();
        self.plain.clear();
        self.plain.shrink_to(4 * 1024 * 1024);
        self.committer.entry(leaf.session, leaf.seq, leaf.kind);
    }

    /// Fields have to come in the order of their codes.
    fn field(&mut self, field: Field, bytes: &[u8]) -> Result<(), VaultError> {
        self.field_of_code(field.code(), bytes)
    }

    fn field_of_code(&mut self, field: u8, bytes: &[u8]) -> Result<(), VaultError> {
        let (r, hmac) = self.committer.commit(field, bytes)?;
        push_field(&mut self.plain, field, &r, bytes);
        self.commitments.push(Commitment { field, hmac });
        Ok(())
    }

    /// The last fields of a payload: captured ones have the highest codes.
    fn captures(&mut self, leaf: &mut Leaf, captured: &[Captured]) -> Result<(), VaultError> {
        for captured in captured {
            leaf.captures.push(captured.leaf);
            if captured.leaf.parts.is_none() {
                self.field_of_code(captured.leaf.field, &captured.whole)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, mut leaf: Leaf) {
        leaf.commitments = std::mem::take(&mut self.commitments);
        self.leaf = leaf;
    }

    /// A command, finished if there is an outcome. Returns when it was over.
    pub(crate) fn command(
        &mut self,
        intent: &Intent<'_>,
        outcome: Option<&OutcomeRecord<'_>>,
        captured: &[Captured],
    ) -> Result<Timestamp, TrailError> {
        let kind = if outcome.is_some() { Kind::Command } else { Kind::CommandStarted };
        let mut leaf = Leaf::new(kind, intent.session, intent.seq, intent.at);
        let judged = judged(intent);
        leaf.command = Some(judged.command);
        self.begin(&leaf);
        self.field(Field::Text, intent.text)?;
        if !intent.params.is_empty() {
            self.field(Field::Params, intent.params)?;
        }
        if !judged.all_in_leaf {
            // Both delimit themselves.
            let mut both = std::mem::take(&mut self.judged);
            both.clear();
            both.extend_from_slice(intent.facts);
            both.extend_from_slice(intent.decision);
            let made = self.field(Field::Judged, &both);
            self.judged = both;
            made?;
        }
        if let Some(outcome) = outcome {
            let state = outcome.code.and_then(SqlState::known);
            if let Some(message) = outcome.message {
                self.field(Field::Message, message.as_bytes())?;
            }
            if let (Some(code), None) = (outcome.code, state) {
                self.field(Field::Code, code.as_bytes())?;
            }
            if let Some(not_kept) = &outcome.not_kept {
                self.field(Field::NotKept, &not_kept.sha256)?;
            }
            leaf.outcome = Some(OutcomeLeaf {
                duration_us: outcome.duration_us,
                status: outcome.status,
                executed: outcome.executed,
                rows: outcome.rows,
                bytes_in: outcome.bytes_in,
                bytes_out: outcome.bytes_out,
                code: state,
                exit: outcome.exit,
                not_kept: outcome.not_kept.map(|not_kept| not_kept.bytes),
            });
        }
        self.captures(&mut leaf, captured)?;
        let ended_at = leaf.ended_at();
        self.finish(leaf);
        Ok(ended_at)
    }

    /// One part of what was captured under a number.
    pub(crate) fn part(
        &mut self,
        session: SessionId,
        seq: u64,
        at: Timestamp,
        part: PartLeaf,
        bytes: &[u8],
    ) -> Result<(), TrailError> {
        let mut leaf = Leaf::new(Kind::Capture, session, seq, at);
        leaf.part = Some(part);
        self.begin(&leaf);
        self.field_of_code(part.field, bytes)?;
        self.finish(leaf);
        Ok(())
    }

    /// A command whose session ended before its outcome was known.
    pub(crate) fn command_of_ended_session(
        &mut self,
        intent: &Intent<'_>,
        ended_at: Timestamp,
        captured: &[Captured],
    ) -> Result<Timestamp, TrailError> {
        let outcome = OutcomeRecord {
            duration_us: ended_at.micros_since(intent.at),
            ..OutcomeRecord::bare(intent.session, intent.seq, ended_at, Status::Unknown)
        };
        self.command(intent, Some(&outcome), captured)
    }

    pub(crate) fn session_start(&mut self, record: &SessionStart) -> Result<Timestamp, TrailError> {
        let mut leaf = Leaf::new(Kind::SessionStart, record.session, record.seq, record.at);
        let (who, target) = (&record.who, &record.target);
        leaf.start = Some(StartLeaf {
            node: Some(record.node),
            principal: Some(who.id),
            principal_kind: Some(who.kind),
            credential: Some(who.credential),
            proven_by: Some(who.proven_by),
            target: Some(target.id),
            target_kind: Some(target.kind),
        });
        let names = json!({
            "principal": who.name,
            "on_behalf_of": who.on_behalf_of,
            "client": record.client,
            "target": target.name,
            "role": target.role,
            "database": target.database,
            "peer": target.peer,
        });
        self.begin(&leaf);
        self.field(Field::Names, names.to_string().as_bytes())?;
        self.finish(leaf);
        Ok(record.at)
    }

    pub(crate) fn node_start(&mut self, record: &NodeStart) -> Result<Timestamp, TrailError> {
        let mut leaf = Leaf::new(Kind::SessionStart, record.session, record.seq, record.at);
        leaf.start = Some(StartLeaf { node: Some(record.node), ..StartLeaf::default() });
        self.begin(&leaf);
        self.field(Field::Names, json!({ "release": record.release }).to_string().as_bytes())?;
        self.finish(leaf);
        Ok(record.at)
    }

    pub(crate) fn session_end(
        &mut self,
        record: &SessionEnd,
        captured: &[Captured],
    ) -> Result<Timestamp, TrailError> {
        let mut leaf = Leaf::new(Kind::SessionEnd, record.session, record.seq, record.at);
        leaf.end = Some(EndLeaf { entries: record.entries, reason: record.reason });
        self.begin(&leaf);
        if let Some(detail) = &record.detail {
            self.field(Field::Message, detail.as_bytes())?;
        }
        self.captures(&mut leaf, captured)?;
        self.finish(leaf);
        Ok(record.at)
    }

    pub(crate) fn event(&mut self, record: &Event, beside: Beside<'_>) -> Result<Timestamp, TrailError> {
        let mut leaf = Leaf::new(record.kind, record.session, record.seq, record.at);
        leaf.subject = record.subject;
        leaf.erased = beside.erased.to_vec();
        leaf.hold = beside.hold;
        // What is not JSON is kept as text: an event is never lost for its form.
        let what: serde_json::Value =
            serde_json::from_str(&record.what).unwrap_or_else(|_| json!({ "text": record.what }));
        let event = json!({ "actor": record.actor, "client": record.client, "what": what });
        self.begin(&leaf);
        self.field(Field::Event, event.to_string().as_bytes())?;
        self.captures(&mut leaf, beside.captured)?;
        self.finish(leaf);
        Ok(record.at)
    }
}

/// Facts and decision as [`Field::Judged`] holds them.
pub(crate) fn split_judged(bytes: &[u8]) -> Option<(FactsRecord, Decision)> {
    let (facts, rest) = postcard_prefix::<FactsRecord>(bytes)?;
    // The review that it hung on stands in the leaf too.
    let (decision, _) = record::decode_decision(rest).ok()?;
    Some((facts, decision))
}

#[cfg(test)]
mod tests;
