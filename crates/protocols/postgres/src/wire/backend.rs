//! What the target sends that the gateway looks into; everything else passes by its header alone.

use super::frontend::{Body, Malformed};

/// Transaction status in `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transaction {
    /// No explicit transaction.
    #[default]
    Idle,
    /// Inside one.
    Open,
    /// Inside one that has failed.
    Failed,
}

impl Transaction {
    /// Reads the status byte.
    #[must_use]
    pub const fn read(byte: u8) -> Self {
        match byte {
            b'T' => Self::Open,
            b'E' => Self::Failed,
            _ => Self::Idle,
        }
    }
}

/// The row count at the end of a command tag: `INSERT 0 3`, `SELECT 5`, `COPY 10`; `None` for `CREATE TABLE`.
#[must_use]
pub fn tag_rows(tag: &[u8]) -> Option<u64> {
    let start = memchr::memrchr(b' ', tag)? + 1;
    let digits = tag.get(start..).filter(|digits| !digits.is_empty())?;
    digits.iter().try_fold(0u64, |count, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value <= 9)?;
        count.checked_mul(10)?.checked_add(u64::from(value))
    })
}

/// Reads `ParameterStatus`: name and value.
///
/// # Errors
/// [`Malformed`].
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut walk = Body::new("ParameterStatus", body);
    Ok((walk.string()?, walk.string()?))
}

/// Reads the OIDs of `ParameterDescription`, 4 bytes each, big-endian.
///
/// # Errors
/// [`Malformed`].
pub fn parameter_description(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut walk = Body::new("ParameterDescription", body);
    let count = usize::from(walk.u16()?);
    walk.rest().get(..count * 4).ok_or(Malformed("ParameterDescription"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_tags_tell_their_rows() {
        assert_eq!(tag_rows(b"SELECT 5"), Some(5));
        assert_eq!(tag_rows(b"INSERT 0 3"), Some(3));
        assert_eq!(tag_rows(b"COPY 10"), Some(10));
        for none in ["CREATE TABLE", "BEGIN", "", " ", "SELECT 99999999999999999999999"] {
            assert_eq!(tag_rows(none.as_bytes()), None, "{none}");
        }
    }
}
