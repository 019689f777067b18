//! What the gateway knows of somebody who may come through it.

use std::fmt;

use serde::{Deserialize, Serialize};
use vocabulary::{CredentialId, Name, PrincipalId, PrincipalKind, ProvenBy, Timestamp, Who};

use crate::scram::ScramVerifier;
use crate::ssh_key::{SshKey, SshPublicKey};
use crate::token::TokenDigest;

/// What a principal may do with the gateway itself, beyond passing through it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Changes targets, principals and policies.
    Administrator,
    /// Reads the trail.
    Auditor,
    /// Answers reviews.
    Reviewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Administrator, Self::Auditor, Self::Reviewer];

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Auditor => "auditor",
            Self::Reviewer => "reviewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(80).collect()))
    }
}

/// There is no such role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`; a role is administrator, auditor or reviewer")]
pub struct UnknownRole(String);

/// One secret of a principal, as far as the gateway keeps it: enough to check, too little to log in with.
///
/// All credentials of one principal have the same SCRAM salt and iteration count, because the server has to
/// name both before it knows which secret the client holds. Tokens have 256 bits of entropy, so a shared salt
/// gives nothing away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// Names the credential in the trail.
    pub id: CredentialId,
    /// Checks SCRAM proofs.
    pub scram: ScramVerifier,
    /// Checks the token itself, where it comes in the clear inside TLS.
    pub token_digest: TokenDigest,
    /// When it was minted.
    pub created_at: Timestamp,
    /// From when on it no longer works; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
    /// From when on it is revoked; may lie ahead while a rotation's grace runs.
    pub revoked_at: Option<Timestamp>,
}

/// Whether a credential works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CredentialState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl CredentialState {
    /// The state of a credential with these ends at `now`. Revoked outranks expired.
    #[must_use]
    pub fn at(now: Timestamp, expires_at: Option<Timestamp>, revoked_at: Option<Timestamp>) -> Self {
        if revoked_at.is_some_and(|at| at <= now) {
            Self::Revoked
        } else if expires_at.is_some_and(|at| at <= now) {
            Self::Expired
        } else {
            Self::Active
        }
    }
}

impl Credential {
    /// Whether it works at `now`. Revoked outranks expired: it says that somebody decided.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> CredentialState {
        CredentialState::at(now, self.expires_at, self.revoked_at)
    }

    /// The moment from which on it will not work, as known now.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        match (self.expires_at, self.revoked_at) {
            (Some(expires), Some(revoked)) => Some(expires.min(revoked)),
            (expires, revoked) => expires.or(revoked),
        }
    }
}

/// An agent, a person or a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// Stays the same when it is renamed.
    pub id: PrincipalId,
    /// Agent, person or service.
    pub kind: PrincipalKind,
    /// Its name.
    pub name: Name,
    /// The person it acts for.
    pub on_behalf_of: Option<Name>,
    /// Groups it is in, sorted.
    pub groups: Vec<Name>,
    /// What it may do with the gateway itself, sorted.
    pub roles: Vec<Role>,
    /// Whether it (or the person it acts for) is shut out.
    pub disabled: bool,
    /// Its secrets, newest first; revoked and expired ones too, so that the trail can say which was tried.
    pub credentials: Vec<Credential>,
    /// Its public keys for SSH, newest first; revoked and expired ones too.
    pub ssh_keys: Vec<SshKey>,
}

/// When a credential of whatever sort ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// From when on it no longer works; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
    /// From when on it is revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Principal {
    /// Whether it has that role.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The credential of that id.
    #[must_use]
    pub fn credential(&self, id: CredentialId) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.id == id)
    }

    /// Its public key of that wire form.
    #[must_use]
    pub fn ssh_key(&self, key: &SshPublicKey) -> Option<&SshKey> {
        self.ssh_keys.iter().find(|known| known.key == *key)
    }

    /// When the token or key of that id ends, if the principal has it.
    #[must_use]
    pub fn validity(&self, id: CredentialId) -> Option<Validity> {
        let token = self.credential(id).map(|known| (known.expires_at, known.revoked_at));
        let key =
            || self.ssh_keys.iter().find(|known| known.id == id).map(|key| (key.expires_at, key.revoked_at));
        token.or_else(key).map(|(expires_at, revoked_at)| Validity { expires_at, revoked_at })
    }

    /// The principal as the trail names it, proven by one of its credentials.
    #[must_use]
    pub fn who(&self, credential: CredentialId, proven_by: ProvenBy) -> Who {
        Who {
            id: self.id,
            kind: self.kind,
            name: self.name.clone(),
            on_behalf_of: self.on_behalf_of.clone(),
            credential,
            proven_by,
        }
    }
}
