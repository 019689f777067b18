//! An entry as people and programs see it: the JSON view.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vocabulary::{
    Certainty, Class, CredentialId, EntryId, Kind, NodeId, PolicyHash, PrincipalId, PrincipalKind, ProvenBy,
    SessionId, Status, TargetId, TargetKind, Timestamp, Verdict,
};

use crate::CaptureField;

/// One entry of the trail. What its kind has no place for, and what was erased, is `null`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// `SESSION-NUMBER`.
    pub id: EntryId,
    /// What it tells of.
    pub kind: Kind,
    /// When that began.
    pub at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_us: Option<u64>,
    /// The session it belongs to.
    pub session: SessionId,
    /// Its place in the session.
    pub seq: u64,
    /// The gateway.
    pub node: Option<NodeId>,
    /// Who.
    pub principal: Option<EntryPrincipal>,
    /// From where.
    pub client: Option<EntryClient>,
    /// On what.
    pub target: Option<EntryTarget>,
    /// The command.
    pub command: Option<EntryCommand>,
    /// What policy said.
    pub decision: Option<EntryDecision>,
    /// What came of it.
    pub outcome: Option<EntryOutcome>,
    /// What was captured of the command, or of the session as a whole where it ends; the bytes are read one field at a
    /// time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captured: Vec<EntryCaptured>,
    /// Details of what is not a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
    /// Why the payload is not shown: `erased (entry …)`, `sealed` (no key at hand) or `missing (…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Where it is in the ledger.
    pub leaf: EntryLeaf,
}

/// Who.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryPrincipal {
    /// Shown where the name can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<PrincipalId>,
    /// Agent, person or service.
    pub kind: Option<PrincipalKind>,
    /// Its name.
    pub name: Option<String>,
    /// The person it acts for.
    pub on_behalf_of: Option<String>,
    /// The credential it used.
    pub credential: Option<CredentialId>,
    /// How it was proven.
    pub proven_by: Option<ProvenBy>,
    /// How all this is known.
    pub certainty: Certainty,
}

/// From where. The address is the connection's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryClient {
    /// `address:port`.
    pub addr: Option<String>,
    /// The program's name as it gives it.
    pub application: Option<String>,
    /// The task it works on as it gives it.
    pub task: Option<String>,
    /// TLS version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Settings that it asked for as the session began, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// How application and task are known.
    pub certainty: Certainty,
}

/// On what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryTarget {
    /// Shown where the name can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TargetId>,
    /// Its name.
    pub name: Option<String>,
    /// Its protocol.
    pub kind: Option<TargetKind>,
    /// The role that the gateway logs in as.
    pub role: Option<String>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The target's own name for the session.
    pub peer: Option<String>,
}

/// The command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryCommand {
    /// As it was sent; what is not UTF-8 is replaced, and `text_base64` has the bytes.
    pub text: Option<String>,
    /// The exact bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_base64: Option<String>,
    /// Parameters in text form; `null` in the list is NULL.
    pub params: Option<Vec<Option<String>>>,
    /// Its own word.
    pub verb: Option<String>,
    /// The most dangerous thing it does.
    pub class: Class,
    /// What it names.
    pub objects: Option<Vec<String>>,
    /// `sha256:` of the exact text.
    pub digest: Option<String>,
}

/// What policy said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryDecision {
    /// Permit or forbid.
    pub effect: Verdict,
    /// Policies that decided.
    pub policies: Option<Vec<String>>,
    /// The policy in force.
    pub policy_hash: PolicyHash,
    /// The review that decided.
    pub review: Option<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryOutcome {
    /// How it ended.
    pub status: Status,
    /// Whether the target ran it; `null` where nobody can tell.
    pub executed: Option<bool>,
    /// Rows.
    pub rows: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// The protocol's own code.
    pub code: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// Exit status.
    pub exit: Option<i32>,
    /// Output that a cap kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<EntryNotKept>,
}

/// Output that a cap kept out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryNotKept {
    /// How many bytes.
    pub bytes: u64,
    /// `sha256:` of the whole.
    pub digest: Option<String>,
}

/// Something captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryCaptured {
    /// What it is.
    pub field: CaptureField,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// Where an entry is in the ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryLeaf {
    /// The log's origin.
    pub log: String,
    /// The index of the leaf.
    pub index: u64,
}
