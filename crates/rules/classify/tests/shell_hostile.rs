//! Texts that try to exhaust the reader of shell commands, on a thread of 2 MiB.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use std::time::{Duration, Instant};

use classify::shell::{Cache, Reason, Terminal, limits, understand_with};
use proptest::prelude::*;
use vocabulary::Class;

/// Far above what any takes on a slow machine, far below what a hang would be.
const PATIENCE: Duration = Duration::from_secs(10);

fn class(text: &str) -> Class {
    let text = text.to_owned();
    let judged = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let begin = Instant::now();
        let understood = understand_with(text.as_bytes(), Terminal::Absent);
        let start: String = text.chars().take(40).collect();
        assert!(begin.elapsed() < PATIENCE, "{:?} for {start}…", begin.elapsed());
        understood.facts.class
    });
    judged.unwrap().join().unwrap()
}

#[test]
fn deep_nesting_gets_a_verdict() {
    for (open, middle, close) in [
        ("(", "ls", ")"),
        ("( ", "ls", " )"),
        ("( ", "ls", "; )"),
        ("(ls;", "ls", ";)"),
        ("{ ", "ls", "; }"),
        ("if ", "ls", "; then ls; fi"),
        ("if ls; then ", "ls", "; fi"),
        ("if ls; then ls; elif ", "ls", "; then ls; fi"),
        ("while ls; do ", "ls", "; done"),
        ("for x in a; do ", "ls", "; done"),
        ("case a in a) ", "ls", " ;; esac"),
        ("case a in a) ", "ls", " esac"),
        ("case a in (a) ", "ls", "\nesac"),
        ("$(", "ls", ")"),
        ("echo $(", "ls", ")"),
        ("echo \"$(", "ls", ")\""),
        ("cat <(", "ls", ")"),
        ("f() { ", "ls", "; }"),
        ("! ", "ls", ""),
        ("time ", "ls", ""),
        ("coproc ", "ls", ""),
        ("function f ", "{ ls; }", ""),
        ("env ", "ls", ""),
        ("${x:-", "a", "}"),
        ("$((", "1", "))"),
        ("[[ ( ", "x", " ) ]]"),
        ("[[ ! ", "x", " ]]"),
        ("{a,", "b", "}"),
        ("`", "ls", "`"),
        ("x[", "1", "]=1"),
        ("((", "1", "))"),
        ("eval ", "ls", ""),
    ] {
        for times in [3, 5, 8, 20, 300, 3_000] {
            let text = format!("{}{middle}{}", open.repeat(times), close.repeat(times));
            class(&text);
            class(&format!("{}{middle}", open.repeat(times)));
        }
    }
}

/// The worst that the limits let through to the grammar, which goes back over what is nested.
#[test]
fn nesting_at_the_limits_takes_bounded_time() {
    let pairs = [("( ", "; ) "), ("case a in a) ", " esac "), ("{ ", "; } "), ("if ls; then ", "; fi ")];
    let mut text = "ls".to_owned();
    for round in 0..limits::MAX_NESTING {
        let (open, close) = pairs[round % pairs.len()];
        let wider = format!("{open}{text}{close}");
        class(&wider);
        text = wider;
    }
    for (open, close) in pairs {
        let deep = format!("{}ls{}", open.repeat(limits::MAX_DOUBLING), close.repeat(limits::MAX_DOUBLING));
        let long = format!("{deep}; ").repeat(limits::MAX_BYTES / (deep.len() + 2));
        class(&long);
        class(&long.replacen("ls", "ls;;", 1));
        let mut broken = long.clone();
        broken.truncate(long.len() - 3);
        class(&broken);
    }
    let mut nested = "ls".to_owned();
    for _ in 0..limits::MAX_DEPTH {
        nested = format!("echo $({nested}) $({nested})");
        if nested.len() > limits::MAX_BYTES / 2 {
            break;
        }
    }
    class(&nested);
}

#[test]
fn long_texts_get_a_verdict() {
    let fit = |piece: &str| piece.repeat(limits::MAX_BYTES / piece.len());
    for piece in [
        "ls;",
        "ls|",
        "a ",
        "'",
        "\"",
        "\\",
        "$",
        "$(",
        "`",
        "(",
        ")",
        "{",
        "}",
        "[",
        "a[",
        "<",
        ">",
        "<<a ",
        "<<a\n",
        "\n",
        "#",
        "&",
        "x=1 ",
        "x=1;",
        "a=(",
        "2>&1 ",
        ">a ",
        "<(ls) ",
        "$x",
        "${x}",
        "$((1))",
        "$'a'",
        "!",
        "! ",
        "time ",
        "if ",
        "fi ",
        "case ",
        "esac ",
        "- ",
        "* ",
        "é",
        "~",
        "{a,b}",
        "sh -c ls;",
        "find -exec ",
        "xargs ",
        "env ",
    ] {
        class(&fit(piece));
        class(&format!("ls {}", fit(piece)).chars().take(limits::MAX_BYTES / 2).collect::<String>());
    }
    assert_eq!(class(&format!("ls {}", "a".repeat(limits::MAX_BYTES))), Class::Unknown);
    assert_eq!(class(&format!("ls {}", "a".repeat(limits::MAX_BYTES - 10))), Class::Read);
    assert_eq!(class("ls 99999999999999999999>x"), Class::Unknown);
    assert_eq!(class("echo {1..99999999999999999999}"), Class::Read);
    assert_eq!(class("ls ${99999999999999999999}"), Class::Read);
}

fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ls", "rm", " ", " ", " ", "\n", ";", "&", "|", "&&", "(", ")", "{", "}", "<", ">", "<<", "EOF", "'",
        "\"", "\\", "$", "`", "#", "=", "x", "[", "]", "[[", "]]", "if", "then", "fi", "for", "in", "do",
        "done", "case", "esac", ";;", "function", "time", "!", "$(", "$((", "${", "<(", "1", "-c", "sh",
        "env", "find", "-exec", "xargs", "sudo", "eval", "é", "\t", "*", "?", "~", "\0", "select", "coproc",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_text_gets_a_verdict(text in prop_oneof![soup(), any::<String>()]) {
        for terminal in [Terminal::Absent, Terminal::Possible] {
            let understood = understand_with(text.as_bytes(), terminal);
            if understood.reason.is_some() {
                prop_assert_eq!(understood.facts.class, Class::Unknown);
            }
            prop_assert_ne!(understood.reason.clone(), Some(Reason::Parser));
            let mut cache = Cache::new();
            for _ in 0..2 {
                prop_assert_eq!(&*cache.understand(text.as_bytes(), terminal), &understood);
            }
        }
    }

    /// What is called harmless has ended: another line behind it is seen.
    #[test]
    fn a_line_behind_a_harmless_text_is_seen(text in soup()) {
        let class = |text: &str| understand_with(text.as_bytes(), Terminal::Absent).facts.class;
        if class(&text).is_harmless() {
            for behind in ["frobnicate", "$(rm x)"] {
                let class = class(&[&text, "\n", behind].concat());
                prop_assert!(!class.is_harmless());
            }
        }
    }
}
