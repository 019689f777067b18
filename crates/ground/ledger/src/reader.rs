//! Reading a ledger, also while another process writes it.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Checkpoint, Error, Fault, Hash, TILE_WIDTH, Tile, TileKind, TlogProof, VerifierKey, at_rest, bundle,
    hash::leaf_hash,
    tile::{self, TILE_HEIGHT},
    tree::{self, verify_consistency, verify_inclusion_hash},
    writer::CHECKPOINT_FILE,
};

/// A ledger's directory and the key it must be signed with. Cheap to clone and to share between threads.
#[derive(Debug, Clone)]
pub struct LedgerReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    key: VerifierKey,
}

impl LedgerReader {
    /// The ledger in `dir`. Reads nothing yet: [`snapshot`](Self::snapshot) does.
    #[must_use]
    pub fn new(dir: &Path, key: VerifierKey) -> Self {
        Self { shared: Arc::new(Shared { dir: dir.to_owned(), key }) }
    }

    /// The ledger's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The key the ledger must be signed with.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.shared.key
    }

    /// The ledger as the latest checkpoint has it, whose signature is verified here.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Checkpoint`], [`Error::Storage`].
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let Shared { dir, key } = self.shared.as_ref();
        let path = dir.join(CHECKPOINT_FILE);
        let bytes = at_rest::read_file(&path)?.ok_or_else(|| Error::Missing { dir: dir.clone() })?;
        let checkpoint = Checkpoint::verify(&bytes, key.name(), key)
            .map_err(|source| Error::Checkpoint { path, source })?;
        Ok(self.snapshot_at(checkpoint))
    }

    /// The ledger as an earlier checkpoint had it, for instance one from the [`History`](crate::History). The checkpoint
    /// is taken as it is: verify it first.
    #[must_use]
    pub fn snapshot_at(&self, checkpoint: Checkpoint) -> Snapshot {
        Snapshot { shared: Arc::clone(&self.shared), checkpoint }
    }
}

/// The entries and proofs of one checkpoint. Stays readable while the ledger grows.
#[derive(Debug, Clone)]
pub struct Snapshot {
    shared: Arc<Shared>,
    checkpoint: Checkpoint,
}

impl Snapshot {
    /// The checkpoint that all this is about.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Entries in the ledger.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.checkpoint.size()
    }

    /// One entry as it is stored. Only a proof says that it is what was signed: see [`prove`](Self::prove).
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Corrupt`], [`Error::Storage`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, Error> {
        self.check_position(index, index < self.size())?;
        let bundle = self.bundle(index / u64::from(TILE_WIDTH))?;
        bundle.entry(index).map(<[u8]>::to_vec).ok_or_else(|| bundle.unreadable())
    }

    /// Entries `range`, cut to what the checkpoint covers, from either end: a bundle is read once, and one (or, when
    /// read from both ends, two) held at a time. After an error the iterator goes on with the next bundle.
    #[must_use]
    pub fn entries(&self, range: Range<u64>) -> Entries {
        let end = range.end.min(self.size());
        Entries { snapshot: self.clone(), range: range.start.min(end)..end, front: None, back: None }
    }

    /// The raw bytes of a tile or bundle as tlog-tiles serves it; `None` if this tree has no such tile. Narrower
    /// partial tiles than the present one are cut from it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] (missing or too short), [`Error::Storage`].
    pub fn tile(&self, tile: &Tile) -> Result<Option<Vec<u8>>, Error> {
        let exists = tile::tile_at(tile.kind, tile.index, self.size()).is_some_and(|t| tile.width <= t.width);
        if !exists || tile.width == 0 {
            return Ok(None);
        }
        Ok(Some(at_rest::read_prefix(&self.shared.dir, tile)?.1))
    }

    /// The inclusion proof of an entry in this checkpoint's tree. It was verified against the signed root and the
    /// stored entry.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Proof`], [`Error::Corrupt`], [`Error::Storage`].
    pub fn prove_inclusion(&self, index: u64) -> Result<Vec<Hash>, Error> {
        let leaf = leaf_hash(&self.entry(index)?);
        let mut tiles = Tiles::new(self);
        let proof = tree::prove_inclusion(index, self.size(), |level, index| tiles.subtree(level, index))?;
        verify_inclusion_hash(&leaf, index, self.size(), &proof, self.checkpoint.root())?;
        Ok(proof)
    }

    /// The proof that the tree of `old_size` entries is a prefix of this one. It was verified against the signed root
    /// and the tiles' own root of the old tree.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Proof`], [`Error::Corrupt`], [`Error::Storage`].
    pub fn prove_consistency(&self, old_size: u64) -> Result<Vec<Hash>, Error> {
        let old_root = self.root_at(old_size)?;
        let mut tiles = Tiles::new(self);
        let proof =
            tree::prove_consistency(old_size, self.size(), |level, index| tiles.subtree(level, index))?;
        verify_consistency(old_size, &old_root, self.size(), self.checkpoint.root(), &proof)?;
        Ok(proof)
    }

    /// The root of the first `size` entries, computed from the tiles.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Corrupt`], [`Error::Storage`].
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        self.check_position(size, size <= self.size())?;
        let mut tiles = Tiles::new(self);
        tree::root_at(size, |level, index| tiles.subtree(level, index))
    }

    /// The tlog-proof of an entry: give it away with the entry and the log's vkey, and anybody can check it.
    ///
    /// # Errors
    /// As [`prove_inclusion`](Self::prove_inclusion).
    pub fn prove(&self, index: u64) -> Result<TlogProof, Error> {
        let hashes = self.prove_inclusion(index)?;
        Ok(TlogProof { extra: None, index, hashes, checkpoint: self.checkpoint.clone() })
    }

    fn check_position(&self, position: u64, inside: bool) -> Result<(), Error> {
        if inside { Ok(()) } else { Err(Error::OutOfRange { position, size: self.size() }) }
    }

    fn bundle(&self, index: u64) -> Result<Bundle, Error> {
        let tile = tile::tile_at(TileKind::Entries, index, self.size())
            .ok_or(Error::OutOfRange { position: index, size: self.size() })?;
        let (file, bytes) = at_rest::read_prefix(&self.shared.dir, &tile)?;
        match bundle::split(&bytes, tile.width) {
            Some(ranges) => Ok(Bundle { tile, file, bytes, ranges }),
            None => {
                Err(Error::Corrupt(Fault::new(file, "its entries cannot be read").at(at_rest::span(&tile))))
            }
        }
    }
}

/// A bundle in memory.
#[derive(Debug)]
struct Bundle {
    tile: Tile,
    file: PathBuf,
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Bundle {
    fn entry(&self, index: u64) -> Option<&[u8]> {
        let place = index.checked_sub(self.tile.index * u64::from(TILE_WIDTH))?;
        self.bytes.get(self.ranges.get(usize::try_from(place).ok()?)?.clone())
    }

    fn unreadable(&self) -> Error {
        Error::Corrupt(Fault::new(&self.file, "its entries cannot be read").at(at_rest::span(&self.tile)))
    }
}

/// Iterator over entries with their indexes, from either end.
#[derive(Debug)]
pub struct Entries {
    snapshot: Snapshot,
    range: Range<u64>,
    front: Option<Bundle>,
    back: Option<Bundle>,
}

impl Entries {
    fn take(&mut self, index: u64, from_front: bool) -> Result<(u64, Vec<u8>), Error> {
        let wanted = index / u64::from(TILE_WIDTH);
        let slot = if from_front { &mut self.front } else { &mut self.back };
        if slot.as_ref().is_none_or(|bundle| bundle.tile.index != wanted) {
            *slot = None;
            match self.snapshot.bundle(wanted) {
                Ok(bundle) => *slot = Some(bundle),
                Err(error) => {
                    // One report per bundle, not one per entry.
                    if from_front {
                        let next = (wanted + 1).saturating_mul(u64::from(TILE_WIDTH));
                        self.range.start = next.min(self.range.end);
                    } else {
                        self.range.end = (wanted * u64::from(TILE_WIDTH)).max(self.range.start);
                    }
                    return Err(error);
                }
            }
        }
        let bundle = slot.as_ref();
        match bundle.and_then(|bundle| bundle.entry(index)) {
            Some(entry) => Ok((index, entry.to_vec())),
            None => Err(bundle.map_or(
                Error::OutOfRange { position: index, size: self.snapshot.size() },
                Bundle::unreadable,
            )),
        }
    }
}

impl Iterator for Entries {
    type Item = Result<(u64, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.range.next()?;
        Some(self.take(index, true))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.range.size_hint().1)
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        let index = self.range.next_back()?;
        Some(self.take(index, false))
    }
}

/// Hashes of complete subtrees from the tiles of one tree, each tile read once.
pub(crate) struct Tiles<'a> {
    dir: &'a Path,
    size: u64,
    read: HashMap<(u8, u64), Vec<Hash>>,
}

/// Tiles kept by [`Tiles`]; more than any one proof needs.
const MAX_TILES_KEPT: usize = 64;

impl<'a> Tiles<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self::of(&snapshot.shared.dir, snapshot.size())
    }

    pub(crate) fn of(dir: &'a Path, size: u64) -> Self {
        Self { dir, size, read: HashMap::new() }
    }

    /// The root over leaves `index·2^level .. (index+1)·2^level`, all of which the tree must have.
    pub(crate) fn subtree(&mut self, level: u8, index: u64) -> Result<Hash, Error> {
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << height;
        let tile_index = first / u64::from(TILE_WIDTH);
        let start = usize::try_from(first % u64::from(TILE_WIDTH)).unwrap_or_default();
        let out_of_range = Error::OutOfRange { position: first, size: self.size };
        let hashes = self.tile(tile_level, tile_index)?;
        hashes.get(start..start + (1 << height)).map(tree::root_of).ok_or(out_of_range)
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], Error> {
        if self.read.len() >= MAX_TILES_KEPT && !self.read.contains_key(&(level, index)) {
            self.read.clear();
        }
        match self.read.entry((level, index)) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                let tile = tile::tile_at(TileKind::Level(level), index, self.size)
                    .ok_or(Error::OutOfRange { position: index, size: self.size })?;
                let (file, bytes) = at_rest::read_prefix(self.dir, &tile)?;
                let hashes = tile::decode_hashes(&bytes, tile.width).ok_or_else(|| {
                    let fault = Fault::new(file, "it has another length than its width");
                    Error::Corrupt(fault.at(at_rest::span(&tile)))
                })?;
                Ok(place.insert(hashes))
            }
        }
    }
}
