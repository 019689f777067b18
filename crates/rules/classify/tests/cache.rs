//! The cache says what a fresh look says, whatever it was asked before.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use classify::postgres::{Cache, NOTHING_PREPARED, Parsed, SearchPath, Settings, classify, limits};
use proptest::prelude::*;

fn same(cache: &mut Cache, text: &str, settings: &Settings) {
    let cached = cache.classify(text.as_bytes(), settings, NOTHING_PREPARED);
    assert_eq!(*cached, classify(text.as_bytes(), settings, NOTHING_PREPARED), "{text}");
}

/// Statements in which constants stand wherever the grammar lets them.
const SHAPES: &[&str] = &[
    "SELECT abalance FROM pgbench_accounts WHERE aid = {};",
    "UPDATE pgbench_accounts SET abalance = abalance + {} WHERE aid = {};",
    "INSERT INTO h (a, b, c) VALUES ({}, {}, CURRENT_TIMESTAMP);",
    "  DELETE FROM t WHERE a={} AND b<>{} ; ",
    "SELECT {} UNION SELECT {} LIMIT {} OFFSET {}",
    "SELECT a FROM t FETCH FIRST {} ROWS ONLY",
    "SELECT set_config({}, {}, false)",
    "SELECT nextval({}), \"q{}\".a, $1 + {} - {}",
    "SELECT a::varchar({}), CAST({} AS float({})), {}::bit({})",
    "SELECT interval {} , interval({}) {}, date {}",
    "SET search_path = {}",
    "SET statement_timeout = {}",
    "EXPLAIN (ANALYZE {}) DELETE FROM t",
    "FETCH {} FROM c",
    "MOVE {} IN c",
    "VACUUM (PARALLEL {}) t",
    "SELECT x{} FROM a{} WHERE {}",
    "SELECT {}{}",
    "SELECT {} {}",
    "SELECT ARRAY[{}, {}][{}:{}], ROW({}), {} IN ({}, {})",
    "SELECT * FROM t TABLESAMPLE system ({}) REPEATABLE ({})",
    "WITH x AS (SELECT {}) SELECT * FROM x WHERE a LIKE {} ESCAPE {}",
    "SELECT xmlelement(name a, {}), current_time({}), JSON_VALUE(j, {})",
    "SELECT E{}, U&{}, B{}, x{} FROM t",
    "SELECT {}; SELECT {}",
    "COPY t FROM {}",
    "CREATE TABLE t (a int DEFAULT {})",
    "SELECT a -{} FROM t --{}",
    "SELECT lo_export({}, {}), ts_rewrite({}, {})",
    "SELECT * FROM t WHERE a = {} ORDER BY {} FOR UPDATE",
    "MERGE INTO t USING s ON a = {} WHEN MATCHED THEN UPDATE SET a = {}",
    "SELECT count(*) OVER (ROWS {} PRECEDING), extract({} FROM a), substring({} FROM {} FOR {})",
];

fn constant() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0_u64..100_000).prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => "[0-9]{1,12}",
        4 => "'[a-z ,.;]{0,8}'",
        1 => "'[ -~é\n]{0,8}'",
        1 => Just("'role'".to_owned()),
        1 => Just("'search_path'".to_owned()),
        1 => Just("'it''s'".to_owned()),
        1 => Just("-1".to_owned()),
        1 => Just("0x1f".to_owned()),
        1 => Just("1.5e3".to_owned()),
        1 => Just("$$x$$".to_owned()),
        1 => Just("'a\\'".to_owned()),
        1 => Just("/* ' */ 1".to_owned()),
        1 => Just(String::new()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    (prop::sample::select(SHAPES), prop::collection::vec(constant(), 8)).prop_map(|(shape, constants)| {
        let mut constants = constants.into_iter().cycle();
        let mut text = String::new();
        for (index, part) in shape.split("{}").enumerate() {
            if index > 0 {
                text.push_str(&constants.next().unwrap_or_default());
            }
            text.push_str(part);
        }
        text
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), prop::sample::select(vec!["public", "app, public", "evil, pg_catalog"]), 0..4_u8)
        .prop_map(|(strings, path, major)| Settings {
            standard_conforming_strings: strings,
            search_path: SearchPath::parse(path).unwrap(),
            server_major: (major > 0).then_some(14 + u16::from(major)),
            ..Settings::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cached_is_fresh(asks in prop::collection::vec((text(), settings()), 1..60)) {
        let mut cache = Cache::new();
        for (text, settings) in &asks {
            same(&mut cache, text, settings);
        }
        for (text, settings) in asks.iter().rev() {
            same(&mut cache, text, settings);
        }
    }
}

#[test]
fn other_constants_are_found_by_template() {
    let mut cache = Cache::new();
    for id in 0..1_000 {
        same(
            &mut cache,
            &format!("SELECT abalance FROM pgbench_accounts WHERE aid = {id};"),
            &Settings::default(),
        );
    }
    assert_eq!(cache.len(), 1);
}

#[test]
fn it_stays_within_its_bounds() {
    let mut cache = Cache::new();
    let settings = Settings::default();
    let hot = "SELECT hot FROM t";
    for n in 0..limits::CACHE_ENTRIES * 3 {
        cache.classify(format!("SELECT c{n} FROM t").as_bytes(), &settings, NOTHING_PREPARED);
        cache.classify(hot.as_bytes(), &settings, NOTHING_PREPARED);
    }
    assert!(cache.len() <= limits::CACHE_ENTRIES);
    same(&mut cache, hot, &settings);
    let mut cache = Cache::new();
    for n in 0..600 {
        let text = format!("SELECT '{}' AS c{n}, a.b", "é".repeat(6_000));
        cache.classify(text.as_bytes(), &settings, NOTHING_PREPARED);
    }
    assert!(cache.len() * 12_000 <= limits::CACHE_BYTES, "{}", cache.len());
    for n in 0..200 {
        let settings = Settings { search_path: SearchPath::of([format!("s{n}")]), ..Settings::default() };
        same(&mut cache, "SELECT * FROM t", &settings);
    }
}

#[test]
fn what_depends_on_the_session_is_not_kept() {
    let mut cache = Cache::new();
    let settings = Settings::default();
    let unknown = cache.classify(b"EXECUTE p", &settings, NOTHING_PREPARED);
    assert_eq!(unknown.class(), Some(vocabulary::Class::Unknown));
    let read = std::sync::Arc::new(vocabulary::Facts::plain("SELECT", vocabulary::Class::Read));
    let known = cache.classify(b"EXECUTE p", &settings, &|_| Some(std::sync::Arc::clone(&read)));
    assert_eq!(known.class(), Some(vocabulary::Class::Read));
}

#[test]
fn spans_fit_the_text_at_hand() {
    let mut cache = Cache::new();
    for text in ["SELECT 1;", "  SELECT 22 ; ;"] {
        let parsed = cache.classify(text.as_bytes(), &Settings::default(), NOTHING_PREPARED);
        let Parsed::Statements(statements) = &*parsed else { panic!("{parsed:?}") };
        assert!(text[statements[0].span.clone()].starts_with("SELECT"));
        assert!(!text[statements[0].span.clone()].ends_with([' ', ';']));
    }
}
