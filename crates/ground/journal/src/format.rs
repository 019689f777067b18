//! Bytes of segments and frames; the table stands in the crate's documentation.

use aws_lc_rs::digest;

/// Largest payload of one frame: 64 MiB.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// Largest batch, headers included: 256 MiB.
pub const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;

pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
pub(crate) const FRAME_HEADER_BYTES: usize = 60;
pub(crate) const FRAME_TRAILER_BYTES: usize = 4;
pub(crate) const FRAME_OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + FRAME_TRAILER_BYTES;
/// Where a frame's fields stand, counted from its first byte.
pub(crate) const FRAME_SEQUENCE_OFFSET: usize = 4;
pub(crate) const FRAME_EPOCH_OFFSET: usize = 12;
pub(crate) const FRAME_PREVIOUS_OFFSET: usize = 28;
/// A batch up to this long may be written through memory, each frame's epoch after all else. What is longer is written with a
/// system call: a fault for each of its pages would cost more.
pub(crate) const MAX_MAPPED_BYTES: usize = 16 * 1024;

const MAGIC: [u8; 8] = *b"tgjrnl\0\x01";

/// SHA-256 of a whole frame.
pub(crate) type FrameHash = [u8; 32];
/// What the first frame of all names as its predecessor's hash.
pub(crate) const NO_FRAME: FrameHash = [0; 32];

/// What stands at the start of each segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) epoch: u64,
    /// The kernel's boot id at the time of writing; zero if unknown.
    pub(crate) boot_id: [u8; 16],
    /// Bytes preallocated. A file shorter than this was synced, then cut to its last frame.
    pub(crate) capacity: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot_id);
        bytes[32..40].copy_from_slice(&self.capacity.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether a file of `length` bytes was synced as a whole, then cut to its last frame.
    pub(crate) const fn is_sealed(&self, length: u64) -> bool {
        length < self.capacity
    }

    /// `None` if `bytes` does not begin with a whole and valid header.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<SEGMENT_HEADER_BYTES>()?;
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) || !body.starts_with(&MAGIC) {
            return None;
        }
        Some(Self { epoch: u64_at(body, 8)?, boot_id: chunk_at(body, 16)?, capacity: u64_at(body, 32)? })
    }
}

/// A frame whose length, epoch and CRC are right. Sequence and chain are the caller's to check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFrame<'a> {
    pub(crate) sequence: u64,
    /// Highest sequence known to be synced when this frame was written.
    pub(crate) durable: u64,
    pub(crate) previous: FrameHash,
    pub(crate) payload: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

impl RawFrame<'_> {
    pub(crate) fn hash(&self) -> FrameHash {
        frame_hash(self.bytes)
    }
}

#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    Frame(RawFrame<'a>),
    /// The header is plausible, but the frame needs this many bytes in all.
    Short(usize),
    /// No frame of this epoch begins here.
    Invalid,
}

/// Reads the frame that begins at the first byte of `bytes`.
pub(crate) fn parse_frame(bytes: &[u8], epoch: u64) -> Parsed<'_> {
    try_parse(bytes, epoch).unwrap_or(Parsed::Invalid)
}

fn try_parse(bytes: &[u8], epoch: u64) -> Option<Parsed<'_>> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Some(Parsed::Short(FRAME_HEADER_BYTES));
    };
    let length = usize::try_from(u32::from_le_bytes(chunk_at(header, 0)?)).ok()?;
    if u64_at(header, FRAME_EPOCH_OFFSET)? != epoch || length > MAX_FRAME_BYTES {
        return None;
    }
    let total = length + FRAME_OVERHEAD_BYTES;
    let Some(frame) = bytes.get(..total) else {
        return Some(Parsed::Short(total));
    };
    let (body, crc) = frame.split_last_chunk::<FRAME_TRAILER_BYTES>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some(Parsed::Frame(RawFrame {
        sequence: u64_at(header, FRAME_SEQUENCE_OFFSET)?,
        durable: u64_at(header, 20)?,
        previous: chunk_at(header, FRAME_PREVIOUS_OFFSET)?,
        payload: body.get(FRAME_HEADER_BYTES..)?,
        bytes: frame,
    }))
}

/// Whether `rest`, the bytes after a segment's last valid frame, can be what a process leaves that is killed while it writes the
/// next frame through memory: then nobody was told of that frame. It has no epoch yet, and of its place, frame `next` after the
/// frame with hash `previous`, a part; or all, and then a part of what follows too.
pub(crate) fn is_unpublished(rest: &[u8], next: u64, previous: Option<&FrameHash>) -> bool {
    let (begun, beyond) = rest.split_at(rest.len().min(MAX_MAPPED_BYTES));
    let (header, payload) = begun.split_at(begun.len().min(FRAME_HEADER_BYTES));
    let Some((sequence, epoch)) =
        chunk_at::<8>(header, FRAME_SEQUENCE_OFFSET).zip(u64_at(header, FRAME_EPOCH_OFFSET))
    else {
        return false;
    };
    let Some(named) = chunk_at::<32>(header, FRAME_PREVIOUS_OFFSET) else { return false };
    let expected = previous.unwrap_or(&named);
    let is_part = |found: &[u8], whole: &[u8]| {
        found.iter().zip(whole).all(|(found, whole)| *found == 0 || found == whole)
    };
    let placed = sequence == next.to_le_bytes() && named == *expected;
    epoch == 0
        && is_part(&sequence, &next.to_le_bytes())
        && is_part(&named, expected)
        && (placed || is_zero(payload))
        && is_zero(beyond)
}

/// Whether there is nothing but zeroes: no frame was ever written there.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What the frame of a batch does not know before it stands in line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) durable: u64,
    pub(crate) previous: FrameHash,
}

/// Fills header and CRC of `frame`, whose payload is in place, and returns its hash. The frame holds at
/// least [`FRAME_OVERHEAD_BYTES`] and its payload fits `u32`; [`crate::Batch`] sees to both.
pub(crate) fn seal_frame(frame: &mut [u8], place: &Place) -> FrameHash {
    let length = u32::try_from(frame.len() - FRAME_OVERHEAD_BYTES).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..12].copy_from_slice(&place.sequence.to_le_bytes());
    frame[12..20].copy_from_slice(&place.epoch.to_le_bytes());
    frame[20..28].copy_from_slice(&place.durable.to_le_bytes());
    frame[28..60].copy_from_slice(&place.previous);
    let end = frame.len() - FRAME_TRAILER_BYTES;
    let crc = crc32c::crc32c(&frame[..end]);
    frame[end..].copy_from_slice(&crc.to_le_bytes());
    frame_hash(frame)
}

fn frame_hash(frame: &[u8]) -> FrameHash {
    let mut hash = NO_FRAME;
    hash.copy_from_slice(digest::digest(&digest::SHA256, frame).as_ref());
    hash
}

fn chunk_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    chunk_at(bytes, offset).map(u64::from_le_bytes)
}
