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
    schema: Option<String>,
    catalog_first: bool,
}

impl Path {
    pub(super) fn new(path: &SearchPath) -> Self {
        Self { schema: path.first_concrete().map(str::to_owned), catalog_first: path.catalog_first() }
    }

    /// Whether an unqualified name of a built-in function means the built-in one.
    pub(super) const fn catalog_first(&self) -> bool {
        self.catalog_first
    }

    /// After a change to `path` in the same text, or to one not known. The change may yet be rolled back, so
    /// the catalog is trusted only if it was before, too.
    pub(super) fn change(&mut self, path: Option<&SearchPath>) {
        self.catalog_first &= path.is_some_and(SearchPath::catalog_first);
        self.schema = path.and_then(SearchPath::first_concrete).map(str::to_owned);
    }

    /// The full name of a relation.
    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> String {
        match schema {
            Some(schema) => joined(&[schema, name]),
            None if CATALOG.contains(name) => joined(&["pg_catalog", name]),
            None => self.object(&[name]),
        }
    }

    /// The full name of an object that lives in a schema, from the parts that the text gives. A database before
    /// the schema is dropped: it can only be the session's own.
    pub(super) fn object(&self, parts: &[&str]) -> String {
        match (parts, self.schema.as_deref()) {
            ([_, schema, name], _) => joined(&[schema, name]),
            ([name], Some(schema)) => joined(&[schema, name]),
            (parts, _) => joined(parts),
        }
    }
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
