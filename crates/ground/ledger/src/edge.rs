//! The right edge of the tree: the partial tile of each level, which together determine the root.

use crate::{
    CompactRange, Hash, TILE_WIDTH,
    tile::TILE_HEIGHT,
    tree::{range_at, root_of},
};

/// The compact range of a tree of `size` entries from the hashes of its partial tiles, level 0 first (empty where a
/// level has none). `None` if there are too few hashes.
pub(crate) fn range(size: u64, levels: &[Vec<Hash>]) -> Option<CompactRange> {
    // Every complete subtree in the decomposition of `size` lies within the partial tile of its level.
    let subtree = |level: u8, index: u64| {
        let hashes = levels.get(usize::from(level / TILE_HEIGHT)).ok_or(())?;
        let height = level % TILE_HEIGHT;
        let start = usize::try_from((index << height) % u64::from(TILE_WIDTH)).map_err(|_| ())?;
        hashes.get(start..start + (1 << height)).map(root_of).ok_or(())
    };
    range_at(size, subtree).ok()
}
