//! Budgets: how much a principal may do at a target, counted over windows that slide.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::Budget;
use vocabulary::{PrincipalId, TargetId, Timestamp};

/// Parts that a window is counted in.
const SLOTS: usize = 60;

/// Counts over the last 60 slots of `SLOT_US` microseconds.
#[derive(Debug)]
struct Window<const SLOT_US: u64> {
    counts: [u64; SLOTS],
    /// The slot counted last, since 1970.
    now: u64,
    total: u64,
}

impl<const SLOT_US: u64> Default for Window<SLOT_US> {
    fn default() -> Self {
        Self { counts: [0; SLOTS], now: 0, total: 0 }
    }
}

impl<const SLOT_US: u64> Window<SLOT_US> {
    fn turn_to(&mut self, at: Timestamp) {
        let slot = at.0 / SLOT_US;
        let passed = slot.saturating_sub(self.now);
        for step in 1..=passed.min(SLOTS as u64) {
            if let Some(count) = self.counts.get_mut(place(self.now + step)) {
                self.total = self.total.saturating_sub(std::mem::take(count));
            }
        }
        self.now = self.now.max(slot);
    }

    fn add(&mut self, at: Timestamp, count: u64) {
        self.turn_to(at);
        if let Some(slot) = self.counts.get_mut(place(self.now)) {
            *slot = slot.saturating_add(count);
            self.total = self.total.saturating_add(count);
        }
    }

    /// When enough has passed out of the window that it holds fewer than `limit`.
    fn free_in(&self, at: Timestamp, limit: u64) -> Duration {
        let mut left = self.total;
        for age in (0..SLOTS as u64).rev() {
            let Some(slot) = self.now.checked_sub(age) else { continue };
            left = left.saturating_sub(self.counts.get(place(slot)).copied().unwrap_or_default());
            if left < limit {
                let free_at = (slot + SLOTS as u64) * SLOT_US;
                return Duration::from_micros(free_at.saturating_sub(at.0).max(1));
            }
        }
        Duration::from_micros(SLOT_US * SLOTS as u64)
    }
}

fn place(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or_default()
}

/// What one principal does at one target.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sessions: AtomicU32,
    counts: Mutex<(Window<1_000_000>, Window<60_000_000>)>,
}

/// A budget that is used up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Exceeded {
    /// The budget, in words.
    pub what: String,
    /// When to come back; `None` where one message has more commands than the budget ever has.
    pub retry_after: Option<Duration>,
}

impl Meter {
    /// Counts the commands of one message, each with its budget, if there is room for all of them; else none is counted.
    ///
    /// # Errors
    /// The place of the first that there is no room for, and why.
    pub fn take<'b>(
        &self,
        budgets: impl IntoIterator<Item = &'b Budget>,
        at: Timestamp,
    ) -> Result<(), (usize, Exceeded)> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (minute, hour) = &mut *counts;
        minute.turn_to(at);
        hour.turn_to(at);
        let mut commands = 0;
        for (place, budget) in budgets.into_iter().enumerate() {
            if budget.rows_per_hour.is_none() && budget.commands_per_minute.is_none() {
                continue;
            }
            if let Some(limit) = budget.rows_per_hour
                && hour.total >= limit
            {
                let retry_after = Some(hour.free_in(at, limit));
                return Err((place, Exceeded { what: format!("{limit} rows an hour"), retry_after }));
            }
            if let Some(limit) = budget.commands_per_minute
                && minute.total.saturating_add(commands) >= limit
            {
                let room = limit.checked_sub(commands).filter(|room| *room > 0);
                let retry_after = room.map(|room| minute.free_in(at, room));
                return Err((place, Exceeded { what: format!("{limit} commands a minute"), retry_after }));
            }
            commands += 1;
        }
        minute.add(at, commands);
        Ok(())
    }

    /// Counts rows that went to the client.
    pub fn rows(&self, rows: u64, at: Timestamp) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).1.add(at, rows);
    }
}

/// One session's place among those of its principal at its target; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Meter>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Meter {
    /// A place for one more session, if there are fewer than `limit`.
    pub fn sit(self: Arc<Self>, limit: Option<u32>) -> Option<Seat> {
        let limit = limit.unwrap_or(u32::MAX);
        let more = |count: u32| (count < limit).then_some(count + 1);
        self.sessions.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Seat(self))
    }
}

/// Everybody's meters.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<HashMap<(PrincipalId, TargetId), Arc<Meter>>>);

impl Meters {
    /// The meter of a principal at a target.
    pub fn of(&self, principal: PrincipalId, target: TargetId) -> Arc<Meter> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meters.entry((principal, target)).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(START + seconds * 1_000_000)
    }

    #[test]
    fn a_minute_slides() {
        let meter = Meter::default();
        let budget = Budget { commands_per_minute: Some(3), ..Budget::default() };
        for second in [0, 10, 20] {
            meter.take([&budget], at(second)).unwrap();
        }
        let (_, over) = meter.take([&budget], at(30)).unwrap_err();
        let wait = Some(Duration::from_secs(30));
        assert_eq!((over.what.as_str(), over.retry_after), ("3 commands a minute", wait));
        meter.take([&budget], at(60)).unwrap();
        assert!(meter.take([&budget], at(61)).is_err());
        meter.take([&budget], at(70)).unwrap();
    }

    #[test]
    fn rows_count_over_an_hour_and_a_refused_command_costs_nothing() {
        let meter = Meter::default();
        let budget = Budget { rows_per_hour: Some(100), commands_per_minute: Some(2), ..Budget::default() };
        meter.take([&budget], at(0)).unwrap();
        meter.rows(150, at(0));
        for _ in 0..5 {
            let (_, over) = meter.take([&budget], at(1)).unwrap_err();
            assert!(over.retry_after > Some(Duration::from_secs(3_500)));
        }
        meter.take([&budget], at(3_700)).unwrap();
    }

    #[test]
    fn so_many_sessions_at_once() {
        let meter = Arc::new(Meter::default());
        let first = Arc::clone(&meter).sit(Some(2)).unwrap();
        let _second = Arc::clone(&meter).sit(Some(2)).unwrap();
        assert!(Arc::clone(&meter).sit(Some(2)).is_none());
        drop(first);
        assert!(meter.sit(Some(2)).is_some());
    }

    #[test]
    fn a_message_counts_as_a_whole_or_not_at_all() {
        let meter = Meter::default();
        let budget = Budget { commands_per_minute: Some(3), ..Budget::default() };
        meter.take([&budget], at(0)).unwrap();
        let (place, over) = meter.take([&budget; 3], at(1)).unwrap_err();
        assert_eq!((place, over.retry_after), (2, Some(Duration::from_secs(59))));
        meter.take([&budget; 2], at(2)).unwrap();
        // However long it waits, there is never room for so many at once.
        assert_eq!(meter.take([&budget; 4], at(200)).unwrap_err().1.retry_after, None);
    }
}
