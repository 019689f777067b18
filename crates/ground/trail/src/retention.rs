//! Retention: which class what is recorded belongs to, and how long each class is kept.
//!
//! A session's payloads are sealed under one data key per class, so that output can go while commands stay. Which class a
//! session's fields belong to is settled when the session begins. How long a class is kept is looked up when it may be over:
//! a changed period holds for what is there already.

use std::collections::BTreeMap;

use vocabulary::Timestamp;

use crate::{CaptureField, vault::MAX_CLASS_BYTES};

/// The class of everything that nothing else is said of.
pub const DEFAULT_CLASS: &str = "default";

/// What a rule speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Covers {
    /// Texts, parameters, messages, names, and what is captured.
    All,
    /// All that is captured.
    Captured,
    /// Some of what is captured.
    Fields(Vec<CaptureField>),
}

/// One rule. The first whose conditions all hold decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionRule {
    /// Only sessions with this target.
    pub target: Option<String>,
    /// Only sessions of this principal, or for this person.
    pub principal: Option<String>,
    /// What of them.
    pub covers: Covers,
    /// The class that it belongs to.
    pub class: String,
}

/// How long a class is kept after the last of it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Until somebody erases it.
    Forever,
    /// So many microseconds.
    ForMicros(u64),
}

/// Classes and rules of a gateway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// The first that fits decides; without one it is [`DEFAULT_CLASS`].
    pub rules: Vec<RetentionRule>,
    /// How long each class is kept. Classes that are not named are kept forever.
    pub periods: BTreeMap<String, Keep>,
}

/// A name of a class that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can't name a retention class: it takes 1 to {MAX_CLASS_BYTES} of a-z, 0-9, `-` and `_`")]
pub struct BadClass(String);

/// Checks the name of a class.
///
/// # Errors
/// [`BadClass`]
pub fn check_class(name: &str) -> Result<(), BadClass> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    let is_name = (1..=MAX_CLASS_BYTES).contains(&name.len()) && name.bytes().all(fits);
    if is_name { Ok(()) } else { Err(BadClass(name.to_owned())) }
}

/// The classes of one session.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Classes {
    /// Of everything that is not captured.
    pub(crate) own: String,
    /// Of captured fields that have another.
    pub(crate) captured: Vec<(CaptureField, String)>,
}

impl Default for Classes {
    fn default() -> Self {
        Self { own: DEFAULT_CLASS.to_owned(), captured: Vec::new() }
    }
}

impl Classes {
    pub(crate) fn of(&self, field: CaptureField) -> &str {
        let other = self.captured.iter().find(|(captured, _)| *captured == field);
        other.map_or(&self.own, |(_, class)| class)
    }
}

impl Retention {
    /// The classes of a session. `principals` are the principal and whom it acts for; a node session has neither these nor a
    /// target.
    pub(crate) fn classes(&self, target: Option<&str>, principals: &[&str]) -> Classes {
        let fits = |rule: &&RetentionRule| {
            rule.target.as_deref().is_none_or(|wanted| target == Some(wanted))
                && rule.principal.as_deref().is_none_or(|wanted| principals.contains(&wanted))
        };
        let rules: Vec<&RetentionRule> = self.rules.iter().filter(fits).collect();
        let class = |covers: &dyn Fn(&Covers) -> bool| {
            let rule = rules.iter().find(|rule| covers(&rule.covers));
            rule.map_or_else(|| DEFAULT_CLASS.to_owned(), |rule| rule.class.clone())
        };
        let own = class(&|covers| *covers == Covers::All);
        let of = |field: CaptureField| {
            class(&|covers| match covers {
                Covers::All | Covers::Captured => true,
                Covers::Fields(fields) => fields.contains(&field),
            })
        };
        let captured = CaptureField::ALL.into_iter().map(|field| (field, of(field)));
        let captured = captured.filter(|(_, class)| *class != own).collect();
        Classes { own, captured }
    }

    /// Whether what was last recorded at `ended_at` is to be kept no longer.
    pub(crate) fn is_over(&self, class: &str, ended_at: Timestamp, now: Timestamp) -> bool {
        match self.periods.get(class) {
            None | Some(Keep::Forever) => false,
            Some(Keep::ForMicros(period)) => now.0 > ended_at.0.saturating_add(*period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(target: Option<&str>, principal: Option<&str>, covers: Covers, class: &str) -> RetentionRule {
        let own = |text: &str| text.to_owned();
        RetentionRule { target: target.map(own), principal: principal.map(own), covers, class: own(class) }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let retention = Retention {
            rules: vec![
                rule(Some("scratch"), None, Covers::All, "brief"),
                rule(None, Some("alice"), Covers::Fields(vec![CaptureField::Rows]), "rows"),
                rule(None, None, Covers::Captured, "output"),
            ],
            periods: BTreeMap::new(),
        };
        let classes = retention.classes(Some("scratch"), &["chatgpt", "alice"]);
        assert_eq!(classes, Classes { own: "brief".into(), captured: Vec::new() });
        let classes = retention.classes(Some("orders"), &["chatgpt", "alice"]);
        assert_eq!((classes.own.as_str(), classes.of(CaptureField::Rows)), ("default", "rows"));
        assert_eq!(classes.of(CaptureField::Stdout), "output");
        let node = retention.classes(None, &[]);
        assert_eq!((node.own.as_str(), node.of(CaptureField::Rows)), ("default", "output"));
    }

    #[test]
    fn a_period_is_over_after_it_and_forever_never_is() {
        let periods =
            [("a".to_owned(), Keep::ForMicros(10)), ("b".to_owned(), Keep::Forever)].into_iter().collect();
        let retention = Retention { rules: Vec::new(), periods };
        let (then, max) = (Timestamp(100), Timestamp(u64::MAX));
        assert!(!retention.is_over("a", then, Timestamp(110)));
        assert!(retention.is_over("a", then, Timestamp(111)));
        assert!(!retention.is_over("b", then, max) && !retention.is_over("unnamed", then, max));
    }

    #[test]
    fn names_of_classes_are_short_and_plain() {
        assert!(check_class("output-90").is_ok());
        for bad in ["", "Output", "a b", "ä", &"x".repeat(33)] {
            assert!(check_class(bad).is_err(), "{bad}");
        }
    }
}
