//! The numbers of one session: each once, none left out.

use std::collections::BTreeSet;

use vocabulary::Kind;

use super::captures::Captures;
use crate::leaf::Leaf;

/// Problems named per session.
const MAX_PROBLEMS: usize = 8;

/// What was seen of a session. Parts that were seen by different threads are merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Runs of numbers without gap, in the order in which they were seen: leaves are nearly in order, so there are few.
    runs: Vec<(u64, u64)>,
    starts: u64,
    /// Numbers of the entries that end it, each with the count that it claims.
    ends: Vec<(u64, u64)>,
    captures: Captures,
}

impl Seen {
    pub(super) fn add(&mut self, index: u64, leaf: &Leaf) {
        self.captures.add(index, leaf);
        match leaf.kind {
            // They have the number of their command.
            Kind::CommandStarted | Kind::Capture => return,
            Kind::SessionStart => self.starts += 1,
            Kind::SessionEnd => self.ends.push((leaf.seq, leaf.end.map_or(0, |end| end.entries))),
            _ => {}
        }
        match self.runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(leaf.seq) => *last = leaf.seq,
            _ => self.runs.push((leaf.seq, leaf.seq)),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.starts += other.starts;
        self.ends.extend(other.ends);
        self.captures.merge(other.captures);
    }

    pub(super) fn is_over(&self) -> bool {
        !self.ends.is_empty()
    }

    /// What is wrong. `under_way` are the numbers of commands without outcome, which have no entry yet.
    pub(super) fn problems(&self, under_way: &BTreeSet<u64>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        if self.starts != 1 {
            problems.push(format!("it has {} session.start entries instead of one", self.starts));
        }
        let mut expected = 1;
        for &(first, last) in &runs {
            if first < expected {
                problems.push(match first {
                    0 => "it has an entry with the number 0".to_owned(),
                    _ => format!("the number {first} stands twice"),
                });
            } else {
                problems.extend(missing(expected, first, under_way));
            }
            expected = expected.max(last.saturating_add(1));
            if problems.len() >= MAX_PROBLEMS {
                return problems;
            }
        }
        match self.ends.as_slice() {
            [] => {}
            [(seq, entries)] => {
                if seq.checked_add(1) != Some(expected) {
                    problems.push(format!("it goes on after its session.end, which has the number {seq}"));
                }
                if entries != seq {
                    problems
                        .push(format!("its session.end has the number {seq} and claims {entries} entries"));
                }
            }
            ends => problems.push(format!("it has {} session.end entries", ends.len())),
        }
        self.captures.find_problems(self.is_over(), under_way, &mut problems);
        problems.truncate(MAX_PROBLEMS);
        problems
    }
}

/// The numbers from `first` on and before `end` that are not under way.
fn missing(first: u64, end: u64, under_way: &BTreeSet<u64>) -> Option<String> {
    let excused = under_way.range(first..end.max(first)).count() as u64;
    let count = (end - first).checked_sub(excused).filter(|count| *count > 0)?;
    // A gap can be as long as the numbers go; the set of what is under way can't.
    let lost = (first..end).find(|seq| !under_way.contains(seq))?;
    Some(match count {
        1 => format!("the number {lost} is missing"),
        _ => format!("{count} numbers are missing, the first is {lost}"),
    })
}

#[cfg(test)]
mod tests {
    use vocabulary::{SessionId, Timestamp};

    use super::*;
    use crate::{EndReason, leaf::EndLeaf};

    fn seen(numbers: &[u64], ended: bool) -> Seen {
        let mut seen = Seen::default();
        for (place, &seq) in numbers.iter().enumerate() {
            let kind = match seq {
                1 => Kind::SessionStart,
                _ if ended && place + 1 == numbers.len() => Kind::SessionEnd,
                _ => Kind::Command,
            };
            let mut leaf = Leaf::new(kind, SessionId::from_bytes([1; 16]), seq, Timestamp(0));
            if kind == Kind::SessionEnd {
                leaf.end = Some(EndLeaf { entries: seq, reason: EndReason::Client });
            }
            seen.add(place as u64, &leaf);
        }
        seen
    }

    #[test]
    fn numbers_without_gap_in_any_order_are_sound() {
        let none = BTreeSet::new();
        assert!(seen(&[1, 2, 3, 4], true).problems(&none).is_empty());
        assert!(seen(&[1, 3, 2, 5, 4], false).problems(&none).is_empty());
        assert!(seen(&[1, 2, 4], false).problems(&BTreeSet::from([3])).is_empty());
        let mut merged = seen(&[1, 2], false);
        merged.merge(seen(&[3, 4], true));
        assert!(merged.problems(&none).is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let none = BTreeSet::new();
        let only = |numbers: &[u64], ended| seen(numbers, ended).problems(&none).join("; ");
        assert_eq!(only(&[1, 2, 4, 5], true), "the number 3 is missing");
        assert_eq!(only(&[1, 2, 6], false), "3 numbers are missing, the first is 3");
        assert_eq!(only(&[1, 2, 2, 3], false), "the number 2 stands twice");
        assert_eq!(
            only(&[2, 3], true),
            "it has 0 session.start entries instead of one; the number 1 is missing"
        );
        let mut longer = seen(&[1, 2, 3], true);
        longer.merge(seen(&[4], false));
        assert_eq!(
            longer.problems(&none).join("; "),
            "it goes on after its session.end, which has the number 3"
        );
        assert!(!only(&[1, u64::MAX], false).is_empty());
        assert!(!only(&[0, 1], false).is_empty());
    }
}
