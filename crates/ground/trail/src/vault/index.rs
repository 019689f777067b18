//! The index: where a leaf's payload is. One record of fixed size per leaf, at the leaf's index.

/// Bytes of one record.
pub(crate) const INDEX_RECORD_BYTES: usize = 44;
/// The slot of a leaf without payload and without session key.
pub(crate) const NO_SLOT: u32 = u32::MAX;
pub(crate) const INDEX_FILE: &str = "index";

const CRC_OFFSET: usize = INDEX_RECORD_BYTES - 4;

/// Where a leaf's payload is, and what a reader needs to pass it by without reading the leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexRecord {
    /// Number of the payload file.
    pub(crate) file: u32,
    /// Where the payload begins in it, in bytes.
    pub(crate) offset: u32,
    /// Its length in bytes; 0 if the leaf has none.
    pub(crate) length: u32,
    /// The slot of its session's key.
    pub(crate) slot: u32,
    /// The leaf's place in its session.
    pub(crate) seq: u64,
    /// When what the leaf tells of was over, in microseconds since 1970.
    pub(crate) ended_at: u64,
    /// The leaf's kind.
    pub(crate) kind: u8,
    /// CRC-32C of the sealed payload: damage is found also where the key is gone.
    pub(crate) payload_crc: u32,
}

impl IndexRecord {
    pub(crate) fn encode(&self) -> [u8; INDEX_RECORD_BYTES] {
        let mut record = [0; INDEX_RECORD_BYTES];
        let (body, crc) = record.split_at_mut(CRC_OFFSET);
        let [a, b, c, d] = [self.file, self.offset, self.length, self.slot].map(u32::to_le_bytes);
        let (seq, ended_at) = (self.seq.to_le_bytes(), self.ended_at.to_le_bytes());
        let (kind, payload_crc) = ([self.kind, 0, 0, 0], self.payload_crc.to_le_bytes());
        let fields: [&[u8]; 8] = [&a, &b, &c, &d, &seq, &ended_at, &kind, &payload_crc];
        let mut rest = &mut *body;
        for field in fields {
            if let Some((place, left)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                place.copy_from_slice(field);
                rest = left;
            }
        }
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        record
    }

    /// Reads a record; `None` if it is not one.
    pub(crate) fn decode(record: &[u8; INDEX_RECORD_BYTES]) -> Option<Self> {
        let (body, crc) = record.split_at_checked(CRC_OFFSET)?;
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return None;
        }
        let mut rest = body;
        let mut short = || {
            let (bytes, left) = rest.split_first_chunk::<4>()?;
            rest = left;
            Some(u32::from_le_bytes(*bytes))
        };
        let (file, offset, length, slot) = (short()?, short()?, short()?, short()?);
        let (seq, ended_at) = ([short()?, short()?], [short()?, short()?]);
        let (kind, payload_crc) = (short()?, short()?);
        let long = |[low, high]: [u32; 2]| u64::from(low) | u64::from(high) << 32;
        Some(Self {
            file,
            offset,
            length,
            slot,
            seq: long(seq),
            ended_at: long(ended_at),
            kind: u8::try_from(kind).ok()?,
            payload_crc,
        })
    }
}

/// Where the record of leaf `index` begins in the index file.
pub(crate) const fn index_offset(index: u64) -> u64 {
    index.saturating_mul(INDEX_RECORD_BYTES as u64)
}
