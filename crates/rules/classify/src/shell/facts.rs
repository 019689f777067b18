//! What has been found in a text so far.

use std::collections::BTreeSet;

use vocabulary::{Class, Effect, Facts, FunctionUse, ObjectUse, SettingChange, Usage};

use super::{VERB, dispatch, limits};

/// Facts while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Found {
    class: Option<Class>,
    /// The program that does the worst so far, and how bad that is.
    verb: Option<(Class, String)>,
    /// Every program.
    verbs: BTreeSet<String>,
    objects: BTreeSet<ObjectUse>,
    functions: BTreeSet<FunctionUse>,
    settings: Vec<SettingChange>,
    /// Something fetches text from elsewhere.
    pub fetches: bool,
    /// Something decodes text.
    pub decodes: bool,
}

impl Found {
    /// Something of that class is done.
    pub fn class(&mut self, class: Class) {
        self.class = self.class.max(Some(class));
    }

    /// A program runs and does something of that class.
    pub fn program(&mut self, name: &str, effect: Effect, class: Class) {
        self.class(class);
        let verb = if dispatch::is_known(name) { name } else { VERB };
        self.verbs.insert(verb.to_owned());
        if self.verb.as_ref().is_none_or(|(worst, _)| class > *worst) {
            self.verb = Some((class, verb.to_owned()));
        }
        self.function(name, effect);
    }

    /// A program runs, or something that a policy may ask for as if it were one.
    pub fn function(&mut self, name: &str, effect: Effect) {
        self.functions.insert(FunctionUse { name: cut(name), effect });
    }

    /// A file is named.
    pub fn object(&mut self, name: &str, usage: Usage) {
        self.objects.insert(ObjectUse { name: cut(name), usage });
    }

    /// A variable is set.
    pub fn setting(&mut self, name: &str, value: Option<&str>, local: bool) {
        self.settings.push(SettingChange { name: cut(name), value: value.map(cut), local });
    }

    /// Whether more is named than facts may hold.
    pub fn is_too_much(&self) -> bool {
        [self.objects.len(), self.functions.len(), self.settings.len()]
            .into_iter()
            .any(|length| length > limits::MAX_FACTS)
    }

    /// The facts. A text that does nothing at all is of the session.
    pub fn into_facts(self) -> Facts {
        let class = self.class.unwrap_or(Class::Session);
        let verb = self.verb.map_or_else(|| VERB.to_owned(), |(_, verb)| verb);
        let inner_verbs = self.verbs.into_iter().filter(|inner| *inner != verb).collect();
        Facts {
            inner_verbs,
            objects: self.objects.into_iter().collect(),
            functions: self.functions.into_iter().collect(),
            settings: self.settings,
            outlives_rollback: !class.is_harmless(),
            ..Facts::plain(&verb, class)
        }
    }
}

/// The name as far as facts keep it.
fn cut(name: &str) -> String {
    let mut end = name.len().min(limits::MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}
