//! How a client hears of what the gateway does not do: a line on standard error, and an exit status.
//!
//! Both reach every client, with a terminal or without: `ssh` prints the one and returns the other.

/// The gateway refused the command (`EX_NOPERM` of sysexits.h).
pub(crate) const REFUSED: u32 = 77;

/// A review was not answered in time; the same command may be tried again (`EX_TEMPFAIL`).
pub(crate) const NOT_YET: u32 = 75;

/// The target can't be reached, or the connection to it broke: what `ssh` itself returns then.
pub(crate) const NO_CONNECTION: u32 = 255;

/// A sentence for standard error. A terminal in raw mode needs the carriage return.
pub(crate) fn line(sentence: &str, terminal: bool) -> Vec<u8> {
    let end = if terminal { "\r\n" } else { "\n" };
    let shown: String = sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("trailgate: {shown}{end}").into_bytes()
}
