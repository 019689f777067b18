//! Who runs a command, and how that is known.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{CredentialId, PrincipalId};

/// Longest name of a principal, target or group, in bytes. PostgreSQL cuts user names at 63.
pub const MAX_NAME_LEN: usize = 63;

/// The name of a principal, target or group: lower-case letters, digits, `-`, `_` and `.`, beginning with a
/// letter or digit. It has to pass unquoted through a DSN, an ssh host name and a URL path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name; use 1 to 63 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit")]
pub struct NameError(String);

impl Name {
    /// What the trail calls whoever may open the control socket. Reserved: no principal is given it.
    #[must_use]
    pub fn local_administrator() -> Self {
        Self("local-administrator".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
        let begins_well = text.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if begins_well && text.len() <= MAX_NAME_LEN && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What sort of principal it is. Codes are part of the leaf format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum PrincipalKind {
    /// A program that acts by itself, often for a person.
    Agent = 1,
    /// A human being.
    Person = 2,
    /// A program that does one fixed job.
    Service = 3,
}

impl PrincipalKind {
    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a fact about somebody is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// Proven by a credential or a signature.
    Verified,
    /// The client said so.
    Asserted,
    /// Concluded from what was seen.
    Inferred,
}

/// How a principal proved who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ProvenBy {
    /// SCRAM-SHA-256 (RFC 7677).
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-256-PLUS: bound to the TLS channel.
    #[serde(rename = "scram-sha-256-plus")]
    ScramSha256Plus,
    /// The token itself, inside TLS.
    #[serde(rename = "token-in-tls")]
    TokenInTls,
    /// A bearer token over HTTP.
    #[serde(rename = "bearer")]
    Bearer,
    /// The local administrator: whoever may open the control socket.
    #[serde(rename = "control-socket")]
    ControlSocket,
    /// A signature with the principal's own SSH key (RFC 4252, section 7).
    #[serde(rename = "ssh-key")]
    SshKey,
    /// A signature with a key that the gateway's authority has certified for the principal.
    #[serde(rename = "ssh-certificate")]
    SshCertificate,
    /// The token itself as password, inside SSH (RFC 4252, section 8).
    #[serde(rename = "token-in-ssh")]
    TokenInSsh,
}

/// Who runs a command: the principal, and the person it acts for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// The principal's id: stays the same when it is renamed.
    pub id: PrincipalId,
    /// Agent, person or service.
    pub kind: PrincipalKind,
    /// Its name.
    pub name: Name,
    /// The person it acts for; verified, since the gateway bound it to the credential.
    pub on_behalf_of: Option<Name>,
    /// Which credential was used.
    pub credential: CredentialId,
    /// How it was proven.
    pub proven_by: ProvenBy,
}

/// What the client shows of itself. The address is the connection's own; the rest is *asserted*.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClientInfo {
    /// `address:port` of the peer.
    pub addr: String,
    /// The program's name as it gives it (`application_name`). Asserted.
    pub application: Option<String>,
    /// The task or thread it works on, as it gives it. Asserted.
    pub task: Option<String>,
    /// Negotiated TLS version, or `None` on a plain connection.
    pub tls: Option<String>,
    /// Settings that the client asked the target for as the session began, by name: a role, a search path. They
    /// change what its commands mean.
    pub settings: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pass_where_they_must() {
        for good in ["chatgpt", "a", "0", "orders.eu-1", "x_y"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "Orders", "a b", "-a", ".a", "a~b", "a/b", "a@b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
