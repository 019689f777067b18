//! Erasures and holds: every destroyed key has an entry that says so, every such entry destroyed keys, and none of a session
//! that was under a hold.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{LedgerReader, Snapshot};
use vocabulary::{Kind, SessionId};

use super::{Finding, Run};
use crate::{SessionKey, leaf::Leaf, sealer::state::State};

/// What entries tell of payloads, by the index of their leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeping {
    erasures: BTreeMap<u64, BTreeSet<u32>>,
    /// Whether a session was put under a hold, or released.
    holds: BTreeMap<SessionId, BTreeMap<u64, bool>>,
}

/// Keys that the sealer is about to destroy.
pub(super) fn planned(state: Option<&State>) -> BTreeSet<u32> {
    state.iter().flat_map(|state| &state.erasures).map(|erasure| erasure.slot).collect()
}

impl Keeping {
    pub(super) fn add(&mut self, index: u64, leaf: &Leaf) {
        if leaf.kind == Kind::Erasure {
            self.erasures.insert(index, leaf.erased.iter().copied().collect());
        }
        if let (Some(hold), Some(subject)) = (leaf.hold, leaf.subject) {
            self.holds.entry(subject).or_default().insert(index, hold);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.erasures.extend(other.erasures);
        for (session, holds) in other.holds {
            self.holds.entry(session).or_default().extend(holds);
        }
    }

    pub(super) fn verify(
        &self,
        run: &Run<'_>,
        snapshot: &Snapshot,
        slots: &[Option<SessionKey>],
        state: Option<&State>,
    ) {
        let planned = planned(state);
        let mut named: BTreeMap<u32, u64> = BTreeMap::new();
        for (entry, erased) in &self.erasures {
            named.extend(erased.iter().map(|slot| (*slot, *entry)));
        }
        named.extend(destroyed_since(run, snapshot, slots));
        for (number, key) in (0u32..).zip(slots) {
            let Some(key) = key else { continue };
            if let Some(problem) = self.problem(number, key, named.get(&number).copied(), &planned) {
                run.find(Finding {
                    file: Some("vault/keys".into()),
                    index: key.erasure.or_else(|| named.get(&number).copied()),
                    entry: Some(key.session.to_string()),
                    problem: problem.to_owned(),
                });
            }
        }
        let beyond = named.range(u32::try_from(slots.len()).unwrap_or(u32::MAX)..);
        for (slot, entry) in beyond.filter(|(slot, _)| !planned.contains(slot)) {
            let problem = format!("an erasure entry names key slot {slot}, which is not there");
            run.find(Finding { file: Some("vault/keys".into()), index: Some(*entry), entry: None, problem });
        }
    }

    fn problem(
        &self,
        number: u32,
        key: &SessionKey,
        named: Option<u64>,
        planned: &BTreeSet<u32>,
    ) -> Option<&'static str> {
        if let Some(entry) = named
            && self.is_held(key.session, entry)
        {
            return Some("its key was destroyed though the session was under a legal hold");
        }
        match (key.erasure, named) {
            (Some(entry), named) if named != Some(entry) => {
                Some("its key was destroyed, but no erasure entry says so")
            }
            (None, Some(_)) if !planned.contains(&number) => {
                Some("an erasure entry says that its key was destroyed, but it is still there")
            }
            _ => None,
        }
    }

    /// Whether a session was under a hold when an entry was written.
    fn is_held(&self, session: SessionId, entry: u64) -> bool {
        let holds = self.holds.get(&session);
        holds.and_then(|holds| holds.range(..entry).next_back()).is_some_and(|(_, hold)| *hold)
    }
}

/// Keys that a gateway at work has destroyed since the verification began, with the entries that say so: entries of a later
/// checkpoint, which has to be there. By slot.
fn destroyed_since(run: &Run<'_>, snapshot: &Snapshot, slots: &[Option<SessionKey>]) -> BTreeMap<u32, u64> {
    let erased = (0u32..).zip(slots).filter_map(|(number, key)| Some((number, key.as_ref()?.erasure?)));
    let since: Vec<(u32, u64)> = erased.filter(|(_, entry)| *entry >= snapshot.size()).collect();
    if since.is_empty() {
        return BTreeMap::new();
    }
    // What can't be read names no slot.
    let Ok(newer) = LedgerReader::new(&run.layout.ledger(), run.vkey.clone()).snapshot() else {
        return BTreeMap::new();
    };
    let mut leaves: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (_, entry) in &since {
        leaves.entry(*entry).or_insert_with(|| {
            let leaf = newer.entry(*entry).ok().and_then(|bytes| Leaf::decode(&bytes).ok());
            let erased = leaf.filter(|leaf| leaf.kind == Kind::Erasure).map(|leaf| leaf.erased);
            erased.unwrap_or_default().into_iter().collect()
        });
    }
    let says_so =
        |(number, entry): &(u32, u64)| leaves.get(entry).is_some_and(|erased| erased.contains(number));
    since.into_iter().filter(says_so).collect()
}
