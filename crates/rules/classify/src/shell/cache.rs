//! Verdicts remembered, so that what clients send over and over is judged once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Terminal, Understood, limits, understand_with};

/// Verdicts by text, for one thread, bounded by [`limits::CACHE_ENTRIES`]. When it is full it begins anew: what is
/// sent over and over is there again at once.
#[derive(Debug, Default)]
pub struct Cache {
    entries: [HashMap<Box<[u8]>, Arc<Understood>>; 2],
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`understand_with`] says of the text.
    pub fn understand(&mut self, text: &[u8], terminal: Terminal) -> Arc<Understood> {
        let [absent, possible] = &mut self.entries;
        let entries = match terminal {
            Terminal::Absent => absent,
            Terminal::Possible => possible,
        };
        if let Some(known) = entries.get(text) {
            return Arc::clone(known);
        }
        let understood = Arc::new(understand_with(text, terminal));
        // What one thread could not finish another may.
        if text.len() <= limits::CACHE_TEXT_BYTES && understood.reason != Some(super::Reason::Parser) {
            if entries.len() >= limits::CACHE_ENTRIES {
                entries.clear();
            }
            entries.insert(text.into(), Arc::clone(&understood));
        }
        understood
    }
}
