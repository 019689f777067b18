//! The decision table: what command lines are judged to be. `tests/shell/*.txt` has one case a block: the text, then
//! what comes of it. `CLASSIFY_UPDATE=1` rewrites what comes of it, for review.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use classify::shell::{Terminal, Understood, understand, understand_with};
use vocabulary::{Class, Effect, Usage};

/// One line: class, verb, objects, functions, settings, and why it is not understood.
fn verdict(understood: &Understood) -> String {
    let facts = &understood.facts;
    let mut line = format!("{} {}", facts.class, facts.verb);
    for object in &facts.objects {
        let sign = match object.usage {
            Usage::Read => '<',
            Usage::Write => '>',
            Usage::Define => '+',
        };
        line += &format!(" {sign}{}", object.name.escape_debug());
    }
    for function in &facts.functions {
        let effect = match function.effect {
            Effect::Pure => "pure",
            Effect::Session => "session",
            Effect::Write => "write",
            Effect::File => "file",
            Effect::Network => "network",
            Effect::Administer => "administer",
            Effect::Code => "code",
            Effect::Unknown => "unknown",
        };
        line += &format!(" {}:{effect}", function.name.escape_debug());
    }
    for setting in &facts.settings {
        let value = setting.value.as_deref().map_or("?".to_owned(), |value| value.escape_debug().to_string());
        line += &format!(" {}={value}", setting.name);
    }
    if let Some(reason) = &understood.reason {
        line += &format!(" ({reason})");
    }
    line
}

#[test]
fn every_case_is_judged_as_written() {
    let update = std::env::var_os("CLASSIFY_UPDATE").is_some();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for file in files {
        // The file's name says what no case in it may be.
        let evasion = file.file_stem().is_some_and(|stem| stem == "evasion");
        let content = std::fs::read_to_string(&file).unwrap();
        let mut written = Vec::new();
        for block in content.trim().split("\n\n") {
            let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with("=> ")).collect();
            let text: Vec<&str> = lines.iter().filter(|line| !line.starts_with("## ")).copied().collect();
            let mut kept = lines.join("\n");
            if !text.is_empty() {
                cases += 1;
                let text = text.join("\n");
                let understood = understand_with(text.as_bytes(), Terminal::Absent);
                if evasion && understood.facts.class.is_harmless() {
                    wrong.push(format!("called harmless: {text}"));
                }
                kept = format!("{kept}\n=> {}", verdict(&understood));
                if !update && kept != block {
                    wrong.push(format!("--- {}\n{block}\n+++\n{kept}", file.display()));
                }
            }
            written.push(kept);
        }
        if update {
            std::fs::write(&file, written.join("\n\n") + "\n").unwrap();
        }
    }
    assert!(cases > 200, "only {cases} cases");
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pager_on_a_terminal_runs_what_is_typed() {
    for text in ["systemctl status nginx", "journalctl -u nginx", "dpkg -l"] {
        assert_eq!(understand(text.as_bytes()).class, Class::Execute, "{text}");
        assert_eq!(understand_with(text.as_bytes(), Terminal::Absent).facts.class, Class::Read, "{text}");
        let piped = format!("{text} | cat");
        assert_eq!(understand(piped.as_bytes()).class, Class::Read, "{piped}");
    }
    assert_eq!(understand(b"systemctl --no-pager status nginx").class, Class::Read);
}

/// The cases whose bytes no file of text can hold.
#[test]
fn bytes_that_are_no_text_are_unknown() {
    for text in [
        &b"ls\0rm -rf /"[..],
        b"ls \xFF",
        b"ls\rrm",
        b"ls \x1b[2K",
        b"echo \xE4\xB8\xAD\\;rm x",
        b"echo '\xE4\xB8\xAD|x'",
        b"ls\x0brm",
        b"echo \xC0\x80",
        b"ls\x7f",
    ] {
        assert_eq!(understand(text).class, Class::Unknown, "{text:?}");
    }
    assert_eq!(understand("cat größe.txt".as_bytes()).class, Class::Read);
}

#[test]
fn an_empty_text_does_nothing() {
    for text in ["", " ", "\n", "# a remark", "\n\n  \t\n"] {
        let facts = understand(text.as_bytes());
        assert_eq!((facts.class, facts.verb.as_str()), (Class::Session, "EXEC"), "{text:?}");
    }
}

/// A rule on one program must not be passed by putting it beside a worse one.
#[test]
fn every_program_that_runs_is_named() {
    for (text, verb, inner) in [
        ("rm x; sudo ls", "sudo", "ls rm"),
        ("find . -exec rm {} +", "rm", "find"),
        ("echo $(env A=1 shred x) | cat", "shred", "cat echo env"),
        ("sh -c 'rm x'", "rm", "sh"),
        ("ls; ls", "ls", ""),
        ("./mine && rm x", "EXEC", "rm"),
        ("rm x && ./mine", "EXEC", "rm"),
    ] {
        let facts = understand(text.as_bytes());
        assert_eq!((facts.verb.as_str(), facts.inner_verbs.join(" ").as_str()), (verb, inner), "{text}");
    }
}
