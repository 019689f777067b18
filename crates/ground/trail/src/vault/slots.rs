//! The slots of wrapped data keys: fixed size, so that erasing is overwriting one in place.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use vocabulary::SessionId;

use super::{KeyWrap, VaultError, keys::DataKey};

/// Bytes of one slot.
pub(crate) const SLOT_BYTES: usize = 256;
/// The longest wrapped key that a slot has room for, in bytes.
pub const MAX_WRAPPED_BYTES: usize = 200;
pub(crate) const KEYS_FILE: &str = "keys";

const LIVE: u8 = 1;
const ERASED: u8 = 2;
const CRC_OFFSET: usize = SLOT_BYTES - 4;
const WRAPPED_OFFSET: usize = 40;

/// What binds a wrapped key to its place; also names the format.
const CONTEXT: &[u8] = b"trailgate/key-slot/v1\0";

/// One slot of the key file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionKey {
    /// The session whose payloads it opens.
    pub session: SessionId,
    /// Index of the leaf that the session begins with; `None` if the session has no beginning in the journal.
    pub start: Option<u64>,
    /// The retention class.
    pub class: u8,
    /// Index of the leaf that records the erasure, if the key was destroyed.
    pub erasure: Option<u64>,
    /// The wrapped key; empty if it was destroyed.
    pub(crate) wrapped: Vec<u8>,
}

/// The context that a session's data key is wrapped with.
pub(crate) fn wrap_context(origin: &str, session: SessionId, class: u8) -> Vec<u8> {
    let mut context = CONTEXT.to_vec();
    // An origin is a line of a note: far shorter than 64 KiB.
    context.extend_from_slice(&u16::try_from(origin.len()).unwrap_or(u16::MAX).to_le_bytes());
    context.extend_from_slice(origin.as_bytes());
    context.extend_from_slice(session.as_bytes());
    context.push(class);
    context
}

impl SessionKey {
    /// Unwraps the data key.
    ///
    /// # Errors
    /// [`VaultError::Erased`], [`VaultError::Unwrap`].
    pub(crate) fn unwrap(&self, origin: &str, keys: &dyn KeyWrap) -> Result<DataKey, VaultError> {
        match self.erasure {
            Some(entry) => Err(VaultError::Erased { entry }),
            None => keys.unwrap(&wrap_context(origin, self.session, self.class), &self.wrapped),
        }
    }

    pub(crate) fn encode(&self) -> Result<[u8; SLOT_BYTES], VaultError> {
        let too_long = || VaultError::WrappedTooLong { bytes: self.wrapped.len(), most: MAX_WRAPPED_BYTES };
        let mut fields = Vec::with_capacity(SLOT_BYTES);
        fields.extend_from_slice(self.session.as_bytes());
        fields.extend_from_slice(&self.start.unwrap_or(u64::MAX).to_le_bytes());
        fields.extend_from_slice(&self.erasure.unwrap_or(u64::MAX).to_le_bytes());
        fields.push(self.class);
        fields.push(if self.erasure.is_some() { ERASED } else { LIVE });
        let length = u16::try_from(self.wrapped.len()).map_err(|_| too_long())?;
        fields.extend_from_slice(&length.to_le_bytes());
        fields.extend_from_slice(&[0; 4]);
        fields.extend_from_slice(&self.wrapped);
        let mut slot = [0; SLOT_BYTES];
        if self.wrapped.len() > MAX_WRAPPED_BYTES {
            return Err(too_long());
        }
        for (place, byte) in slot.iter_mut().zip(&fields) {
            *place = *byte;
        }
        let (body, crc) = slot.split_at_mut(CRC_OFFSET);
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        Ok(slot)
    }

    /// Reads a slot; `None` if it is not one.
    pub(crate) fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let (body, crc) = slot.split_at_checked(CRC_OFFSET)?;
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return None;
        }
        let (session, rest) = body.split_first_chunk::<16>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (erasure, rest) = rest.split_first_chunk::<8>()?;
        let ([class, state], rest) = rest.split_first_chunk::<2>()?;
        let (length, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let wrapped = body.get(WRAPPED_OFFSET..WRAPPED_OFFSET + length)?;
        let number = |bytes: &[u8; 8]| Some(u64::from_le_bytes(*bytes)).filter(|number| *number != u64::MAX);
        let (start, erasure) = (number(start), number(erasure));
        let whole = match *state {
            LIVE => erasure.is_none() && !wrapped.is_empty(),
            ERASED => erasure.is_some() && wrapped.is_empty(),
            _ => false,
        };
        let session = SessionId::from_bytes(*session);
        whole.then(|| Self { session, start, class: *class, erasure, wrapped: wrapped.to_vec() })
    }

    /// The slot after its key was destroyed.
    pub(crate) fn erased(&self, entry: u64) -> Self {
        Self { erasure: Some(entry), wrapped: Vec::new(), ..self.clone() }
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

/// All slots of a session, in order.
pub(crate) fn keys_of(vault: &Path, session: SessionId) -> Result<Vec<SessionKey>, VaultError> {
    Ok(numbered_keys_of(vault, session)?.into_iter().map(|(_, key)| key).collect())
}

/// All slots of a session with their numbers, in order.
pub(crate) fn numbered_keys_of(
    vault: &Path,
    session: SessionId,
) -> Result<Vec<(u32, SessionKey)>, VaultError> {
    const SLOTS_AT_ONCE: usize = 4096;
    let path = vault.join(KEYS_FILE);
    let file = File::open(&path).map_err(VaultError::file("open", &path))?;
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
