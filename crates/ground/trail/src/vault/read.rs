//! Reading the vault, also while a gateway writes it.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    INDEX_RECORD_BYTES, IndexRecord, SessionKey, VaultError,
    index::{INDEX_FILE, index_offset},
    slots::{KEYS_FILE, read_slot, read_up_to, slot_offset},
    write::payload_path,
};

/// Payload files kept open.
const MAX_OPEN_FILES: usize = 64;

/// Reads the files of a vault. Only what a published checkpoint covers is sure to be there.
pub(crate) struct VaultReader {
    dir: PathBuf,
    index: File,
    slots: File,
    payloads: HashMap<u32, File>,
}

impl VaultReader {
    /// The files that have to be there.
    pub(crate) const FILES: [&str; 2] = [INDEX_FILE, KEYS_FILE];

    pub(crate) fn open(dir: &Path) -> Result<Self, VaultError> {
        let open = |name| {
            let path = dir.join(name);
            File::open(&path).map_err(VaultError::file("open", path))
        };
        let (index, slots) = (open(INDEX_FILE)?, open(KEYS_FILE)?);
        Ok(Self { dir: dir.to_owned(), index, slots, payloads: HashMap::new() })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The index records of the leaves from `first` on, up to `count`; fewer only where the file ends.
    pub(crate) fn index_bytes(&self, first: u64, count: usize) -> Result<Vec<u8>, VaultError> {
        let mut bytes = vec![0; count * INDEX_RECORD_BYTES];
        let read = read_up_to(&self.index, &mut bytes, index_offset(first))
            .map_err(VaultError::file("read", self.dir.join(INDEX_FILE)))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The index record of one leaf.
    pub(crate) fn index(&self, leaf: u64) -> Result<IndexRecord, VaultError> {
        let bytes = self.index_bytes(leaf, 1)?;
        bytes
            .first_chunk::<INDEX_RECORD_BYTES>()
            .and_then(IndexRecord::decode)
            .ok_or_else(|| Self::damaged_index(&self.dir, leaf, "the index record is not valid"))
    }

    pub(crate) fn damaged_index(vault: &Path, leaf: u64, problem: &'static str) -> VaultError {
        VaultError::Damaged { path: vault.join(INDEX_FILE), offset: index_offset(leaf), problem }
    }

    /// One key slot.
    pub(crate) fn slot(&self, number: u32) -> Result<SessionKey, VaultError> {
        let path = self.dir.join(KEYS_FILE);
        read_slot(&self.slots, &path, number)?.ok_or_else(|| VaultError::Damaged {
            path,
            offset: slot_offset(number),
            problem: "the key slot is missing",
        })
    }

    /// A sealed payload, its CRC checked.
    pub(crate) fn payload(&mut self, record: &IndexRecord) -> Result<Vec<u8>, VaultError> {
        let path = payload_path(&self.dir, record.file);
        if self.payloads.len() >= MAX_OPEN_FILES && !self.payloads.contains_key(&record.file) {
            self.payloads.clear();
        }
        let file = match self.payloads.entry(record.file) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(File::open(&path).map_err(VaultError::file("open", &path))?)
            }
        };
        let size = file.metadata().map_err(VaultError::file("read", &path))?.len();
        let offset = u64::from(record.offset);
        let damaged = |problem| VaultError::Damaged { path: path.clone(), offset, problem };
        // Before making room for a length that a damaged index may have made up.
        if offset + u64::from(record.length) > size {
            return Err(damaged("the payload is missing or cut short"));
        }
        let length = usize::try_from(record.length).map_err(|_| VaultError::Full("a payload is too long"))?;
        let mut sealed = vec![0; length];
        file.read_exact_at(&mut sealed, offset).map_err(VaultError::file("read", &path))?;
        if crc32c::crc32c(&sealed) != record.payload_crc {
            return Err(damaged("the sealed payload is not as it was written"));
        }
        Ok(sealed)
    }
}
