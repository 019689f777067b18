//! Closing what an earlier run left under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use journal::{Batch, Journal, Position, Reader, Recovered, Truncated};
use vocabulary::{SessionId, Status, Timestamp};

use crate::{EndReason, OutcomeRecord, Record, SessionEnd, TrailError};

/// Frames per append while recovering.
const BATCH_RECORDS: usize = 256;

/// What was found and closed at opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The unfinished tail of the journal that was cut off, if there was one. Nobody was told that it was recorded.
    pub truncated: Option<Truncated>,
    /// Commands that had no outcome; they have the outcome *unknown* now.
    pub commands: u64,
    /// Sessions that had no end; they have one with the reason *crash* now.
    pub sessions: u64,
    /// Records that the earlier run had not sealed.
    pub unsealed: u64,
}

/// What is known of a session that is not over.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// The highest number used.
    pub(crate) last_seq: u64,
    /// Commands without outcome.
    pub(crate) pending: BTreeSet<u64>,
}

/// Appends the missing outcomes and ends, and waits until they survive the loss of power. If that is cut short, the next
/// start does the rest: what was appended counts as the run's own. `open` are the sessions that are not over before frame
/// `sealed_before`, where the sealer is.
pub(super) fn close_what_was_open(
    journal: &Journal,
    recovered: &Recovered,
    dir: &Path,
    sealed_before: Position,
    mut open: BTreeMap<SessionId, Open>,
) -> Result<Recovery, TrailError> {
    let from = sealed_before.max(recovered.oldest);
    let unsealed = recovered.next.0.saturating_sub(from.0);
    if unsealed > 0 {
        let mut reader = Reader::open(dir, from);
        while reader.position() < recovered.next {
            let mut any = false;
            for frame in reader.next_batch()? {
                any = true;
                note(&mut open, &Record::decode(frame.payload)?);
            }
            if !any {
                break;
            }
        }
    }
    let mut recovery =
        Recovery { truncated: recovered.truncated.clone(), commands: 0, sessions: 0, unsealed };
    let at = Timestamp::now();
    let mut batch = Batch::new();
    let mut last = Position::default();
    for (session, open) in open {
        for seq in open.pending {
            Record::Outcome(OutcomeRecord::bare(session, seq, at, Status::Unknown)).encode(&mut batch)?;
            recovery.commands += 1;
        }
        let seq = open.last_seq + 1;
        let detail = None;
        let reason = EndReason::Crash;
        Record::SessionEnd(SessionEnd { session, seq, at, entries: seq, reason, detail })
            .encode(&mut batch)?;
        recovery.sessions += 1;
        if batch.len() >= BATCH_RECORDS {
            last = journal.append(&mut batch)?;
        }
    }
    if !batch.is_empty() {
        last = journal.append(&mut batch)?;
    }
    journal.wait_synced(last)?;
    Ok(recovery)
}

/// Follows the sessions exactly as the sealer does.
fn note(sessions: &mut BTreeMap<SessionId, Open>, record: &Record<'_>) {
    match record {
        Record::SessionEnd(end) => {
            sessions.remove(&end.session);
        }
        Record::Outcome(outcome) => {
            if let Some(open) = sessions.get_mut(&outcome.session) {
                open.pending.remove(&outcome.seq);
            }
        }
        Record::Capture(_) => {}
        Record::Intent(_)
        | Record::SessionStart(_)
        | Record::NodeStart(_)
        | Record::Event(_)
        | Record::Keeping(_) => {
            let open = sessions.entry(record.session()).or_default();
            open.last_seq = open.last_seq.max(record.seq());
            if let Record::Intent(intent) = record {
                open.pending.insert(intent.seq);
            }
        }
    }
}
