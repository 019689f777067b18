//! The settings of a session: those that decide how the server reads a text, and what it means to change one.

use vocabulary::{Class, Facts, SettingChange};

/// What is needed of a session to read its SQL as its server does; [`super::Following`] keeps it up to date.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where unqualified names are looked up.
    pub search_path: SearchPath,
    /// Whether the path stays as it is when the transaction under way ends, however it does.
    pub path_is_settled: bool,
    /// Whether a backslash in `'…'` is just a backslash.
    pub standard_conforming_strings: bool,
    /// What the client's bytes mean.
    pub client_encoding: ClientEncoding,
    /// The server's major version (`server_version`), or `None` if it has not said. Some words are syntax in a
    /// newer server and a call of a user's function in an older one.
    pub server_major: Option<u16>,
}

impl Default for Settings {
    /// A server's own defaults for a client that speaks UTF8.
    fn default() -> Self {
        Self {
            search_path: SearchPath::default(),
            path_is_settled: true,
            standard_conforming_strings: true,
            client_encoding: ClientEncoding::Utf8,
            server_major: None,
        }
    }
}

/// The value in a [`vocabulary::SettingChange`] that only the server knows: it was not a constant in the text. No setting has
/// this value, and no search path is written like it.
pub const UNKNOWN_VALUE: &str = ",";

/// What a client arranges as it connects, as if it had said so with SET: every setting with its value.
#[must_use]
pub fn arranged<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Facts {
    let change = |(name, value): (&str, &str)| SettingChange {
        name: name.to_ascii_lowercase(),
        value: Some(value.to_owned()),
        local: false,
    };
    let settings: Vec<_> = settings.into_iter().map(change).collect();
    let class = settings.iter().map(class_of).max().unwrap_or(Class::Session);
    Facts { settings, ..Facts::plain("SET", class) }
}

/// What it means to change a setting: administering, for those that say who one is, load code, or switch off a guard or
/// what a server notes of its sessions.
pub(super) fn class_of(change: &SettingChange) -> Class {
    const OF_PRIVILEGE: [&str; 13] = [
        "role",
        "session_authorization",
        "session_replication_role",
        "allow_system_table_mods",
        "dynamic_library_path",
        "local_preload_libraries",
        "session_preload_libraries",
        "ignore_checksum_failure",
        "zero_damaged_pages",
        "lo_compat_privileges",
        "allow_in_place_tablespaces",
        "ignore_system_indexes",
        "track_activities",
    ];
    let hides = ["log_", "pgaudit."].iter().any(|family| change.name.starts_with(family));
    let unknown_name = change.name == "*" && change.value.is_some();
    if unknown_name || hides || OF_PRIVILEGE.contains(&change.name.as_str()) {
        Class::Administer
    } else {
        Class::Session
    }
}

/// How far `client_encoding` agrees with what the parser assumes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientEncoding {
    /// UTF8.
    Utf8,
    /// Another in which every byte below 0x80 is that ASCII character.
    AsciiBased,
    /// SJIS, SHIFT_JIS_2004, BIG5, GBK, GB18030, UHC, JOHAB, and whatever we don't know: a byte below 0x80 may be
    /// the second half of a character.
    Ambiguous,
}

impl ClientEncoding {
    /// The encoding with the name that the server reports (or that a client sets: case and punctuation don't
    /// count).
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let folded: String =
            name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match folded.as_str() {
            "utf8" | "unicode" => Self::Utf8,
            "sqlascii" | "euccn" | "eucjp" | "eucjis2004" | "euckr" | "euctw" | "muleinternal" | "koi8r"
            | "koi8" | "koi8u" | "tcvn" | "tcvn5712" | "abc" | "vscii" | "alt" => Self::AsciiBased,
            other => {
                let single_byte = ["latin", "iso8859", "win", "windows"].iter().any(|family| {
                    other.strip_prefix(family).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
                });
                // Code pages 932, 936, 949 and 950 are SJIS, GBK, UHC and BIG5 under another name.
                let far_east = ["932", "936", "949", "950"].iter().any(|page| other.ends_with(page));
                if single_byte && !far_east { Self::AsciiBased } else { Self::Ambiguous }
            }
        }
    }
}

/// The `search_path` of a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SearchPath {
    schemas: Vec<String>,
    /// Something that can't be seen may stand before the catalog.
    shadowed: bool,
}

impl Default for SearchPath {
    /// The server's default, `"$user", public`.
    fn default() -> Self {
        Self { schemas: vec!["$user".to_owned(), "public".to_owned()], shadowed: false }
    }
}

impl SearchPath {
    /// Reads the setting's text as the server does: names apart by commas, folded to lower case unless
    /// double-quoted. `None` if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut schemas = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Some(Self { schemas, shadowed: false });
        }
        loop {
            let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
                quoted_name(quoted)?
            } else {
                let end = rest.find([',', ' ', '\t', '\n', '\r', '\x0b', '\x0c']).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                (name.to_ascii_lowercase(), after)
            };
            if name.is_empty() {
                return None;
            }
            schemas.push(name);
            let after = after.trim_start();
            if after.is_empty() {
                return Some(Self { schemas, shadowed: false });
            }
            rest = after.strip_prefix(',')?.trim_start();
        }
    }

    /// The path made of these schemas, spelled exactly.
    #[must_use]
    pub fn of(schemas: impl IntoIterator<Item = String>) -> Self {
        Self { schemas: schemas.into_iter().collect(), shadowed: false }
    }

    /// A path that is not known: nothing unqualified is trusted.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { schemas: Vec::new(), shadowed: true }
    }

    /// One of these, and it is not known which: nothing is trusted that one of them does not trust.
    #[must_use]
    pub fn either(paths: &[Self]) -> Self {
        let mut schemas: Vec<String> = Vec::new();
        for schema in paths.iter().flat_map(|path| &path.schemas) {
            if !schemas.contains(schema) {
                schemas.push(schema.clone());
            }
        }
        Self { schemas, shadowed: paths.iter().any(|path| !path.catalog_first()) }
    }

    /// The schemas, first searched first.
    #[must_use]
    pub fn schemas(&self) -> &[String] {
        &self.schemas
    }

    /// The ordinary schemas among them: where an unqualified name may live. `$user` is left out, see README.md.
    pub fn concrete(&self) -> impl Iterator<Item = &str> {
        self.schemas
            .iter()
            .map(String::as_str)
            .filter(|schema| !matches!(*schema, "$user" | "pg_temp" | "pg_catalog" | ""))
    }

    /// Whether the catalog is searched before every schema in which a user can put things. It is, unless the
    /// path names it after another.
    #[must_use]
    pub fn catalog_first(&self) -> bool {
        !self.shadowed
            && self.schemas.iter().position(|schema| schema == "pg_catalog").is_none_or(|at| at == 0)
    }
}

/// The rest of a quoted name, and what follows its closing quote.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_the_server_reads_it() {
        let path = SearchPath::parse(r#" App, "My ""Schema""" ,public"#).unwrap();
        assert_eq!(path.schemas(), ["app", r#"My "Schema""#, "public"]);
        assert_eq!(SearchPath::parse("").unwrap().schemas(), [] as [&str; 0]);
        for wrong in [UNKNOWN_VALUE, "a,", "a b", "\"a", "a,,b"] {
            assert_eq!(SearchPath::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_client_arranges_is_judged_as_by_set() {
        let class = |name: &str| arranged([("application_name", "psql"), (name, "x")]).class;
        assert_eq!(class("search_path"), Class::Session);
        for privileged in ["role", "Session_Authorization", "log_statement", "local_preload_libraries"] {
            assert_eq!(class(privileged), Class::Administer, "{privileged}");
        }
        assert_eq!(arranged([]).class, Class::Session);
    }

    #[test]
    fn far_eastern_code_pages_are_ambiguous_by_any_name() {
        for name in
            ["SJIS", "Shift_JIS", "mskanji", "WIN932", "windows-950", "BIG5", "gbk", "GB18030", "UHC", "x"]
        {
            assert_eq!(ClientEncoding::from_name(name), ClientEncoding::Ambiguous, "{name}");
        }
        for name in ["LATIN1", "ISO-8859-5", "iso88591", "WIN1252", "EUC_JP", "SQL_ASCII", "KOI8R"] {
            assert_eq!(ClientEncoding::from_name(name), ClientEncoding::AsciiBased, "{name}");
        }
        assert_eq!(ClientEncoding::from_name("utf-8"), ClientEncoding::Utf8);
    }
}
