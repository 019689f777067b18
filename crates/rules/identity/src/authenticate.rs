//! The verdict: a claimed name and a proof make a [`Who`], or a reason why not.
//!
//! ```text
//! Login::by_token ─────────────────────────────────────┐
//! ScramServer::new → challenge → verify → Login::by_proof ┴→ Ok(Who) | Err(Rejected)
//! ```

use vocabulary::{CredentialId, ProvenBy, Timestamp, Who};

use crate::principal::{CredentialState, Principal, Validity};
use crate::scram::{ScramError, ScramProof};
use crate::ssh_key::SshPublicKey;
use crate::throttle::Throttled;
use crate::token::TokenDigest;

/// What every client hears that is turned away, whatever the reason: it must not learn which names exist.
pub const REFUSED: &str = "Trailgate refused the login: the name or the token is wrong, expired or revoked; ask whoever gave you the token";

/// Why somebody was turned away. For the trail; the client hears [`REFUSED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Nobody has that name.
    #[error("no principal has that name")]
    UnknownPrincipal,
    /// The proof fits none of the principal's credentials.
    #[error("the token is wrong")]
    WrongSecret,
    /// The credential's time is over.
    #[error("the token {credential} expired at {at}")]
    Expired {
        /// The credential that was shown.
        credential: CredentialId,
        /// When it expired.
        at: Timestamp,
    },
    /// The credential was taken back.
    #[error("the token {credential} was revoked at {at}")]
    Revoked {
        /// The credential that was shown.
        credential: CredentialId,
        /// When it was revoked.
        at: Timestamp,
    },
    /// A key for SSH that nobody has.
    #[error("no principal has the SSH key {0}")]
    UnknownKey(String),
    /// A certificate for SSH that the gateway's authority did not make, or not for now.
    #[error("the SSH certificate is not of this gateway's authority, not valid now, or names nobody")]
    Certificate,
    /// The principal, or the person it acts for, is disabled.
    #[error("the principal, or the person it acts for, is disabled")]
    Disabled,
    /// Too many logins failed before this one, and it was not even looked at.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The exchange broke off before there was a proof.
    #[error(transparent)]
    Exchange(ScramError),
}

impl Rejected {
    /// A word for it that stays the same, for filters and counts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownPrincipal => "unknown-principal",
            Self::WrongSecret => "wrong-secret",
            Self::UnknownKey(_) => "unknown-key",
            Self::Certificate => "certificate",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::Disabled => "disabled",
            Self::Throttled(_) => "throttled",
            Self::Exchange(ScramError::Downgrade | ScramError::BindingMismatch) => "channel-binding",
            Self::Exchange(_) => "protocol",
        }
    }

    /// Whether it counts as a failed guess. One that was not looked at does not.
    #[must_use]
    pub const fn counts_as_failure(&self) -> bool {
        !matches!(self, Self::Throttled(_))
    }
}

/// A login of somebody who claims a name.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// What the snapshot has under the claimed name.
    pub principal: Option<&'a Principal>,
    /// The wall clock.
    pub now: Timestamp,
}

impl Login<'_> {
    /// A token in the clear: inside TLS, or as a bearer token.
    ///
    /// # Errors
    /// [`Rejected`], for the trail.
    pub fn by_token(self, presented: &[u8], proven_by: ProvenBy) -> Result<Who, Rejected> {
        // Hashed before anything is known of the principal, so that the time does not tell.
        let digest = TokenDigest::of(presented);
        let principal = self.principal.ok_or(Rejected::UnknownPrincipal)?;
        let credential = principal.credentials.iter().find(|credential| credential.token_digest == digest);
        self.conclude(principal, credential.ok_or(Rejected::WrongSecret)?.id, proven_by)
    }

    /// A signature that fits a public key.
    ///
    /// # Errors
    /// [`Rejected`], for the trail.
    pub fn by_ssh_key(self, key: &SshPublicKey) -> Result<Who, Rejected> {
        let principal = self.principal.ok_or(Rejected::UnknownPrincipal)?;
        let known = principal.ssh_key(key).ok_or(Rejected::WrongSecret)?;
        self.conclude(principal, known.id, ProvenBy::SshKey)
    }

    /// A certificate of the gateway's own authority, which hangs on one of the principal's credentials: it works as
    /// long as that does.
    ///
    /// # Errors
    /// [`Rejected`], for the trail.
    pub fn by_certificate(self, credential: CredentialId) -> Result<Who, Rejected> {
        let principal = self.principal.ok_or(Rejected::UnknownPrincipal)?;
        self.conclude(principal, credential, ProvenBy::SshCertificate)
    }

    /// A proof that [`crate::scram::server`] found to fit.
    ///
    /// # Errors
    /// [`Rejected`], for the trail.
    pub fn by_proof(self, proof: &ScramProof) -> Result<Who, Rejected> {
        let principal = self.principal.ok_or(Rejected::UnknownPrincipal)?;
        let credential = principal.credential(proof.credential).ok_or(Rejected::WrongSecret)?;
        self.conclude(principal, credential.id, proof.mechanism.proven_by())
    }

    /// What to record when the exchange ended without a proof.
    #[must_use]
    pub fn without_proof(self, error: ScramError) -> Rejected {
        match (error, self.principal) {
            (ScramError::Proof, Some(_)) => Rejected::WrongSecret,
            (ScramError::Proof, None) => Rejected::UnknownPrincipal,
            (error, _) => Rejected::Exchange(error),
        }
    }

    fn conclude(
        self,
        principal: &Principal,
        credential: CredentialId,
        proven_by: ProvenBy,
    ) -> Result<Who, Rejected> {
        if principal.disabled {
            return Err(Rejected::Disabled);
        }
        let Validity { expires_at, revoked_at } =
            principal.validity(credential).ok_or(Rejected::WrongSecret)?;
        match CredentialState::at(self.now, expires_at, revoked_at) {
            CredentialState::Active => Ok(principal.who(credential, proven_by)),
            CredentialState::Expired => {
                Err(Rejected::Expired { credential, at: expires_at.unwrap_or(self.now) })
            }
            CredentialState::Revoked => {
                Err(Rejected::Revoked { credential, at: revoked_at.unwrap_or(self.now) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{PrincipalId, PrincipalKind};

    use super::*;
    use crate::principal::Credential;
    use crate::scram::ScramVerifier;
    use crate::token::Token;

    const NOW: Timestamp = Timestamp(1_000);

    fn principal(token: &Token) -> Principal {
        let credential = Credential {
            id: CredentialId::from_bytes([3; 16]),
            scram: ScramVerifier::of_token(token, [5; 16]),
            token_digest: token.digest(),
            created_at: Timestamp(0),
            expires_at: None,
            revoked_at: None,
        };
        Principal {
            id: PrincipalId::from_bytes([1; 16]),
            kind: PrincipalKind::Agent,
            name: "chatgpt".parse().unwrap(),
            on_behalf_of: Some("alice".parse().unwrap()),
            groups: Vec::new(),
            roles: Vec::new(),
            disabled: false,
            credentials: vec![credential],
            ssh_keys: Vec::new(),
        }
    }

    fn login(principal: Option<&Principal>, token: &Token) -> Result<Who, Rejected> {
        Login { principal, now: NOW }.by_token(token.expose().as_bytes(), ProvenBy::TokenInTls)
    }

    #[test]
    fn the_right_token_says_who_and_for_whom() {
        let token = Token::mint().unwrap();
        let who = login(Some(&principal(&token)), &token).unwrap();
        assert_eq!((who.name.as_str(), who.proven_by), ("chatgpt", ProvenBy::TokenInTls));
        assert_eq!(who.on_behalf_of.unwrap().as_str(), "alice");
        assert_eq!(who.credential, CredentialId::from_bytes([3; 16]));
    }

    #[test]
    fn each_reason_is_told_apart_for_the_trail() {
        let token = Token::mint().unwrap();
        let rejected = |change: fn(&mut Principal)| {
            let mut principal = principal(&token);
            change(&mut principal);
            login(Some(&principal), &token).unwrap_err().code()
        };
        assert_eq!(rejected(|p| p.disabled = true), "disabled");
        assert_eq!(rejected(|p| p.credentials[0].expires_at = Some(NOW)), "expired");
        assert_eq!(rejected(|p| p.credentials[0].revoked_at = Some(NOW)), "revoked");
        assert_eq!(rejected(|p| p.credentials.clear()), "wrong-secret");
        assert_eq!(login(None, &token).unwrap_err().code(), "unknown-principal");
        let other = Token::mint().unwrap();
        assert_eq!(login(Some(&principal(&token)), &other), Err(Rejected::WrongSecret));
    }

    #[test]
    fn a_credential_works_until_the_moment_that_it_ends() {
        let token = Token::mint().unwrap();
        let mut principal = principal(&token);
        principal.credentials[0].expires_at = Some(Timestamp(NOW.0 + 2));
        principal.credentials[0].revoked_at = Some(Timestamp(NOW.0 + 1));
        assert!(login(Some(&principal), &token).is_ok());
        assert_eq!(principal.credentials[0].ends_at(), Some(Timestamp(NOW.0 + 1)));
    }
}
