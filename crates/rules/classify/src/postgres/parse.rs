//! From bytes to statements: what is refused unread, the call of the parser, where each statement stands.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vocabulary::{Class, Facts, SettingChange};

use super::names::Path;
use super::settings::{ClientEncoding, SearchPath, Settings};
use super::walk::{Environment, Walk};
use super::{Name, Parsed, Prepared, PreparedStatement, Statement, UNKNOWN_VALUE, UnknownReason, limits};

/// Judges a text. Never panics and never exhausts the stack, on any thread; time is bounded by
/// [`limits::MAX_TOKENS`] (around a second at the very most, some microseconds for what clients usually send).
#[must_use]
pub fn classify(text: &[u8], settings: &Settings, prepared: Prepared<'_>) -> Parsed {
    judge(text, settings, prepared).parsed
}

/// A verdict and how far it reaches.
pub(super) struct Verdict {
    pub parsed: Parsed,
    /// Whether another session with the same settings gets the same verdict.
    pub reusable: bool,
    /// Whether the same text with other constants gets the same verdict, but for where its end is.
    pub template: bool,
}

pub(super) fn judge(text: &[u8], settings: &Settings, prepared: Prepared<'_>) -> Verdict {
    let readable = match readable(text, settings) {
        Ok(readable) => readable,
        Err(reason) => return unknown(text, reason),
    };
    let (tokens, sign_work) = size(text);
    if tokens > limits::MAX_TOKENS {
        return unknown(text, UnknownReason::TooManyTokens);
    }
    if sign_work > limits::MAX_SIGN_WORK {
        return unknown(text, UnknownReason::TooManySteps);
    }
    // The parser is C and the walk calls accessors that assert: a panic there is a verdict, not an end.
    let judged = catch_unwind(AssertUnwindSafe(|| {
        if tokens <= limits::INLINE_TOKENS {
            return parse(readable, settings, prepared);
        }
        // EXECUTE is the only statement that asks for what is prepared, and a text so long isn't one: so nothing
        // that belongs to this thread goes to the other.
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("classify".to_owned())
                .stack_size(limits::HELPER_STACK_BYTES)
                .spawn_scoped(scope, || parse(readable, settings, super::NOTHING_PREPARED))
                .ok()
                .and_then(|helper| helper.join().ok())
                .unwrap_or(Err(UnknownReason::Parser))
        })
    }));
    judged.unwrap_or(Err(UnknownReason::Parser)).unwrap_or_else(|reason| unknown(text, reason))
}

fn unknown(text: &[u8], reason: UnknownReason) -> Verdict {
    // What one thread could not do for want of memory another may.
    let reusable = reason != UnknownReason::Parser;
    // What it sets, only the server knows.
    let anything =
        SettingChange { name: "*".to_owned(), value: Some(UNKNOWN_VALUE.to_owned()), local: false };
    let facts = Arc::new(Facts { settings: vec![anything], ..Facts::unknown(&first_word(text)) });
    Verdict { parsed: Parsed::Unknown(reason, facts), reusable, template: false }
}

/// The text, if the parser reads it as the server will.
fn readable<'t>(text: &'t [u8], settings: &Settings) -> Result<&'t str, UnknownReason> {
    if text.len() > limits::MAX_BYTES {
        return Err(UnknownReason::TooLong);
    }
    let ascii = text.is_ascii();
    if memchr::memchr(0, text).is_some() {
        return Err(UnknownReason::Nul);
    }
    if !ascii && settings.client_encoding != ClientEncoding::Utf8 {
        return Err(UnknownReason::Encoding);
    }
    let ambiguous =
        !settings.standard_conforming_strings || settings.client_encoding == ClientEncoding::Ambiguous;
    if ambiguous && memchr::memchr(b'\\', text).is_some() {
        return Err(UnknownReason::Backslash);
    }
    std::str::from_utf8(text).map_err(|_| UnknownReason::NotUtf8)
}

/// How many tokens the text has, or more: words count once, every sign counts; and what its runs of signs cost
/// the lexer. Strings and comments count like the rest: what they are is for the lexer to say.
fn size(text: &[u8]) -> (usize, usize) {
    let (mut tokens, mut sign_work) = (0_usize, 0_usize);
    let (mut in_word, mut run) = (false, 0_usize);
    for &byte in text {
        let word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        tokens += usize::from((word && !in_word) || (!word && byte > b' '));
        in_word = word;
        if OPERATOR_SIGNS.contains(&byte) {
            // n² as the sum of the first n odd numbers.
            sign_work = sign_work.saturating_add(2 * run + 1);
            run += 1;
        } else {
            run = 0;
        }
    }
    (tokens, sign_work)
}

/// What operators and the beginnings of comments are made of.
const OPERATOR_SIGNS: &[u8] = b"~!@#^&|`?+-*/%<>=";

fn parse(text: &str, settings: &Settings, prepared: Prepared<'_>) -> Result<Verdict, UnknownReason> {
    let tree = pg_raw_parse::parse(text).map_err(|error| {
        UnknownReason::Syntax(error.to_string().chars().take(limits::MESSAGE_CHARS).collect())
    })?;
    let mut path = Path::new(&settings.search_path);
    let mut statements = Vec::with_capacity(tree.len());
    let (mut reusable, mut template) = (true, true);
    let mut settled = settings.path_is_settled;
    // A text is one transaction: if what names something fails, what uses the name is not run.
    let mut named: Vec<(bool, PreparedStatement)> = Vec::new();
    for raw in tree.iter() {
        let here = |name: Name<'_>| {
            let (cursor, name_here) = match name {
                Name::Statement(name) => (false, name),
                Name::Cursor(name) => (true, name),
            };
            let mut newest = named.iter().rev();
            let found = newest.find(|(kind, named)| *kind == cursor && named.name == name_here);
            found.map_or_else(|| prepared(name), |(_, named)| Some(Arc::clone(&named.facts)))
        };
        let env = Environment { path: &path, server_major: settings.server_major, prepared: &here };
        let mut walk = Walk::new(&env);
        let (verb, finished) = walk.run(raw.stmt());
        if !finished {
            return Err(UnknownReason::TooManySteps);
        }
        let by_name = walk.found.depends_on_prepared;
        reusable &= !by_name;
        template &= !walk.found.depends_on_constants;
        let transaction = super::statement::transaction(raw.stmt());
        template &= super::statement::is_plain(raw.stmt());
        let mut found = walk.found;
        found.objects.sort_unstable();
        found.objects.dedup();
        found.functions.sort_unstable();
        found.functions.dedup();
        for change in &found.settings {
            // DISCARD ALL and RESET ALL go back to a path that only the server knows.
            if matches!(change.name.as_str(), "search_path" | "*") {
                settled = false;
                let new = change.value.as_deref().filter(|_| change.name != "*").and_then(SearchPath::parse);
                path.change(new.as_ref());
            }
        }
        let runs_code = matches!(found.class, Class::Execute | Class::Unknown);
        if runs_code || (!settled && super::statement::undoes_settings(transaction)) {
            // Code may set the path, and what was set in a transaction may end with it.
            path.change(None);
        }
        let span = span(text.as_bytes(), raw.stmt_location, raw.stmt_len);
        let verb = verb.map_or_else(
            || first_word(text.as_bytes().get(span.clone()).unwrap_or_default()),
            std::borrow::Cow::into_owned,
        );
        found.inner_verbs.retain(|inner| *inner != verb);
        found.inner_verbs.sort_unstable();
        let facts = Arc::new(Facts {
            verb,
            inner_verbs: found.inner_verbs,
            class: found.class,
            objects: found.objects,
            functions: found.functions,
            has_where: found.has_where,
            has_limit: super::statement::has_limit(raw.stmt()).or(found.has_limit),
            transaction,
            settings: found.settings,
            outlives_rollback: found.outlives_rollback,
        });
        let names = |name: Option<&str>| {
            name.map(|name| PreparedStatement { name: name.to_owned(), facts: Arc::clone(&facts) })
        };
        let prepares = names(super::statement::prepares(raw.stmt()));
        let declares = names(super::statement::declares(raw.stmt()));
        named.extend(prepares.iter().map(|named| (false, named.clone())));
        named.extend(declares.iter().map(|named| (true, named.clone())));
        let copy = super::statement::copy(raw.stmt());
        let frees = super::statement::frees(raw.stmt());
        statements.push(Statement { span, facts, copy, prepares, declares, frees, by_name });
    }
    template &= statements.len() == 1;
    let parsed = if statements.is_empty() { Parsed::Empty } else { Parsed::Statements(statements) };
    Ok(Verdict { parsed, reusable, template })
}

/// Where a statement stands, from the parser's start and length (0: to the end of the text).
fn span(text: &[u8], start: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(start).unwrap_or(0).min(text.len());
    let end = match usize::try_from(length) {
        Ok(length) if length > 0 => start.saturating_add(length).min(text.len()),
        _ => text.len(),
    };
    trimmed(text, start..end)
}

/// A span without white space and comments before, and white space after.
pub(super) fn trimmed(text: &[u8], span: Range<usize>) -> Range<usize> {
    let Range { mut start, mut end } = span;
    while let Some(rest) = text.get(start..end) {
        let skip = if rest.first().is_some_and(|&byte| is_space(byte)) {
            1
        } else if rest.starts_with(b"--") {
            memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            comment_length(rest)
        } else {
            0
        };
        if skip == 0 {
            break;
        }
        start += skip;
    }
    while end > start && text.get(end - 1).is_some_and(|&byte| is_space(byte) || byte == b';') {
        end -= 1;
    }
    start..end
}

/// What PostgreSQL's lexer takes for white space.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Length of the comment at the start; comments nest.
fn comment_length(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = text.get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The first word in upper case, to call by it what could not be parsed.
fn first_word(text: &[u8]) -> String {
    const LONGEST: usize = 24;
    let start = trimmed(text, 0..text.len().min(4_096)).start;
    let word: String = text
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .take(LONGEST)
        .map(|&byte| char::from(byte.to_ascii_uppercase()))
        .collect();
    if word.is_empty() { "UNKNOWN".to_owned() } else { word }
}
