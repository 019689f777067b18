//! Keys of signed notes: verifier keys (`vkey`), and the trait through which notes are signed wherever the private
//! key may live.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::hash::sha256;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of an Ed25519 public key.
pub const PUBLIC_KEY_BYTES: usize = 32;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why a key could not be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is empty or has a space, a plus or a control character.
    #[error("`{name}` cannot name a key: use a name without spaces and `+`, such as `example.com/log`")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// Not a verifier key of a kind known here.
    #[error("this is not a verifier key: expected `name+hexadecimal id+base64` of an Ed25519 key")]
    MalformedVerifierKey,
    /// The key id in a verifier key is not the hash of its other parts.
    #[error("the verifier key of `{name}` contradicts its own key id: part of it was changed or lost")]
    WrongKeyId {
        /// The key's name.
        name: String,
    },
    /// The file could not be read or written.
    #[error("could not {action} the signing key {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the owner may read the key file.
    #[error("the signing key {} is open to other users: run `chmod 600` on it", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
    },
    /// The file does not hold a PEM PKCS#8 Ed25519 private key.
    #[error("{} is not an Ed25519 private key in PKCS#8 PEM form", path.display())]
    MalformedKeyFile {
        /// The key file.
        path: PathBuf,
    },
    /// The cryptographic library refused.
    #[error("the cryptographic library could not make a key")]
    Generate,
}

/// What a key's signatures are made over: the signature type byte of the signed-note specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// `0x01`: Ed25519 over the note text.
    Ed25519 = 0x01,
    /// `0x04`: tlog-cosignature v1, a time and Ed25519 over it and the note text.
    Cosignature = 0x04,
}

impl KeyKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::Cosignature),
            _ => None,
        }
    }
}

/// A public key with the name it signs under. Its text form is the `vkey`: `name+id in hexadecimal+base64`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public_key: [u8; PUBLIC_KEY_BYTES],
    id: u32,
}

impl VerifierKey {
    /// # Errors
    /// [`KeyError::InvalidName`].
    pub fn new(name: &str, kind: KeyKind, public_key: [u8; PUBLIC_KEY_BYTES]) -> Result<Self, KeyError> {
        if !is_valid_key_name(name) {
            return Err(KeyError::InvalidName { name: name.to_owned() });
        }
        let id = key_id(name, kind, &public_key);
        Ok(Self { name: name.to_owned(), kind, public_key, id })
    }

    /// Reads a `vkey`.
    ///
    /// # Errors
    /// [`KeyError::MalformedVerifierKey`], [`KeyError::InvalidName`], [`KeyError::WrongKeyId`].
    pub fn parse(vkey: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::MalformedVerifierKey;
        // The Base64 part may itself hold a plus: split from the left.
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 8 || !id.bytes().all(lower_hex) {
            return Err(malformed());
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| malformed())?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| malformed())?;
        let (kind, public_key) = key.split_first().ok_or_else(malformed)?;
        let kind = KeyKind::from_byte(*kind).ok_or_else(malformed)?;
        let public_key = public_key.try_into().map_err(|_| malformed())?;
        let key = Self::new(name, kind, public_key)?;
        if key.id == id { Ok(key) } else { Err(KeyError::WrongKeyId { name: name.to_owned() }) }
    }

    /// The name on the signature line.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures are made over.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The first four bytes of SHA-256(name ‖ newline ‖ kind ‖ public key), big-endian.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The raw Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public_key
    }

    /// Whether `signature` is this key's over `message` (the bytes that were really signed).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public_key).verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind as u8];
        key.extend_from_slice(&self.public_key);
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// Key names are not empty and have neither Unicode spaces nor plus nor control characters.
#[must_use]
pub fn is_valid_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

fn key_id(name: &str, kind: KeyKind, public_key: &[u8]) -> u32 {
    let mut input = Vec::with_capacity(name.len() + 2 + public_key.len());
    input.extend_from_slice(name.as_bytes());
    input.push(b'\n');
    input.push(kind as u8);
    input.extend_from_slice(public_key);
    let [a, b, c, d, ..] = sha256(&input).0;
    u32::from_be_bytes([a, b, c, d])
}

/// A signature could not be made, for instance because the process that holds the key is away.
#[derive(Debug, thiserror::Error)]
#[error("the signing key did not sign")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Signs for a ledger. The private key may live in this process, another one, or a device.
pub trait Signer: Send {
    /// The public half, with the name that goes on the signature line.
    fn verifier(&self) -> &VerifierKey;

    /// An Ed25519 signature over exactly these bytes.
    ///
    /// # Errors
    /// [`SignError`] if the key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignError>;
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn verifier(&self) -> &VerifierKey {
        (**self).verifier()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignError> {
        (**self).sign(message)
    }
}

/// An Ed25519 key held in this process's memory.
pub struct Ed25519Signer {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl Ed25519Signer {
    /// Makes a new key that signs notes as `name`.
    ///
    /// # Errors
    /// [`KeyError::InvalidName`], [`KeyError::Generate`].
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        Self::from_pair(name, KeyKind::Ed25519, pair)
    }

    /// The key of a 32-byte seed (RFC 8032 private key).
    ///
    /// # Errors
    /// [`KeyError::InvalidName`], [`KeyError::Generate`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Generate)?;
        Self::from_pair(name, KeyKind::Ed25519, pair)
    }

    /// The same key as a witness's: its signatures are cosignatures (type `0x04`).
    ///
    /// # Errors
    /// None in practice: the name was valid before.
    pub fn into_cosigner(self) -> Result<Self, KeyError> {
        let name = self.verifier.name().to_owned();
        Self::from_pair(&name, KeyKind::Cosignature, self.pair)
    }

    /// Reads a PKCS#8 PEM file that only its owner may read.
    ///
    /// # Errors
    /// [`KeyError`] that names the file.
    pub fn load(name: &str, path: &Path) -> Result<Self, KeyError> {
        let file_error = |source| KeyError::File { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(file_error)?;
        let mode = file.metadata().map_err(file_error)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned() });
        }
        let pem = Zeroizing::new(io::read_to_string(file).map_err(file_error)?);
        let malformed = || KeyError::MalformedKeyFile { path: path.to_owned() };
        let body = pem
            .trim()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .ok_or_else(malformed)?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = Zeroizing::new(BASE64_STANDARD.decode(body.as_bytes()).map_err(|_| malformed())?);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| malformed())?;
        // A changed bit in what stands around the key would be read over.
        let is_exact = [pair.to_pkcs8v1(), pair.to_pkcs8()]
            .iter()
            .any(|form| form.as_ref().is_ok_and(|form| form.as_ref() == der.as_slice()));
        if !is_exact {
            return Err(malformed());
        }
        Self::from_pair(name, KeyKind::Ed25519, pair)
    }

    /// Writes the key as PKCS#8 PEM with mode 0600, and fsyncs it. Refuses to replace an existing file.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let der: Pkcs8V1Der = self.pair.as_der().map_err(|_| KeyError::Generate)?;
        let body = Zeroizing::new(BASE64_STANDARD.encode(der.as_ref()));
        let mut pem = Zeroizing::new(format!("{PEM_BEGIN}\n"));
        for line in body.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap_or_default());
            pem.push('\n');
        }
        pem.push_str(PEM_END);
        pem.push('\n');
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()?;
            path.parent()
                .filter(|dir| !dir.as_os_str().is_empty())
                .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|source| KeyError::File { action: "write", path: path.to_owned(), source })
    }

    /// [`load`](Self::load), or [`generate`](Self::generate) and [`save`](Self::save) if there is no such file.
    ///
    /// # Errors
    /// As those.
    pub fn load_or_generate(name: &str, path: &Path) -> Result<Self, KeyError> {
        match Self::load(name, path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let signer = Self::generate(name)?;
                signer.save(path)?;
                Ok(signer)
            }
            other => other,
        }
    }

    fn from_pair(name: &str, kind: KeyKind, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public_key = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Generate)?;
        Ok(Self { pair, verifier: VerifierKey::new(name, kind, public_key)? })
    }
}

impl Signer for Ed25519Signer {
    fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignError> {
        let signature = self.pair.try_sign(message).map_err(|error| SignError(Box::new(error)))?;
        signature.as_ref().try_into().map_err(|error| SignError(Box::new(error)))
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the private half.
        f.debug_struct("Ed25519Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
