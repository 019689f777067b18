//! Writing the vault: buffered, synced once per checkpoint.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use vocabulary::SessionId;

use super::{
    CLASS_COMMANDS, INDEX_RECORD_BYTES, IndexRecord, KeyWrap, NO_SLOT, SLOT_BYTES, SessionKey, VaultError,
    index::{INDEX_FILE, index_offset},
    keys::new_data_key,
    seal::{OpenKey, Owner, PayloadSealer},
    slots::{KEYS_FILE, read_slot, slot_offset, wrap_context},
};

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
    file: File,
    /// Length of what has been written out.
    written: u64,
    buffer: Vec<u8>,
    unsynced: bool,
}

impl Growing {
    /// Opens a file and cuts it to `length`, which it must have.
    fn open(path: PathBuf, length: u64) -> Result<Self, VaultError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(VaultError::file("open", &path))?;
        let found = file.metadata().map_err(VaultError::file("read", &path))?.len();
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
        self.file.write_all_at(&self.buffer, self.written).map_err(VaultError::file("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), VaultError> {
        self.write_out()?;
        if self.unsynced {
            self.file.sync_data().map_err(VaultError::file("sync", &self.path))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

/// The vault, open for writing. After any error it must be opened anew at the last published ends.
pub(crate) struct VaultWriter {
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
        dir: &Path,
        origin: &str,
        keys: Arc<dyn KeyWrap>,
        ends: Ends,
    ) -> Result<Self, VaultError> {
        let payload = Growing::open(payload_path(dir, ends.payload_file), u64::from(ends.payload_end))?;
        let index = Growing::open(dir.join(INDEX_FILE), index_offset(ends.leaves))?;
        let slots = Growing::open(dir.join(KEYS_FILE), slot_offset(ends.slots))?;
        // Files are begun one after the other: the first that is missing is the end.
        for number in ends.payload_file.saturating_add(1)..u32::MAX {
            let path = payload_path(dir, number);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(VaultError::file("remove", path)(error)),
            }
        }
        let (dir, origin, sealer) = (dir.to_owned(), origin.to_owned(), PayloadSealer::new()?);
        Ok(Self { dir, origin, keys, ends, payload, index, slots, sealer, names_changed: true })
    }

    /// How far the files are filled, what is only in memory included.
    pub(crate) const fn ends(&self) -> Ends {
        self.ends
    }

    /// Makes a data key for a session and gives it a slot.
    pub(crate) fn add_session(
        &mut self,
        session: SessionId,
        start: Option<u64>,
    ) -> Result<(u32, OpenKey), VaultError> {
        let key = new_data_key()?;
        let context = wrap_context(&self.origin, session, CLASS_COMMANDS);
        let wrapped = self.keys.wrap(&context, &key)?;
        let slot = SessionKey { session, start, class: CLASS_COMMANDS, erasure: None, wrapped }.encode()?;
        let number = self.ends.slots;
        if number == NO_SLOT {
            return Err(VaultError::Full("there is no room for another session"));
        }
        self.slots.push(&slot)?;
        self.ends.slots += 1;
        Ok((number, OpenKey::new(&key)?))
    }

    /// The data key of a slot.
    pub(crate) fn key(&mut self, number: u32) -> Result<OpenKey, VaultError> {
        OpenKey::new(&self.slot(number)?.unwrap(&self.origin, self.keys.as_ref())?)
    }

    fn slot(&mut self, number: u32) -> Result<SessionKey, VaultError> {
        self.slots.write_out()?;
        read_slot(&self.slots.file, &self.slots.path, number)?.ok_or_else(|| VaultError::Damaged {
            path: self.slots.path.clone(),
            offset: slot_offset(number),
            problem: "the key slot is missing",
        })
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
        self.payload = Growing::open(payload_path(&self.dir, number), 0)?;
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
            let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
            synced.map_err(VaultError::file("sync", &self.dir))?;
            self.names_changed = false;
        }
        Ok(())
    }

    /// Destroys the key in a slot, for good once this returns. Doing it twice is doing it once.
    pub(crate) fn erase(&mut self, number: u32, entry: u64) -> Result<(), VaultError> {
        let slot = self.slot(number)?.erased(entry).encode()?;
        self.slots
            .file
            .write_all_at(&slot, slot_offset(number))
            .and_then(|()| self.slots.file.sync_data())
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

const _: () = assert!(SLOT_BYTES == 256, "the format's documentation says so");
