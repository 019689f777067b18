//! The sealer as a process of its own: reads the journal of a gateway that runs elsewhere on this machine, writes ledger and
//! vault, and holds the signing key, so that the process which parses what clients send does not.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ledger::Signer;
use vocabulary::Timestamp;

use super::{
    link::{self, GLANCE, JournalSide, SealedSide},
    runner::Runner,
    source::{Foreign, Source},
};
use crate::{
    Retention, TrailError,
    layout::Layout,
    sealer::{Pace, Probe, Sealer, SealerOptions},
    vault::KeyWrap,
};

/// How often it says that it is there.
const BEAT: Duration = Duration::from_millis(500);

/// How a sealer in a process of its own is opened.
pub struct SealerSettings {
    /// Signs checkpoints; its name is the log's origin.
    pub signer: Box<dyn Signer>,
    /// Wraps the data keys of payloads.
    pub keys: Arc<dyn KeyWrap>,
    /// How long after the first unsealed record a checkpoint is published.
    pub seal_after: Duration,
    /// After how long a command without an outcome gets a `command.started` entry.
    pub started_after: Duration,
    /// Which class payloads belong to.
    pub retention: Retention,
    /// After a failure, it tries again this much later.
    pub retry_after: Duration,
    /// Called before each write; tests let it fail there.
    #[doc(hidden)]
    pub probe: Option<Probe>,
}

impl SealerSettings {
    /// The usual settings: those of [`Settings::new`](crate::Settings::new).
    #[must_use]
    pub fn new(signer: Box<dyn Signer>, keys: Arc<dyn KeyWrap>) -> Self {
        Self {
            signer,
            keys,
            seal_after: Duration::from_millis(250),
            started_after: Duration::from_secs(1),
            retention: Retention::default(),
            retry_after: Duration::from_millis(500),
            probe: None,
        }
    }
}

/// A sealer in a process of its own. One at a time per data directory: the ledger is locked.
pub struct SealerProcess {
    layout: Layout,
    sealer: Sealer,
    retry_after: Duration,
}

impl SealerProcess {
    /// Opens ledger and vault in `data_dir`, making them if need be, and returns to the last checkpoint.
    ///
    /// # Errors
    /// [`TrailError`]: another sealer is at work, something is damaged, or the disk fails.
    pub fn open(data_dir: &Path, settings: SealerSettings) -> Result<Self, TrailError> {
        let layout = Layout::new(data_dir);
        layout.create_evidence()?;
        let SealerSettings { signer, keys, seal_after, started_after, retention, retry_after, probe } =
            settings;
        let verifier = signer.verifier().clone();
        let options = SealerOptions {
            signer,
            keys,
            retention,
            pace: Pace { seal_after, started_after },
            probe,
            storage: Arc::new(journal::Disk),
            ledger_storage: Box::new(ledger::FileSystem::new()),
        };
        let sealer = Sealer::open(&layout, options)?;
        layout.write_vkey(&verifier)?;
        Ok(Self { layout, sealer, retry_after })
    }

    /// Seals until `stop` holds `true`, and then what is left to seal. A gateway need not run: what it left in the journal is
    /// sealed up to where it was durable, the rest once it has been started again.
    ///
    /// # Errors
    /// If there can be no thread. Whatever else fails is said and tried again.
    pub fn run(self, stop: &AtomicBool) -> Result<(), TrailError> {
        let Self { layout, sealer, retry_after } = self;
        let (through, entries) = (sealer.sealed_through(), sealer.published_entries()?);
        let runner = Arc::new(Runner::new(retry_after, through, entries));
        let source = Source::Foreign(Box::new(Foreign::new(&layout, sealer.next_position())));
        Arc::clone(&runner)
            .start(sealer, source)
            .map_err(TrailError::file("start the sealer's thread for", layout.ledger()))?;
        let mut said = None;
        let mut beat = Instant::now();
        loop {
            // Asked first: what it says below is then its last word.
            let running = runner.is_running();
            let stopping = stop.load(Ordering::Acquire);
            let side = link::read::<JournalSide>(&layout.journal_side());
            if stopping {
                runner.stop_when_sealed();
            }
            let sealed = runner.sealed();
            if side.as_ref().is_some_and(|side| stopping || side.wanted > sealed.through.0) {
                runner.hurry();
            }
            let now = SealedSide {
                run: side.map(|side| side.run),
                through: sealed.through.0,
                entries: sealed.entries,
                retire_before: sealed.retire_before.0,
                at: sealed.at,
                trouble: sealed.trouble,
                beat: Timestamp(0),
            };
            if said.as_ref() != Some(&now) || beat.elapsed() >= BEAT {
                beat = Instant::now();
                let told = SealedSide { beat: Timestamp::now(), ..now.clone() };
                if let Err(error) = link::write(&layout.sealed_side(), &told) {
                    tracing::error!(reason = error.in_full(), "the gateway can't be told how far sealing is");
                }
                said = Some(now);
            }
            if !running {
                runner.stop();
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
    }
}
