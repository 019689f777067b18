//! When a stored tile and what was recomputed from below differ: which of the two was changed?

use std::path::PathBuf;

use super::Run;
use crate::{Fault, Hash, TILE_WIDTH, Tile, TileKind, at_rest, edge, tile, tree};

/// A tile of the right edge, recomputed and stored; `None` where it could not be read.
#[derive(Debug, Default)]
pub(super) struct EdgeTile {
    pub(super) computed: Vec<Option<Hash>>,
    pub(super) stored: Option<Vec<Hash>>,
    /// The bundle's file, at level 0.
    pub(super) bundle: Option<PathBuf>,
}

impl EdgeTile {
    /// Recomputed hashes, with stored ones where nothing could be recomputed.
    fn hashes_from_below(&self) -> Option<Vec<Hash>> {
        complete(&self.computed, self.stored.as_deref())
    }

    fn differs(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| differences(&self.computed, stored).next().is_some())
    }
}

/// Places where a recomputed hash differs from the stored one.
fn differences<'a>(computed: &'a [Option<Hash>], stored: &'a [Hash]) -> impl Iterator<Item = u64> + 'a {
    let differ = |(computed, stored): (&Option<Hash>, &Hash)| computed.is_some_and(|hash| hash != *stored);
    (0..).zip(computed.iter().zip(stored).map(differ)).filter_map(|(place, differs)| differs.then_some(place))
}

fn complete(computed: &[Option<Hash>], stored: Option<&[Hash]>) -> Option<Vec<Hash>> {
    let stored_at = |place: usize| stored.and_then(|stored| stored.get(place)).copied();
    computed.iter().enumerate().map(|(place, hash)| hash.or_else(|| stored_at(place))).collect()
}

/// Who is at fault at a place of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culprit {
    /// The tile itself.
    Tile,
    /// What lies below it.
    Below,
    /// Nothing above says.
    Unknown,
}

impl Run<'_> {
    /// Compares a full tile with the hashes recomputed from below, reports what differs, and returns the tile's own
    /// hash for the level above: `None` if it cannot be known.
    pub(super) fn settle_full(
        &self,
        level: u8,
        index: u64,
        computed: &[Option<Hash>],
        bundle: Option<&PathBuf>,
    ) -> Option<Hash> {
        let above = || self.stored_hash(level + 1, index);
        let stored = self.read_hashes(level, index);
        let from_below = complete(computed, stored.as_deref()).map(|hashes| tree::root_of(&hashes));
        let Some(stored) = stored else { return from_below.or_else(above) };
        if differences(computed, &stored).next().is_none() {
            return from_below;
        }
        let of_stored = tree::root_of(&stored);
        let above = above();
        let (culprit, hash) = if above.is_some() && above == from_below {
            (Culprit::Tile, from_below)
        } else if above == Some(of_stored) {
            (Culprit::Below, above)
        } else {
            (Culprit::Unknown, from_below)
        };
        for place in differences(computed, &stored) {
            self.blame(culprit, level, index, place, bundle);
        }
        hash
    }

    /// Compares the right edge, level 0 first, with what was recomputed and with the signed root.
    pub(super) fn settle_edge(&self, edge: &[EdgeTile], root: Hash) {
        let differing: Vec<usize> =
            (0..edge.len()).filter(|level| edge.get(*level).is_some_and(EdgeTile::differs)).collect();
        // At most eight levels: each may be right as stored or as recomputed; the signed root tells.
        let choices = (0u32..1 << differing.len()).find(|choice| {
            let levels: Option<Vec<Vec<Hash>>> = (0..)
                .zip(edge)
                .map(|(level, tile)| {
                    let position = differing.iter().position(|differing| *differing == level);
                    let take_stored = position.is_some_and(|position| choice >> position & 1 == 1);
                    if take_stored { tile.stored.clone() } else { tile.hashes_from_below() }
                })
                .collect();
            levels
                .and_then(|levels| edge::range(self.size, &levels))
                .is_some_and(|range| range.root() == root)
        });
        for (position, level) in differing.iter().enumerate() {
            let Some(tile) = edge.get(*level) else { continue };
            let culprit = match choices {
                None => Culprit::Unknown,
                Some(choice) if choice >> position & 1 == 1 => Culprit::Below,
                Some(_) => Culprit::Tile,
            };
            let Ok(level) = u8::try_from(*level) else { continue };
            let index = tile::count_of(TileKind::Level(level), self.size) / u64::from(TILE_WIDTH);
            for place in differences(&tile.computed, tile.stored.as_deref().unwrap_or_default()) {
                self.blame(culprit, level, index, place, tile.bundle.as_ref());
            }
        }
        if choices.is_none() && self.is_sound() {
            let problem = "entries and tiles agree with each other, but their root is not the signed one";
            self.fault(Fault::new(crate::CHECKPOINT_FILE, problem).at(0..self.size));
        }
    }

    fn blame(&self, culprit: Culprit, level: u8, index: u64, place: u64, bundle: Option<&PathBuf>) {
        if self.is_enough() {
            return;
        }
        let position = index * u64::from(TILE_WIDTH) + place;
        let above = Tile::full(TileKind::Level(level), index);
        let file = tile::tile_at(above.kind, index, self.size).unwrap_or(above).file();
        // One hash of a tile stands for the entries of one tile below, or for one entry.
        let (below, entries) = match level.checked_sub(1) {
            None => (bundle.cloned(), position..position + 1),
            Some(below) => {
                let tile = Tile::full(TileKind::Level(below), position);
                (Some(tile.file()), at_rest::span(&tile))
            }
        };
        let below = below.unwrap_or_default();
        let fault = match culprit {
            Culprit::Tile => Fault::new(file, format!("a hash in it is not that of {}", below.display())),
            Culprit::Below if level == 0 => Fault::new(below, "the entry is not the one that was signed"),
            Culprit::Below => Fault::new(
                below,
                "it and what lies below it were changed together: it is not what was signed",
            ),
            Culprit::Unknown => {
                let problem =
                    format!("it contradicts {}, and nothing above tells which is right", below.display());
                Fault::new(file, problem)
            }
        };
        self.fault(fault.at(entries));
    }
}
