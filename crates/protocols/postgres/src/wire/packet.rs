//! Framing: a tag byte, a length that counts itself, a body ("Message Formats" in PostgreSQL's manual).

/// Bytes of a tag and its length.
pub const HEADER_LEN: usize = 5;

/// A message whose bytes are all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub tag: u8,
    /// Its content, without tag and length.
    pub body: &'a [u8],
    /// Bytes of the whole, tag and length included.
    pub len: usize,
}

/// Why bytes are no message. The stream can't be trusted after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A length counts its own four bytes.
    #[error("message `{}` claims the impossible length {length}", char_of(*tag))]
    Length {
        /// The message's tag.
        tag: u8,
        /// The length field as a signed number, as the server reads it.
        length: i32,
    },
    /// Longer than this kind of message may be here.
    #[error("message `{}` is {length} bytes long, more than the {limit} allowed here", char_of(*tag))]
    TooLong {
        /// The message's tag.
        tag: u8,
        /// The length field.
        length: usize,
        /// The most allowed.
        limit: usize,
    },
}

fn char_of(tag: u8) -> char {
    if tag.is_ascii_graphic() { char::from(tag) } else { '?' }
}

/// The first message in `buffer`, or `None` while its end is missing. `max_body` limits the body in bytes.
///
/// # Errors
/// [`PacketError`] as soon as the length is known to be wrong.
pub fn split(buffer: &[u8], max_body: usize) -> Result<Option<Packet<'_>>, PacketError> {
    let Some((&[tag, a, b, c, d], rest)) = buffer.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    let size = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let size = size.ok_or(PacketError::Length { tag, length })?;
    if size > max_body {
        return Err(PacketError::TooLong {
            tag,
            length: size.saturating_add(4),
            limit: max_body.saturating_add(4),
        });
    }
    Ok(rest.get(..size).map(|body| Packet { tag, body, len: HEADER_LEN + size }))
}

/// Appends a message whose body `fill` writes.
pub fn put(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    put_sized(out, fill);
}

/// Appends a length that counts itself and the body that `fill` writes: a message without a tag.
pub fn put_sized(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    // What we write ourselves is bounded far below 2 GiB.
    let length = i32::try_from(out.len().saturating_sub(start)).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A whole message.
#[must_use]
pub fn message(tag: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put(&mut out, tag, fill);
    out
}

/// Appends text and its terminating zero. A zero inside would end it early, so the text ends there.
pub fn put_cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().take_while(|byte| **byte != 0));
    out.push(0);
}

/// Reads a body from front to back; every step may find too little.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the front of `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// Four bytes, big-endian, signed.
    pub fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    /// That many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Bytes up to a zero, which is read too.
    pub fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.byte()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused_before_the_body_comes() {
        assert_eq!(split(&[b'p', 0, 0, 0, 3], 100), Err(PacketError::Length { tag: b'p', length: 3 }));
        assert_eq!(
            split(&[b'p', 0xff, 0xff, 0xff, 0xff], 100),
            Err(PacketError::Length { tag: b'p', length: -1 })
        );
        assert!(matches!(split(&[b'p', 0x40, 0, 0, 0], 100), Err(PacketError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn what_is_put_is_split_again_and_only_when_whole(tag: u8, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put(&mut out, tag, |out| out.extend_from_slice(&body));
            for cut in 0..out.len() {
                prop_assert_eq!(split(&out[..cut], 1_000), Ok(None));
            }
            prop_assert_eq!(split(&out, 1_000), Ok(Some(Packet { tag, body: &body, len: out.len() })));
        }

        #[test]
        fn any_bytes_are_a_packet_or_an_error(bytes: Vec<u8>) {
            if let Ok(Some(packet)) = split(&bytes, 64) {
                prop_assert!(packet.len <= bytes.len() && packet.body.len() <= 64);
            }
            let mut cursor = Cursor::new(&bytes);
            while cursor.cstr().is_some() {}
            let _ = (cursor.u32(), cursor.i32(), cursor.byte(), cursor.take(3), cursor.rest());
        }
    }
}
