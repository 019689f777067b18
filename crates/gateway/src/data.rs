//! The data directory: where it is, whose it is, and that only one gateway uses it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::Failure;

/// Where a gateway keeps everything unless told.
pub const DEFAULT: &str = "./trailgate-data";

/// Longest path of the control socket, in bytes: what the kernel takes (`sun_path` without its NUL), less the `.new` of
/// the name under which it is made.
const MAX_SOCKET_PATH: usize = 107 - ".new".len();

/// The control socket of a data directory.
#[must_use]
pub fn control_socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Where the gateway writes the addresses that it listens on.
#[must_use]
pub fn addresses_file(data: &Path) -> PathBuf {
    data.join("addresses.json")
}

/// An open data directory; nobody else uses it while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, and locks it. With `group_reads`, its group may look in: a sealer in a process
    /// of its own.
    ///
    /// # Errors
    /// [`Failure`] if it is open to others, used by another gateway, or can't be used.
    pub fn open(path: &Path, group_reads: bool) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file("use the data directory", path, &error);
        let (mode, others) = if group_reads { (0o750, 0o027) } else { (0o700, 0o077) };
        match DirBuilder::new().recursive(true).mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let path = path.canonicalize().map_err(failed)?;
        let metadata = path.metadata().map_err(failed)?;
        if !metadata.is_dir() {
            return Err(Failure::new(
                format!("{} is no directory", path.display()),
                "name another one with --data",
            ));
        }
        if metadata.permissions().mode() & others != 0 {
            return Err(Failure::new(
                format!("the data directory {} is open to other users", path.display()),
                format!("close it to them: chmod {mode:o} {}", path.display()),
            ));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Failure::new(
                format!("the data directory {} belongs to another user", path.display()),
                "run the gateway as that user, or name another directory with --data",
            ));
        }
        let socket = control_socket(&path);
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(Failure::new(
                format!("the path {} is too long for a socket", socket.display()),
                "name a data directory with a shorter path",
            ));
        }
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a small file whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (path, draft) = (self.path.join(name), self.path.join(format!("{name}.new")));
        std::fs::write(&draft, content)?;
        std::fs::rename(draft, path)
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = path.join("lock");
    let failed = |error: &io::Error| Failure::file("lock", &file, error);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(|error| failed(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            format!("another gateway uses the data directory {}", path.display()),
            "stop it first, or name another directory with --data",
        )),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_private_and_locked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let open = DataDir::open(&path, false).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(DataDir::open(&path, false).unwrap_err().what.contains("another gateway uses"));
        drop(open);
        DataDir::open(&path, false).unwrap();
    }

    #[test]
    fn is_refused_when_others_may_look_in() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let failure = DataDir::open(temp.path(), false).unwrap_err();
        assert!(failure.advice.contains("chmod 700"), "{failure}");
    }
}
