//! What the functions and operators of PostgreSQL itself do.
//!
//! `functions.txt` has one function a line, sorted: name, effect, and `FIRST-LAST` where not every major from 13 to 18
//! has it (`15-`: since 15; `-14`: up to 14). `operators.txt` has the same without effects. Both are made from the
//! catalogs of servers of those majors, and `tests/evasion` compares them with the one that it runs. A function with
//! several signatures has the effect of the worst. Functions that only the server itself calls (triggers, language and
//! access-method handlers, what takes `internal`) are left out. What is not in the tables may do anything.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use vocabulary::{Class, Effect};

/// What calling a function does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub effect: Effect,
    /// The least class of a command that calls it.
    pub class: Class,
    /// Whether what it did stands after a rollback.
    pub outlives_rollback: bool,
}

/// A function that we know nothing of.
pub(super) const UNKNOWN: Known =
    Known { effect: Effect::Unknown, class: Class::Unknown, outlives_rollback: true };

impl Known {
    fn from_word(word: &str) -> Self {
        let (effect, class, outlives_rollback) = match word {
            "pure" => (Effect::Pure, Class::Session, false),
            "session" => (Effect::Session, Class::Session, false),
            "write" => (Effect::Write, Class::Write, false),
            // Sequences and what is written past transactions.
            "lasting" => (Effect::Write, Class::Write, true),
            // The server's files may hold its passwords and other databases.
            "file" => (Effect::File, Class::Administer, false),
            // Writing a file of the server's choice can become running a program.
            "export" => (Effect::File, Class::Execute, true),
            "network" => (Effect::Network, Class::Execute, true),
            "administer" => (Effect::Administer, Class::Administer, true),
            "code" => (Effect::Code, Class::Execute, true),
            _ => return UNKNOWN,
        };
        Self { effect, class, outlives_rollback }
    }
}

/// The majors that the tables speak of.
const MAJORS: RangeInclusive<u16> = 13..=18;

/// With the majors in which the function is built in.
static FUNCTIONS: LazyLock<HashMap<&'static str, (Known, RangeInclusive<u16>)>> = LazyLock::new(|| {
    include_str!("functions.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, effect) = (words.next()?, words.next()?);
            Some((name, (Known::from_word(effect), majors(words.next())?)))
        })
        .collect()
});

static OPERATORS: LazyLock<HashMap<&'static str, RangeInclusive<u16>>> = LazyLock::new(|| {
    include_str!("operators.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, majors(words.next())?))
        })
        .collect()
});

fn majors(word: Option<&str>) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.unwrap_or("-").split_once('-')?;
    let or = |text: &str, all: u16| if text.is_empty() { Some(all) } else { text.parse().ok() };
    Some(or(first, *MAJORS.start())?..=or(last, *MAJORS.end())?)
}

/// Whether a server of that major has what these majors have. If its major is not known, only what all have counts; a
/// newer server is taken for the newest known, and of an older one nothing is known.
fn has(majors: &RangeInclusive<u16>, server_major: Option<u16>) -> bool {
    match server_major {
        None => *majors == MAJORS,
        Some(major) => majors.contains(&major.min(*MAJORS.end())),
    }
}

/// The built-in function of that name in a server of that major.
pub(super) fn function(name: &str, server_major: Option<u16>) -> Option<Known> {
    let (known, majors) = FUNCTIONS.get(name)?;
    has(majors, server_major).then_some(*known)
}

/// Whether PostgreSQL itself has an operator of that name. All of them only compute.
pub(super) fn operator(name: &str, server_major: Option<u16>) -> bool {
    OPERATORS.get(name).is_some_and(|majors| has(majors, server_major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_every_word_is_known() {
        for table in
            [include_str!("functions.txt"), include_str!("operators.txt"), include_str!("relations.txt")]
        {
            let names: Vec<&str> = table.lines().filter_map(|line| line.split(' ').next()).collect();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "not sorted, or twice the same");
        }
        assert_eq!(FUNCTIONS.len(), include_str!("functions.txt").lines().count());
        assert_eq!(OPERATORS.len(), include_str!("operators.txt").lines().count());
        assert!(FUNCTIONS.values().all(|(known, _)| *known != UNKNOWN));
    }

    #[test]
    fn a_newer_servers_function_is_unknown_on_an_older() {
        assert!(function("uuidv7", Some(18)).is_some());
        assert!(function("uuidv7", Some(17)).is_none());
        assert!(function("uuidv7", None).is_none());
        assert!(function("lower", Some(13)).is_some());
        assert!(function("regexp_like", Some(15)).is_some());
        assert!(function("regexp_like", Some(14)).is_none());
        assert!(function("uuidv7", Some(19)).is_some());
    }

    #[test]
    fn what_a_server_has_no_more_may_be_a_users() {
        assert!(function("pg_start_backup", Some(14)).is_some());
        assert!(function("pg_start_backup", Some(15)).is_none());
        assert!(operator("!", Some(13)) && !operator("!", Some(14)) && !operator("!", None));
        assert!(operator("+", Some(13)) && operator("+", None));
        assert!(!operator("+", Some(12)) && function("lower", Some(12)).is_none());
    }

    #[test]
    fn what_must_never_be_pure_is_not() {
        for name in [
            "nextval",
            "setval",
            "lo_unlink",
            "lo_export",
            "lo_import",
            "pg_read_file",
            "pg_ls_dir",
            "pg_terminate_backend",
            "pg_reload_conf",
            "query_to_xml",
            "ts_stat",
            "table_to_xml",
            "set_config",
            "pg_notify",
            "pg_logical_emit_message",
            "pg_create_logical_replication_slot",
            "lowrite",
        ] {
            assert_ne!(function(name, None).unwrap().effect, Effect::Pure, "{name}");
        }
    }
}
