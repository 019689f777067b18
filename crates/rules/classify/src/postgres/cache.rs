//! Verdicts remembered, so that what clients send over and over is judged once.

use std::collections::HashMap;
use std::sync::Arc;

use super::parse::{judge, trimmed};
use super::settings::Settings;
use super::{Parsed, Prepared, Statement, limits, template};

/// Most different settings that one cache keeps apart; sessions of one gateway have few.
const SETTINGS: usize = 64;

/// Verdicts of [`super::classify`] by text and settings, for one thread. Bounded by
/// [`limits::CACHE_ENTRIES`] and [`limits::CACHE_BYTES`]; what was not asked for lately goes first.
#[derive(Debug, Default)]
pub struct Cache {
    settings: Vec<Settings>,
    /// Index in `settings` that was asked for last.
    latest: usize,
    /// By settings' index, whether the key is a template, and text or template.
    entries: HashMap<Box<[u8]>, Entry>,
    /// Keys in the order of the clock's hand.
    clock: Vec<Box<[u8]>>,
    hand: usize,
    bytes: usize,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    parsed: Arc<Parsed>,
    /// Asked for since the clock's hand last went by.
    used: bool,
}

/// What a key begins with, behind the settings' index, so that no text is taken for a template.
const TEXT: u8 = 0;
const TEMPLATE: u8 = 1;

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many verdicts it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What [`super::classify`] says of the text.
    pub fn classify(&mut self, text: &[u8], settings: &Settings, prepared: Prepared<'_>) -> Arc<Parsed> {
        let parsed = self.look_up(text, settings, prepared);
        if let Parsed::Statements(statements) = &*parsed
            && let [statement] = statements.as_slice()
        {
            let span = trimmed(text, 0..text.len());
            if statement.span != span {
                return Arc::new(Parsed::Statements(vec![Statement { span, ..statement.clone() }]));
            }
        }
        parsed
    }

    /// As [`classify`](Self::classify), but the span of a text's only statement may be that of another text that
    /// differs in its constants. A verdict that is remembered costs no allocation.
    pub fn look_up(&mut self, text: &[u8], settings: &Settings, prepared: Prepared<'_>) -> Arc<Parsed> {
        if text.len() > limits::CACHE_TEXT_BYTES {
            return Arc::new(judge(text, settings, prepared).parsed);
        }
        let index = self.index(settings);
        let mut key = std::mem::take(&mut self.key);
        let parsed = self.look_up_at(index, text, settings, prepared, &mut key);
        self.key = key;
        parsed
    }

    fn look_up_at(
        &mut self,
        index: u8,
        text: &[u8],
        settings: &Settings,
        prepared: Prepared<'_>,
        key: &mut Vec<u8>,
    ) -> Arc<Parsed> {
        // The template first: where a text has one, it nearly always is what is remembered.
        key.clear();
        key.extend_from_slice(&[index, TEMPLATE]);
        let templated = settings.standard_conforming_strings && template::key(text, key);
        if templated && let Some(parsed) = self.remembered(key) {
            return parsed;
        }
        let template = templated.then(|| key.clone());
        key.clear();
        key.extend_from_slice(&[index, TEXT]);
        key.extend_from_slice(text);
        if let Some(parsed) = self.remembered(key) {
            return parsed;
        }
        let verdict = judge(text, settings, prepared);
        let parsed = Arc::new(verdict.parsed);
        match template {
            Some(template)
                if verdict.template
                    && verdict.reusable
                    && matches!(&*parsed, Parsed::Statements(statements) if statements.len() == 1) =>
            {
                self.insert(template, Arc::clone(&parsed));
            }
            _ if verdict.reusable => self.insert(key.clone(), Arc::clone(&parsed)),
            _ => {}
        }
        parsed
    }

    fn remembered(&mut self, key: &[u8]) -> Option<Arc<Parsed>> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(Arc::clone(&entry.parsed))
    }

    /// The number that stands for these settings in keys.
    fn index(&mut self, settings: &Settings) -> u8 {
        let index = match self.settings.get(self.latest) {
            Some(latest) if latest == settings => self.latest,
            _ => match self.settings.iter().position(|known| known == settings) {
                Some(index) => index,
                None => {
                    if self.settings.len() == SETTINGS {
                        *self = Self { key: std::mem::take(&mut self.key), ..Self::default() };
                    }
                    self.settings.push(settings.clone());
                    self.settings.len() - 1
                }
            },
        };
        self.latest = index;
        // SETTINGS is far below 256.
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    fn insert(&mut self, key: Vec<u8>, parsed: Arc<Parsed>) {
        while self.entries.len() >= limits::CACHE_ENTRIES || self.bytes + key.len() > limits::CACHE_BYTES {
            if !self.evict() {
                return;
            }
        }
        let key = key.into_boxed_slice();
        self.bytes += key.len();
        self.clock.push(key.clone());
        self.entries.insert(key, Entry { parsed, used: false });
    }

    /// Takes out the first entry from the hand on that nobody asked for since the hand's last round.
    fn evict(&mut self) -> bool {
        while !self.clock.is_empty() {
            self.hand %= self.clock.len();
            let spared = self
                .clock
                .get(self.hand)
                .and_then(|key| self.entries.get_mut(key))
                .is_some_and(|entry| std::mem::take(&mut entry.used));
            if spared {
                self.hand += 1;
                continue;
            }
            let key = self.clock.swap_remove(self.hand);
            self.bytes -= key.len();
            self.entries.remove(&key);
            return true;
        }
        false
    }
}
