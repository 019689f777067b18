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

    /// The private key that signs checkpoints. Not in the ledger's directory, which may be published as a whole.
    pub(crate) fn signing_key(&self) -> PathBuf {
        self.data.join("log.key")
    }

    /// The public half.
    pub(crate) fn vkey(&self) -> PathBuf {
        self.ledger().join("log.vkey")
    }

    /// Makes the directories, for the owner only.
    pub(crate) fn create(&self) -> Result<(), TrailError> {
        for dir in [self.data.clone(), self.ledger(), self.vault()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(TrailError::file("create", &dir))?;
        }
        sync_dir(&self.data)
    }

    pub(crate) fn write_vkey(&self, key: &VerifierKey) -> Result<(), TrailError> {
        let path = self.vkey();
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
        sync_dir(&self.ledger())
    }

    pub(crate) fn read_vkey(&self) -> Result<VerifierKey, TrailError> {
        let path = self.vkey();
        let text = fs::read_to_string(&path).map_err(TrailError::file("read", &path))?;
        Ok(VerifierKey::parse(text.trim_end())?)
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), TrailError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(TrailError::file("sync", dir))
}
