//! What is asked of the store, and what comes back once.

use std::collections::{BTreeMap, BTreeSet};

use identity::{Role, Token};
use vocabulary::{CredentialId, Name, PrincipalId, PrincipalKind, Timestamp};

use crate::error::StoreError;
use crate::target_url::TargetUrl;

/// Most labels of a target.
const MAX_LABELS: usize = 64;

/// Longest key or value of a label, in bytes.
const MAX_LABEL_LEN: usize = 256;

/// Privileges beyond ordinary commands that a target can grant.
const PRIVILEGES: [&str; 1] = ["replication"];

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
    /// Privileges beyond ordinary commands: `replication`.
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
        match self.allow.iter().find(|privilege| !PRIVILEGES.contains(&privilege.as_str())) {
            Some(unknown) => Err(StoreError::BadTarget(format!(
                "there is no privilege `{}`; a target can allow {}",
                unknown.chars().filter(|c| !c.is_control()).take(40).collect::<String>(),
                PRIVILEGES.join(", ")
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
