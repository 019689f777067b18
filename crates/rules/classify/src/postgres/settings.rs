//! The settings of a session that decide how the server reads a text.

use vocabulary::Facts;

/// What is needed of a session to read its SQL as its server does. Kept up to date by the caller from
/// ParameterStatus (`standard_conforming_strings`, `client_encoding`, `server_version`; `search_path` since
/// PostgreSQL 18) and from SET, RESET and `set_config` that succeeded ([`vocabulary::Facts::settings`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where unqualified names are looked up.
    pub search_path: SearchPath,
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
            standard_conforming_strings: true,
            client_encoding: ClientEncoding::Utf8,
            server_major: None,
        }
    }
}

/// The value in a [`SettingChange`] that only the server knows: it was not a constant in the text. No setting has
/// this value, and no search path is written like it.
pub const UNKNOWN_VALUE: &str = ",";

impl Settings {
    /// Follows a statement that the server has completed. `start` are the settings that RESET goes back to: those
    /// with which the session began. What a transaction set and then rolled back is the caller's to take back, by
    /// keeping a copy from before.
    ///
    /// A `set_config` in a query may not have run, or not for every row: after it the catalog is trusted only if
    /// it is under both the old path and the new.
    pub fn follow(&mut self, facts: &Facts, start: &Self) {
        let surely = matches!(facts.verb.as_str(), "SET" | "RESET" | "DISCARD ALL");
        for change in &facts.settings {
            let all = change.name == "*";
            if all && change.value.is_some() {
                // set_config of a name that only the server knows.
                self.search_path = SearchPath::unknown();
                self.standard_conforming_strings = false;
                self.client_encoding = ClientEncoding::Ambiguous;
                continue;
            }
            if all || change.name == "search_path" {
                let new = match change.value.as_deref() {
                    None => start.search_path.clone(),
                    Some(text) => SearchPath::parse(text).unwrap_or_else(SearchPath::unknown),
                };
                let trusted = surely || self.search_path.catalog_first();
                self.search_path = new;
                self.search_path.shadowed |= !trusted;
            }
            // The server reports these two by itself; between its doing so and here the safe reading counts.
            if all || change.name == "standard_conforming_strings" {
                self.standard_conforming_strings = match change.value.as_deref() {
                    None => start.standard_conforming_strings,
                    Some(text) => matches!(text.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1"),
                };
            }
            if all || change.name == "client_encoding" {
                self.client_encoding = match change.value.as_deref() {
                    None => start.client_encoding,
                    Some(name) => ClientEncoding::from_name(name),
                };
            }
        }
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

    /// The schemas, first searched first.
    #[must_use]
    pub fn schemas(&self) -> &[String] {
        &self.schemas
    }

    /// The first schema that is an ordinary one: where an unqualified name is taken to live.
    #[must_use]
    pub fn first_concrete(&self) -> Option<&str> {
        self.schemas
            .iter()
            .map(String::as_str)
            .find(|schema| !matches!(*schema, "$user" | "pg_temp" | "pg_catalog" | ""))
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
    use vocabulary::{Class, SettingChange};

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

    #[test]
    fn settings_follow_statements() {
        let start = Settings::default();
        let mut now = start.clone();
        let change = |name: &str, value: Option<&str>| SettingChange {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            local: false,
        };
        let after = |verb: &str, change: SettingChange| Facts {
            settings: vec![change],
            ..Facts::plain(verb, Class::Session)
        };
        now.follow(&after("SET", change("search_path", Some("evil, pg_catalog"))), &start);
        assert!(!now.search_path.catalog_first());
        // A query may not have run its set_config.
        now.follow(&after("SELECT", change("search_path", Some("public"))), &start);
        assert!(!now.search_path.catalog_first());
        now.follow(&after("RESET", change("search_path", None)), &start);
        assert_eq!(now, start);
        now.follow(&after("SELECT", change("search_path", Some(UNKNOWN_VALUE))), &start);
        assert!(!now.search_path.catalog_first());
        now.follow(&after("DISCARD ALL", change("*", None)), &start);
        assert_eq!(now, start);
        now.follow(&after("SELECT", change("*", Some(UNKNOWN_VALUE))), &start);
        assert!(!now.standard_conforming_strings && !now.search_path.catalog_first());
    }
}
