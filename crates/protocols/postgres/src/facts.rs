//! What is known of statements, kept per thread so that a repeated one costs a look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use classify::postgres::{
    Cache, CopyDirection, Freed, Parsed, Prepared, PreparedStatement, Settings, Statement,
};
use session::Known;
use vocabulary::{Class, Facts};

/// Distinct facts whose recorded form is kept; beyond that all are forgotten and made anew.
const MAX_KNOWN: usize = 4096;

/// One statement of a text.
#[derive(Debug)]
pub struct One {
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
    /// What is known of it.
    pub known: Rc<Known>,
    /// Set for PREPARE.
    pub prepares: Option<PreparedStatement>,
    /// Set for DECLARE.
    pub declares: Option<PreparedStatement>,
    /// Whether it is a COPY that reads from the client.
    pub copies_in: bool,
    /// Set for DEALLOCATE and DISCARD ALL.
    pub frees: Option<Freed>,
    /// What is known of it hangs on what a name stands for when it runs.
    pub by_name: bool,
}

/// What a text holds.
#[derive(Debug)]
pub enum Understood {
    /// One statement: nearly always.
    One(One),
    /// Several, in the order they run.
    Many(Vec<One>),
    /// None.
    Empty(Rc<Known>),
    /// Not understood.
    Unknown(Rc<Known>),
}

/// Spreads addresses, which nobody outside can choose, over a table's buckets.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // By the golden ratio: the table takes its bucket from the low bits and its tag from the high ones.
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// Facts by text, and their recorded form by facts.
#[derive(Debug)]
pub struct FactsCache {
    cache: Cache,
    /// By address of the facts, which the entry keeps alive.
    known: HashMap<usize, Rc<Known>, BuildHasherDefault<AddressHasher>>,
    empty: Rc<Known>,
    unknown: Rc<Known>,
}

impl Default for FactsCache {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            known: HashMap::default(),
            empty: known(Facts::plain("EMPTY", Class::Session)),
            unknown: known(Facts::unknown("UNKNOWN")),
        }
    }
}

fn known(facts: Facts) -> Rc<Known> {
    Rc::new(Known::new(Arc::new(facts)))
}

impl FactsCache {
    /// What a text holds under a session's settings.
    pub fn understand(&mut self, text: &[u8], settings: &Settings, prepared: Prepared<'_>) -> Understood {
        let parsed = self.cache.look_up(text, settings, prepared);
        match &*parsed {
            Parsed::Empty => Understood::Empty(Rc::clone(&self.empty)),
            Parsed::Unknown(_, facts) => Understood::Unknown(self.known(facts)),
            Parsed::Statements(statements) => {
                let mut one = |statement: &Statement, span| One {
                    span,
                    known: self.known(&statement.facts),
                    prepares: statement.prepares.clone(),
                    declares: statement.declares.clone(),
                    copies_in: statement.copy == Some(CopyDirection::In),
                    frees: statement.frees.clone(),
                    by_name: statement.by_name,
                };
                match statements.as_slice() {
                    // All of the text is its; where it stands was only looked up for one like it.
                    [only] => Understood::One(one(only, 0..text.len())),
                    several => {
                        Understood::Many(several.iter().map(|each| one(each, each.span.clone())).collect())
                    }
                }
            }
        }
    }

    /// A text that nothing is known of.
    pub fn unknown(&self) -> Understood {
        Understood::Unknown(Rc::clone(&self.unknown))
    }

    fn known(&mut self, facts: &Arc<Facts>) -> Rc<Known> {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let address = Arc::as_ptr(facts) as usize;
        let entry = self.known.entry(address);
        Rc::clone(entry.or_insert_with(|| Rc::new(Known::new(Arc::clone(facts)))))
    }
}
