//! Texts that try to exhaust the parser, on an ordinary thread of 2 MiB and on a large one, and bytes that are
//! no text at all.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use std::time::{Duration, Instant};

use classify::postgres::{NOTHING_PREPARED, Parsed, Settings, UnknownReason, classify, limits};
use proptest::prelude::*;
use vocabulary::Class;

/// Far above what any takes on a slow machine, far below what a hang would be.
const PATIENCE: Duration = Duration::from_secs(20);

fn judge(text: &[u8]) -> Parsed {
    let begin = Instant::now();
    let parsed = classify(text, &Settings::default(), NOTHING_PREPARED);
    assert!(begin.elapsed() < PATIENCE, "took {:?}", begin.elapsed());
    parsed
}

fn on_stacks(text: &str) -> Parsed {
    let verdicts = [2 << 20, 256 << 20].map(|stack| {
        let text = text.to_owned();
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn(move || judge(text.as_bytes()))
            .unwrap()
            .join()
            .unwrap()
    });
    assert_eq!(verdicts[0], verdicts[1]);
    let [verdict, _] = verdicts;
    verdict
}

fn class(text: &str) -> Option<Class> {
    on_stacks(text).class()
}

#[test]
fn long_chains_get_a_verdict() {
    assert_eq!(class(&format!("SELECT 1{}", "+1".repeat(100_000))), Some(Class::Read));
    assert_eq!(class(&format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000))), Some(Class::Read));
    assert_eq!(class(&format!("SELECT 1 WHERE a{}", " AND a".repeat(100_000))), Some(Class::Read));
    assert_eq!(class(&format!("SELECT a{}", "::text".repeat(100_000))), Some(Class::Read));
    assert_eq!(class(&format!("SELECT * FROM a{}", " JOIN a ON true".repeat(20_000))), Some(Class::Read));
    assert_eq!(
        class(&format!("SELECT * FROM a{} JOIN b ON nextval('s')", ", a".repeat(100_000))),
        Some(Class::Write)
    );
    assert_eq!(class(&"DELETE FROM a;".repeat(50_000)), Some(Class::Write));
    assert_eq!(class(&format!("SELECT {}1", "- ".repeat(100_000))), Some(Class::Unknown));
    assert_eq!(class(&format!("SELECT {}1", "NOT ".repeat(100_000))), Some(Class::Unknown));
}

#[test]
fn deep_nesting_gets_a_verdict() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("(SELECT ", "1", ")"),
        ("f(", "1", ")"),
        ("ARRAY[", "1", "]"),
        ("CASE WHEN true THEN ", "1", " END"),
    ] {
        let deep = |times: usize| format!("SELECT {}{middle}{}", open.repeat(times), close.repeat(times));
        assert!(class(&deep(500)).is_some());
        assert!(class(&deep(5_000)).is_some(), "{open}");
        assert!(class(&deep(100_000)).is_some(), "{open}");
    }
    let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC ";
    assert_eq!(
        class(&format!("{}SELECT 1;{}", body.repeat(1_000), "END;".repeat(1_000))),
        Some(Class::Unknown)
    );
}

#[test]
fn nested_row_locks_take_bounded_time() {
    let deep = |times: usize| {
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(times), ") a FOR UPDATE".repeat(times))
    };
    assert_eq!(class(&deep(100)), Some(Class::Write));
    assert!(class(&deep(20_000)).is_some());
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    // 62 bytes and one character of two.
    let name = format!("{}é", "a".repeat(62));
    let Parsed::Statements(statements) = on_stacks(&format!("SELECT * FROM {name}")) else { panic!() };
    assert_eq!(statements[0].facts.objects[0].name, format!("public.{}", "a".repeat(62)));
}

/// The lexer reads a run of signs anew from each of them.
#[test]
fn runs_of_signs_take_bounded_time() {
    let comments = |depth: usize| format!("SELECT 1 {}{}", "/*".repeat(depth), "*/".repeat(depth));
    assert_eq!(class(&comments(500)), Some(Class::Read));
    assert_eq!(class(&comments(100_000)), Some(Class::Unknown));
    assert_eq!(class(&format!("SELECT 1 {}", "/*".repeat(5_000_000))), Some(Class::Unknown));
    assert_eq!(class(&format!("SELECT {}1", "+".repeat(1_000_000))), Some(Class::Unknown));
    assert_eq!(
        class(&format!("SELECT {}1", format!("{} ", "+-".repeat(1_000)).repeat(400))),
        Some(Class::Unknown)
    );
    assert_eq!(
        class(&format!("SELECT 1 {}", format!("--{}\n", "=".repeat(100)).repeat(400))),
        Some(Class::Read)
    );
}

/// The grammar looks for the start of an expression when it reports where an error is, by recursion.
#[test]
fn errors_at_the_end_of_long_chains_dont_overflow() {
    let chain = "+1".repeat(450_000);
    assert_eq!(class(&format!("(SELECT 1 ORDER BY 1{chain}) ORDER BY 1")), Some(Class::Unknown));
    assert_eq!(class(&format!("(SELECT 1 LIMIT 1{chain}) LIMIT 1")), Some(Class::Unknown));
    let short = "+1".repeat(limits::INLINE_TOKENS / 2 - 20);
    assert_eq!(class(&format!("(SELECT 1 ORDER BY 1{short}) ORDER BY 1")), Some(Class::Unknown));
}

#[test]
fn ten_megabytes_get_a_verdict() {
    let text = "x".repeat(10_000_000);
    assert_eq!(class(&format!("INSERT INTO blobs VALUES ('{text}')")), Some(Class::Write));
    assert_eq!(class(&format!("SELECT {text}")), Some(Class::Read));
    assert_eq!(class(&format!("SELECT 1{}", ",1".repeat(5_000_000))), Some(Class::Unknown));
    assert_eq!(class(&format!("SELECT 1{}", ",1".repeat(500_000))), Some(Class::Read));
    assert_eq!(class(&"(".repeat(10_000_000)), Some(Class::Unknown));
    assert_eq!(class(&" ".repeat(10_000_000)), None);
    let too_long = format!("SELECT '{}'", " ".repeat(limits::MAX_BYTES));
    assert!(matches!(on_stacks(&too_long), Parsed::Unknown(UnknownReason::TooLong, _)));
}

/// Every reference looks through all names in scope: that product is bounded, too.
#[test]
fn many_with_names_take_bounded_time() {
    let names: String =
        (0..20_000).map(|n| format!("{}c{n} AS (SELECT 1)", if n == 0 { "" } else { ", " })).collect();
    let uses = ", t".repeat(20_000);
    assert_eq!(class(&format!("WITH {names} SELECT * FROM c0{uses}")), Some(Class::Unknown));
}

#[test]
fn bytes_that_are_no_text_are_unknown() {
    for (bytes, reason) in [
        (&b"SELECT 1\0; DELETE FROM carts"[..], UnknownReason::Nul),
        (b"SELECT '\xC0'; DELETE FROM carts --'", UnknownReason::NotUtf8),
        (b"SELECT '\xED\xA0\x80'", UnknownReason::NotUtf8),
        (b"SELECT \xF8\x88\x80\x80\x80", UnknownReason::NotUtf8),
    ] {
        match judge(bytes) {
            Parsed::Unknown(found, facts) => assert_eq!((found, facts.class), (reason, Class::Unknown)),
            other => panic!("{other:?}"),
        }
    }
    // Escapes that make bytes which are no text; names that the server cuts within a character.
    assert_eq!(class("SELECT set_config(E'\\xff', 'x', true)"), Some(Class::Unknown));
    let long = "é".repeat(40);
    assert!(class(&format!("SELECT * FROM {long}")).is_some());
}

/// Words and signs that make statements more often than chance.
fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "DELETE",
        "INSERT INTO",
        "UPDATE",
        "SET",
        "VALUES",
        "WITH",
        "AS",
        "(",
        ")",
        ",",
        ";",
        "*",
        "a",
        "b.c",
        "'x'",
        "1",
        "$1",
        "+",
        "=",
        "::",
        "COPY",
        "TO",
        "STDOUT",
        "PROGRAM",
        "CREATE",
        "TABLE",
        "VIEW",
        "FUNCTION",
        "nextval('s')",
        "EXPLAIN",
        "ANALYZE",
        "PREPARE",
        "EXECUTE",
        "p",
        "DO",
        "$$x$$",
        "BEGIN",
        "COMMIT",
        "GRANT",
        "ON",
        "role",
        "ALTER",
        "DROP",
        "int",
        "DEFAULT",
        "NOT",
        "NULL",
        "IN",
        "JOIN",
        "ORDER BY",
        "UNION",
        "RETURNING",
        "MERGE INTO",
        "USING",
        "WHEN MATCHED THEN",
        "E'\\xff'",
        "U&'\\0061'",
        "\"q\"",
        "--",
        "/*",
        "*/",
        "'",
        "\\",
        "é",
        "VACUUM",
        "INTO",
        "FOR",
        "LIMIT",
        "CASE",
        "END",
        "ARRAY[",
        "]",
        ".",
        "POLICY",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        spans_are_within(&bytes);
    }

    #[test]
    fn any_words_get_a_verdict(text in soup()) {
        spans_are_within(text.as_bytes());
    }
}

fn spans_are_within(text: &[u8]) {
    if let Parsed::Statements(statements) = judge(text) {
        let mut end = 0;
        assert!(!statements.is_empty());
        for statement in statements {
            assert!(statement.span.start >= end && statement.span.end <= text.len());
            assert!(!statement.span.is_empty());
            end = statement.span.end;
        }
    }
}
