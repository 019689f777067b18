//! At the start: is this log what the witnesses have seen of it? One that was put back from an older copy, or replaced, must
//! not go on.

use std::time::Duration;

use ledger::{LedgerReader, WitnessPolicy};
use tokio::task::JoinSet;

use super::ask::{Asked, Denied};
use crate::cli::Failure;
use crate::settings::Settings;

/// How long the start waits for witnesses that do not answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows the latest checkpoint to every witness.
///
/// # Errors
/// [`Failure`] if one of them has cosigned more than this log has, or something else. That witnesses do not answer is said, and
/// no failure.
pub async fn compare(settings: &Settings, policy: &WitnessPolicy, log: &LedgerReader) -> Result<(), Failure> {
    let snapshot = log.snapshot().map_err(|error| Failure::from_error(&error))?;
    let mut asking = JoinSet::new();
    for mut asked in Asked::all(policy, settings.witness.ca.as_deref())? {
        let snapshot = snapshot.clone();
        asking.spawn_local(async move {
            let answer = tokio::time::timeout(PATIENCE, asked.cosign(&snapshot)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Denied::Failed("it does not answer in time".to_owned())));
            (asked.name().to_owned(), answer)
        });
    }
    let mut silent = Vec::new();
    while let Some(answer) = asking.join_next().await {
        let Ok((name, answer)) = answer else { continue };
        match answer {
            Ok(_) => {}
            Err(Denied::Failed(reason)) => silent.push(format!("{name}: {reason}")),
            Err(denied @ (Denied::Ahead { .. } | Denied::Forked { .. })) => {
                return Err(Failure::new(
                    format!("witness {name} contradicts this log of {} entries: {denied}", snapshot.size()),
                    "put back the newest copy of the data directory, or go on with a new one (docs/guides/operating.md, \
                     \"Backups\"); to go on over the witness's word, take it out of the policy: the contradiction stays provable",
                ));
            }
        }
    }
    if !silent.is_empty() {
        tracing::warn!("could not compare the log with every witness: {}", silent.join("; "));
    }
    Ok(())
}
