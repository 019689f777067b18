//! The files that exist: nothing among them may be foreign, and older partial tiles must say the same as fuller ones.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Run;
use crate::{Error, Fault, HASH_BYTES, Tile, TileKind, at_rest, bundle, tile};

/// Looks at every file below `tile/`. Returns how many no checkpoint covers.
pub(super) fn verify(run: &Run<'_>) -> u64 {
    let mut unpublished = 0;
    let mut dirs = vec![PathBuf::from("tile")];
    while let Some(dir) = dirs.pop() {
        if run.is_enough() {
            break;
        }
        match list(&run.dir.join(&dir)) {
            Ok(names) => {
                for (name, is_dir) in names {
                    let path = dir.join(name);
                    if is_dir {
                        dirs.push(path);
                    } else if verify_file(run, &path) == Covered::No {
                        unpublished += 1;
                    }
                }
            }
            // A writer at work removes directories of partial tiles.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => run.report(Error::storage("list", run.dir.join(dir))(error)),
        }
    }
    unpublished
}

fn list(dir: &Path) -> std::io::Result<Vec<(std::ffi::OsString, bool)>> {
    fs::read_dir(dir)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name(), entry.file_type()?.is_dir()))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Covered {
    Yes,
    No,
}

fn verify_file(run: &Run<'_>, path: &Path) -> Covered {
    let name = path.to_str().unwrap_or_default();
    let plain = name.strip_suffix(".zst").unwrap_or(name);
    let compressed = plain.len() != name.len();
    let tile = Tile::from_path(plain)
        .filter(|tile| !compressed || (tile.kind == TileKind::Entries && tile.is_full()));
    let Some(tile) = tile else {
        run.fault(Fault::new(path, "it is not a file of a ledger"));
        return Covered::Yes;
    };
    let Some(current) = tile::tile_at(tile.kind, tile.index, run.size) else { return Covered::No };
    if tile.width > current.width {
        return Covered::No;
    }
    // The current tile itself was verified with the tree, from the plain file if both forms exist.
    let is_current = tile.width == current.width && (!compressed || !run.dir.join(tile.file()).exists());
    if !is_current && let Err(error) = compare(run, path, &tile, &current, compressed) {
        run.report(error);
    }
    Covered::Yes
}

/// Compares a redundant file with the beginning of the current one.
fn compare(run: &Run<'_>, path: &Path, tile: &Tile, current: &Tile, compressed: bool) -> Result<(), Error> {
    let Some(bytes) = at_rest::read_file(&run.dir.join(path))? else { return Ok(()) };
    let unreadable = || Error::Corrupt(Fault::new(path, "it cannot be read").at(at_rest::span(tile)));
    let bytes = if compressed { at_rest::decompress(&bytes).ok_or_else(unreadable)? } else { bytes };
    let Ok((file, whole)) = at_rest::read_prefix(run.dir, current) else { return Ok(()) };
    // Its own fault is enough.
    if run.has_fault_in(&file) {
        return Ok(());
    }
    let problem = |place: u64| {
        let span = at_rest::span(tile);
        let width = (span.end - span.start) / u64::from(tile.width);
        let start = span.start + place * width;
        let fault = Fault::new(path, format!("it says something else than {}", file.display()));
        Error::Corrupt(fault.at(start..start + width))
    };
    match tile.kind {
        TileKind::Level(_) => {
            if bytes.len() != usize::from(tile.width) * HASH_BYTES {
                return Err(unreadable());
            }
            let differs = bytes.chunks(HASH_BYTES).zip(whole.chunks(HASH_BYTES)).position(|(a, b)| a != b);
            differs.map_or(Ok(()), |place| Err(problem(place as u64)))
        }
        TileKind::Entries => {
            let entries = bundle::split(&bytes, tile.width).ok_or_else(unreadable)?;
            let mine = entries.into_iter().map(|range| bytes.get(range));
            let differs = mine.zip(bundle::entries(&whole).map(Some)).position(|(a, b)| a != b);
            differs.map_or(Ok(()), |place| Err(problem(place as u64)))
        }
    }
}
