//! The content of one file on its way, put together from pieces that may come out of order.

use std::collections::BTreeMap;

use crate::keep::Keep;

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
    pub(crate) fn offset(&self) -> Option<u64> {
        self.start.filter(|start| *start > 0)
    }

    /// SHA-256 of the content, if it came as one piece from its beginning to its end.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
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
    }
}
