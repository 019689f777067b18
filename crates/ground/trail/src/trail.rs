//! The trail of one gateway: records in, evidence out.

mod node_session;
mod recovery;
mod runner;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use journal::{AppendError, Batch, Journal, Position};
use ledger::{Ed25519Signer, Signer, VerifierKey};
use serde_json::{Value, json};
use vocabulary::{ClientInfo, EntryId, Kind, NodeId, SessionId, Timestamp, Who};

pub use node_session::{NewEvent, NodeSession};
pub(crate) use recovery::Open;
pub use recovery::Recovery;
use runner::Runner;

use crate::{
    Record, TrailError,
    layout::Layout,
    sealer::{Pace, Probe, Sealer, state},
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
    /// The journal's own settings.
    pub journal: journal::Settings,
    /// How long after the first unsealed record a checkpoint is published.
    pub seal_after: Duration,
    /// After how long a command without an outcome gets a `command.started` entry.
    pub started_after: Duration,
    /// Signs checkpoints. `None`: the key in `DATA/log.key`, made if there is none.
    pub signer: Option<Box<dyn Signer>>,
    /// Called by the sealer before each of its writes; tests let it fail there.
    #[doc(hidden)]
    pub probe: Option<Probe>,
}

impl Settings {
    /// The usual settings: checkpoints 250 ms after the first record, `command.started` after 1 s.
    #[must_use]
    pub fn new(node: NodeId, origin: impl Into<String>, keys: Arc<dyn KeyWrap>) -> Self {
        Self {
            node,
            origin: origin.into(),
            keys,
            journal: journal::Settings::default(),
            seal_after: Duration::from_millis(250),
            started_after: Duration::from_secs(1),
            signer: None,
            probe: None,
        }
    }
}

/// How the trail is doing.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether the journal accepts records.
    pub journal: journal::Health,
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
    verifier: VerifierKey,
    runner: Arc<Runner>,
    /// Until [`start_sealer`](Self::start_sealer) takes it.
    sealer: Mutex<Option<Sealer>>,
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
        let verifier = signer.verifier().clone();
        layout.write_vkey(&verifier)?;
        let (journal, recovered) = Journal::open(&layout.journal(), settings.journal)?;
        let mut sealer = Sealer::open(
            &layout,
            signer,
            Arc::clone(&settings.keys),
            Pace { seal_after: settings.seal_after, started_after: settings.started_after },
            settings.probe,
        )?;
        let lost = sealer.skip_lost_frames(&recovered);
        let recovery = recovery::close_what_was_open(&journal, &recovered, &sealer)?;
        let node_session = NodeSession::start(journal.clone(), settings.node)?;
        if let Some((from, to)) = lost {
            let what = json!({ "lost": "records of the journal", "first": from.0, "next": to.0 }).to_string();
            let kind = Kind::Gap;
            node_session.record(NewEvent { kind, actor: None, client: None, subject: None, what })?;
        }
        let runner = Arc::new(Runner::new(sealer.sealed_through(), sealer.published_entries()?));
        let trail = Self {
            journal,
            node_session,
            layout,
            keys: settings.keys,
            verifier,
            runner,
            sealer: Mutex::new(Some(sealer)),
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

    /// Starts the sealer on a thread of its own. Does nothing if it runs already.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start_sealer(&self) -> Result<(), TrailError> {
        let Some(sealer) = lock(&self.sealer).take() else { return Ok(()) };
        Arc::clone(&self.runner)
            .start(sealer, self.journal.clone())
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

    /// Destroys the key of a session's payloads, and records who did it and why. Returns once it is done: the entry of
    /// the erasure is then sealed, and nobody can read the payloads any more. Their commitments still verify.
    ///
    /// # Errors
    /// [`TrailError::NoSession`], [`TrailError::SessionOpen`], [`TrailError::AlreadyErased`]; [`TrailError::NotSealed`]
    /// if the sealer does not get there within 60 s: it is then done as soon as it does.
    pub fn erase(
        &self,
        session: SessionId,
        actor: Option<Who>,
        client: Option<ClientInfo>,
        reason: &str,
    ) -> Result<EntryId, TrailError> {
        const TIMEOUT: Duration = Duration::from_secs(60);
        // What is not sealed yet would be sealed under the destroyed key.
        self.flush(TIMEOUT)?;
        let mut found = false;
        for key in crate::vault::keys_of(&self.layout.vault(), session)? {
            found = true;
            if key.erasure.is_some() {
                return Err(TrailError::AlreadyErased(session));
            }
        }
        if !found {
            return Err(TrailError::NoSession(session));
        }
        let states = state::load_all(&self.layout.vault())?;
        let newest = states.iter().map(|(_, state)| state).max_by_key(|state| state.entries);
        if newest.is_some_and(|state| state.sessions.iter().any(|open| open.session == session)) {
            return Err(TrailError::SessionOpen(session));
        }
        let what = json!({ "session": session, "reason": reason }).to_string();
        let event = NewEvent { kind: Kind::Erasure, actor, client, subject: Some(session), what };
        let entry = self.node_session.record(event)?;
        self.flush(TIMEOUT)?;
        Ok(entry)
    }

    /// The key that the checkpoints of this trail are signed with; it stands in `DATA/ledger/log.vkey` too.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
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
        let sealed = if self.runner.is_running() { self.flush(timeout) } else { Ok(()) };
        self.runner.stop();
        let closed = self.journal.close().map_err(TrailError::from);
        ended.and(sealed).and(closed)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        // The sealer holds the journal open; without an orderly close this is a crash, which the next start repairs.
        self.runner.stop();
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
