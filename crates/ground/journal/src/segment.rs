//! Segment files: their names, and how one is made.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    format::SegmentHeader,
    storage::{Storage, StorageFile},
};

pub(crate) const LOCK_NAME: &str = "lock";
const SEGMENT_SUFFIX: &str = ".journal";
const SPARE_SUFFIX: &str = ".spare";
const SEQUENCE_DIGITS: usize = 20;
/// The kernel may keep a file in folios as large as the writes that made them. Of larger ones, each small `pwrite` walks all
/// blocks, and each sync writes all; of smaller ones, filling, faults and syncs of much take twice as long (decision 34).
const FILL_BYTES: usize = 16 * 1024;
static ZEROES: [u8; FILL_BYTES] = [0; FILL_BYTES];

/// Where the segment stands whose first frame is `first`.
pub(crate) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SEGMENT_SUFFIX}"))
}

/// First sequences of the segments in `dir`, in order.
pub(crate) fn list_segments(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<u64>> {
    let names = storage.list(dir)?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Segments that were prepared and never used.
pub(crate) fn list_spares(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = storage.list(dir)?;
    Ok(names.iter().filter(|name| name.ends_with(SPARE_SUFFIX)).map(|name| dir.join(name)).collect())
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    (digits.len() == SEQUENCE_DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// A segment that is on disk, zero-filled and synced, under a name of its own.
pub(crate) struct Spare {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
}

/// Makes a spare. What is left of a failed try is deleted, by the next open at the latest.
pub(crate) fn prepare_spare(storage: &dyn Storage, dir: &Path, capacity: u64) -> io::Result<Spare> {
    let header =
        SegmentHeader { epoch: fresh_epoch()?, boot_id: storage.boot_id().unwrap_or_default(), capacity };
    let path = dir.join(format!("{:016x}{SPARE_SUFFIX}", header.epoch));
    let made = storage.create(&path).and_then(|file| {
        zero_fill(&*file, capacity)?;
        write_all(&*file, &header.encode(), 0)?;
        file.sync()?;
        Ok(file)
    });
    match made {
        Ok(file) => Ok(Spare { file, path, header }),
        Err(error) => {
            // A full disk gets its bytes back; the first error is the one to tell.
            let _ = storage.remove(&path);
            Err(error)
        }
    }
}

/// Written out and not only reserved: a reserved block costs a metadata commit in each later fdatasync.
fn zero_fill(file: &dyn StorageFile, capacity: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < capacity {
        let left = usize::try_from(capacity - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        write_all(file, ZEROES.get(..left).unwrap_or(&ZEROES), offset)?;
        offset += left as u64;
    }
    Ok(())
}

/// Random, so that no payload and no byte of an earlier segment can pass for a frame of this one.
fn fresh_epoch() -> io::Result<u64> {
    let mut bytes = [0; 8];
    loop {
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
        let epoch = u64::from_le_bytes(bytes);
        if epoch != 0 {
            return Ok(epoch);
        }
    }
}

/// Writes all of `bytes` with one call. A short write is an error: the next byte would be refused anyway.
pub(crate) fn write_all(file: &dyn StorageFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    all(bytes.len(), || file.write_at(bytes, offset))
}

/// The same for frames, see [`StorageFile::write_frames_at`].
pub(crate) fn write_all_frames(
    file: &dyn StorageFile,
    bytes: &[u8],
    ends: &[usize],
    offset: u64,
) -> io::Result<()> {
    all(bytes.len(), || file.write_frames_at(bytes, ends, offset))
}

fn all(bytes: usize, write: impl Fn() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match write() {
            Ok(written) if written == bytes => return Ok(()),
            Ok(written) => {
                let text = format!("only {written} of {bytes} bytes were written");
                return Err(io::Error::new(io::ErrorKind::WriteZero, text));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fills `bytes` from `offset` on and returns how many there were before the file's end.
pub(crate) fn read_full(file: &dyn StorageFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
