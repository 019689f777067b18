//! From what is on disk to a ledger that can be appended to. Opening a healthy ledger runs exactly this.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    CHECKPOINT_FILE, CHECKPOINT_TEMPORARY, MAX_UNSYNCED_FILES, State, publish, push_to, remove_superseded,
};
use crate::{
    Checkpoint, Error, Fault, Hash, Signer, Storage, TILE_WIDTH, Tile, TileKind, TreeHead, VerifierKey,
    at_rest, bundle, edge,
    hash::leaf_hash,
    history::{self, HISTORY_FILE, History, Record},
    tile::{self, MAX_TILE_LEVEL},
    tree,
};

/// Unpublished files are written in order but may have become durable in any: recovery looks this many tiles past the
/// last one it finds. Each bundle comes with a tile of level 0, so of both at most half of what may be unsynced is
/// missing in a row; of the levels above, one tile for 256 of those below.
fn gap(kind: TileKind) -> u64 {
    match kind {
        TileKind::Entries | TileKind::Level(0) => MAX_UNSYNCED_FILES as u64 / 2 + 2,
        TileKind::Level(_) => MAX_UNSYNCED_FILES as u64 / u64::from(TILE_WIDTH) + 2,
    }
}

pub(super) fn recover(dir: &Path, signer: &dyn Signer, storage: &mut dyn Storage) -> Result<State, Error> {
    let key = signer.verifier();
    let found = read_heads(dir, key)?;
    let heads = match found {
        Some(heads) => heads,
        None => create(dir, signer, storage)?,
    };
    let Heads { latest, previous_size, history_end, published } = heads;
    // The tree comes first: a checkpoint is only published over what is really there.
    let mut state = load_tree(dir, latest, history_end)?;
    cut_history(dir, storage, history_end)?;
    if published {
        // Crash case: the rename was seen and its sync failed.
        storage.sync_dir(dir).map_err(Error::storage("sync", dir))?;
    } else {
        // The record may not be durable either: it is written again, in place, as the same bytes.
        let start = history_end - history::RECORD_BYTES as u64;
        publish(dir, storage, key, &state.published, start)?;
    }
    let temporary = dir.join(CHECKPOINT_TEMPORARY);
    if temporary.exists() {
        storage.remove_file(&temporary).map_err(Error::storage("remove", &temporary))?;
    }
    let size = state.published.size();
    remove_unpublished(dir, storage, size)?;
    remove_superseded(dir, storage, previous_size, size)?;
    state.unsynced_dirs = BTreeSet::new();
    Ok(state)
}

/// What the checkpoint and the history say.
struct Heads {
    /// The last checkpoint that was signed.
    latest: Checkpoint,
    /// The size of the one before it.
    previous_size: u64,
    /// Where the record of `latest` ends in the history; torn bytes may follow.
    history_end: u64,
    /// Whether `latest` is what the checkpoint file says.
    published: bool,
}

/// `None` if this is no ledger yet.
fn read_heads(dir: &Path, key: &VerifierKey) -> Result<Option<Heads>, Error> {
    let path = dir.join(CHECKPOINT_FILE);
    let published = match at_rest::read_file(&path)? {
        None => None,
        Some(bytes) => Some(
            Checkpoint::verify(&bytes, key.name(), key)
                .map_err(|source| Error::Checkpoint { path: path.clone(), source })?,
        ),
    };
    let Some(published) = published else {
        return first_heads(dir, key);
    };
    let history = History::open(dir, key).map_err(|error| match error {
        Error::Missing { .. } => Error::Corrupt(Fault::new(HISTORY_FILE, "the file is missing")),
        other => other,
    })?;
    // Crash cases: at most one record is newer than the checkpoint, whole or torn.
    let newest = history.len();
    for position in (newest.saturating_sub(2)..newest).rev() {
        let is_published = Record::of(&published, key) == Some(history.record(position)?);
        if !is_published {
            continue;
        }
        if position + 1 < newest
            && let Ok(signed) = history.checkpoint(position + 1)
            && signed.size() > published.size()
        {
            return Ok(Some(Heads {
                latest: signed,
                previous_size: published.size(),
                history_end: history.offset(position + 2),
                published: false,
            }));
        }
        let previous_size =
            position.checked_sub(1).map(|before| history.record(before)).transpose()?.map_or(0, |r| r.size);
        return Ok(Some(Heads {
            latest: published,
            previous_size,
            history_end: history.offset(position + 1),
            published: true,
        }));
    }
    let problem = format!(
        "the checkpoint of size {} is not the last in it: one of both was replaced or put back from a copy",
        published.size()
    );
    Err(Error::Corrupt(Fault::new(HISTORY_FILE, problem)))
}

/// The heads of a directory without a checkpoint: a ledger whose creation was cut short, or none.
fn first_heads(dir: &Path, key: &VerifierKey) -> Result<Option<Heads>, Error> {
    // Every ledger begins with a published checkpoint of size 0, so tiles without a checkpoint mean that it was lost.
    if dir.join("tile").exists() {
        return Err(Error::Corrupt(Fault::new(
            CHECKPOINT_FILE,
            "the file is missing, although there are tiles",
        )));
    }
    let bytes = at_rest::read_file(&dir.join(HISTORY_FILE))?.unwrap_or_default();
    let header = history::header(key);
    if bytes.len() <= header.len() + history::RECORD_BYTES {
        // Crash case: the file is as long as was written, and zero from where it was torn.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let is_begun = bytes.starts_with(&header);
        if !is_begun && !header.starts_with(bytes.get(..written).unwrap_or_default()) {
            return Err(Error::Corrupt(Fault::new(HISTORY_FILE, "it is not the history of this key's log")));
        }
        if !is_begun || History::open(dir, key)?.checkpoint(0).is_err() {
            return Ok(None);
        }
    }
    let history = History::open(dir, key)?;
    let latest = history.checkpoint(0)?;
    if history.len() > 1 || latest.size() > 0 {
        return Err(Error::Corrupt(Fault::new(
            CHECKPOINT_FILE,
            "the file is missing, although there is a history",
        )));
    }
    Ok(Some(Heads { latest, previous_size: 0, history_end: history.offset(1), published: false }))
}

/// Begins a ledger with the checkpoint of the empty tree.
fn create(dir: &Path, signer: &dyn Signer, storage: &mut dyn Storage) -> Result<Heads, Error> {
    let key = signer.verifier();
    let head = TreeHead { origin: key.name().to_owned(), size: 0, root: Hash::empty() };
    let latest = Checkpoint::sign(head, signer).map_err(Error::Sign)?;
    let header = history::header(key);
    let history = dir.join(HISTORY_FILE);
    storage.write(&history, &header).map_err(Error::storage("write", &history))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        storage.sync_dir(parent).map_err(Error::storage("sync", parent))?;
    }
    let history_end = header.len() as u64 + history::RECORD_BYTES as u64;
    Ok(Heads { latest, previous_size: 0, history_end, published: false })
}

/// Loads the right edge of the tree that `checkpoint` covers and holds it against the signed root.
fn load_tree(dir: &Path, checkpoint: Checkpoint, history_end: u64) -> Result<State, Error> {
    let size = checkpoint.size();
    let mut levels: Vec<Vec<Hash>> = Vec::new();
    for level in 0..=MAX_TILE_LEVEL {
        let Some(tile) = tile::frontier(TileKind::Level(level), size) else { continue };
        for hash in read_hashes(dir, &tile)? {
            push_to(&mut levels, usize::from(level), hash);
        }
    }
    let range = edge::range(size, &levels).filter(|range| range.root() == *checkpoint.root());
    let Some(range) = range else {
        return Err(Error::Corrupt(locate(dir, size, &levels)?));
    };
    let bundle = match tile::frontier(TileKind::Entries, size) {
        None => Vec::new(),
        Some(tile) => {
            let (file, bytes) = at_rest::read_prefix(dir, &tile)?;
            check_bundle(&file, &bytes, &tile, levels.first().map_or(&[], Vec::as_slice))?;
            bytes
        }
    };
    Ok(State {
        range,
        bundle,
        levels,
        unsynced_files: Vec::new(),
        unsynced_dirs: BTreeSet::new(),
        known_dirs: BTreeSet::new(),
        published: checkpoint,
        history_end,
    })
}

fn read_hashes(dir: &Path, tile: &Tile) -> Result<Vec<Hash>, Error> {
    let (file, bytes) = at_rest::read_prefix(dir, tile)?;
    tile::decode_hashes(&bytes, tile.width).ok_or_else(|| {
        Error::Corrupt(Fault::new(file, "it has another length than its width").at(at_rest::span(tile)))
    })
}

/// Compares the entries of a partial bundle with the (verified) tile of their hashes.
fn check_bundle(file: &Path, bytes: &[u8], tile: &Tile, hashes: &[Hash]) -> Result<(), Error> {
    let first = tile.index * u64::from(TILE_WIDTH);
    let fault = |problem: &str| Fault::new(file, problem);
    let Some(entries) = bundle::split(bytes, tile.width) else {
        return Err(Error::Corrupt(fault("its entries cannot be read").at(at_rest::span(tile))));
    };
    for ((index, range), hash) in (first..).zip(entries).zip(hashes) {
        if bytes.get(range).map(leaf_hash) != Some(*hash) {
            return Err(Error::Corrupt(
                fault("the entry is not the one that was signed").at(index..index + 1),
            ));
        }
    }
    Ok(())
}

/// Says which of the tiles at the right edge differs from what lies below it, since they do not lead to the root.
fn locate(dir: &Path, size: u64, levels: &[Vec<Hash>]) -> Result<Fault, Error> {
    for (level, hashes) in (0u8..).zip(levels) {
        let Some(tile) = tile::frontier(TileKind::Level(level), size) else { continue };
        let first = tile.index * u64::from(TILE_WIDTH);
        let entries = tile::frontier(TileKind::Entries, size).filter(|_| level == 0);
        if let Some(bundle_tile) = entries {
            let (_, bytes) = at_rest::read_prefix(dir, &bundle_tile)?;
            check_bundle(&tile.file(), &bytes, &bundle_tile, hashes)?;
        }
        for (index, hash) in (first..).zip(hashes).take_while(|_| level > 0) {
            let child = Tile::full(TileKind::Level(level - 1), index);
            if tree::root_of(&read_hashes(dir, &child)?) != *hash {
                let problem = format!("it contradicts {}, and the signed root", child.path());
                return Ok(Fault::new(tile.file(), problem).at(at_rest::span(&child)));
            }
        }
    }
    Ok(Fault::new(CHECKPOINT_FILE, "the tiles are consistent but lead to another root than the signed one"))
}

/// Cuts off what a torn write left after the last whole record.
fn cut_history(dir: &Path, storage: &mut dyn Storage, end: u64) -> Result<(), Error> {
    let path = dir.join(HISTORY_FILE);
    let length = fs::metadata(&path).map_err(Error::storage("read", &path))?.len();
    if length > end {
        storage.truncate(&path, end).map_err(Error::storage("cut", &path))?;
        storage.sync_files(std::slice::from_ref(&path)).map_err(Error::storage("sync", &path))?;
    }
    Ok(())
}

/// Removes tiles that no checkpoint covers: they were being written when the writer stopped.
fn remove_unpublished(dir: &Path, storage: &mut dyn Storage, size: u64) -> Result<(), Error> {
    for kind in tile::kinds() {
        let mut index = tile::count_of(kind, size) / u64::from(TILE_WIDTH);
        let mut end = index + gap(kind);
        while index < end {
            if remove_beyond(dir, storage, kind, index, size)? {
                end = index + gap(kind);
            }
            index += 1;
        }
    }
    Ok(())
}

/// Removes what exists of tile `index` beyond the tree of `size` entries; whether there was anything.
fn remove_beyond(
    dir: &Path,
    storage: &mut dyn Storage,
    kind: TileKind,
    index: u64,
    size: u64,
) -> Result<bool, Error> {
    let full = Tile::full(kind, index);
    let width = tile::tile_at(kind, index, size).map_or(0, |tile| tile.width);
    let wider = at_rest::partials(dir, &full)?.into_iter().filter(|tile| tile.width > width);
    let mut files: Vec<PathBuf> = wider.map(|tile| tile.file()).collect();
    files.push(full.file());
    if kind == TileKind::Entries {
        files.push(at_rest::compressed_file(&full));
    }
    let mut any = false;
    for file in files {
        let path = dir.join(file);
        if fs::symlink_metadata(&path).is_ok() {
            storage.remove_file(&path).map_err(Error::storage("remove", &path))?;
            any = true;
        }
    }
    let partial_dir = dir.join(full.partial_dir());
    if width == 0 && partial_dir.exists() {
        storage.remove_dir(&partial_dir).map_err(Error::storage("remove", &partial_dir))?;
        any = true;
    }
    Ok(any)
}
