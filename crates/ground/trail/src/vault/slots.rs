//! The slots of wrapped data keys: fixed size, so that erasing is overwriting one in place.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use vocabulary::SessionId;

use super::{KeyWrap, VaultError, keys::DataKey};

/// Bytes of one slot. One sector of the usual disks: it is overwritten as a whole or not at all.
pub(crate) const SLOT_BYTES: usize = 512;
/// The longest wrapped key that a slot has room for, in bytes.
pub const MAX_WRAPPED_BYTES: usize = 372;
/// The longest name of what wrapped a key, in bytes.
pub const MAX_KEY_ID_BYTES: usize = 64;
/// The longest name of a retention class, in bytes.
pub const MAX_CLASS_BYTES: usize = 32;
pub(crate) const KEYS_FILE: &str = "keys";

const LIVE: u8 = 1;
const ERASED: u8 = 2;
const CRC_OFFSET: usize = SLOT_BYTES - 4;
const CLASS_OFFSET: usize = 40;
const KEY_ID_OFFSET: usize = CLASS_OFFSET + MAX_CLASS_BYTES;
const WRAPPED_OFFSET: usize = KEY_ID_OFFSET + MAX_KEY_ID_BYTES;

const _: () = assert!(WRAPPED_OFFSET + MAX_WRAPPED_BYTES == CRC_OFFSET, "the parts of a slot fill it");

/// What binds a wrapped key to its place; also names the format.
const CONTEXT: &[u8] = b"trailgate/key-slot/v2\0";

/// One slot of the key file: the data key of one session and retention class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionKey {
    /// The session whose payloads it opens.
    pub session: SessionId,
    /// Index of the leaf that the session begins with; `None` if the session has no beginning in the journal.
    pub start: Option<u64>,
    /// The retention class.
    pub class: String,
    /// What wrapped the key: [`KeyWrap::id`].
    pub wrapped_by: String,
    /// Index of the leaf that records the erasure, if the key was destroyed.
    pub erasure: Option<u64>,
    /// The wrapped key; empty if it was destroyed.
    pub(crate) wrapped: Vec<u8>,
}

/// The context that a session's data key is wrapped with.
pub(crate) fn wrap_context(origin: &str, session: SessionId, class: &str) -> Vec<u8> {
    let mut context = CONTEXT.to_vec();
    // An origin is a line of a note: far shorter than 64 KiB.
    context.extend_from_slice(&u16::try_from(origin.len()).unwrap_or(u16::MAX).to_le_bytes());
    context.extend_from_slice(origin.as_bytes());
    context.extend_from_slice(session.as_bytes());
    context.extend_from_slice(class.as_bytes());
    context
}

impl SessionKey {
    /// Unwraps the data key.
    ///
    /// # Errors
    /// [`VaultError::Erased`], [`VaultError::OtherKey`], [`VaultError::Unwrap`].
    pub(crate) fn unwrap(&self, origin: &str, keys: &dyn KeyWrap) -> Result<DataKey, VaultError> {
        if let Some(entry) = self.erasure {
            return Err(VaultError::Erased { entry });
        }
        if !keys.opens(&self.wrapped_by) {
            return Err(VaultError::OtherKey {
                wrapped_by: self.wrapped_by.clone(),
                at_hand: keys.id().to_owned(),
            });
        }
        keys.unwrap(&self.wrapped_by, &wrap_context(origin, self.session, &self.class), &self.wrapped)
    }

    pub(crate) fn encode(&self) -> Result<[u8; SLOT_BYTES], VaultError> {
        let Self { session, start, class, wrapped_by, erasure, wrapped } = self;
        for (what, bytes, most) in [
            ("wrapped key", wrapped.len(), MAX_WRAPPED_BYTES),
            ("name of a key", wrapped_by.len(), MAX_KEY_ID_BYTES),
            ("name of a retention class", class.len(), MAX_CLASS_BYTES),
        ] {
            if bytes > most {
                return Err(VaultError::TooLong { what, bytes, most });
            }
        }
        let byte = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let state = if erasure.is_some() { ERASED } else { LIVE };
        let mut slot = [0; SLOT_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(place) = slot.get_mut(offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, session.as_bytes());
        put(16, &start.unwrap_or(u64::MAX).to_le_bytes());
        put(24, &erasure.unwrap_or(u64::MAX).to_le_bytes());
        put(32, &[state, byte(class.len()), byte(wrapped_by.len()), 0]);
        put(36, &u16::try_from(wrapped.len()).unwrap_or(u16::MAX).to_le_bytes());
        put(CLASS_OFFSET, class.as_bytes());
        put(KEY_ID_OFFSET, wrapped_by.as_bytes());
        put(WRAPPED_OFFSET, wrapped);
        let (body, crc) = slot.split_at_mut(CRC_OFFSET);
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        Ok(slot)
    }

    /// What the first leaf under the slot says of it: the SHA-256 of all but its CRC. Holds only while the key is there.
    ///
    /// # Errors
    /// [`VaultError::TooLong`] if it fits no slot.
    pub(crate) fn digest(&self) -> Result<[u8; 32], VaultError> {
        let slot = self.encode()?;
        let said = digest(&SHA256, slot.get(..CRC_OFFSET).unwrap_or_default());
        said.as_ref().try_into().map_err(|_| VaultError::Crypto("hash a key slot"))
    }

    /// Reads a slot; `None` if it is not one, or not in the one form that it is written in.
    pub(crate) fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let (body, crc) = slot.split_at_checked(CRC_OFFSET)?;
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return None;
        }
        let (session, rest) = body.split_first_chunk::<16>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (erasure, rest) = rest.split_first_chunk::<8>()?;
        let ([state, class, key_id, _], rest) = rest.split_first_chunk::<4>()?;
        let (length, _) = rest.split_first_chunk::<2>()?;
        let part = |offset: usize, length: usize, most: usize| {
            (length <= most).then_some(())?;
            body.get(offset..offset + length)
        };
        let text = |offset, length: &u8, most| {
            let bytes = part(offset, usize::from(*length), most)?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        };
        let class = text(CLASS_OFFSET, class, MAX_CLASS_BYTES)?;
        let wrapped_by = text(KEY_ID_OFFSET, key_id, MAX_KEY_ID_BYTES)?;
        let wrapped =
            part(WRAPPED_OFFSET, usize::from(u16::from_le_bytes(*length)), MAX_WRAPPED_BYTES)?.to_vec();
        let number = |bytes: &[u8; 8]| Some(u64::from_le_bytes(*bytes)).filter(|number| *number != u64::MAX);
        let (start, erasure) = (number(start), number(erasure));
        let whole = match *state {
            LIVE => erasure.is_none() && !wrapped.is_empty(),
            ERASED => erasure.is_some() && wrapped.is_empty(),
            _ => false,
        };
        let session = SessionId::from_bytes(*session);
        let key = whole.then_some(Self { session, start, class, wrapped_by, erasure, wrapped })?;
        key.encode().is_ok_and(|canonical| canonical == *slot).then_some(key)
    }
}

/// Where slot `number` begins in the key file.
pub(crate) fn slot_offset(number: u32) -> u64 {
    u64::from(number) * SLOT_BYTES as u64
}

/// Reads one slot. `None` beyond the end of the file.
pub(crate) fn read_slot(file: &File, path: &Path, number: u32) -> Result<Option<SessionKey>, VaultError> {
    let mut slot = [0; SLOT_BYTES];
    match file.read_exact_at(&mut slot, slot_offset(number)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(VaultError::file("read", path)(error)),
    }
    SessionKey::decode(&slot).map(Some).ok_or_else(|| damaged(path, number))
}

/// All slots of a session with their numbers, in order.
pub(crate) fn numbered_keys_of(
    vault: &Path,
    session: SessionId,
) -> Result<Vec<(u32, SessionKey)>, VaultError> {
    const SLOTS_AT_ONCE: usize = 2048;
    let path = vault.join(KEYS_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        // A vault that nothing was written to yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(VaultError::file("open", &path)(error)),
    };
    let mut found = Vec::new();
    let mut chunk = vec![0; SLOTS_AT_ONCE * SLOT_BYTES];
    let mut first = 0u32;
    loop {
        let read =
            read_up_to(&file, &mut chunk, slot_offset(first)).map_err(VaultError::file("read", &path))?;
        let (slots, _torn) = chunk.get(..read).unwrap_or_default().as_chunks::<SLOT_BYTES>();
        for slot in slots {
            // Cheap first: a damaged slot of another session is not in the way here, `verify` names it.
            if slot.starts_with(session.as_bytes()) {
                found.push((first, SessionKey::decode(slot).ok_or_else(|| damaged(&path, first))?));
            }
            first += 1;
        }
        if slots.len() < SLOTS_AT_ONCE {
            return Ok(found);
        }
    }
}

/// Walks the slots `0..end`, in order; `None` for one that is not valid.
pub(crate) fn each_slot(
    vault: &Path,
    end: u32,
    mut visit: impl FnMut(u32, Option<SessionKey>),
) -> Result<(), VaultError> {
    const SLOTS_AT_ONCE: u32 = 2048;
    let path = vault.join(KEYS_FILE);
    if end == 0 {
        return Ok(());
    }
    let file = File::open(&path).map_err(VaultError::file("open", &path))?;
    let mut first = 0;
    while first < end {
        let count = SLOTS_AT_ONCE.min(end - first);
        let mut chunk = vec![0; usize::try_from(count).unwrap_or_default() * SLOT_BYTES];
        let read =
            read_up_to(&file, &mut chunk, slot_offset(first)).map_err(VaultError::file("read", &path))?;
        let (slots, _torn) = chunk.get(..read).unwrap_or_default().as_chunks::<SLOT_BYTES>();
        for (number, slot) in (first..).zip(slots) {
            visit(number, SessionKey::decode(slot));
        }
        first += count;
    }
    Ok(())
}

fn damaged(path: &Path, number: u32) -> VaultError {
    VaultError::Damaged {
        path: path.to_owned(),
        offset: slot_offset(number),
        problem: "the key slot is not valid",
    }
}

/// Fills as much of `buffer` as the file has from `offset` on.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
