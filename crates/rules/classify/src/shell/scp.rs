//! The half of a copy that a client's `scp` starts at the other end: `scp -t PATH`, `scp -f PATH…`.
//!
//! What speaks that half's protocol is read by who carries it, file by file. Only a text that starts it and does nothing
//! else is one, so that nothing else can read or write the same streams.

use brush_parser::ast::{Command, CommandPrefixOrSuffixItem, Program, SeparatorOperator, SimpleCommand};

use super::word::{self, Word};
use super::{programs, readable, syntax};

/// Letters that `scp` gives its other half, each without a value.
const LETTERS: &[u8] = b"tfrpdvq";

/// What a client's `scp` runs at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScpHalf {
    /// Whether it takes files (`-t`); otherwise it sends them (`-f`).
    pub takes: bool,
    /// Whether the path has to be a folder (`-d`).
    pub into_folder: bool,
    /// Where it takes them to, or which it sends.
    pub paths: Vec<ScpPath>,
}

/// A path of [`ScpHalf`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScpPath {
    /// As the text writes it, without quotes.
    pub text: String,
    /// Whether `text` is what the program gets; otherwise the shell makes something of it: `*.log`, `~/x`.
    pub literal: bool,
}

/// The half of a copy that a text starts, if it does that and nothing else.
#[must_use]
pub fn scp_half(text: &[u8]) -> Option<ScpHalf> {
    let program = syntax::parse(readable(text).ok()?).ok()?;
    let simple = only_command(&program)?;
    let words = simple.suffix.iter().flat_map(|suffix| &suffix.0).map(|item| match item {
        CommandPrefixOrSuffixItem::Word(word) | CommandPrefixOrSuffixItem::AssignmentWord(_, word) => {
            read(&word.value)
        }
        CommandPrefixOrSuffixItem::IoRedirect(_) | CommandPrefixOrSuffixItem::ProcessSubstitution(..) => None,
    });
    let name = read(&simple.word_or_name.as_ref()?.value)?;
    if programs::name(name.known()?) != Some("scp") {
        return None;
    }
    half(&words.collect::<Option<Vec<_>>>()?)
}

fn read(raw: &str) -> Option<Word> {
    if raw.is_empty() { Some(Word::plain("")) } else { word::read(raw).ok() }
}

/// The one simple command that a text is, without anything before it.
fn only_command(program: &Program) -> Option<&SimpleCommand> {
    let [list] = program.complete_commands.as_slice() else { return None };
    let [item] = list.0.as_slice() else { return None };
    let pipeline = &item.0.first;
    let alone = matches!(item.1, SeparatorOperator::Sequence)
        && item.0.additional.is_empty()
        && pipeline.timed.is_none()
        && !pipeline.bang;
    match pipeline.seq.as_slice() {
        [Command::Simple(simple)] if alone && simple.prefix.is_none() => Some(simple),
        _ => None,
    }
}

/// Whether a text is one simple command, without anything before it and without redirections.
pub(super) fn is_alone(program: &Program) -> bool {
    let is_word = |item: &CommandPrefixOrSuffixItem| {
        matches!(item, CommandPrefixOrSuffixItem::Word(_) | CommandPrefixOrSuffixItem::AssignmentWord(..))
    };
    only_command(program)
        .is_some_and(|simple| simple.suffix.iter().all(|suffix| suffix.0.iter().all(is_word)))
}

/// What the arguments of `scp` make of it.
pub(super) fn half(arguments: &[Word]) -> Option<ScpHalf> {
    let mut letters = Vec::new();
    let mut words = arguments.iter().peekable();
    while let Some(option) = words.next_if(|word| word.can_be_option()) {
        let option = option.known()?;
        if option == "--" {
            return finish(&letters, words.collect());
        }
        let some = option.strip_prefix('-').filter(|some| !some.is_empty())?;
        letters.extend(some.bytes());
    }
    let paths: Vec<&Word> = words.collect();
    // Some programs take options behind their paths too.
    if paths.iter().any(|path| path.can_be_option()) {
        return None;
    }
    finish(&letters, paths)
}

fn finish(letters: &[u8], paths: Vec<&Word>) -> Option<ScpHalf> {
    let has = |letter| letters.contains(&letter);
    let known = letters.iter().all(|letter| LETTERS.contains(letter));
    let plain = paths.iter().all(|path| path.inner.is_empty());
    if !known || !plain || paths.is_empty() || has(b't') == has(b'f') {
        return None;
    }
    let path = |word: &Word| ScpPath { text: word.text.clone(), literal: word.literal };
    Some(ScpHalf { takes: has(b't'), into_folder: has(b'd'), paths: paths.into_iter().map(path).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let half = scp_half(text.as_bytes())?;
        let way = if half.takes { "to" } else { "from" };
        let folder = if half.into_folder { " folder" } else { "" };
        let path = |path: &ScpPath| format!(" {}{}", path.text, if path.literal { "" } else { "?" });
        Some(format!("{way}{folder}{}", half.paths.iter().map(path).collect::<String>()))
    }

    #[test]
    fn only_what_starts_scps_other_half_and_nothing_else_is_one() {
        for (text, expected) in [
            ("scp -t /tmp/x", "to /tmp/x"),
            ("scp -v -r -p -f /etc/hosts", "from /etc/hosts"),
            ("scp -rt /tmp/x", "to /tmp/x"),
            ("scp -prdt -- -x", "to folder -x"),
            ("/usr/bin/scp -t 'a b'", "to a b"),
            ("scp -f ~/x /var/log/*.log", "from ~/x? /var/log/*.log?"),
            ("scp -t a=b", "to a=b"),
        ] {
            assert_eq!(told(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "scp a b",
            "scpx -t a",
            "./scp -t a",
            "scp -t",
            "scp -t -f x",
            "scp -tf x",
            "scp -t x -f",
            "scp -t -S ./y x",
            "scp -f /x; bash -s",
            "scp -f /x; bash -s < /dev/stdin",
            "scp -f /x < y",
            "scp -t x > y",
            "scp -t x &",
            "scp -t x | cat",
            "scp -t x && ls",
            "cat; scp -t x",
            "X=1 scp -t x",
            "nohup scp -t x",
            "sh -c 'scp -t x'",
            "(scp -t x)",
            "! scp -t x",
            "time scp -t x",
            "scp -t $(ls)",
            "scp -t /x/$(ls)",
            "scp -t <(ls)",
            "scp -t $x",
            "scp -t *",
            "scp -t x\nls",
            "",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
