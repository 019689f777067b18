//! Reading the trail: newest first, one entry, or as it grows. Works on the files alone, whether or not a gateway runs.

mod captured;
mod sessions;
mod view;

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ledger::{Checkpoint, LedgerReader, Snapshot, TlogProof};
use vocabulary::{EntryId, Kind, Timestamp};

use crate::{
    CaptureField, Entry, Filter, TrailError, TrailLeaf,
    layout::Layout,
    leaf::Leaf,
    proof::{self, Link},
    vault::{Fields, INDEX_RECORD_BYTES, IndexRecord, KeyWrap, VaultReader, numbered_keys_of},
};
pub use captured::Captured;
use sessions::{Payload, Sessions};

/// Leaves looked at together: those of one bundle.
const BLOCK: u64 = 256;

/// Leaves stand in the order in which they were finished, but for threads that race and clocks that are set. A leaf that
/// ended this much before `since` ends the search.
const CLOCK_SLACK_US: u64 = 3_600_000_000;

/// How often a follower looks for a new checkpoint.
const POLL: Duration = Duration::from_millis(50);

/// Reads a trail.
pub struct Reader {
    layout: Layout,
    ledger: LedgerReader,
    keys: Option<Arc<dyn KeyWrap>>,
    view: Option<Open>,
}

/// The trail as of one checkpoint.
struct Open {
    snapshot: Snapshot,
    vault: VaultReader,
    sessions: Sessions,
}

impl Reader {
    /// The trail in `data_dir`. Without `keys`, payloads stay sealed and entries show what the leaves say.
    ///
    /// # Errors
    /// [`TrailError`] if there is no trail.
    pub fn open(data_dir: &Path, keys: Option<Arc<dyn KeyWrap>>) -> Result<Self, TrailError> {
        let layout = Layout::new(data_dir);
        let ledger = LedgerReader::new(&layout.ledger(), layout.read_vkey()?);
        let mut reader = Self { layout, ledger, keys, view: None };
        reader.refresh()?;
        Ok(reader)
    }

    /// Entries that the latest checkpoint covers.
    ///
    /// # Errors
    /// [`TrailError`] if the checkpoint can't be read.
    pub fn len(&mut self) -> Result<u64, TrailError> {
        Ok(self.refresh()?.snapshot.size())
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// [`TrailError`] if the checkpoint can't be read.
    pub fn is_empty(&mut self) -> Result<bool, TrailError> {
        Ok(self.len()? == 0)
    }

    /// Goes to the latest checkpoint.
    fn refresh(&mut self) -> Result<&mut Open, TrailError> {
        let snapshot = self.ledger.snapshot()?;
        // What was opened before may have been erased since: nothing of it is kept.
        let vault = VaultReader::open(&self.layout.vault())?;
        let sessions = Sessions::new(self.ledger.verifier().name(), self.keys.clone());
        Ok(self.view.insert(Open { snapshot, vault, sessions }))
    }

    /// The newest entries that the filter wants, newest first.
    ///
    /// # Errors
    /// [`TrailError`] if what is read can't be.
    pub fn list(&mut self, filter: &Filter) -> Result<Vec<Entry>, TrailError> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        self.entries(filter)?.take(limit).collect()
    }

    /// The entries that the filter wants, newest first, one at a time; the filter's limit is the caller's.
    ///
    /// # Errors
    /// [`TrailError`] if the trail can't be opened.
    pub fn entries<'a>(&'a mut self, filter: &'a Filter) -> Result<Newest<'a>, TrailError> {
        let vault_dir = self.layout.vault();
        let open = self.refresh()?;
        let size = open.snapshot.size();
        let (mut slots, mut first) = (None, 0);
        if let Some(session) = filter.session {
            let keys = numbered_keys_of(&vault_dir, session)?;
            first = keys.iter().filter_map(|(_, key)| key.start).min().unwrap_or(0);
            slots = Some(keys.iter().map(|(number, _)| *number).collect());
        }
        Ok(Newest { open, filter, slots, first, end: size, block: Vec::new() })
    }

    /// One entry.
    ///
    /// # Errors
    /// [`TrailError::NoEntry`]: there is none, or it is not finished yet.
    pub fn show(&mut self, id: EntryId) -> Result<Entry, TrailError> {
        let vault_dir = self.layout.vault();
        let open = self.refresh()?;
        let found = open.find(&vault_dir, id)?;
        let mut entry = open.entry(found.index, &found.leaf, &found.record)?;
        if found.leaf.kind == Kind::CommandStarted {
            entry.captured = open.captured_so_far(&found)?;
        }
        Ok(entry)
    }

    /// What was captured of an entry, a piece at a time. Of a command still under way, what was so far.
    ///
    /// # Errors
    /// [`TrailError::NoEntry`], [`TrailError::NothingCaptured`].
    pub fn captured(&mut self, id: EntryId, field: CaptureField) -> Result<Captured<'_>, TrailError> {
        let vault_dir = self.layout.vault();
        let open = self.refresh()?;
        let found = open.find(&vault_dir, id)?;
        Captured::of(open, &found, field)
    }

    /// The proof of one entry, for a third party: its leaf, what it commits to (if `with_payload`, and it can be opened), and,
    /// if this node keeps a trail log or has its receipt, that the node's checkpoint stands there. The checkpoint is the
    /// latest that witnesses have cosigned, if that one covers the entry.
    ///
    /// # Errors
    /// [`TrailError::NoEntry`]: there is none, or it is not finished yet.
    pub fn prove(&mut self, id: EntryId, with_payload: bool) -> Result<TlogProof, TrailError> {
        let vault_dir = self.layout.vault();
        let witnessed = self.ledger.witnessed()?;
        let open = self.refresh()?;
        let Found { index, leaf, record, .. } = open.find(&vault_dir, id)?;
        let bytes = open.snapshot.entry(index)?;
        let session = open.sessions.find(record.slot, &open.snapshot, &mut open.vault)?;
        let fields = match session.open_payload(&leaf, &record, &mut open.vault) {
            Payload::Open(fields) if with_payload => fields,
            Payload::Open(_) | Payload::Closed(_) => Fields::default(),
        };
        let newest = open.snapshot.clone();
        let (snapshot, link) = self.checkpoint_for(index, newest, witnessed)?;
        proof::make(&snapshot, self.ledger.verifier(), index, &bytes, &fields, link)
    }

    /// The checkpoint under which to prove the entry at `index`, and where it stands in a trail log.
    fn checkpoint_for(
        &self,
        index: u64,
        newest: Snapshot,
        witnessed: Option<Checkpoint>,
    ) -> Result<(Snapshot, Option<Link>), TrailError> {
        let covers =
            |checkpoint: &Checkpoint| checkpoint.size() > index && checkpoint.size() <= newest.size();
        if let Some(receipt) = trail_receipt(&self.layout)?
            && let Ok(TrailLeaf::Checkpoint(checkpoint)) = TrailLeaf::parse(receipt.leaf.as_bytes())
            && covers(&checkpoint)
        {
            return Ok((self.ledger.snapshot_at(checkpoint), Some(receipt)));
        }
        if self.layout.trail_log().join("checkpoint").exists() {
            let trail_log = crate::trail_log_reader(self.layout.data())?;
            // The newest leaf of this node that covers the entry.
            let latest = newest_in(&trail_log, self.ledger.verifier().name())?;
            if let Some(checkpoint) = latest.filter(|checkpoint| covers(checkpoint)) {
                let link = proof::link(&trail_log, &checkpoint)?;
                let cosigned = witnessed.filter(|witnessed| witnessed.head() == checkpoint.head());
                return Ok((self.ledger.snapshot_at(cosigned.unwrap_or(checkpoint)), link));
            }
        }
        Ok(match witnessed.filter(covers) {
            Some(witnessed) => (self.ledger.snapshot_at(witnessed), None),
            None => (newest, None),
        })
    }

    /// Waits for entries from leaf `from` on, and gives those that the filter wants, oldest first, with the leaf to go on
    /// from. Gives none after `timeout`.
    ///
    /// # Errors
    /// [`TrailError`] if what is read can't be.
    pub fn follow(
        &mut self,
        from: u64,
        filter: &Filter,
        timeout: Duration,
    ) -> Result<(Vec<Entry>, u64), TrailError> {
        /// Not more at once: what is behind is caught up in pieces.
        const MOST: u64 = 4096;
        let deadline = Instant::now() + timeout;
        loop {
            if self.ledger.snapshot()?.size() > from {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok((Vec::new(), from));
            }
            thread::sleep(POLL.min(left));
        }
        let open = self.refresh()?;
        let end = open.snapshot.size().min(from.saturating_add(MOST));
        let mut entries = Vec::new();
        let wants_record = |record: &IndexRecord| filter.admits_kind(record.kind);
        for (index, leaf, record) in open.candidates(from, end, wants_record, filter)? {
            let entry = open.entry(index, &leaf, &record)?;
            if filter.admits(&entry) {
                entries.push(entry);
            }
        }
        Ok((entries, end))
    }
}

/// An entry that was looked for.
struct Found {
    index: u64,
    leaf: Leaf,
    record: IndexRecord,
    /// Of a command that is not over: index and record of what was captured so far.
    parts: Vec<(u64, IndexRecord)>,
}

/// A leaf that the filter may want, with its place and its index record.
type Candidate = (u64, Leaf, IndexRecord);

impl Open {
    /// The index records of leaves `first..first + count`.
    fn index(&self, first: u64, count: u64) -> Result<Vec<(u64, IndexRecord)>, TrailError> {
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        let bytes = self.vault.index_bytes(first, wanted)?;
        let (records, _) = bytes.as_chunks::<INDEX_RECORD_BYTES>();
        let damaged =
            |leaf| VaultReader::damaged_index(self.vault.dir(), leaf, "the index record is not valid");
        let mut index = Vec::with_capacity(wanted);
        for (leaf, record) in (first..).zip(records) {
            index.push((leaf, IndexRecord::decode(record).ok_or_else(|| damaged(leaf))?));
        }
        if records.len() < wanted {
            return Err(damaged(first + records.len() as u64).into());
        }
        Ok(index)
    }

    /// The leaves in `first..end` that `wants_record` and the filter's view of a leaf let through, oldest first.
    fn candidates(
        &self,
        first: u64,
        end: u64,
        wants_record: impl Fn(&IndexRecord) -> bool,
        filter: &Filter,
    ) -> Result<Vec<Candidate>, TrailError> {
        let mut index = self.index(first, end.saturating_sub(first))?;
        index.retain(|(_, record)| wants_record(record));
        let (Some((first, _)), Some((last, _))) = (index.first().copied(), index.last().copied()) else {
            return Ok(Vec::new());
        };
        let mut records = index.into_iter().peekable();
        let mut found = Vec::new();
        // The leaves of a block stand in one bundle, which is read only if it has a candidate.
        for entry in self.snapshot.entries(first..last + 1) {
            let (at, bytes) = entry?;
            if let Some((_, record)) = records.next_if(|(index, _)| *index == at) {
                let leaf = decode(at, &bytes)?;
                if filter.admits_leaf(&leaf) {
                    found.push((at, leaf, record));
                }
            }
        }
        Ok(found)
    }

    /// The entry of an id, with the parts of what was captured so far if it is not over.
    fn find(&self, vault: &Path, id: EntryId) -> Result<Found, TrailError> {
        let keys = numbered_keys_of(vault, id.session)?;
        let is_of_session = |slot: u32| keys.iter().any(|(number, _)| *number == slot);
        let mut announced = None;
        let mut parts = Vec::new();
        let mut first = keys.iter().filter_map(|(_, key)| key.start).min().unwrap_or(0);
        while !keys.is_empty() && first < self.snapshot.size() {
            let count = (BLOCK * 16).min(self.snapshot.size() - first);
            for (index, record) in self.index(first, count)? {
                if record.seq != id.seq || !is_of_session(record.slot) {
                    continue;
                }
                match Kind::from_code(record.kind) {
                    Some(Kind::CommandStarted) => announced = Some((index, record)),
                    Some(Kind::Capture) => parts.push((index, record)),
                    _ => {
                        let leaf = self.leaf(index)?;
                        return Ok(Found { index, leaf, record, parts: Vec::new() });
                    }
                }
            }
            first += count;
        }
        let (index, record) = announced.ok_or(TrailError::NoEntry(id))?;
        Ok(Found { index, leaf: self.leaf(index)?, record, parts })
    }

    fn leaf(&self, index: u64) -> Result<Leaf, TrailError> {
        decode(index, &self.snapshot.entry(index)?)
    }

    fn entry(&mut self, index: u64, leaf: &Leaf, record: &IndexRecord) -> Result<Entry, TrailError> {
        let session = self.sessions.find(record.slot, &self.snapshot, &mut self.vault)?;
        let payload = session.open_payload(leaf, record, &mut self.vault);
        let log = self.snapshot.checkpoint().origin();
        Ok(view::entry(leaf, index, log, &session, payload))
    }
}

/// The latest checkpoint of a node in a trail log, as far as its latest cosigned checkpoint covers one.
fn newest_in(trail_log: &LedgerReader, origin: &str) -> Result<Option<Checkpoint>, TrailError> {
    /// Leaves looked at, from the newest.
    const LOOK_BACK: u64 = 4096;
    let snapshot = match trail_log.witnessed()? {
        Some(witnessed) if witnessed.size() > 0 => trail_log.snapshot_at(witnessed),
        _ => trail_log.snapshot()?,
    };
    for entry in snapshot.entries(snapshot.size().saturating_sub(LOOK_BACK)..snapshot.size()).rev() {
        if let Ok(TrailLeaf::Checkpoint(checkpoint)) = TrailLeaf::parse(&entry?.1)
            && checkpoint.origin() == origin
        {
            return Ok(Some(checkpoint));
        }
    }
    Ok(None)
}

/// What a trail log elsewhere has confirmed, if there is one.
pub(crate) fn trail_receipt(layout: &Layout) -> Result<Option<Link>, TrailError> {
    let path = layout.receipt();
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| TrailError::Proof(format!("the trail log's receipt can't be read: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TrailError::file("read", path)(error)),
    }
}

fn decode(index: u64, bytes: &[u8]) -> Result<Leaf, TrailError> {
    Leaf::decode(bytes).map_err(|error| TrailError::Leaf { index, reason: error.to_string() })
}

/// Entries, newest first. An entry that can't be read is an error; the iterator goes on behind it.
pub struct Newest<'a> {
    open: &'a mut Open,
    filter: &'a Filter,
    /// The key slots of the wanted session.
    slots: Option<Vec<u32>>,
    /// No wanted leaf stands before.
    first: u64,
    /// Leaves from here on have been looked at.
    end: u64,
    /// Candidates not yet given, oldest first.
    block: Vec<Candidate>,
}

impl Newest<'_> {
    /// Looks at the block before. `false` if there is none.
    fn fill(&mut self) -> Result<bool, TrailError> {
        if self.end <= self.first {
            return Ok(false);
        }
        let start = ((self.end - 1) / BLOCK * BLOCK).max(self.first);
        let end = std::mem::replace(&mut self.end, start);
        let filter = self.filter;
        let earliest = filter.since.unwrap_or_default();
        let newest = std::cell::Cell::new(0);
        let wants_record = |record: &IndexRecord| {
            newest.set(newest.get().max(record.ended_at));
            filter.admits_kind(record.kind)
                && self.slots.as_ref().is_none_or(|slots| slots.contains(&record.slot))
                && record.ended_at >= earliest.0
        };
        self.block = self.open.candidates(start, end, wants_record, filter)?;
        if Timestamp(newest.get().saturating_add(CLOCK_SLACK_US)) < earliest {
            self.end = self.first;
        }
        Ok(true)
    }
}

impl Iterator for Newest<'_> {
    type Item = Result<Entry, TrailError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some((index, leaf, record)) = self.block.pop() {
                match self.open.entry(index, &leaf, &record) {
                    Ok(entry) if !self.filter.admits(&entry) => {}
                    other => return Some(other),
                }
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
