//! Re-reading a whole ledger and finding what is not as it was written.
//!
//! Every entry is hashed again and every tile of every level recomputed from below and compared with the stored one.
//! Where both differ, what lies above (the stored parent, in the end the signed root) settles which of the two files
//! was changed. Then every checkpoint ever published must have a valid signature and be a prefix of the next.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use crate::{
    Checkpoint, Error, Fault, Hash, LedgerReader, TILE_WIDTH, Tile, TileKind, VerifierKey, at_rest,
    tile::{self, MAX_TILE_LEVEL},
    writer::CHECKPOINT_FILE,
};

mod files;
mod published;
mod scan;
mod settle;

/// Faults collected before verification gives up looking for more.
const MAX_FAULTS: usize = 100;

/// What was verified, all of it sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint that everything was held against.
    pub checkpoint: Checkpoint,
    /// Entry bundles read.
    pub bundles: u64,
    /// Hash tiles compared, partial ones included.
    pub tiles: u64,
    /// Published checkpoints whose signature and root were checked.
    pub checkpoints: u64,
    /// Files that no checkpoint covers: being written now, or left by a writer that was stopped.
    pub unpublished_files: u64,
}

/// Why a ledger did not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing to verify, or the system cannot read it.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// Faults were found.
    #[error("the ledger is damaged or was changed: {}", Summary(faults))]
    Faults {
        /// The first ones, at least one, in the order of files and entries.
        faults: Vec<Fault>,
    },
}

struct Summary<'a>(&'a [Fault]);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => only.fmt(f),
            [first, rest @ ..] => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

/// Verifies all of the ledger in `dir` against the key it must be signed with, on all processors. The ledger may be
/// growing meanwhile: what is verified is the checkpoint found at the start.
///
/// `progress(done, total)` is called from several threads; the unit is entries plus published checkpoints.
///
/// # Errors
/// [`VerifyError::Faults`] names files and entries; [`VerifyError::Unreadable`] if there is no ledger or the system
/// cannot read it.
pub fn verify_all(
    dir: &Path,
    key: &VerifierKey,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Report, VerifyError> {
    let checkpoint = match LedgerReader::new(dir, key.clone()).snapshot() {
        Ok(snapshot) => snapshot.checkpoint().clone(),
        Err(Error::Checkpoint { source, .. }) => {
            return Err(VerifyError::Faults {
                faults: vec![Fault::new(CHECKPOINT_FILE, source.to_string())],
            });
        }
        Err(other) => return Err(other.into()),
    };
    let published = published::find(dir, key, &checkpoint);
    let checkpoints = published.as_ref().map_or(0, |found| found.count);
    let total = checkpoint.size() + checkpoints;
    let run = Run {
        dir,
        size: checkpoint.size(),
        progress: &|steps, done: &AtomicU64| {
            progress(done.fetch_add(steps, Ordering::Relaxed) + steps, total);
        },
        done: AtomicU64::new(0),
        tiles: AtomicU64::new(0),
        faults: Mutex::new(Vec::new()),
        enough: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    run.verify_tree(*checkpoint.root());
    let tree_is_sound = run.is_sound();
    match published {
        Ok(published) => published::verify(&run, key, &published, tree_is_sound),
        Err(error) => run.report(error),
    }
    let unpublished_files = files::verify(&run);
    let bundles = tile::count_of(TileKind::Entries, run.size).div_ceil(u64::from(TILE_WIDTH));
    let tiles = run.tiles.load(Ordering::Relaxed);
    run.finish()?;
    Ok(Report { checkpoint, bundles, tiles, checkpoints, unpublished_files })
}

/// One verification, shared by its threads.
struct Run<'a> {
    dir: &'a Path,
    /// Entries that the checkpoint covers.
    size: u64,
    progress: &'a (dyn Fn(u64, &AtomicU64) + Sync),
    done: AtomicU64,
    tiles: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    /// So many faults that looking further is idle.
    enough: AtomicBool,
    /// The first failure of the system rather than of the ledger.
    failure: Mutex<Option<Error>>,
}

impl Run<'_> {
    fn fault(&self, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(fault);
        self.enough.store(faults.len() >= MAX_FAULTS, Ordering::Relaxed);
    }

    /// Takes up an error: damage is a fault, anything else ends the verification.
    fn report(&self, error: Error) {
        match error {
            Error::Corrupt(fault) => self.fault(fault),
            other => {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(other);
                self.enough.store(true, Ordering::Relaxed);
            }
        }
    }

    fn has_fault_in(&self, file: &Path) -> bool {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().any(|fault| fault.file == file)
    }

    fn is_sound(&self) -> bool {
        !self.is_enough() && self.faults.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn advance(&self, steps: u64) {
        (self.progress)(steps, &self.done);
    }

    /// Runs `work` on every number below `count`, on all processors.
    fn in_parallel(&self, count: u64, work: impl Fn(u64) + Sync) {
        let next = AtomicU64::new(0);
        let worker = || {
            while !self.is_enough() {
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= count {
                    break;
                }
                work(unit);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(worker);
            }
            worker();
        });
    }

    /// The stored bytes of a tile; damage and absence become faults.
    fn read(&self, tile: &Tile) -> Option<(PathBuf, Vec<u8>)> {
        at_rest::read_prefix(self.dir, tile).map_err(|error| self.report(error)).ok()
    }

    /// The stored hashes of tile `index`; damage and absence become faults.
    fn read_hashes(&self, level: u8, index: u64) -> Option<Vec<Hash>> {
        let tile = tile::tile_at(TileKind::Level(level), index, self.size)?;
        self.tiles.fetch_add(1, Ordering::Relaxed);
        let (file, bytes) = self.read(&tile)?;
        let hashes = tile::decode_hashes(&bytes, tile.width);
        if hashes.is_none() {
            self.fault(Fault::new(file, "it has another length than its width").at(at_rest::span(&tile)));
        }
        hashes
    }

    /// One stored hash, without counting or reporting; for settling which of two files is right.
    fn stored_hash(&self, level: u8, index: u64) -> Option<Hash> {
        let tile = tile::tile_at(TileKind::Level(level), index / u64::from(TILE_WIDTH), self.size)
            .filter(|_| level <= MAX_TILE_LEVEL)?;
        let (_, bytes) = at_rest::read_prefix(self.dir, &tile).ok()?;
        let place = usize::try_from(index % u64::from(TILE_WIDTH)).ok()?;
        tile::decode_hashes(&bytes, tile.width)?.get(place).copied()
    }

    fn finish(self) -> Result<(), VerifyError> {
        let mut faults = self.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = self.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
            && faults.is_empty()
        {
            return Err(failure.into());
        }
        if faults.is_empty() {
            return Ok(());
        }
        let key = |fault: &Fault| {
            (fault.entries.as_ref().map_or(u64::MAX, |range| range.start), fault.file.clone())
        };
        faults.sort_by_key(key);
        faults.dedup();
        Err(VerifyError::Faults { faults })
    }
}
