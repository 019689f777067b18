//! Writing a trail log.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ledger::{
    Checkpoint, Ed25519Signer, FileSystem, Ledger, LedgerReader, Note, Options, Signer, VerifierKey,
};

use super::{Roster, TrailLeaf, TrailLogError};
use crate::{TrailError, layout::Layout};

/// A trail log, open for writing. One at a time per data directory.
pub struct TrailLog {
    ledger: Ledger,
    signer: Ed25519Signer,
    roster: Roster,
    /// When the last heartbeat was added, or the log opened.
    last_beat: Instant,
}

impl TrailLog {
    /// Opens the trail log in `data_dir/trail-log`, making it if there is none. It has a key of its own, `DATA/trail-log.key`
    /// or where `key` says.
    ///
    /// # Errors
    /// [`TrailError`].
    pub fn open(data_dir: &Path, origin: &str, key: &Path) -> Result<Self, TrailError> {
        let layout = Layout::new(data_dir);
        let dir = layout.trail_log();
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&dir)
            .map_err(TrailError::file("create", &dir))?;
        if !key.exists() && dir.join("checkpoint").exists() {
            return Err(TrailError::SigningKeyLost(key.to_owned()));
        }
        let signer = Ed25519Signer::load_or_generate(origin, key)?;
        let own = Ed25519Signer::load(origin, key)?;
        let options = Options { compress_full_bundles: true };
        let mut ledger = Ledger::open_with(&dir, Box::new(own), options, Box::new(FileSystem::new()))?;
        ledger.checkpoint()?;
        layout.write_trail_log_vkey(signer.verifier())?;
        let roster = restore(&LedgerReader::new(&dir, signer.verifier().clone()))?;
        Ok(Self { ledger, signer, roster, last_beat: Instant::now() })
    }

    /// Its key.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Who takes part.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Adds a leaf, once its signature is verified and it follows from what stands before. It counts once
    /// [`publish`](Self::publish) has returned.
    ///
    /// # Errors
    /// [`TrailLogError`]: nothing was added.
    pub fn add(&mut self, leaf: &[u8]) -> Result<u64, TrailLogError> {
        let parsed = TrailLeaf::parse(leaf)?;
        if matches!(parsed, TrailLeaf::Heartbeat { .. }) {
            return Err(TrailLogError::OutOfPlace("heartbeats are the trail log's own".to_owned()));
        }
        let mut roster = self.roster.clone();
        roster.apply(&parsed, self.signer.verifier())?;
        let index = self.ledger.append(leaf)?;
        self.roster = roster;
        Ok(index)
    }

    /// Adds a heartbeat if the last is `every` ago.
    ///
    /// # Errors
    /// [`TrailLogError`].
    pub fn heartbeat(&mut self, every: Duration) -> Result<bool, TrailLogError> {
        if self.last_beat.elapsed() < every {
            return Ok(false);
        }
        let time_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let nodes: Vec<_> = self.roster.nodes().cloned().collect();
        let mut note = Note::new(TrailLeaf::heartbeat_text(time_s, &nodes))?;
        note.sign(&self.signer)?;
        self.ledger.append(note.to_string().as_bytes())?;
        self.last_beat = Instant::now();
        Ok(true)
    }

    /// Signs and publishes what was added.
    ///
    /// # Errors
    /// [`TrailLogError::Ledger`]: it has to be opened anew.
    pub fn publish(&mut self) -> Result<Checkpoint, TrailLogError> {
        Ok(self.ledger.checkpoint()?)
    }
}

/// The roster after all leaves: from the last heartbeat, which has it whole, and what came after.
fn restore(reader: &LedgerReader) -> Result<Roster, TrailError> {
    let snapshot = reader.snapshot()?;
    let key = reader.verifier();
    let (mut roster, mut later) = (Roster::default(), Vec::new());
    for entry in snapshot.entries(0..snapshot.size()).rev() {
        let (index, bytes) = entry?;
        let unreadable = |error: TrailLogError| TrailError::TrailLog { index, reason: error.to_string() };
        match TrailLeaf::parse(&bytes).map_err(unreadable)? {
            TrailLeaf::Heartbeat { nodes, time_s, .. } => {
                roster = Roster::of(nodes, time_s);
                break;
            }
            leaf => later.push((index, leaf)),
        }
    }
    for (index, leaf) in later.into_iter().rev() {
        let applied = roster.apply(&leaf, key);
        applied.map_err(|error| TrailError::TrailLog { index, reason: error.to_string() })?;
    }
    Ok(roster)
}
