//! Erasing payloads, and keeping them from being erased.

use std::collections::BTreeSet;

use vocabulary::SessionId;

use super::{Beside, Erasure, Sealer};
use crate::{
    Event, Keeping, KeepingAct, TrailError,
    vault::{VaultError, numbered_keys_of},
};

impl Sealer {
    pub(super) fn keep(&mut self, record: Keeping) -> Result<(), TrailError> {
        let Keeping { event, act } = record;
        let hold = match (act, event.subject) {
            (KeepingAct::Erase(slots), _) => return self.erase(&event, slots),
            (KeepingAct::Hold, Some(subject)) => {
                self.holds.insert(subject);
                Some(true)
            }
            (KeepingAct::Release, Some(subject)) => {
                self.holds.remove(&subject);
                Some(false)
            }
            (KeepingAct::Hold | KeepingAct::Release, None) => None,
        };
        self.event(&event, Beside { hold, ..Beside::default() })
    }

    /// Records an erasure and plans it: it is carried out once the entry is published. What is under a hold by now, open or
    /// erased already is left out, and the entry names what is not.
    pub(super) fn erase(&mut self, event: &Event, slots: Vec<u32>) -> Result<(), TrailError> {
        let entry = self.ledger.size()?;
        let mut planned: BTreeSet<u32> = self.erasures.iter().map(|erasure| erasure.slot).collect();
        let mut erased = Vec::new();
        let end = self.vault.ends().slots;
        for slot in slots.into_iter().filter(|slot| *slot < end).collect::<BTreeSet<u32>>() {
            let key = match self.vault.slot(slot) {
                Ok(key) => key,
                Err(error @ VaultError::Damaged { .. }) => {
                    tracing::error!(%error, slot, "a key can't be destroyed");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let is_kept = self.holds.contains(&key.session) || self.sessions.contains_key(&key.session);
            if key.erasure.is_some() || is_kept || !planned.insert(slot) {
                continue;
            }
            self.erasures.push(Erasure::new(slot, entry, &key));
            erased.push(slot);
        }
        self.event(event, Beside { erased: &erased, ..Beside::default() })
    }

    /// Every slot of a session.
    pub(super) fn slots_of(&mut self, session: SessionId) -> Result<Vec<u32>, TrailError> {
        self.vault.write_out_slots()?;
        let keys = numbered_keys_of(self.vault.dir(), session)?;
        Ok(keys.into_iter().map(|(slot, _)| slot).collect())
    }
}
