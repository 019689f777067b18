//! One thread's part of the entries: leaves, index records, payloads.

use std::{collections::HashMap, fs::File, path::PathBuf};

use ledger::Snapshot;
use vocabulary::{EntryId, Kind, SessionId};

use super::{Finding, Run, keeping::Keeping, session::Seen, slots};
use crate::{
    commitment::Committer,
    leaf::Leaf,
    vault::{
        Field, Fields, INDEX_RECORD_BYTES, IndexRecord, KeyWrap, NODE_KEY_PREFIX, OpenKey, Owner, SessionKey,
        VaultError, VaultReader, open, payload_path, read_up_to,
    },
};

/// Keys kept at once.
const MAX_KEYS: usize = 65_536;
/// Read of a payload file at once.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What one thread has found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) verified: u64,
    pub(super) erased: u64,
    pub(super) missing: u64,
    pub(super) sealed: u64,
    pub(super) bare: u64,
    pub(super) sessions: HashMap<SessionId, Seen>,
    /// Erasures and holds.
    pub(super) keeping: Keeping,
    /// Key slots as the first leaves under them say.
    pub(super) begun: slots::Begun,
}

/// What became of a payload.
enum Verdict {
    Verified,
    Erased,
    Sealed,
    Bare,
    Missing(VaultError),
    Wrong(String),
}

/// Verifies ranges of entries.
pub(super) struct Worker<'a> {
    run: &'a Run<'a>,
    snapshot: &'a Snapshot,
    /// None if files of it are missing, which has been named.
    vault: Option<VaultReader>,
    slots: &'a [Option<SessionKey>],
    keys: Option<&'a dyn KeyWrap>,
    committer: Committer,
    opened: HashMap<u32, Option<OpenKey>>,
    window: Window,
    scratch: Vec<u8>,
    found: Found,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        run: &'a Run<'a>,
        snapshot: &'a Snapshot,
        vault: Option<VaultReader>,
        slots: &'a [Option<SessionKey>],
        keys: Option<&'a dyn KeyWrap>,
    ) -> Self {
        let committer = Committer::new(snapshot.checkpoint().origin());
        let window = Window::new(run.layout.vault());
        let (opened, scratch, found) = (HashMap::new(), Vec::new(), Found::default());
        Self { run, snapshot, vault, slots, keys, committer, opened, window, scratch, found }
    }

    pub(super) fn finish(self) -> Found {
        self.found
    }

    /// Verifies the entries `first..end`.
    pub(super) fn verify(&mut self, first: u64, end: u64) {
        let count = usize::try_from(end - first).unwrap_or_default();
        let index = match self.vault.as_ref().map(|vault| vault.index_bytes(first, count)).transpose() {
            Ok(index) => index.unwrap_or_default(),
            Err(error) => {
                self.run.find_in_vault(first, None, &error);
                Vec::new()
            }
        };
        let (records, _) = index.as_chunks::<INDEX_RECORD_BYTES>();
        for entry in self.snapshot.entries(first..end) {
            // The ledger's own verification has named a bundle that can't be read.
            let Ok((at, bytes)) = entry else { continue };
            let leaf = match Leaf::decode(&bytes) {
                Ok(leaf) => leaf,
                Err(error) => {
                    let file = Some("ledger".into());
                    self.run.find(Finding { file, index: Some(at), entry: None, problem: error.to_string() });
                    continue;
                }
            };
            self.note(at, &leaf);
            let place = usize::try_from(at - first).unwrap_or(usize::MAX);
            if self.vault.is_none() {
                self.found.missing += 1;
                continue;
            }
            let verdict = match records.get(place).and_then(IndexRecord::decode) {
                Some(record) => self.payload(at, &leaf, &record),
                None => self.bad_index(at, "the index record is not valid"),
            };
            self.count(at, leaf.id(), verdict);
        }
    }

    fn note(&mut self, index: u64, leaf: &Leaf) {
        self.found.sessions.entry(leaf.session).or_default().add(index, leaf);
        self.found.keeping.add(index, leaf);
        slots::note(&mut self.found.begun, index, leaf.slot);
    }

    fn bad_index(&self, index: u64, problem: &'static str) -> Verdict {
        Verdict::Missing(VaultReader::damaged_index(&self.run.layout.vault(), index, problem))
    }

    fn count(&mut self, index: u64, entry: EntryId, verdict: Verdict) {
        match verdict {
            Verdict::Verified => self.found.verified += 1,
            Verdict::Erased => self.found.erased += 1,
            Verdict::Sealed => self.found.sealed += 1,
            Verdict::Bare => self.found.bare += 1,
            Verdict::Missing(error) => {
                self.found.missing += 1;
                self.run.find_in_vault(index, Some(entry.to_string()), &error);
            }
            Verdict::Wrong(problem) => {
                self.found.missing += 1;
                let file = Some("vault".into());
                self.run.find(Finding { file, index: Some(index), entry: Some(entry.to_string()), problem });
            }
        }
    }

    fn payload(&mut self, index: u64, leaf: &Leaf, record: &IndexRecord) -> Verdict {
        let same =
            (record.kind, record.seq, record.ended_at) == (leaf.kind.code(), leaf.seq, leaf.ended_at().0);
        if !same {
            return self.bad_index(index, "the index record is that of another entry");
        }
        // Or a payload would seem to be erased because another of its session is.
        if leaf.slot.is_none_or(|slot| slot.number != record.slot) {
            return self.bad_index(index, "the index record names another key slot than the entry");
        }
        let slot = usize::try_from(record.slot).ok().and_then(|slot| self.slots.get(slot));
        let Some(Some(slot)) = slot else {
            return Verdict::Wrong(format!(
                "key slot {} of its payload is missing or not valid",
                record.slot
            ));
        };
        if slot.session != leaf.session {
            return Verdict::Wrong(format!("its payload is kept under the key of session {}", slot.session));
        }
        if leaf.kind == Kind::SessionStart && slot.start != Some(index) {
            return Verdict::Wrong("the key slot of its session names another entry as the first".to_owned());
        }
        if leaf.commitments.is_empty() {
            return match record.length {
                0 => Verdict::Bare,
                _ => Verdict::Wrong("it has a payload that the leaf does not commit to".to_owned()),
            };
        }
        self.scratch.clear();
        if let Err(error) = self.window.read(record, &mut self.scratch) {
            return Verdict::Missing(error);
        }
        let Some(keys) = self.keys else {
            return if slot.erasure.is_some() { Verdict::Erased } else { Verdict::Sealed };
        };
        if slot.erasure.is_some() {
            return Verdict::Erased;
        }
        // What was wrapped by a key that only others have can be checked by them.
        if !keys.opens(&slot.wrapped_by) && !slot.wrapped_by.starts_with(NODE_KEY_PREFIX) {
            return Verdict::Sealed;
        }
        if self.opened.len() >= MAX_KEYS {
            self.opened.clear();
        }
        let origin = self.snapshot.checkpoint().origin();
        let key = self
            .opened
            .entry(record.slot)
            .or_insert_with(|| slot.unwrap(origin, keys).and_then(|key| OpenKey::new(&key)).ok());
        let Some(key) = key else {
            return Verdict::Missing(slot.unwrap(origin, keys).err().unwrap_or(VaultError::Unwrap));
        };
        let owner = Owner { session: leaf.session, seq: leaf.seq, kind: leaf.kind };
        match open(key, &owner, &mut self.scratch).and_then(Fields::parse) {
            Some(fields) => match captured_problem(leaf, &fields) {
                None => self.commitments(leaf, &fields),
                Some(problem) => Verdict::Wrong(problem),
            },
            None => Verdict::Wrong(
                "its payload does not open with its session's key: it was changed or belongs to another entry".to_owned(),
            ),
        }
    }

    fn commitments(&mut self, leaf: &Leaf, fields: &Fields) -> Verdict {
        self.committer.entry(leaf.session, leaf.seq, leaf.kind);
        let mut expected = leaf.commitments.iter();
        for (field, r, bytes) in fields.iter() {
            let name = Field::name_of(field);
            match expected.next() {
                Some(commitment) if commitment.field == field => {
                    if !self.committer.holds(r, field, bytes, &commitment.hmac) {
                        return Verdict::Wrong(format!("its {name} is not what the leaf commits to"));
                    }
                }
                _ => {
                    return Verdict::Wrong(format!(
                        "its payload has a {name} that the leaf does not commit to"
                    ));
                }
            }
        }
        match expected.next() {
            Some(commitment) => {
                let name = Field::name_of(commitment.field);
                Verdict::Wrong(format!("its payload has no {name}, which the leaf commits to"))
            }
            None => Verdict::Verified,
        }
    }
}

/// What is wrong with the lengths of what was captured.
fn captured_problem(leaf: &Leaf, fields: &Fields) -> Option<String> {
    let whole = leaf.captures.iter().filter(|captured| captured.parts.is_none());
    let whole = whole.map(|captured| (captured.field, captured.bytes));
    let mut claimed = whole.chain(leaf.part.map(|part| (part.field, part.bytes)));
    let wrong = claimed
        .find(|(field, bytes)| fields.find_code(*field).is_none_or(|kept| kept.len() as u64 != *bytes));
    wrong.map(|(field, bytes)| {
        format!(
            "its payload does not have the {bytes} bytes of {} that the leaf claims",
            Field::name_of(field)
        )
    })
}

/// A part of a payload file in memory: payloads stand in the order of their leaves.
struct Window {
    vault: PathBuf,
    /// Number of the file, the file, and its name.
    file: Option<(u32, File, PathBuf)>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(vault: PathBuf) -> Self {
        Self { vault, file: None, offset: 0, bytes: Vec::new() }
    }

    /// Appends the sealed payload to `out`, its CRC checked.
    fn read(&mut self, record: &IndexRecord, out: &mut Vec<u8>) -> Result<(), VaultError> {
        if self.file.as_ref().is_none_or(|(number, ..)| *number != record.file) {
            let path = payload_path(&self.vault, record.file);
            let file = File::open(&path).map_err(VaultError::file("open", &path))?;
            self.file = Some((record.file, file, path));
            self.bytes.clear();
        }
        let Some((_, file, path)) = &self.file else { return Ok(()) };
        let offset = u64::from(record.offset);
        let length = usize::try_from(record.length).unwrap_or(usize::MAX);
        let damaged = |problem| VaultError::Damaged { path: path.clone(), offset, problem };
        let within = |window_offset: u64, bytes: &[u8]| {
            let start = usize::try_from(offset.checked_sub(window_offset)?).ok()?;
            let end = start.checked_add(length)?;
            (end <= bytes.len()).then_some(start..end)
        };
        if within(self.offset, &self.bytes).is_none() {
            let size = file.metadata().map_err(VaultError::file("read", path))?.len();
            // Before making room for a length that a damaged index may have made up.
            if offset + u64::from(record.length) > size {
                return Err(damaged("the payload is missing or cut short"));
            }
            self.offset = offset;
            self.bytes.resize(length.max(WINDOW_BYTES), 0);
            let read = read_up_to(file, &mut self.bytes, offset).map_err(VaultError::file("read", path))?;
            self.bytes.truncate(read);
        }
        let sealed = within(self.offset, &self.bytes).and_then(|range| self.bytes.get(range));
        let sealed = sealed.ok_or_else(|| damaged("the payload is missing or cut short"))?;
        if crc32c::crc32c(sealed) != record.payload_crc {
            return Err(damaged("the sealed payload is not as it was written"));
        }
        out.extend_from_slice(sealed);
        Ok(())
    }
}
