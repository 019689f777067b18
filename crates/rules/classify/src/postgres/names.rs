//! Names of objects: how they are written in facts, and which schema an unqualified one is taken to be in.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::settings::SearchPath;

/// Tables and views of `pg_catalog`, which every session sees unqualified.
static CATALOG: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("relations.txt").lines().collect());

/// The search path as it stands where a statement runs: a text may change it half-way.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Schemas in which an unqualified name may live.
    schemas: Vec<String>,
    catalog_first: bool,
}

impl Path {
    pub(super) fn new(path: &SearchPath) -> Self {
        Self { schemas: path.concrete().map(str::to_owned).collect(), catalog_first: path.catalog_first() }
    }

    /// Whether an unqualified name of a built-in function means the built-in one.
    pub(super) const fn catalog_first(&self) -> bool {
        self.catalog_first
    }

    /// After a change to `path` in the same text, or to one not known. The change may yet be rolled back, so
    /// the catalog is trusted only if it was before, too.
    pub(super) fn change(&mut self, path: Option<&SearchPath>) {
        self.catalog_first &= path.is_some_and(SearchPath::catalog_first);
        self.schemas = path.map_or_else(Vec::new, |path| path.concrete().map(str::to_owned).collect());
    }

    /// The full names that a relation may have: which schema of the path has it, only the server knows.
    pub(super) fn relations(&self, schema: Option<&str>, name: &str, mut each: impl FnMut(String)) {
        match schema {
            Some(schema) => each(joined(&[schema, name])),
            None if CATALOG.contains(name) => {
                each(joined(&["pg_catalog", name]));
                if !self.catalog_first {
                    self.objects(&[name], each);
                }
            }
            None => self.objects(&[name], each),
        }
    }

    /// All that the schema holds in which new objects come to lie: which of the path it is, only the server knows.
    pub(super) fn current(&self, mut each: impl FnMut(String)) {
        if self.schemas.is_empty() {
            each(EVERYTHING.to_owned());
        }
        for schema in &self.schemas {
            each(everything_in(schema));
        }
    }

    /// The full names that an object which lives in a schema may have, from the parts that the text gives. A database
    /// before the schema is dropped: it can only be the session's own.
    pub(super) fn objects(&self, parts: &[&str], mut each: impl FnMut(String)) {
        match parts {
            [_, schema, name] => each(joined(&[schema, name])),
            [name] if !self.schemas.is_empty() => {
                for schema in &self.schemas {
                    each(joined(&[schema, name]));
                }
            }
            parts => each(joined(parts)),
        }
    }
}

/// In an object's place: any of the database.
pub(super) const EVERYTHING: &str = "*";

/// In an object's place: all that a schema holds.
pub(super) fn everything_in(schema: &str) -> String {
    joined(&[schema, EVERYTHING])
}

/// Parts with dots between them. A part that holds a dot or a double quote is itself double-quoted, so that
/// two objects never have one name.
pub(super) fn joined(parts: &[&str]) -> String {
    let mut name = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        if !name.is_empty() {
            name.push('.');
        }
        if part.contains(['.', '"']) || part.is_empty() {
            name.push('"');
            name.push_str(&part.replace('"', "\"\""));
            name.push('"');
        } else {
            name.push_str(part);
        }
    }
    name
}
