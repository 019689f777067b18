//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), both ends, as PostgreSQL speaks them.
//!
//! Pure state machines: each state consumes itself and yields the next, messages are bytes in and bytes out.
//! [`server`] proves a client to us, [`client`] proves us to a target. Channel binding is
//! `tls-server-end-point` (RFC 5929), the only type that PostgreSQL knows.
//!
//! PostgreSQL's dialect: the user name comes in the startup packet, so the one in client-first is ignored
//! (libpq sends it empty), and an authorization identity is refused.

mod binding;
pub mod client;
mod keys;
mod message;
pub mod server;
#[cfg(test)]
mod tests;

use vocabulary::ProvenBy;

pub use binding::{CertificateError, ChannelBinding};
pub use client::{ChannelBindingPolicy, ScramAnswer, ScramClient, ScramFinal};
pub use keys::{KeyCache, SaltedKeys, ScramVerifier};
pub use message::Nonce;
pub use server::{Decoy, ScramChallenge, ScramProof, ScramServer};

/// Iterations for secrets that the gateway mints: PostgreSQL's default, and the least that RFC 7677 allows.
/// Tokens have 256 bits of entropy, so more would only cost the client time.
pub const ITERATIONS: u32 = 4096;

/// Bytes of salt in a verifier that the gateway makes, as in PostgreSQL.
pub const SALT_LEN: usize = 16;

/// Most iterations that a target may ask of us: about 0.4 s of one core. A hostile target could otherwise
/// hold a thread for minutes with each login.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// Longest SCRAM message that is read, in bytes. Real ones have 80 to 250.
pub const MAX_MESSAGE_LEN: usize = 4096;

/// A SASL mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mechanism {
    /// Proves the secret, but not that both ends speak over the same TLS channel.
    ScramSha256,
    /// Bound to the TLS channel: nobody stands in between.
    ScramSha256Plus,
}

impl Mechanism {
    /// Its name in SASL's registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::ScramSha256, Self::ScramSha256Plus]
            .into_iter()
            .find(|mechanism| mechanism.as_str().as_bytes() == name)
    }

    /// How the trail names a proof by it.
    #[must_use]
    pub const fn proven_by(self) -> ProvenBy {
        match self {
            Self::ScramSha256 => ProvenBy::ScramSha256,
            Self::ScramSha256Plus => ProvenBy::ScramSha256Plus,
        }
    }
}

/// Why an exchange ended. None of them shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message breaks the grammar. For a client of ours: SQLSTATE 08P01.
    #[error("the SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The mechanism is not among those offered.
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// Mechanism and channel binding flag contradict each other.
    #[error("the SCRAM channel binding flag does not fit the chosen mechanism")]
    Flag,
    /// The client could bind the channel and believes that we can't: somebody in between took
    /// SCRAM-SHA-256-PLUS off the list.
    #[error("the client did not see that SCRAM-SHA-256-PLUS was offered: somebody may stand in between")]
    Downgrade,
    /// A type of channel binding other than `tls-server-end-point`.
    #[error("the client asks for a type of channel binding other than tls-server-end-point")]
    BindingType,
    /// The two ends see different certificates or flags.
    #[error("the SCRAM channel binding does not match: somebody may stand in between")]
    BindingMismatch,
    /// The nonce is not the one that this exchange began with.
    #[error("the SCRAM nonce does not match this exchange")]
    Nonce,
    /// The proof fits no credential.
    #[error("the SCRAM proof does not fit")]
    Proof,
    /// The target asks for too many iterations.
    #[error(
        "the target asks for {0} SCRAM iterations, more than the {MAX_ITERATIONS} allowed; lower its scram_iterations and set the role's password again"
    )]
    Iterations(u32),
    /// The target offers no mechanism that is known and allowed.
    #[error("the target offers no SASL mechanism that can be used: {0}")]
    NoMechanism(&'static str),
    /// The target ended the exchange.
    #[error("the target refused the SCRAM proof: {0}")]
    Refused(String),
    /// The target could not prove that it knows the password.
    #[error("the target did not prove that it knows the password: it may not be the server that it claims")]
    ServerSignature,
}

impl ScramError {
    /// Whether the peer broke the protocol, as against being turned away.
    #[must_use]
    pub const fn is_protocol_violation(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::Mechanism | Self::Flag | Self::BindingType | Self::Nonce)
    }
}
