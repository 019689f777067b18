//! From tokens to a syntax tree, by brush-parser's grammar.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use brush_parser::ast::Program;
use brush_parser::{ParserOptions, SourcePosition, SourceSpan, Token as Parsed};

use super::lexer::{self, Token, TokenKind};
use super::{Reason, limits};

/// The tree of a text.
pub(super) fn parse(text: &str) -> Result<Program, Reason> {
    if text.len() > limits::MAX_BYTES {
        return Err(Reason::TooLong);
    }
    let tokens: Vec<Parsed> = lexer::tokens(text)?.into_iter().map(|token| parsed(text, token)).collect();
    let options = ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() };
    // The grammar has places that panic, on numbers for one: that is a verdict, not an end.
    catch_unwind(AssertUnwindSafe(|| brush_parser::parse_tokens(&tokens, &options)))
        .map_err(|_| Reason::Parser)?
        .map_err(|_| Reason::Syntax)
}

fn parsed(text: &str, token: Token) -> Parsed {
    // Lines and columns are for messages, which nobody sees.
    let position = |index| Arc::new(SourcePosition { index, line: 1, column: 1 });
    let span = SourceSpan { start: position(token.start), end: position(token.end) };
    let raw = || text.get(token.start..token.end).unwrap_or_default().to_owned();
    match token.kind {
        TokenKind::Operator => Parsed::Operator(raw(), span),
        TokenKind::Word => Parsed::Word(raw(), span),
        TokenKind::Body(body) => Parsed::Word(body, span),
    }
}
