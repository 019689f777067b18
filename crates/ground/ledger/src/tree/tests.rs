use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hash(text: &str) -> Hash {
    Hash::from_slice(&hex(text)).unwrap()
}

/// The leaves of Certificate Transparency's reference vectors, and the root after each.
fn vectors() -> Vec<(Vec<u8>, Hash)> {
    [
        ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        (
            "606162636465666768696a6b6c6d6e6f",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ]
    .map(|(leaf, root)| (hex(leaf), hash(root)))
    .to_vec()
}

/// MTH of RFC 6962 section 2.1, word for word.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty(),
        [only] => *only,
        many => {
            let (left, right) = many.split_at(usize::try_from(split_point(many.len() as u64)).unwrap());
            node_hash(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

/// Complete subtrees of leaves in memory.
fn subtrees(leaves: &[Hash]) -> impl Fn(u8, u64) -> Result<Hash, ()> + Copy + '_ {
    |level, index| {
        let start = usize::try_from(index << level).unwrap();
        Ok(root_by_definition(&leaves[start..start + (1 << level)]))
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

#[test]
fn the_empty_tree_has_the_root_of_rfc_6962() {
    let empty = hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(CompactRange::new().root(), empty);
    assert_eq!(Hash::empty(), empty);
}

#[test]
fn the_reference_leaves_lead_to_the_reference_roots() {
    let mut range = CompactRange::new();
    for (leaf, root) in vectors() {
        range.push(leaf_hash(&leaf), |_, _| {});
        assert_eq!(range.root(), root, "size {}", range.size());
    }
}

#[test]
fn the_reference_inclusion_proof_of_leaf_5_of_8() {
    let hashes: Vec<Hash> = vectors().iter().map(|(leaf, _)| leaf_hash(leaf)).collect();
    let proof = prove_inclusion(5, 8, subtrees(&hashes)).unwrap();
    let expected = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, expected.map(hash));
}

#[test]
fn the_reference_consistency_proof_from_6_to_8() {
    let hashes: Vec<Hash> = vectors().iter().map(|(leaf, _)| leaf_hash(leaf)).collect();
    let proof = prove_consistency(6, 8, subtrees(&hashes)).unwrap();
    let expected = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, expected.map(hash));
}

#[test]
fn every_proof_of_every_small_tree_verifies() {
    let hashes = leaves(70);
    for size in 1..=70u64 {
        let tree = &hashes[..usize::try_from(size).unwrap()];
        let root = root_by_definition(tree);
        for index in 0..size {
            let proof = prove_inclusion(index, size, subtrees(tree)).unwrap();
            let leaf = tree[usize::try_from(index).unwrap()];
            verify_inclusion_hash(&leaf, index, size, &proof, &root).unwrap();
        }
        for old in 0..=size {
            let old_root = root_by_definition(&tree[..usize::try_from(old).unwrap()]);
            let proof = prove_consistency(old, size, subtrees(tree)).unwrap();
            verify_consistency(old, &old_root, size, &root, &proof).unwrap();
        }
    }
}

#[test]
fn positions_beyond_the_tree_and_wrong_lengths_are_refused() {
    let hashes = leaves(7);
    let root = root_by_definition(&hashes);
    let proof = prove_inclusion(3, 7, subtrees(&hashes)).unwrap();
    let verify = |index, size, proof: &[Hash]| verify_inclusion_hash(&hashes[3], index, size, proof, &root);
    assert_eq!(verify(7, 7, &proof), Err(ProofError::OutOfRange { position: 7, size: 7 }));
    assert_eq!(verify(0, 0, &[]), Err(ProofError::OutOfRange { position: 0, size: 0 }));
    assert_eq!(verify(3, 7, &proof[..2]), Err(ProofError::WrongLength { found: 2 }));
    let longer = [proof.as_slice(), &[root]].concat();
    assert_eq!(verify(3, 7, &longer), Err(ProofError::WrongLength { found: 4 }));
    assert!(verify_consistency(8, &root, 7, &root, &[]).is_err());
    assert!(verify_consistency(0, &root, 7, &root, &[]).is_err(), "the empty tree has another root");
    assert!(verify_consistency(7, &root, 7, &root, &proof).is_err());
    assert!(verify_consistency(6, &root, 7, &root, &[]).is_err());
}

#[test]
fn a_compact_range_reports_each_completed_subtree_once() {
    let hashes = leaves(1000);
    let mut completed = Vec::new();
    let mut range = CompactRange::new();
    for (index, leaf) in (0u64..).zip(&hashes) {
        range.push(*leaf, |level, hash| completed.push((level, index >> level, *hash)));
    }
    for (level, index, hash) in &completed {
        assert_eq!(Ok(*hash), subtrees(&hashes)(*level, *index));
    }
    let expected: u64 = (1..10u32).map(|level| 1000 >> level).sum();
    assert_eq!(completed.len() as u64, expected);
    assert_eq!(range_at(1000, subtrees(&hashes)).unwrap(), range);
    assert_eq!(CompactRange::from_subtrees(1000, Vec::new()), None);
}

proptest! {
    #[test]
    fn a_flipped_bit_in_an_inclusion_proof_does_not_verify(size in 1u64..600, at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let hashes = leaves(size);
        let root = root_of(&hashes);
        prop_assert_eq!(root, root_by_definition(&hashes));
        let index = at.index(hashes.len()) as u64;
        let leaf = hashes[at.index(hashes.len())];
        let mut proof = prove_inclusion(index, size, subtrees(&hashes)).unwrap();
        prop_assert!(verify_inclusion_hash(&leaf, index, size, &proof, &root).is_ok());
        let changed = |hash: &Hash, bit: usize| {
            let mut bytes = hash.0;
            bytes[bit / 8] ^= 1 << (bit % 8);
            Hash(bytes)
        };
        let bit = bit.index((proof.len() + 2) * 256);
        match bit / 256 {
            0 => prop_assert!(verify_inclusion_hash(&changed(&leaf, bit), index, size, &proof, &root).is_err()),
            1 => prop_assert!(verify_inclusion_hash(&leaf, index, size, &proof, &changed(&root, bit % 256)).is_err()),
            place => {
                proof[place - 2] = changed(&proof[place - 2], bit % 256);
                prop_assert!(verify_inclusion_hash(&leaf, index, size, &proof, &root).is_err());
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_consistency_proof_does_not_verify(old in 1u64..400, more in 1u64..400, bit in any::<prop::sample::Index>()) {
        let size = old + more;
        let hashes = leaves(size);
        let (old_root, root) = (root_of(&hashes[..usize::try_from(old).unwrap()]), root_of(&hashes));
        let mut proof = prove_consistency(old, size, subtrees(&hashes)).unwrap();
        prop_assert!(verify_consistency(old, &old_root, size, &root, &proof).is_ok());
        let bit = bit.index(proof.len() * 256);
        proof[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_consistency(old, &old_root, size, &root, &proof).is_err());
    }

    #[test]
    fn verification_of_anything_at_all_neither_panics_nor_hangs(index: u64, size: u64, count in 0usize..70) {
        let proof = leaves(count as u64);
        let root = Hash::empty();
        prop_assert!(verify_inclusion_hash(&root, index, size, &proof, &root).is_err() || size == 1);
        let _ = verify_consistency(index, &root, size, &root, &proof);
    }
}
