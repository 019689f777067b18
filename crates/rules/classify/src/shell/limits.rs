//! How much is looked at before a text is called unknown.

/// Longest text, in bytes. The kernel takes no longer argument than 128 KiB, and sshd gives the text as one.
pub const MAX_BYTES: usize = 64 << 10;

/// Most words and operators.
pub const MAX_TOKENS: usize = 8 << 10;

/// Most programs, counting those in code that is given to shells.
pub const MAX_PROGRAMS: usize = 2 << 10;

/// Most command substitutions within each other, and most shells that are given code within each other.
pub const MAX_DEPTH: usize = 6;

/// Most programs that run each other in one simple command: `env nice timeout 5 ls`.
pub const MAX_WRAPPED: usize = 16;

/// Most loops, conditions, groups and subshells within each other.
pub const MAX_NESTING: usize = 16;

/// Most of those within each other that the grammar reads twice: subshells, and `case` in `case`.
pub const MAX_DOUBLING: usize = 4;

/// Most digits of a file descriptor.
pub(super) const DESCRIPTOR_DIGITS: usize = 3;

/// Most objects, functions and settings that facts name, each; a text that has more is unknown.
pub const MAX_FACTS: usize = 1_024;

/// Longest name in the facts, in bytes.
pub const MAX_NAME_BYTES: usize = 4 << 10;

/// Most texts in one [`super::Cache`].
pub const CACHE_ENTRIES: usize = 1_024;

/// Longest text that is cached, in bytes.
pub const CACHE_TEXT_BYTES: usize = 4 << 10;
