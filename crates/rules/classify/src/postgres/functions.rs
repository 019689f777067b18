//! What the functions and operators of PostgreSQL itself do.
//!
//! `functions.txt` has one function a line, sorted: name, effect, and the major that brought it if that is later
//! than 15. A function with several signatures has the effect of the worst. Functions that only the server itself calls (triggers, language and access-method
//! handlers that take `internal`) are left out. What is not in the table may do anything.

use std::collections::{HashMap, HashSet};
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

/// With the first major in which the function is built in, 0 for all.
static FUNCTIONS: LazyLock<HashMap<&'static str, (Known, u16)>> = LazyLock::new(|| {
    include_str!("functions.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, effect) = (words.next()?, words.next()?);
            let since = words.next().map_or(Some(0), |major| major.parse().ok())?;
            Some((name, (Known::from_word(effect), since)))
        })
        .collect()
});

static OPERATORS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("operators.txt").lines().collect());

/// The built-in function of that name in a server of that major. If the major is not known, only what every
/// one has counts.
pub(super) fn function(name: &str, server_major: Option<u16>) -> Option<Known> {
    let (known, since) = *FUNCTIONS.get(name)?;
    (since <= server_major.unwrap_or(0)).then_some(known)
}

/// Whether PostgreSQL itself has an operator of that name. All of them only compute.
pub(super) fn operator(name: &str) -> bool {
    OPERATORS.contains(name)
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
        assert!(FUNCTIONS.values().all(|(known, _)| *known != UNKNOWN));
    }

    #[test]
    fn a_newer_servers_function_is_unknown_on_an_older() {
        assert!(function("uuidv7", Some(18)).is_some());
        assert!(function("uuidv7", Some(17)).is_none());
        assert!(function("uuidv7", None).is_none());
        assert!(function("lower", Some(13)).is_some());
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
