//! What goes over the wire: requests and answers of every route but the trail's entries, whose shape belongs
//! to the `trail` crate.
//!
//! Ids and times are strings (RFC 3339 in UTC), counts are numbers. Requests refuse unknown members, so that a
//! misspelt one is not silently ignored.

use std::collections::{BTreeMap, BTreeSet};

use identity::{CredentialState, Role};
use serde::{Deserialize, Serialize};
use vocabulary::{
    CredentialId, EntryId, Name, NodeId, PrincipalId, PrincipalKind, SessionId, TargetId, TargetKind,
    Timestamp,
};

/// A target, without its secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetView {
    /// Stays the same when it is renamed.
    pub id: TargetId,
    /// What clients call it.
    pub name: Name,
    /// The protocol it speaks.
    pub kind: TargetKind,
    /// Where it is, without any secret.
    pub url: String,
    /// Names of the secrets that the gateway keeps for it: `password`, `sslkey`.
    pub secrets: Vec<String>,
    /// What operators call it.
    pub labels: BTreeMap<String, String>,
    /// Privileges beyond ordinary commands that it grants: `replication`.
    pub allow: BTreeSet<String>,
}

/// Asks for a new target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddTarget {
    /// What clients will call it.
    pub name: Name,
    /// As the client library writes it; may hold the password or a reference to it.
    pub url: String,
    /// What operators call it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Privileges beyond ordinary commands: `replication`.
    #[serde(default)]
    pub allow: BTreeSet<String>,
}

/// What the gateway found when it logged in to a target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetTest {
    /// Which target.
    pub target: Name,
    /// Whether the login worked.
    pub ok: bool,
    /// What the server says it is: `PostgreSQL 15.13`.
    pub server: Option<String>,
    /// The role that the gateway logged in as.
    pub role: Option<String>,
    /// The database it logged in to.
    pub database: Option<String>,
    /// TLS version, or `None` on a plain connection.
    pub tls: Option<String>,
    /// How long connecting and logging in took.
    pub duration_us: u64,
    /// Which side is at fault: `gateway`, `target` or `network`.
    pub fault: Option<String>,
    /// One sentence about what failed.
    pub problem: Option<String>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// A principal, without anything that proves it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PrincipalView {
    /// Stays the same when it is renamed.
    pub id: PrincipalId,
    /// Agent, person or service.
    pub kind: PrincipalKind,
    /// What it logs in as.
    pub name: Name,
    /// The person it acts for.
    pub on_behalf_of: Option<Name>,
    /// Groups it is in.
    pub groups: Vec<Name>,
    /// What it may do with the gateway itself.
    pub roles: Vec<Role>,
    /// Whether it (or the person it acts for) is shut out.
    pub disabled: bool,
    /// Its credentials, newest first.
    pub credentials: Vec<CredentialView>,
}

/// A credential, without the secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CredentialView {
    /// Names it in the trail.
    pub id: CredentialId,
    /// Whether it works now: `active`, `expired` or `revoked`.
    pub state: String,
    /// When it was minted.
    pub created_at: Timestamp,
    /// From when on it no longer works.
    pub expires_at: Option<Timestamp>,
    /// From when on it is revoked; may lie ahead while a rotation's grace runs.
    pub revoked_at: Option<Timestamp>,
}

impl PrincipalView {
    /// What may be shown of a principal at `now`.
    #[must_use]
    pub fn of(principal: &identity::Principal, now: Timestamp) -> Self {
        let credentials = principal
            .credentials
            .iter()
            .map(|credential| CredentialView {
                id: credential.id,
                state: match credential.state(now) {
                    CredentialState::Active => "active",
                    CredentialState::Expired => "expired",
                    CredentialState::Revoked => "revoked",
                }
                .to_owned(),
                created_at: credential.created_at,
                expires_at: credential.expires_at,
                revoked_at: credential.revoked_at,
            })
            .collect();
        Self {
            id: principal.id,
            kind: principal.kind,
            name: principal.name.clone(),
            on_behalf_of: principal.on_behalf_of.clone(),
            groups: principal.groups.clone(),
            roles: principal.roles.clone(),
            disabled: principal.disabled,
            credentials,
        }
    }
}

impl TargetView {
    /// What may be shown of a target.
    #[must_use]
    pub fn of(target: &session::snapshot::Target) -> Self {
        Self {
            id: target.id,
            name: target.name.clone(),
            kind: target.kind,
            url: target.url.clone(),
            secrets: target.material.keys().cloned().collect(),
            labels: target.labels.clone(),
            allow: target.allow.clone(),
        }
    }
}

/// Asks for a new principal and its first token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddPrincipal {
    /// What it will log in as.
    pub name: Name,
    /// The person it acts for.
    #[serde(default)]
    pub on_behalf_of: Option<Name>,
    /// Groups to put it in.
    #[serde(default)]
    pub groups: Vec<Name>,
    /// What it may do with the gateway itself; persons only.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// How long the token works: `90d`, `2027-01-31`, `never`. Without it, 90 days for agents and no end for others.
    #[serde(default)]
    pub expires: Option<String>,
}

/// Asks for a new token in place of the old ones.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old tokens still work, in seconds; 0 ends them and their sessions at once.
    #[serde(default)]
    pub grace_s: u64,
    /// How long the new token works, as in [`AddPrincipal::expires`].
    #[serde(default)]
    pub expires: Option<String>,
}

/// A token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// Whose it is.
    pub principal: PrincipalView,
    /// Names it in the trail.
    pub credential: CredentialId,
    /// From when on it no longer works.
    pub expires_at: Option<Timestamp>,
    /// The secret itself.
    pub token: String,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// Something that was removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// What it was called.
    pub name: Name,
}

/// Asks for the payloads of a session to be destroyed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// Why; stands in the trail.
    pub reason: String,
}

/// A session whose payloads nobody can read any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erased {
    /// Which.
    pub session: SessionId,
    /// The entry that says so.
    pub entry: EntryId,
}

/// An open session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id, as entries name it.
    pub session: SessionId,
    /// Who runs it.
    pub principal: Name,
    /// For whom.
    pub on_behalf_of: Option<Name>,
    /// Where its commands run.
    pub target: Name,
    /// When it began.
    pub since: Timestamp,
    /// When its token expires, and it ends.
    pub expires_at: Option<Timestamp>,
}

/// Where a gateway listens; also the content of `DATA/addresses.json`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// The name by which clients reach the node, if operators gave one.
    #[serde(default)]
    pub host: Option<String>,
    /// `address:port` for PostgreSQL clients.
    pub postgres: Option<String>,
    /// `address:port` of the web listener.
    pub web: Option<String>,
    /// The control socket's path.
    pub control: Option<String>,
    /// A PEM file with the certificate authority that clients need to check the gateway, or `None` where the
    /// operator brought a certificate or there is no TLS.
    pub ca_file: Option<String>,
    /// Whether the PostgreSQL listener offers TLS.
    pub postgres_tls: bool,
    /// Whether the web listener speaks TLS.
    pub web_tls: bool,
}

/// How the gateway is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or `failing` while commands are refused.
    pub status: String,
    /// Version of the running binary.
    pub version: String,
    /// The node's id.
    pub node: NodeId,
    /// The node's name from the settings.
    pub node_name: String,
    /// Process id.
    pub pid: u32,
    /// When it came up.
    pub started_at: Timestamp,
    /// The gateway's clock now.
    pub now: Timestamp,
    /// Absolute path of the data directory.
    pub data: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// Open sessions.
    pub sessions: u64,
    /// Why the journal can't be written, if it can't.
    pub journal_problem: Option<String>,
    /// Leaves in the ledger.
    pub entries_sealed: u64,
    /// Records in the journal that no checkpoint covers yet.
    pub records_unsealed: u64,
    /// When the latest checkpoint of this run was published.
    pub sealed_at: Option<Timestamp>,
    /// Why sealing does not go on, if it does not.
    pub sealer_problem: Option<String>,
}
