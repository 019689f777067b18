//! The Merkle tree of RFC 6962: the incremental tree head, proofs, and their verification.
//!
//! Nothing here reads files: a proof is generated from a closure that yields the hash of a *complete* subtree
//! (`level`, `index`): the root over leaves `index·2^level .. (index+1)·2^level`.

use crate::{Hash, leaf_hash, node_hash};

/// A proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not in a tree of this size, or the old size is greater than the new one.
    #[error("the proof speaks of position {position}, which a tree of {size} entries does not have")]
    OutOfRange {
        /// The entry index or old tree size asked about.
        position: u64,
        /// The tree size.
        size: u64,
    },
    /// The number of hashes is not what the sizes demand.
    #[error("the proof has {found} hashes where the tree sizes demand another number")]
    WrongLength {
        /// The hashes in the proof.
        found: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to another root than the one given: it does not belong to this tree")]
    RootMismatch,
}

/// The tree head while it grows: one hash per set bit of the size, largest subtree first. Adding a leaf costs one
/// node hash on average; memory is at most 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    /// Roots of the complete subtrees of decreasing size that cover all leaves, left to right.
    subtrees: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up a tree whose complete subtrees are known: `subtrees` left to right, one per set bit of `size`.
    /// `None` if their number does not fit the size.
    #[must_use]
    pub fn from_subtrees(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash. `completed(level, hash)` is called for every subtree of 2^level leaves (level ≥ 1)
    /// that this leaf completes, smallest first.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(u8, &Hash)) {
        let mut hash = leaf;
        for level in 1..=self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
                #[expect(clippy::cast_possible_truncation, reason = "a u64 has at most 64 trailing ones")]
                completed(level as u8, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root hash of all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold_right(self.subtrees.iter().copied()).unwrap_or_else(Hash::empty)
    }
}

/// The root over leaf hashes held in memory.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut range = CompactRange::new();
    for hash in hashes {
        range.push(*hash, |_, _| {});
    }
    range.root()
}

/// The complete subtrees (level, index) that cover leaves `start..end`, left to right, where `start` is a
/// multiple of the largest power of two below `end - start` (as every range in RFC 6962 is).
fn cover(start: u64, end: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left > 0)?;
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a u64 is below 64")]
        let level = left.ilog2() as u8;
        let index = at >> level;
        at += 1 << level;
        Some((level, index))
    })
}

/// Hashes a left-to-right list of ever smaller subtrees into one.
fn fold_right(subtrees: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    subtrees.rev().reduce(|right, left| node_hash(&left, &right))
}

/// MTH(D[start..end]) from complete subtrees; `start < end`.
fn range_root<E>(
    start: u64,
    end: u64,
    subtree: &mut impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let hashes =
        cover(start, end).map(|(level, index)| subtree(level, index)).collect::<Result<Vec<_>, E>>()?;
    Ok(fold_right(hashes.into_iter()).unwrap_or_else(Hash::empty))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Whatever `subtree` fails with.
pub fn root_at<E>(size: u64, mut subtree: impl FnMut(u8, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    range_root(0, size, &mut subtree)
}

/// The compact range of the first `size` leaves.
///
/// # Errors
/// Whatever `subtree` fails with.
pub fn range_at<E>(
    size: u64,
    mut subtree: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<CompactRange, E> {
    let subtrees =
        cover(0, size).map(|(level, index)| subtree(level, index)).collect::<Result<Vec<_>, E>>()?;
    Ok(CompactRange { size, subtrees })
}

/// The largest power of two smaller than `n`, for `n ≥ 2` (`k` in RFC 6962).
fn split_point(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// PATH(index, D[size]) of RFC 6962 section 2.1.1: the leaf's sibling first, the root's child last.
/// `index` must be below `size`; otherwise the proof is empty and will not verify.
///
/// # Errors
/// Whatever `subtree` fails with.
pub fn prove_inclusion<E>(
    index: u64,
    size: u64,
    mut subtree: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while index < size && end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            proof.push(range_root(middle, end, &mut subtree)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, &mut subtree)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// PROOF(old, D[new]) of RFC 6962 section 2.1.2. Empty when `old` is 0 or equal to `new` (nothing to prove), and
/// when it is greater (which will not verify).
///
/// # Errors
/// Whatever `subtree` fails with.
pub fn prove_consistency<E>(
    old: u64,
    new: u64,
    mut subtree: impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split_point(end - start);
        if old <= middle {
            proof.push(range_root(middle, end, &mut subtree)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, &mut subtree)?);
            start = middle;
        }
    }
    // When the old tree is itself a complete left subtree, its root is known to the verifier.
    if start != 0 {
        proof.push(range_root(start, end, &mut subtree)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` (its bytes) is entry `index` of the tree with `size` entries and root `root`.
///
/// # Errors
/// [`ProofError`] if it does not hold.
pub fn verify_inclusion(
    leaf: &[u8],
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    verify_inclusion_hash(&leaf_hash(leaf), index, size, proof, root)
}

/// As [`verify_inclusion`], for a leaf of which only the hash is known.
///
/// # Errors
/// [`ProofError`] if it does not hold.
pub fn verify_inclusion_hash(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { position: index, size });
    }
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    // RFC 9162 section 2.1.3.2: walk up with the node's index and the index of the last node of its level.
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node without a right sibling rises until it is somebody's right child.
            while node % 2 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// Checks that the tree (`old_size`, `old_root`) is a prefix of the tree (`new_size`, `new_root`).
///
/// # Errors
/// [`ProofError`] if it does not hold.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::OutOfRange { position: old_size, size: new_size });
    }
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    if old_size == 0 || old_size == new_size {
        let same = if old_size == 0 { *old_root == Hash::empty() } else { old_root == new_root };
        // The empty tree has one root only, at either end.
        let new_fits = new_size != 0 || *new_root == Hash::empty();
        return match (proof.is_empty(), same && new_fits) {
            (false, _) => Err(wrong_length),
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::RootMismatch),
        };
    }
    // RFC 9162 section 2.1.4.2. A complete old tree is its own first proof hash.
    let mut hashes = proof.iter();
    let first = if old_size.is_power_of_two() { old_root } else { hashes.next().ok_or(wrong_length)? };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node % 2 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return Err(wrong_length);
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node % 2 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

#[cfg(test)]
mod tests;
