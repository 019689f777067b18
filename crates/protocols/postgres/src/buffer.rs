//! Buffers that sessions borrow while bytes are on their way, so that an idle session holds none.

use std::cell::RefCell;

/// Bytes read at once. Large enough that a bulk transfer needs few system calls.
const READ_BYTES: usize = 64 * 1024;

/// Buffers that a thread keeps ready.
const MAX_SPARE: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read from one side and not yet written to the other:
/// `start..cleared` may be written, `cleared..scanned` waits for the disk, `scanned..end` is not looked at yet.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Empty, or all of it initialized.
    bytes: Vec<u8>,
    /// First byte that is not written.
    pub start: usize,
    /// First byte that is not cleared.
    pub cleared: usize,
    /// First byte that is not scanned.
    pub scanned: usize,
    end: usize,
}

impl Buffer {
    /// Bytes that may be written.
    pub fn ready(&self) -> &[u8] {
        self.bytes.get(self.start..self.cleared).unwrap_or_default()
    }

    /// Bytes that are not looked at yet.
    pub fn unscanned(&self) -> &[u8] {
        self.bytes.get(self.scanned..self.end).unwrap_or_default()
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room for at least one byte behind what was read, and for `wanted` bytes from the first unscanned one.
    pub fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; READ_BYTES]);
        }
        if self.start > 0 && (self.end == self.bytes.len() || self.scanned + wanted > self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            for mark in [&mut self.cleared, &mut self.scanned, &mut self.end] {
                *mark -= self.start;
            }
            self.start = 0;
        }
        let needed = (self.scanned + wanted).max(self.end + 1);
        if needed > self.bytes.len() {
            // Doubling keeps a long message from being copied for every read; `wanted` is bounded by the scan.
            self.bytes.resize(needed.max(self.bytes.len() * 2).min(needed + 16 * READ_BYTES), 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Puts bytes in that were read elsewhere.
    pub fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let unscanned = self.end - self.scanned;
        if let Some(room) = self.room(unscanned + bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }

    /// Begins at the front again if nothing is in it.
    pub const fn rewind(&mut self) {
        if self.is_empty() {
            (self.start, self.cleared, self.scanned, self.end) = (0, 0, 0, 0);
        }
    }

    /// Gives the memory back if nothing is in it.
    pub fn release(&mut self) {
        if !self.is_empty() || self.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        *self = Self::default();
        if bytes.len() == READ_BYTES {
            SPARE.with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < MAX_SPARE {
                    spare.push(bytes);
                }
            });
        }
    }

    /// Drops so many unscanned bytes; everything before them is written.
    pub fn skip(&mut self, count: usize) {
        self.start = (self.scanned + count).min(self.end);
        self.cleared = self.start;
        self.scanned = self.start;
    }

    /// Forgets what was not written.
    pub fn discard(&mut self) {
        self.start = self.end;
        self.cleared = self.end;
        self.scanned = self.end;
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the sizes of reads, scans and writes, the bytes come out as they went in.
        #[test]
        fn nothing_is_lost_or_reordered(steps in prop::collection::vec((1usize..200_000, 0usize..200_000, 0usize..200_000), 1..20)) {
            let mut buffer = Buffer::default();
            let (mut written, mut read) = (0u32, 0u32);
            for (arrive, scan, write) in steps {
                let wanted = buffer.unscanned().len() + arrive;
                let room = buffer.room(wanted);
                prop_assert!(room.len() >= arrive);
                for slot in room.iter_mut().take(arrive) {
                    *slot = (read % 251) as u8;
                    read += 1;
                }
                buffer.filled(arrive);
                buffer.scanned += scan.min(buffer.unscanned().len());
                buffer.cleared = buffer.scanned;
                let take = write.min(buffer.ready().len());
                for byte in buffer.ready().iter().take(take) {
                    prop_assert_eq!(*byte, (written % 251) as u8);
                    written += 1;
                }
                buffer.start += take;
                buffer.release();
            }
        }
    }
}
