//! Data keys, and what wraps them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac, rand,
};
use zeroize::Zeroizing;

use super::VaultError;

/// Bytes of every key here.
pub(crate) const KEY_BYTES: usize = 32;

/// The key that the payloads of one session are sealed with. Forgotten from memory when dropped.
pub type DataKey = Zeroizing<[u8; KEY_BYTES]>;

/// Wraps data keys, so that who holds the files alone can't read payloads. Implemented by [`NodeKey`]; an age recipient
/// or a key management service can stand in its place.
///
/// `context` binds the wrapped key to its session: unwrapping with another context must fail.
pub trait KeyWrap: Send + Sync {
    /// Wraps a data key. At most [`MAX_WRAPPED_BYTES`](crate::MAX_WRAPPED_BYTES).
    ///
    /// # Errors
    /// [`VaultError::Wrap`].
    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError>;

    /// Gives back a data key.
    ///
    /// # Errors
    /// [`VaultError::Unwrap`]: another key, another context, or damage.
    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError>;
}

/// What the node key is turned into a wrapping key with: it seals other secrets too, each under a key of its own.
const DERIVATION: &[u8] = b"trailgate/vault/key-wrap/v1";

/// A node key of 32 bytes in this process's memory. Wrapped keys are a random nonce of 12 bytes, then AES-256-GCM.
pub struct NodeKey {
    wrapping: LessSafeKey,
}

impl NodeKey {
    /// Takes the 32 bytes of `DATA/node.key`.
    ///
    /// # Errors
    /// [`VaultError::Crypto`] if the library refuses the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Self, VaultError> {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), DERIVATION);
        let key =
            UnboundKey::new(&AES_256_GCM, derived.as_ref()).map_err(|_| VaultError::Crypto("take a key"))?;
        Ok(Self { wrapping: LessSafeKey::new(key) })
    }

    /// Reads a file of 64 hexadecimal digits that only its owner may read.
    ///
    /// # Errors
    /// [`VaultError::File`], [`VaultError::NodeKey`].
    pub fn load(path: &Path) -> Result<Self, VaultError> {
        let mut file = File::open(path).map_err(VaultError::file("open", path))?;
        let mode = file.metadata().map_err(VaultError::file("read", path))?.permissions().mode();
        let text = Zeroizing::new(io::read_to_string(&mut file).map_err(VaultError::file("read", path))?);
        match decode_hex(text.trim_end()) {
            Some(key) if mode & 0o077 == 0 => Self::new(&key),
            _ => Err(VaultError::NodeKey { path: path.to_owned() }),
        }
    }

    /// As [`load`](Self::load), after making the file with a new key if there is none.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_or_generate(path: &Path) -> Result<Self, VaultError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let mut key = Zeroizing::new([0; KEY_BYTES]);
                rand::fill(key.as_mut_slice()).map_err(|_| VaultError::Crypto("make random bytes"))?;
                let hex: Zeroizing<String> =
                    Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect());
                let written = file.write_all(hex.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|source| {
                    // Half a key must not stay in the way of the next try.
                    let _ = fs::remove_file(path);
                    VaultError::file("write", path)(source)
                })?;
                Self::new(&key)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(VaultError::file("create", path)(error)),
        }
    }
}

impl KeyWrap for NodeKey {
    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| VaultError::Wrap)?;
        let mut sealed = Zeroizing::new(**key);
        let tag = self
            .wrapping
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                sealed.as_mut_slice(),
            )
            .map_err(|_| VaultError::Wrap)?;
        Ok([&nonce, sealed.as_slice(), tag.as_ref()].concat())
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
        let (nonce, sealed) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Unwrap)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let plain = self
            .wrapping
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut opened)
            .map_err(|_| VaultError::Unwrap)?;
        let plain: &[u8; KEY_BYTES] = (&*plain).try_into().map_err(|_| VaultError::Unwrap)?;
        Ok(Zeroizing::new(*plain))
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

/// A new data key.
pub(crate) fn new_data_key() -> Result<DataKey, VaultError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut_slice()).map_err(|_| VaultError::Crypto("make random bytes"))?;
    Ok(key)
}

fn decode_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != KEY_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(key)
}
