//! The trail of one gateway: records in, evidence out.

mod keeping;
mod link;
mod node_session;
mod process;
mod recovery;
mod runner;
mod source;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use journal::{AppendError, Batch, Journal, Position};
use ledger::{Ed25519Signer, Signer};
use serde_json::{Value, json};
use vocabulary::{ClientInfo, EntryId, Kind, NodeId, SessionId, Timestamp, Who};

pub use keeping::Expired;
use link::Link;
pub use node_session::{NewEvent, NodeSession};
pub use process::{SealerProcess, SealerSettings};
pub(crate) use recovery::Open;
pub use recovery::Recovery;
use runner::Runner;
use source::Source;

use crate::{
    Record, Retention, TrailError,
    layout::Layout,
    sealer::{
        Pace, Probe, Sealer, SealerOptions,
        state::{self, State},
    },
    vault::KeyWrap,
};

/// How a trail is opened.
pub struct Settings {
    /// The gateway.
    pub node: NodeId,
    /// The log's name for the world, such as `trailgate.example.com/node-1`: no spaces, no `+`.
    pub origin: String,
    /// Wraps the data keys of payloads.
    pub keys: Arc<dyn KeyWrap>,
    /// What is kept for how long.
    pub retention: Retention,
    /// The journal's own settings.
    pub journal: journal::Settings,
    /// How long after the first unsealed record a checkpoint is published.
    pub seal_after: Duration,
    /// After how long a command without an outcome gets a `command.started` entry.
    pub started_after: Duration,
    /// After a failure, the sealer tries again this much later.
    pub retry_after: Duration,
    /// Whether a [`SealerProcess`] seals. Then this trail writes the journal alone, and needs no signing key.
    pub sealed_elsewhere: bool,
    /// Signs checkpoints. `None`: the key in `DATA/log.key`, made if there is none.
    pub signer: Option<Box<dyn Signer>>,
    /// Called by the sealer before each of its writes; tests let it fail there.
    #[doc(hidden)]
    pub probe: Option<Probe>,
    /// Where everything is written; tests let it fail there.
    #[doc(hidden)]
    pub storages: Storages,
}

/// Where a trail is written.
#[doc(hidden)]
pub struct Storages {
    /// The journal.
    pub journal: Arc<dyn journal::Storage>,
    /// The vault, and the sealer's state.
    pub vault: Arc<dyn journal::Storage>,
    /// The ledger.
    pub ledger: Box<dyn ledger::Storage>,
}

impl Default for Storages {
    fn default() -> Self {
        Self {
            journal: Arc::new(journal::Disk),
            vault: Arc::new(journal::Disk),
            ledger: Box::new(ledger::FileSystem::new()),
        }
    }
}

impl Settings {
    /// The usual settings: checkpoints 250 ms after the first record, `command.started` after 1 s.
    #[must_use]
    pub fn new(node: NodeId, origin: impl Into<String>, keys: Arc<dyn KeyWrap>) -> Self {
        Self {
            node,
            origin: origin.into(),
            keys,
            retention: Retention::default(),
            journal: journal::Settings::default(),
            seal_after: Duration::from_millis(250),
            started_after: Duration::from_secs(1),
            retry_after: Duration::from_millis(500),
            sealed_elsewhere: false,
            signer: None,
            probe: None,
            storages: Storages::default(),
        }
    }
}

/// How long closing waits for a sealer in a process of its own.
const OTHERS_PATIENCE: Duration = Duration::from_secs(5);

/// How the trail is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether the journal accepts records.
    pub journal: journal::Health,
    /// The last frame that a published checkpoint covers.
    pub sealed: Position,
    /// Records in the journal that no checkpoint covers yet.
    pub unsealed: u64,
    /// Entries in the ledger, covered by its latest checkpoint.
    pub entries: u64,
    /// When the latest checkpoint of this run was published.
    pub sealed_at: Option<Timestamp>,
    /// Why the sealer does not go on; it tries again by itself.
    pub sealer: Option<String>,
}

/// The trail, open for recording. One at a time per data directory; share it in an `Arc`.
pub struct Trail {
    journal: Journal,
    node_session: NodeSession,
    layout: Layout,
    keys: Arc<dyn KeyWrap>,
    retention: Retention,
    /// Held by whoever decides what becomes of payloads, until that is sealed.
    deciding: Mutex<()>,
    runner: Arc<Runner>,
    sealing: Sealing,
    /// When the gateway was last known to have shown that it runs.
    beat: Mutex<Timestamp>,
}

/// Who seals.
enum Sealing {
    /// This process; the sealer is here until [`Trail::start_sealer`] takes it.
    Here(Mutex<Option<Box<Sealer>>>),
    /// A [`SealerProcess`].
    Elsewhere(Link),
}

impl Trail {
    /// Opens the trail in `data_dir`, making it if there is none. What an earlier run left under way is closed first:
    /// every command without outcome gets the outcome *unknown*, every open session an end with the reason *crash*.
    ///
    /// # Errors
    /// [`TrailError`]: another process has it open, it is damaged, or the disk fails.
    pub fn open(data_dir: &Path, settings: Settings) -> Result<(Self, Recovery), TrailError> {
        let layout = Layout::new(data_dir);
        layout.create()?;
        if settings.sealed_elsewhere {
            return Self::open_without_sealer(layout, settings);
        }
        layout.create_evidence()?;
        let signer = match settings.signer {
            Some(signer) => signer,
            None => {
                // A new key would not fit the ledger that is there, and its name would hide the old one's.
                if !layout.signing_key().exists() && layout.ledger().join("checkpoint").exists() {
                    return Err(TrailError::SigningKeyLost(layout.signing_key()));
                }
                Box::new(Ed25519Signer::load_or_generate(&settings.origin, &layout.signing_key())?)
            }
        };
        let vkey = signer.verifier().clone();
        let Storages { journal: storage, vault, ledger } = settings.storages;
        let (journal, recovered) = Journal::open_on(storage, &layout.journal(), settings.journal)?;
        let options = SealerOptions {
            signer,
            keys: Arc::clone(&settings.keys),
            retention: settings.retention.clone(),
            pace: Pace { seal_after: settings.seal_after, started_after: settings.started_after },
            probe: settings.probe,
            storage: vault,
            ledger_storage: ledger,
        };
        let mut sealer = Sealer::open(&layout, options)?;
        // Only now: a key that did not sign this ledger must not put its name in the place of the one that did.
        layout.write_vkey(&vkey)?;
        let lost = sealer.skip_lost_frames(&recovered)?;
        let (from, open) = (sealer.next_position(), sealer.open_sessions());
        let recovery = recovery::close_what_was_open(&journal, &recovered, &layout.journal(), from, open)?;
        let node_session = NodeSession::start(journal.clone(), settings.node)?;
        if let Some((from, to)) = lost {
            let what = json!({ "lost": "records of the journal", "first": from.0, "next": to.0 }).to_string();
            let kind = Kind::Gap;
            node_session.record(NewEvent { kind, actor: None, client: None, subject: None, what })?;
        }
        record_truncated(&node_session, &recovery)?;
        let (through, entries) = (sealer.sealed_through(), sealer.published_entries()?);
        let runner = Arc::new(Runner::new(settings.retry_after, through, entries));
        let sealing = Sealing::Here(Mutex::new(Some(Box::new(sealer))));
        let beat = Mutex::new(Timestamp::now());
        let trail = Self {
            journal,
            node_session,
            layout,
            keys: settings.keys,
            retention: settings.retention,
            deciding: Mutex::new(()),
            runner,
            sealing,
            beat,
        };
        Ok((trail, recovery))
    }

    /// The same where a sealer of its own has ledger and vault: how far it is stands in its saved states.
    fn open_without_sealer(layout: Layout, settings: Settings) -> Result<(Self, Recovery), TrailError> {
        let (journal, recovered) =
            Journal::open_on(settings.storages.journal, &layout.journal(), settings.journal)?;
        // Each state is true of the frames before its own `next`; the newer one leaves less to read.
        let states = state::load_all(&layout.vault())?.into_iter().map(|(_, state)| state);
        let newest = states.max_by_key(|state| state.next).unwrap_or_else(|| State::empty(Position(1)));
        let next = Position(newest.next);
        if !(recovered.oldest..=recovered.next).contains(&next) {
            let (oldest, first) = (recovered.oldest, recovered.next);
            return Err(TrailError::OtherJournal { dir: layout.journal(), next, oldest, first });
        }
        let open = newest.sessions.iter().map(|session| {
            let pending = session.pending.iter().map(|intent| intent.seq).collect();
            (session.session, Open { last_seq: session.last_seq, pending })
        });
        let recovery =
            recovery::close_what_was_open(&journal, &recovered, &layout.journal(), next, open.collect())?;
        let runner = Arc::new(Runner::new(settings.retry_after, Position(newest.next - 1), newest.entries));
        runner.watch();
        let link = Link::start(&layout, journal.clone(), &runner, recovered.oldest, recovered.next)?;
        let node_session = NodeSession::start(journal.clone(), settings.node)?;
        record_truncated(&node_session, &recovery)?;
        let beat = Mutex::new(Timestamp::now());
        let sealing = Sealing::Elsewhere(link);
        let trail = Self {
            journal,
            node_session,
            layout,
            keys: settings.keys,
            retention: settings.retention,
            deciding: Mutex::new(()),
            runner,
            sealing,
            beat,
        };
        Ok((trail, recovery))
    }

    /// Appends a batch of records; they then survive the death of the process (level `crash`). The batch is left empty
    /// on success and as it was otherwise.
    ///
    /// # Errors
    /// The journal's refusal: nothing that the records speak of may happen.
    pub fn append(&self, batch: &mut Batch) -> Result<Position, AppendError> {
        self.journal.append(batch)
    }

    /// Appends one record.
    ///
    /// # Errors
    /// [`TrailError::Record`], [`TrailError::Append`].
    pub fn append_one(&self, record: &Record<'_>) -> Result<Position, TrailError> {
        let mut batch = Batch::new();
        record.encode(&mut batch)?;
        Ok(self.journal.append(&mut batch)?)
    }

    /// Ready once the record at `position`, and all before it, survive the loss of power (level `power`).
    ///
    /// # Errors
    /// If the sync failed.
    pub fn poll_synced(
        &self,
        position: Position,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), AppendError>> {
        self.journal.poll_synced(position, context)
    }

    /// As [`poll_synced`](Self::poll_synced), for a thread that can block.
    ///
    /// # Errors
    /// If the sync failed.
    pub fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        self.journal.wait_synced(position)
    }

    /// A new session id.
    ///
    /// # Errors
    /// [`TrailError::Crypto`] if there is no randomness.
    pub fn new_session_id(&self) -> Result<SessionId, TrailError> {
        node_session::new_session_id(Timestamp::now())
    }

    /// The session of this run of the gateway, for what belongs to no client's session.
    #[must_use]
    pub const fn node_session(&self) -> &NodeSession {
        &self.node_session
    }

    /// Records an event in the node session and waits until it survives the loss of power.
    ///
    /// # Errors
    /// [`TrailError::Append`]: what the event speaks of must not happen.
    pub fn note(
        &self,
        kind: Kind,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        what: &Value,
    ) -> Result<EntryId, TrailError> {
        self.node_session.record(NewEvent { kind, actor, client, subject: None, what: what.to_string() })
    }

    /// Records a heartbeat if nothing was sealed for `every`: then a checkpoint follows, and a fresh checkpoint means that the
    /// gateway runs. To be called now and then.
    ///
    /// # Errors
    /// [`TrailError::Append`].
    pub fn heartbeat(&self, every: Duration) -> Result<Option<EntryId>, TrailError> {
        let mut beat = lock(&self.beat);
        *beat = self.runner.sealed().at.map_or(*beat, |at| at.max(*beat));
        let now = Timestamp::now();
        if u128::from(now.micros_since(*beat)) < every.as_micros() {
            return Ok(None);
        }
        *beat = now;
        drop(beat);
        let (kind, what) = (Kind::Heartbeat, "{}".to_owned());
        let event = NewEvent { kind, actor: None, client: None, subject: None, what };
        self.node_session.record_at_once(event).map(Some)
    }

    /// Starts the sealer on a thread of its own. Does nothing if it runs already, here or in a process of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start_sealer(&self) -> Result<(), TrailError> {
        let Sealing::Here(sealer) = &self.sealing else { return Ok(()) };
        let Some(sealer) = lock(sealer).take() else { return Ok(()) };
        let source = Source::own(self.journal.clone(), sealer.next_position());
        Arc::clone(&self.runner)
            .start(*sealer, source)
            .map_err(TrailError::file("start the sealer's thread for", self.layout.ledger()))
    }

    /// Waits until everything appended so far is sealed, published and readable.
    ///
    /// # Errors
    /// [`TrailError::NotSealed`] after `timeout`; [`TrailError::Append`] if the journal fails.
    pub fn flush(&self, timeout: Duration) -> Result<(), TrailError> {
        let target = self.journal.written();
        self.journal.wait_synced(target)?;
        self.runner.wait_sealed(target, timeout)
    }

    /// What the data keys of payloads are wrapped with.
    #[must_use]
    pub const fn keys(&self) -> &Arc<dyn KeyWrap> {
        &self.keys
    }

    /// The directory of the trail.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.layout.data().to_owned()
    }

    /// How the trail is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        let sealed = self.runner.sealed();
        Health {
            journal: self.journal.health(),
            sealed: sealed.through,
            unsealed: self.journal.written().0.saturating_sub(sealed.through.0),
            entries: sealed.entries,
            sealed_at: sealed.at,
            sealer: sealed.trouble,
        }
    }

    /// Ends the node session, seals everything, publishes the last checkpoint and closes the journal. Clients' sessions
    /// should be over by now: those that are not will be closed as crashed at the next start.
    ///
    /// # Errors
    /// The first thing that failed; all else is closed nevertheless.
    pub fn close(&self, timeout: Duration) -> Result<(), TrailError> {
        let ended = self.node_session.end();
        let sealed = match (&self.sealing, self.runner.is_running()) {
            (Sealing::Here(_), true) => self.flush(timeout),
            (Sealing::Here(_), false) => Ok(()),
            // It seals what is left whether or not this process is there; nobody has to wait for one that is away.
            (Sealing::Elsewhere(_), _) => {
                if let Err(error) = self.flush(timeout.min(OTHERS_PATIENCE)) {
                    tracing::warn!(reason = error.in_full(), "what is left is for the sealer's own process");
                }
                Ok(())
            }
        };
        let closed = self.journal.close().map_err(TrailError::from);
        self.stop_sealing();
        ended.and(sealed).and(closed)
    }

    fn stop_sealing(&self) {
        self.runner.stop();
        if let Sealing::Elsewhere(link) = &self.sealing {
            link.join();
        }
    }
}

/// An unfinished tail of the journal that was cut off, as an entry.
fn record_truncated(node_session: &NodeSession, recovery: &Recovery) -> Result<(), TrailError> {
    if let Some(tail) = &recovery.truncated {
        // Nobody was told that it was recorded, if it is what a loss of power leaves. If it is not, this tells of it.
        let what = json!({
            "lost": "an unfinished tail of the journal",
            "file": tail.file.file_name().map(|name| name.to_string_lossy()),
            "offset": tail.offset,
            "bytes": tail.bytes,
        });
        let (kind, what) = (Kind::Gap, what.to_string());
        node_session.record(NewEvent { kind, actor: None, client: None, subject: None, what })?;
    }
    Ok(())
}

impl Drop for Trail {
    fn drop(&mut self) {
        // The sealer holds the journal open; without an orderly close this is a crash, which the next start repairs.
        self.stop_sealing();
    }
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail")
            .field("data", &self.layout.data())
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
