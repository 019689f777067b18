//! The decision table of the classifier, as files that a person can read.
//!
//! `tests/postgres/*.txt` holds blocks apart by empty lines. In a block, `#` lines say what it shows, `@` lines
//! set the session (`@ search_path=a, b`, `@ server=17`, `@ strings=off`, `@ encoding=SJIS`, `@ prepared NAME
//! CLASS`), the lines up to the first `=>` are the text, and each `=>` line is one statement's facts.
//! `CLASSIFY_UPDATE=1 cargo test -p classify --test cases` writes what the classifier says now, for review.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use std::fmt::Write as _;
use std::sync::Arc;

use classify::postgres::{
    ClientEncoding, NOTHING_PREPARED, Name, Parsed, SearchPath, Settings, Statement, classify,
};
use vocabulary::{Class, Effect, Facts, Usage};

fn facts(facts: &Facts) -> String {
    let mut line = format!("{} {}", facts.class, facts.verb);
    for (usage, word) in [(Usage::Read, "reads"), (Usage::Write, "writes"), (Usage::Define, "defines")] {
        let names: Vec<&str> =
            facts.objects.iter().filter(|object| object.usage == usage).map(|o| o.name.as_str()).collect();
        if !names.is_empty() {
            write!(line, " | {word} {}", names.join(", ")).unwrap();
        }
    }
    for function in facts.functions.iter().filter(|function| function.effect != Effect::Pure) {
        write!(line, " | calls {} ({:?})", function.name, function.effect).unwrap();
    }
    match facts.has_where {
        Some(true) => line.push_str(" | where"),
        Some(false) => line.push_str(" | no where"),
        None => {}
    }
    if facts.has_limit == Some(true) {
        line.push_str(" | limit");
    }
    if let Some(transaction) = facts.transaction {
        write!(line, " | transaction {transaction:?}").unwrap();
    }
    for setting in &facts.settings {
        let local = if setting.local { " local" } else { "" };
        match &setting.value {
            Some(value) => write!(line, " | sets{local} {} = {value}", setting.name).unwrap(),
            None => write!(line, " | resets{local} {}", setting.name).unwrap(),
        }
    }
    if facts.outlives_rollback {
        line.push_str(" | lasting");
    }
    line
}

fn statement(statement: &Statement) -> String {
    let mut line = facts(&statement.facts);
    if let Some(copy) = statement.copy {
        write!(line, " | copy {copy:?}").unwrap();
    }
    if let Some(prepares) = &statement.prepares {
        write!(line, " | prepares {}", prepares.name).unwrap();
    }
    line
}

fn verdict(parsed: &Parsed) -> Vec<String> {
    match parsed {
        Parsed::Empty => vec!["empty".to_owned()],
        Parsed::Unknown(reason, unknown) => vec![format!("{} ({reason})", facts(unknown))],
        Parsed::Statements(statements) => statements.iter().map(statement).collect(),
    }
}

fn judged(text: &str, directives: &[&str]) -> Vec<String> {
    let mut settings = Settings { server_major: Some(18), ..Settings::default() };
    let mut prepared = Vec::new();
    for directive in directives {
        let directive = directive.trim();
        match directive.split_once(['=', ' ']).unwrap() {
            ("search_path", path) => settings.search_path = SearchPath::parse(path).unwrap(),
            ("server", major) => settings.server_major = Some(major.parse().unwrap()),
            ("strings", value) => settings.standard_conforming_strings = value == "on",
            ("encoding", name) => settings.client_encoding = ClientEncoding::from_name(name),
            ("prepared", rest) => {
                let (name, class) = rest.split_once(' ').unwrap();
                prepared.push((name, Arc::new(Facts::plain("X", class.parse::<Class>().unwrap()))));
            }
            other => panic!("no such directive: {other:?}"),
        }
    }
    let lookup = |wanted: Name<'_>| {
        prepared
            .iter()
            .find(|(name, _)| matches!(wanted, Name::Statement(w) | Name::Cursor(w) if w == *name))
            .map(|(_, facts)| Arc::clone(facts))
    };
    verdict(&classify(text.as_bytes(), &settings, &lookup))
}

#[test]
fn every_case_is_judged_as_written() {
    let update = std::env::var_os("CLASSIFY_UPDATE").is_some();
    let mut wrong = Vec::new();
    let mut cases = 0;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "the case files are gone");
    for file in files {
        let content = std::fs::read_to_string(&file).unwrap();
        let mut written = Vec::new();
        for block in content.trim().split("\n\n") {
            let lines: Vec<&str> = block.lines().collect();
            let directives: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("@ ")).collect();
            let text: Vec<&str> = lines
                .iter()
                .filter(|line| !line.starts_with(['#', '@']) && !line.starts_with("=>"))
                .copied()
                .collect();
            let expected: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("=> ")).collect();
            let mut kept: Vec<String> =
                lines.iter().filter(|line| !line.starts_with("=>")).map(|line| (*line).to_owned()).collect();
            if text.is_empty() {
                written.push(kept.join("\n"));
                continue;
            }
            cases += 1;
            let found = judged(&text.join("\n"), &directives);
            if found != expected && !update {
                wrong.push(format!(
                    "{}\n{}\n  expected {expected:#?}\n  found {found:#?}",
                    file.display(),
                    text.join("\n")
                ));
            }
            kept.extend(found.iter().map(|line| format!("=> {line}")));
            written.push(kept.join("\n"));
        }
        if update {
            std::fs::write(&file, written.join("\n\n") + "\n").unwrap();
        }
    }
    assert!(cases > 200, "only {cases} cases");
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_runs_within_a_statement_has_its_word_too() {
    let inner = |text: &str| match classify(text.as_bytes(), &Settings::default(), NOTHING_PREPARED) {
        Parsed::Statements(statements) => statements.last().unwrap().facts.inner_verbs.join(" "),
        other => panic!("{text}: {other:?}"),
    };
    for (text, expected) in [
        ("DELETE FROM carts", ""),
        ("INSERT INTO carts SELECT * FROM orders", ""),
        ("WITH gone AS (DELETE FROM carts RETURNING *) SELECT * FROM gone", "DELETE"),
        (
            "WITH a AS (UPDATE carts SET x = 1 RETURNING 1), b AS (DELETE FROM carts) INSERT INTO orders TABLE a",
            "DELETE UPDATE",
        ),
        ("EXPLAIN ANALYZE DELETE FROM carts", "DELETE"),
        ("EXPLAIN DELETE FROM carts", ""),
        ("COPY (DELETE FROM carts RETURNING *) TO STDOUT", "DELETE"),
        ("PREPARE p AS DELETE FROM carts", "DELETE"),
        ("PREPARE p AS DELETE FROM carts; EXECUTE p", "DELETE"),
        ("DECLARE c CURSOR FOR SELECT 1; FETCH c", ""),
        ("CREATE RULE r AS ON INSERT TO carts DO DELETE FROM orders", ""),
        ("CREATE SCHEMA shop CREATE TABLE carts (id int)", "CREATE TABLE"),
    ] {
        assert_eq!(inner(text), expected, "{text}");
    }
}
