//! Through the syntax tree: every command at any depth, its redirections, assignments and substitutions.

use brush_parser::ast::{
    AndOr, AndOrList, AssignmentName, AssignmentValue, BinaryPredicate, Command, CommandPrefixOrSuffixItem,
    CompoundCommand, CompoundList, ExtendedTestExpr, IoFileRedirectKind, IoFileRedirectTarget, IoRedirect,
    Pipeline, SimpleCommand, UnaryPredicate, Word as Raw,
};
use vocabulary::{Class, Effect, Usage};

use super::facts::Found;
use super::word::{self, Word};
use super::{Reason, Terminal, limits, scp, syntax};

/// Looks at a text and keeps what it finds.
#[derive(Debug)]
pub(super) struct Walk {
    pub found: Found,
    /// Whether what runs here may write to a terminal.
    pub terminal: bool,
    /// Whether what runs here reads text that was fetched or decoded.
    pub fed: Fed,
    programs: usize,
    depth: usize,
    /// How many programs run the one at hand.
    pub wrapped: usize,
    /// Whether the command at hand is all that the client's text is.
    pub alone: bool,
}

/// Where the standard input of a command comes from.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Fed {
    pub fetched: bool,
    pub decoded: bool,
}

/// What is around the words of a simple command.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Standard input that the text itself gives: a here-document or here-string. The inner `None` is one that is not
    /// known.
    pub input: Option<Option<String>>,
    /// Names that are set for this command alone.
    pub set: Vec<(String, Option<Word>)>,
}

impl Walk {
    pub fn new(terminal: Terminal) -> Self {
        Self {
            found: Found::default(),
            terminal: terminal == Terminal::Possible,
            fed: Fed::default(),
            programs: 0,
            depth: 0,
            wrapped: 0,
            alone: false,
        }
    }

    /// A whole text: the command line, the inside of a substitution, or code that a shell is given.
    pub fn text(&mut self, text: &str) -> Result<(), Reason> {
        self.depth += 1;
        if self.depth > limits::MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        let program = syntax::parse(text)?;
        let outer = std::mem::replace(&mut self.alone, self.depth == 1 && scp::is_alone(&program));
        for list in &program.complete_commands {
            self.list(list)?;
        }
        self.alone = outer;
        self.depth -= 1;
        Ok(())
    }

    /// Counts a program.
    pub fn count(&mut self) -> Result<(), Reason> {
        self.programs += 1;
        if self.programs > limits::MAX_PROGRAMS || self.found.is_too_much() {
            return Err(Reason::TooLong);
        }
        Ok(())
    }

    fn list(&mut self, list: &CompoundList) -> Result<(), Reason> {
        list.0.iter().try_for_each(|item| self.and_or(&item.0))
    }

    fn and_or(&mut self, list: &AndOrList) -> Result<(), Reason> {
        self.pipeline(&list.first)?;
        list.additional.iter().try_for_each(|next| match next {
            AndOr::And(pipeline) | AndOr::Or(pipeline) => self.pipeline(pipeline),
        })
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<(), Reason> {
        let (terminal, fed) = (self.terminal, self.fed);
        let last = pipeline.seq.len().saturating_sub(1);
        for (index, command) in pipeline.seq.iter().enumerate() {
            self.terminal = terminal && index == last;
            let known = (self.found.fetches, self.found.decodes);
            (self.found.fetches, self.found.decodes) = (false, false);
            self.command(command)?;
            self.fed.fetched |= self.found.fetches;
            self.fed.decoded |= self.found.decodes;
            self.found.fetches |= known.0;
            self.found.decodes |= known.1;
        }
        (self.terminal, self.fed) = (terminal, fed);
        Ok(())
    }

    fn command(&mut self, command: &Command) -> Result<(), Reason> {
        let terminal = self.terminal;
        let done = match command {
            Command::Simple(simple) => self.simple(simple),
            Command::Compound(compound, redirects) => {
                let mut around = Around::default();
                let redirects = redirects.iter().flat_map(|list| &list.0);
                redirects.into_iter().try_for_each(|redirect| self.redirect(redirect, &mut around))?;
                self.compound(compound)
            }
            Command::Function(function) => {
                // What its name means from here on is no longer what the table says.
                self.found.class(Class::Execute);
                let mut around = Around::default();
                let redirects = function.body.1.iter().flat_map(|list| &list.0);
                redirects.into_iter().try_for_each(|redirect| self.redirect(redirect, &mut around))?;
                self.compound(&function.body.0)
            }
            Command::ExtendedTest(test, redirects) => {
                let mut around = Around::default();
                let redirects = redirects.iter().flat_map(|list| &list.0);
                redirects.into_iter().try_for_each(|redirect| self.redirect(redirect, &mut around))?;
                self.extended_test(&test.expr)
            }
        };
        self.terminal = terminal;
        done
    }

    fn compound(&mut self, compound: &CompoundCommand) -> Result<(), Reason> {
        match compound {
            CompoundCommand::BraceGroup(group) => self.list(&group.list),
            CompoundCommand::Subshell(subshell) => self.list(&subshell.list),
            CompoundCommand::ForClause(clause) => {
                self.assigned(&clause.variable_name, None, false);
                clause.values.iter().flatten().try_for_each(|value| self.word(value).map(drop))?;
                self.list(&clause.body.list)
            }
            CompoundCommand::CaseClause(clause) => {
                self.word(&clause.value)?;
                clause.cases.iter().try_for_each(|case| {
                    case.patterns.iter().try_for_each(|pattern| self.word(pattern).map(drop))?;
                    case.cmd.iter().try_for_each(|list| self.list(list))
                })
            }
            CompoundCommand::IfClause(clause) => {
                self.list(&clause.condition)?;
                self.list(&clause.then)?;
                clause.elses.iter().flatten().try_for_each(|other| {
                    other.condition.iter().try_for_each(|list| self.list(list))?;
                    self.list(&other.body)
                })
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(&clause.0)?;
                self.list(&clause.1.list)
            }
            CompoundCommand::Coprocess(_) => Err(Reason::Ambiguous("a coprocess")),
            CompoundCommand::Arithmetic(_) | CompoundCommand::ArithmeticForClause(_) => {
                Err(Reason::Ambiguous("arithmetic with more than numbers"))
            }
        }
    }

    /// `[[ … ]]`. A shell that doesn't have it takes it for a program, and what stands in it for operators.
    fn extended_test(&mut self, test: &ExtendedTestExpr) -> Result<(), Reason> {
        let more = Err(Reason::Ambiguous("a [[ … ]] that does more than ask for one thing"));
        match test {
            ExtendedTestExpr::Not(inner) => self.extended_test(inner),
            ExtendedTestExpr::And(..) | ExtendedTestExpr::Or(..) | ExtendedTestExpr::Parenthesized(_) => more,
            ExtendedTestExpr::UnaryTest(
                UnaryPredicate::ShellVariableIsSetAndAssigned
                | UnaryPredicate::ShellVariableIsSetAndNameRef
                | UnaryPredicate::FdIsOpenTerminal
                | UnaryPredicate::ShellOptionEnabled,
                _,
            ) => more,
            ExtendedTestExpr::UnaryTest(_, operand) => {
                self.found.class(Class::Read);
                self.word(operand).map(drop)
            }
            ExtendedTestExpr::BinaryTest(
                BinaryPredicate::StringExactlyMatchesPattern
                | BinaryPredicate::StringDoesNotExactlyMatchPattern,
                left,
                right,
            ) => {
                self.found.class(Class::Read);
                self.word(left)?;
                self.word(right).map(drop)
            }
            ExtendedTestExpr::BinaryTest(..) => more,
        }
    }

    fn simple(&mut self, simple: &SimpleCommand) -> Result<(), Reason> {
        let known = (self.found.fetches, self.found.decodes);
        (self.found.fetches, self.found.decodes) = (false, false);
        let mut around = Around::default();
        let mut words = Vec::new();
        for item in simple.prefix.iter().flat_map(|prefix| &prefix.0) {
            match item {
                CommandPrefixOrSuffixItem::IoRedirect(redirect) => self.redirect(redirect, &mut around)?,
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) => {
                    let (AssignmentName::VariableName(name), AssignmentValue::Scalar(value)) =
                        (&assignment.name, &assignment.value)
                    else {
                        return Err(Reason::Ambiguous("an array"));
                    };
                    let value = self.word(value)?;
                    around.set.push((name.clone(), Some(value)));
                }
                CommandPrefixOrSuffixItem::Word(_) | CommandPrefixOrSuffixItem::ProcessSubstitution(..) => {
                    return Err(Reason::Syntax);
                }
            }
        }
        if let Some(name) = &simple.word_or_name {
            words.push(self.word(name)?);
        }
        for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
            match item {
                CommandPrefixOrSuffixItem::IoRedirect(redirect) => self.redirect(redirect, &mut around)?,
                CommandPrefixOrSuffixItem::Word(word)
                | CommandPrefixOrSuffixItem::AssignmentWord(_, word) => {
                    words.push(self.word(word)?);
                }
                CommandPrefixOrSuffixItem::ProcessSubstitution(_, subshell) => {
                    self.apart(|walk| walk.list(&subshell.list))?;
                    words.push(Word { text: "/dev/fd/…".to_owned(), ..Word::default() });
                }
            }
        }
        let fed = self.fed;
        self.fed.fetched |= self.found.fetches;
        self.fed.decoded |= self.found.decodes;
        if words.is_empty() {
            for (name, value) in std::mem::take(&mut around.set) {
                self.assigned(&name, value.as_ref(), false);
            }
        } else {
            self.run(&words, &around)?;
        }
        self.fed = fed;
        self.found.fetches |= known.0;
        self.found.decodes |= known.1;
        Ok(())
    }

    /// Something whose output goes elsewhere than the command's.
    fn apart(&mut self, look: impl FnOnce(&mut Self) -> Result<(), Reason>) -> Result<(), Reason> {
        let (terminal, fed) = (self.terminal, self.fed);
        self.terminal = false;
        look(self)?;
        (self.terminal, self.fed) = (terminal, fed);
        Ok(())
    }

    /// A word, and what runs in it.
    fn word(&mut self, raw: &Raw) -> Result<Word, Reason> {
        let word = if raw.value.is_empty() { Word::plain("") } else { word::read(&raw.value)? };
        self.inner(&word)?;
        Ok(word)
    }

    fn inner(&mut self, word: &Word) -> Result<(), Reason> {
        word.inner.iter().try_for_each(|inner| self.apart(|walk| walk.text(inner)))
    }

    fn redirect(&mut self, redirect: &IoRedirect, around: &mut Around) -> Result<(), Reason> {
        match redirect {
            IoRedirect::File(descriptor, kind, target) => {
                let target = match target {
                    IoFileRedirectTarget::Filename(word) | IoFileRedirectTarget::Duplicate(word) => {
                        self.word(word)?
                    }
                    IoFileRedirectTarget::Fd(_) => return Ok(()),
                    IoFileRedirectTarget::ProcessSubstitution(_, subshell) => {
                        return self.apart(|walk| walk.list(&subshell.list));
                    }
                };
                let standard_output = descriptor.is_none_or(|descriptor| descriptor == 1);
                match kind {
                    IoFileRedirectKind::Read => {
                        self.reads(&target);
                        self.opened(&target);
                    }
                    IoFileRedirectKind::Write | IoFileRedirectKind::Append | IoFileRedirectKind::Clobber => {
                        self.terminal &= !standard_output;
                        self.writes_to(&target);
                    }
                    IoFileRedirectKind::ReadAndWrite => {
                        self.reads(&target);
                        self.writes_to(&target);
                    }
                    IoFileRedirectKind::DuplicateInput => {
                        if !is_descriptor(&target) {
                            return Err(Reason::Ambiguous("a file behind <&"));
                        }
                    }
                    // `>&file` is `&>file` in bash.
                    IoFileRedirectKind::DuplicateOutput if is_descriptor(&target) => {}
                    IoFileRedirectKind::DuplicateOutput => self.writes_to(&target),
                }
            }
            IoRedirect::OutputAndError(target, _) => {
                let target = self.word(target)?;
                self.terminal = false;
                self.writes_to(&target);
            }
            IoRedirect::HereDocument(_, document) => {
                let body = if document.requires_expansion {
                    word::read_body(&document.doc.value)?
                } else {
                    Word::plain(&document.doc.value)
                };
                self.inner(&body)?;
                around.input = Some(body.known().map(str::to_owned));
            }
            IoRedirect::HereString(_, text) => {
                let text = self.word(text)?;
                around.input = Some(text.known().map(str::to_owned));
            }
        }
        Ok(())
    }

    /// bash opens connections for files of this name.
    fn opened(&mut self, target: &Word) {
        if target.text.starts_with("/dev/tcp/") || target.text.starts_with("/dev/udp/") {
            self.found.function("/dev/tcp", Effect::Network);
            self.found.class(Class::Execute);
            self.found.fetches = true;
        }
    }

    fn writes_to(&mut self, target: &Word) {
        let nowhere = ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"];
        if target.known().is_some_and(|known| nowhere.contains(&known)) {
            return;
        }
        self.opened(target);
        self.writes(target);
    }

    /// A file is read.
    pub fn reads(&mut self, file: &Word) {
        self.found.object(&file.text, Usage::Read);
        // Opening a device may do something: a watchdog's reboots the machine.
        let harmless =
            ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/stdin", "/dev/tty"];
        let device = file.text.starts_with("/dev/") && !file.text.starts_with("/dev/fd/");
        self.found.class(if device && !harmless.contains(&file.text.as_str()) {
            Class::Unknown
        } else {
            Class::Read
        });
    }

    /// A file is written.
    pub fn writes(&mut self, file: &Word) {
        self.found.object(&file.text, Usage::Write);
        self.found.class(if is_of_the_system(&file.text) { Class::Administer } else { Class::Write });
    }

    /// A variable is set, by an assignment, a loop or a command.
    pub fn assigned(&mut self, name: &str, value: Option<&Word>, local: bool) {
        self.found.setting(name, value.and_then(Word::known), local);
        self.found.class(if changes_programs(name, value) { Class::Execute } else { Class::Session });
    }
}

/// `2>&1`, `<&-`.
fn is_descriptor(word: &Word) -> bool {
    word.known().is_some_and(|text| {
        let digits = text.strip_suffix('-').unwrap_or(text);
        digits.len() <= limits::DESCRIPTOR_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether writing there changes how the machine or the account works. What is missed here is still a write.
fn is_of_the_system(path: &str) -> bool {
    const ROOTS: &[&str] = &[
        "/etc/",
        "/usr/",
        "/bin/",
        "/sbin/",
        "/lib",
        "/boot/",
        "/dev/",
        "/proc/",
        "/sys/",
        "/root/",
        "/var/spool/cron",
    ];
    const FILES: &[&str] = &[
        ".ssh",
        "authorized_keys",
        ".bashrc",
        ".bash_profile",
        ".bash_login",
        ".bash_logout",
        ".profile",
        ".zshrc",
        ".zshenv",
        ".zprofile",
        ".config",
        ".gitconfig",
        ".vimrc",
        ".pam_environment",
        "sudoers",
        "sudoers.d",
    ];
    ROOTS.iter().any(|root| path.starts_with(root)) || path.split('/').any(|part| FILES.contains(&part))
}

/// Whether setting the variable can change what programs do. Names that nothing but the text's own commands looks at
/// are lower-case by custom; the exceptions are zsh's and those of proxies.
fn changes_programs(name: &str, value: Option<&Word>) -> bool {
    const HARMLESS: &[&str] = &["LANG", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "DEBIAN_FRONTEND"];
    const SPECIAL: &[&str] = &[
        "path",
        "fpath",
        "cdpath",
        "mailpath",
        "manpath",
        "module_path",
        "fignore",
        "histchars",
        "prompt",
        "psvar",
        "watch",
        "argv",
        "status",
        "pipestatus",
        "signals",
        "commands",
        "functions",
        "aliases",
        "galiases",
        "saliases",
        "builtins",
        "options",
        "parameters",
        "modules",
        "term",
        "home",
        "shell",
        "user",
        "cwd",
        "precmd",
        "preexec",
        "chpwd",
        "periodic",
        "zshexit",
        "filec",
        "history",
        "noglob",
        "keymaps",
        "widgets",
        "nameddirs",
        "userdirs",
        "jobstates",
    ];
    if HARMLESS.contains(&name) || name.starts_with("LC_") {
        // The locale's name must not lead to a file.
        return !value.and_then(Word::known).is_some_and(|value| name == "TZ" || !value.contains('/'));
    }
    let own = word::is_variable(name)
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
        && !name.starts_with('_');
    !own || SPECIAL.contains(&name)
        || name.ends_with("_proxy")
        || name.starts_with("ld_")
        || name.starts_with("prompt")
}
