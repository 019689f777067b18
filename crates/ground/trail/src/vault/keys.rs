//! Data keys, and what wraps them.

use std::sync::Arc;

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

/// Wraps data keys, so that who holds the files alone can't read payloads. Implemented by [`NodeKey`]; an age recipient or a
/// key management service stands in its place, [`KeyRing`] joins several.
///
/// `context` binds the wrapped key to its session and retention class: unwrapping with another context must fail.
/// Called by the sealer once for each session and class, so a call over the network is affordable; while it fails, sealing
/// waits, and recording does not.
pub trait KeyWrap: Send + Sync {
    /// What new keys are wrapped by, in at most [`MAX_KEY_ID_BYTES`](crate::MAX_KEY_ID_BYTES). Stands in the vault beside each
    /// key; no secret.
    fn id(&self) -> &str;

    /// Whether keys that were wrapped by `id` can be unwrapped. One that only writes says no to all.
    fn opens(&self, id: &str) -> bool;

    /// Wraps a data key. At most [`MAX_WRAPPED_BYTES`](crate::MAX_WRAPPED_BYTES).
    ///
    /// # Errors
    /// [`VaultError::Wrap`].
    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError>;

    /// Gives back a data key that was wrapped by `id`.
    ///
    /// # Errors
    /// [`VaultError::Unwrap`]: another key, another context, or damage.
    fn unwrap(&self, id: &str, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError>;
}

/// One that wraps new keys, and others that still unwrap old ones.
pub struct KeyRing {
    writes: Arc<dyn KeyWrap>,
    reads: Vec<Arc<dyn KeyWrap>>,
}

impl KeyRing {
    /// Wraps by `writes`; unwraps by whichever of all can.
    #[must_use]
    pub fn new(writes: Arc<dyn KeyWrap>, reads: Vec<Arc<dyn KeyWrap>>) -> Self {
        Self { writes, reads }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn KeyWrap>> {
        std::iter::once(&self.writes).chain(&self.reads)
    }
}

impl KeyWrap for KeyRing {
    fn id(&self) -> &str {
        self.writes.id()
    }

    fn opens(&self, id: &str) -> bool {
        self.all().any(|key| key.opens(id))
    }

    fn wrap(&self, context: &[u8], key: &DataKey) -> Result<Vec<u8>, VaultError> {
        self.writes.wrap(context, key)
    }

    fn unwrap(&self, id: &str, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
        let key = self.all().find(|key| key.opens(id)).ok_or(VaultError::Unwrap)?;
        key.unwrap(id, context, wrapped)
    }
}

/// What the node key is turned into a wrapping key with: it seals other secrets too, each under a key of its own.
const DERIVATION: &[u8] = b"trailgate/vault/key-wrap/v1";

/// A key of 32 bytes in this process's memory. Wrapped keys are a random nonce of 12 bytes, then AES-256-GCM.
pub struct NodeKey {
    wrapping: LessSafeKey,
    id: String,
}

/// What the names of node keys begin with.
pub(crate) const NODE_KEY_PREFIX: &str = "node:";
/// What a node key is turned into its name with.
const NAMING: &[u8] = b"trailgate/vault/key-id/v1";
/// Bytes of the name's hash that are shown.
const NAME_BYTES: usize = 8;

impl NodeKey {
    /// Takes 32 secret bytes.
    ///
    /// # Errors
    /// [`VaultError::Crypto`] if the library refuses the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Self, VaultError> {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), DERIVATION);
        let key =
            UnboundKey::new(&AES_256_GCM, derived.as_ref()).map_err(|_| VaultError::Crypto("take a key"))?;
        let name = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), NAMING);
        let mut id = NODE_KEY_PREFIX.to_owned();
        for byte in name.as_ref().iter().take(NAME_BYTES) {
            id.push_str(&format!("{byte:02x}"));
        }
        Ok(Self { wrapping: LessSafeKey::new(key), id })
    }
}

impl KeyWrap for NodeKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn opens(&self, id: &str) -> bool {
        id == self.id
    }

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

    fn unwrap(&self, _id: &str, context: &[u8], wrapped: &[u8]) -> Result<DataKey, VaultError> {
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
        f.debug_tuple("NodeKey").field(&self.id).finish()
    }
}

/// A new data key.
pub(crate) fn new_data_key() -> Result<DataKey, VaultError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut_slice()).map_err(|_| VaultError::Crypto("make random bytes"))?;
    Ok(key)
}
