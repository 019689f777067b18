//! The settings of a session that decide how the server reads a text.

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
}

impl Default for SearchPath {
    /// The server's default, `"$user", public`.
    fn default() -> Self {
        Self { schemas: vec!["$user".to_owned(), "public".to_owned()] }
    }
}

impl SearchPath {
    /// Reads the setting's text as the server does: names apart by commas, folded to lower case unless
    /// double-quoted. `None` if it is malformed; then nothing unqualified can be trusted and the caller keeps
    /// what it had only if the server refused the SET.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut schemas = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Some(Self { schemas });
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
                return Some(Self { schemas });
            }
            rest = after.strip_prefix(',')?.trim_start();
        }
    }

    /// The path made of these schemas, spelled exactly.
    #[must_use]
    pub fn of(schemas: impl IntoIterator<Item = String>) -> Self {
        Self { schemas: schemas.into_iter().collect() }
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
        self.schemas.iter().position(|schema| schema == "pg_catalog").is_none_or(|at| at == 0)
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
