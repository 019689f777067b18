//! What a policy says of one command.

use std::time::Duration;

use vocabulary::{Decision, Name};

/// What a policy says of one command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Whether the command may go on.
    pub effect: Effect,
    /// What goes into the trail. For [`Effect::Review`] it says forbid, by the policies that ask for the review:
    /// that stands unless the review is granted.
    pub decision: Decision,
    /// What the client is told; empty for a permit.
    pub words: Words,
    /// Duties that come with a permit, or with a review that is granted.
    pub obligations: Obligations,
    /// Limits that come with a permit, or with a review that is granted.
    pub budget: Budget,
    /// Whether the same facts in the same session get this ruling until the policy, the principal or the target
    /// changes: it looked neither at the time, nor at the transaction, the client's address, or approvals.
    pub stable: bool,
}

impl Ruling {
    /// Whether the command may go on at once.
    #[must_use]
    pub const fn is_permit(&self) -> bool {
        matches!(self.effect, Effect::Permit)
    }
}

/// The lower of two limits, either of which may be absent.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether a command may go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It flows.
    Permit,
    /// It is refused; nobody can approve it.
    Forbid,
    /// It waits for people.
    Review(Requirement),
}

/// What a review needs to be granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// All of these groups have to approve. Sorted, each once, never empty.
    pub groups: Vec<Name>,
    /// How many different people of each group; at least 1. The most that any of the policies asks for.
    pub approvals: u8,
    /// Whether who approves has to say why.
    pub note_required: bool,
    /// How long to hold the command on the wire; `None` for the gateway's own default. The shortest that any of
    /// the policies names.
    pub hold_for: Option<Duration>,
}

/// Duties that come with a permit. Where several permits decide, the strictest of each counts. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Obligations {
    /// Most rows that may be returned.
    pub limit_rows: Option<u64>,
    /// Longest that the command may run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether the target must run it so that it can't write.
    pub read_only: bool,
    /// Record result rows, up to so many bytes.
    pub record_rows: Option<u64>,
}

impl Obligations {
    /// Both: the stricter of each.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            limit_rows: least(self.limit_rows, other.limit_rows),
            timeout_ms: least(self.timeout_ms, other.timeout_ms),
            read_only: self.read_only || other.read_only,
            // Each policy that asks for rows is content with more of them.
            record_rows: self.record_rows.max(other.record_rows),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits per principal and target that come with a permit; the lowest of each counts. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    /// Most commands in a minute.
    pub commands_per_minute: Option<u64>,
    /// Most rows returned in an hour.
    pub rows_per_hour: Option<u64>,
    /// Most sessions at once.
    pub sessions: Option<u32>,
}

impl Budget {
    /// Both: the lower of each.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            commands_per_minute: least(self.commands_per_minute, other.commands_per_minute),
            rows_per_hour: least(self.rows_per_hour, other.rows_per_hour),
            sessions: least(self.sessions, other.sessions),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the client is told of a refusal or a hold, in sentences without a full stop at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words {
    /// Why: which policy, and over what.
    pub reason: String,
    /// Who can approve it; empty where nobody can.
    pub approvers: String,
    /// What to do next: the policies' `@advice`, or general advice.
    pub advice: String,
}
