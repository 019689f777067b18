//! What is kept of a stream: its beginning, up to a cap, and of the whole the count and the SHA-256.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256};
use trail::record::NotKept;

/// One stream of a command, as far as it has come.
pub(crate) struct Keep {
    cap: usize,
    bytes: u64,
    hash: Option<Context>,
}

impl Keep {
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap, bytes: 0, hash: Some(Context::new(&SHA256)) }
    }

    /// Keeps nothing and only counts: what is in the stream has entries of its own.
    pub(crate) const fn count() -> Self {
        Self { cap: 0, bytes: 0, hash: None }
    }

    /// Counts and hashes; returns the part that is to be kept.
    pub(crate) fn take<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        let room = self.cap.saturating_sub(usize::try_from(self.bytes).unwrap_or(usize::MAX));
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        data.get(..room.min(data.len())).unwrap_or_default()
    }

    /// Bytes so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the whole, unless it is only counted.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        let digest = self.hash.clone()?.finish();
        let mut sha256 = [0; 32];
        sha256.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Some(sha256)
    }

    /// What the cap left out.
    pub(crate) fn not_kept(&self) -> Option<NotKept> {
        let bytes = self.bytes.saturating_sub(self.cap as u64);
        self.sha256().filter(|_| bytes > 0).map(|sha256| NotKept { bytes, sha256 })
    }
}

/// What caps have left out of a command's streams. An outcome has room for one of them; the others are named in its
/// message.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct LeftOut {
    pub(crate) first: Option<NotKept>,
    pub(crate) message: Option<String>,
}

impl LeftOut {
    /// Out of what was left out of each stream, the most telling first: what was run stands before what came of it.
    pub(crate) fn of<'a>(streams: impl IntoIterator<Item = (&'a str, Option<NotKept>)>) -> Self {
        let mut cut = streams.into_iter().filter_map(|(stream, not_kept)| Some((stream, not_kept?)));
        let Some((stream, first)) = cut.next() else { return Self::default() };
        let mut message = format!("of {stream} {} bytes are not kept", first.bytes);
        for (stream, NotKept { bytes, sha256 }) in cut {
            // Writing into a string never fails.
            let _ = write!(message, "; of {stream} {bytes} bytes, SHA-256 of all of it {}", hex(&sha256));
        }
        Self { first: Some(first), message: Some(message) }
    }
}

/// A digest as people compare it.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_whole_is_hashed() {
        let mut keep = Keep::new(4);
        assert_eq!(keep.take(b"ab"), b"ab");
        assert_eq!(keep.not_kept(), None);
        assert_eq!(keep.take(b"cdef"), b"cd");
        assert_eq!(keep.take(b"g"), b"");
        let mut whole = Keep::new(100);
        whole.take(b"abcdefg");
        assert_eq!(keep.not_kept(), whole.sha256().map(|sha256| NotKept { bytes: 3, sha256 }));
        assert_eq!(keep.bytes(), 7);
    }

    #[test]
    fn nothing_that_was_left_out_goes_unsaid() {
        assert_eq!(LeftOut::of([("standard input", None)]), LeftOut::default());
        let cut = |bytes| Some(NotKept { bytes, sha256: [0xab; 32] });
        let one = LeftOut::of([("standard input", None), ("standard error", cut(5))]);
        assert_eq!(one.first, cut(5));
        assert_eq!(one.message.as_deref(), Some("of standard error 5 bytes are not kept"));
        let all = LeftOut::of([
            ("standard input", cut(1)),
            ("standard output", cut(2)),
            ("standard error", cut(3)),
        ]);
        assert_eq!(all.first, cut(1));
        let digest = "ab".repeat(32);
        let expected = format!(
            "of standard input 1 bytes are not kept; of standard output 2 bytes, SHA-256 of all of it {digest}; of \
             standard error 3 bytes, SHA-256 of all of it {digest}"
        );
        assert_eq!(all.message, Some(expected));
    }
}
