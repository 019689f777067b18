//! Writing the vault: buffered, synced once per checkpoint.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use journal::{Storage, StorageFile};
use serde::{Deserialize, Serialize};
use vocabulary::SessionId;

use super::{
    INDEX_RECORD_BYTES, IndexRecord, KeyWrap, NO_SLOT, SLOT_BYTES, SessionKey, VaultError,
    index::{INDEX_FILE, index_offset},
    keys::new_data_key,
    seal::{OpenKey, Owner, PayloadSealer},
    slots::{KEYS_FILE, slot_offset, wrap_context},
};
use crate::leaf::SlotLeaf;

/// A payload file takes no further payload beyond this; one payload may go past it.
const PAYLOAD_FILE_BYTES: u32 = 256 * 1024 * 1024;
/// Written out when a buffer is longer than this.
const BUFFER_BYTES: usize = 1024 * 1024;

/// How far the vault's files are filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends {
    /// Records in the index: as many as the ledger has leaves.
    pub(crate) leaves: u64,
    /// Number of the current payload file.
    pub(crate) payload_file: u32,
    /// Its length in bytes.
    pub(crate) payload_end: u32,
    /// Slots in the key file.
    pub(crate) slots: u32,
}

/// A file that grows at its end, in memory first.
struct Growing {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    /// Length of what has been written out.
    written: u64,
    buffer: Vec<u8>,
    unsynced: bool,
}

impl Growing {
    /// Opens a file and cuts it to `length`, which it must have.
    fn open(storage: &dyn Storage, path: PathBuf, length: u64) -> Result<Self, VaultError> {
        let file = open_or_create(storage, &path).map_err(VaultError::file("open", &path))?;
        let found = file.length().map_err(VaultError::file("read", &path))?;
        if found < length {
            let problem = "it is shorter than it was when the last checkpoint was published";
            return Err(VaultError::Damaged { path, offset: found, problem });
        }
        if found > length {
            // What a crash left beyond the published checkpoint: it is made anew from the journal.
            file.set_len(length).map_err(VaultError::file("cut", &path))?;
        }
        Ok(Self { path, file, written: length, buffer: Vec::new(), unsynced: found > length })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), VaultError> {
        self.buffer.extend_from_slice(bytes);
        self.write_out_if_long()
    }

    fn write_out_if_long(&mut self) -> Result<(), VaultError> {
        if self.buffer.len() >= BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), VaultError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.unsynced = true;
        write_all_at(&*self.file, &self.buffer, self.written)
            .map_err(VaultError::file("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), VaultError> {
        self.write_out()?;
        if self.unsynced {
            self.file.sync().map_err(VaultError::file("sync", &self.path))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

/// The vault, open for writing. After any error it must be opened anew at the last published ends.
pub(crate) struct VaultWriter {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    origin: String,
    keys: Arc<dyn KeyWrap>,
    ends: Ends,
    payload: Growing,
    index: Growing,
    slots: Growing,
    sealer: PayloadSealer,
    names_changed: bool,
}

impl VaultWriter {
    /// Opens the vault in `dir` and cuts off what lies beyond `ends`.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        origin: &str,
        keys: Arc<dyn KeyWrap>,
        ends: Ends,
    ) -> Result<Self, VaultError> {
        let payload =
            Growing::open(&*storage, payload_path(dir, ends.payload_file), u64::from(ends.payload_end))?;
        let index = Growing::open(&*storage, dir.join(INDEX_FILE), index_offset(ends.leaves))?;
        let slots = Growing::open(&*storage, dir.join(KEYS_FILE), slot_offset(ends.slots))?;
        // Files are begun one after the other: the first that is missing is the end.
        for number in ends.payload_file.saturating_add(1)..u32::MAX {
            let path = payload_path(dir, number);
            match storage.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(VaultError::file("remove", path)(error)),
            }
        }
        let (dir, origin, sealer) = (dir.to_owned(), origin.to_owned(), PayloadSealer::new()?);
        Ok(Self { storage, dir, origin, keys, ends, payload, index, slots, sealer, names_changed: true })
    }

    /// How far the files are filled, what is only in memory included.
    pub(crate) const fn ends(&self) -> Ends {
        self.ends
    }

    /// Makes a data key for a session and a retention class, and gives it a slot, which the next leaf has to speak of.
    pub(crate) fn add_key(
        &mut self,
        session: SessionId,
        start: Option<u64>,
        class: &str,
    ) -> Result<(SlotLeaf, OpenKey), VaultError> {
        let key = new_data_key()?;
        let wrapped = self.keys.wrap(&wrap_context(&self.origin, session, class), &key)?;
        let (class, wrapped_by) = (class.to_owned(), self.keys.id().to_owned());
        let slot = SessionKey { session, start, class, wrapped_by, erasure: None, wrapped };
        let begun = Some(slot.digest()?);
        let number = self.ends.slots;
        if number == NO_SLOT {
            return Err(VaultError::Full("there is no room for another session"));
        }
        self.slots.push(&slot.encode()?)?;
        self.ends.slots += 1;
        Ok((SlotLeaf { number, begun }, OpenKey::new(&key)?))
    }

    /// The data key of a slot.
    pub(crate) fn key(&mut self, number: u32) -> Result<OpenKey, VaultError> {
        OpenKey::new(&self.slot(number)?.unwrap(&self.origin, self.keys.as_ref())?)
    }

    /// A slot, also one that is not written out yet.
    pub(crate) fn slot(&mut self, number: u32) -> Result<SessionKey, VaultError> {
        self.slots.write_out()?;
        let damaged = |problem| VaultError::Damaged {
            path: self.slots.path.clone(),
            offset: slot_offset(number),
            problem,
        };
        let mut slot = [0; SLOT_BYTES];
        let read = read_whole_at(&*self.slots.file, &mut slot, slot_offset(number));
        if !read.map_err(VaultError::file("read", &self.slots.path))? {
            return Err(damaged("the key slot is missing"));
        }
        SessionKey::decode(&slot).ok_or_else(|| damaged("the key slot is not valid"))
    }

    /// Adds the payload and the index record of the next leaf. `record`'s file, offset, length and CRC are filled in here.
    pub(crate) fn put(
        &mut self,
        key: &OpenKey,
        owner: &Owner,
        plain: &[u8],
        record: IndexRecord,
    ) -> Result<(), VaultError> {
        if self.ends.payload_end >= PAYLOAD_FILE_BYTES {
            self.next_payload_file()?;
        }
        let start = self.payload.buffer.len();
        if !plain.is_empty() {
            self.sealer.seal(key, owner, plain, &mut self.payload.buffer)?;
        }
        let sealed = self.payload.buffer.get(start..).unwrap_or_default();
        let full = |_| VaultError::Full("a payload is too long");
        let length = u32::try_from(sealed.len()).map_err(full)?;
        let record = IndexRecord {
            file: self.ends.payload_file,
            offset: self.ends.payload_end,
            length,
            payload_crc: crc32c::crc32c(sealed),
            ..record
        };
        self.ends.payload_end =
            self.ends.payload_end.checked_add(length).ok_or(VaultError::Full("a payload is too long"))?;
        self.payload.write_out_if_long()?;
        self.index.push(&record.encode())?;
        self.ends.leaves += 1;
        debug_assert_eq!(record.encode().len(), INDEX_RECORD_BYTES);
        Ok(())
    }

    fn next_payload_file(&mut self) -> Result<(), VaultError> {
        self.payload.sync()?;
        let number =
            self.ends.payload_file.checked_add(1).ok_or(VaultError::Full("there are too many files"))?;
        self.payload = Growing::open(&*self.storage, payload_path(&self.dir, number), 0)?;
        (self.ends.payload_file, self.ends.payload_end) = (number, 0);
        self.names_changed = true;
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) -> Result<(), VaultError> {
        self.payload.sync()?;
        self.index.sync()?;
        self.slots.sync()?;
        if self.names_changed {
            self.storage.sync_dir(&self.dir).map_err(VaultError::file("sync", &self.dir))?;
            self.names_changed = false;
        }
        Ok(())
    }

    /// Destroys the key in a slot, for good once this returns; `erased` is the slot as it is then. Doing it twice is doing
    /// it once, and doing it again heals a slot that was torn by the first time.
    pub(crate) fn erase(&mut self, number: u32, erased: &SessionKey) -> Result<(), VaultError> {
        self.slots.write_out()?;
        let slot = erased.encode()?;
        write_all_at(&*self.slots.file, &slot, slot_offset(number))
            .and_then(|()| self.slots.file.sync())
            .map_err(VaultError::file("write", &self.slots.path))
    }

    /// Writes key slots out, so that they can be read from the file.
    pub(crate) fn write_out_slots(&mut self) -> Result<(), VaultError> {
        self.slots.write_out()
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The path of a payload file.
pub(crate) fn payload_path(vault: &Path, number: u32) -> PathBuf {
    vault.join(format!("payload-{number:08}"))
}

/// Opens a file for reading and writing, making it if there is none.
pub(crate) fn open_or_create(storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
    match storage.open(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => storage.create(path),
        opened => opened,
    }
}

/// Writes all of it, however many writes that takes.
pub(crate) fn write_all_at(file: &dyn StorageFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer; `false` if the file ends before.
fn read_whole_at(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => return Ok(false),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

const _: () = assert!(SLOT_BYTES == 512, "the format's documentation says so");
