//! Public keys of SSH as people write them: `ssh-ed25519 AAAA… comment`.
//!
//! Only the outer form is read here: the algorithm's name, which the key's own bytes repeat (RFC 4253, section 6.6).
//! Whether a signature fits is for whoever speaks the protocol.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use vocabulary::{CredentialId, Timestamp};

use crate::principal::CredentialState;

/// Longest key, in bytes of its wire form: RSA with 16,384 bits is a little over 2 KiB.
pub const MAX_KEY_LEN: usize = 4096;

/// Algorithms that may prove a principal. DSA is not among them: no library signs with it any more.
const ALGORITHMS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// A public key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SshPublicKey {
    algorithm: &'static str,
    blob: Vec<u8>,
}

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshKeyError {
    /// It holds a private key.
    #[error("this is a private key; give the public one, whose file name ends in .pub")]
    Private,
    /// It is a certificate.
    #[error("this is a certificate; give the public key that it was made for")]
    Certificate,
    /// Not `ALGORITHM BASE64`.
    #[error("this is no public key of SSH; its file has one line such as `ssh-ed25519 AAAA… comment`")]
    Malformed,
    /// An algorithm that is not supported.
    #[error("keys of this algorithm are not supported; make one with `ssh-keygen -t ed25519`")]
    Algorithm,
}

impl SshPublicKey {
    /// Takes a key in its wire form.
    ///
    /// # Errors
    /// [`SshKeyError`] if its algorithm is not supported or it is too long.
    pub fn from_blob(blob: Vec<u8>) -> Result<Self, SshKeyError> {
        let name = first_string(&blob).filter(|_| blob.len() <= MAX_KEY_LEN).ok_or(SshKeyError::Malformed)?;
        if name.windows(b"-cert-v01".len()).any(|part| part == b"-cert-v01") {
            return Err(SshKeyError::Certificate);
        }
        let known = ALGORITHMS.into_iter().find(|known| known.as_bytes() == name);
        Ok(Self { algorithm: known.ok_or(SshKeyError::Algorithm)?, blob })
    }

    /// The algorithm's name.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The key's wire form.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.blob);
        format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(digest.as_ref()))
    }
}

/// `ALGORITHM BASE64`, without a comment.
impl fmt::Display for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, BASE64_STANDARD.encode(&self.blob))
    }
}

impl FromStr for SshPublicKey {
    type Err = SshKeyError;
    fn from_str(text: &str) -> Result<Self, SshKeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(SshKeyError::Private);
        }
        let mut words = text.split_whitespace();
        let (name, encoded) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if encoded.len() > MAX_KEY_LEN * 2 {
            return Err(SshKeyError::Malformed);
        }
        let blob = BASE64_STANDARD.decode(encoded).map_err(|_| SshKeyError::Malformed)?;
        let key = Self::from_blob(blob)?;
        if key.algorithm == name { Ok(key) } else { Err(SshKeyError::Malformed) }
    }
}

/// The string that a wire form begins with (RFC 4251, section 5).
fn first_string(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// A public key that proves a principal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshKey {
    /// Names the key in the trail.
    pub id: CredentialId,
    /// The key itself.
    pub key: SshPublicKey,
    /// When it was added.
    pub created_at: Timestamp,
    /// From when on it no longer works; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
    /// From when on it is revoked.
    pub revoked_at: Option<Timestamp>,
}

impl SshKey {
    /// Whether it works at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> CredentialState {
        CredentialState::at(now, self.expires_at, self.revoked_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f somebody@somewhere";

    #[test]
    fn a_key_is_read_as_people_write_it() {
        let key: SshPublicKey = KEY.parse().unwrap();
        assert_eq!(key.algorithm(), "ssh-ed25519");
        assert_eq!(key.blob().len(), 51);
        assert!(KEY.starts_with(&key.to_string()));
        assert_eq!(key.to_string().parse::<SshPublicKey>().unwrap(), key);
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
    }

    #[test]
    fn what_is_no_public_key_is_told_apart() {
        let said = |text: &str| text.parse::<SshPublicKey>().unwrap_err();
        assert_eq!(said("-----BEGIN OPENSSH PRIVATE KEY-----\nx"), SshKeyError::Private);
        assert_eq!(said(""), SshKeyError::Malformed);
        assert_eq!(said("ssh-ed25519"), SshKeyError::Malformed);
        assert_eq!(said("ssh-ed25519 AAAA"), SshKeyError::Malformed);
        assert_eq!(said(&KEY.replacen("ssh-ed25519", "ssh-rsa", 1)), SshKeyError::Malformed);
        assert_eq!(said("ssh-dss AAAAB3NzaC1kc3M="), SshKeyError::Algorithm);
        assert_eq!(
            said("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"),
            SshKeyError::Certificate
        );
    }
}
