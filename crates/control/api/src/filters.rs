//! Which entries of the trail are wanted, as query parameters.

use serde::{Deserialize, Serialize};
use trail::{Entry, Filter};
use vocabulary::{Class, Kind, SessionId, Status, Timestamp};

use crate::problem::Problem;

/// Entries given unless told.
pub const DEFAULT_LIMIT: u64 = 50;

/// Most entries of one answer.
pub const MAX_LIMIT: u64 = 10_000;

/// Bytes of one answer after which no more entries are added. A single entry may have many MiB.
pub const MAX_LIST_BYTES: usize = 64 << 20;

/// Header of an answer that was cut at [`MAX_LIST_BYTES`]: a sentence that says so, and how to see the rest.
pub const CUT_HEADER: &str = "trailgate-cut";

/// Longest text that is looked for, in bytes.
const MAX_GREP: usize = 1024;

/// Query parameters of the trail's routes. Lists are separated by commas; all that are given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// Name or id of the principal, or name of the person that it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Name or id of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Statuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Began then or later, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Began then or earlier, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Text in the command, its parameters, its message or the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// The same, understood.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the trail's reader looks for.
    pub filter: Filter,
    /// At most so many.
    pub limit: u64,
    kinds: Vec<Kind>,
    classes: Vec<Class>,
    statuses: Vec<Status>,
}

impl Filters {
    /// For a list: at most [`MAX_LIMIT`].
    ///
    /// # Errors
    /// 400 if a parameter can't be understood.
    pub fn wanted(&self) -> Result<Wanted, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if limit == 0 || limit > MAX_LIMIT {
            return Err(Problem::bad_request(
                format!("a limit is between 1 and {MAX_LIMIT}"),
                "narrow it down by time, session, principal or target",
            ));
        }
        self.understood(limit)
    }

    /// For following: no end unless told.
    ///
    /// # Errors
    /// 400 if a parameter can't be understood.
    pub fn wanted_for_ever(&self) -> Result<Wanted, Problem> {
        self.understood(self.limit.unwrap_or(u64::MAX))
    }

    fn understood(&self, limit: u64) -> Result<Wanted, Problem> {
        if self.grep.as_ref().is_some_and(|text| text.len() > MAX_GREP) {
            return Err(Problem::bad_request(
                format!("grep takes at most {MAX_GREP} bytes"),
                "look for less",
            ));
        }
        let kinds: Vec<Kind> = several("kind", self.kind.as_deref())?;
        let classes: Vec<Class> = several("class", self.class.as_deref())?;
        let statuses: Vec<Status> = several("status", self.status.as_deref())?;
        let filter = Filter {
            principal: self.principal.clone(),
            target: self.target.clone(),
            kind: only(&kinds),
            class: only(&classes),
            status: only(&statuses),
            since: self.since,
            until: self.until,
            grep: self.grep.clone(),
            session: self.session,
            limit: None,
        };
        Ok(Wanted { filter, limit, kinds, classes, statuses })
    }
}

impl Wanted {
    /// Whether an entry that the reader's filter let through is wanted: the reader knows one value per field, this
    /// knows several.
    #[must_use]
    pub fn admits(&self, entry: &Entry) -> bool {
        let class = entry.command.as_ref().map(|command| command.class);
        let status = entry.outcome.as_ref().map(|outcome| outcome.status);
        // Heartbeats say nothing but that the gateway ran: only who asks for them wants them.
        let is_shown =
            entry.kind != Kind::Heartbeat || !self.kinds.is_empty() || self.filter.session.is_some();
        is_shown
            && one_of(&self.kinds, Some(entry.kind))
            && one_of(&self.classes, class)
            && one_of(&self.statuses, status)
    }
}

fn one_of<T: PartialEq>(wanted: &[T], found: Option<T>) -> bool {
    wanted.is_empty() || found.is_some_and(|found| wanted.contains(&found))
}

/// The one value, for the reader: it can skip much by it.
fn only<T: Copy>(values: &[T]) -> Option<T> {
    if let [value] = values { Some(*value) } else { None }
}

fn several<T: std::str::FromStr<Err: std::fmt::Display>>(
    parameter: &str,
    text: Option<&str>,
) -> Result<Vec<T>, Problem> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            word.parse().map_err(|error: T::Err| {
                let mut problem =
                    Problem::from_sentence(axum::http::StatusCode::BAD_REQUEST, &error.to_string());
                problem.detail = format!("parameter {parameter}: {}", problem.detail);
                problem
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_understood() {
        let filters = Filters {
            kind: Some("command, auth.failed".into()),
            class: Some("write".into()),
            ..Filters::default()
        };
        let wanted = filters.wanted().unwrap();
        assert_eq!((wanted.kinds.len(), wanted.filter.kind), (2, None));
        assert_eq!((wanted.filter.class, wanted.limit), (Some(Class::Write), DEFAULT_LIMIT));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for filters in [
            Filters { kind: Some("commands".into()), ..Filters::default() },
            Filters { status: Some("ok,fine".into()), ..Filters::default() },
            Filters { limit: Some(0), ..Filters::default() },
            Filters { limit: Some(MAX_LIMIT + 1), ..Filters::default() },
            Filters { grep: Some("x".repeat(MAX_GREP + 1)), ..Filters::default() },
        ] {
            assert_eq!(filters.wanted().unwrap_err().status, 400, "{filters:?}");
        }
        assert!(serde_json::from_str::<Filters>(r#"{"princpal":"x"}"#).is_err());
    }
}
