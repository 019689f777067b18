//! Writes over a stretch of a file through memory: what is written is in the page cache at once, as after `pwrite`, without
//! a system call. The only crate of the house with `unsafe` in it; decision 49 has what that brings, and README.md why it holds.

mod guard;

use std::{fs::File, io, os::fd::AsRawFd, ptr::NonNull};

use guard::Watch;

/// Bytes that are stored with one instruction.
const WORD_BYTES: usize = size_of::<u64>();

/// A stretch of a file, for writing. Bytes reach the file in the order in which they are given, so that what the death of
/// the process leaves of a write is a beginning of it.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    watch: Watch,
}

// SAFETY: the memory belongs to this value alone, and is the same for all threads of the process.
unsafe impl Send for Mapping {}

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
        match Watch::over(start.addr().get(), bytes) {
            Ok(watch) => Ok(Self { start, bytes, watch }),
            Err(error) => {
                unmap(start, bytes);
                Err(error)
            }
        }
    }

    /// Writes `bytes` from the byte `at` of the stretch on. They then survive the death of this process.
    ///
    /// # Errors
    /// If they don't fit. If the file system can't take them (the disk fails, the file was cut, a file system that copies on
    /// writing is full): then a part of them may be in the file, and the stretch takes nothing more.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes);
        if !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a write behind the end of a mapping"));
        }
        if !self.watch.has_failed() {
            // SAFETY: `at` is within the mapping, or at its end.
            let start = unsafe { self.start.as_ptr().add(at) };
            // SAFETY: `fits` has looked at it. Nobody has a reference into the mapping, and `bytes` is not in it.
            unsafe { store_in_order(start, bytes) };
        }
        if self.watch.has_failed() {
            return Err(io::Error::other("the file system could not take what was written (SIGBUS)"));
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.start, self.bytes);
    }
}

fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: mapped by `new`, and nobody else knows of it. It can't fail with what was mapped.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
}

/// Stores `bytes` from the first to the last: `memcpy` is free to store the end first.
///
/// # Safety
/// From `to` on there are as many bytes that may be written, and none of them is in `bytes`.
unsafe fn store_in_order(to: *mut u8, bytes: &[u8]) {
    let (head, rest) = bytes.split_at(to.align_offset(WORD_BYTES).min(bytes.len()));
    let (words, tail) = rest.as_chunks::<WORD_BYTES>();
    let mut next = to;
    for byte in head {
        // SAFETY: within what the caller vouches for; so for all stores here. Volatile, so that they stay in order.
        unsafe {
            next.write_volatile(*byte);
            next = next.add(1);
        }
    }
    for word in words {
        // SAFETY: as above; after `head`, `next` is aligned, or there are no words.
        unsafe {
            next.cast::<u64>().write_volatile(u64::from_ne_bytes(*word));
            next = next.add(WORD_BYTES);
        }
    }
    for byte in tail {
        // SAFETY: as above.
        unsafe {
            next.write_volatile(*byte);
            next = next.add(1);
        }
    }
}
