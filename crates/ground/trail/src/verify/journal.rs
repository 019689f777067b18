//! The journal: what is left of it is whole, to its last byte.

use std::{thread, time::Duration};

use journal::{Position, ReadError, Reader};

use super::{Finding, Run};
use crate::{TrailError, sealer::state::State};

/// How often and how far apart to look again at an end that is no frame: a gateway may be writing it.
const LOOKS: usize = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Reads all frames that are left in the journal; returns how many are not sealed.
pub(super) fn verify(run: &Run<'_>, state: Option<&State>) -> Result<u64, TrailError> {
    let dir = run.layout.journal();
    if !dir.exists() {
        // A copy of the evidence alone is fine.
        return Ok(0);
    }
    let next = state.map_or(1, |state| state.next);
    let mut reader = Reader::open(&dir, Position(1));
    let (mut unsealed, mut looks) = (0, 0);
    loop {
        match reader.next_batch() {
            Ok(frames) if frames.len() == 0 => {
                let Some((file, offset)) = reader.rest()? else { break };
                looks += 1;
                if looks < LOOKS {
                    thread::sleep(BETWEEN_LOOKS);
                    continue;
                }
                let problem = format!(
                    "the journal ends at byte {offset} in bytes that are no frame: they were changed, or writing them was cut short by a loss of power; the next start cuts them off"
                );
                run.find(Finding { file: run.relative(&file), index: None, entry: None, problem });
                break;
            }
            Ok(frames) => {
                looks = 0;
                unsealed += frames.filter(|frame| frame.position.0 >= next).count() as u64;
            }
            Err(ReadError::Retired { oldest, .. }) => reader = Reader::open(&dir, oldest),
            Err(error @ ReadError::Corrupt { .. }) => {
                let file = match &error {
                    ReadError::Corrupt { file, .. } => run.relative(file),
                    _ => None,
                };
                run.find(Finding { file, index: None, entry: None, problem: error.to_string() });
                return Ok(unsealed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    // What was sealed had been synced.
    let end = reader.position();
    if end.0 < next {
        let problem =
            format!("frame {end} of the journal is not valid, though frames up to {} are sealed", next - 1);
        run.find(Finding { file: Some("journal".into()), index: None, entry: None, problem });
    }
    Ok(unsealed)
}
