use proptest::prelude::*;

use super::*;

#[test]
fn paths_are_those_of_the_specification() {
    let path = |kind, index, width| Tile { kind, index, width }.path();
    assert_eq!(path(TileKind::Level(0), 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(path(TileKind::Entries, 1000, 256), "tile/entries/x001/000");
    assert_eq!(path(TileKind::Level(2), 0, 17), "tile/2/000.p/17");
    assert_eq!(path(TileKind::Entries, 999, 255), "tile/entries/999.p/255");
    let tile = Tile { kind: TileKind::Entries, index: 5, width: 3 };
    assert_eq!(tile.partial_dir(), PathBuf::from("tile/entries/005.p"));
}

#[test]
fn other_spellings_of_a_path_are_refused() {
    for path in [
        "tile/0/1",
        "tile/0/0001",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/+1",
        "tile/0/001.p/",
        "tile/0/001.p",
        "tile/entries/",
        "tile/data/001",
        "/tile/0/001",
        "tile/0/001/",
        "tile/0/..",
        "tile/0/x1a1/001",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Tile::from_path(path), None, "{path}");
    }
}

#[test]
fn a_tree_of_256_has_a_full_tile_and_one_hash_above() {
    let tiles: Vec<String> = tiles_of(256).map(|tile| tile.path()).collect();
    assert_eq!(tiles, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(tiles_of(0).count(), 0);
}

proptest! {
    #[test]
    fn every_path_reads_back(level in 0u8..=63, entries: bool, index: u64, width in 1u16..=256) {
        let kind = if entries { TileKind::Entries } else { TileKind::Level(level) };
        let tile = Tile { kind, index, width };
        prop_assert_eq!(Tile::from_path(&tile.path()), Some(tile));
    }

    #[test]
    fn any_text_is_read_without_panic(path in "tile/[0-9x/.pe]{0,30}") {
        if let Some(tile) = Tile::from_path(&path) {
            prop_assert_eq!(tile.path(), path);
        }
    }

    #[test]
    fn every_hash_of_a_tree_is_in_exactly_one_tile(size in 0u64..300_000) {
        for kind in kinds() {
            let held: u64 = tiles_of(size).filter(|tile| tile.kind == kind).map(|tile| u64::from(tile.width)).sum();
            prop_assert_eq!(held, count_of(kind, size));
        }
    }
}
