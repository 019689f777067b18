//! What a simple command does: the program by the table, and those programs whose arguments are commands or code.

use vocabulary::{Class, Effect, Usage};

use super::programs::{self, Operands};
use super::walk::{Around, Walk};
use super::word::{self, Word};
use super::{DECODED, FETCHED, Reason, limits, scp, scripts};

/// Programs that bring text from elsewhere.
const FETCH: &[&str] = &[
    "curl", "wget", "nc", "ncat", "netcat", "socat", "ssh", "scp", "sftp", "ftp", "lynx", "aria2c", "telnet",
    "rsync", "git", "dig",
];

/// Programs that turn what nobody can read into text.
const DECODE: &[&str] = &[
    "base64", "base32", "xxd", "openssl", "uudecode", "gunzip", "zcat", "xzcat", "bzcat", "zstdcat", "gzip",
    "xz", "bzip2", "tr", "rev", "printf",
];

/// Shells whose code is read as code of ours.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "rbash"];

/// Runs a command with as many words as its options need in front: name, effect, options without and with a value,
/// words before the command.
const WRAPPERS: &[(&str, &str, &str, usize)] = &[
    ("nohup", "", "", 0),
    ("setsid", "fw", "", 0),
    ("nice", "", "n", 0),
    ("ionice", "t", "cn", 0),
    ("stdbuf", "", "ioe", 0),
    ("timeout", "v", "ks", 1),
    ("chrt", "bfior", "", 1),
    ("taskset", "", "", 1),
    ("time", "pv", "", 0),
    ("command", "p", "", 0),
    ("builtin", "", "", 0),
    ("exec", "cl", "a", 0),
];

/// Programs that this file knows and the table does not.
const SPECIAL: &[&str] = &[
    "eval", "env", "sudo", "doas", "busybox", "toybox", "xargs", "find", "read", "export", "unset", "test",
    "[", "printf", "date", "exit", "return", "break", "continue", "shift", "set", "tar", "rsync", "scp",
    "sed", "awk", "gawk", "mawk", "nawk",
];

/// Whether a program of that name is one we know something of: a policy may name it.
pub(super) fn is_known(name: &str) -> bool {
    programs::is_known(name)
        || SPECIAL.contains(&name)
        || SHELLS.contains(&name)
        || WRAPPERS.iter().any(|(wrapper, ..)| *wrapper == name)
}

impl Walk {
    /// A simple command that has a name.
    pub fn run(&mut self, words: &[Word], around: &Around) -> Result<(), Reason> {
        self.count()?;
        let for_one = words.first().and_then(Word::known);
        for (name, value) in &around.set {
            // IFS only matters to `read` here.
            if name == "IFS" && for_one == Some("read") {
                self.found.setting(name, value.as_ref().and_then(Word::known), true);
            } else {
                self.assigned(name, value.as_ref(), true);
            }
        }
        self.program(words, around)
    }

    /// The command that another one runs.
    fn wrapped(&mut self, words: &[Word], around: &Around) -> Result<(), Reason> {
        self.count()?;
        self.wrapped += 1;
        if self.wrapped > limits::MAX_WRAPPED {
            return Err(Reason::TooDeep);
        }
        self.program(words, around)?;
        self.wrapped -= 1;
        Ok(())
    }

    fn program(&mut self, words: &[Word], around: &Around) -> Result<(), Reason> {
        let Some((first, arguments)) = words.split_first() else { return Ok(()) };
        let Some(program) = first.known().filter(|program| !program.is_empty()) else {
            self.unknown(&first.text);
            return Ok(());
        };
        let Some(name) = programs::name(program) else {
            // A program of their own.
            self.found.program(program, Effect::Code, Class::Execute);
            arguments.iter().for_each(|word| self.mention(word));
            return Ok(());
        };
        self.found.fetches |= FETCH.contains(&name);
        self.found.decodes |= DECODE.contains(&name);
        if let Some((_, flags, values, before)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == name) {
            return self.wrapper(name, arguments, (flags, values, *before), around);
        }
        match name {
            _ if SHELLS.contains(&name) => self.shell(name, arguments, around),
            "eval" => self.eval(arguments),
            "env" => self.env(arguments, around),
            "sudo" | "doas" => self.sudo(name, arguments, around),
            "busybox" | "toybox" if !arguments.is_empty() => {
                self.found.program(name, Effect::Pure, Class::Session);
                self.wrapped(arguments, around)
            }
            "xargs" => self.xargs(arguments, around),
            "find" => self.find(arguments, around),
            "read" => {
                self.read(arguments);
                Ok(())
            }
            "export" | "unset" => {
                self.export(name, arguments);
                Ok(())
            }
            _ => {
                self.simple_program(name, arguments);
                Ok(())
            }
        }
    }

    /// A program whose arguments are neither commands nor, in the main, code.
    fn simple_program(&mut self, name: &str, arguments: &[Word]) {
        if name == "scp" && self.scp_half(arguments) {
            return;
        }
        let special = match name {
            "test" | "[" => Some(scripts::test(name, arguments)),
            "printf" => Some(scripts::printf(arguments)),
            "date" => Some(scripts::date(arguments)),
            "exit" | "return" | "break" | "continue" | "shift" => Some(scripts::number(arguments)),
            "set" => Some(scripts::set(arguments)),
            "tar" => scripts::tar(arguments),
            "rsync" => scripts::rsync_server(arguments),
            _ => None,
        };
        if let Some((effect, class)) = special {
            self.found.program(name, effect, class);
            if matches!(name, "tar" | "rsync") {
                arguments.iter().filter(|word| !word.can_be_option()).for_each(|word| self.mention(word));
            }
            return;
        }
        if let Some(files) = match name {
            "sed" => scripts::sed(arguments),
            "awk" | "gawk" | "mawk" | "nawk" => scripts::awk(arguments),
            _ => None,
        } {
            self.found.program(name, Effect::File, Class::Read);
            files.iter().for_each(|file| self.reads(file));
            return;
        }
        let Some((program, operands)) = programs::look_up(name, arguments) else {
            self.unknown(name);
            arguments.iter().for_each(|word| self.mention(word));
            return;
        };
        let pages = program.pages
            && self.terminal
            && !arguments.iter().any(|word| word.known() == Some("--no-pager"));
        let class = if pages { Class::Execute } else { program.class };
        self.found.program(name, program.effect, class);
        if program.effect == Effect::Code {
            self.code_from_outside();
        }
        match program.operands {
            Operands::None => {}
            Operands::Names => operands.iter().for_each(|file| self.found.object(&file.text, Usage::Read)),
            Operands::Reads => operands.iter().for_each(|file| self.reads(file)),
            Operands::Writes => operands.iter().for_each(|file| self.writes(file)),
            Operands::First => operands.iter().skip(1).for_each(|file| self.reads(file)),
            Operands::Last => {
                let (last, others) =
                    operands.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
                others.iter().for_each(|file| self.found.object(&file.text, Usage::Read));
                last.into_iter().for_each(|file| self.writes(file));
            }
        }
    }

    /// The other half of a client's `scp`, whose files are told one by one by who reads its protocol. Nobody does where
    /// the text does more than that: then it is code like any other `scp`. Whether it was that.
    fn scp_half(&mut self, arguments: &[Word]) -> bool {
        let Some(half) = scp::half(arguments).filter(|_| self.alone && self.wrapped == 0) else {
            return false;
        };
        self.found.program("scp", Effect::File, Class::Transfer);
        let usage = if half.takes { Usage::Write } else { Usage::Read };
        half.paths.iter().for_each(|path| self.found.object(&path.text, usage));
        true
    }

    fn unknown(&mut self, name: &str) {
        self.found.program(name, Effect::Unknown, Class::Unknown);
    }

    /// A word of a program of which it is not known what it does with its words: it is named if it looks like a path.
    fn mention(&mut self, word: &Word) {
        if word.text.contains('/') && !word.text.starts_with('-') {
            self.found.object(&word.text, Usage::Read);
        }
    }

    /// An interpreter takes its code from somewhere.
    fn code_from_outside(&mut self) {
        if self.fed.fetched {
            self.found.function(FETCHED, Effect::Code);
        }
        if self.fed.decoded {
            self.found.function(DECODED, Effect::Code);
        }
    }

    /// `sh -c 'code' name arguments`, `sh file`, `sh < code`.
    fn shell(&mut self, name: &str, arguments: &[Word], around: &Around) -> Result<(), Reason> {
        let mut has_code = false;
        let mut rest = arguments;
        while let Some((word, behind)) = rest.split_first() {
            if !word.can_be_option() && !word.text.starts_with('+') {
                break;
            }
            let Some(option) = word.known() else {
                self.unknown(name);
                return Ok(());
            };
            rest = behind;
            match option {
                "--" | "-" => break,
                "--login" | "--norc" | "--noprofile" | "--posix" => {}
                _ => {
                    let letters = option.strip_prefix('-').unwrap_or("+");
                    has_code |= letters.contains('c');
                    if !letters.bytes().all(|letter| b"celuxs".contains(&letter)) {
                        self.found.program(name, Effect::Code, Class::Execute);
                        self.unknown(name);
                        return Ok(());
                    }
                }
            }
        }
        if has_code && let Some((code, _)) = rest.split_first() {
            return match code.known() {
                Some(code) => {
                    self.found.program(name, Effect::Code, Class::Session);
                    self.text(code)
                }
                None => {
                    self.code_from_outside();
                    self.unknown(name);
                    Ok(())
                }
            };
        }
        self.found.program(name, Effect::Code, Class::Execute);
        if let Some((script, _)) = rest.split_first() {
            self.code_from_outside();
            self.reads(script);
            return Ok(());
        }
        self.code_from_outside();
        // What it is given to read is code: what that does is of interest, if it can be read.
        match &around.input {
            Some(Some(code)) => self.text(code),
            Some(None) => {
                self.unknown(name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Its words, joined, are code. Whoever needs it has something to hide from one reading: it is never harmless.
    fn eval(&mut self, arguments: &[Word]) -> Result<(), Reason> {
        self.found.program("eval", Effect::Code, Class::Execute);
        self.code_from_outside();
        let known: Option<Vec<&str>> = arguments.iter().map(Word::known).collect();
        if let Some(code) = known {
            return self.text(&code.join(" "));
        }
        self.unknown("eval");
        Ok(())
    }

    /// Programs that run the command behind their own words.
    fn wrapper(
        &mut self,
        name: &str,
        arguments: &[Word],
        (flags, values, before): (&str, &str, usize),
        around: &Around,
    ) -> Result<(), Reason> {
        if name == "command"
            && arguments.first().is_some_and(|word| matches!(word.known(), Some("-v" | "-V")))
        {
            self.found.program(name, Effect::Pure, Class::Read);
            return Ok(());
        }
        let Some(mut rest) = behind_options(arguments, flags, values) else {
            self.unknown(name);
            return Ok(());
        };
        for _ in 0..before {
            match rest.split_first() {
                Some((word, behind)) if !word.several => rest = behind,
                _ => {
                    self.unknown(name);
                    return Ok(());
                }
            }
        }
        if rest.is_empty() {
            // Without a command, exec redirects the shell itself, and the others say how they are used.
            self.found.program(name, Effect::Pure, Class::Read);
            return Ok(());
        }
        self.found.program(name, Effect::Pure, Class::Session);
        if name == "nohup" && self.terminal {
            self.found.object("nohup.out", Usage::Write);
            self.found.class(Class::Write);
        }
        self.wrapped(rest, around)
    }

    fn env(&mut self, arguments: &[Word], around: &Around) -> Result<(), Reason> {
        let Some(mut rest) = behind_options(arguments, "i0", "u") else {
            self.found.program("env", Effect::Code, Class::Execute);
            self.unknown("env");
            return Ok(());
        };
        if arguments.iter().any(|word| word.text.starts_with('-') && word.text.contains('u')) {
            // Which variables are missing decides where programs are looked for.
            self.found.class(Class::Execute);
        }
        if rest.first().is_some_and(|word| word.known() == Some("-")) {
            rest = rest.get(1..).unwrap_or_default();
        }
        self.found.program("env", Effect::Pure, if rest.is_empty() { Class::Read } else { Class::Session });
        while let Some((word, behind)) = rest.split_first() {
            let Some((name, value)) = word.text.split_once('=') else { break };
            if word.several {
                self.unknown("env");
                return Ok(());
            }
            let value = Word { text: value.to_owned(), ..word.clone() };
            self.assigned(name, Some(&value), true);
            rest = behind;
            if rest.is_empty() {
                self.found.class(Class::Read);
            }
        }
        if rest.is_empty() { Ok(()) } else { self.wrapped(rest, around) }
    }

    /// As another user: whatever it is, rights change hands.
    fn sudo(&mut self, name: &str, arguments: &[Word], around: &Around) -> Result<(), Reason> {
        self.found.program(name, Effect::Administer, Class::Administer);
        let Some(mut rest) = behind_options(arguments, "nHESbkP", "uggpCTRD") else {
            self.found.class(Class::Execute);
            self.mention_all(arguments);
            return Ok(());
        };
        while let Some((word, behind)) = rest.split_first() {
            let Some((variable, value)) =
                word.text.split_once('=').filter(|(variable, _)| word::is_variable(variable))
            else {
                break;
            };
            let value = Word { text: value.to_owned(), ..word.clone() };
            self.assigned(variable, Some(&value), true);
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { self.wrapped(rest, around) }
    }

    fn mention_all(&mut self, words: &[Word]) {
        words.iter().for_each(|word| self.mention(word));
    }

    /// The command gets more words, from its input.
    fn xargs(&mut self, arguments: &[Word], around: &Around) -> Result<(), Reason> {
        let Some(rest) = behind_options(arguments, "0rtx", "nPLsdaIE") else {
            self.unknown("xargs");
            return Ok(());
        };
        self.found.program("xargs", Effect::Pure, Class::Read);
        let own = arguments.get(..arguments.len() - rest.len()).unwrap_or_default();
        let replaced =
            own.iter().zip(own.iter().skip(1).map(Some).chain([None])).find_map(|(option, value)| {
                let attached = option.text.strip_prefix("-I")?;
                if attached.is_empty() {
                    value.map(|value| value.text.clone())
                } else {
                    Some(attached.to_owned())
                }
            });
        let marks = own.iter().filter(|word| word.text.starts_with('-') && word.text.contains('I')).count();
        if marks > usize::from(replaced.is_some()) {
            self.unknown("xargs");
            return Ok(());
        }
        let mut words: Vec<Word> = rest.to_vec();
        match replaced.filter(|mark| !mark.is_empty()) {
            Some(mark) => {
                for word in words.iter_mut().filter(|word| word.text.contains(mark.as_str())) {
                    *word = Word { text: word.text.clone(), ..Word::unknown() };
                }
            }
            None => words.push(Word::unknown()),
        }
        if rest.is_empty() { Ok(()) } else { self.wrapped(&words, around) }
    }

    fn find(&mut self, arguments: &[Word], around: &Around) -> Result<(), Reason> {
        let Some(found) = scripts::find(arguments) else {
            self.unknown("find");
            self.mention_all(arguments);
            return Ok(());
        };
        self.found.program("find", Effect::File, if found.writes { Class::Write } else { Class::Read });
        for start in found.starts {
            let usage = if found.writes { Usage::Write } else { Usage::Read };
            self.found.object(&start.text, usage);
        }
        for file in found.written {
            self.writes(file);
        }
        found.commands.iter().try_for_each(|command| self.wrapped(command, around))
    }

    /// Sets variables from its input.
    fn read(&mut self, arguments: &[Word]) {
        let names = match arguments.split_first() {
            Some((option, names)) if option.known() == Some("-r") => names,
            _ => arguments,
        };
        if names.iter().all(|name| name.known().is_some_and(word::is_variable)) {
            self.found.program("read", Effect::Session, Class::Session);
            names.iter().for_each(|name| self.assigned(&name.text, None, false));
        } else {
            self.unknown("read");
        }
    }

    fn export(&mut self, name: &str, arguments: &[Word]) {
        self.found.program(name, Effect::Session, Class::Session);
        for word in arguments {
            let (variable, value) =
                word.text.split_once('=').map_or((word.text.as_str(), None), |(variable, value)| {
                    (variable, Some(Word { text: value.to_owned(), ..word.clone() }))
                });
            if word.several || word.can_be_option() || !word::is_variable(variable) {
                self.unknown(name);
                return;
            }
            self.assigned(variable, value.as_ref(), false);
        }
    }
}

/// What stands behind the options of a program that takes none behind its first operand. `None` if there is an option
/// that is not in the lists.
fn behind_options<'w>(arguments: &'w [Word], flags: &str, values: &str) -> Option<&'w [Word]> {
    let mut rest = arguments;
    while let Some((word, behind)) = rest.split_first() {
        if !word.can_be_option() {
            break;
        }
        let text = word.known()?;
        if text == "-" {
            break;
        }
        rest = behind;
        if text == "--" {
            break;
        }
        let mut letters = text.strip_prefix('-')?.chars();
        while let Some(letter) = letters.next() {
            if values.contains(letter) {
                if letters.as_str().is_empty() {
                    let (value, behind) = rest.split_first()?;
                    if value.several {
                        return None;
                    }
                    rest = behind;
                }
                break;
            }
            if !flags.contains(letter) {
                return None;
            }
        }
    }
    Some(rest)
}
