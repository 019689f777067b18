//! What goes on beside sealing, wherever sealing is done: witnesses are asked to cosign, and the node's checkpoints get into a
//! trail log.

mod keep;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::{Checkpoint, Ed25519Signer, LedgerReader, Note, Signer, VerifierKey, WitnessPolicy};
use trail::TrailLeaf;
use vocabulary::Timestamp;

use crate::cli::Failure;
use crate::settings::Settings;
use crate::supervisor::Supervisor;
use crate::witness::ask::{self, Asked};
use crate::witness::{self, compare};
use keep::Keeper;
use report::Reporter;

/// Stack of each thread, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// Where the state of the witnesses is kept, in the log's directory.
const WITNESSES_FILE: &str = "witnesses.json";

/// How often a trail log gets a new checkpoint of a node, at most.
const PACE: Duration = Duration::from_secs(1);

/// Where the keys are that sign.
pub struct Keys {
    /// The node's log.
    pub log: PathBuf,
    /// Its trail log, if it keeps one.
    pub trail_log: PathBuf,
}

impl Keys {
    /// Those in a data directory.
    pub fn of(data: &Path) -> Self {
        Self { log: data.join("log.key"), trail_log: data.join("trail-log.key") }
    }
}

/// Where a node's checkpoints go.
enum Destination {
    Own(Box<Keeper>),
    Elsewhere(Box<Reporter>),
}

/// Everything that happens beside sealing.
pub struct Evidence {
    data: PathBuf,
    policy: Option<Arc<WitnessPolicy>>,
    ca: Option<PathBuf>,
    destination: Destination,
}

impl Evidence {
    /// Opens what the settings ask for. The ledger is there already.
    ///
    /// # Errors
    /// [`Failure`] if the witness policy or a URL can't be used, or the trail log can't be opened.
    pub fn open(settings: &Settings, data: &Path, origin: &str, keys: &Keys) -> Result<Self, Failure> {
        let policy = witness::policy(settings)?.filter(WitnessPolicy::asks_for_cosignatures);
        let node = Node::open(data, origin, &keys.log)?;
        let destination = match &settings.trail_log.url {
            Some(url) => {
                Destination::Elsewhere(Box::new(Reporter::new(node, url, settings.trail_log.ca.as_deref())?))
            }
            None => {
                let heartbeat = Duration::from_secs(settings.sealer.heartbeat_s);
                Destination::Own(Box::new(Keeper::open(node, &keys.trail_log, heartbeat)?))
            }
        };
        let (data, ca) = (data.to_owned(), settings.witness.ca.clone());
        Ok(Self { data, policy: policy.map(Arc::new), ca, destination })
    }

    /// Holds the logs against what the witnesses have seen of them.
    ///
    /// # Errors
    /// [`Failure`] if one of them contradicts a log.
    pub async fn compare(&self, settings: &Settings) -> Result<(), Failure> {
        let Some(policy) = &self.policy else { return Ok(()) };
        for log in self.logs() {
            let log = log(&self.data).map_err(|error| Failure::from_sentence(&error.in_full()))?;
            tokio::task::LocalSet::new().run_until(compare(settings, policy, &log)).await?;
        }
        Ok(())
    }

    /// The logs of this node.
    fn logs(&self) -> Vec<OpenLog> {
        let mut logs: Vec<OpenLog> = vec![trail::ledger_reader];
        if matches!(self.destination, Destination::Own(_)) {
            logs.push(trail::trail_log_reader);
        }
        logs
    }

    /// Starts asking witnesses, and feeding the trail log. What comes back says goodbye to the trail log in the end.
    ///
    /// # Errors
    /// [`Failure`] if the system gives no thread.
    pub fn start(self, supervisor: &mut Supervisor) -> Result<Goodbye, Failure> {
        let no_thread = |error: std::io::Error| {
            Failure::new(
                format!("the system gives no thread: {error}"),
                "check the limits of this user (ulimit -u)",
            )
        };
        if let Some(policy) = &self.policy {
            for open in self.logs() {
                let mut stop = supervisor.stopping();
                let witnesses = Asked::all(policy, self.ca.as_deref())?;
                let (policy, data) = (Arc::clone(policy), self.data.clone());
                supervisor
                    .start("witnesses", STACK_BYTES, move || async move {
                        let Ok(reader) = open(&data) else { return };
                        let state = reader.dir().join(WITNESSES_FILE);
                        tokio::select! {
                            () = ask::run(policy, witnesses, &reader, state) => {}
                            _ = stop.wait_for(|stop| *stop) => {}
                        }
                    })
                    .map_err(no_thread)?;
            }
        }
        let (done, farewell) = std::sync::mpsc::channel();
        let mut stop = supervisor.stopping();
        let mut destination = self.destination;
        supervisor
            .start("trail-log", STACK_BYTES, move || async move {
                let feeding = async {
                    let mut tick = tokio::time::interval(PACE);
                    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    loop {
                        tick.tick().await;
                        match &mut destination {
                            Destination::Own(keeper) => keeper.work(),
                            Destination::Elsewhere(reporter) => reporter.work().await,
                        }
                    }
                };
                tokio::select! {
                    () = feeding => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                // Nobody waits for it if the gateway could not come up.
                let _ = done.send(destination);
            })
            .map_err(no_thread)?;
        Ok(Goodbye(farewell))
    }
}

type OpenLog = fn(&Path) -> Result<LedgerReader, trail::TrailError>;

/// What is left to do once everything is sealed.
pub struct Goodbye(std::sync::mpsc::Receiver<Destination>);

impl Goodbye {
    /// Says to the trail log that the node leaves in order, with its last checkpoint. To be called when the threads have ended and
    /// all is sealed.
    pub fn say(self) {
        let Ok(destination) = self.0.recv_timeout(PACE) else { return };
        match destination {
            Destination::Own(mut keeper) => keeper.leave(),
            Destination::Elsewhere(mut reporter) => {
                match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(reporter.leave()),
                    Err(error) => tracing::warn!(%error, "the trail log was not told of the end"),
                }
            }
        }
    }
}

/// The node's own log, and the key to speak for it.
struct Node {
    data: PathBuf,
    signer: Ed25519Signer,
    reader: LedgerReader,
}

impl Node {
    fn open(data: &Path, origin: &str, log_key: &Path) -> Result<Self, Failure> {
        let signer = Ed25519Signer::load(origin, log_key).map_err(|error| Failure::from_error(&error))?;
        let reader = trail::ledger_reader(data).map_err(|error| Failure::from_sentence(&error.in_full()))?;
        Ok(Self { data: data.to_owned(), signer, reader })
    }

    fn key(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    fn newest(&self) -> Option<Checkpoint> {
        let snapshot = self.reader.snapshot();
        snapshot
            .inspect_err(|error| tracing::debug!(%error, "no checkpoint"))
            .ok()
            .map(|s| s.checkpoint().clone())
    }

    fn join(&self) -> Option<Vec<u8>> {
        self.signed(TrailLeaf::join_text(now_s(), self.key()))
    }

    fn leave(&self) -> Option<Vec<u8>> {
        let newest = self.newest()?;
        self.signed(TrailLeaf::leave_text(now_s(), newest.head()))
    }

    fn signed(&self, text: String) -> Option<Vec<u8>> {
        let mut note = Note::new(text).ok()?;
        note.sign(&self.signer).ok()?;
        Some(note.to_string().into_bytes())
    }
}

fn now_s() -> u64 {
    Timestamp::now().unix_ms() / 1000
}
