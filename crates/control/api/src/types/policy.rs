//! Policies over the wire.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vocabulary::{Class, Decision, FunctionUse, Name, ObjectUse, PolicyHash, SettingChange, Timestamp};

/// A policy that is or was in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyView {
    /// Counts what was applied, from 1; 0 for `observe`, which is in force until then.
    pub number: u64,
    /// What it is called: a shipped policy's name, or its file's.
    pub name: Name,
    /// SHA-256 of its text, as entries of the trail name it.
    pub hash: PolicyHash,
    /// When it came into force.
    pub applied_at: Option<Timestamp>,
    /// Who applied it.
    pub applied_by: Option<Name>,
    /// Its text.
    pub source: String,
    /// What is most likely not meant: policies that never match, reviews that nobody can approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Asks for a policy to be put in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyPolicy {
    /// What it is called. Without a text: the shipped policy of that name.
    pub name: Name,
    /// Its text.
    #[serde(default)]
    pub source: Option<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyApplied {
    /// Whether that changed anything.
    pub changed: bool,
    /// The policy that was in force before.
    pub before: PolicyHash,
    /// The policy that is in force now.
    pub policy: PolicyView,
}

/// Asks what a policy says of a command, without running it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainPolicy {
    /// Who would run it.
    pub principal: Name,
    /// Where.
    pub target: Name,
    /// What. Empty: whether it may connect.
    pub command: String,
    /// The database, if not the one of the target's URL.
    #[serde(default)]
    pub database: Option<String>,
    /// Whether it would be inside an explicit transaction.
    #[serde(default)]
    pub in_transaction: bool,
    /// From where; from the gateway's own machine unless given.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// When; now unless given.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Groups that would have approved it.
    #[serde(default)]
    pub approved_by: Vec<Name>,
    /// Another policy than the one in force.
    #[serde(default)]
    pub source: Option<String>,
}

/// What a policy says of one statement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explained {
    /// The statement.
    pub statement: String,
    /// The most dangerous thing it does.
    pub class: Class,
    /// Its own word.
    pub verb: String,
    /// What it names, and how it uses it.
    pub objects: Vec<ObjectUse>,
    /// What it calls.
    pub functions: Vec<FunctionUse>,
    /// Settings that it changes.
    pub settings: Vec<SettingChange>,
    /// For UPDATE and DELETE: whether every one of them has a WHERE.
    pub has_where: Option<bool>,
    /// Whether its rows are bounded by a LIMIT.
    pub has_limit: Option<bool>,
    /// Whether some of its effects stand even if the transaction is undone.
    pub lasting: bool,
    /// Why it is not understood, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<String>,
    /// `permit`, `forbid` or `review`.
    pub effect: String,
    /// What would stand in the trail; for a review what stands there unless it is granted.
    pub decision: Decision,
    /// What the review needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewNeeds>,
    /// Duties that come with the permit.
    pub obligations: ObligationsView,
    /// Limits that come with the permit.
    pub budget: BudgetView,
    /// What the client would read.
    pub words: WordsView,
}

/// What a review needs to be granted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReviewNeeds {
    /// All of these groups have to approve.
    pub groups: Vec<Name>,
    /// How many people of each.
    pub approvals: u8,
    /// Whether they have to say why.
    pub note_required: bool,
    /// How long the command is held on the wire; the gateway's default if not given.
    pub hold_for_ms: Option<u64>,
}

/// Duties that come with a permit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ObligationsView {
    /// Most rows that may be returned.
    pub limit_rows: Option<u64>,
    /// Longest that the command may run.
    pub timeout_ms: Option<u64>,
    /// Whether the target must keep it from writing.
    pub read_only: bool,
    /// Most bytes of result rows that are recorded; none are if not given.
    pub record_rows_bytes: Option<u64>,
}

/// Limits that come with a permit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BudgetView {
    /// Most commands in a minute.
    pub commands_per_minute: Option<u64>,
    /// Most rows in an hour.
    pub rows_per_hour: Option<u64>,
    /// Most sessions at once.
    pub sessions: Option<u32>,
}

/// What the client would read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WordsView {
    /// Why it is refused or held; empty for a permit.
    pub reason: String,
    /// Who can approve it.
    pub approvers: String,
    /// What to do next.
    pub advice: String,
}
