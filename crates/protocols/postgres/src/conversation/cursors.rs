//! Cursors that DECLARE made, by name: a FETCH does what the cursor's query does.

use std::collections::HashMap;
use std::sync::Arc;

use vocabulary::Facts;

/// Most cursors that are known of one session. With more, all are forgotten, and a FETCH is not understood.
const MAX_CURSORS: usize = 256;

/// What is known of a session's cursors. A cursor ends with its transaction unless it is WITH HOLD; it is kept here until
/// its name is given anew, for what it was known to do stays true of the name: nothing else gives names but functions,
/// which are judged themselves.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    facts: HashMap<Box<str>, Arc<Facts>>,
}

impl Cursors {
    /// DECLARE has succeeded.
    pub(super) fn declared(&mut self, name: &str, facts: Arc<Facts>) {
        if self.facts.len() >= MAX_CURSORS {
            self.facts.clear();
        }
        self.facts.insert(name.into(), facts);
    }

    /// What fetching from it does.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Facts>> {
        self.facts.get(name).cloned()
    }

    /// The name stands for something else now, if for anything.
    pub(super) fn gives_up(&mut self, name: &str) {
        if !self.facts.is_empty() {
            self.facts.remove(name);
        }
    }

    /// Something whose names are not known has run: it may have opened cursors under any.
    pub(super) fn forget(&mut self) {
        self.facts.clear();
    }
}
