//! Where the trail's files are.

use std::{
    fs::{self, DirBuilder, File},
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use ledger::VerifierKey;

use crate::TrailError;

/// The paths of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data: PathBuf,
}

impl Layout {
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.data.join("ledger")
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }

    /// The log of logs, if this node keeps one.
    pub(crate) fn trail_log(&self) -> PathBuf {
        self.data.join("trail-log")
    }

    /// That a trail log elsewhere has this node's latest checkpoint.
    pub(crate) fn receipt(&self) -> PathBuf {
        self.ledger().join("trail-log.receipt")
    }

    /// What the gateway tells a sealer in a process of its own.
    pub(crate) fn journal_side(&self) -> PathBuf {
        self.journal().join("gateway.json")
    }

    /// What such a sealer tells the gateway.
    pub(crate) fn sealed_run(&self) -> PathBuf {
        self.vault().join("sealer.run")
    }

    pub(crate) fn sealed_side(&self) -> PathBuf {
        self.vault().join("sealer.json")
    }

    /// The private key that signs checkpoints. Not in the ledger's directory, which may be published as a whole.
    pub(crate) fn signing_key(&self) -> PathBuf {
        self.data.join("log.key")
    }

    /// The public half.
    pub(crate) fn vkey(&self) -> PathBuf {
        self.ledger().join(VKEY_FILE)
    }

    /// Makes the data directory. The process's umask says whether the group may read what is in it.
    pub(crate) fn create(&self) -> Result<(), TrailError> {
        create_dir(&self.data)
    }

    /// Makes the directories that the sealer writes.
    pub(crate) fn create_evidence(&self) -> Result<(), TrailError> {
        for dir in [self.ledger(), self.vault()] {
            if !dir.is_dir() {
                create_dir(&dir)?;
                sync_dir(&self.data)?;
            }
        }
        Ok(())
    }

    pub(crate) fn write_vkey(&self, key: &VerifierKey) -> Result<(), TrailError> {
        write_vkey(&self.ledger(), key)
    }

    pub(crate) fn write_trail_log_vkey(&self, key: &VerifierKey) -> Result<(), TrailError> {
        write_vkey(&self.trail_log(), key)
    }

    pub(crate) fn read_vkey(&self) -> Result<VerifierKey, TrailError> {
        read_vkey(&self.vkey())
    }

    pub(crate) fn read_trail_log_vkey(&self) -> Result<VerifierKey, TrailError> {
        read_vkey(&self.trail_log().join(VKEY_FILE))
    }
}

/// A log's vkey, in its directory.
const VKEY_FILE: &str = "log.vkey";

fn write_vkey(dir: &Path, key: &VerifierKey) -> Result<(), TrailError> {
    let path = dir.join(VKEY_FILE);
    let text = format!("{key}\n");
    if fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(TrailError::file("write", &path))?;
    sync_dir(dir)
}

fn read_vkey(path: &Path) -> Result<VerifierKey, TrailError> {
    let text = fs::read_to_string(path).map_err(TrailError::file("read", path))?;
    let key = VerifierKey::parse(text.strip_suffix('\n').unwrap_or(&text));
    key.map_err(|source| TrailError::VerifierKey { path: path.to_owned(), source })
}

fn create_dir(dir: &Path) -> Result<(), TrailError> {
    DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(TrailError::file("create", dir))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), TrailError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(TrailError::file("sync", dir))
}
