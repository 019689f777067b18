//! Which entries somebody wants to see.

use vocabulary::{Class, Kind, SessionId, Status, Timestamp};

use crate::{Entry, leaf::Leaf};

/// What an entry must be; `None` is anything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name or id of the principal, or name of the person it acts for.
    pub principal: Option<String>,
    /// Name or id of the target.
    pub target: Option<String>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// The command's class.
    pub class: Option<Class>,
    /// The outcome's status.
    pub status: Option<Status>,
    /// Began then or later.
    pub since: Option<Timestamp>,
    /// Began then or earlier.
    pub until: Option<Timestamp>,
    /// Text that the command, a parameter, a message or an event has in it. Without capital letters it finds either case.
    pub grep: Option<String>,
    /// Its session.
    pub session: Option<SessionId>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether entries of a kind are wanted. Parts of what was captured belong to their command's entry, and are no entries
    /// of their own unless somebody asks for them.
    pub(crate) fn admits_kind(&self, code: u8) -> bool {
        match self.kind {
            Some(kind) => code == kind.code(),
            None => code != Kind::Capture.code(),
        }
    }

    /// Whether a leaf can be of such an entry, as far as the leaf itself tells.
    pub(crate) fn admits_leaf(&self, leaf: &Leaf) -> bool {
        fn is<T: PartialEq + Copy>(wanted: Option<T>, found: Option<T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.kind, Some(leaf.kind))
            && is(self.session, Some(leaf.session))
            && is(self.class, leaf.command.map(|command| command.class))
            && is(self.status, leaf.outcome.map(|outcome| outcome.status))
            && self.since.is_none_or(|since| leaf.at >= since)
            && self.until.is_none_or(|until| leaf.at <= until)
    }

    /// Whether the whole entry, whose leaf was admitted, is wanted.
    pub(crate) fn admits(&self, entry: &Entry) -> bool {
        self.admits_principal(entry) && self.admits_target(entry) && self.admits_text(entry)
    }

    fn admits_principal(&self, entry: &Entry) -> bool {
        let Some(wanted) = &self.principal else { return true };
        entry.principal.as_ref().is_some_and(|principal| {
            principal.name.as_ref() == Some(wanted)
                || principal.on_behalf_of.as_ref() == Some(wanted)
                || principal.id.is_some_and(|id| id.to_string() == *wanted)
        })
    }

    fn admits_target(&self, entry: &Entry) -> bool {
        let Some(wanted) = &self.target else { return true };
        entry.target.as_ref().is_some_and(|target| {
            target.name.as_ref() == Some(wanted) || target.id.is_some_and(|id| id.to_string() == *wanted)
        })
    }

    fn admits_text(&self, entry: &Entry) -> bool {
        let Some(wanted) = &self.grep else { return true };
        let any_case = !wanted.chars().any(char::is_uppercase);
        let has = |text: &str| {
            if any_case { text.to_lowercase().contains(wanted) } else { text.contains(wanted) }
        };
        let command = entry.command.as_ref();
        let params = command.and_then(|command| command.params.as_ref());
        command.and_then(|command| command.text.as_deref()).is_some_and(has)
            || params.is_some_and(|params| params.iter().flatten().any(|param| has(param)))
            || entry.outcome.as_ref().and_then(|outcome| outcome.message.as_deref()).is_some_and(has)
            || entry.event.as_ref().is_some_and(|event| has(&event.to_string()))
    }
}
