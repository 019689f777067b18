//! The writes that a ledger makes, behind a trait so that tests can let each of them fail, be torn, or succeed and
//! still be reported as failed.
//!
//! Reading is not behind it: what was written is read back from the file system by the same code in production and in
//! every fault test.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
};

/// Everything a ledger does to its directory. Nothing is durable before the matching `sync_…` returned.
///
/// After any error the ledger calls [`forget`](Storage::forget) and starts over from what is on disk; a failed sync is
/// never repeated on the same open file.
pub trait Storage: Send {
    /// Creates a directory and its parents.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&mut self, dir: &Path) -> io::Result<()>;

    /// Creates the file, or replaces all its content.
    ///
    /// # Errors
    /// The system's.
    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Writes at an offset (bytes) of a file, creating it if need be.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&mut self, file: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to `length` bytes.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&mut self, file: &Path, length: u64) -> io::Result<()>;

    /// Makes the contents of files written since the last sync durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_files(&mut self, files: &[PathBuf]) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;

    /// Renames a file, replacing the target.
    ///
    /// # Errors
    /// The system's.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&mut self, file: &Path) -> io::Result<()>;

    /// Removes a directory with all it holds.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&mut self, dir: &Path) -> io::Result<()>;

    /// Lets go of open files, whether synced or not.
    fn forget(&mut self) {}
}

/// Syncs at work at the same time.
const SYNC_THREADS: usize = 8;

/// The real file system.
#[derive(Debug, Default)]
pub struct FileSystem {
    /// Files written and not yet synced. They stay open so that a write-back error cannot be lost between the write and
    /// the sync.
    unsynced: HashMap<PathBuf, File>,
}

impl FileSystem {
    /// The real file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn open_for_write(&mut self, path: &Path) -> io::Result<&mut File> {
        let file = match self.unsynced.remove(path) {
            Some(file) => file,
            None => OpenOptions::new().write(true).create(true).truncate(false).open(path)?,
        };
        Ok(self.unsynced.entry(path.to_owned()).or_insert(file))
    }
}

impl Storage for FileSystem {
    fn create_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        self.unsynced.insert(path.to_owned(), file);
        Ok(())
    }

    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.open_for_write(path)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, path: &Path, length: u64) -> io::Result<()> {
        self.open_for_write(path)?.set_len(length)
    }

    fn sync_files(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let open: Vec<File> = files.iter().filter_map(|path| self.unsynced.remove(path)).collect();
        let sync = |files: &[File]| files.iter().try_for_each(File::sync_data);
        if open.len() <= SYNC_THREADS {
            return sync(&open);
        }
        // A sync mostly waits for the file system's journal; those that wait together share one commit of it.
        thread::scope(|scope| {
            let chunks = open.chunks(open.len().div_ceil(SYNC_THREADS));
            let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || sync(chunk))).collect();
            let died = |_| Err(io::Error::other("a thread that synced files died"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(died)).fold(Ok(()), Result::and)
        })
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&mut self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn forget(&mut self) {
        self.unsynced.clear();
    }
}
