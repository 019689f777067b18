//! Names and shapes of tlog-tiles resources: which file holds which hashes and entries.

use std::path::PathBuf;

use crate::{HASH_BYTES, Hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Tree levels that one tile level spans.
pub const TILE_HEIGHT: u8 = 8;
/// The longest entry, in bytes: its length is a `u16` in the bundle.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;
/// The highest tile level: a tree of 2^64 - 1 entries has tile levels 0 to 7.
pub const MAX_TILE_LEVEL: u8 = 7;

/// Whether a resource holds Merkle tree hashes or the entries themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Entry bundle: `tile/entries/…`.
    Entries,
    /// Hash tile of the given level: `tile/<L>/…`.
    Level(u8),
}

/// One tile or entry bundle: kind, index within the kind, width. Its [`path`](Tile::path) is both the file below the
/// ledger directory and the URL path below the log's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Hashes or entries.
    pub kind: TileKind,
    /// `<N>`: position within the kind.
    pub index: u64,
    /// Hashes or entries it holds: 1 to 256; 256 is a full tile.
    pub width: u16,
}

impl Tile {
    /// A full tile.
    #[must_use]
    pub fn full(kind: TileKind, index: u64) -> Self {
        Self { kind, index, width: TILE_WIDTH }
    }

    /// Whether all 256 places are taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, with `/` as separator.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = match self.kind {
            TileKind::Entries => String::from("tile/entries/"),
            TileKind::Level(level) => format!("tile/{level}/"),
        };
        path.push_str(&encode_index(self.index));
        if !self.is_full() {
            path.push_str(".p/");
            path.push_str(&self.width.to_string());
        }
        path
    }

    /// Reads what [`Tile::path`] writes and nothing else; `None` for any other text.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Level(parse_decimal(level)?.try_into().ok().filter(|level| *level <= 63)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = parse_decimal(width)?.try_into().ok()?;
                (index, Some(width).filter(|width| (1..TILE_WIDTH).contains(width))?)
            }
            None => (rest, TILE_WIDTH),
        };
        Some(Self { kind, index: decode_index(index)?, width })
    }

    /// [`Tile::path`] as a relative file path.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        PathBuf::from(self.path())
    }

    /// The directory (relative) that holds the partial versions of this tile.
    #[must_use]
    pub fn partial_dir(&self) -> PathBuf {
        let mut dir = Self::full(self.kind, self.index).path();
        dir.push_str(".p");
        PathBuf::from(dir)
    }
}

/// The kinds of resources that a tree of any size has, entries first, then the levels upwards.
pub fn kinds() -> impl Iterator<Item = TileKind> {
    std::iter::once(TileKind::Entries).chain((0..=MAX_TILE_LEVEL).map(TileKind::Level))
}

/// How many hashes (or entries) of a kind a tree of `size` entries has in all.
#[must_use]
pub fn count_of(kind: TileKind, size: u64) -> u64 {
    match kind {
        TileKind::Entries => size,
        TileKind::Level(level) => {
            size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or_default()
        }
    }
}

/// The rightmost tile of a kind in a tree of `size` entries if it is partial; `None` if all are full.
#[must_use]
pub fn frontier(kind: TileKind, size: u64) -> Option<Tile> {
    let count = count_of(kind, size);
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 256 fits")]
    let width = (count % u64::from(TILE_WIDTH)) as u16;
    (width > 0).then_some(Tile { kind, index: count / u64::from(TILE_WIDTH), width })
}

/// The version of tile `index` that a tree of `size` entries has; `None` if it has none.
#[must_use]
pub fn tile_at(kind: TileKind, index: u64, size: u64) -> Option<Tile> {
    let start = index.checked_mul(u64::from(TILE_WIDTH))?;
    let width = count_of(kind, size).checked_sub(start)?.min(u64::from(TILE_WIDTH));
    Some(Tile { kind, index, width: u16::try_from(width).ok().filter(|width| *width > 0)? })
}

/// Every full and partial resource of the tree of `size` entries, kind by kind.
pub fn tiles_of(size: u64) -> impl Iterator<Item = Tile> {
    kinds().flat_map(move |kind| {
        let full = count_of(kind, size) / u64::from(TILE_WIDTH);
        (0..full).map(move |index| Tile::full(kind, index)).chain(frontier(kind, size))
    })
}

/// Concatenates the hashes of a tile.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * HASH_BYTES);
    for hash in hashes {
        bytes.extend_from_slice(hash.as_bytes());
    }
    bytes
}

/// Reads a tile of exactly `width` hashes; `None` if the length is another.
#[must_use]
pub fn decode_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    if bytes.len() != usize::from(width) * HASH_BYTES {
        return None;
    }
    bytes.chunks_exact(HASH_BYTES).map(Hash::from_slice).collect()
}

/// `1234067` → `x001/x234/067`.
fn encode_index(mut index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    while index >= 1000 {
        index /= 1000;
        path = format!("x{:03}/{path}", index % 1000);
    }
    path
}

/// `x001/x234/067` → `1234067`; `None` unless it is how [`encode_index`] writes it.
fn decode_index(path: &str) -> Option<u64> {
    let mut index = 0u64;
    for element in path.split('/') {
        let digits = element.strip_prefix('x').unwrap_or(element);
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    (encode_index(index) == path).then_some(index)
}

/// ASCII decimal without sign or leading zeroes.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
