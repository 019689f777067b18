//! Asking witnesses to cosign a log's checkpoints, about once a second while it grows.
//!
//! Each witness has a task that takes the latest checkpoint whenever it is free, so that a slow one holds up nobody. A
//! checkpoint whose cosignatures meet the policy is put in place of the last such one (`checkpoint.witnessed`). Nothing
//! waits for witnesses: while too few answer, sealing goes on and the lag is shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::types::{WitnessView, Witnessing};
use hyper::header;
use ledger::{
    AddCheckpoint, Checkpoint, LedgerReader, NoteSignature, PolicyWitness, SIZE_CONTENT_TYPE, Snapshot,
    WitnessPolicy, parse_cosignatures,
};
use tokio::sync::{mpsc, watch};
use vocabulary::Timestamp;

use crate::cli::Failure;
use crate::http_client::{Endpoint, Trust};

/// How often it is looked whether there is a new checkpoint.
const GLANCE: Duration = Duration::from_millis(100);

/// Checkpoints are handed to witnesses no more often than this.
const ROUND: Duration = Duration::from_millis(500);

/// How long a witness may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pauses after failures, from the first to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Tries for one checkpoint, each after the witness named another size.
const TRIES: usize = 4;

/// Checkpoints that are still waited for at once.
const MAX_WAITING: usize = 64;

/// How often the state of things is written even if nothing changed.
const SAID: Duration = Duration::from_secs(1);

/// Why a witness has not cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    /// It has cosigned a longer log: this one was set back.
    Ahead {
        /// Entries that it has seen.
        size: u64,
    },
    /// It has cosigned another history: the log was forked.
    Forked {
        /// Entries that it has seen.
        size: u64,
    },
    /// It does not answer, or does not know the log.
    Failed(String),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ahead { size } => {
                write!(f, "it has cosigned {size} entries, more than there are: the log was set back")
            }
            Self::Forked { size } => {
                write!(f, "it has cosigned another history of {size} entries: the log was forked")
            }
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// One witness as the gateway sees it.
pub struct Asked {
    witness: PolicyWitness,
    endpoint: Endpoint,
    /// What it cosigned last, as far as is known.
    size: u64,
}

impl Asked {
    /// Everything that is needed to ask the witnesses of a policy.
    ///
    /// # Errors
    /// [`Failure`] if a URL is none, or there is nothing to check certificates by.
    pub fn all(policy: &WitnessPolicy, ca: Option<&std::path::Path>) -> Result<Vec<Self>, Failure> {
        let asked = |witness: &PolicyWitness| {
            let url = witness.url.as_deref().unwrap_or_default();
            let endpoint = Endpoint::new(url, || Trust::new(ca))?;
            Ok(Self { witness: witness.clone(), endpoint, size: 0 })
        };
        policy.witnesses().iter().map(asked).collect()
    }

    /// Its name in the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.witness.name
    }

    /// Asks for a cosignature on a checkpoint; its lines are verified.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn cosign(&mut self, snapshot: &Snapshot) -> Result<Vec<NoteSignature>, Denied> {
        let checkpoint = snapshot.checkpoint();
        for _ in 0..TRIES {
            if self.size > checkpoint.size() {
                return Err(Denied::Ahead { size: self.size });
            }
            let proof = match self.size {
                0 => Vec::new(),
                old => snapshot.prove_consistency(old).map_err(|error| Denied::Failed(error.to_string()))?,
            };
            let request = AddCheckpoint { old_size: self.size, proof, checkpoint: checkpoint.clone() };
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            let answer = self.endpoint.post("add-checkpoint", &headers, request.to_string(), DEADLINE).await;
            let answer = answer.map_err(|error| Denied::Failed(error.to_string()))?;
            match answer.status {
                200 => {
                    let lines = self.own_lines(&answer.body, checkpoint)?;
                    self.size = checkpoint.size();
                    return Ok(lines);
                }
                409 => {
                    let size = (answer.content_type == SIZE_CONTENT_TYPE)
                        .then(|| std::str::from_utf8(&answer.body).ok()?.strip_suffix('\n')?.parse().ok())
                        .flatten();
                    match size {
                        // It said that this is its size, and the tree is another.
                        Some(size) if size == self.size => return Err(Denied::Forked { size }),
                        Some(size) => self.size = size,
                        None => return Err(Denied::Failed("it answers 409 without a size".to_owned())),
                    }
                }
                // The proof was verified against our own tiles before it was sent.
                422 => return Err(Denied::Forked { size: self.size }),
                403 => return Err(Denied::Failed("it knows the log under another key (403)".to_owned())),
                404 => return Err(Denied::Failed("it does not know this log (404)".to_owned())),
                status => return Err(Denied::Failed(format!("it answers {status}"))),
            }
        }
        Err(Denied::Failed("it names another size each time: who else asks it for this log?".to_owned()))
    }

    /// The lines of its own key, which must verify. Lines of other keys are nobody's.
    fn own_lines(&self, body: &[u8], checkpoint: &Checkpoint) -> Result<Vec<NoteSignature>, Denied> {
        let failed =
            |reason: &dyn std::fmt::Display| Denied::Failed(format!("its answer can't be used: {reason}"));
        let key = &self.witness.key;
        let mut lines = parse_cosignatures(body).map_err(|error| failed(&error))?;
        lines.retain(|line| line.name == key.name() && line.key_id == key.id());
        let cosigned = checkpoint.clone().with_signatures(lines.clone());
        cosigned.note().verify_cosignature(key).map_err(|error| failed(&error))?;
        Ok(lines)
    }
}

/// What came of asking one witness once.
struct Answered {
    witness: usize,
    checkpoint: Checkpoint,
    lines: Result<Vec<NoteSignature>, Denied>,
    round_trip: Duration,
}

/// Asks the witnesses of `policy` for cosignatures on the checkpoints of a log, for ever. How that goes is kept in `state`.
pub async fn run(policy: Arc<WitnessPolicy>, witnesses: Vec<Asked>, reader: &LedgerReader, state: PathBuf) {
    let (rounds, _) = watch::channel::<Option<Snapshot>>(None);
    let (answers, mut answered) = mpsc::channel(MAX_WAITING);
    let mut views = Vec::new();
    for (number, asked) in witnesses.into_iter().enumerate() {
        views.push(WitnessView {
            name: asked.witness.name.clone(),
            url: asked.endpoint.url().to_owned(),
            size: 0,
            answered_at: None,
            round_trip_us: None,
            problem: None,
        });
        drop(tokio::task::spawn_local(one(number, asked, rounds.subscribe(), answers.clone())));
    }
    let mut desk =
        Desk { policy, state, views, waiting: BTreeMap::new(), newest: 0, witnessed: None, said: None };
    let (mut glance, mut last_round) = (tokio::time::interval(GLANCE), None::<Instant>);
    loop {
        tokio::select! {
            _ = glance.tick() => {}
            answer = answered.recv() => {
                if let Some(answer) = answer {
                    desk.take(answer, reader);
                }
            }
        }
        let due = last_round.is_none_or(|last| last.elapsed() >= ROUND);
        if due && let Some(snapshot) = desk.next_round(reader) {
            last_round = Some(Instant::now());
            rounds.send_replace(Some(snapshot));
        }
        desk.say(reader);
    }
}

/// One witness's task: takes the latest checkpoint whenever it is free.
async fn one(
    number: usize,
    mut asked: Asked,
    mut rounds: watch::Receiver<Option<Snapshot>>,
    answers: mpsc::Sender<Answered>,
) {
    let mut pause = PAUSE;
    while rounds.changed().await.is_ok() {
        let Some(snapshot) = rounds.borrow_and_update().clone() else { continue };
        let began = Instant::now();
        let lines = asked.cosign(&snapshot).await;
        let round_trip = began.elapsed();
        let failed = lines.is_err();
        let checkpoint = snapshot.checkpoint().clone();
        if answers.send(Answered { witness: number, checkpoint, lines, round_trip }).await.is_err() {
            return;
        }
        if failed {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // The log may stand still: the same checkpoint is due again.
            rounds.mark_changed();
        } else {
            pause = PAUSE;
        }
    }
}

/// Where the answers come together.
struct Desk {
    policy: Arc<WitnessPolicy>,
    state: PathBuf,
    views: Vec<WitnessView>,
    /// By size: checkpoints with the cosignatures that came so far.
    waiting: BTreeMap<u64, Checkpoint>,
    newest: u64,
    /// Size of the latest checkpoint that meets the policy, and when that was.
    witnessed: Option<(u64, Timestamp)>,
    said: Option<(Witnessing, Instant)>,
}

impl Desk {
    /// The newest checkpoint, if it has not been handed out.
    fn next_round(&mut self, reader: &LedgerReader) -> Option<Snapshot> {
        let snapshot =
            reader.snapshot().inspect_err(|error| tracing::debug!(%error, "no checkpoint")).ok()?;
        let size = snapshot.size();
        self.newest = size;
        if self.waiting.contains_key(&size) || self.witnessed.is_some_and(|(witnessed, _)| witnessed >= size)
        {
            return None;
        }
        self.waiting.insert(size, snapshot.checkpoint().clone());
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
        Some(snapshot)
    }

    fn take(&mut self, answer: Answered, reader: &LedgerReader) {
        let Answered { witness, checkpoint, lines, round_trip } = answer;
        let size = checkpoint.size();
        let Some(view) = self.views.get_mut(witness) else { return };
        match lines {
            Ok(lines) => {
                if view.problem.take().is_some() {
                    tracing::info!(witness = view.name, "the witness cosigns again");
                }
                view.size = size;
                view.answered_at = Some(Timestamp::now());
                view.round_trip_us = u64::try_from(round_trip.as_micros()).ok();
                if let Some(waiting) = self.waiting.remove(&size) {
                    self.waiting.insert(size, waiting.with_signatures(lines));
                    self.settle(size, reader);
                }
            }
            Err(denied) => {
                let problem = denied.to_string();
                if view.problem.as_ref() != Some(&problem) {
                    match denied {
                        Denied::Failed(_) => {
                            tracing::warn!(witness = view.name, problem, "a witness does not cosign");
                        }
                        Denied::Ahead { .. } | Denied::Forked { .. } => {
                            tracing::error!(witness = view.name, problem, "a witness contradicts this log");
                        }
                    }
                }
                view.problem = Some(problem);
            }
        }
    }

    /// Publishes the checkpoint of `size` entries if the policy is met, with every cosignature that came later too.
    fn settle(&mut self, size: u64, reader: &LedgerReader) {
        let newer = self.witnessed.is_some_and(|(witnessed, _)| witnessed > size);
        let Some(checkpoint) = self.waiting.get(&size).filter(|_| !newer) else { return };
        if !self.policy.is_met_by(checkpoint.note()) {
            return;
        }
        match reader.publish_witnessed(checkpoint) {
            Ok(()) => {
                let first = self.witnessed.is_none_or(|(witnessed, _)| witnessed < size);
                if first {
                    self.witnessed = Some((size, Timestamp::now()));
                }
                self.waiting = self.waiting.split_off(&size);
            }
            Err(error) => tracing::error!(%error, "the cosigned checkpoint could not be stored"),
        }
    }

    /// Keeps the state of things where doctor and the API look for it.
    fn say(&mut self, reader: &LedgerReader) {
        if self.witnessed.is_none()
            && let Ok(Some(before)) = reader.witnessed()
            && self.policy.is_met_by(before.note())
        {
            let latest =
                self.policy.cosigners(before.note()).iter().map(|(_, time)| *time).max().unwrap_or(0);
            self.witnessed = Some((before.size(), Timestamp(latest.saturating_mul(1_000_000))));
        }
        let now = Witnessing {
            newest: self.newest,
            witnessed: self.witnessed.map_or(0, |(size, _)| size),
            witnessed_at: self.witnessed.map(|(_, at)| at),
            witnesses: self.views.clone(),
        };
        if self.said.as_ref().is_some_and(|(said, at)| *said == now || at.elapsed() < SAID) {
            return;
        }
        let text = serde_json::to_vec_pretty(&now).unwrap_or_default();
        let draft = self.state.with_extension("tmp");
        match std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &self.state)) {
            Ok(()) => self.said = Some((now, Instant::now())),
            Err(error) => tracing::debug!(%error, "the witnesses' state could not be written"),
        }
    }
}
