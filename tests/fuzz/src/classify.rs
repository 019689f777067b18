//! SQL, the setting that decides what names in it mean, and command lines for a shell.

use classify::postgres::{
    Cache, ClientEncoding, NOTHING_PREPARED, Parsed, SearchPath, Settings, classify as judge,
};
use classify::shell::{Cache as ShellCache, Reason, Terminal, understand_with};
use vocabulary::Class;

/// One byte of settings, then a text: it gets a verdict, statements stand in it one behind the other, and the cache says
/// the same as the judge, also of the text with other numbers in it.
pub fn classify(data: &[u8]) {
    let ([flags], text) = crate::head::<1>(data);
    let settings = Settings {
        standard_conforming_strings: flags & 1 == 0,
        client_encoding: match flags >> 1 & 3 {
            0 | 3 => ClientEncoding::Utf8,
            1 => ClientEncoding::AsciiBased,
            _ => ClientEncoding::Ambiguous,
        },
        search_path: if flags & 8 == 0 { SearchPath::default() } else { SearchPath::unknown() },
        path_is_settled: true,
        server_major: Some(13 + u16::from(flags >> 4 & 7)).filter(|_| flags & 128 == 0),
    };
    let mut cache = Cache::new();
    let other: Vec<u8> = text.iter().map(|byte| if byte.is_ascii_digit() { b'7' } else { *byte }).collect();
    for text in [text, text, &other] {
        let parsed = judge(text, &settings, NOTHING_PREPARED);
        verdict(&parsed, text);
        assert_eq!(*cache.classify(text, &settings, NOTHING_PREPARED), parsed, "the cache says otherwise");
    }
}

fn verdict(parsed: &Parsed, text: &[u8]) {
    match parsed {
        Parsed::Statements(statements) => {
            assert!(!statements.is_empty());
            let mut end = 0;
            for statement in statements {
                assert!(statement.span.start >= end && statement.span.end <= text.len());
                assert!(!statement.span.is_empty());
                end = statement.span.end;
            }
        }
        Parsed::Empty => assert_eq!(parsed.class(), None),
        Parsed::Unknown(_, facts) => assert_eq!(facts.class, Class::Unknown),
    }
}

/// The value of `search_path`: names as the server spells them, which read the same when they are quoted.
pub fn search_path(data: &[u8]) {
    let Some(path) = crate::text(data).and_then(SearchPath::parse) else { return };
    let quoted: Vec<String> =
        path.schemas().iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    assert_eq!(SearchPath::parse(&quoted.join(",")), Some(path));
}

/// A command line: it gets a verdict, the cache says the same, and what is called harmless has ended, so that a line
/// behind it is seen.
pub fn shell(data: &[u8]) {
    let mut cache = ShellCache::new();
    for terminal in [Terminal::Absent, Terminal::Possible] {
        let understood = understand_with(data, terminal);
        assert_ne!(understood.reason, Some(Reason::Parser));
        assert!(understood.reason.is_none() || understood.facts.class == Class::Unknown);
        for _ in 0..2 {
            assert_eq!(*cache.understand(data, terminal), understood, "the cache says otherwise");
        }
        if understood.facts.class.is_harmless() {
            let more = understand_with(&[data, b"\nfrobnicate"].concat(), terminal);
            assert!(!more.facts.class.is_harmless(), "a line behind it is not seen");
        }
    }
}
