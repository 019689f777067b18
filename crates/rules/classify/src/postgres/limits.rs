//! How much is looked at before a text is called unknown.

/// Longest text, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Most words and signs in a text, by an estimate that is never too low. A parse tree takes up to about 150
/// bytes for each, so this bounds the parser's memory to about 150 MB.
pub const MAX_TOKENS: usize = 1 << 20;

/// Most work that the lexer may have with runs of signs, in looks at a sign. It reads a run such as `/*/*/*` or
/// `+++` anew from every sign in it, so a run of n costs n². Forty lines of eighty dashes cost a quarter of a
/// million; the cap stands for some 20 ms.
pub const MAX_SIGN_WORK: usize = 5_000_000;

/// Most looks at a name in scope plus nodes of the tree.
pub const MAX_STEPS: usize = 40_000_000;

/// Texts with at most this many words and signs are parsed on the calling thread; they need less than
/// 1 MiB of its stack, and take a few milliseconds at most.
pub const INLINE_TOKENS: usize = 1 << 12;

/// Stack of the helper thread that parses longer texts, in bytes of address space.
pub const HELPER_STACK_BYTES: usize = 512 << 20;

/// Most texts in one [`super::Cache`].
pub const CACHE_ENTRIES: usize = 4_096;

/// Most bytes of text in one [`super::Cache`]; with the facts it may hold some five times that.
pub const CACHE_BYTES: usize = 4 << 20;

/// Longest text that is cached, in bytes.
pub const CACHE_TEXT_BYTES: usize = 16 << 10;

/// Longest message of the parser that is kept, in characters.
pub const MESSAGE_CHARS: usize = 200;
