//! What one session may ask of the gateway's memory.

/// Bytes of a `Query` or `Parse`, which have to be read whole before they can be judged. The journal keeps the text,
/// so this stays below its largest frame.
pub const MAX_STATEMENT_BYTES: usize = 60 * 1024 * 1024;

/// Bytes of text that the prepared statements of one session may hold together.
pub const MAX_PREPARED_BYTES: usize = 128 * 1024 * 1024;

/// Bytes of a `Bind` or `FunctionCall` that are kept in the trail; of a longer one the beginning is kept, and the
/// SHA-256 of the whole with its outcome. The rest is passed on as it comes.
pub const CAPTURED_PARAMETER_BYTES: usize = 1024 * 1024;

/// Bytes of a message that only carries names. The server's own limit is 10,000.
pub const MAX_SMALL_MESSAGE_BYTES: usize = 30_000;

/// The protocol's own limit for one message (`PQ_LARGE_MESSAGE_LIMIT`).
pub const MAX_MESSAGE_BYTES: u64 = 0x3fff_ffff;

/// Bytes of an answer that has to be read whole: an error, a notice about settings, a description.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Messages that may wait for their answer before the client has to wait too.
pub const MAX_OUTSTANDING: usize = 65_536;

/// Bytes of an error message that are kept in the trail.
pub const MAX_ERROR_MESSAGE_BYTES: usize = 64 * 1024;
