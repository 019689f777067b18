//! The pass over all entries: bundles → level 0 → level 1 in parallel, the few tiles above them one after another.

use std::sync::{Mutex, PoisonError};

use super::{Run, settle::EdgeTile};
use crate::{
    Fault, Hash, TILE_WIDTH, TileKind, at_rest, bundle,
    hash::leaf_hash,
    tile::{self, MAX_TILE_LEVEL},
};

const WIDTH: u64 = TILE_WIDTH as u64;
/// Entries below one tile of level 1: what one thread takes up at a time.
const UNIT: u64 = WIDTH * WIDTH;

impl Run<'_> {
    pub(super) fn verify_tree(&self, root: Hash) {
        let units = self.size.div_ceil(UNIT);
        let level_2 = Mutex::new(vec![None; usize::try_from(self.size / UNIT).unwrap_or_default()]);
        let edge = Mutex::new(Vec::new());
        self.in_parallel(units, |unit| {
            let (level_1, edge_0) = self.verify_unit(unit);
            if unit < self.size / UNIT {
                let hash = self.settle_full(1, unit, &level_1, None);
                let mut level_2 = level_2.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(place) = usize::try_from(unit).ok().and_then(|unit| level_2.get_mut(unit)) {
                    *place = hash;
                }
            } else {
                *edge.lock().unwrap_or_else(PoisonError::into_inner) =
                    vec![edge_0, self.edge_tile(1, level_1)];
            }
        });
        if self.is_enough() {
            return;
        }
        let mut edge = edge.into_inner().unwrap_or_else(PoisonError::into_inner);
        edge.resize_with(2, EdgeTile::default);
        let mut hashes = level_2.into_inner().unwrap_or_else(PoisonError::into_inner);
        for level in 2..=MAX_TILE_LEVEL {
            let full = hashes.chunks_exact(usize::from(TILE_WIDTH));
            edge.push(self.edge_tile(level, full.remainder().to_vec()));
            hashes = (0..)
                .zip(full)
                .map(|(index, computed)| self.settle_full(level, index, computed, None))
                .collect();
        }
        self.settle_edge(&edge, root);
    }

    /// The hashes of level 1 that 256 bundles lead to, and level 0's part of the right edge if it lies here.
    fn verify_unit(&self, unit: u64) -> (Vec<Option<Hash>>, EdgeTile) {
        let mut level_1 = Vec::with_capacity(usize::from(TILE_WIDTH));
        let mut edge = EdgeTile::default();
        for index in unit * WIDTH..(unit + 1) * WIDTH {
            let Some(tile) = tile::tile_at(TileKind::Entries, index, self.size) else { break };
            if self.is_enough() {
                break;
            }
            let mut computed = vec![None; usize::from(tile.width)];
            let mut file = None;
            if let Some((found, bytes)) = self.read(&tile) {
                if let Some(entries) = bundle::split(&bytes, tile.width) {
                    computed = entries.into_iter().map(|range| bytes.get(range).map(leaf_hash)).collect();
                } else {
                    let fault =
                        self.torn_bundle(&bytes, index, Fault::new(&found, "")).at(at_rest::span(&tile));
                    self.fault(fault);
                }
                file = Some(found);
            }
            if tile.is_full() {
                level_1.push(self.settle_full(0, index, &computed, file.as_ref()));
            } else {
                edge = EdgeTile { bundle: file, ..self.edge_tile(0, computed) };
            }
            self.advance(u64::from(tile.width));
        }
        (level_1, edge)
    }

    fn edge_tile(&self, level: u8, computed: Vec<Option<Hash>>) -> EdgeTile {
        let exists = tile::frontier(TileKind::Level(level), self.size);
        let stored = exists.and_then(|tile| self.read_hashes(level, tile.index));
        EdgeTile { computed, stored, bundle: None }
    }

    /// Names the first entry that went wrong in a bundle whose lengths no longer add up.
    fn torn_bundle(&self, bytes: &[u8], index: u64, mut fault: Fault) -> Fault {
        let stored = tile::tile_at(TileKind::Level(0), index, self.size)
            .and_then(|tile| Some((tile, at_rest::read_prefix(self.dir, &tile).ok()?.1)))
            .and_then(|(tile, bytes)| tile::decode_hashes(&bytes, tile.width))
            .unwrap_or_default();
        let sound =
            bundle::entries(bytes).zip(&stored).take_while(|(entry, hash)| leaf_hash(entry) == **hash);
        let first = index * WIDTH + sound.count() as u64;
        fault.problem = format!("its entries cannot be read; the first that is wrong is entry {first}");
        fault
    }
}
