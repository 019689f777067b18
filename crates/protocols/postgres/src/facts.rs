//! What is known of statements, kept per thread so that a repeated one costs a look-up.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use classify::postgres::{Cache, Parsed, Prepared, PreparedStatement, Settings};
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

/// Facts by text, and their recorded form by facts.
#[derive(Debug)]
pub struct FactsCache {
    cache: Cache,
    /// By address of the facts, which the entry keeps alive.
    known: HashMap<usize, Rc<Known>>,
    empty: Rc<Known>,
    unknown: Rc<Known>,
}

impl Default for FactsCache {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            known: HashMap::new(),
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
        let parsed = self.cache.classify(text, settings, prepared);
        match &*parsed {
            Parsed::Empty => Understood::Empty(Rc::clone(&self.empty)),
            Parsed::Unknown(_, facts) => Understood::Unknown(self.known(facts)),
            Parsed::Statements(statements) => {
                let mut each = statements.iter().map(|statement| One {
                    span: statement.span.clone(),
                    known: self.known(&statement.facts),
                    prepares: statement.prepares.clone(),
                });
                match (statements.len(), each.next()) {
                    (1, Some(one)) => Understood::One(one),
                    (_, first) => Understood::Many(first.into_iter().chain(each).collect()),
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
