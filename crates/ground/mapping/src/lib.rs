//! Writes over a stretch of a file through memory: what is written is in the page cache at once, as after `pwrite`, without
//! a system call. The only crate of the house with `unsafe` in it; decision 49 has what that brings, and README.md why it holds.

mod guard;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use guard::Watch;

/// Bytes that are stored at once.
pub const WORD_BYTES: usize = size_of::<u64>();

/// A stretch of a file, for writing.
#[derive(Debug)]
pub struct Mapping {
    /// Dropped first: what is mapped here next is not ours to watch.
    watch: Watch,
    pages: Pages,
}

/// What is mapped.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to this value alone, and is the same for all threads of the process.
unsafe impl Send for Pages {}

impl Mapping {
    /// Maps `bytes` of `file` from `offset` on, which must be a multiple of the page size. The stretch should be within the
    /// file: writing behind its end is an error, as is writing where it is cut later.
    ///
    /// # Errors
    /// If the file can't be mapped (some file systems have no shared mappings), or if too many stretches are mapped already.
    pub fn new(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the system likes, changes no memory that anybody knows of.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        let pages = Pages { start, bytes };
        let watch = Watch::over(start.as_ptr().expose_provenance(), bytes)?;
        Ok(Self { watch, pages })
    }

    /// Writes `bytes` from the byte `at` of the stretch on, after everything that was written before. They then survive the death of
    /// this process. If it dies before, any of them may be in the file.
    ///
    /// # Errors
    /// If they don't fit. If the file system can't take them (the disk fails, the page is behind the file's end, a file system
    /// that copies on writing is full): then a part of them may be in the file, and the stretch takes nothing more. What stands behind
    /// the end of a file that was cut, but in its last page, is lost without an error: look at the file's length after a sync.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.store(at, bytes.len(), |to| {
            // SAFETY: `store` has looked that there is room. Nobody has a reference into the mapping, and `bytes` is not in it.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        })
    }

    /// Writes a word from the byte `at` of the stretch on, all of it at once, and after everything that was written before: of a
    /// process that was killed, where the word is, so is that.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn publish(&mut self, at: usize, word: [u8; WORD_BYTES]) -> io::Result<()> {
        // Others may be reading the file.
        fence(Ordering::Release);
        // It takes one instruction, and a process dies between two.
        self.store(at, WORD_BYTES, |to| {
            // SAFETY: as in `write`.
            unsafe { to.cast::<u64>().write_unaligned(u64::from_ne_bytes(word)) };
        })
    }

    fn store(&mut self, at: usize, bytes: usize, store: impl FnOnce(*mut u8)) -> io::Result<()> {
        let fits = at.checked_add(bytes).is_some_and(|end| end <= self.pages.bytes);
        if !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write behind the end of a mapping"));
        }
        if !self.watch.has_failed() {
            // SAFETY: within the mapping, or at its end.
            store(unsafe { self.pages.start.as_ptr().add(at) });
        }
        if self.watch.has_failed() {
            return Err(io::Error::other(
                "the disk failed or is full, or the file was cut: the system sent SIGBUS",
            ));
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `Mapping::new`, and nobody else knows of it. It can't fail with what was mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
