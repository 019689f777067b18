//! The content of one file on its way, put together from pieces that may come out of order.

use std::collections::BTreeMap;

use trail::record::NotKept;

use crate::keep::{Keep, hex};

/// Bytes that wait for the piece before them; with more, the content's digest is given up.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// What is known of a file's content.
pub(crate) struct Content {
    keep: Keep,
    /// Where the content begins, and where the next piece should.
    start: Option<u64>,
    next: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    whole: bool,
    bytes: u64,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            keep: Keep::new(0),
            start: None,
            next: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            whole: true,
            bytes: 0,
        }
    }
}

impl Content {
    /// A piece at its place in the file.
    pub(crate) fn piece(&mut self, offset: u64, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if data.is_empty() || !self.whole {
            return;
        }
        if self.start.is_none() {
            self.start = Some(offset);
            self.next = offset;
        }
        if offset != self.next {
            // Written twice, or from before the beginning: there is no one content.
            if offset < self.next || self.waiting_bytes + data.len() > MAX_WAITING_BYTES {
                return self.give_up();
            }
            self.waiting_bytes += data.len();
            if self.waiting.insert(offset, data.to_vec()).is_some() {
                self.give_up();
            }
            return;
        }
        self.take(data);
        while let Some(first) = self.waiting.first_entry() {
            match first.key().cmp(&self.next) {
                std::cmp::Ordering::Greater => break,
                std::cmp::Ordering::Less => return self.give_up(),
                std::cmp::Ordering::Equal => {
                    let data = first.remove();
                    self.waiting_bytes -= data.len();
                    self.take(&data);
                }
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.keep.take(data);
        self.next = self.next.saturating_add(data.len() as u64);
    }

    fn give_up(&mut self) {
        self.whole = false;
        self.waiting = BTreeMap::new();
        self.waiting_bytes = 0;
    }

    /// Bytes that were carried.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the content begins, if not at the file's beginning.
    fn offset(&self) -> Option<u64> {
        self.start.filter(|start| *start > 0)
    }

    /// What stands for the content in the trail.
    pub(crate) fn not_kept(&self) -> Option<NotKept> {
        let bytes = self.bytes;
        self.sha256().filter(|_| bytes > 0).map(|sha256| NotKept { bytes, sha256 })
    }

    /// What else there is to say of it.
    pub(crate) fn note(&self) -> Option<String> {
        if self.bytes > 0 && self.sha256().is_none() {
            return Some("its parts overlap, so there is no digest".to_owned());
        }
        self.offset().map(|offset| format!("from byte {offset} on"))
    }

    /// All of it in words, where there is no other place for it.
    pub(crate) fn told(&self) -> String {
        let digest = self.sha256().map(|sha256| format!("SHA-256 {}", hex(&sha256)));
        let bytes = format!("{} bytes", self.bytes);
        [Some(bytes), digest, self.note()].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// SHA-256 of the content, if it came as one piece from its beginning to its end.
    fn sha256(&self) -> Option<[u8; 32]> {
        self.keep.sha256().filter(|_| self.whole && self.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[(u64, &[u8])]) -> Option<[u8; 32]> {
        let mut content = Content::default();
        pieces.iter().for_each(|(offset, data)| content.piece(*offset, data));
        content.sha256()
    }

    #[test]
    fn the_order_of_pieces_does_not_matter() {
        let whole = digest(&[(0, b"abcdef")]);
        assert!(whole.is_some());
        assert_eq!(digest(&[(0, b"ab"), (2, b"cd"), (4, b"ef")]), whole);
        assert_eq!(digest(&[(0, b"ab"), (4, b"ef"), (2, b"cd")]), whole);
        assert_ne!(digest(&[(0, b"ab")]), whole);
    }

    #[test]
    fn what_is_not_one_piece_has_no_digest() {
        assert_eq!(digest(&[(0, b"ab"), (4, b"ef")]), None);
        assert_eq!(digest(&[(0, b"ab"), (0, b"cd")]), None);
        assert_eq!(digest(&[(0, b"ab"), (3, b"x"), (2, b"cd")]), None);
        let mut content = Content::default();
        content.piece(7, b"x");
        assert_eq!((content.offset(), content.bytes()), (Some(7), 1));
        assert_eq!(content.note().as_deref(), Some("from byte 7 on"));
    }

    #[test]
    fn content_is_told_in_words() {
        let mut content = Content::default();
        content.piece(2, b"");
        assert_eq!((content.not_kept(), content.note()), (None, None));
        content.piece(0, b"ab");
        content.piece(2, b"c");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(content.told(), format!("3 bytes, SHA-256 {sha256}"));
        content.piece(0, b"ab");
        assert_eq!(content.told(), "5 bytes, its parts overlap, so there is no digest");
    }
}
