//! One word as a shell reads it: its quotes taken off, and what of it is decided only when it runs.
//!
//! The reader knows the expansions whose extent is the same in bash, dash, ksh and zsh, and refuses all others: a
//! word that two shells end at different places is no word to judge by.

use super::Reason;
use super::lexer::Lexer;

/// A word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Word {
    /// Without quotes. What is decided only when it runs stands as it was written: `$HOME/x`, `*.log`.
    pub text: String,
    /// Whether `text` is what the program gets.
    pub literal: bool,
    /// Whether it can become no word at all, or several.
    pub several: bool,
    /// Whether what comes of it can begin with a dash although the text doesn't.
    pub dash: bool,
    /// Texts of the command substitutions in it.
    pub inner: Vec<String>,
}

impl Word {
    /// A word that is what it says.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), literal: true, ..Self::default() }
    }

    /// Words that come from elsewhere: the lines that xargs reads.
    pub fn unknown() -> Self {
        Self { several: true, dash: true, text: "…".to_owned(), ..Self::default() }
    }

    /// What the program gets, if the text tells.
    pub fn known(&self) -> Option<&str> {
        self.literal.then_some(self.text.as_str())
    }

    /// Whether a program can take it for an option.
    pub fn can_be_option(&self) -> bool {
        self.dash || self.text.starts_with('-')
    }

    fn ends_sure(&mut self) {
        // What stands before decides what the word begins with.
        if self.text.is_empty() {
            self.dash = true;
        }
        self.literal = false;
    }
}

/// Reads all of `raw`, which the lexer has cut out as one word.
pub(super) fn read(raw: &str) -> Result<Word, Reason> {
    let mut lexer = Lexer::new(raw);
    let word = lexer.word()?;
    if lexer.at_end() { Ok(word) } else { Err(Reason::Syntax) }
}

/// What expands in the body of a here-document whose tag is not quoted.
pub(super) fn read_body(raw: &str) -> Result<Word, Reason> {
    let mut lexer = Lexer::new(raw);
    let mut word = Word { literal: true, ..Word::default() };
    lexer.quoted(&mut word, None)?;
    Ok(word)
}

/// Characters that may stand in a name.
pub(super) const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `text` is a variable's name.
pub(super) fn is_variable(text: &str) -> bool {
    text.bytes().all(is_name) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

impl Lexer<'_> {
    /// Reads a word up to the blank or operator behind it. There is one: the caller has looked.
    pub(super) fn word(&mut self) -> Result<Word, Reason> {
        let start = self.at;
        let mut word = Word { literal: true, ..Word::default() };
        let mut braces = false;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b')' => break,
                b'<' | b'>' => {
                    // `{fd}>file` is a redirection in bash, a word and a redirection in dash.
                    if self.text.as_bytes().get(self.at.wrapping_sub(1)) == Some(&b'}') {
                        return Err(Reason::Ambiguous("a brace in front of a redirection"));
                    }
                    break;
                }
                b'(' => break,
                b'\'' => {
                    self.at += 1;
                    let end = self.find(b'\'').ok_or(Reason::Syntax)?;
                    word.text.push_str(self.slice(self.at, end));
                    self.at = end + 1;
                }
                b'"' => {
                    self.at += 1;
                    self.quoted(&mut word, Some(b'"'))?;
                }
                b'\\' => {
                    self.at += 1;
                    let escaped = self.next_char().ok_or(Reason::Syntax)?;
                    if escaped == '\n' {
                        return Err(Reason::Ambiguous("a line that is continued within a word"));
                    }
                    word.text.push(escaped);
                }
                b'$' => self.dollar(&mut word, false)?,
                b'`' => self.backquoted(&mut word, false)?,
                b'*' | b'?' | b'[' => {
                    if byte == b'[' {
                        self.subscript(start)?;
                    }
                    if !(byte == b'[' && self.is_test_bracket(start)) {
                        word.ends_sure();
                        word.several = true;
                    }
                    word.text.push(char::from(byte));
                    self.at += 1;
                }
                b'{' => {
                    braces = true;
                    word.text.push('{');
                    self.at += 1;
                }
                b'~' if self.at == start
                    || matches!(self.text.as_bytes().get(self.at - 1), Some(b':' | b'=')) =>
                {
                    // A home directory begins with a slash.
                    word.literal = false;
                    word.text.push('~');
                    self.at += 1;
                }
                _ => word.text.extend(self.next_char()),
            }
        }
        let raw = self.slice(start, self.at);
        // Without one of these nothing is made of the braces.
        if braces && (raw.contains(',') || raw.contains("..")) {
            word.literal = false;
            word.several = true;
            word.dash |= word.text.starts_with('{');
        }
        Ok(word)
    }

    /// `[` and `[[` as words of their own.
    fn is_test_bracket(&self, start: usize) -> bool {
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let brackets = rest.iter().take(3).take_while(|byte| **byte == b'[').count();
        brackets <= 2 && matches!(rest.get(brackets), None | Some(b' ' | b'\t' | b'\n'))
    }

    /// `NAME[…` may become an assignment to an array's element, whose subscript is computed and may run commands; it
    /// passes only if it is a pattern of letters and digits.
    fn subscript(&self, start: usize) -> Result<(), Reason> {
        if !is_variable(self.slice(start, self.at)) {
            return Ok(());
        }
        let rest = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
        let plain =
            rest.iter().take_while(|byte| is_name(**byte) || matches!(byte, b'-' | b'^' | b'!')).count();
        match (rest.get(plain), rest.get(plain + 1)) {
            (Some(b']'), Some(b'=' | b'+')) => Err(Reason::Ambiguous("an array's element")),
            (Some(b']'), _) => Ok(()),
            _ => Err(Reason::Ambiguous("a bracket behind a name")),
        }
    }

    /// Within double quotes, up to `end`, which is consumed; or the body of a here-document, up to its end.
    pub(super) fn quoted(&mut self, word: &mut Word, end: Option<u8>) -> Result<(), Reason> {
        loop {
            match self.peek() {
                None if end.is_none() => return Ok(()),
                None => return Err(Reason::Syntax),
                Some(byte) if Some(byte) == end => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(byte @ (b'$' | b'`' | b'"' | b'\\')) => {
                            // In a here-document a double quote is as any other character.
                            if byte == b'"' && end.is_none() {
                                word.text.push('\\');
                            }
                            word.text.push(char::from(byte));
                            self.at += 1;
                        }
                        Some(b'\n') if end.is_some() => self.at += 1,
                        // In a here-document it may join lines into the tag.
                        Some(b'\n') => return Err(Reason::Ambiguous("a continued line in a here-document")),
                        _ => word.text.push('\\'),
                    }
                }
                Some(b'$') => self.dollar(word, true)?,
                Some(b'`') => self.backquoted(word, true)?,
                Some(_) => word.text.extend(self.next_char()),
            }
        }
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Result<(), Reason> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'(') if self.peek_at(1) == Some(b'(') => self.arithmetic()?,
            Some(b'(') => {
                self.at += 1;
                let inner = self.at;
                self.substitution()?;
                word.inner.push(self.slice(inner, self.at - 1).to_owned());
            }
            Some(b'{') => self.braced()?,
            Some(b'\'') if !quoted => {
                // bash decodes it; dash takes the dollar as it is. They agree on the end unless a quote is escaped.
                self.at += 1;
                let end = self.find(b'\'').ok_or(Reason::Syntax)?;
                if self.slice(start, end).ends_with('\\') {
                    return Err(Reason::Ambiguous("an escaped quote in $'…'"));
                }
                self.at = end + 1;
                word.ends_sure();
                word.text.push_str(self.slice(start, self.at));
                return Ok(());
            }
            Some(b'"') if !quoted => return Err(Reason::Ambiguous("$\"…\", which is translated")),
            Some(b'[') => return Err(Reason::Ambiguous("$[…], which is computed")),
            Some(byte) if is_name(byte) => {
                let all = !byte.is_ascii_digit();
                self.at += 1;
                while all && self.peek().is_some_and(is_name) {
                    self.at += 1;
                }
                // zsh computes a subscript there.
                if !quoted && self.peek() == Some(b'[') {
                    return Err(Reason::Ambiguous("a bracket behind a variable"));
                }
            }
            Some(b'?' | b'#' | b'@' | b'*' | b'$' | b'!' | b'-') => self.at += 1,
            _ => {
                word.text.push('$');
                return Ok(());
            }
        }
        expanded(word, self.slice(start, self.at), quoted);
        Ok(())
    }

    /// `${NAME}`, `${#NAME}` and those with a plain word behind an operator.
    fn braced(&mut self) -> Result<(), Reason> {
        self.at += 1;
        let end = self.find(b'}').ok_or(Reason::Syntax)?;
        let all = self.slice(self.at, end);
        let unknown = Err(Reason::Ambiguous("an expansion that may do more than look at a variable"));
        let measured = all.strip_prefix('#').filter(|name| !name.is_empty());
        if let Some(name) = measured {
            if !(is_variable(name) || matches!(name, "@" | "*")) {
                return unknown;
            }
        } else {
            let letters = all.bytes().take_while(|byte| is_name(*byte)).count();
            let special = usize::from(letters == 0 && all.starts_with(['?', '#', '@', '*', '$', '-']));
            let Some((name, rest)) = all.split_at_checked(letters.max(special)) else { return unknown };
            if name.is_empty()
                || !(is_variable(name) || special == 1 || name.bytes().all(|byte| byte.is_ascii_digit()))
            {
                return unknown;
            }
            let value = match rest.strip_prefix(':') {
                Some(rest) => rest.strip_prefix(['-', '+', '?']),
                None if rest.is_empty() => Some(""),
                None => rest.strip_prefix(['-', '+', '?', '%', '#']),
            };
            let plain = |byte: u8| is_name(byte) || b"./:@%+,=*?#- ".contains(&byte);
            if !value.is_some_and(|value| value.bytes().all(plain)) {
                return unknown;
            }
        }
        self.at = end + 1;
        Ok(())
    }

    /// `$((…))` of numbers. A name in it is computed in turn and may run commands.
    fn arithmetic(&mut self) -> Result<(), Reason> {
        self.at += 2;
        let end = self.find(b')').ok_or(Reason::Syntax)?;
        let plain = |byte: u8| byte.is_ascii_digit() || b"+-*/% ".contains(&byte);
        if !self.slice(self.at, end).bytes().all(plain) || self.peek_from(end + 1) != Some(b')') {
            return Err(Reason::Ambiguous("arithmetic with more than numbers"));
        }
        self.at = end + 2;
        Ok(())
    }

    /// `` `…` `` without quotes and escapes in it, whose meaning differs by where they stand.
    fn backquoted(&mut self, word: &mut Word, quoted: bool) -> Result<(), Reason> {
        let start = self.at;
        self.at += 1;
        let end = self.find(b'`').ok_or(Reason::Syntax)?;
        let inner = self.slice(self.at, end);
        if inner.contains(['\\', '\'', '"', '#']) {
            return Err(Reason::Ambiguous("quotes within backquotes"));
        }
        word.inner.push(inner.to_owned());
        self.at = end + 1;
        expanded(word, self.slice(start, self.at), quoted);
        Ok(())
    }
}

fn expanded(word: &mut Word, raw: &str, quoted: bool) {
    word.ends_sure();
    if !quoted {
        // What it holds may be split, and the second half may begin with a dash.
        word.several = true;
        word.dash = true;
    }
    word.text.push_str(raw);
}
