//! Names of prepared statements and portals, while the target's answers about them are still on their way.
//!
//! A name is taken or freed when the client asks for it, since what follows in the same pipeline relies on it. The
//! target may still refuse; then everything up to the next Sync is skipped, and [`Names::undo_open`] and
//! [`Names::undo_close`] put the old state back, latest first.
//!
//! Not only the protocol names things: PREPARE, DEALLOCATE and DISCARD ALL do, and code can run them too. Until such a
//! command is answered it is not known what a name stands for, so nothing is known of it ([`Names::renames`],
//! [`Names::code_runs`]). The unnamed statement and portal are out of SQL's reach.

use std::collections::HashMap;

/// Tells one use of a name from the next, and which of two came first.
pub type SlotId = u64;

/// What stands under a name.
#[derive(Debug)]
pub struct Slot<T> {
    /// The statement or portal.
    pub value: T,
    id: SlotId,
    /// The pipeline segment (counted in Syncs) that the client opened or closed it in.
    segment: u64,
    confirmed: bool,
    closing: bool,
    /// SQL made it, so its id does not tell when in the pipeline that was.
    by_sql: bool,
    /// The target has just said that it still is what it was.
    vouched: bool,
}

/// When a name is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The segment that is being sent.
    pub segment: u64,
    /// Whether the target has answered all earlier ones.
    pub answered: bool,
    /// Whether it matters what code may have named.
    pub wary: bool,
}

/// What a name refers to at a given moment.
#[derive(Debug)]
pub enum Found<V> {
    /// This.
    Known(V),
    /// It was opened or closed in an earlier segment, and the target has not answered yet.
    InDoubt,
    /// Nothing, or what only the target knows.
    Missing,
}

/// What [`Names::open`] did.
#[derive(Debug)]
pub struct Opened<T> {
    /// To be given back to [`Names::confirm`] or [`Names::undo_open`].
    pub id: SlotId,
    /// What stood there before; to be kept until the target has answered.
    pub replaced: Option<Slot<T>>,
}

/// From when on names are sure again.
#[derive(Debug, Clone, Copy, Default)]
struct Doubts {
    /// In this segment, what was opened before may be something else by now.
    renamed: (u64, SlotId),
    /// So may what was opened before code ran, until the target was asked; 0 if none has run since.
    code: SlotId,
}

/// All names of one sort.
#[derive(Debug)]
pub struct Names<T> {
    /// Under the empty name: what most drivers use for every command, so it is not looked up.
    unnamed: Option<Slot<T>>,
    named: HashMap<Box<[u8]>, Slot<T>>,
    next_id: SlotId,
    doubts: Doubts,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { unnamed: None, named: HashMap::new(), next_id: 1, doubts: Doubts::default() }
    }
}

impl<T> Names<T> {
    fn slot(&self, name: &[u8]) -> Option<&Slot<T>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn slot_mut(&mut self, name: &[u8]) -> Option<&mut Slot<T>> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    /// Returns what stood there.
    fn insert(&mut self, name: &[u8], slot: Slot<T>) -> Option<Slot<T>> {
        if name.is_empty() { self.unnamed.replace(slot) } else { self.named.insert(name.into(), slot) }
    }

    fn remove(&mut self, name: &[u8]) -> Option<Slot<T>> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    const fn new_id(&mut self) -> SlotId {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The client takes a name. Whether it is free only the target knows, for SQL frees names too: if it is not, the
    /// target refuses, everything behind it in the segment is skipped, and this is undone.
    pub fn open(&mut self, name: &[u8], value: T, segment: u64) -> Opened<T> {
        let id = self.new_id();
        let slot =
            Slot { value, id, segment, confirmed: false, closing: false, by_sql: false, vouched: false };
        let replaced = if let Some(old) = self.slot_mut(name) {
            Some(std::mem::replace(old, slot))
        } else {
            self.insert(name, slot)
        };
        Opened { id, replaced }
    }

    /// The target has taken the name too.
    pub fn confirm(&mut self, name: &[u8], id: SlotId) {
        if let Some(slot) = self.slot_mut(name).filter(|slot| slot.id == id) {
            slot.confirmed = true;
        }
    }

    /// The target has not taken the name: what stood there before stands again. Where something later in the pipeline
    /// has taken the name already, `opened` comes back: what it replaced is what that later one replaces.
    #[must_use]
    pub fn undo_open(&mut self, name: &[u8], opened: Opened<T>) -> Option<Opened<T>> {
        if self.slot(name).is_none_or(|slot| slot.id != opened.id) {
            return Some(opened);
        }
        match opened.replaced {
            // Answers come in order, so it has its own; if that was a refusal too, it is undone next.
            Some(mut replaced) => {
                replaced.confirmed = !replaced.closing;
                self.insert(name, replaced);
            }
            None => {
                self.remove(name);
            }
        }
        None
    }

    /// The client frees a name.
    pub fn close(&mut self, name: &[u8], segment: u64) -> Option<SlotId> {
        let slot = self.slot_mut(name)?;
        slot.closing = true;
        slot.confirmed = false;
        slot.segment = segment;
        Some(slot.id)
    }

    /// The target has freed the name too. Returns what stood there.
    pub fn closed(&mut self, name: &[u8], id: SlotId) -> Option<T> {
        let slot = self.slot(name)?;
        if slot.id == id && slot.closing { self.remove(name).map(|slot| slot.value) } else { None }
    }

    /// The target has not freed the name.
    pub fn undo_close(&mut self, name: &[u8], id: SlotId) {
        if let Some(slot) = self.slot_mut(name).filter(|slot| slot.id == id) {
            slot.closing = false;
            slot.confirmed = true;
        }
    }

    /// What a name refers to, to be changed.
    pub fn find(&mut self, name: &[u8], moment: Moment) -> Found<&mut T> {
        let doubts = self.doubts;
        match self.slot_mut(name) {
            Some(slot) if slot.is_pending(moment) => Found::InDoubt,
            Some(slot) if slot.stands(name, moment, doubts) => Found::Known(&mut slot.value),
            Some(_) | None => Found::Missing,
        }
    }

    /// What a name refers to.
    pub fn look(&self, name: &[u8], moment: Moment) -> Found<&T> {
        match self.slot(name) {
            Some(slot) if slot.is_pending(moment) => Found::InDoubt,
            Some(slot) if slot.stands(name, moment, self.doubts) => Found::Known(&slot.value),
            Some(_) | None => Found::Missing,
        }
    }

    /// Whatever stands under a name, for a look that decides nothing.
    pub fn peek(&self, name: &[u8]) -> Option<&T> {
        self.slot(name).map(|slot| &slot.value)
    }

    /// A command that gives or frees names in SQL runs from here on. What it did is known when it is answered, and
    /// the next segment waits for that; in this one names from before are in doubt.
    pub const fn renames(&mut self, segment: u64) {
        self.doubts.renamed = (segment, self.new_id());
    }

    /// Code runs from here on: it can give and free any name, whatever becomes of the transaction.
    pub const fn code_runs(&mut self) {
        self.doubts.code = self.new_id();
    }

    /// Whether code may have changed what a name stands for.
    pub fn are_doubted(&self) -> bool {
        self.doubts.code > 0 && !self.named.is_empty()
    }

    /// Whether anything has a name.
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// The target has this name, of something that `is_it` may take for what stands there.
    pub fn vouch(&mut self, name: &[u8], is_it: impl FnOnce(&T) -> bool) {
        if let Some(slot) = self.named.get_mut(name) {
            slot.vouched = is_it(&slot.value);
        }
    }

    /// The target has said all: what it did not vouch for does not stand under its name any more.
    pub fn keep_vouched(&mut self) {
        self.named.retain(|_, slot| std::mem::take(&mut slot.vouched));
        self.doubts.code = 0;
    }

    /// SQL has given a name. If something later in the pipeline has asked for it too, it comes back: that one replaces
    /// it, if the target lets it.
    #[must_use]
    pub fn set(&mut self, name: &[u8], value: T) -> Option<Slot<T>> {
        let id = self.new_id();
        let slot =
            Slot { value, id, segment: 0, confirmed: true, closing: false, by_sql: true, vouched: false };
        if self.slot(name).is_some_and(Slot::is_asked_for) {
            return Some(slot);
        }
        self.insert(name, slot);
        None
    }

    /// SQL has freed a name. Returns what stood there, and nothing if that is beneath something later in the pipeline.
    pub fn free(&mut self, name: &[u8]) -> Option<T> {
        let confirmed = self.slot(name).is_some_and(|slot| slot.confirmed);
        if confirmed { self.remove(name).map(|slot| slot.value) } else { None }
    }

    /// SQL has freed all names but the empty one.
    pub fn free_all(&mut self) {
        self.named.retain(|_, slot| !slot.confirmed);
    }

    /// Takes out all values that the target has confirmed.
    pub fn drain_confirmed(&mut self) -> Vec<T> {
        let unnamed = self.unnamed.take_if(|slot| slot.confirmed || slot.closing);
        let named = self.named.extract_if(|_, slot| slot.confirmed || slot.closing).map(|(_, slot)| slot);
        unnamed.into_iter().chain(named).map(|slot| slot.value).collect()
    }

    /// Takes out all values.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        let named = self.named.drain().map(|(_, slot)| slot);
        self.unnamed.take().into_iter().chain(named).map(|slot| slot.value)
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.unnamed.is_none() && self.named.is_empty()
    }
}

impl<T> Slot<T> {
    /// The target's answer about it may yet be another than the client expects.
    const fn is_pending(&self, moment: Moment) -> bool {
        !self.confirmed && self.segment < moment.segment && !moment.answered
    }

    /// The client has asked for it, and the target has not answered.
    const fn is_asked_for(&self) -> bool {
        !self.confirmed && !self.closing
    }

    /// Whether it is what the name stands for.
    fn stands(&self, name: &[u8], moment: Moment, doubts: Doubts) -> bool {
        !self.closing && (name.is_empty() || !self.is_doubted(moment, doubts))
    }

    const fn is_doubted(&self, moment: Moment, doubts: Doubts) -> bool {
        let place = if self.by_sql { 0 } else { self.id };
        let (segment, renamed) = doubts.renamed;
        (segment == moment.segment && place < renamed) || (moment.wary && place < doubts.code)
    }
}

impl<T> Opened<T> {
    /// What stood under the name before, once the target has confirmed.
    pub fn into_replaced(self) -> Option<T> {
        self.replaced.map(|slot| slot.value)
    }

    /// Whether it replaced what was opened as that.
    pub fn has_replaced(&self, id: SlotId) -> bool {
        self.replaced.as_ref().is_some_and(|slot| slot.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64) -> Moment {
        Moment { segment, answered: false, wary: false }
    }

    fn known(names: &Names<u8>, name: &[u8], moment: Moment) -> Option<u8> {
        match names.look(name, moment) {
            Found::Known(value) => Some(*value),
            Found::InDoubt | Found::Missing => None,
        }
    }

    #[test]
    fn a_name_is_used_in_the_segment_that_opens_it_and_doubted_in_the_next() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 5);
        assert_eq!(known(&names, b"s", at(5)), Some(1));
        assert!(matches!(names.find(b"s", at(6)), Found::InDoubt));
        names.confirm(b"s", opened.id);
        assert_eq!(known(&names, b"s", at(6)), Some(1));
    }

    #[test]
    fn a_taken_name_stays_as_it_is_if_the_target_says_so() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 0);
        names.confirm(b"s", opened.id);
        let opened = names.open(b"s", 2, 1);
        assert_eq!(known(&names, b"s", at(1)), Some(2));
        assert!(matches!(names.find(b"s", at(2)), Found::InDoubt));
        assert!(names.undo_open(b"s", opened).is_none());
        assert_eq!(known(&names, b"s", at(2)), Some(1));
    }

    #[test]
    fn a_skipped_pipeline_leaves_the_old_state() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 0);
        names.confirm(b"s", opened.id);
        let closed = names.close(b"s", 1).unwrap();
        let reopened = names.open(b"s", 2, 1);
        assert_eq!(known(&names, b"s", at(1)), Some(2));
        assert!(names.undo_open(b"s", reopened).is_none());
        names.undo_close(b"s", closed);
        assert_eq!(known(&names, b"s", at(2)), Some(1));
    }

    #[test]
    fn what_is_undone_below_another_comes_back() {
        let mut names = Names::default();
        let first = names.open(b"s", 1, 0);
        let second = names.open(b"s", 2, 0);
        assert!(second.has_replaced(first.id));
        let first = names.undo_open(b"s", first).unwrap();
        assert!(first.replaced.is_none());
        assert_eq!(known(&names, b"s", at(0)), Some(2));
    }

    #[test]
    fn the_unnamed_one_is_replaced() {
        let mut names = Names::default();
        names.open(b"", 1, 0);
        let opened = names.open(b"", 2, 0);
        assert_eq!(opened.into_replaced(), Some(1));
        assert_eq!(known(&names, b"", at(0)), Some(2));
    }

    #[test]
    fn what_sql_names_is_sure_in_the_next_segment_and_what_is_opened_behind_it_at_once() {
        let mut names = Names::default();
        for name in [&b"before"[..], b""] {
            let opened = names.open(name, 1, 0);
            names.confirm(name, opened.id);
        }
        names.renames(1);
        names.open(b"behind", 2, 1);
        assert_eq!(known(&names, b"before", at(1)), None);
        assert_eq!(known(&names, b"", at(1)), Some(1));
        assert_eq!(known(&names, b"behind", at(1)), Some(2));
        assert!(names.set(b"sql", 3).is_none());
        assert_eq!(known(&names, b"sql", at(1)), None);
        assert_eq!((known(&names, b"sql", at(2)), known(&names, b"before", at(2))), (Some(3), Some(1)));
        // What the client has asked for behind it stays on top.
        assert!(names.set(b"behind", 4).is_some());
        assert_eq!(names.free(b"behind"), None);
        names.free_all();
        assert_eq!((known(&names, b"behind", at(1)), known(&names, b"sql", at(2))), (Some(2), None));
    }

    #[test]
    fn behind_code_a_name_stands_for_what_the_target_vouches_for() {
        let mut names = Names::default();
        for (name, value) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
            let opened = names.open(name, value, 0);
            names.confirm(name, opened.id);
        }
        names.code_runs();
        let wary = Moment { wary: true, ..at(1) };
        assert_eq!((known(&names, b"a", at(1)), known(&names, b"a", wary)), (Some(1), None));
        assert!(names.are_doubted());
        names.vouch(b"a", |value| *value == 1);
        names.vouch(b"b", |value| *value == 3);
        names.keep_vouched();
        assert!(!names.are_doubted());
        let found = [b"a", b"b", b"c"].map(|name| known(&names, name, wary));
        assert_eq!(found, [Some(1), None, None]);
    }
}
