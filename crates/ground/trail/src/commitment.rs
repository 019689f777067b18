//! Commitments: what a leaf says of a payload field without saying what it is.
//!
//! HMAC-SHA256 under a fresh random key of 32 bytes that is kept with the payload. The key hides (SQL is guessable, a
//! bare hash would leak it) and the message binds the bytes to one field of one entry of one log.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac, rand};
use vocabulary::{Kind, SessionId};

use crate::vault::VaultError;

/// Bytes of a commitment, and of the random key it is made with.
pub(crate) const COMMITMENT_BYTES: usize = 32;

/// Also names the format.
const CONTEXT: &[u8] = b"trailgate/payload/v1\0";

/// Fields up to this long are hashed in one call, which is cheaper than a context.
const ONE_CALL_BYTES: usize = 64 * 1024;

/// Makes and checks commitments of one log. Keeps its buffers.
pub(crate) struct Committer {
    message: Vec<u8>,
    /// Where the part that all entries share ends.
    origin_end: usize,
    /// Where the part that all fields of one entry share ends.
    entry_end: usize,
    random: Randomness,
}

impl Committer {
    pub(crate) fn new(origin: &str) -> Self {
        let mut message = CONTEXT.to_vec();
        // An origin is a line of a note: far shorter than 64 KiB.
        message.extend_from_slice(&u16::try_from(origin.len()).unwrap_or(u16::MAX).to_le_bytes());
        message.extend_from_slice(origin.as_bytes());
        let end = message.len();
        Self { message, origin_end: end, entry_end: end, random: Randomness::new() }
    }

    /// Turns to an entry.
    pub(crate) fn entry(&mut self, session: SessionId, seq: u64, kind: Kind) {
        self.message.truncate(self.origin_end);
        self.message.extend_from_slice(session.as_bytes());
        self.message.extend_from_slice(&seq.to_le_bytes());
        self.message.push(kind.code());
        self.entry_end = self.message.len();
    }

    /// Commits to a field of the entry turned to: the random key, and the commitment.
    pub(crate) fn commit(
        &mut self,
        field: u8,
        payload: &[u8],
    ) -> Result<([u8; COMMITMENT_BYTES], [u8; COMMITMENT_BYTES]), VaultError> {
        let r = self.random.take()?;
        Ok((r, self.compute(&r, field, payload)))
    }

    /// Whether a commitment is that of a field of the entry turned to.
    pub(crate) fn holds(&mut self, r: &[u8; 32], field: u8, payload: &[u8], commitment: &[u8; 32]) -> bool {
        verify_slices_are_equal(&self.compute(r, field, payload), commitment).is_ok()
    }

    fn compute(&mut self, r: &[u8; 32], field: u8, payload: &[u8]) -> [u8; COMMITMENT_BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, r);
        self.message.truncate(self.entry_end);
        self.message.push(field);
        let tag = if payload.len() <= ONE_CALL_BYTES {
            self.message.extend_from_slice(payload);
            hmac::sign(&key, &self.message)
        } else {
            let mut context = hmac::Context::with_key(&key);
            context.update(&self.message);
            context.update(payload);
            context.sign()
        };
        let mut commitment = [0; COMMITMENT_BYTES];
        for (place, byte) in commitment.iter_mut().zip(tag.as_ref()) {
            *place = *byte;
        }
        commitment
    }
}

/// Random bytes, fetched many at once: a call for each key costs as much as the commitment.
struct Randomness {
    bytes: Box<[u8; 4096]>,
    used: usize,
}

impl Randomness {
    fn new() -> Self {
        Self { bytes: Box::new([0; 4096]), used: 4096 }
    }

    fn take(&mut self) -> Result<[u8; 32], VaultError> {
        if self.used >= self.bytes.len() {
            rand::fill(self.bytes.as_mut_slice()).map_err(|_| VaultError::Crypto("make random bytes"))?;
            self.used = 0;
        }
        let fresh = self.bytes.get_mut(self.used..).and_then(<[u8]>::first_chunk_mut::<32>);
        let fresh = fresh.ok_or(VaultError::Crypto("make random bytes"))?;
        self.used += 32;
        // Taken once: it must not be found here afterwards.
        Ok(std::mem::take(fresh))
    }
}
