//! What is asked of the store, and what comes back once.

use std::collections::{BTreeMap, BTreeSet};

use identity::{Role, SshPublicKey, Token};
use vocabulary::{CredentialId, Name, PolicyHash, PrincipalId, PrincipalKind, TargetKind, Timestamp};

use crate::error::StoreError;
use crate::target_url::TargetUrl;

/// Most labels of a target.
const MAX_LABELS: usize = 64;

/// Longest key or value of a label, in bytes.
const MAX_LABEL_LEN: usize = 256;

/// Privileges beyond ordinary commands that a target can grant, by its kind. For SSH, each kind of forwarding, and
/// what opens a way around the record; `login:NAME` lets clients log in as another account with the same key.
const PRIVILEGES: [(TargetKind, &[&str]); 2] = [
    (TargetKind::Postgres, &["replication"]),
    (
        TargetKind::Ssh,
        &[
            "local-forward",
            "remote-forward",
            "local-streamlocal",
            "remote-streamlocal",
            "agent-forward",
            "x11-forward",
        ],
    ),
];

/// Whether a target of that kind can grant a privilege.
fn can_allow(kind: TargetKind, privilege: &str) -> bool {
    let login = || {
        let name = privilege.strip_prefix("login:").unwrap_or_default();
        let well = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        kind == TargetKind::Ssh && (1..=64).contains(&name.len()) && name.bytes().all(well)
    };
    PRIVILEGES.iter().any(|(known, list)| *known == kind && list.contains(&privilege)) || login()
}

/// Most public keys that a principal can have.
pub const MAX_SSH_KEYS: usize = 16;

/// Most groups that a principal can be in.
pub const MAX_GROUPS: usize = 256;

/// A target to be added.
#[derive(Clone, Debug)]
pub struct NewTarget {
    /// What clients will call it.
    pub name: Name,
    /// Where it is, with its secrets.
    pub url: TargetUrl,
    /// What operators call it.
    pub labels: BTreeMap<String, String>,
    /// Privileges beyond ordinary commands: `replication` for PostgreSQL, `local-forward` and others for SSH.
    pub allow: BTreeSet<String>,
}

impl NewTarget {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if let Some(field) = self.url.unread() {
            return Err(StoreError::UnreadFile(field.to_owned()));
        }
        if self.labels.len() > MAX_LABELS {
            return Err(StoreError::BadTarget(format!("a target can have at most {MAX_LABELS} labels")));
        }
        let printable = |text: &str| !text.chars().any(char::is_control);
        for (key, value) in &self.labels {
            if key.is_empty()
                || key.len().max(value.len()) > MAX_LABEL_LEN
                || !printable(key)
                || !printable(value)
            {
                return Err(StoreError::BadTarget(format!(
                    "a label is KEY=VALUE, each of at most {MAX_LABEL_LEN} printable bytes, and the key is not empty"
                )));
            }
        }
        let kind = self.url.kind();
        match self.allow.iter().find(|privilege| !can_allow(kind, privilege)) {
            Some(unknown) => Err(StoreError::BadTarget(format!(
                "there is no privilege `{}`; a target can allow {}{}",
                unknown.chars().filter(|c| !c.is_control()).take(40).collect::<String>(),
                PRIVILEGES
                    .iter()
                    .find(|(known, _)| *known == kind)
                    .map_or_else(String::new, |(_, list)| list.join(", ")),
                if kind == TargetKind::Ssh { ", login:NAME" } else { "" }
            ))),
            None => Ok(()),
        }
    }
}

/// A principal to be added.
#[derive(Clone, Debug)]
pub struct NewPrincipal {
    /// Agent, person or service.
    pub kind: PrincipalKind,
    /// What it logs in as.
    pub name: Name,
    /// The person it acts for; not for persons.
    pub on_behalf_of: Option<Name>,
    /// Groups to put it in.
    pub groups: Vec<Name>,
    /// What it may do with the gateway itself; persons only.
    pub roles: Vec<Role>,
    /// From when on its first token no longer works; `None` for no end ([`crate::Expiry`] has the defaults).
    pub expires_at: Option<Timestamp>,
    /// Public keys that prove it over SSH; they expire with the first token.
    pub ssh_keys: Vec<SshPublicKey>,
}

/// A policy to be put in force.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// What it is called: a shipped policy's name, or its file's.
    pub name: Name,
    /// Its text.
    pub source: String,
    /// Who applies it.
    pub applied_by: Name,
}

/// A policy that was put in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppliedPolicy {
    /// Counts what was applied, from 1.
    pub number: u64,
    /// What it is called.
    pub name: Name,
    /// SHA-256 of its text.
    pub hash: PolicyHash,
    /// Its text.
    pub source: String,
    /// When it came into force.
    pub applied_at: Timestamp,
    /// Who applied it.
    pub applied_by: Name,
}

/// A token, in full for this once.
#[derive(Clone, Debug)]
pub struct Minted {
    /// Whose it is.
    pub principal: PrincipalId,
    /// Names the token in the trail.
    pub credential: CredentialId,
    /// From when on it no longer works.
    pub expires_at: Option<Timestamp>,
    /// The secret itself.
    pub token: Token,
}
