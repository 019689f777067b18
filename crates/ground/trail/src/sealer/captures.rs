//! What commands read and wrote: joined from its records, cut into parts where it is long.
//!
//! Memory is bounded. What is short waits in a buffer for its command's outcome and becomes part of that entry's payload.
//! What is long is sealed as it comes, a part at a time, each part an entry of its own that the command's entry names. The
//! journal keeps what still waits, so a crash loses nothing of it.

use vocabulary::{Kind, SessionId, Timestamp};

use super::{FIRST_SEQ, Sealer};
use crate::{
    Capture, CaptureField, TrailError,
    leaf::{CapturedLeaf, PartLeaf},
};

/// A buffer that is as long as this becomes a part. One more record may be in it.
pub(super) const PART_BYTES: usize = 256 * 1024;
/// More than this does not wait in all buffers together.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// What waits for longer becomes a part, so that it does not keep the journal.
const WAIT_US: u64 = 5_000_000;

/// One field of one command, as far as it went by.
pub(super) struct Capturing {
    pub(super) seq: u64,
    pub(super) field: CaptureField,
    /// Bytes in parts and buffer.
    pub(super) bytes: u64,
    /// Parts made so far, and the index of the last one's leaf.
    pub(super) parts: Option<(u64, u64)>,
    /// What is in no part yet: whole records.
    pub(super) buffer: Vec<u8>,
    /// Where in the journal the first record in the buffer is, and its time. None if the buffer is empty.
    pub(super) since: Option<(u64, Timestamp)>,
}

/// All that was captured of one field.
pub(crate) struct Captured {
    pub(crate) leaf: CapturedLeaf,
    /// The bytes, if they are not in parts.
    pub(crate) whole: Vec<u8>,
}

impl Sealer {
    pub(super) fn capture(&mut self, position: u64, record: &Capture<'_>) -> Result<(), TrailError> {
        let Some(length) = self.wait(position, record) else {
            self.orphans += 1;
            let Capture { session, seq, field, .. } = record;
            tracing::warn!(%session, seq, %field, "something captured belongs to no open command");
            return Ok(());
        };
        if length >= PART_BYTES || self.waiting_bytes > MAX_WAITING_BYTES {
            self.cut_part(record.session, record.seq, record.field)?;
        }
        Ok(())
    }

    /// Puts a piece into its buffer and says how much is in there now; `None` if it belongs to nothing that is open.
    pub(super) fn wait(&mut self, position: u64, record: &Capture<'_>) -> Option<usize> {
        let (seq, field) = (record.seq, record.field);
        let session = self.sessions.get_mut(&record.session)?;
        let is_open = seq == FIRST_SEQ || session.pending.iter().any(|pending| pending.seq == seq);
        let captures = &mut session.captures;
        let found = captures.iter().position(|capture| capture.seq == seq && capture.field == field);
        let place = found.unwrap_or(captures.len());
        if found.is_none() {
            if !is_open {
                return None;
            }
            let (bytes, parts, buffer, since) = (0, None, Vec::new(), None);
            captures.push(Capturing { seq, field, bytes, parts, buffer, since });
        }
        let capture = captures.get_mut(place)?;
        if !record.bytes.is_empty() {
            capture.buffer.extend_from_slice(record.bytes);
            capture.bytes += record.bytes.len() as u64;
            capture.since.get_or_insert((position, record.at));
            self.waiting_bytes += record.bytes.len();
        }
        Some(capture.buffer.len())
    }

    /// Makes an entry of what waits of one field.
    fn cut_part(&mut self, id: SessionId, seq: u64, field: CaptureField) -> Result<(), TrailError> {
        let index = self.ledger.size()?;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let mut captures = session.captures.iter_mut();
        let found = captures.find(|capture| capture.seq == seq && capture.field == field);
        let Some(capture) = found else { return Ok(()) };
        let Some((_, at)) = capture.since.take() else { return Ok(()) };
        let mut buffer = std::mem::take(&mut capture.buffer);
        let (before, previous) = capture.parts.unzip();
        let number = before.unwrap_or(0) + 1;
        capture.parts = Some((number, index));
        self.waiting_bytes = self.waiting_bytes.saturating_sub(buffer.len());
        let part = PartLeaf { field: field.code(), number, bytes: buffer.len() as u64, previous };
        self.assembler.part(id, seq, at, part, &buffer)?;
        self.emit_in(Some(field), Kind::Capture, id, seq, at)?;
        // The buffer serves the next part.
        buffer.clear();
        let captures = self.sessions.get_mut(&id).map(|session| session.captures.as_mut_slice());
        let mut captures = captures.unwrap_or_default().iter_mut();
        if let Some(capture) = captures.find(|capture| capture.seq == seq && capture.field == field) {
            capture.buffer = buffer;
        }
        Ok(())
    }

    /// All that was captured under a number of a session, by rising field: it is over.
    pub(super) fn captured(&mut self, id: SessionId, seq: u64) -> Result<Vec<Captured>, TrailError> {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.captures.is_empty()) else {
            return Ok(Vec::new());
        };
        let of_command = session.captures.iter().filter(|capture| capture.seq == seq);
        // Once there are parts, the rest is one too. What is of another class than the command is in parts always.
        let is_apart = |capture: &&Capturing| {
            capture.parts.is_some() || session.classes.of(capture.field) != session.classes.own
        };
        let rests: Vec<CaptureField> = of_command.filter(is_apart).map(|capture| capture.field).collect();
        for field in rests {
            self.cut_part(id, seq, field)?;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(Vec::new()) };
        let mut captured = Vec::new();
        for capture in session.captures.extract_if(.., |capture| capture.seq == seq) {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(capture.buffer.len());
            let Capturing { field, bytes, parts, buffer, .. } = capture;
            let leaf = CapturedLeaf { field: field.code(), bytes, parts };
            captured.push(Captured { leaf, whole: buffer });
        }
        captured.sort_unstable_by_key(|captured| captured.leaf.field);
        Ok(captured)
    }

    /// Makes parts of what has waited for long.
    pub(super) fn cut_old_parts(&mut self, now: Timestamp) -> Result<(), TrailError> {
        self.cut_parts(|since| now.micros_since(since) >= WAIT_US)
    }

    /// Makes parts of all that waits.
    pub(super) fn cut_all_parts(&mut self) -> Result<(), TrailError> {
        self.cut_parts(|_| true)
    }

    fn cut_parts(&mut self, is_due: impl Fn(Timestamp) -> bool) -> Result<(), TrailError> {
        if self.waiting_bytes == 0 {
            return Ok(());
        }
        let mut due = Vec::new();
        for (id, session) in &self.sessions {
            let waiting = session.captures.iter().filter_map(|capture| Some((capture, capture.since?)));
            let old = waiting.filter(|(_, (_, since))| is_due(*since));
            due.extend(old.map(|(capture, (position, _))| (position, *id, capture.seq, capture.field)));
        }
        due.sort_unstable();
        for (_, id, seq, field) in due {
            self.cut_part(id, seq, field)?;
        }
        Ok(())
    }
}
