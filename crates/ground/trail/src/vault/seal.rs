//! Sealing and opening payloads: chunks of AES-256-GCM, each bound to its entry and its place.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use vocabulary::{Kind, SessionId};

use super::{VaultError, keys::DataKey};

/// The most plain bytes in a chunk. What is longer is split, never trimmed.
pub(crate) const CHUNK_BYTES: usize = 1024 * 1024;
/// Sealed length, plain length, flags, nonce.
pub(crate) const CHUNK_HEADER_BYTES: usize = 4 + 4 + 1 + NONCE_LEN;
const TAG_BYTES: usize = 16;

const LZ4: u8 = 1;
const LAST: u8 = 2;

/// Shorter chunks are not worth compressing: half of them is random keys.
const COMPRESS_FROM_BYTES: usize = 256;

/// What a chunk is authenticated with; also names the format.
const CONTEXT: &[u8] = b"trailgate/sealed/v1\0";
const AAD_BYTES: usize = CONTEXT.len() + 16 + 8 + 1 + 4 + 1 + 4;

/// A data key ready for use.
pub(crate) struct OpenKey {
    key: LessSafeKey,
}

impl OpenKey {
    pub(crate) fn new(key: &DataKey) -> Result<Self, VaultError> {
        let key =
            UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| VaultError::Crypto("take a key"))?;
        Ok(Self { key: LessSafeKey::new(key) })
    }
}

/// Nonces that no two calls share: eight random bytes drawn by each run, then a counter.
///
/// A saved counter could be restored from a copy of the data directory and used again; a random half can't. Two runs that
/// draw the same half come once in about 2^32 runs, and would also have to write under the same session's key.
pub(crate) struct Nonces {
    run: [u8; 8],
    counter: u32,
}

impl Nonces {
    pub(crate) fn new() -> Result<Self, VaultError> {
        let mut run = [0; 8];
        rand::fill(&mut run).map_err(|_| VaultError::Crypto("make random bytes"))?;
        Ok(Self { run, counter: 0 })
    }

    fn next(&mut self) -> Result<[u8; NONCE_LEN], VaultError> {
        let Some(counter) = self.counter.checked_add(1) else {
            *self = Self::new()?;
            return self.next();
        };
        self.counter = counter;
        let mut nonce = [0; NONCE_LEN];
        let (run, place) = nonce.split_at_mut(self.run.len());
        run.copy_from_slice(&self.run);
        place.copy_from_slice(&counter.to_le_bytes());
        Ok(nonce)
    }
}

/// The entry that a payload belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
}

fn aad(owner: &Owner, chunk: u32, flags: u8, plain_length: u32) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    let fields: [&[u8]; 7] = [
        CONTEXT,
        owner.session.as_bytes(),
        &owner.seq.to_le_bytes(),
        &[owner.kind.code()],
        &chunk.to_le_bytes(),
        &[flags],
        &plain_length.to_le_bytes(),
    ];
    let mut rest = aad.as_mut_slice();
    for field in fields {
        if let Some((place, left)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
            place.copy_from_slice(field);
            rest = left;
        }
    }
    aad
}

/// Seals payloads. Keeps its buffers.
pub(crate) struct PayloadSealer {
    nonces: Nonces,
    table: CompressTable,
    compressed: Vec<u8>,
}

impl PayloadSealer {
    pub(crate) fn new() -> Result<Self, VaultError> {
        Ok(Self { nonces: Nonces::new()?, table: CompressTable::small(), compressed: Vec::new() })
    }

    /// Appends the sealed form of `plain` to `out`.
    pub(crate) fn seal(
        &mut self,
        key: &OpenKey,
        owner: &Owner,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        let chunks = plain.len().div_ceil(CHUNK_BYTES);
        for (number, chunk) in (1..).zip(plain.chunks(CHUNK_BYTES)) {
            let compressed = self.compress(chunk)?;
            let body = if compressed { &self.compressed } else { chunk };
            let last = usize::try_from(number).is_ok_and(|number: usize| number == chunks);
            let flags = if compressed { LZ4 } else { 0 } | if last { LAST } else { 0 };
            let length =
                |bytes: usize| u32::try_from(bytes).map_err(|_| VaultError::Full("a chunk is too long"));
            let nonce = self.nonces.next()?;
            let plain_length = length(chunk.len())?;
            out.extend_from_slice(&length(body.len() + TAG_BYTES)?.to_le_bytes());
            out.extend_from_slice(&plain_length.to_le_bytes());
            out.push(flags);
            out.extend_from_slice(&nonce);
            let start = out.len();
            out.extend_from_slice(body);
            let sealed = out.get_mut(start..).unwrap_or_default();
            let aad = aad(owner, number, flags, plain_length);
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key
                .key
                .seal_in_place_separate_tag(nonce, Aad::from(aad), sealed)
                .map_err(|_| VaultError::Crypto("seal a payload"))?;
            out.extend_from_slice(tag.as_ref());
        }
        Ok(())
    }

    /// Whether `self.compressed` now holds the chunk, smaller by an eighth at least.
    fn compress(&mut self, chunk: &[u8]) -> Result<bool, VaultError> {
        if chunk.len() < COMPRESS_FROM_BYTES {
            return Ok(false);
        }
        self.compressed.resize(get_maximum_output_size(chunk.len()), 0);
        let length = compress_into_with_table(chunk, &mut self.compressed, &mut self.table)
            .map_err(|_| VaultError::Crypto("compress a payload"))?;
        self.compressed.truncate(length);
        Ok(length <= chunk.len() - chunk.len() / 8)
    }
}

/// Opens what [`PayloadSealer::seal`] made, in `sealed`'s own memory. `None` if any of it is not as it was sealed for this
/// entry under this key.
pub(crate) fn open(key: &OpenKey, owner: &Owner, sealed: &mut [u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = sealed;
    for number in 1u32.. {
        let (header, tail) = rest.split_first_chunk_mut::<CHUNK_HEADER_BYTES>()?;
        let (sealed_length, header) = header.split_first_chunk::<4>()?;
        let (plain_length, header) = header.split_first_chunk::<4>()?;
        let (flags, nonce) = header.split_first()?;
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        let (sealed_length, plain_length) =
            (u32::from_le_bytes(*sealed_length), u32::from_le_bytes(*plain_length));
        let (body, tail) = tail.split_at_mut_checked(usize::try_from(sealed_length).ok()?)?;
        let aad = aad(owner, number, *flags, plain_length);
        let body = key.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body).ok()?;
        // Authentic from here on, so these lengths are ours.
        let length = usize::try_from(plain_length).ok().filter(|length| *length <= CHUNK_BYTES)?;
        if flags & LZ4 == 0 {
            plain.extend_from_slice(body);
        } else {
            let start = plain.len();
            plain.resize(start + length, 0);
            let written = decompress_into(body, plain.get_mut(start..)?).ok()?;
            (written == length).then_some(())?;
        }
        rest = tail;
        if flags & LAST != 0 {
            return rest.is_empty().then_some(plain);
        }
    }
    None
}
