//! The writer: leaves in, tiles and signed checkpoints out.
//!
//! Invariants:
//! - Whatever a published checkpoint covers was synced, files and directories, before the checkpoint was signed.
//! - A signature is synced into the history before its checkpoint is published, and is never abandoned: recovery
//!   publishes it. So the log never signs two trees that contradict each other, whatever is lost.
//! - A file that a published checkpoint covers is never written again.
//! - After any failed write nothing more is written until [`Ledger::recover`], which is what [`Ledger::open`] runs.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use crate::{
    Checkpoint, CompactRange, Error, FileSystem, Hash, Signer, Storage, TILE_WIDTH, Tile, TileKind, TreeHead,
    VerifierKey, at_rest,
    bundle::push_entry,
    hash::leaf_hash,
    history::{HISTORY_FILE, RECORD_BYTES, Record},
    tile::{self, MAX_TILE_LEVEL, TILE_HEIGHT},
};

mod recover;

/// The latest checkpoint's file in the ledger's directory.
pub const CHECKPOINT_FILE: &str = "checkpoint";
const CHECKPOINT_TEMPORARY: &str = "checkpoint.tmp";
const LOCK_FILE: &str = "lock";

/// Files written and not yet synced, at most; bounds open files and what recovery has to look for.
const MAX_UNSYNCED_FILES: usize = 256;

/// How a ledger is written. None of it changes what the checkpoints commit to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Store full entry bundles as `<N>.zst`. Readers of this crate do not notice; a plain file server would.
    pub compress_full_bundles: bool,
}

/// A ledger open for appending. One at a time per directory; any number of [`LedgerReader`](crate::LedgerReader)s beside.
pub struct Ledger {
    dir: PathBuf,
    signer: Box<dyn Signer>,
    storage: Box<dyn Storage>,
    /// If full bundles are compressed.
    compressor: Option<at_rest::Compressor>,
    /// Held for its lock.
    _lock: File,
    /// `None` after a failed write.
    state: Option<State>,
}

/// What the writer knows of the tree: the head and the unfinished right edge. A few hundred kilobytes at the very
/// most for usual leaves, however large the tree.
struct State {
    range: CompactRange,
    /// The partial entry bundle.
    bundle: Vec<u8>,
    /// The partial tile of every level.
    levels: Vec<Vec<Hash>>,
    unsynced_files: Vec<PathBuf>,
    unsynced_dirs: BTreeSet<PathBuf>,
    /// The directories of the latest full tile per kind, known to exist.
    known_dirs: BTreeSet<PathBuf>,
    published: Checkpoint,
    /// Where the next history record goes, in bytes.
    history_end: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, creating an empty one (with a checkpoint of size 0) if there is none, and recovers
    /// it to the last signed checkpoint: see [`recover`](Self::recover). The log's origin is the signer's key name.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Corrupt`] (the tiles do not match the checkpoint: the file is named),
    /// [`Error::Checkpoint`], [`Error::Sign`], [`Error::Storage`].
    pub fn open(dir: &Path, signer: Box<dyn Signer>) -> Result<Self, Error> {
        Self::open_with(dir, signer, Options::default(), Box::new(FileSystem::new()))
    }

    /// As [`open`](Self::open), with options and the storage through which all writes go.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        dir: &Path,
        signer: Box<dyn Signer>,
        options: Options,
        mut storage: Box<dyn Storage>,
    ) -> Result<Self, Error> {
        storage.create_dir(dir).map_err(Error::storage("create", dir))?;
        let lock = lock(dir)?;
        let compressor = options.compress_full_bundles.then(at_rest::Compressor::new).transpose();
        let compressor = compressor.map_err(Error::storage("compress for", dir))?;
        let mut ledger = Self { dir: dir.to_owned(), signer, storage, compressor, _lock: lock, state: None };
        ledger.recover()?;
        Ok(ledger)
    }

    /// Returns to the last signed checkpoint on disk, which is what opening does. Needed after any failed write, and
    /// then as often as it takes (a full disk heals by itself). Entries appended after that checkpoint are dropped and
    /// have to be appended again: compare [`size`](Self::size) with what you have.
    ///
    /// The size may be *greater* than the last checkpoint that [`checkpoint`](Self::checkpoint) returned: one that was
    /// signed when the write failed is published now.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn recover(&mut self) -> Result<(), Error> {
        self.state = None;
        self.storage.forget();
        self.state = Some(recover::recover(&self.dir, self.signer.as_ref(), self.storage.as_mut())?);
        Ok(())
    }

    /// The log's identity, which is its key's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.signer.verifier().name()
    }

    /// The key that the checkpoints are signed with.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// The ledger's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Entries appended, whether a checkpoint covers them or not: the index of the next one.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.state.as_ref().ok_or(Error::Stopped)?.range.size())
    }

    /// The checkpoint last published.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn published(&self) -> Result<&Checkpoint, Error> {
        Ok(&self.state.as_ref().ok_or(Error::Stopped)?.published)
    }

    /// Appends an entry and returns its index. It is in memory only, or in files nobody refers to yet, until
    /// [`checkpoint`](Self::checkpoint) returns.
    ///
    /// # Errors
    /// [`Error::EntryTooLong`] (nothing happened), [`Error::Storage`] (the ledger has stopped), [`Error::Stopped`].
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, Error> {
        let state = self.state.as_mut().ok_or(Error::Stopped)?;
        if !push_entry(&mut state.bundle, entry) {
            return Err(Error::EntryTooLong { bytes: entry.len() });
        }
        let index = state.range.size();
        let leaf = leaf_hash(entry);
        let levels = &mut state.levels;
        push_to(levels, 0, leaf);
        state.range.push(leaf, |level, hash| {
            if level % TILE_HEIGHT == 0 {
                push_to(levels, usize::from(level / TILE_HEIGHT), *hash);
            }
        });
        if state.range.size().is_multiple_of(u64::from(TILE_WIDTH)) {
            self.write_guarded(Self::write_full_tiles)?;
        }
        Ok(index)
    }

    /// Signs and publishes a checkpoint over all entries appended, after syncing them. Returns the current one if
    /// nothing was appended since.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Sign`]: the ledger has stopped; [`Error::Stopped`].
    pub fn checkpoint(&mut self) -> Result<Checkpoint, Error> {
        let state = self.state.as_ref().ok_or(Error::Stopped)?;
        if state.published.size() == state.range.size() {
            return Ok(state.published.clone());
        }
        self.write_guarded(|ledger, state| {
            ledger.write_partial_tiles(state)?;
            ledger.sync(state)?;
            let head = TreeHead {
                origin: ledger.origin().to_owned(),
                size: state.range.size(),
                root: state.range.root(),
            };
            let checkpoint = Checkpoint::sign(head, ledger.signer.as_ref()).map_err(Error::Sign)?;
            let before = state.published.size();
            let (dir, storage) = (ledger.dir.clone(), ledger.storage.as_mut());
            publish(&dir, storage, ledger.signer.verifier(), &checkpoint, state.history_end)?;
            state.history_end += RECORD_BYTES as u64;
            state.published = checkpoint.clone();
            remove_superseded(&dir, storage, before, checkpoint.size())?;
            Ok(checkpoint)
        })
    }

    /// Runs writes; if one fails the state is gone, and only recovery brings it back.
    fn write_guarded<T>(
        &mut self,
        writes: impl FnOnce(&mut Self, &mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.state.take().ok_or(Error::Stopped)?;
        let result = writes(self, &mut state)?;
        self.state = Some(state);
        Ok(result)
    }

    /// Writes the bundle and every tile that the last entry has filled.
    fn write_full_tiles(&mut self, state: &mut State) -> Result<(), Error> {
        let index_at = |kind| tile::count_of(kind, state.range.size()) / u64::from(TILE_WIDTH) - 1;
        let bundle = Tile::full(TileKind::Entries, index_at(TileKind::Entries));
        let bytes = std::mem::take(&mut state.bundle);
        if let Some(compressor) = &mut self.compressor {
            let file = at_rest::compressed_file(&bundle);
            let compressed = compressor.compress(&bytes).map_err(Error::storage("compress", &file))?;
            self.write_file(state, file, &compressed)?;
        } else {
            self.write_file(state, bundle.file(), &bytes)?;
        }
        state.bundle = bytes;
        state.bundle.clear();
        for level in 0..=MAX_TILE_LEVEL {
            let full =
                state.levels.get(usize::from(level)).filter(|hashes| hashes.len() == usize::from(TILE_WIDTH));
            let Some(hashes) = full else { break };
            let kind = TileKind::Level(level);
            let index = tile::count_of(kind, state.range.size()) / u64::from(TILE_WIDTH) - 1;
            let bytes = tile::encode_hashes(hashes);
            self.write_file(state, Tile::full(kind, index).file(), &bytes)?;
            if let Some(hashes) = state.levels.get_mut(usize::from(level)) {
                hashes.clear();
            }
        }
        if state.unsynced_files.len() >= MAX_UNSYNCED_FILES {
            self.sync(state)?;
        }
        Ok(())
    }

    /// Writes the right edge of the tree, as a checkpoint of this size needs it.
    fn write_partial_tiles(&mut self, state: &mut State) -> Result<(), Error> {
        for kind in tile::kinds() {
            let Some(tile) = tile::frontier(kind, state.range.size()) else { continue };
            // The levels above change rarely, and a published file must not be touched: it may be being read.
            if tile::frontier(kind, state.published.size()) == Some(tile) {
                continue;
            }
            let bytes = match kind {
                TileKind::Entries => state.bundle.clone(),
                TileKind::Level(level) => state
                    .levels
                    .get(usize::from(level))
                    .map(|hashes| tile::encode_hashes(hashes))
                    .unwrap_or_default(),
            };
            self.write_file(state, tile.file(), &bytes)?;
        }
        Ok(())
    }

    fn write_file(&mut self, state: &mut State, file: PathBuf, bytes: &[u8]) -> Result<(), Error> {
        if let Some(parent) = file.parent()
            && !state.known_dirs.contains(parent)
        {
            let path = self.dir.join(parent);
            self.storage.create_dir(&path).map_err(Error::storage("create", &path))?;
            // Any of the parents may be new: the name of each has to be durable in the one above.
            state.unsynced_dirs.extend(parent.ancestors().map(Path::to_owned));
            if state.known_dirs.len() > MAX_UNSYNCED_FILES {
                state.known_dirs.clear();
            }
            state.known_dirs.insert(parent.to_owned());
        }
        state.unsynced_dirs.extend(file.parent().map(Path::to_owned));
        let path = self.dir.join(file);
        self.storage.write(&path, bytes).map_err(Error::storage("write", &path))?;
        state.unsynced_files.push(path);
        Ok(())
    }

    /// Makes durable what was written: contents first, then names, the deepest directories first.
    fn sync(&mut self, state: &mut State) -> Result<(), Error> {
        self.storage.sync_files(&state.unsynced_files).map_err(Error::storage("sync files in", &self.dir))?;
        state.unsynced_files.clear();
        for dir in std::mem::take(&mut state.unsynced_dirs).iter().rev() {
            let path = self.dir.join(dir);
            self.storage.sync_dir(&path).map_err(Error::storage("sync", &path))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("dir", &self.dir)
            .field("origin", &self.origin())
            .finish_non_exhaustive()
    }
}

fn push_to(levels: &mut Vec<Vec<Hash>>, level: usize, hash: Hash) {
    while levels.len() <= level {
        levels.push(Vec::with_capacity(usize::from(TILE_WIDTH)));
    }
    if let Some(hashes) = levels.get_mut(level) {
        hashes.push(hash);
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::storage("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::storage("lock", path)(error)),
    }
}

/// Puts a signed checkpoint into the history at `history_end` and then in place. What it covers must be durable. Used
/// for new checkpoints and, in recovery, for one that was signed and not yet published.
fn publish(
    dir: &Path,
    storage: &mut dyn Storage,
    key: &VerifierKey,
    checkpoint: &Checkpoint,
    history_end: u64,
) -> Result<(), Error> {
    let history = dir.join(HISTORY_FILE);
    let record = Record::of(checkpoint, key).map(|record| record.encode()).unwrap_or_default();
    storage.write_at(&history, history_end, &record).map_err(Error::storage("write", &history))?;
    storage.sync_files(std::slice::from_ref(&history)).map_err(Error::storage("sync", &history))?;
    storage.sync_dir(dir).map_err(Error::storage("sync", dir))?;
    let (path, temporary) = (dir.join(CHECKPOINT_FILE), dir.join(CHECKPOINT_TEMPORARY));
    let text = checkpoint.to_string();
    storage.write(&temporary, text.as_bytes()).map_err(Error::storage("write", &temporary))?;
    storage.sync_files(std::slice::from_ref(&temporary)).map_err(Error::storage("sync", &temporary))?;
    storage.rename(&temporary, &path).map_err(Error::storage("replace", &path))?;
    storage.sync_dir(dir).map_err(Error::storage("sync", dir))
}

/// Removes the partial tiles of a tree of `before` entries that are full in one of `now`.
fn remove_superseded(dir: &Path, storage: &mut dyn Storage, before: u64, now: u64) -> Result<(), Error> {
    for kind in tile::kinds() {
        let Some(old) = tile::frontier(kind, before) else { continue };
        if tile::tile_at(kind, old.index, now).is_some_and(|tile| tile.is_full()) {
            let path = dir.join(old.partial_dir());
            if path.exists() {
                storage.remove_dir(&path).map_err(Error::storage("remove", &path))?;
            }
        }
    }
    Ok(())
}
