//! How tiles and bundles lie on disk, and how they are found again.
//!
//! Everything is stored as it is served, with one exception: full entry bundles may be compressed. Then `<N>.zst` stands
//! in place of `<N>`: one zstd frame, and after it a zstd skippable frame with the SHA-256 of the first (zstd's own
//! checksum leaves bits of the frame header free to change). `zstd -d` reads such a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Error, Fault, HASH_BYTES, Tile, TileKind,
    bundle::{self, MAX_BUNDLE_BYTES},
    hash::sha256,
    tile,
};

/// Magic number of a skippable frame, and the length of what it holds, both little-endian.
const TRAILER_START: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];
/// The first of zstd's fast levels. On leaves, which are full of identifiers and hashes, it leaves as little as level 1 does
/// and takes a quarter of the time (650 MB/s instead of 160).
const ZSTD_LEVEL: i32 = -1;

/// The file (relative) of a compressed full bundle.
pub(crate) fn compressed_file(tile: &Tile) -> PathBuf {
    PathBuf::from(format!("{}.zst", tile.path()))
}

/// Compresses bundles. Keeps zstd's working memory, which costs as much to make as a bundle takes to compress.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(crate) fn new() -> io::Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self)
    }

    /// The file's bytes.
    pub(crate) fn compress(&mut self, bundle: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = self.0.compress(bundle)?;
        let hash = sha256(&bytes);
        bytes.extend_from_slice(&TRAILER_START);
        bytes.extend_from_slice(hash.as_bytes());
        Ok(bytes)
    }
}

/// `None` if any bit of the file was changed.
pub(crate) fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    let (rest, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    let frame = rest.strip_suffix(&TRAILER_START)?;
    if sha256(frame).as_bytes() != hash {
        return None;
    }
    zstd::bulk::decompress(frame, MAX_BUNDLE_BYTES).ok()
}

/// The stored bytes of exactly this tile with the file they came from, or `None` if there is no such file.
pub(crate) fn read(dir: &Path, tile: &Tile) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let file = tile.file();
    if let Some(bytes) = read_file(&dir.join(&file))? {
        return Ok(Some((file, bytes)));
    }
    if tile.kind != TileKind::Entries || !tile.is_full() {
        return Ok(None);
    }
    let file = compressed_file(tile);
    match read_file(&dir.join(&file))? {
        None => Ok(None),
        Some(bytes) => match decompress(&bytes) {
            Some(bytes) => Ok(Some((file, bytes))),
            None => {
                Err(Error::Corrupt(Fault::new(file, "the compressed bundle cannot be read").at(span(tile))))
            }
        },
    }
}

/// The bytes of a tile, from its own file or a wider one: partial tiles give way to fuller ones, perhaps between two
/// looks at the directory.
pub(crate) fn read_prefix(dir: &Path, tile: &Tile) -> Result<(PathBuf, Vec<u8>), Error> {
    let mut too_short = None;
    // A second round finds the full tile that replaced the partial ones during the first.
    for _ in 0..2 {
        if let Some(found) = read(dir, tile)? {
            return Ok(found);
        }
        let wider = [Tile::full(tile.kind, tile.index)].into_iter().chain(partials(dir, tile)?);
        for candidate in wider.filter(|candidate| candidate.width > tile.width) {
            let Some((file, mut bytes)) = read(dir, &candidate)? else { continue };
            match prefix_bytes(&bytes, tile) {
                Some(length) => {
                    bytes.truncate(length);
                    return Ok((file, bytes));
                }
                // Perhaps it is being written; another may do.
                None => too_short = Some(file),
            }
        }
    }
    let fault = match too_short {
        Some(file) => Fault::new(file, "it is shorter than its width"),
        None => Fault::new(tile.file(), "the file is missing"),
    };
    Err(Error::Corrupt(fault.at(span(tile))))
}

/// The partial versions of a tile that exist, in no order.
pub(crate) fn partials(dir: &Path, tile: &Tile) -> Result<Vec<Tile>, Error> {
    let path = dir.join(tile.partial_dir());
    let names = match fs::read_dir(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::storage("list", path)(error)),
    };
    let mut found = Vec::new();
    for name in names {
        let name = name.map_err(Error::storage("list", &path))?.file_name();
        let width = name.to_str().and_then(tile::parse_decimal).and_then(|width| u16::try_from(width).ok());
        found.extend(width.map(|width| Tile { width, ..*tile }));
    }
    Ok(found)
}

/// Bytes that the first `tile.width` hashes or entries take.
fn prefix_bytes(bytes: &[u8], tile: &Tile) -> Option<usize> {
    match tile.kind {
        TileKind::Level(_) => {
            Some(usize::from(tile.width) * HASH_BYTES).filter(|length| *length <= bytes.len())
        }
        TileKind::Entries => {
            let mut entries = bundle::entries(bytes);
            for _ in 0..tile.width {
                entries.next()?;
            }
            Some(bytes.len() - entries.rest().len())
        }
    }
}

/// The entries below a tile.
pub(crate) fn span(tile: &Tile) -> std::ops::Range<u64> {
    let level = match tile.kind {
        TileKind::Entries => 0,
        TileKind::Level(level) => level,
    };
    let start = tile.index.saturating_mul(u64::from(tile::TILE_WIDTH));
    let below =
        |position: u64| position.saturating_mul(1u64.checked_shl(u32::from(level) * 8).unwrap_or(u64::MAX));
    below(start)..below(start.saturating_add(u64::from(tile.width)))
}

/// A file's bytes, or `None` if there is no such file.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::storage("read", path)(error)),
    }
}
