//! RFC 6962 section 2.1 hashing over SHA-256.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Bytes in a [`Hash`].
pub const HASH_BYTES: usize = 32;

/// Domain separation of RFC 6962: a leaf can never be read as a node.
const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;

/// A SHA-256 Merkle tree hash, shown as standard Base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// The root of the empty tree: SHA-256 of nothing.
    #[must_use]
    pub fn empty() -> Self {
        sha256(&[])
    }

    /// The hash as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Reads exactly 32 bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads canonical standard Base64 (44 characters); `None` for anything else.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_slice(&BASE64_STANDARD.decode(text).ok()?)
    }

    /// 64 lower-case hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(2 * HASH_BYTES), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            text
        })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// SHA-256(0x00 ‖ leaf).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    // The one-shot digest is several times cheaper than a context for the small leaves we have.
    let mut joined = [0u8; 1024];
    if let Some(body) = joined.get_mut(1..=leaf.len()) {
        body.copy_from_slice(leaf);
        return sha256(joined.get(..=leaf.len()).unwrap_or_default());
    }
    let mut context = Context::new(&SHA256);
    context.update(&[LEAF_PREFIX]);
    context.update(leaf);
    let mut out = [0u8; HASH_BYTES];
    out.copy_from_slice(context.finish().as_ref());
    Hash(out)
}

/// SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut joined = [0u8; 1 + 2 * HASH_BYTES];
    let (prefix, rest) = joined.split_at_mut(1);
    prefix.fill(NODE_PREFIX);
    let (l, r) = rest.split_at_mut(HASH_BYTES);
    l.copy_from_slice(&left.0);
    r.copy_from_slice(&right.0);
    sha256(&joined)
}

/// Plain SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let mut out = [0u8; HASH_BYTES];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Hash(out)
}

const _: () = assert!(LEAF_PREFIX == 0, "leaf_hash relies on a zeroed first byte");
