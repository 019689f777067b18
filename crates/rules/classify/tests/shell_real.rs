//! What is called harmless runs under real shells, in a directory of its own: afterwards nothing has changed there, and no
//! program has run that the facts don't name.
//!
//! PATH has one directory, in which each program writes its name down before it becomes the real one. Programs that do
//! harm only write their name down.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use classify::shell::{Terminal, understand_with};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use vocabulary::Class;

/// Programs that become the real ones.
const REAL: &[&str] = &[
    "awk", "base64", "basename", "bash", "cat", "cut", "date", "df", "diff", "dirname", "du", "env", "find",
    "getent", "grep", "head", "hostname", "id", "ls", "md5sum", "nice", "ps", "readlink", "realpath", "sed",
    "seq", "sh", "sort", "stat", "stdbuf", "tac", "tail", "tar", "timeout", "tr", "uname", "uniq", "uptime",
    "wc", "which", "whoami", "xargs",
];

/// Programs that only say that they ran.
const TRAPS: &[&str] =
    &["evil", "rm", "mv", "cp", "tee", "touch", "python3", "perl", "curl", "sudo", "x", "y", "dd"];

/// Most seconds that one text runs: some follow a file for ever.
const SECONDS: &str = "2";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        for folder in ["bin", "home", "home/src"] {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        for name in ["f", "file", "list", "input.txt", "a", "b", "-n", "x.log", "src/code"] {
            std::fs::write(place.path("home").join(name), "one\ntwo words\nevil\n").unwrap();
        }
        for (names, real) in [(REAL, true), (TRAPS, false)] {
            for name in names {
                let becomes = ["/usr/bin", "/bin"].iter().map(|from| format!("{from}/{name}"));
                let Some(becomes) = becomes.into_iter().find(|path| Path::new(path).exists() || !real) else {
                    continue;
                };
                let end = if real { format!("exec {becomes} \"$@\"") } else { String::new() };
                let program = place.path("bin").join(name);
                let script = format!("#!/bin/sh\necho {name} >> {}\n{end}\n", place.path("log").display());
                std::fs::write(&program, script).unwrap();
                std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Every file below home, with what is in it.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("home")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                    files.insert(path, Vec::new());
                } else {
                    files.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// The programs that ran.
    fn run(&self, shell: &str, text: &str) -> BTreeSet<String> {
        let _ = std::fs::remove_file(self.path("log"));
        Command::new("/usr/bin/timeout")
            .args(["-k", "1", SECONDS, shell, "-c", text])
            .current_dir(self.path("home"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Read to its end: what the text leaves in the background holds it, and would write into a later text's log.
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Runs the text if it is called harmless; says whether it was.
    fn holds(&self, text: &str) -> bool {
        let facts = understand_with(text.as_bytes(), Terminal::Absent).facts;
        if !facts.class.is_harmless() {
            return false;
        }
        let named: BTreeSet<String> = facts
            .functions
            .iter()
            .map(|function| function.name.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        let before = self.files();
        for shell in ["/bin/bash", "/bin/dash"] {
            let ran = self.run(shell, text);
            let hidden: Vec<_> = ran.difference(&named).collect();
            assert!(hidden.is_empty(), "{shell} ran {hidden:?}, which the facts don't name: {text:?}");
            assert!(self.files() == before, "{shell} changed files: {text:?}");
        }
        true
    }
}

#[test]
fn what_is_called_harmless_is() {
    let place = Place::new();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell/read.txt");
    let content = std::fs::read_to_string(cases).unwrap();
    let mut run = 0;
    for block in content.trim().split("\n\n") {
        let lines: Vec<&str> =
            block.lines().filter(|line| !line.starts_with("=> ") && !line.starts_with("## ")).collect();
        let text = lines.join("\n");
        // Whatever is below the root is not this test's to look through, and a login shell runs what this machine's
        // start-up files say.
        if !text.is_empty() && !text.contains("find /") && !text.contains("-lc") && place.holds(&text) {
            run += 1;
        }
    }
    assert!(run > 100, "only {run} cases are called harmless");
}

/// The other way round: what does run a program of somebody else's is not harmless, and if the program is not named, the text
/// is code or unknown.
#[test]
fn what_runs_something_hidden_is_not_called_harmless() {
    let place = Place::new();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell_tricks.txt");
    let content = std::fs::read_to_string(cases).unwrap();
    let mut tricks = 0;
    for text in content.trim().split("\n\n").filter(|text| !text.starts_with("## ")) {
        assert!(place.run("/bin/bash", text).contains("evil"), "this is no trick: {text:?}");
        let facts = understand_with(text.as_bytes(), Terminal::Absent).facts;
        let named = facts.functions.iter().any(|function| function.name.rsplit('/').next() == Some("evil"));
        let dangerous = matches!(facts.class, Class::Unknown | Class::Execute);
        assert!(named || dangerous, "evil is hidden from us: {text:?} is {}", facts.class);
        assert!(!facts.class.is_harmless(), "called harmless: {text:?}");
        tricks += 1;
    }
    assert!(tricks >= 300, "only {tricks} tricks");
}

/// Pieces of which texts are made that a careless reader takes for something else.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ls",
        "cat f",
        "echo",
        "evil",
        "$(evil)",
        "`evil`",
        "'evil'",
        "\"$(evil)\"",
        "\"`evil`\"",
        "\\evil",
        "$(ls)",
        "\"$(echo a)\"",
        ";",
        ";",
        "|",
        "|",
        "&&",
        "||",
        "&",
        "\n",
        "\n",
        "(",
        ")",
        "{",
        "}",
        ">",
        ">out",
        ">/dev/null",
        "2>&1",
        "<f",
        "<<<",
        "'",
        "\"",
        "\\",
        "\\\n",
        "$",
        "#",
        " #",
        "x=",
        "x=evil",
        "if",
        "then",
        "else",
        "fi",
        "for x in a; do",
        "while",
        "do",
        "done",
        "case a in",
        "a)",
        ";;",
        "esac",
        "!",
        "$x",
        "\"$x\"",
        "${x}",
        "${x:-evil}",
        "$((1))",
        "$((",
        "))",
        "[[",
        "]]",
        "[",
        "]",
        "-f",
        "=",
        "{a,b}",
        "*",
        "~",
        "<<EOF\n",
        "<<'EOF'\n",
        "\nEOF\n",
        "EOF",
        "$'\\'",
        "$'a'",
        "$\"",
        "<(",
        "sh -c",
        "sh -c 'ls'",
        "env",
        "xargs",
        "find . -exec",
        "{}",
        "\\;",
        "+",
        "time",
        "exec",
        "command",
        "eval",
        "-c",
        "timeout 1",
        "sort",
        "-o",
        "out",
        "sed -n",
        "p",
        "'1p'",
        "awk",
        "'{print}'",
        "date",
        "+%s",
        "read y",
        "é",
        "a",
        "-",
        "--",
        "x",
        "function",
        "f()",
        "\t",
        "0",
        "1>",
        "&>",
        ">&",
        "<>",
    ]);
    let joint = prop::sample::select(vec![" ", " ", " ", ""]);
    prop::collection::vec((piece, joint), 1..10)
        .prop_map(|parts| parts.into_iter().flat_map(|(piece, joint)| [piece, joint]).collect())
}

#[test]
fn what_is_made_of_pieces_and_called_harmless_is() {
    let place = Place::new();
    let mut runner = TestRunner::deterministic();
    let tries: usize =
        std::env::var("CLASSIFY_TEXTS").ok().and_then(|texts| texts.parse().ok()).unwrap_or(4_000);
    let mut run = 0;
    for _ in 0..tries {
        let text = pieces().new_tree(&mut runner).unwrap().current();
        // A loop that never ends costs the patience above, each time.
        if !text.contains("while") && place.holds(&text) {
            run += 1;
        }
    }
    assert!(run > tries / 50, "only {run} of {tries} texts are called harmless");
}
