//! What wraps the data keys of payloads: the node key, or an age recipient in its place.
//!
//! With a recipient alone a gateway seals what it can't open again: whoever takes it over later reads nothing of the past. The
//! identity stays with those who read, who work on a copy of the files: `trailgate trail … --identity FILE`.

use std::path::Path;
use std::sync::Arc;

use age::x25519;
use aws_lc_rs::digest::{SHA256, digest};
use trail::{DataKey, KeyRing, KeyWrap, VaultError};

use crate::cli::Failure;
use crate::settings::Vault;

/// Bytes of a data key.
const KEY_BYTES: usize = 32;

/// How often a wrapping is tried until it fits its slot.
///
/// age adds a stanza of random bytes to each header, so that readers stay able to skip what they don't know. With it a wrapped
/// key has 277 to 454 bytes, and a slot has room for 372: three in five fit. All that is random about the length is drawn anew
/// each time, so that none of this many fits happens once in 10²⁵.
const WRAP_TRIES: usize = 64;

/// Longest identity file, in bytes.
const MAX_IDENTITY_FILE: u64 = 64 * 1024;

/// Wraps data keys for an age recipient (X25519). What is encrypted is the key, then the SHA-256 of its context: age itself
/// binds a message to nothing.
pub struct AgeRecipient {
    id: String,
    recipient: x25519::Recipient,
}

/// Unwraps what was wrapped for its recipients.
pub struct AgeIdentities {
    identities: Vec<(String, x25519::Identity)>,
}

impl AgeRecipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// [`Failure`] if it is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let recipient: x25519::Recipient = text.parse().map_err(|problem| {
            Failure::new(
                format!("`{text}` is no age recipient ({problem})"),
                "write it as `age-keygen -y IDENTITY-FILE` prints it: age1…",
            )
        })?;
        Ok(Self { id: recipient.to_string(), recipient })
    }
}

impl AgeIdentities {
    /// Reads an identity file as `age-keygen` writes it.
    ///
    /// # Errors
    /// [`Failure`] if it can't be read or has no identity.
    pub fn from_file(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::file("read", path, &error);
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_IDENTITY_FILE {
            return Err(Failure::new(
                format!("{} is no identity file", path.display()),
                "name one of age-keygen",
            ));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<Self, Failure> {
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-1"));
        let identities: Result<Vec<_>, &str> = lines
            .map(|line| {
                line.parse::<x25519::Identity>().map(|identity| (identity.to_public().to_string(), identity))
            })
            .collect();
        match identities {
            Ok(identities) if !identities.is_empty() => Ok(Self { identities }),
            Ok(_) | Err(_) => Err(Failure::new(
                format!("{place} has no age identity (AGE-SECRET-KEY-1…) that can be used"),
                "make one with age-keygen; identities under a passphrase and those of plugins are not supported",
            )),
        }
    }

    fn of_setting(setting: &str) -> Result<Self, Failure> {
        match setting.split_once(':') {
            Some(("file", path)) => Self::from_file(Path::new(path)),
            Some(("env", name)) => {
                let text = std::env::var(name).map_err(|_| {
                    Failure::new(
                        format!("the variable {name} of vault.identity is not set"),
                        "set it, or remove the setting",
                    )
                })?;
                Self::parse(&text, name)
            }
            _ => Err(Failure::new(
                "vault.identity is neither `file:PATH` nor `env:NAME`",
                "correct the setting",
            )),
        }
    }
}

impl KeyWrap for AgeRecipient {
    fn id(&self) -> &str {
        &self.id
    }

    fn opens(&self, _id: &str) -> bool {
        false
    }

    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError> {
        let mut plain = zeroize::Zeroizing::new([0; 2 * KEY_BYTES]);
        let (place, bound) = plain.split_at_mut(KEY_BYTES);
        place.copy_from_slice(key.as_slice());
        bound.copy_from_slice(digest(&SHA256, context).as_ref());
        for _ in 0..WRAP_TRIES {
            let wrapped = age::encrypt(&self.recipient, plain.as_slice()).map_err(|_| VaultError::Wrap)?;
            if wrapped.len() <= trail::MAX_WRAPPED_BYTES {
                return Ok(wrapped);
            }
        }
        Err(VaultError::Wrap)
    }

    fn unwrap(&self, _id: &str, _context: &[u8], _wrapped: &[u8]) -> Result<DataKey, VaultError> {
        Err(VaultError::Unwrap)
    }
}

impl KeyWrap for AgeIdentities {
    fn id(&self) -> &str {
        self.identities.first().map_or("no identity", |(id, _)| id)
    }

    fn opens(&self, id: &str) -> bool {
        self.identities.iter().any(|(known, _)| known == id)
    }

    fn wrap(&self, _context: &[u8], _key: &DataKey) -> Result<Vec<u8>, VaultError> {
        Err(VaultError::Wrap)
    }

    fn unwrap(&self, id: &str, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
        let (_, identity) =
            self.identities.iter().find(|(known, _)| known == id).ok_or(VaultError::Unwrap)?;
        let plain =
            age::decrypt(identity, wrapped).map(zeroize::Zeroizing::new).map_err(|_| VaultError::Unwrap)?;
        let (key, bound) = plain.split_first_chunk::<KEY_BYTES>().ok_or(VaultError::Unwrap)?;
        if digest(&SHA256, context).as_ref() != bound {
            return Err(VaultError::Unwrap);
        }
        Ok(zeroize::Zeroizing::new(*key))
    }
}

/// What wraps and unwraps by the settings.
///
/// # Errors
/// [`Failure`] if recipient or identity can't be used.
pub fn ring(node: Arc<dyn KeyWrap>, vault: &Vault) -> Result<Arc<dyn KeyWrap>, Failure> {
    let Some(recipient) = &vault.recipient else { return Ok(node) };
    let mut reads = vec![node];
    if let Some(identity) = &vault.identity {
        reads.push(Arc::new(AgeIdentities::of_setting(identity)?));
    }
    Ok(Arc::new(KeyRing::new(Arc::new(AgeRecipient::parse(recipient)?), reads)))
}

/// What unwraps for who reads the files by themselves: the node key if it is at hand, and an identity.
///
/// # Errors
/// [`Failure`] if the identity can't be used.
pub fn reading(
    node: Option<Arc<dyn KeyWrap>>,
    identity: Option<&Path>,
) -> Result<Option<Arc<dyn KeyWrap>>, Failure> {
    let Some(identity) = identity else { return Ok(node) };
    let identities: Arc<dyn KeyWrap> = Arc::new(AgeIdentities::from_file(identity)?);
    Ok(Some(Arc::new(KeyRing::new(identities, node.into_iter().collect()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_wraps_what_only_its_identity_unwraps() {
        let (identity, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let recipient = AgeRecipient::parse(&identity.to_public().to_string()).unwrap();
        let key = zeroize::Zeroizing::new([7; KEY_BYTES]);
        let wrapped = recipient.wrap(b"here", &key).unwrap();
        assert!(recipient.id().len() <= trail::MAX_KEY_ID_BYTES);
        assert!(
            !recipient.opens(recipient.id()) && recipient.unwrap(recipient.id(), b"here", &wrapped).is_err()
        );

        let identities = |identity: x25519::Identity| AgeIdentities {
            identities: vec![(identity.to_public().to_string(), identity)],
        };
        let reads = identities(identity);
        assert!(reads.opens(recipient.id()));
        assert_eq!(reads.unwrap(recipient.id(), b"here", &wrapped).unwrap(), key);
        assert!(reads.unwrap(recipient.id(), b"there", &wrapped).is_err());
        let other = identities(other);
        assert!(!other.opens(recipient.id()) && other.unwrap(recipient.id(), b"here", &wrapped).is_err());
    }

    /// Of as many, age itself makes some hundreds that are too long.
    #[test]
    fn every_wrapped_key_fits_its_slot() {
        let identity = x25519::Identity::generate();
        let recipient = AgeRecipient::parse(&identity.to_public().to_string()).unwrap();
        let key = zeroize::Zeroizing::new([7; KEY_BYTES]);
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..3000 {
            let wrapped = recipient.wrap(b"here", &key).unwrap();
            assert!(wrapped.len() <= trail::MAX_WRAPPED_BYTES, "{}", wrapped.len());
            lengths.insert(wrapped.len());
        }
        assert!(lengths.len() > 50, "age pads no more: then there is nothing to try again for: {lengths:?}");
    }

    #[test]
    fn identity_files_are_those_of_age_keygen() {
        use age::secrecy::ExposeSecret;
        let identity = x25519::Identity::generate();
        let text = format!(
            "# created: today\n# public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        let read = AgeIdentities::parse(&text, "here").unwrap();
        assert!(read.opens(&identity.to_public().to_string()));
        assert!(AgeIdentities::parse("# nothing\n", "here").is_err());
        assert!(AgeRecipient::parse("age1wrong").is_err());
    }
}
