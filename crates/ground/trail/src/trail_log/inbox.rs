//! Leaves on their way to the trail log: one file each, from whoever hears other nodes to whoever writes the log, which may be
//! another process of another user.
//!
//! *Invariant:* what lies here was promised to nobody. Its sender has its answer only once the leaf stands in the log.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{TrailError, layout::Layout};

/// Leaves taken at once.
const MAX_LETTERS: usize = 256;
/// Longest leaf, in bytes.
const MAX_LEAF: u64 = ledger::MAX_ENTRY_BYTES as u64;

/// Counts the letters of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The inbox of a data directory.
pub struct TrailInbox {
    dir: PathBuf,
    /// Where the writer says why it did not take a letter.
    refusals: PathBuf,
}

/// A leaf in the inbox; taken out when this is dropped.
pub struct Letter {
    path: PathBuf,
    refusal: PathBuf,
}

impl TrailInbox {
    /// The inbox of the node in `data_dir`.
    ///
    /// # Errors
    /// [`TrailError::File`].
    pub fn open(data_dir: &Path) -> Result<Self, TrailError> {
        let inbox = Self::at(data_dir);
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&inbox.dir)
            .map_err(TrailError::file("create", &inbox.dir))?;
        Ok(inbox)
    }

    /// The same for who only looks into it.
    #[must_use]
    pub fn at(data_dir: &Path) -> Self {
        let layout = Layout::new(data_dir);
        Self { dir: layout.data().join("trail-log-inbox"), refusals: layout.trail_log().join("refused") }
    }

    /// Puts a leaf in.
    ///
    /// # Errors
    /// [`TrailError::File`].
    pub fn put(&self, leaf: &[u8]) -> Result<Letter, TrailError> {
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (path, draft) = (self.dir.join(&name), self.dir.join(format!("{name}.tmp")));
        let refusal = self.refusals.join(&name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&draft)
            .and_then(|mut file| file.write_all(leaf))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(TrailError::file("write", &path))?;
        Ok(Letter { path, refusal })
    }

    /// The leaves that lie in it, by name.
    #[must_use]
    pub fn letters(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(names) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut letters = Vec::new();
        for entry in names.flatten().take(MAX_LETTERS) {
            let name = entry.file_name().into_string().unwrap_or_default();
            let short =
                entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_LEAF);
            if !name.ends_with(".tmp")
                && short
                && let Ok(leaf) = fs::read(entry.path())
            {
                letters.push((name, leaf));
            }
        }
        letters.sort();
        letters
    }

    /// Says why a letter was not taken.
    pub fn refuse(&self, name: &str, reason: &str) {
        let written =
            fs::create_dir_all(&self.refusals).and_then(|()| fs::write(self.refusals.join(name), reason));
        if let Err(error) = written {
            tracing::debug!(%error, "a refusal could not be written");
        }
    }

    /// Forgets what was said of letters that are gone.
    pub fn forget(&self) {
        for entry in fs::read_dir(&self.refusals).into_iter().flatten().flatten() {
            if !self.dir.join(entry.file_name()).exists() {
                // It is tried again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Letter {
    /// Why it was not taken, if it was not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        fs::read_to_string(&self.refusal).ok().filter(|reason| !reason.is_empty())
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        // What stays is taken a second time, and then refused: it does not follow any more.
        let _ = fs::remove_file(&self.path);
    }
}
