//! Where the node key comes from: a file of our own, made at the first start, or wherever settings point.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::seal::{NodeKey, NotAKey, SealError};

/// Where the node key is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// `DATA/node.key`: made if it does not exist yet.
    Own(PathBuf),
    /// `file:PATH`: kept by somebody else, must exist.
    File(PathBuf),
    /// `env:NAME`: an environment variable of the gateway.
    Env(String),
}

/// The node key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The settings name no source that is known.
    #[error("the node key is given as `env:NAME` or `file:PATH`")]
    Source,
    /// The environment variable is not set.
    #[error(
        "the node key should be in the environment variable {0}, which is not set; set it and start again"
    )]
    NoVariable(String),
    /// The file is missing, and making a new one would not help.
    #[error(
        "{key} is missing, and {database} is sealed under it; put the key back from a backup (without it the targets' passwords are lost: then move {database} away as well)"
    )]
    Lost {
        /// The key's file.
        key: PathBuf,
        /// The database that needs it.
        database: PathBuf,
    },
    /// The file can't be read or made.
    #[error("the node key {path} can't be read; check that it exists and belongs to you")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key.
    #[error(
        "the node key {path} can be read or written by others (mode {mode:03o}); run `chmod 600 {path}` and ask who may have read it"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is there is no key.
    #[error("{place} holds no node key: {source}")]
    NotAKey {
        /// The file or the variable.
        place: String,
        /// What a key looks like.
        source: NotAKey,
    },
    /// A new key could not be made.
    #[error("no node key could be made: {0}")]
    Make(SealError),
}

/// Looks up an environment variable.
pub type Environment = fn(&str) -> Option<String>;

/// The process's own environment.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Longest key file that is read, in bytes: base64 of 32 bytes and some white space.
const MAX_KEY_FILE: usize = 1024;

impl FromStr for KeySource {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(KeyError::Source),
        }
    }
}

impl KeySource {
    /// Reads the key. One of our own is made if neither it nor `database` exists yet.
    ///
    /// # Errors
    /// [`KeyError`], one sentence and what to do.
    pub fn load(&self, database: &Path, environment: Environment) -> Result<NodeKey, KeyError> {
        match self {
            Self::Env(name) => {
                let text = environment(name).map(Zeroizing::new);
                let text = text.ok_or_else(|| KeyError::NoVariable(name.clone()))?;
                NodeKey::from_base64(&text)
                    .map_err(|source| KeyError::NotAKey { place: format!("env:{name}"), source })
            }
            Self::File(path) => read(path),
            Self::Own(path) => match fs::symlink_metadata(path) {
                Ok(_) => read(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if fs::exists(database).unwrap_or(true) {
                        return Err(KeyError::Lost { key: path.clone(), database: database.to_owned() });
                    }
                    let key = NodeKey::random().map_err(KeyError::Make)?;
                    write(path, &key).map_err(|source| KeyError::Io { path: path.clone(), source })?;
                    Ok(key)
                }
                Err(source) => Err(KeyError::Io { path: path.clone(), source }),
            },
        }
    }
}

fn read(path: &Path) -> Result<NodeKey, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Permissions { path: path.to_owned(), mode });
    }
    // Reserved in one piece, so that growing leaves no copy of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE));
    io::Read::read_to_end(&mut io::Read::take(file, MAX_KEY_FILE as u64), &mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| NotAKey);
    text.and_then(NodeKey::from_base64)
        .map_err(|source| KeyError::NotAKey { place: path.display().to_string(), source })
}

/// Writes it aside, then gives it its name: a crash leaves a whole key or none. Never replaces one.
fn write(path: &Path, key: &NodeKey) -> io::Result<()> {
    let aside = path.with_extension("key.new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(key.to_base64().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::hard_link(&aside, path)?;
    fs::remove_file(&aside)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "GOOD" => Some(NodeKey::new([7; 32]).to_base64().to_string()),
            "BAD" => Some("hunter2".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn an_own_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let source = KeySource::Own(folder.path().join("node.key"));
        let database = folder.path().join("control.db");
        let key = source.load(&database, environment).unwrap();
        let mode = fs::metadata(folder.path().join("node.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(source.load(&database, environment).unwrap().is(&key));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("control.db");
        fs::write(&database, b"").unwrap();
        let error = KeySource::Own(folder.path().join("node.key")).load(&database, environment).unwrap_err();
        assert!(matches!(error, KeyError::Lost { .. }));
        assert!(!folder.path().join("node.key").exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let database = folder.path().join("control.db");
        fs::write(&path, NodeKey::new([7; 32]).to_base64().as_bytes()).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = KeySource::File(path.clone()).load(&database, environment).unwrap_err();
            assert!(matches!(error, KeyError::Permissions { .. }), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeySource::File(path).load(&database, environment).unwrap().is(&NodeKey::new([7; 32])));
    }

    #[test]
    fn references_are_read_and_their_values_never_shown() {
        let database = Path::new("/nonexistent/control.db");
        let load =
            |text: &str| text.parse::<KeySource>().and_then(|source| source.load(database, environment));
        assert!(load("env:GOOD").unwrap().is(&NodeKey::new([7; 32])));
        let error = load("env:BAD").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(matches!(load("env:NONE"), Err(KeyError::NoVariable(_))));
        assert!(matches!(load("file:/nonexistent/key"), Err(KeyError::Io { .. })));
        for bad in ["", "env:", "file:", "vault:x", "plain"] {
            assert!(matches!(load(bad), Err(KeyError::Source)), "{bad}");
        }
    }
}
