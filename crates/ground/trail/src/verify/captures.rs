//! What was captured in a session: the parts that commands name are there, and no others.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::Kind;

use crate::{
    leaf::{CapturedLeaf, Leaf, PartLeaf},
    vault::Field,
};

/// Number of the command, code of the field.
type Key = (u64, u8);

/// What was seen of it. Parts that were seen by different threads are merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Captures {
    /// Each part with its leaf's index.
    parts: BTreeMap<Key, Vec<(u64, PartLeaf)>>,
    /// What entries say of their own.
    claims: BTreeMap<Key, CapturedLeaf>,
}

impl Captures {
    pub(super) fn add(&mut self, index: u64, leaf: &Leaf) {
        if let Some(part) = leaf.part {
            self.parts.entry((leaf.seq, part.field)).or_default().push((index, part));
            return;
        }
        // What is captured of a session as a whole has the number of its first entry.
        let seq = if leaf.kind == Kind::SessionEnd { 1 } else { leaf.seq };
        for captured in &leaf.captures {
            self.claims.insert((seq, captured.field), *captured);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, parts) in other.parts {
            self.parts.entry(key).or_default().extend(parts);
        }
        self.claims.extend(other.claims);
    }

    /// Adds what is wrong. `under_way` are the numbers of commands without outcome.
    pub(super) fn find_problems(&self, is_over: bool, under_way: &BTreeSet<u64>, problems: &mut Vec<String>) {
        let keys: BTreeSet<&Key> = self.parts.keys().chain(self.claims.keys()).collect();
        for key in keys {
            let (seq, field) = *key;
            let mut parts = self.parts.get(key).cloned().unwrap_or_default();
            parts.sort_unstable_by_key(|(_, part)| part.number);
            let claim = self.claims.get(key);
            let open = if seq == 1 { !is_over } else { under_way.contains(&seq) };
            if let Some(problem) = problem(&parts, claim, open) {
                problems.push(format!("the {} of its number {seq} {problem}", Field::name_of(field)));
            }
        }
    }
}

fn problem(parts: &[(u64, PartLeaf)], claim: Option<&CapturedLeaf>, open: bool) -> Option<String> {
    let mut previous = None;
    for (place, (index, part)) in (1u64..).zip(parts) {
        if part.number != place {
            return Some(format!("has part {} where part {place} should be", part.number));
        }
        if part.previous != previous {
            return Some(format!("has a part {place} (leaf {index}) that does not follow the part before"));
        }
        previous = Some(*index);
    }
    let found = previous.map(|last| (parts.len() as u64, last));
    match claim {
        None if open => None,
        None => Some("has parts that its entry does not name".to_owned()),
        Some(claim) if claim.parts != found => {
            let claimed = claim.parts.map_or(0, |(parts, _)| parts);
            Some(format!("has {} parts, its entry names {claimed}", parts.len()))
        }
        Some(CapturedLeaf { parts: None, .. }) => None,
        Some(claim) => {
            let bytes: u64 = parts.iter().map(|(_, part)| part.bytes).fold(0, u64::saturating_add);
            (bytes != claim.bytes).then(|| format!("has {bytes} bytes, its entry names {}", claim.bytes))
        }
    }
}
