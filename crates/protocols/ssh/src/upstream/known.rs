//! Whom the gateway takes for the target: pinned host keys, or certificates of pinned authorities. Nobody else, and
//! nobody is asked.

use std::collections::BTreeMap;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use session::Secret;
use vocabulary::Timestamp;

use super::UpstreamError;

/// Host keys and authorities that were given with the target.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: Vec<KeyData>,
    authorities: Vec<PublicKey>,
}

impl Known {
    pub(super) fn of(material: &BTreeMap<String, Secret>) -> Result<Self, UpstreamError> {
        let read = |name: &'static str| -> Result<Vec<PublicKey>, UpstreamError> {
            let Some(secret) = material.get(name) else { return Ok(Vec::new()) };
            let text = std::str::from_utf8(secret.expose()).map_err(|_| UpstreamError::Material(name))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(|line| public_key(line).ok_or(UpstreamError::Material(name))).collect()
        };
        let keys = read("host_key")?.into_iter().map(|key| key.key_data().clone()).collect();
        Ok(Self { keys, authorities: read("host_ca")? })
    }

    /// Algorithms of the pinned keys: a server with several keys should show one of these.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for algorithm in self.keys.iter().map(KeyData::algorithm) {
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        algorithms
    }

    /// Whether certificates are of any use.
    pub(super) const fn certificate_algorithms(&self) -> bool {
        !self.authorities.is_empty()
    }

    /// Whether this is the target.
    pub(super) fn check(&self, host: &str, shown: &PublicKeyOrCertificate) -> Result<(), UpstreamError> {
        let key = shown.public_key();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if self.keys.contains(key.key_data()) {
            return Ok(());
        }
        if let Some(certificate) = shown.certificate() {
            let trusted: Vec<_> =
                self.authorities.iter().map(|known| known.fingerprint(HashAlg::Sha256)).collect();
            let now = Timestamp::now().unix_ms() / 1000;
            let names = certificate.valid_principals();
            // A certificate without names is for every host (OpenSSH's PROTOCOL.certkeys).
            let named = names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(host));
            if !trusted.is_empty()
                && certificate.cert_type() == CertType::Host
                && named
                && certificate.validate_at(now, &trusted).is_ok()
            {
                return Ok(());
            }
            return Err(UpstreamError::Certificate { fingerprint });
        }
        let shown = key.to_openssh().unwrap_or_default();
        let key = shown.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        if self.keys.is_empty() && self.authorities.is_empty() {
            Err(UpstreamError::UnknownHost { fingerprint, key })
        } else {
            Err(UpstreamError::OtherHost { fingerprint })
        }
    }
}

/// The key in a line of `known_hosts`, of `ssh-keyscan` or of a `.pub` file.
fn public_key(line: &str) -> Option<PublicKey> {
    let words: Vec<&str> = line.split_whitespace().collect();
    (0..words.len()).find_map(|from| PublicKey::from_openssh(&words.get(from..from + 2)?.join(" ")).ok())
}
