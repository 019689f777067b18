//! What anybody may hand to a verifier: tiles, notes, checkpoints, proofs.

use ledger::{
    Checkpoint, HASH_BYTES, Hash, Note, NoteSignature, Tile, TlogProof, TreeHead, VerifierKey,
    bundle as entry_bundle, tile, verify_consistency, verify_inclusion_hash,
};

/// A signed note: what is read is written back byte by byte.
pub fn note(data: &[u8]) {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
        assert!(!note.signatures().is_empty() && note.signatures().len() <= ledger::MAX_SIGNATURES);
        assert!(note.text().ends_with('\n'));
    }
    if let Some(Ok(line)) = crate::text(data).map(NoteSignature::parse) {
        assert_eq!(line.to_string().as_bytes(), data);
    }
}

/// A checkpoint, or its text alone.
pub fn checkpoint(data: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::parse(data) {
        assert_eq!(checkpoint.to_string().as_bytes(), data);
    }
    if let Some(Ok(head)) = crate::text(data).map(TreeHead::parse) {
        assert_eq!(head.to_string().as_bytes(), data);
    }
}

/// A public key with its name.
pub fn verifier_key(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
        assert!(ledger::is_valid_key_name(key.name()));
        assert!(!key.verify(data, &[0; ledger::SIGNATURE_BYTES]), "a signature of zeroes");
    }
}

/// The path of a tile: there is one way to write it.
pub fn tile_path(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if let Some(tile) = Tile::from_path(text) {
        assert_eq!(tile.path(), text);
        assert!((1..=tile::TILE_WIDTH).contains(&tile.width));
        assert!(tile.file().is_relative() && !text.contains(".."));
    }
}

/// Two bytes of width, big-endian, then an entry bundle or a hash tile: entries lie in it one behind the other and leave
/// nothing over, and are put together to the same bytes.
pub fn bundle(data: &[u8]) {
    let (width, bundle) = crate::head::<2>(data);
    let width = u16::from_be_bytes(width);
    if let Some(ranges) = entry_bundle::split(bundle, width) {
        assert_eq!(ranges.len(), usize::from(width));
        let mut again = Vec::new();
        for range in ranges {
            assert!(entry_bundle::push_entry(&mut again, &bundle[range]));
        }
        assert_eq!(again, bundle);
    }
    let mut walk = entry_bundle::entries(bundle);
    let read: usize = walk.by_ref().map(|entry| entry.len() + 2).sum();
    assert_eq!(read + walk.rest().len(), bundle.len());
    if let Some(hashes) = tile::decode_hashes(bundle, width) {
        assert_eq!(tile::encode_hashes(&hashes), bundle);
    }
}

/// One entry's proof with its checkpoint, as text.
pub fn tlog_proof(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.to_string(), text);
    }
}

/// Two numbers of 8 bytes, little-endian, and hashes: two roots (or leaf and root), then the proof. Any numbers get an
/// answer, and what fits one root fits no other.
pub fn proof(data: &[u8]) {
    let (small, rest) = crate::head::<8>(data);
    let (large, rest) = crate::head::<8>(rest);
    let (small, large) = (u64::from_le_bytes(small), u64::from_le_bytes(large));
    let hashes: Vec<Hash> = rest.chunks_exact(HASH_BYTES).filter_map(Hash::from_slice).collect();
    let [first, second, proof @ ..] = hashes.as_slice() else { return };
    let other = ledger::leaf_hash(second.as_bytes());
    if verify_inclusion_hash(first, small, large, proof, second).is_ok() {
        assert!(small < large && proof.len() <= 64);
        assert!(verify_inclusion_hash(first, small, large, proof, &other).is_err());
    }
    if verify_consistency(small, first, large, second, proof).is_ok() {
        assert!(small <= large && proof.len() <= 65);
        // The empty tree is the beginning of every other.
        assert!(small == 0 || verify_consistency(small, first, large, &other, proof).is_err());
    }
}
