//! The few file operations the journal needs, behind a trait so that tests can make each of them fail.

use std::{
    fs::{self, DirBuilder, OpenOptions, TryLockError},
    io, iter,
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex},
};

use mapping::{Mapping, WORD_BYTES};

use crate::{
    format::{FRAME_EPOCH_OFFSET, FRAME_HEADER_BYTES, MAX_MAPPED_BYTES},
    journal::lock,
};

/// Bytes of a segment that are mapped at once. They count as resident memory, also those of a segment that is full, until it is
/// synced.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Holds an exclusive lock until dropped.
pub type Lock = Box<dyn Send + Sync>;

/// A directory of files.
pub trait Storage: Send + Sync {
    /// Makes the directory, readable by its owner only, unless it is there.
    ///
    /// # Errors
    /// The system's answer; so for all methods.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock at `path`, without waiting; `None` if it is held.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;
    /// Names of the files in the directory, in any order. Those that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a new file for reading and writing, readable by its owner only. It must not be there yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>>;
    /// Opens a file, for writing too if `write`.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and deletions in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names the run of the kernel, whose page cache holds what was not synced; `None` if unknown.
    fn boot_id(&self) -> Option<[u8; 16]>;
}

/// One open file.
pub trait StorageFile: Send + Sync {
    /// Writes at `offset` and returns how many bytes were taken, which may be fewer than given.
    ///
    /// # Errors
    /// The system's answer; so for all methods.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// As [`write_at`](Self::write_at), for frames that end at `ends`, where the file has zeroes already. The epochs may be written
    /// last, in order and each at once: a frame is valid only with its epoch, so that what a killed process leaves of frames
    /// is none, or the first of them.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_frames_at(&self, bytes: &[u8], ends: &[usize], offset: u64) -> io::Result<usize> {
        debug_assert_eq!(ends.last(), Some(&bytes.len()));
        self.write_at(bytes, offset)
    }
    /// Reads at `offset` and returns how many bytes there were; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the file's bytes and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts or lengthens the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Length of the file in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o750).create(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(path)?;
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(DiskFile::new(OpenOptions::new().read(true).write(write).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = text.trim().chars().filter(|&character| character != '-').collect();
        u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
    }
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
    window: Mutex<Window>,
}

impl DiskFile {
    fn new(file: fs::File) -> Self {
        Self { file, window: Mutex::new(Window::Unset) }
    }
}

/// The stretch of a file into which frames are written through memory (decision 49).
#[derive(Debug)]
enum Window {
    Unset,
    At {
        mapping: Mapping,
        start: u64,
        end: u64,
    },
    /// Each write is a system call.
    Never,
}

impl Window {
    /// Writes frames that end at `ends`, if they are all in this window.
    fn write(&mut self, bytes: &[u8], ends: &[usize], offset: u64) -> Option<io::Result<()>> {
        let Self::At { mapping, start, end } = self else { return None };
        if offset < *start || offset + bytes.len() as u64 > *end {
            return None;
        }
        let at = usize::try_from(offset - *start).ok()?;
        Some(write_frames(mapping, at, bytes, ends))
    }

    /// Whether it might be better elsewhere for a write at `offset`.
    const fn is_elsewhere(&self, offset: u64) -> bool {
        match self {
            Self::Unset => true,
            Self::At { start, end, .. } => offset < *start || offset >= *end,
            Self::Never => false,
        }
    }

    /// Where `offset` is, if it can be. Windows begin at multiples of their size, which any page's size divides.
    fn around(file: &fs::File, offset: u64) -> Self {
        let start = offset - offset % WINDOW_BYTES as u64;
        let mapped = || {
            if !can_be_mapped(file)? {
                return Ok(None);
            }
            let bytes = file.metadata()?.len().saturating_sub(start).min(WINDOW_BYTES as u64);
            let mapping = Mapping::new(file, start, usize::try_from(bytes).map_err(io::Error::other)?)?;
            Ok::<_, io::Error>(Some((mapping, start + bytes)))
        };
        match mapped() {
            Ok(Some((mapping, end))) => Self::At { mapping, start, end },
            // What is wrong with the file, a system call will say.
            Ok(None) | Err(_) => Self::Never,
        }
    }
}

/// Whether a store is in the page cache as after `pwrite`, and fails at once where that would. Of other file systems either is not
/// known, or not so: those over a network or in user space may tell of an error at the next sync only.
fn can_be_mapped(file: &fs::File) -> io::Result<bool> {
    const EXT: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const TMPFS: i64 = 0x0102_1994;
    let kind = rustix::fs::fstatfs(file)?.f_type;
    #[allow(clippy::useless_conversion, reason = "its type is another on other architectures")]
    Ok(i64::try_from(kind).is_ok_and(|kind| matches!(kind, EXT | XFS | TMPFS)))
}

/// Frames of which none has its epoch yet, then the epochs. See `format::is_unpublished` for what a kill leaves.
fn write_frames(mapping: &mut Mapping, at: usize, bytes: &[u8], ends: &[usize]) -> io::Result<()> {
    let misfit = || io::Error::new(io::ErrorKind::InvalidInput, "the bytes are not those of frames");
    let part = |range: Range<usize>| bytes.get(range).ok_or_else(misfit);
    let mut written = 0;
    for epoch in epochs(ends) {
        let header_end = epoch.start - FRAME_EPOCH_OFFSET + FRAME_HEADER_BYTES;
        mapping.write(at + written, part(written..epoch.start)?)?;
        mapping.write(at + epoch.end, part(epoch.end..header_end)?)?;
        written = header_end;
    }
    mapping.write(at + written, part(written..bytes.len())?)?;
    for epoch in epochs(ends) {
        mapping.publish(at + epoch.start, *part(epoch)?.first_chunk().ok_or_else(misfit)?)?;
    }
    Ok(())
}

/// Where the epochs of frames stand that end at `ends`.
fn epochs(ends: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let starts = iter::once(0).chain(ends.iter().copied()).take(ends.len());
    starts.map(|start| start + FRAME_EPOCH_OFFSET..start + FRAME_EPOCH_OFFSET + WORD_BYTES)
}

impl StorageFile for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn write_frames_at(&self, bytes: &[u8], ends: &[usize], offset: u64) -> io::Result<usize> {
        if bytes.len() > MAX_MAPPED_BYTES {
            return self.file.write_at(bytes, offset);
        }
        let mut window = lock(&self.window);
        if window.is_elsewhere(offset) {
            // The old one goes first, so that there is never more than one.
            *window = Window::Never;
            *window = Window::around(&self.file, offset);
        }
        match window.write(bytes, ends, offset) {
            Some(done) => done.map(|()| bytes.len()),
            // Across the edge of a window, or of the file.
            None => self.file.write_at(bytes, offset),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync also makes a changed length durable, and no more than is needed to read the bytes. It knows what
        // was written through a mapping.
        self.file.sync_data()?;
        // What is stored behind the end of a file that somebody has cut is lost, and in its last page nothing else says so.
        match &*lock(&self.window) {
            Window::At { end, .. } if self.length()? < *end => {
                Err(io::Error::other("the file was cut while it was written"))
            }
            Window::Unset | Window::At { .. } | Window::Never => Ok(()),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        // Nothing is written to a segment that was cut.
        *lock(&self.window) = Window::Never;
        self.file.set_len(bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
