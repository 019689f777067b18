//! Names of prepared statements and portals, while the target's answers about them are still on their way.
//!
//! A name is taken or freed when the client asks for it, since what follows in the same pipeline relies on it. The
//! target may still refuse; then everything up to the next Sync is skipped, and [`Names::undo_open`] and
//! [`Names::undo_close`] put the old state back, latest first.

use std::collections::HashMap;

/// Tells one use of a name from the next.
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
}

/// What a name refers to in a given segment.
#[derive(Debug)]
pub enum Found<'a, T> {
    /// This.
    Known(&'a mut T),
    /// It was opened or closed in an earlier segment, and the target has not answered yet.
    InDoubt,
    /// Nothing.
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

/// All names of one sort.
#[derive(Debug)]
pub struct Names<T> {
    /// Under the empty name: what most drivers use for every command, so it is not looked up.
    unnamed: Option<Slot<T>>,
    named: HashMap<Box<[u8]>, Slot<T>>,
    next_id: SlotId,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { unnamed: None, named: HashMap::new(), next_id: 1 }
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

    /// The client takes a name. `None` if it is taken already, which the target will refuse; the unnamed one
    /// (empty) is always replaced.
    pub fn open(&mut self, name: &[u8], value: T, segment: u64) -> Option<Opened<T>> {
        if !name.is_empty() && self.named.get(name).is_some_and(|slot| !slot.closing) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let slot = Slot { value, id, segment, confirmed: false, closing: false };
        let replaced = if let Some(old) = self.slot_mut(name) {
            Some(std::mem::replace(old, slot))
        } else {
            self.insert(name, slot)
        };
        Some(Opened { id, replaced })
    }

    /// The target has taken the name too.
    pub fn confirm(&mut self, name: &[u8], id: SlotId) {
        if let Some(slot) = self.slot_mut(name).filter(|slot| slot.id == id) {
            slot.confirmed = true;
        }
    }

    /// The target has not taken the name: what stood there before stands again. Returns the value that did not
    /// come to be.
    pub fn undo_open(&mut self, name: &[u8], opened: Opened<T>) -> Option<T> {
        if self.slot(name).is_none_or(|slot| slot.id != opened.id) {
            return None;
        }
        match opened.replaced {
            Some(replaced) => self.insert(name, replaced).map(|slot| slot.value),
            None => self.remove(name).map(|slot| slot.value),
        }
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

    /// What a name refers to. `answered` says that the target has answered all earlier segments.
    pub fn find(&mut self, name: &[u8], segment: u64, answered: bool) -> Found<'_, T> {
        match self.slot_mut(name) {
            Some(slot) if !slot.confirmed && slot.segment < segment && !answered => Found::InDoubt,
            Some(slot) if !slot.closing => Found::Known(&mut slot.value),
            Some(_) | None => Found::Missing,
        }
    }

    /// Whatever stands under a name, for a look that decides nothing.
    pub fn peek(&self, name: &[u8]) -> Option<&T> {
        self.slot(name).map(|slot| &slot.value)
    }

    /// Sets a name without asking the target, as SQL's PREPARE has done.
    pub fn set(&mut self, name: &[u8], value: T) {
        let id = self.next_id;
        self.next_id += 1;
        let slot = Slot { value, id, segment: 0, confirmed: true, closing: false };
        self.insert(name, slot);
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

impl<T> Opened<T> {
    /// What stood under the name before, once the target has confirmed.
    pub fn into_replaced(self) -> Option<T> {
        self.replaced.map(|slot| slot.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &mut Names<u8>, name: &[u8], segment: u64) -> Option<u8> {
        match names.find(name, segment, false) {
            Found::Known(value) => Some(*value),
            Found::InDoubt | Found::Missing => None,
        }
    }

    #[test]
    fn a_name_is_used_in_the_segment_that_opens_it_and_doubted_in_the_next() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 5).unwrap();
        assert_eq!(known(&mut names, b"s", 5), Some(1));
        assert!(matches!(names.find(b"s", 6, false), Found::InDoubt));
        names.confirm(b"s", opened.id);
        assert_eq!(known(&mut names, b"s", 6), Some(1));
    }

    #[test]
    fn a_taken_name_stays_as_it_is() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 0).unwrap();
        names.confirm(b"s", opened.id);
        assert!(names.open(b"s", 2, 1).is_none());
        assert_eq!(known(&mut names, b"s", 1), Some(1));
    }

    #[test]
    fn a_skipped_pipeline_leaves_the_old_state() {
        let mut names = Names::default();
        let opened = names.open(b"s", 1, 0).unwrap();
        names.confirm(b"s", opened.id);
        let closed = names.close(b"s", 1).unwrap();
        let reopened = names.open(b"s", 2, 1).unwrap();
        assert_eq!(known(&mut names, b"s", 1), Some(2));
        assert_eq!(names.undo_open(b"s", reopened), Some(2));
        names.undo_close(b"s", closed);
        assert_eq!(known(&mut names, b"s", 2), Some(1));
    }

    #[test]
    fn the_unnamed_one_is_replaced() {
        let mut names = Names::default();
        names.open(b"", 1, 0).unwrap();
        let opened = names.open(b"", 2, 0).unwrap();
        assert_eq!(opened.into_replaced(), Some(1));
        assert_eq!(known(&mut names, b"", 0), Some(2));
    }
}
