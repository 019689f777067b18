//! The buffer into which callers encode their records.

use crate::error::AppendError;
use crate::format::{
    FRAME_HEADER_BYTES, FRAME_OVERHEAD_BYTES, FRAME_TRAILER_BYTES, FrameHash, MAX_BATCH_BYTES,
    MAX_FRAME_BYTES, Place, seal_frame,
};

/// Above this, `clear` gives memory back: one huge record must not stay with its session for good.
const KEPT_BYTES: usize = 1024 * 1024;

/// Records that are appended together with one write, in the order of their pushes.
///
/// Reuse it: once warm, pushing and appending allocate nothing.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the record that `encode` writes by *appending* to the buffer it is given. The buffer holds
    /// the batch's earlier records too: nothing that stands in it may be changed or removed.
    ///
    /// # Panics
    /// If `encode` leaves the buffer shorter than it was.
    pub fn push<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let payload_start = self.begin();
        let result = encode(&mut self.bytes);
        self.end(payload_start);
        result
    }

    /// As [`push`](Self::push), for an encoder that can fail; the batch is then as it was before.
    ///
    /// # Errors
    /// What `encode` returns.
    ///
    /// # Panics
    /// If `encode` succeeds and leaves the buffer shorter than it was.
    pub fn try_push<T, E>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let payload_start = self.begin();
        let result = encode(&mut self.bytes);
        match &result {
            Ok(_) => self.end(payload_start),
            Err(_) => self.bytes.truncate(payload_start - FRAME_HEADER_BYTES),
        }
        result
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes the batch takes in the journal, frame headers included.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Removes all records; keeps the memory, up to 1 MiB.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    pub(crate) fn check_limits(&self) -> Result<(), AppendError> {
        if self.bytes_len() > MAX_BATCH_BYTES {
            return Err(AppendError::BatchTooLarge { bytes: self.bytes_len() });
        }
        // Only a batch this long can hold such a frame: the loop stays off the usual path.
        if self.bytes_len() > MAX_FRAME_BYTES {
            let mut start = 0;
            for &end in &self.ends {
                let bytes = end - start - FRAME_OVERHEAD_BYTES;
                if bytes > MAX_FRAME_BYTES {
                    return Err(AppendError::FrameTooLarge { bytes });
                }
                start = end;
            }
        }
        Ok(())
    }

    /// Fills the headers, the first frame standing at `place`; returns the bytes, where each frame ends in them, and the last
    /// hash.
    pub(crate) fn seal(&mut self, mut place: Place) -> (&[u8], &[usize], FrameHash) {
        let mut start = 0;
        for &end in &self.ends {
            place.previous = seal_frame(&mut self.bytes[start..end], &place);
            place.sequence += 1;
            start = end;
        }
        (&self.bytes[..start], &self.ends, place.previous)
    }

    fn begin(&mut self) -> usize {
        // What an encoder that panicked has left behind.
        self.bytes.truncate(self.bytes_len());
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        self.bytes.len()
    }

    fn end(&mut self, payload_start: usize) {
        assert!(self.bytes.len() >= payload_start, "an encoder must only append to the batch's buffer");
        self.bytes.extend_from_slice(&[0; FRAME_TRAILER_BYTES]);
        self.ends.push(self.bytes.len());
    }
}
