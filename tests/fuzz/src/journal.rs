//! Frames of a journal on a disk that may hold anything.

use std::fs;
use std::path::Path;

use journal::{Position, Reader};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a folder for temporary files");
}

/// The file of a journal's first segment: frames are numbered without gaps, are no larger than the file, and are the same
/// when reading begins further on.
pub fn journal(data: &[u8]) {
    FOLDER.with(|folder| {
        let segment = folder.path().join("00000000000000000001.journal");
        fs::write(segment, data).expect("room for a small file");
        let all = read(folder.path(), 1);
        assert!(all.iter().map(|(_, payload)| payload.len() + 64).sum::<usize>() <= data.len());
        assert!(all.iter().zip(1..).all(|((position, _), expected)| *position == Position(expected)));
        assert_eq!(read(folder.path(), 2).as_slice(), all.get(1..).unwrap_or_default());
    });
}

fn read(folder: &Path, from: u64) -> Vec<(Position, Vec<u8>)> {
    let mut reader = Reader::open(folder, Position(from));
    let mut frames = Vec::new();
    loop {
        match reader.next_batch() {
            Ok(batch) if batch.len() == 0 => return frames,
            Ok(batch) => frames.extend(batch.map(|frame| (frame.position, frame.payload.to_vec()))),
            Err(_) => return frames,
        }
    }
}
