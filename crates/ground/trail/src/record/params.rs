//! The parameters of a command, flat: per value `u32` little-endian length + 1 (0 = NULL), then the bytes in text form.

/// Collects a command's parameters. Reuse it: [`ParamsBuf::clear`] keeps the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParamsBuf {
    bytes: Vec<u8>,
}

impl ParamsBuf {
    /// No parameters.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        self.bytes.extend_from_slice(&0u32.to_le_bytes());
    }

    /// Adds a value in text form. `false`, and nothing added, if it has 2^32 - 1 bytes or more.
    #[must_use]
    pub fn push(&mut self, value: &[u8]) -> bool {
        let Some(length) = u32::try_from(value.len()).ok().and_then(|length| length.checked_add(1)) else {
            return false;
        };
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value);
        true
    }

    /// Adds a value that `write` appends to the buffer, for values that are turned into text on the way.
    /// `false`, and nothing added, if it has 2^32 - 1 bytes or more.
    #[must_use]
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        self.push_null();
        write(&mut self.bytes);
        let length =
            self.bytes.len().checked_sub(start + 4).and_then(|length| u32::try_from(length + 1).ok());
        let slot = self.bytes.get_mut(start..start + 4);
        if let (Some(length), Some(slot)) = (length, slot) {
            slot.copy_from_slice(&length.to_le_bytes());
            true
        } else {
            self.bytes.truncate(start);
            false
        }
    }

    /// What an [`Intent`](super::Intent) carries.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes all parameters and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Walks the values of a [`ParamsBuf`]: `Some(None)` is NULL. Ends early at a torn value; [`Params::is_whole`] tells.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Reads what [`ParamsBuf::as_bytes`] gave.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether every byte read so far, and none left over, belonged to a value.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let Some(length) = u32::from_le_bytes(*length).checked_sub(1) else {
            self.rest = rest;
            return Some(None);
        };
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Some(value))
    }
}
