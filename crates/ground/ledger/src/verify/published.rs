//! Every checkpoint ever published: signed by the log, and a prefix of the next.

use std::path::Path;

use super::Run;
use crate::{
    Checkpoint, Error, Fault, LedgerReader, VerifierKey,
    history::{HISTORY_FILE, History, Record, bad_record},
    reader::Tiles,
    tree,
    writer::CHECKPOINT_FILE,
};

/// Checkpoints that one thread takes up at a time.
const BATCH: u64 = 64;

/// The history up to the checkpoint being verified.
pub(super) struct Published {
    history: History,
    pub(super) count: u64,
}

/// Opens the history and finds `latest` in it. What comes after is being published right now.
pub(super) fn find(dir: &Path, key: &VerifierKey, latest: &Checkpoint) -> Result<Published, Error> {
    let missing = |problem: &str| Error::Corrupt(Fault::new(HISTORY_FILE, problem));
    let history = History::open(dir, key).map_err(|error| match error {
        Error::Missing { .. } => missing("the file is missing"),
        other => other,
    })?;
    let wanted = Record::of(latest, key);
    let length = history.len();
    for position in (0..length).rev() {
        let record = history.record(position)?;
        if Some(record) == wanted {
            // A writer adds a record and then replaces the checkpoint, so one may be newer than what is there now.
            let newer = length - (position + 1);
            if newer > 1 && LedgerReader::new(dir, key.clone()).snapshot()?.checkpoint() == latest {
                let problem =
                    format!("{newer} checkpoints were published after it: it was put back from a copy");
                return Err(Error::Corrupt(Fault::new(CHECKPOINT_FILE, problem)));
            }
            return Ok(Published { history, count: position + 1 });
        }
        // Only what was published after `latest` can be larger; a record that was changed is found here as well.
        if record.size <= latest.size() || record.checkpoint(key).is_err() {
            let fault = if record.checkpoint(key).is_err() {
                bad_record(position)
            } else {
                Fault::new(HISTORY_FILE, "the latest checkpoint is not in it")
            };
            return Err(Error::Corrupt(fault));
        }
    }
    Err(missing("the latest checkpoint is not in it"))
}

/// Verifies signatures, the order of sizes and, if the tree itself is sound, each root: the stored tiles have then been
/// recomputed from the entries, so a root that they lead to is that of a prefix of the ledger.
pub(super) fn verify(run: &Run<'_>, key: &VerifierKey, published: &Published, tree_is_sound: bool) {
    run.in_parallel(published.count.div_ceil(BATCH), |batch| {
        let mut tiles = Tiles::of(run.dir, run.size);
        let end = published.count.min((batch + 1) * BATCH);
        let mut previous =
            (batch * BATCH).checked_sub(1).and_then(|before| published.history.record(before).ok());
        for position in batch * BATCH..end {
            match published.history.record(position) {
                Ok(record) => {
                    // A record that was changed is one fault, not also the next one's.
                    let in_order = previous.is_none_or(|previous| {
                        previous.size < record.size || previous.checkpoint(key).is_err()
                    });
                    if let Some(fault) =
                        check(&record, position, in_order, key, tree_is_sound.then_some(&mut tiles))
                    {
                        run.fault(fault);
                    }
                    previous = Some(record);
                }
                Err(error) => run.report(error),
            }
        }
        run.advance(end - batch * BATCH);
    });
}

fn check(
    record: &Record,
    position: u64,
    in_order: bool,
    key: &VerifierKey,
    tiles: Option<&mut Tiles<'_>>,
) -> Option<Fault> {
    if record.checkpoint(key).is_err() {
        return Some(bad_record(position));
    }
    let size = record.size;
    let fault = |problem: String| Some(Fault::new(HISTORY_FILE, problem));
    if !in_order {
        return fault(format!("checkpoint {position} (size {size}) does not come after a smaller one"));
    }
    let root = tiles.map(|tiles| tree::root_at(size, |level, index| tiles.subtree(level, index)));
    match root {
        None => None,
        Some(Ok(root)) if root == record.root => None,
        Some(Ok(_)) => fault(format!(
            "checkpoint {position} is signed and contradicts the ledger: its {size} entries were others"
        )),
        Some(Err(_)) => fault(format!("checkpoint {position} covers {size} entries, more than there are")),
    }
}
