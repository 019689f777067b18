//! Secrets at rest: AES-256-GCM under the node key.
//!
//! A sealed value is `1` (version), the key's id (8 bytes), a random nonce (12 bytes), ciphertext and tag. The
//! place it belongs to (table, row, field) is authenticated with it, so a value that is moved to another row
//! does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a node key.
pub const KEY_LEN: usize = 32;

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 8;

/// The key that everything else of a node hangs on.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NodeKey([u8; KEY_LEN]);

/// Names a node key without telling it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value can't be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is no sealed value.
    #[error(
        "the sealed value is cut short or of a version that is not known; restore control.db from a backup"
    )]
    Malformed,
    /// Another key sealed it.
    #[error("the value was sealed under another node key (id {0}); put that key back")]
    OtherKey(KeyId),
    /// It was changed, or belongs elsewhere.
    #[error(
        "the sealed value does not open: it was altered, or moved from another row; restore control.db from a backup"
    )]
    Forged,
    /// The system has no random numbers.
    #[error("the system has no random numbers to give")]
    NoRandomness,
}

/// The text is no node key. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node key is 32 random bytes in base64, as `openssl rand -base64 32` prints them")]
pub struct NotAKey;

impl NodeKey {
    /// A key from 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`] if the system's generator fails.
    pub fn random() -> Result<Self, SealError> {
        let mut key = Self([0; KEY_LEN]);
        rand::fill(&mut key.0).map_err(|_| SealError::NoRandomness)?;
        Ok(key)
    }

    /// Reads a key as people keep it: base64 of 32 bytes, with white space around it.
    ///
    /// # Errors
    /// [`NotAKey`] if it is anything else.
    pub fn from_base64(text: &str) -> Result<Self, NotAKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| NotAKey)?);
        bytes.as_slice().try_into().map(Self).map_err(|_| NotAKey)
    }

    /// The key as people keep it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// Names the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = self.derive("key id");
        KeyId(hash.first_chunk().copied().unwrap_or_default())
    }

    /// A key of its own for another purpose.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        let context = ["trailgate node key: ", purpose].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), context.as_bytes());
        Zeroizing::new(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Whether both are the same key.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Seals a value for its place.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`] if the system's generator fails.
    pub fn seal(&self, place: &Place<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut header = vec![VERSION];
        header.extend_from_slice(&self.id().0);
        header.extend_from_slice(&nonce);
        let mut text = secret.to_vec();
        self.aead()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.bytes()),
                &mut text,
            )
            .map_err(|_| SealError::Malformed)?;
        header.extend_from_slice(&text);
        Ok(header)
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another place, under another key, or was altered.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(SealError::Malformed)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(SealError::Malformed)?;
        if KeyId(*id) != self.id() {
            return Err(SealError::OtherKey(KeyId(*id)));
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        let mut text = Zeroizing::new(text.to_vec());
        let len = self
            .aead()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place.bytes()), &mut text)
            .map_err(|_| SealError::Forged)?
            .len();
        text.truncate(len);
        Ok(text)
    }

    fn aead(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.derive("seal")).map_err(|_| SealError::Malformed)?;
        Ok(LessSafeKey::new(key))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// The row's id.
    pub row: &'a [u8],
    /// The field.
    pub field: &'a str,
}

impl Place<'_> {
    /// Hashed with lengths, so that no two places run together.
    fn bytes(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.table.as_bytes(), self.row, self.field.as_bytes()] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        context.finish().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place { table: "t", row: b"1", field: "password" };

    #[test]
    fn a_value_opens_only_in_its_place_and_under_its_key() {
        let key = NodeKey::new([1; 32]);
        let sealed = key.seal(&PLACE, b"secret").unwrap();
        assert_eq!(key.open(&PLACE, &sealed).unwrap().as_slice(), b"secret");
        assert_ne!(sealed, key.seal(&PLACE, b"secret").unwrap());
        for elsewhere in
            [Place { table: "u", ..PLACE }, Place { row: b"2", ..PLACE }, Place { field: "sslkey", ..PLACE }]
        {
            assert_eq!(key.open(&elsewhere, &sealed), Err(SealError::Forged));
        }
        // Parts do not run together.
        let left = key.seal(&Place { table: "ab", row: b"c", field: "" }, b"").unwrap();
        assert!(key.open(&Place { table: "a", row: b"bc", field: "" }, &left).is_err());

        let other = NodeKey::new([2; 32]);
        assert_eq!(other.open(&PLACE, &sealed), Err(SealError::OtherKey(key.id())));
    }

    #[test]
    fn keys_survive_base64_and_never_show() {
        let key = NodeKey::random().unwrap();
        let text = key.to_base64();
        assert!(NodeKey::from_base64(&format!(" {}\n", *text)).unwrap().is(&key));
        assert!(!format!("{key:?}").contains(text.as_str()));
        for bad in ["", "AAAA", "not base64 at all, is it? no no no no no no "] {
            assert_eq!(NodeKey::from_base64(bad).unwrap_err(), NotAKey);
        }
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_noticed(place in 0usize..60, bit in 0u8..8) {
            let key = NodeKey::new([1; 32]);
            let mut sealed = key.seal(&PLACE, b"some secret of thirty bytes...").unwrap();
            let place = place % sealed.len();
            sealed[place] ^= 1 << bit;
            prop_assert!(key.open(&PLACE, &sealed).is_err());
        }

        #[test]
        fn any_bytes_fail_to_open(bytes: Vec<u8>) {
            prop_assert!(NodeKey::new([1; 32]).open(&PLACE, &bytes).is_err());
        }
    }
}
