//! What programs do with which arguments: the table in `programs.txt`.
//!
//! A program is known by its name. Which file the name leads to is the target's business (README.md says what that
//! means); the table speaks of what Debian, Red Hat and Alpine install under it.

use std::collections::HashMap;
use std::sync::LazyLock;

use vocabulary::{Class, Effect};

use super::word::Word;

/// What a program does, if its arguments are accepted.
#[derive(Debug)]
pub(super) struct Program {
    pub effect: Effect,
    pub class: Class,
    pub operands: Operands,
    /// Whether it starts a pager, which runs what the client types, when its output is a terminal.
    pub pages: bool,
    arguments: Option<Arguments>,
}

/// What a program does with the words that are no options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operands {
    /// They are no files.
    None,
    /// Files whose names and attributes it looks at.
    Names,
    /// Files it reads.
    Reads,
    /// Files it writes or removes.
    Writes,
    /// The first is a pattern, the others are files it reads.
    First,
    /// The last is written, those before it are read.
    Last,
}

/// The arguments that a line of the table accepts.
#[derive(Debug, Default)]
struct Arguments {
    short: &'static str,
    short_with_value: &'static str,
    long: Vec<&'static str>,
    number: bool,
    most_operands: Option<usize>,
    first: Option<Vec<&'static str>>,
    second: Option<Vec<&'static str>>,
}

static PROGRAMS: LazyLock<HashMap<&'static str, Vec<Program>>> = LazyLock::new(|| {
    let mut programs: HashMap<_, Vec<_>> = HashMap::new();
    for line in include_str!("programs.txt").lines() {
        if let Some((name, program)) = parse(line) {
            programs.entry(name).or_default().push(program);
        }
    }
    programs
});

/// The directories whose programs are the system's own.
const SYSTEM: &[&str] = &["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"];

/// Where servers keep the programs that the other end of sftp calls.
const SERVERS: &[&str] = &["/usr/lib/openssh/", "/usr/libexec/openssh/", "/usr/libexec/", "/usr/lib/ssh/"];

/// The name by which a program is known; `None` for one that lies elsewhere than the system's own.
pub(super) fn name(program: &str) -> Option<&str> {
    if !program.contains('/') {
        return Some(program);
    }
    let name = program.rsplit('/').next()?;
    let directory = program.strip_suffix(name)?;
    let server = SERVERS.contains(&directory) && name == "sftp-server";
    (server || SYSTEM.contains(&directory)).then_some(name)
}

/// Whether the table has a program of that name.
pub(super) fn is_known(name: &str) -> bool {
    PROGRAMS.contains_key(name)
}

/// What the program does with these arguments, and which of them are operands.
pub(super) fn look_up<'w>(name: &str, arguments: &'w [Word]) -> Option<(&'static Program, Vec<&'w Word>)> {
    PROGRAMS.get(name)?.iter().find_map(|program| Some((program, program.accept(arguments)?)))
}

/// A line of the table; `None` for comments. A test reads every line.
pub(super) fn parse(line: &'static str) -> Option<(&'static str, Program)> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?;
    let effect = match fields.next()? {
        "pure" => Effect::Pure,
        "session" => Effect::Session,
        "file" => Effect::File,
        "write" => Effect::Write,
        "network" => Effect::Network,
        "administer" => Effect::Administer,
        "code" => Effect::Code,
        _ => return None,
    };
    let class = fields.next()?.parse().ok()?;
    let operands = match fields.next()? {
        "none" => Operands::None,
        "names" => Operands::Names,
        "reads" => Operands::Reads,
        "writes" => Operands::Writes,
        "first" => Operands::First,
        "last" => Operands::Last,
        _ => return None,
    };
    let mut program = Program { effect, class, operands, pages: false, arguments: None };
    let mut arguments = Arguments::default();
    let mut any = false;
    for field in fields {
        let list = |list: &'static str| Some(list.split(',').collect::<Vec<_>>());
        match field {
            "any" => any = true,
            "pager" => program.pages = true,
            "number" => arguments.number = true,
            "sub=" => arguments.first = None,
            _ => {
                if let Some(long) = field.strip_prefix("--") {
                    arguments.long.push(long);
                } else if let Some(short) = field.strip_prefix('-') {
                    arguments.short = short;
                } else if let Some(short) = field.strip_prefix('+') {
                    arguments.short_with_value = short;
                } else if let Some(most) = field.strip_prefix("max=") {
                    arguments.most_operands = Some(most.parse().ok()?);
                } else if let Some(words) = field.strip_prefix("sub=") {
                    arguments.first = list(words);
                } else {
                    arguments.second = list(field.strip_prefix("then=")?);
                }
            }
        }
    }
    // `any` beside a subcommand means any argument behind it.
    if !any || arguments.first.is_some() {
        if any {
            arguments.long.push(ANY);
        }
        program.arguments = Some(arguments);
    }
    Some((name, program))
}

/// Stands among the long options where all are accepted.
const ANY: &str = "*";

impl Program {
    fn accept<'w>(&self, words: &'w [Word]) -> Option<Vec<&'w Word>> {
        let Some(arguments) = &self.arguments else {
            return Some(
                words.iter().filter(|word| !word.text.starts_with('-') || word.text == "-").collect(),
            );
        };
        let operands = arguments.operands(words)?;
        let whole = |operand: Option<&&Word>, of: &Option<Vec<&str>>| {
            of.as_ref().is_none_or(|of| {
                operand.and_then(|word| word.known()).is_some_and(|known| of.contains(&known))
            })
        };
        let few = arguments.most_operands.is_none_or(|most| {
            operands.len() <= most && (most >= MANY || operands.iter().all(|word| !word.several))
        });
        (few && whole(operands.first(), &arguments.first) && whole(operands.get(1), &arguments.second))
            .then_some(operands)
    }
}

/// From this bound on, a pattern that becomes several words is no matter.
const MANY: usize = 16;

impl Arguments {
    fn operands<'w>(&self, words: &'w [Word]) -> Option<Vec<&'w Word>> {
        let mut operands = Vec::new();
        if self.long.contains(&ANY) {
            return words.first().filter(|word| !word.can_be_option()).map(|first| vec![first]);
        }
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.can_be_option() {
                operands.push(word);
                continue;
            }
            let text = word.known()?;
            if text == "--" {
                operands.extend(words);
                break;
            }
            if let Some(long) = text.strip_prefix("--") {
                self.long(long, &mut words)?;
            } else if text == "-" {
                operands.push(word);
            } else if !(self.number && text.bytes().skip(1).all(|byte| byte.is_ascii_digit())) {
                self.bundle(text, &mut words)?;
            }
        }
        Some(operands)
    }

    /// `--long`, `--long=value` or `--long value`, never cut short.
    fn long<'w>(&self, text: &str, words: &mut impl Iterator<Item = &'w Word>) -> Option<()> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let of = |known: &&&str| known.trim_end_matches(['=', '?']) == name;
        match (self.long.iter().find(of)?, value) {
            (long, Some(_)) => long.ends_with(['=', '?']).then_some(()),
            (long, None) if long.ends_with('=') => words.next().filter(|value| !value.several).map(|_| ()),
            (_, None) => Some(()),
        }
    }

    /// `-abc`, of which the last may have a value, attached or as the next word.
    fn bundle<'w>(&self, text: &str, words: &mut impl Iterator<Item = &'w Word>) -> Option<()> {
        let mut letters = text.strip_prefix('-')?.chars();
        while let Some(letter) = letters.next() {
            if self.short_with_value.contains(letter) {
                if letters.as_str().is_empty() && !self.short.contains(letter) {
                    words.next().filter(|value| !value.several)?;
                }
                return Some(());
            }
            if !self.short.contains(letter) {
                return None;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read() {
        for line in
            include_str!("programs.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(parse(line).is_some(), "{line}");
        }
    }
}
