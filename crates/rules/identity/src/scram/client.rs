//! The client's side: the gateway proves itself to a target.

use std::fmt;

use super::binding::ChannelBinding;
use super::keys::{Key, SaltedKeys, hmac_sha256, same, xor};
use super::message::{self, Attributes, Nonce};
use super::{MAX_ITERATIONS, Mechanism, ScramError};

/// Longest part of a target's own words in an error, in characters.
const MAX_QUOTED_CHARS: usize = 80;

/// libpq's `channel_binding`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ChannelBindingPolicy {
    /// Never, not even where both ends could.
    Disable,
    /// Where both ends can.
    #[default]
    Prefer,
    /// Or not at all.
    Require,
}

/// An exchange with client-first made; it waits for server-first.
#[derive(Debug)]
pub struct ScramClient {
    mechanism: Mechanism,
    nonce: Nonce,
    header: &'static str,
    bound: Vec<u8>,
    message: String,
}

impl ScramClient {
    /// Picks a mechanism from those that the target offers. `binding` is that of the target's certificate,
    /// `None` outside TLS or if the certificate has none (RFC 5929 leaves some signature algorithms out).
    ///
    /// # Errors
    /// [`ScramError::NoMechanism`] if nothing offered can be used.
    pub fn new<'a>(
        offered: impl IntoIterator<Item = &'a [u8]>,
        binding: Option<&ChannelBinding>,
        policy: ChannelBindingPolicy,
        nonce: Nonce,
    ) -> Result<Self, ScramError> {
        let (mut plain, mut plus) = (false, false);
        for mechanism in offered.into_iter().filter_map(Mechanism::from_name) {
            match mechanism {
                Mechanism::ScramSha256 => plain = true,
                Mechanism::ScramSha256Plus => plus = true,
            }
        }
        let usable = binding.filter(|_| policy != ChannelBindingPolicy::Disable);
        let (mechanism, header, bound) = match usable {
            Some(binding) if plus => {
                let header = "p=tls-server-end-point,,";
                (Mechanism::ScramSha256Plus, header, [header.as_bytes(), binding.as_bytes()].concat())
            }
            _ if policy == ChannelBindingPolicy::Require => {
                return Err(ScramError::NoMechanism(
                    "channel_binding=require needs TLS and SCRAM-SHA-256-PLUS; use channel_binding=prefer if the target has neither",
                ));
            }
            _ if !plain => {
                return Err(ScramError::NoMechanism("it should offer SCRAM-SHA-256"));
            }
            // `y` tells the target that we could: it detects if somebody took -PLUS off its list.
            Some(_) => (Mechanism::ScramSha256, "y,,", b"y,,".to_vec()),
            None => (Mechanism::ScramSha256, "n,,", b"n,,".to_vec()),
        };
        // The target takes the user name from the startup packet, so it stays empty here, as with libpq.
        let message = format!("{header}n=,r={}", nonce.as_str());
        Ok(Self { mechanism, nonce, header, bound, message })
    }

    /// An unbound exchange that names a user, as the RFC's examples do.
    #[cfg(test)]
    pub(super) fn example(user: &str, nonce: Nonce) -> Self {
        let (mechanism, header) = (Mechanism::ScramSha256, "n,,");
        let message = format!("{header}n={user},r={}", nonce.as_str());
        Self { mechanism, nonce, header, bound: header.into(), message }
    }

    /// The mechanism to name in SASLInitialResponse.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// client-first, to be sent.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Takes server-first.
    ///
    /// # Errors
    /// [`ScramError`] if it is malformed, answers another exchange, or asks for more than [`MAX_ITERATIONS`].
    pub fn challenged(self, server_first: &[u8]) -> Result<ScramAnswer, ScramError> {
        let text = message::text(server_first)?;
        let mut attributes = Attributes::of(text);
        let nonce = message::nonce(attributes.expect(b'r', "the nonce is missing")?)?;
        let salt = attributes.expect(b's', "the salt is missing")?;
        let iterations = attributes.expect(b'i', "the iteration count is missing")?;
        attributes.skip_extensions()?;

        // The target has to add something of its own, or a replay would pass.
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(ScramError::Nonce);
        }
        let salt = message::base64(salt, "the salt is not base64")?;
        if salt.is_empty() {
            return Err(ScramError::Malformed("the salt is empty"));
        }
        let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|count| digits && *count > 0);
        let iterations: u32 = iterations.ok_or(ScramError::Malformed("the iteration count is no number"))?;
        if iterations > MAX_ITERATIONS {
            return Err(ScramError::Iterations(iterations));
        }

        let without_proof = format!("c={},r={nonce}", message::to_base64(&self.bound));
        let bare = self.message.strip_prefix(self.header).unwrap_or_default();
        let auth_message = format!("{bare},{text},{without_proof}");
        Ok(ScramAnswer { salt, iterations, without_proof, auth_message })
    }
}

/// An exchange that is challenged and needs the password's keys.
#[derive(Debug)]
pub struct ScramAnswer {
    salt: Vec<u8>,
    iterations: u32,
    without_proof: String,
    auth_message: String,
}

impl ScramAnswer {
    /// The salt to derive keys with.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iterations to derive keys with, at most [`MAX_ITERATIONS`].
    #[must_use]
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Makes the proof with the keys of password, [`Self::salt`] and [`Self::iterations`].
    #[must_use]
    pub fn prove(self, keys: &SaltedKeys) -> ScramFinal {
        let signed = self.auth_message.as_bytes();
        let proof = xor(&keys.client_key, &hmac_sha256(&keys.stored_key, signed));
        ScramFinal {
            message: format!("{},p={}", self.without_proof, message::to_base64(&proof)),
            server_signature: hmac_sha256(&keys.server_key, signed),
        }
    }
}

/// An exchange with its proof made; it waits for server-final.
pub struct ScramFinal {
    message: String,
    server_signature: Key,
}

impl ScramFinal {
    /// client-final, to be sent.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Takes server-final. Only after this is the target who it claims to be.
    ///
    /// # Errors
    /// [`ScramError::ServerSignature`] if the target doesn't know the password, [`ScramError::Refused`] if it
    /// turns us away.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = message::text(server_final)?;
        let mut attributes = Attributes::of(text);
        match attributes.next()? {
            Some((b'e', reason)) => {
                let printable = |c: char| if c.is_control() { ' ' } else { c };
                Err(ScramError::Refused(reason.chars().take(MAX_QUOTED_CHARS).map(printable).collect()))
            }
            Some((b'v', signature)) => {
                attributes.skip_extensions()?;
                let signature = message::base64(signature, "the server's signature is not base64")?;
                if same(&signature, &self.server_signature) {
                    Ok(())
                } else {
                    Err(ScramError::ServerSignature)
                }
            }
            _ => Err(ScramError::Malformed("the server's signature is missing")),
        }
    }
}

impl fmt::Debug for ScramFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramFinal(…)")
    }
}
