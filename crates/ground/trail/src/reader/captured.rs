//! What was captured of an entry, read a piece at a time.

use std::collections::BTreeMap;

use super::{Found, Open, sessions::Payload};
use crate::{
    CaptureField, EntryCaptured, TrailError,
    leaf::{CapturedLeaf, Leaf, PartLeaf},
    vault::IndexRecord,
};
use vocabulary::{EntryId, Kind};

/// The bytes of one field, in order, in pieces of a few hundred KiB. After an error there are none.
pub struct Captured<'a> {
    open: &'a mut Open,
    entry: EntryId,
    field: CaptureField,
    bytes: u64,
    /// Leaves still to be read, the next one last.
    leaves: Vec<u64>,
}

impl<'a> Captured<'a> {
    pub(super) fn of(open: &'a mut Open, found: &Found, field: CaptureField) -> Result<Self, TrailError> {
        let entry = found.leaf.id();
        let captured = found.leaf.captures.iter().find(|captured| captured.field == field.code());
        let (bytes, leaves) = match captured {
            Some(CapturedLeaf { bytes, parts: None, .. }) => (*bytes, vec![found.index]),
            Some(CapturedLeaf { bytes, parts: Some((parts, last)), .. }) => {
                (*bytes, open.parts(entry, field, *parts, *last)?)
            }
            None => {
                let mut parts = open.parts_so_far(found)?;
                parts.retain(|(_, part)| part.field == field.code());
                let bytes = parts.iter().map(|(_, part)| part.bytes).sum();
                (bytes, parts.into_iter().rev().map(|(index, _)| index).collect())
            }
        };
        if leaves.is_empty() {
            return Err(TrailError::NothingCaptured { entry, field });
        }
        Ok(Self { open, entry, field, bytes, leaves })
    }

    /// How long it is in all, in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there is not a single byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn piece(&mut self, index: u64) -> Result<Vec<u8>, TrailError> {
        let (entry, field) = (self.entry, self.field);
        let closed = |reason| TrailError::Closed { entry, field, reason };
        let leaf = self.open.leaf(index)?;
        let record = self.open.vault.index(index)?;
        let session = self.open.sessions.find(record.slot, &self.open.snapshot, &mut self.open.vault)?;
        match session.open_payload(&leaf, &record, &mut self.open.vault) {
            Payload::Open(fields) => match fields.find_code(field.code()) {
                Some(bytes) => Ok(bytes.to_vec()),
                None => Err(closed("missing (its payload has nothing of it)".to_owned())),
            },
            Payload::Closed(reason) => Err(closed(reason)),
        }
    }
}

impl Iterator for Captured<'_> {
    type Item = Result<Vec<u8>, TrailError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.leaves.pop()?;
        let piece = self.piece(index);
        if piece.is_err() {
            self.leaves.clear();
        }
        Some(piece)
    }
}

impl Open {
    /// The leaves of all parts, the last one first: each names the one before.
    fn parts(
        &self,
        entry: EntryId,
        field: CaptureField,
        parts: u64,
        last: u64,
    ) -> Result<Vec<u64>, TrailError> {
        let mut leaves = Vec::new();
        let (mut next, mut number) = (Some(last), parts);
        while let Some(index) = next {
            let leaf = if index < self.snapshot.size() { Some(self.leaf(index)?) } else { None };
            let part = leaf
                .filter(|leaf| leaf.kind == Kind::Capture && leaf.id() == entry)
                .and_then(|leaf| leaf.part);
            // Numbers fall, so this ends.
            let part = part.filter(|part| part.field == field.code() && part.number == number && number > 0);
            let Some(part) = part else {
                let reason = format!("it should be part {number} of the {field} of {entry}");
                return Err(TrailError::Leaf { index, reason });
            };
            leaves.push(index);
            next = part.previous;
            number -= 1;
        }
        if number == 0 {
            Ok(leaves)
        } else {
            let reason = format!("the {number} first parts of its {field} are missing");
            Err(TrailError::Leaf { index: last, reason })
        }
    }

    /// The parts of what was captured so far of a command under way, in order.
    fn parts_so_far(&self, found: &Found) -> Result<Vec<(u64, PartLeaf)>, TrailError> {
        let leaf_of = |(index, _): &(u64, IndexRecord)| -> Result<Option<(u64, PartLeaf)>, TrailError> {
            let leaf: Leaf = self.leaf(*index)?;
            Ok(leaf.part.map(|part| (*index, part)))
        };
        found.parts.iter().filter_map(|part| leaf_of(part).transpose()).collect()
    }

    /// What there is of a command under way, by rising field.
    pub(super) fn captured_so_far(&self, found: &Found) -> Result<Vec<EntryCaptured>, TrailError> {
        let mut bytes: BTreeMap<u8, u64> = BTreeMap::new();
        for (_, part) in self.parts_so_far(found)? {
            *bytes.entry(part.field).or_default() += part.bytes;
        }
        let in_view = |(code, bytes)| Some(EntryCaptured { field: CaptureField::from_code(code)?, bytes });
        Ok(bytes.into_iter().filter_map(in_view).collect())
    }
}
