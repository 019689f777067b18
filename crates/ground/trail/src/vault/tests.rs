use proptest::prelude::*;
use vocabulary::{Kind, SessionId};

use super::{
    keys::new_data_key,
    seal::{CHUNK_BYTES, PayloadSealer},
    *,
};

fn owner(session: u8, seq: u64) -> Owner {
    Owner { session: SessionId::from_bytes([session; 16]), seq, kind: Kind::Command }
}

fn sealed(key: &OpenKey, owner: &Owner, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    PayloadSealer::new().unwrap().seal(key, owner, plain, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn fields_survive(mut fields: std::collections::BTreeMap<u8, (Vec<u8>, [u8; 32])>) {
        let mut plain = Vec::new();
        for (code, (bytes, r)) in &fields {
            push_field(&mut plain, *code, r, bytes);
        }
        let parsed = Fields::parse(plain).unwrap();
        for (code, r, bytes) in parsed.iter() {
            prop_assert_eq!(fields.remove(&code), Some((bytes.to_vec(), *r)));
        }
        prop_assert!(fields.is_empty());
    }

    #[test]
    fn any_bytes_are_fields_or_none(bytes: Vec<u8>) {
        let _ = Fields::parse(bytes);
    }

    #[test]
    fn payloads_survive_and_open_for_their_entry_alone(
        plain in prop_oneof![
            prop::collection::vec(any::<u8>(), 1..2000),
            (1..5000usize).prop_map(|length| vec![b'x'; length]),
        ],
        at: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let key = OpenKey::new(&new_data_key().unwrap()).unwrap();
        let whole = sealed(&key, &owner(1, 2), &plain);
        prop_assert_eq!(open(&key, &owner(1, 2), &mut whole.clone()), Some(plain));
        prop_assert_eq!(open(&key, &owner(2, 2), &mut whole.clone()), None);
        prop_assert_eq!(open(&key, &owner(1, 3), &mut whole.clone()), None);
        let other = OpenKey::new(&new_data_key().unwrap()).unwrap();
        prop_assert_eq!(open(&other, &owner(1, 2), &mut whole.clone()), None);
        let mut changed = whole;
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert_eq!(open(&key, &owner(1, 2), &mut changed), None);
    }

    #[test]
    fn index_records_survive(
        file: u32, offset: u32, length: u32, slot: u32, seq: u64, ended_at: u64, kind: u8, payload_crc: u32, at in 0..44usize, bit in 0..8u8,
    ) {
        let record = IndexRecord { file, offset, length, slot, seq, ended_at, kind, payload_crc };
        let mut bytes = record.encode();
        prop_assert_eq!(IndexRecord::decode(&bytes), Some(record));
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(IndexRecord::decode(&bytes), None);
    }

    #[test]
    fn slots_survive(session: [u8; 16], start: Option<u32>, wrapped in prop::collection::vec(any::<u8>(), 1..=372), entry: u32, class in "[a-z]{1,32}", by in "[a-z0-9:]{0,64}", at in 0..512usize, bit in 0..8u8) {
        let start = start.map(u64::from);
        let session = SessionId::from_bytes(session);
        let key = SessionKey { session, start, class, wrapped_by: by, erasure: None, wrapped };
        prop_assert_eq!(SessionKey::decode(&key.encode().unwrap()), Some(key.clone()));
        let erased = SessionKey { erasure: Some(u64::from(entry)), wrapped: Vec::new(), ..key };
        let slot = erased.encode().unwrap();
        prop_assert_eq!(SessionKey::decode(&slot), Some(erased));
        // Nothing of the key stays.
        prop_assert!(slot[136..508].iter().all(|byte| *byte == 0));
        let mut flipped = slot;
        flipped[at] ^= 1 << bit;
        prop_assert_eq!(SessionKey::decode(&flipped), None);
    }
}

#[test]
fn a_long_payload_is_split_and_its_chunks_stay_in_order() {
    let key = OpenKey::new(&new_data_key().unwrap()).unwrap();
    let plain: Vec<u8> = (0..3 * CHUNK_BYTES as u64 + 17)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let whole = sealed(&key, &owner(1, 2), &plain);
    assert_eq!(open(&key, &owner(1, 2), &mut whole.clone()), Some(plain));
    let lengths: Vec<usize> = (0..2)
        .scan(0, |at, _| {
            let length = u32::from_le_bytes(whole[*at..*at + 4].try_into().unwrap()) as usize + 21;
            *at += length;
            Some(length)
        })
        .collect();
    let (one, two) = (lengths[0], lengths[0] + lengths[1]);
    // Swapped, dropped at the end, dropped at the start, doubled.
    let swapped = [&whole[one..two], &whole[..one], &whole[two..]].concat();
    let doubled = [&whole[..one], &whole[..one], &whole[one..]].concat();
    for mut wrong in [swapped, whole[..two].to_vec(), whole[one..].to_vec(), doubled, Vec::new()] {
        assert_eq!(open(&key, &owner(1, 2), &mut wrong), None);
    }
}

#[test]
fn a_wrapped_key_opens_in_its_own_context_alone() {
    let node = NodeKey::new(&[7; 32]).unwrap();
    let key = new_data_key().unwrap();
    let wrapped = node.wrap(b"here", &key).unwrap();
    assert_eq!(wrapped.len(), 60);
    assert_eq!(node.unwrap("", b"here", &wrapped).unwrap(), key);
    assert!(node.unwrap("", b"there", &wrapped).is_err());
    assert!(NodeKey::new(&[8; 32]).unwrap().unwrap("", b"here", &wrapped).is_err());
    assert!(node.unwrap("", b"here", &wrapped[..11]).is_err());
    assert_ne!(node.wrap(b"here", &key).unwrap(), wrapped, "a nonce was used twice");
}

#[test]
fn a_key_ring_writes_by_one_and_reads_by_all() {
    let old: std::sync::Arc<dyn KeyWrap> = std::sync::Arc::new(NodeKey::new(&[7; 32]).unwrap());
    let new: std::sync::Arc<dyn KeyWrap> = std::sync::Arc::new(NodeKey::new(&[8; 32]).unwrap());
    let ring = KeyRing::new(std::sync::Arc::clone(&new), vec![std::sync::Arc::clone(&old)]);
    assert_eq!(ring.id(), new.id());
    assert_ne!(old.id(), new.id());
    let key = new_data_key().unwrap();
    for one in [&old, &new] {
        assert!(ring.opens(one.id()));
        let wrapped = one.wrap(b"here", &key).unwrap();
        assert_eq!(ring.unwrap(one.id(), b"here", &wrapped).unwrap(), key);
    }
    assert_eq!(new.unwrap(new.id(), b"here", &ring.wrap(b"here", &key).unwrap()).unwrap(), key);
    assert!(!ring.opens("node:0000000000000000"));
}

#[test]
fn nonces_do_not_repeat() {
    let mut sealer = PayloadSealer::new().unwrap();
    let key = OpenKey::new(&new_data_key().unwrap()).unwrap();
    let mut nonces = std::collections::BTreeSet::new();
    for seq in 0..1000 {
        let mut out = Vec::new();
        sealer.seal(&key, &owner(1, seq), b"plain", &mut out).unwrap();
        assert!(nonces.insert(out[9..21].to_vec()));
    }
}
