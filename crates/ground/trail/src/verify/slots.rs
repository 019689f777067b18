//! Key slots: whole, and those that the leaves speak of.

use std::{collections::BTreeMap, io::ErrorKind};

use super::{Finding, Run, keeping};
use crate::{
    TrailError,
    leaf::SlotLeaf,
    sealer::state::State,
    vault::{SLOT_BYTES, SessionKey},
};

const FILE: &str = "vault/keys";

/// What the first leaf under each slot says of it, with that leaf's index.
pub(super) type Begun = BTreeMap<u32, (u64, [u8; 32])>;

/// Notes the slot that a leaf is the first under.
pub(super) fn note(begun: &mut Begun, index: u64, slot: Option<SlotLeaf>) {
    if let Some(SlotLeaf { number, begun: Some(digest) }) = slot {
        begun.insert(number, (index, digest));
    }
}

/// All slots; `None` for one that is damaged.
pub(super) fn read(run: &Run<'_>, state: Option<&State>) -> Result<Vec<Option<SessionKey>>, TrailError> {
    let path = run.layout.data().join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // That it is missing is found with the vault's other files.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrailError::file("read", path)(error)),
    };
    let (slots, _torn) = bytes.as_chunks::<SLOT_BYTES>();
    let mut keys: Vec<Option<SessionKey>> = slots.iter().map(SessionKey::decode).collect();
    // What stands beyond belongs to no published checkpoint.
    if let Some(state) = state {
        keys.truncate(usize::try_from(state.ends.slots).unwrap_or(usize::MAX));
    }
    let expected = state.map_or(0, |state| usize::try_from(state.ends.slots).unwrap_or(usize::MAX));
    if keys.len() < expected {
        run.find_in(FILE, format!("it ends at byte {}, where {expected} key slots should be", bytes.len()));
    }
    // A crash can tear the slot of a key that is being destroyed: the next start writes it again.
    let planned = keeping::planned(state);
    let is_planned = |number: usize| u32::try_from(number).is_ok_and(|number| planned.contains(&number));
    for (number, _) in keys.iter().enumerate().filter(|(number, key)| key.is_none() && !is_planned(*number)) {
        run.find_in(FILE, format!("key slot {number} (byte {}) is not valid", number * SLOT_BYTES));
    }
    Ok(keys)
}

/// A slot whose key is there is as it was when its first leaf was written. Without this, whoever can write the file could put
/// another key in the place of one, wrapped for nobody, and its payloads would seem to be sealed for somebody else.
pub(super) fn verify(run: &Run<'_>, slots: &[Option<SessionKey>], begun: &Begun) {
    for (number, key) in (0u32..).zip(slots) {
        let (Some(key), Some((index, digest))) = (key, begun.get(&number)) else { continue };
        if key.erasure.is_none() && key.digest().ok().as_ref() != Some(digest) {
            run.find(Finding {
                file: Some(FILE.into()),
                index: Some(*index),
                entry: Some(format!("session {}", key.session)),
                problem: format!("key slot {number} is not what its first entry says that was written there"),
            });
        }
    }
}
