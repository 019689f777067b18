//! The gateway's own keys: the host key that clients know it by, and the authority that certifies it, and principals.
//!
//! Both are made at the first start and kept in `DATA/ssh` (0600): whoever has learnt to trust them is not asked again.
//! The host's certificate is made anew at every start, for the names and addresses of the moment.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::SshPublicKey;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey};
use vocabulary::{CredentialId, Name, Timestamp};

/// A client's or a server's clock may be behind by this much when a certificate is first shown, in seconds.
const CLOCK_SKEW_S: u64 = 300;

/// How long the host's certificate is valid: the gateway makes a new one at every start.
const HOST_CERTIFICATE_S: u64 = 5 * 365 * 24 * 60 * 60;

/// Why the gateway's keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file or folder can't be read or made.
    #[error("can't use {}; check who may read it and that the disk has room", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no private key.
    #[error(
        "{} is damaged; put a backup in its place, or move it away: a new key is made, and clients have to learn it", path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ssh_key::Error,
    },
    /// A key or certificate can't be made.
    #[error("a key or certificate could not be made; try again")]
    Made(#[source] ssh_key::Error),
    /// The public key can't be certified.
    #[error("this public key can't be certified: {0}; make one with `ssh-keygen -t ed25519`")]
    Unfit(ssh_key::Error),
}

/// The gateway's own keys.
#[derive(Debug)]
pub struct GatewayKeys {
    pub(crate) host: PrivateKey,
    pub(crate) certificate: Certificate,
    authority: PrivateKey,
}

impl GatewayKeys {
    /// Opens the keys in `folder`, making those that are missing. `hosts` are the names and addresses by which clients
    /// reach the gateway.
    ///
    /// # Errors
    /// [`KeysError`] names the file.
    pub fn open(folder: &Path, hosts: &[String]) -> Result<Self, KeysError> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(KeysError::File { path: folder.to_owned(), source });
            }
            _ => {}
        }
        let host = kept_key(&folder.join("host_key"))?;
        let authority = kept_key(&folder.join("authority_key"))?;
        let now = unix_s();
        let certificate = (|| {
            let key = host.public_key().clone();
            let mut builder = Builder::new_with_random_nonce(
                &mut safe_rng(),
                key,
                now.saturating_sub(CLOCK_SKEW_S),
                now + HOST_CERTIFICATE_S,
            )?;
            builder.cert_type(CertType::Host)?.key_id("trailgate")?;
            for name in hosts {
                builder.valid_principal(name.as_str())?;
            }
            builder.sign(&authority)
        })()
        .map_err(KeysError::Made)?;
        Ok(Self { host, certificate, authority })
    }

    /// The host key as a line of `known_hosts` has it, without names.
    #[must_use]
    pub fn host_line(&self) -> String {
        line(self.host.public_key())
    }

    /// The authority's public key, likewise.
    #[must_use]
    pub fn authority_line(&self) -> String {
        line(self.authority.public_key())
    }

    /// Certifies that whoever has the private half of `key` is `principal`, until `lifetime` is over or `credential`
    /// ends. Returns the certificate as its file has it.
    ///
    /// # Errors
    /// [`KeysError`] if the key is none that can be certified.
    pub fn certify(
        &self,
        principal: &Name,
        credential: CredentialId,
        key: &SshPublicKey,
        lifetime: Duration,
    ) -> Result<String, KeysError> {
        let key = PublicKey::from_openssh(&key.to_string()).map_err(KeysError::Unfit)?;
        let now = unix_s();
        let after = now.saturating_sub(CLOCK_SKEW_S);
        let made = (|| {
            let before = now.saturating_add(lifetime.as_secs());
            let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), key, after, before)?;
            builder.cert_type(CertType::User)?;
            builder.key_id(credential.to_string())?.valid_principal(principal.as_str())?;
            builder.extension("permit-pty", "")?;
            builder.comment(format!("{principal} through trailgate"))?;
            builder.sign(&self.authority)
        })();
        made.and_then(|certificate| certificate.to_openssh()).map_err(KeysError::Made)
    }

    /// The principal and the credential that a certificate of the gateway's own authority names.
    ///
    /// Returns `None` for a certificate of anybody else, one that is not for users, or not valid at `now`.
    #[must_use]
    pub fn bearer(&self, certificate: &Certificate, now: Timestamp) -> Option<(Name, CredentialId)> {
        let trusted = self.authority.public_key().fingerprint(HashAlg::Sha256);
        certificate.validate_at(now.unix_ms() / 1000, [&trusted]).ok()?;
        if certificate.cert_type() != CertType::User || !certificate.critical_options().is_empty() {
            return None;
        }
        let [principal] = certificate.valid_principals() else { return None };
        Some((principal.parse().ok()?, certificate.key_id().parse().ok()?))
    }
}

fn line(key: &PublicKey) -> String {
    let mut bare = key.clone();
    bare.set_comment("");
    bare.to_openssh().unwrap_or_default().trim_end().to_owned()
}

/// Reads a private key, or makes one where there is none.
fn kept_key(path: &Path) -> Result<PrivateKey, KeysError> {
    let failed = |source| KeysError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(text) => PrivateKey::from_openssh(text)
            .map_err(|source| KeysError::Damaged { path: path.to_owned(), source }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).map_err(KeysError::Made)?;
            let text = key.to_openssh(LineEnding::LF).map_err(KeysError::Made)?;
            // Written whole under another name first: a crash leaves no half of a key that clients would have to learn.
            let draft = path.with_extension("new");
            let _ = std::fs::remove_file(&draft);
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&draft, path).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_stay_the_same_and_private() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("ssh");
        let first = GatewayKeys::open(&folder, &["localhost".to_owned()]).unwrap();
        let second = GatewayKeys::open(&folder, &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        assert_eq!(first.host_line(), second.host_line());
        assert_eq!(first.authority_line(), second.authority_line());
        assert_ne!(first.host_line(), first.authority_line());
        for name in ["host_key", "authority_key"] {
            assert_eq!(folder.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(second.certificate.valid_principals(), ["localhost", "127.0.0.1"]);
        std::fs::write(folder.join("host_key"), "no key").unwrap();
        assert!(matches!(GatewayKeys::open(&folder, &[]), Err(KeysError::Damaged { .. })));
    }

    #[test]
    fn only_certificates_of_the_own_authority_for_users_name_somebody() {
        let temp = tempfile::tempdir().unwrap();
        let hosts = ["localhost".to_owned()];
        let keys = GatewayKeys::open(&temp.path().join("a"), &hosts).unwrap();
        let others = GatewayKeys::open(&temp.path().join("b"), &hosts).unwrap();
        let user = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let key: SshPublicKey = line(user.public_key()).parse().unwrap();
        let (name, credential) = ("chatgpt".parse::<Name>().unwrap(), CredentialId::from_bytes([3; 16]));
        let hour = Duration::from_secs(3600);
        let made = keys.certify(&name, credential, &key, hour).unwrap();
        let certificate = Certificate::from_openssh(&made).unwrap();
        let now = Timestamp::now();
        assert_eq!(keys.bearer(&certificate, now), Some((name, credential)));
        assert_eq!(others.bearer(&certificate, now), None);
        assert_eq!(keys.bearer(&certificate, Timestamp(now.0 + 3_700_000_000)), None);
        assert_eq!(keys.bearer(&keys.certificate, now), None);
    }
}
