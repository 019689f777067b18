//! What stands before a policy: its name, its words, what it asks for, what it obliges to.

use std::time::Duration;

use cedar_policy::Effect;
use vocabulary::Name;

use crate::quantity;
use crate::ruling::{Budget, Obligations};

/// Most people that a review can ask for, of each group.
pub const MAX_APPROVALS: u8 = 16;

/// Longest that a command can be held on the wire.
const MAX_HOLD: Duration = Duration::from_secs(600);

/// Most sessions that a budget can name.
const MAX_SESSIONS: u64 = 1_000_000;

/// Longest `@id`, in characters: it stands in every entry of the trail that the policy decides.
const MAX_ID: usize = 128;

/// Longest `@advice`, in characters: clients read it in an error message.
const MAX_ADVICE: usize = 1_000;

/// What the annotations of one policy say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Notes {
    pub id: Option<String>,
    pub advice: Option<String>,
    pub review: Option<Review>,
    pub obligations: Obligations,
    pub budget: Budget,
}

/// A forbid that people can lift.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Review {
    pub group: Name,
    pub approvals: u8,
    pub note_required: bool,
    pub hold_for: Option<Duration>,
}

/// What is wrong with an annotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    pub what: String,
    pub advice: String,
}

fn wrong(what: impl Into<String>, advice: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), advice: advice.into() }
}

const ANYWHERE: [&str; 3] = ["id", "advice", "description"];
const ON_FORBIDS: [&str; 4] = ["review", "approvals", "note", "hold_for"];
const ON_PERMITS: [&str; 7] =
    ["limit_rows", "timeout", "read_only", "record_rows", "commands_per_minute", "rows_per_hour", "sessions"];

/// Reads the annotations of a policy, and everything that is wrong with them.
pub(crate) fn read<'a>(
    effect: Effect,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> (Notes, Vec<Wrong>) {
    let mut notes = Notes::default();
    let mut found = Vec::new();
    let mut asked = Asked::default();
    for (key, value) in annotations {
        if let Err(problem) = one(&mut notes, &mut asked, effect, key, value.trim()) {
            found.push(problem);
        }
    }
    match (asked.group, asked.detail) {
        (Some(group), _) => {
            let Asked { approvals, note_required, hold_for, .. } = asked;
            let approvals = approvals.unwrap_or(1);
            notes.review = Some(Review { group, approvals, note_required, hold_for });
        }
        (None, Some(detail)) => found.push(wrong(
            format!("@{detail} says how to review, but there is no @review"),
            "add @review(\"GROUP\")",
        )),
        (None, None) => {}
    }
    (notes, found)
}

/// What is asked for with a review, while it is read.
#[derive(Default)]
struct Asked {
    group: Option<Name>,
    approvals: Option<u8>,
    note_required: bool,
    hold_for: Option<Duration>,
    /// One of the annotations that need `@review`.
    detail: Option<&'static str>,
}

fn one(notes: &mut Notes, asked: &mut Asked, effect: Effect, key: &str, value: &str) -> Result<(), Wrong> {
    let place = |names: &[&'static str]| names.iter().copied().find(|name| *name == key);
    if let Some(detail) = place(&ON_FORBIDS) {
        if effect != Effect::Forbid {
            return Err(wrong(
                format!("@{key} belongs on a forbid, which a review lifts"),
                "write it before the forbid that should wait for people",
            ));
        }
        if detail != "review" {
            asked.detail = Some(detail);
        }
    } else if place(&ON_PERMITS).is_some() {
        if effect != Effect::Permit {
            return Err(wrong(
                format!("@{key} belongs on a permit, which it limits"),
                "write it before the permit of what it should limit",
            ));
        }
    } else if place(&ANYWHERE).is_none() {
        return Err(unknown(key));
    }
    let number = |most: u64| {
        quantity::count(value)
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| wrong(format!("@{key}(\"{value}\") is no number from 1 to {most}"), example(key)))
    };
    let duration = || {
        quantity::duration(value)
            .ok_or_else(|| wrong(format!("@{key}(\"{value}\") is no length of time"), example(key)))
    };
    match key {
        "id" => {
            let shown = !value.is_empty() && value.chars().count() <= MAX_ID;
            if !shown || value.chars().any(char::is_control) {
                return Err(wrong("@id has to be a short name in one line", example(key)));
            }
            notes.id = Some(value.to_owned());
        }
        "advice" => {
            if value.is_empty() || value.chars().count() > MAX_ADVICE || value.chars().any(char::is_control) {
                return Err(wrong(
                    format!("@advice has to be one line of at most {MAX_ADVICE} characters"),
                    example(key),
                ));
            }
            notes.advice = Some(value.to_owned());
        }
        "review" => {
            let group = value.parse::<Name>();
            asked.group = Some(group.map_err(|error| wrong(format!("@review: {error}"), example(key)))?);
        }
        "approvals" => asked.approvals = u8::try_from(number(MAX_APPROVALS.into())?).ok(),
        "note" if value == "required" => asked.note_required = true,
        "note" => return Err(wrong(format!("@note(\"{value}\") is nothing"), example(key))),
        "hold_for" => {
            let hold_for = duration()?;
            if hold_for > MAX_HOLD {
                return Err(wrong("@hold_for is longer than 10 minutes", example(key)));
            }
            asked.hold_for = Some(hold_for);
        }
        "limit_rows" => notes.obligations.limit_rows = Some(number(u64::MAX)?),
        "timeout" => notes.obligations.timeout_ms = u64::try_from(duration()?.as_millis()).ok(),
        "read_only" if matches!(value, "" | "true") => notes.obligations.read_only = true,
        "read_only" => return Err(wrong(format!("@read_only(\"{value}\") is nothing"), example(key))),
        "record_rows" => {
            let bytes = quantity::bytes(value)
                .ok_or_else(|| wrong(format!("@record_rows(\"{value}\") is no size"), example(key)))?;
            notes.obligations.record_rows = Some(bytes);
        }
        "commands_per_minute" => notes.budget.commands_per_minute = Some(number(u64::MAX)?),
        "rows_per_hour" => notes.budget.rows_per_hour = Some(number(u64::MAX)?),
        "sessions" => notes.budget.sessions = u32::try_from(number(MAX_SESSIONS)?).ok(),
        _ => {}
    }
    Ok(())
}

fn example(key: &str) -> &'static str {
    match key {
        "id" => "for example @id(\"no-secrets\")",
        "advice" => "for example @advice(\"use the view carts_public instead\")",
        "review" => "for example @review(\"reviewers\")",
        "approvals" => "for example @approvals(\"2\")",
        "note" => "write @note(\"required\")",
        "hold_for" => "for example @hold_for(\"10s\")",
        "limit_rows" => "for example @limit_rows(\"1000\")",
        "timeout" => "for example @timeout(\"5s\")",
        "read_only" => "write @read_only",
        "record_rows" => "for example @record_rows(\"1MiB\")",
        "commands_per_minute" => "for example @commands_per_minute(\"600\")",
        "rows_per_hour" => "for example @rows_per_hour(\"100000\")",
        _ => "for example @sessions(\"5\")",
    }
}

/// An annotation that nobody reads is most likely a misspelt one that somebody relies on.
fn unknown(key: &str) -> Wrong {
    let known = ANYWHERE.iter().chain(&ON_FORBIDS).chain(&ON_PERMITS);
    let nearest = known.clone().map(|name| (distance(key, name), *name)).min();
    let advice = match nearest {
        Some((far, name)) if far <= 3 => format!("did you mean @{name}?"),
        _ => {
            let all: Vec<String> = known.map(|name| format!("@{name}")).collect();
            format!("there are {}", all.join(", "))
        }
    };
    wrong(format!("there is no annotation @{key}"), advice)
}

/// How many letters differ (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().take(64).enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (cell, known) in row.iter_mut().skip(1).zip(&other) {
            let changed = corner + usize::from(letter != *known);
            corner = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_are_counted() {
        for (one, other, far) in
            [("review", "review", 0), ("reviw", "review", 1), ("", "id", 2), ("abc", "xyz", 3)]
        {
            assert_eq!(distance(one, other), far, "{one} {other}");
        }
    }

    #[test]
    fn everything_has_its_place() {
        let (notes, wrong) = read(
            Effect::Forbid,
            [("review", "dba"), ("approvals", "2"), ("note", "required"), ("hold_for", "5s"), ("id", "x")]
                .into_iter(),
        );
        assert_eq!(wrong, []);
        let review = notes.review.unwrap();
        assert_eq!((review.group.as_str(), review.approvals, review.note_required), ("dba", 2, true));
        assert_eq!(review.hold_for, Some(Duration::from_secs(5)));
        for (effect, key, value) in [
            (Effect::Permit, "review", "dba"),
            (Effect::Forbid, "limit_rows", "5"),
            (Effect::Forbid, "reviw", "dba"),
            (Effect::Forbid, "review", "No Name"),
            (Effect::Forbid, "approvals", "2"),
            (Effect::Permit, "limit_rows", "0"),
            (Effect::Permit, "timeout", "5"),
            (Effect::Permit, "read_only", "no"),
        ] {
            assert_eq!(read(effect, [(key, value)].into_iter()).1.len(), 1, "@{key}({value})");
        }
    }
}
