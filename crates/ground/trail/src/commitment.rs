//! Commitments: what a leaf says of a payload field without saying what it is.
//!
//! HMAC-SHA256 under a fresh random key of 32 bytes that is kept with the payload. The key hides (SQL is guessable, a
//! bare hash would leak it) and the message binds the bytes to one field of one entry of one log.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac, rand,
};
use vocabulary::{Kind, SessionId};

use crate::vault::VaultError;

/// Bytes of a commitment, and of the random key it is made with.
pub(crate) const COMMITMENT_BYTES: usize = 32;

/// Also names the format.
const CONTEXT: &[u8] = b"trailgate/payload/v1\0";

/// Fields up to this long are hashed in one call, which is cheaper than a context.
const ONE_CALL_BYTES: usize = 64 * 1024;

/// The block that SHA-256 works on: where HMAC puts its key.
const BLOCK_BYTES: usize = 64;

/// Makes and checks commitments of one log. Keeps its buffers.
pub(crate) struct Committer {
    /// A block for the key, then the message.
    message: Vec<u8>,
    /// Where the part that all entries share ends.
    origin_end: usize,
    /// Where the part that all fields of one entry share ends.
    entry_end: usize,
    random: Randomness,
}

impl Committer {
    pub(crate) fn new(origin: &str) -> Self {
        let mut message = vec![0; BLOCK_BYTES];
        message.extend_from_slice(CONTEXT);
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
        self.message.truncate(self.entry_end);
        self.message.push(field);
        let mut commitment = [0; COMMITMENT_BYTES];
        if payload.len() <= ONE_CALL_BYTES {
            self.message.extend_from_slice(payload);
            copy(&mut commitment, &short_hmac(r, &mut self.message));
        } else {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, r));
            context.update(self.message.get(BLOCK_BYTES..).unwrap_or_default());
            context.update(payload);
            copy(&mut commitment, context.sign().as_ref());
        }
        commitment
    }
}

/// HMAC-SHA256 (RFC 2104) of what follows the first block of `message`, in two calls of the hash: half the price of the
/// library's own for messages of a few hundred bytes, and each command has three.
fn short_hmac(key: &[u8; 32], message: &mut [u8]) -> [u8; 32] {
    let keyed = |block: &mut [u8], pad: u8| {
        block.fill(pad);
        block.iter_mut().zip(key).for_each(|(place, byte)| *place ^= byte);
    };
    keyed(message.get_mut(..BLOCK_BYTES).unwrap_or_default(), 0x36);
    let mut outer = [0; BLOCK_BYTES + 32];
    let (block, inner) = outer.split_at_mut(BLOCK_BYTES);
    keyed(block, 0x5c);
    copy(inner, digest(&SHA256, message).as_ref());
    let mut tag = [0; 32];
    copy(&mut tag, digest(&SHA256, &outer).as_ref());
    tag
}

fn copy(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(place, byte)| *place = *byte);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn our_hmac_is_the_librarys(key: [u8; 32], message: Vec<u8>) {
            let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
            let mut padded = [&[0xee; BLOCK_BYTES], message.as_slice()].concat();
            let ours = short_hmac(&key, &mut padded);
            prop_assert_eq!(ours.as_slice(), expected.as_ref());
        }
    }

    /// The format on paper: a change here is a change of the format.
    #[test]
    fn a_commitment_is_made_of_these_bytes() {
        let session = SessionId::from_bytes([0x11; 16]);
        for length in [5, ONE_CALL_BYTES, ONE_CALL_BYTES + 1] {
            let (payload, r) = (vec![b'x'; length], [0x22; 32]);
            let message = [
                b"trailgate/payload/v1\0\x0b\0example.com".as_slice(),
                &[0x11; 16],
                &[3, 0, 0, 0, 0, 0, 0, 0, 4, 1],
                &payload,
            ];
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &r), &message.concat());
            let mut committer = Committer::new("example.com");
            committer.entry(session, 3, Kind::Command);
            let commitment: [u8; 32] = tag.as_ref().try_into().unwrap();
            assert!(committer.holds(&r, 1, &payload, &commitment));
            assert!(!committer.holds(&r, 2, &payload, &commitment));
        }
    }
}
