//! Answers SIGBUS: a page of a watched stretch that the file system can't give, or can't take, becomes memory without a
//! file, and the stretch is marked as failed. Whoever was writing goes on, and then looks at the mark.

use std::{
    io, ptr,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence},
    },
};

/// Stretches that can be watched at once. A journal has one for the segment that takes frames, and for a moment one for that
/// before.
const PLACES: usize = 64;

static WATCHED: [Place; PLACES] = [const { Place::new() }; PLACES];
static INSTALL: Once = Once::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A stretch of addresses, as the handler sees it.
#[derive(Debug)]
struct Place {
    taken: AtomicBool,
    start: AtomicUsize,
    /// 0 where nothing is watched.
    bytes: AtomicUsize,
    failed: AtomicBool,
}

impl Place {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }
    }

    fn holds(&self, address: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Acquire);
        let within = address.checked_sub(self.start.load(Ordering::Acquire));
        // Looked at again: the place may have been given to another stretch meanwhile.
        self.bytes.load(Ordering::Acquire) == bytes && within.is_some_and(|within| within < bytes)
    }
}

/// The watch over one stretch, until it is dropped.
#[derive(Debug)]
pub struct Watch(&'static Place);

impl Watch {
    /// Watches `bytes` from the address `start` on.
    ///
    /// # Errors
    /// If too many are watched already.
    pub fn over(start: usize, bytes: usize) -> io::Result<Self> {
        INSTALL.call_once(install);
        let free = |place: &&Place| !place.taken.swap(true, Ordering::AcqRel);
        let place = WATCHED.iter().find(free).ok_or_else(|| io::Error::other("too many mappings"))?;
        place.failed.store(false, Ordering::Release);
        place.start.store(start, Ordering::Release);
        place.bytes.store(bytes, Ordering::Release);
        Ok(Self(place))
    }

    /// Whether a page of it had to be replaced. To be asked by the thread that wrote, after it wrote.
    pub fn has_failed(&self) -> bool {
        // The handler runs on the thread that it interrupts, and a process dies between two instructions: it is enough that the
        // compiler keeps what is written before this before it, and what is written after it after.
        compiler_fence(Ordering::SeqCst);
        self.0.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.bytes.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

fn install() {
    // SAFETY: asks for a number, which there always is.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE_BYTES.store(usize::try_from(page_bytes).unwrap_or(4096), Ordering::Release);
    // SAFETY: all zeroes are a valid `sigaction`, which is filled below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = answer;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: a valid action. Without the handler (which can't be refused for SIGBUS) a failing disk would end the process, as it
    // does by default.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
}

/// Only what may be done in a handler: loads, stores, `mmap`, `signal`, `raise`.
extern "C" fn answer(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the system hands us a valid `info`.
    let info = unsafe { &*info };
    // SAFETY: `errno` belongs to this thread. Whoever was interrupted must find it as it was.
    let errno = unsafe { *libc::__errno_location() };
    if !replaced(info) {
        // Not ours, or sent by somebody: it ends the process when we return, as it does by default.
        // SAFETY: both may be called here, and are given a signal that there is.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Puts memory without a file where the page is that could not be had, if it is a watched one.
fn replaced(info: &libc::siginfo_t) -> bool {
    // Only what this very thread ran into: then it holds the mapping, which can't go away meanwhile.
    if !matches!(info.si_code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR) {
        return false;
    }
    // SAFETY: with these codes, SIGBUS comes with an address.
    let address = unsafe { info.si_addr() }.addr();
    let Some(place) = WATCHED.iter().find(|place| place.holds(address)) else { return false };
    place.failed.store(true, Ordering::Release);
    let page = PAGE_BYTES.load(Ordering::Acquire);
    let start = ptr::with_exposed_provenance_mut(address - address % page.max(1));
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page is of a `Mapping`, which nobody has references into, and is unmapped with it.
    let mapped = unsafe { libc::mmap(start, page, access, kind, -1, 0) };
    mapped != libc::MAP_FAILED
}
