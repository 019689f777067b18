//! What goes over the wire: requests and answers of every route but the trail's entries, whose shape belongs
//! to the `trail` crate.
//!
//! Ids and times are strings (RFC 3339 in UTC), counts are numbers. Requests refuse unknown members, so that a
//! misspelt one is not silently ignored.

pub mod policy;

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
    /// Public keys that prove it over SSH, newest first.
    #[serde(default)]
    pub ssh_keys: Vec<SshKeyView>,
}

/// A public key of a principal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshKeyView {
    /// Names it in the trail.
    pub id: CredentialId,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// Whether it works now: `active`, `expired` or `revoked`.
    pub state: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// From when on it no longer works.
    pub expires_at: Option<Timestamp>,
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

const fn state_word(state: CredentialState) -> &'static str {
    match state {
        CredentialState::Active => "active",
        CredentialState::Expired => "expired",
        CredentialState::Revoked => "revoked",
    }
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
                state: state_word(credential.state(now)).to_owned(),
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
            ssh_keys: principal
                .ssh_keys
                .iter()
                .map(|known| SshKeyView {
                    id: known.id,
                    fingerprint: known.key.fingerprint(),
                    state: state_word(known.state(now)).to_owned(),
                    created_at: known.created_at,
                    expires_at: known.expires_at,
                })
                .collect(),
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
    /// Public keys that prove it over SSH, each as its file has it: `ssh-ed25519 AAAA…`.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
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
    /// If given, these public keys take the place of all that proved it over SSH.
    #[serde(default)]
    pub ssh_keys: Option<Vec<String>>,
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

/// Asks for a certificate of a public key for SSH.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshCertify {
    /// Whom it is to prove.
    pub principal: Name,
    /// The key as its file has it: `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// How long it is to be valid, in seconds; 12 hours unless given, 90 days at most.
    #[serde(default)]
    pub lifetime_s: Option<u64>,
}

/// A certificate for SSH.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshCertificate {
    /// Whom it proves.
    pub principal: Name,
    /// The credential that it hangs on.
    pub credential: CredentialId,
    /// The certificate as its file has it.
    pub certificate: String,
    /// From when on it no longer works.
    pub expires_at: Timestamp,
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

/// Asks for the payloads of a session to be held, or released.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldSession {
    /// Why; stands in the trail.
    pub reason: String,
}

/// A session that is under a legal hold now, or no longer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldSession {
    /// Which.
    pub session: SessionId,
    /// Whether it is held.
    pub held: bool,
    /// The entry that says so.
    pub entry: EntryId,
}

/// The sessions under a legal hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldSessions {
    /// Which.
    pub sessions: Vec<SessionId>,
}

/// Tells of a reading of the trail past the API: of its files, with an identity that the gateway does not have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// What is read.
    pub what: String,
}

/// A reading that stands in the trail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadingNoted {
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
    /// `address:port` for SSH clients.
    #[serde(default)]
    pub ssh: Option<String>,
    /// What clients of SSH need to know the gateway by: its authority's public key, and its host key.
    #[serde(default)]
    pub ssh_keys: Option<SshHostKeys>,
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

/// The gateway's own keys for SSH: public, one line each, `ssh-ed25519 AAAA…`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SshHostKeys {
    /// The authority that certifies the gateway, and principals that ask for a certificate.
    pub authority: String,
    /// The host key.
    pub host: String,
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
    /// Messages about reviews that webhooks have not taken.
    #[serde(default)]
    pub untold: u64,
    /// Why the latest of them was not taken, and by which.
    #[serde(default)]
    pub untold_problem: Option<String>,
    /// What the witnesses do, if the node has a witness policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessing: Option<Witnessing>,
    /// How its checkpoints get into a trail log elsewhere, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail_log: Option<TrailLogView>,
}

/// Answers a review.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerReview {
    /// Why; required where the policy says so.
    #[serde(default)]
    pub note: Option<String>,
}

/// Which reviews to list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewFilter {
    /// `pending`, `granted`, `denied`, `used`, `expired`, `withdrawn`, `all`; without it those that are not over.
    #[serde(default)]
    pub state: Option<String>,
}

/// A review, with everything that somebody needs to answer it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReviewView {
    /// Its id.
    pub id: vocabulary::ReviewId,
    /// `pending`, `granted`, `denied`, `used`, `expired`, `withdrawn`.
    pub state: String,
    /// Whether a client waits for the answer right now.
    pub held: bool,
    /// Who wants to run it.
    pub principal: Name,
    /// Agent, person or service.
    pub principal_kind: PrincipalKind,
    /// The person it acts for.
    pub on_behalf_of: Option<Name>,
    /// From where.
    pub client: String,
    /// The program, as it calls itself.
    pub application: Option<String>,
    /// The task, as the client names it.
    pub task: Option<String>,
    /// Its session.
    pub session: SessionId,
    /// Where it is to run.
    pub target: Name,
    /// The target's protocol.
    pub target_kind: TargetKind,
    /// Role, database, search path.
    pub circumstances: BTreeMap<String, String>,
    /// The exact command.
    pub command: String,
    /// Its parameters; `null` is NULL.
    pub params: Vec<Option<String>>,
    /// Its own word.
    pub verb: String,
    /// The most dangerous thing it does.
    pub class: vocabulary::Class,
    /// Objects that it names.
    pub objects: Vec<String>,
    /// Why it is asked.
    pub reason: String,
    /// The policies that ask.
    pub policies: Vec<String>,
    /// Groups that have to approve.
    pub groups: Vec<Name>,
    /// How many people of each.
    pub approvals: u8,
    /// How many more of each.
    pub missing: BTreeMap<String, usize>,
    /// Whether an approval needs a note.
    pub note_required: bool,
    /// Every vote.
    pub votes: Vec<VoteView>,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Until when it can be answered.
    pub open_until: Timestamp,
    /// Until when the grant can be used.
    pub granted_until: Option<Timestamp>,
    /// Where it can be answered.
    pub url: Option<String>,
}

/// One vote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoteView {
    /// Who.
    pub by: Name,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl ReviewView {
    /// What may be shown of a review to those who may see it.
    #[must_use]
    pub fn of(review: &review::Review, held: bool, address: Option<&str>) -> Self {
        let asked = &review.asked;
        Self {
            id: review.id,
            state: review.state.as_str().to_owned(),
            held,
            principal: asked.who.name.clone(),
            principal_kind: asked.who.kind,
            on_behalf_of: asked.who.on_behalf_of.clone(),
            client: asked.client.addr.clone(),
            application: asked.client.application.clone(),
            task: asked.client.task.clone(),
            session: asked.session,
            target: asked.target_name.clone(),
            target_kind: asked.target_kind,
            circumstances: asked.circumstances.clone(),
            command: asked.text.clone(),
            params: asked.params.clone(),
            verb: asked.verb.clone(),
            class: asked.class,
            objects: asked.objects.clone(),
            reason: review.reason.clone(),
            policies: review.policies.clone(),
            groups: review.groups().to_vec(),
            approvals: review.approvals_needed(),
            missing: review.missing().into_iter().map(|(group, count)| (group.to_string(), count)).collect(),
            note_required: review.note_required,
            votes: review
                .votes
                .iter()
                .map(|vote| VoteView {
                    by: vote.by.clone(),
                    approve: vote.approve,
                    note: vote.note.clone(),
                    at: vote.at,
                })
                .collect(),
            requested_at: review.requested_at,
            open_until: review.open_until,
            granted_until: match review.state {
                review::State::Granted { until } => Some(until),
                _ => None,
            },
            url: address.map(|address| format!("{address}/reviews/{}", review.id)),
        }
    }
}

/// What a proof of an entry brings along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The payload, so that the other side can read and check it too.
    pub payload: bool,
}

/// How this node's checkpoints get into a trail log elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrailLogView {
    /// Where they are sent.
    pub url: String,
    /// Entries under the latest checkpoint that stands there.
    pub size: u64,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why the next one does not, if it does not.
    pub problem: Option<String>,
}

/// How far witnesses have cosigned a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Witnessing {
    /// Entries that the newest checkpoint covers.
    pub newest: u64,
    /// Entries that the latest checkpoint covers which meets the policy; 0 if there is none.
    pub witnessed: u64,
    /// Since when.
    pub witnessed_at: Option<Timestamp>,
    /// Each witness.
    pub witnesses: Vec<WitnessView>,
}

/// A witness as the node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WitnessView {
    /// Its name in the policy.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// Entries that it has cosigned.
    pub size: u64,
    /// When it last did.
    pub answered_at: Option<Timestamp>,
    /// How long that took, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Why it does not, if it does not.
    pub problem: Option<String>,
}
