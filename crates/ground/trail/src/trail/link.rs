//! How a gateway and a sealer in a process of its own know of each other: two small files, one written by each, each replaced
//! whole. Nothing else goes between them but the journal itself.
//!
//! - The gateway writes `journal/gateway.json`: which run of it this is, which frames the journal holds, up to where they
//!   survive the loss of power, and up to where somebody waits for them to be sealed.
//! - The sealer writes `vault/sealer.json`: which run it works for, up to where it has sealed, and what the journal may let go of.
//!
//! Beside them the sealer keeps `vault/sealer.run`: the run whose journal it has found to go on from where it is, so that it can
//! be started again in the midst of it.
//!
//! *Invariant:* the files are hints that may be late, never early. What the gateway calls durable was synced before; what
//! the sealer lets go of is covered by a durable checkpoint. So either side may die at any point and be started again,
//! and a file that is missing or torn only makes the other wait.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use journal::{Journal, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use vocabulary::Timestamp;

use super::{lock, runner::Runner};
use crate::{TrailError, layout::Layout};

/// How often either side looks at the other's file.
pub(super) const GLANCE: Duration = Duration::from_millis(25);
/// How often a sealer says that it is there, and a gateway that has nothing new to say.
const BEAT: Duration = Duration::from_secs(1);
/// A sealer that has said nothing for so long is not there, in microseconds.
const SILENCE_US: u64 = 5_000_000;

/// What the gateway says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct JournalSide {
    /// This run of the gateway: random.
    pub(super) run: String,
    /// The oldest frame of the journal when the run began.
    pub(super) oldest: u64,
    /// The first frame of this run.
    pub(super) first: u64,
    /// The last frame that survives the loss of power.
    pub(super) durable: u64,
    /// Somebody waits for this frame to be sealed.
    pub(super) wanted: u64,
}

/// What the sealer says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SealedSide {
    /// The run of the gateway that it works for.
    pub(super) run: Option<String>,
    /// The last frame that a checkpoint covers.
    pub(super) through: u64,
    /// Size of the tree.
    pub(super) entries: u64,
    /// The journal may let go of frames before this one.
    pub(super) retire_before: u64,
    /// When the latest checkpoint was published.
    pub(super) at: Option<Timestamp>,
    /// Why it does not go on.
    pub(super) trouble: Option<String>,
    /// When it said so.
    pub(super) beat: Timestamp,
}

/// Reads a side. `None` if it is not there or not whole: it will come.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Replaces a side. It need not be durable: what it says stays true, and is said again.
pub(super) fn write<T: Serialize>(path: &Path, side: &T) -> Result<(), TrailError> {
    // The whole name and more: two threads write files here that differ in what follows the dot.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let text = serde_json::to_vec(side).unwrap_or_default();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(TrailError::file("write", path))
}

/// The gateway's end: a thread that tells the sealer, hears from it, and retires the journal.
pub(super) struct Link {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts it. Until it is stopped, `runner` shows how far the other process is.
    pub(super) fn start(
        layout: &Layout,
        journal: Journal,
        runner: &Arc<Runner>,
        oldest: Position,
        first: Position,
    ) -> Result<Self, TrailError> {
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| TrailError::Crypto("make random bytes"))?;
        let run = u128::from_be_bytes(random);
        let side = JournalSide {
            run: format!("{run:032x}"),
            oldest: oldest.0,
            first: first.0,
            durable: journal.synced().0,
            wanted: 0,
        };
        write(&layout.journal_side(), &side)?;
        let (shared, layout, data) = (Arc::clone(runner), layout.clone(), layout.data().to_owned());
        let thread = thread::Builder::new()
            .name("sealer-link".to_owned())
            .spawn(move || Gateway { layout, journal, runner: shared, side, retired: 0 }.run())
            .map_err(TrailError::file("start a thread for", data))?;
        Ok(Self { thread: Mutex::new(Some(thread)) })
    }

    /// Waits for the thread, which ends when the runner is stopped.
    pub(super) fn join(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread has been reported by itself.
            let _ = thread.join();
        }
    }
}

struct Gateway {
    layout: Layout,
    journal: Journal,
    runner: Arc<Runner>,
    side: JournalSide,
    retired: u64,
}

impl Gateway {
    fn run(mut self) {
        let mut told = Instant::now();
        let mut reported = None;
        loop {
            let stopped = self.runner.stopped();
            self.listen();
            let mut side = self.side.clone();
            side.durable = self.journal.synced().0;
            let hurry = self.runner.take_hurry();
            if hurry {
                side.wanted = self.journal.written().0;
            }
            if side != self.side || told.elapsed() >= BEAT {
                told = Instant::now();
                match write(&self.layout.journal_side(), &side) {
                    Ok(()) => self.side = side,
                    Err(error) => self.runner.trouble(error.in_full()),
                }
            }
            let trouble = self.runner.sealed().trouble;
            if trouble != reported {
                if let Some(reason) = &trouble {
                    tracing::error!(reason, "nothing is being sealed; commands are recorded in the journal");
                } else {
                    tracing::info!("the sealer goes on");
                }
                reported = trouble;
            }
            if stopped {
                return;
            }
            // Haste is passed on once per glance.
            self.runner.wait(GLANCE, !hurry);
        }
    }

    /// What the sealer says of this run.
    fn listen(&mut self) {
        let heard = read::<SealedSide>(&self.layout.sealed_side());
        let Some(side) = heard else {
            return self.runner.trouble("no sealer has run yet: start `trailgate seal`".to_owned());
        };
        if Timestamp::now().micros_since(side.beat) > SILENCE_US {
            return self.runner.trouble(format!(
                "the sealer has not been heard of since {}: start `trailgate seal`",
                side.beat
            ));
        }
        if let Some(trouble) = side.trouble {
            return self.runner.trouble(trouble);
        }
        // What it says of another run's frames is not of these.
        if side.run.as_ref() != Some(&self.side.run) {
            return;
        }
        self.runner.heard(Position(side.through), side.entries, side.at);
        if side.retire_before > self.retired {
            match self.journal.retire(Position(side.retire_before)) {
                Ok(()) => self.retired = side.retire_before,
                Err(error) => tracing::warn!(%error, "a sealed segment of the journal stays"),
            }
        }
    }
}
