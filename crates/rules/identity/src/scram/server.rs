//! The server's side: a client proves itself to the gateway.
//!
//! A principal may have several secrets at a time (a rotation with grace). They share salt and iterations, so
//! one challenge fits all, and the proof is then tried against each. For a principal that doesn't exist the
//! exchange runs all the same, against a [`Decoy`], and fails at the end like a wrong secret.

use std::fmt;

use vocabulary::CredentialId;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::binding::ChannelBinding;
use super::keys::{Key, ScramVerifier, hmac_sha256, same, sha256, xor};
use super::message::{self, Attributes, Nonce};
use super::{ITERATIONS, Mechanism, SALT_LEN, ScramError};
use crate::principal::Principal;

/// Makes challenges for principals that don't exist look like those of principals that do: the same name
/// always gets the same salt. The secret must outlive a restart, or a changed salt would give it away.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Decoy([u8; 32]);

impl Decoy {
    /// A decoy from 32 secret bytes that stay the same for the life of the installation.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    fn verifier(&self, claimed: &[u8]) -> ScramVerifier {
        let part = |purpose: &[u8]| hmac_sha256(&self.0, &[purpose, b"\0", claimed].concat());
        ScramVerifier {
            salt: part(b"salt").first_chunk::<SALT_LEN>().copied().unwrap_or_default(),
            iterations: ITERATIONS,
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }
}

impl fmt::Debug for Decoy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoy(…)")
    }
}

/// An exchange that waits for client-first.
#[derive(Debug)]
pub struct ScramServer {
    /// Never empty. `None` is the decoy's: its proof never counts.
    candidates: Vec<(Option<CredentialId>, ScramVerifier)>,
    binding: Option<ChannelBinding>,
}

impl ScramServer {
    /// An exchange with whoever claims to be `claimed`. `principal` is what the snapshot has under that name;
    /// `binding` is that of our own certificate, `None` outside TLS.
    #[must_use]
    pub fn new(
        principal: Option<&Principal>,
        claimed: &[u8],
        decoy: &Decoy,
        binding: Option<ChannelBinding>,
    ) -> Self {
        let mut candidates: Vec<(Option<CredentialId>, ScramVerifier)> = principal
            .into_iter()
            .flat_map(|principal| &principal.credentials)
            .map(|credential| (Some(credential.id), credential.scram.clone()))
            .collect();
        match candidates.first().map(|(_, verifier)| (verifier.salt, verifier.iterations)) {
            // One challenge has one salt. The store mints all of a principal's secrets under the same.
            Some(asked) => candidates.retain(|(_, verifier)| (verifier.salt, verifier.iterations) == asked),
            None => candidates.push((None, decoy.verifier(claimed))),
        }
        Self { candidates, binding }
    }

    /// The mechanisms to offer, best first.
    #[must_use]
    pub const fn mechanisms(&self) -> &'static [Mechanism] {
        if self.binding.is_some() {
            &[Mechanism::ScramSha256Plus, Mechanism::ScramSha256]
        } else {
            &[Mechanism::ScramSha256]
        }
    }

    /// Takes client-first and makes the challenge.
    ///
    /// # Errors
    /// [`ScramError`] if the message is malformed, contradicts the mechanism, or shows a downgrade.
    pub fn challenge(
        self,
        mechanism: Mechanism,
        client_first: &[u8],
        nonce: &Nonce,
    ) -> Result<ScramChallenge, ScramError> {
        if !self.mechanisms().contains(&mechanism) {
            return Err(ScramError::Mechanism);
        }
        let text = message::text(client_first)?;
        let (flag, rest) =
            text.split_once(',').ok_or(ScramError::Malformed("the channel binding flag is missing"))?;
        check_flag(flag, mechanism, self.binding.is_some())?;
        let (authorization, bare) =
            rest.split_once(',').ok_or(ScramError::Malformed("the authorization identity is missing"))?;
        if !authorization.is_empty() {
            return Err(ScramError::Malformed("it names an authorization identity, which is not supported"));
        }

        let mut attributes = Attributes::of(bare);
        attributes.expect(b'n', "the user name is missing")?;
        let client_nonce = message::nonce(attributes.expect(b'r', "the nonce is missing")?)?;
        attributes.skip_extensions()?;

        // RFC 5802, section 5.1: `c=` repeats the GS2 header, and under -PLUS the binding's bytes follow.
        let mut bound = format!("{flag},,").into_bytes();
        if let (Mechanism::ScramSha256Plus, Some(binding)) = (mechanism, &self.binding) {
            bound.extend_from_slice(binding.as_bytes());
        }
        let nonce = format!("{client_nonce}{}", nonce.as_str());
        let (salt, iterations) =
            self.candidates.first().map_or(([0; SALT_LEN], ITERATIONS), |(_, v)| (v.salt, v.iterations));
        let message = format!("r={nonce},s={},i={iterations}", message::to_base64(&salt));
        Ok(ScramChallenge {
            auth_message: format!("{bare},{message},"),
            candidates: self.candidates,
            mechanism,
            bound,
            nonce,
            message,
        })
    }
}

/// RFC 5802, section 6: what the flag may say under each mechanism.
fn check_flag(flag: &str, mechanism: Mechanism, offered_plus: bool) -> Result<(), ScramError> {
    match (flag, mechanism) {
        ("p=tls-server-end-point", Mechanism::ScramSha256Plus) | ("n", Mechanism::ScramSha256) => Ok(()),
        ("y", Mechanism::ScramSha256) if offered_plus => Err(ScramError::Downgrade),
        ("y", Mechanism::ScramSha256) => Ok(()),
        ("n" | "y" | "p=tls-server-end-point", _) => Err(ScramError::Flag),
        (other, _) if other.starts_with("p=") => Err(ScramError::BindingType),
        _ => Err(ScramError::Malformed("the channel binding flag is neither n, y nor p")),
    }
}

/// An exchange whose challenge is out; it waits for client-final.
#[derive(Debug)]
pub struct ScramChallenge {
    candidates: Vec<(Option<CredentialId>, ScramVerifier)>,
    mechanism: Mechanism,
    bound: Vec<u8>,
    nonce: String,
    message: String,
    /// client-first-bare and server-first so far.
    auth_message: String,
}

impl ScramChallenge {
    /// server-first, to be sent.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Takes client-final and checks the proof.
    ///
    /// # Errors
    /// [`ScramError::Proof`] if it fits no credential (always so for a decoy), and others if the message is
    /// malformed or belongs to another exchange or channel.
    pub fn verify(mut self, client_final: &[u8]) -> Result<ScramProof, ScramError> {
        let text = message::text(client_final)?;
        // The proof comes last, and what stands before it is signed.
        let (without_proof, _) =
            text.rsplit_once(",p=").ok_or(ScramError::Malformed("the proof is missing or not last"))?;

        let mut attributes = Attributes::of(text);
        let bound = attributes.expect(b'c', "the channel binding is missing")?;
        let nonce = message::nonce(attributes.expect(b'r', "the nonce is missing")?)?;
        let proof = loop {
            match attributes.next()? {
                Some((b'p', value)) => break value,
                Some((b'm', _)) => return Err(ScramError::Malformed("it asks for a mandatory extension")),
                Some(_) => {}
                None => return Err(ScramError::Malformed("the proof is missing or not last")),
            }
        };
        attributes.end()?;
        let bound = message::base64(bound, "the channel binding is not base64")?;
        let proof = message::base64(proof, "the proof is not base64")?;
        let proof: Key = proof.try_into().map_err(|_| ScramError::Malformed("a proof has 32 bytes"))?;

        if !same(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::Nonce);
        }
        if !same(&bound, &self.bound) {
            return Err(ScramError::BindingMismatch);
        }
        self.auth_message.push_str(without_proof);
        let signed = self.auth_message.as_bytes();

        // Every candidate is tried, fitting or not: the time tells nothing but their number.
        let mut proven = None;
        for (credential, verifier) in &self.candidates {
            let client_key = xor(&proof, &hmac_sha256(&verifier.stored_key, signed));
            let fits = same(&sha256(&client_key), &verifier.stored_key);
            let signature = hmac_sha256(&verifier.server_key, signed);
            if let (true, Some(credential)) = (fits, credential) {
                proven = Some((*credential, signature));
            }
        }
        let (credential, signature) = proven.ok_or(ScramError::Proof)?;
        let message = format!("v={}", message::to_base64(&signature));
        Ok(ScramProof { credential, mechanism: self.mechanism, message })
    }
}

/// The proof fits a credential. Whether that still works is for [`crate::authenticate`] to say, before the
/// message is sent.
#[derive(Debug)]
#[must_use]
pub struct ScramProof {
    pub(crate) credential: CredentialId,
    pub(crate) mechanism: Mechanism,
    message: String,
}

impl ScramProof {
    /// server-final, to be sent once the login is accepted.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// The credential that the client holds.
    #[must_use]
    pub const fn credential(&self) -> CredentialId {
        self.credential
    }
}
