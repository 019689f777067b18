//! Back to a published checkpoint.

use std::collections::{HashMap, VecDeque};

use journal::{Position, ReadError, Reader, Recovered};
use ledger::Ledger;
use vocabulary::Timestamp;

use super::{
    Pending, Sealer, Session,
    captures::Capturing,
    sessions::ClassKey,
    state::{self, FIRST, OpenCapture, Side, State},
};
use crate::{Record, TrailError, layout::Layout};

/// The state that belongs to the published checkpoint.
pub(super) fn load(layout: &Layout, ledger: &Ledger) -> Result<(Side, State), TrailError> {
    let size = ledger.size()?;
    match state::load(&layout.vault(), size)? {
        Some(found) => Ok(found),
        None if size == 0 => Ok((FIRST, State::empty(Position(1)))),
        None => Err(TrailError::NoState { dir: layout.vault(), size }),
    }
}

impl Sealer {
    pub(super) fn restore(&mut self, state: State) -> Result<(), TrailError> {
        self.sessions.clear();
        self.pending = 0;
        self.next = state.next;
        // Where in the journal the intents are that the state does not carry.
        let mut wanted: HashMap<u64, Vec<u8>> = HashMap::new();
        for open in &state.sessions {
            let by_position = open.pending.iter().filter(|pending| pending.carried.is_none());
            wanted.extend(by_position.map(|pending| (pending.position, Vec::new())));
        }
        self.waiting_bytes = 0;
        self.reread(&mut wanted)?;
        for open in state.sessions {
            let mut pending = VecDeque::with_capacity(open.pending.len());
            for intent in open.pending {
                let frame = intent.carried.or_else(|| wanted.remove(&intent.position)).unwrap_or_default();
                let at = match Record::decode(&frame) {
                    Ok(Record::Intent(intent)) => intent.at,
                    // Its frame is lost; when it is over, it becomes a gap.
                    Ok(_) | Err(_) => Timestamp::default(),
                };
                let (seq, position, started) = (intent.seq, intent.position, intent.started);
                pending.push_back(Pending { seq, at, position, frame, started });
            }
            self.pending += pending.len();
            let keys =
                open.slots.into_iter().map(|(class, slot)| ClassKey { class, slot, key: None }).collect();
            let (last_seq, new) = (open.last_seq, Session::new(open.start, open.classes));
            self.sessions.insert(open.session, Session { keys, last_seq, pending, ..new });
        }
        self.restore_captures(&state.captures)?;
        // A crash may have come between the checkpoint that records erasures and their doing.
        self.holds = state.holds;
        self.erasures = state.erasures;
        self.destroy_keys()
    }

    /// Fills in the frames at the wanted positions. Those that the journal no longer has stay empty.
    fn reread(&self, wanted: &mut HashMap<u64, Vec<u8>>) -> Result<(), TrailError> {
        let (Some(first), Some(last)) = (wanted.keys().min().copied(), wanted.keys().max().copied()) else {
            return Ok(());
        };
        let mut reader = Reader::open(&self.layout.journal(), Position(first));
        while reader.position().0 <= last {
            let frames = match reader.next_batch() {
                Ok(frames) => frames,
                Err(ReadError::Retired { oldest, .. }) => {
                    reader = Reader::open(&self.layout.journal(), oldest);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if frames.len() == 0 {
                break;
            }
            for frame in frames {
                if let Some(place) = wanted.get_mut(&frame.position.0) {
                    place.extend_from_slice(frame.payload);
                }
            }
        }
        Ok(())
    }

    /// What is being captured, with what is in no part yet.
    fn restore_captures(&mut self, captures: &[OpenCapture]) -> Result<(), TrailError> {
        for open in captures {
            if let Some(session) = self.sessions.get_mut(&open.session) {
                session.captures.push(Capturing {
                    seq: open.seq,
                    field: open.field,
                    bytes: open.in_parts,
                    parts: open.parts,
                    buffer: Vec::new(),
                    since: None,
                });
            }
        }
        let since =
            |capture: &OpenCapture| Some(((capture.session, capture.seq, capture.field), capture.since?));
        let since: HashMap<_, u64> = captures.iter().filter_map(since).collect();
        let Some(first) = since.values().min().copied() else { return Ok(()) };
        let mut reader = Reader::open(&self.layout.journal(), Position(first));
        let end = self.next;
        while reader.position().0 < end {
            let frames = match reader.next_batch() {
                Ok(frames) => frames,
                Err(ReadError::Retired { oldest, .. }) => {
                    reader = Reader::open(&self.layout.journal(), oldest);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if frames.len() == 0 {
                break;
            }
            for frame in frames.filter(|frame| frame.position.0 < end) {
                let Ok(Record::Capture(record)) = Record::decode(frame.payload) else { continue };
                let waits = since.get(&(record.session, record.seq, record.field));
                if waits.is_some_and(|since| *since <= frame.position.0) {
                    self.wait(frame.position.0, &record);
                }
            }
        }
        Ok(())
    }

    /// Goes on where the journal begins, if the frames that should come next are not in it: somebody moved the journal away
    /// or restored an older one. Returns which frames are lost, from and up to.
    pub(crate) fn skip_lost_frames(
        &mut self,
        journal: &Recovered,
    ) -> Result<Option<(Position, Position)>, TrailError> {
        let next = Position(self.next);
        if (journal.oldest..=journal.next).contains(&next) {
            return Ok(None);
        }
        // What was captured up to here can't be read again.
        self.cut_all_parts()?;
        self.next = journal.oldest.0;
        // The numbers of another journal say nothing of this one.
        let positions = self.sessions.values_mut().flat_map(|session: &mut Session| &mut session.pending);
        for pending in positions {
            pending.position = journal.oldest.0;
        }
        Ok(Some((next, journal.oldest)))
    }
}
