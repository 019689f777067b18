//! From a text to words and operators.
//!
//! The grammar is brush-parser's; its tokens come from here, because a token's end is where readings differ. What bash,
//! dash, ksh and zsh would cut in different places is refused ([`Reason::Ambiguous`]). The cuts also bound what the
//! grammar is given: it goes back over what is nested, so nesting costs it time and stack.

use super::{Reason, limits, word};

/// A word or operator, with where it stands in the text, in bytes.
#[derive(Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug)]
pub(super) enum TokenKind {
    Word,
    Operator,
    /// The body of a here-document, filled in when its line comes.
    Body(String),
}

/// What is open and must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    Paren,
    Case,
    If,
    Loop,
    Do,
    Brace,
}

/// A here-document that is announced, and whose body begins on the next line.
struct Announced {
    token: usize,
    tag: String,
    strips_tabs: bool,
}

pub(super) struct Lexer<'t> {
    pub text: &'t str,
    pub at: usize,
    /// How many command substitutions it is in.
    depth: usize,
    tokens: Vec<Token>,
}

/// Longest first.
const OPERATORS: &[&str] = &[
    "<<<", "<<-", "&>>", ";;&", "&&", "||", ";;", ";&", "<<", ">>", "<&", ">&", "<>", ">|", "&>", "|&", "&",
    "|", ";", "<", ">", "(", ")",
];

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Reason> {
    let mut lexer = Lexer::new(text);
    lexer.commands()?;
    Ok(lexer.tokens)
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0, tokens: Vec::new() }
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub fn peek(&self) -> Option<u8> {
        self.peek_from(self.at)
    }

    pub fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.peek_from(self.at + ahead)
    }

    pub fn peek_from(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    pub fn next_char(&mut self) -> Option<char> {
        let next = self.text.get(self.at..)?.chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Where the next such byte stands.
    pub fn find(&self, byte: u8) -> Option<usize> {
        let rest = self.text.as_bytes().get(self.at..)?;
        memchr::memchr(byte, rest).map(|found| self.at + found)
    }

    pub fn slice(&self, start: usize, end: usize) -> &'t str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// What stands between `$(` and its `)`, both of which it consumes. The inside is read again by who judges it.
    pub fn substitution(&mut self) -> Result<(), Reason> {
        self.depth += 1;
        if self.depth > limits::MAX_DEPTH {
            return Err(Reason::TooDeep);
        }
        let outer = std::mem::take(&mut self.tokens);
        let done = self.commands();
        self.tokens = outer;
        self.depth -= 1;
        done
    }

    /// Commands up to the end of the text, or up to the parenthesis that ends a substitution.
    fn commands(&mut self) -> Result<(), Reason> {
        let mut open: Vec<Open> = Vec::new();
        let mut announced: Vec<Announced> = Vec::new();
        // Whether a reserved word would be one here.
        let mut first = true;
        // Whether the next word belongs to an operator before it.
        let mut operand = false;
        loop {
            if self.tokens.len() > limits::MAX_TOKENS {
                return Err(Reason::TooLong);
            }
            let start = self.at;
            match self.peek() {
                None if self.depth > 0 || !announced.is_empty() => return Err(Reason::Syntax),
                None => return Ok(()),
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\\') if self.peek_at(1) == Some(b'\n') => {
                    let before = start.checked_sub(1).and_then(|before| self.peek_from(before));
                    if !matches!(before, None | Some(b' ' | b'\t' | b'\n')) {
                        return Err(Reason::Ambiguous("a line that is continued within a word"));
                    }
                    self.at += 2;
                }
                Some(b'#') => {
                    if self.depth > 0 {
                        return Err(Reason::Ambiguous("a comment in a substitution"));
                    }
                    self.at = self.find(b'\n').unwrap_or(self.text.len());
                }
                Some(b'\n') => {
                    self.at += 1;
                    self.push(TokenKind::Operator, start);
                    for document in announced.drain(..) {
                        self.body(&document)?;
                    }
                    (first, operand) = (true, false);
                }
                Some(b'&' | b'|' | b';' | b'<' | b'>' | b'(' | b')') => {
                    let operator = self.operator();
                    self.at += operator.len();
                    match operator {
                        "(" => {
                            self.parenthesis(start)?;
                            nest(&mut open, Open::Paren)?;
                            (first, operand) = (true, false);
                        }
                        ")" => {
                            match open.last() {
                                Some(Open::Paren) => {
                                    open.pop();
                                }
                                Some(Open::Case) => {}
                                None if self.depth > 0 => return Ok(()),
                                _ => return Err(Reason::Syntax),
                            }
                            (first, operand) = (true, false);
                        }
                        "<<" | "<<-" => {
                            self.push(TokenKind::Operator, start);
                            announced.push(self.here_document(operator == "<<-")?);
                            continue;
                        }
                        "<" | ">" | ">>" | "<&" | ">&" | "<>" | ">|" | "&>" | "&>>" | "<<<" => operand = true,
                        _ => (first, operand) = (true, false),
                    }
                    self.push(TokenKind::Operator, start);
                }
                Some(_) => {
                    self.word()?;
                    let raw = self.slice(start, self.at);
                    // The grammar recurs for each.
                    if raw == "!"
                        && self.tokens.last().is_some_and(|last| self.slice(last.start, last.end) == "!")
                    {
                        return Err(Reason::TooDeep);
                    }
                    self.push(TokenKind::Word, start);
                    self.behind_word(raw)?;
                    if std::mem::take(&mut operand) {
                        continue;
                    }
                    first = first && self.reserved(raw, &mut open)?;
                }
            }
        }
    }

    fn push(&mut self, kind: TokenKind, start: usize) {
        self.tokens.push(Token { kind, start, end: self.at });
    }

    fn operator(&self) -> &'static str {
        let rest = self.slice(self.at, self.text.len());
        OPERATORS.iter().copied().find(|operator| rest.starts_with(operator)).unwrap_or(")")
    }

    /// An opening parenthesis: of a subshell, a function, a process substitution or a pattern. Two of them are
    /// arithmetic in some shells; one right behind a word is a pattern or an array.
    fn parenthesis(&self, start: usize) -> Result<(), Reason> {
        if self.peek() == Some(b'(') {
            return Err(Reason::Ambiguous("two parentheses"));
        }
        let before = start.checked_sub(1).and_then(|before| self.peek_from(before));
        let behind_word =
            !matches!(before, None | Some(b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'(' | b'<' | b'>'));
        if behind_word && self.peek() != Some(b')') {
            return Err(Reason::Ambiguous("a parenthesis behind a word"));
        }
        Ok(())
    }

    fn behind_word(&self, raw: &str) -> Result<(), Reason> {
        let redirected = matches!(self.peek(), Some(b'<' | b'>'));
        if redirected
            && raw.len() > limits::DESCRIPTOR_DIGITS
            && raw.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(Reason::Ambiguous("a file descriptor of many digits"));
        }
        if self.peek() == Some(b'(') && raw.ends_with(['?', '*', '+', '@', '!', '=', '$']) {
            return Err(Reason::Ambiguous("a parenthesis behind a word"));
        }
        Ok(())
    }

    /// Whether a reserved word can stand behind this one.
    fn reserved(&self, raw: &str, open: &mut Vec<Open>) -> Result<bool, Reason> {
        let close = |open: &mut Vec<Open>, what: Open| {
            if open.last() == Some(&what) {
                open.pop();
            }
        };
        match raw {
            "if" => nest(open, Open::If)?,
            "while" | "until" => nest(open, Open::Loop)?,
            "{" => nest(open, Open::Brace)?,
            "do" => {
                close(open, Open::Loop);
                nest(open, Open::Do)?;
            }
            "case" if self.depth > 0 => return Err(Reason::Ambiguous("a case in a substitution")),
            "case" => {
                nest(open, Open::Case)?;
                return Ok(false);
            }
            "for" | "select" => {
                nest(open, Open::Loop)?;
                return Ok(false);
            }
            "fi" => close(open, Open::If),
            "done" => close(open, Open::Do),
            "esac" => close(open, Open::Case),
            "}" => close(open, Open::Brace),
            "coproc" => return Err(Reason::Ambiguous("a coprocess")),
            "then" | "else" | "elif" | "!" | "time" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The tag behind `<<`.
    fn here_document(&mut self, strips_tabs: bool) -> Result<Announced, Reason> {
        if self.depth > 0 {
            return Err(Reason::Ambiguous("a here-document in a substitution"));
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| word::is_name(byte) || matches!(byte, b'\'' | b'"' | b'\\')) {
            self.at += 1;
        }
        let raw = self.slice(start, self.at);
        let tag = ['\'', '"']
            .into_iter()
            .find_map(|quote| raw.strip_prefix(quote)?.strip_suffix(quote))
            .or_else(|| raw.strip_prefix('\\'))
            .unwrap_or(raw);
        let ends = matches!(
            self.peek(),
            None | Some(b' ' | b'\t' | b'\n' | b';' | b'|' | b'&' | b'>' | b'<' | b')')
        );
        if tag.is_empty() || !tag.bytes().all(word::is_name) || !ends {
            return Err(Reason::Ambiguous("a here-document's tag"));
        }
        self.push(TokenKind::Word, start);
        let token = self.tokens.len();
        self.push(TokenKind::Body(String::new()), start);
        self.push(TokenKind::Word, start);
        Ok(Announced { token, tag: tag.to_owned(), strips_tabs })
    }

    /// Lines up to the one that is the tag.
    fn body(&mut self, document: &Announced) -> Result<(), Reason> {
        let mut body = String::new();
        loop {
            // A text that ends before the tag is accepted by some shells, with a warning.
            if self.at_end() {
                return Err(Reason::Syntax);
            }
            let end = self.find(b'\n').unwrap_or(self.text.len());
            let mut line = self.slice(self.at, end);
            self.at = (end + 1).min(self.text.len());
            if document.strips_tabs {
                line = line.trim_start_matches('\t');
            }
            if line == document.tag {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        if let Some(token) = self.tokens.get_mut(document.token) {
            token.kind = TokenKind::Body(body);
        }
        Ok(())
    }
}

/// Opens something, unless too much is open: the grammar's time doubles with each level of some of them.
fn nest(open: &mut Vec<Open>, what: Open) -> Result<(), Reason> {
    let alike = open.iter().filter(|other| **other == what).count();
    let most =
        if matches!(what, Open::Paren | Open::Case) { limits::MAX_DOUBLING } else { limits::MAX_NESTING };
    if alike >= most || open.len() >= limits::MAX_NESTING {
        return Err(Reason::TooDeep);
    }
    open.push(what);
    Ok(())
}
