//! What opening does with what it finds; the rules stand in the crate's documentation.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use memchr::memmem;

use crate::{
    Position, Recovered, Truncated,
    error::OpenError,
    format::{
        FRAME_EPOCH_OFFSET, FrameHash, NO_FRAME, Parsed, RawFrame, SEGMENT_HEADER_BYTES, SegmentHeader,
        is_unpublished, is_zero, parse_frame,
    },
    segment::{list_segments, list_spares, read_full, segment_path, write_all},
    storage::Storage,
};

/// The past, as far as the appender needs it.
pub(crate) struct History {
    pub(crate) recovered: Recovered,
    pub(crate) previous: FrameHash,
    /// First sequences of the segments that hold frames.
    pub(crate) segments: VecDeque<u64>,
}

/// A segment whose frames are all valid, up to `end`.
struct Sound {
    first: u64,
    end: u64,
    /// Cut to its last frame by a writer that had synced it.
    sealed: bool,
}

/// The first place where no valid frame stands though bytes or segments follow.
struct Damage {
    path: PathBuf,
    offset: usize,
    reason: String,
    /// `None` if the file has no header.
    header: Option<SegmentHeader>,
    sealed: bool,
}

/// Reads all, then decides, then changes what must be changed.
pub(crate) fn recover(storage: &dyn Storage, dir: &Path) -> Result<History, OpenError> {
    let firsts = list_segments(storage, dir).map_err(failed("list", dir))?;
    let mut scan = Scan { storage, dir, next: firsts.first().copied().unwrap_or(1), previous: None };
    if scan.next == 1 {
        scan.previous = Some(NO_FRAME);
    }
    let mut sound = Vec::new();
    let mut truncated = None;
    let mut dropped = Vec::new();
    let mut bytes = Vec::new();
    let mut remaining = firsts.iter().copied();
    while let Some(first) = remaining.next() {
        scan.read(first, &mut bytes)?;
        match scan.segment(first, &bytes)? {
            Ok(segment) => sound.push(segment),
            Err((segment, damage)) => {
                let later: Vec<u64> = remaining.collect();
                let lost = scan.judge(&damage, &bytes, &later)?;
                if lost > 0 {
                    let Damage { path, offset, .. } = damage;
                    truncated = Some(Truncated { file: path, offset: offset as u64, bytes: lost });
                }
                sound.push(segment);
                dropped = later;
                break;
            }
        }
    }
    scan.repair(&mut sound, &dropped)?;
    let next = Position(scan.next);
    let oldest = sound.first().map_or(next, |segment| Position(segment.first));
    Ok(History {
        recovered: Recovered { oldest, next, truncated },
        previous: scan.previous.unwrap_or(NO_FRAME),
        segments: sound.iter().map(|segment| segment.first).collect(),
    })
}

struct Scan<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    /// Sequence of the frame that must come next.
    next: u64,
    /// Hash of the frame before; unknown where older segments have been retired.
    previous: Option<FrameHash>,
}

impl Scan<'_> {
    fn read(&self, first: u64, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
        let path = segment_path(self.dir, first);
        let file = self.storage.open(&path, false).map_err(failed("open", &path))?;
        let length = file.length().map_err(failed("read", &path))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        bytes.clear();
        let reserved = bytes.try_reserve_exact(length).map_err(io::Error::other);
        reserved.map_err(failed("take into memory", &path))?;
        bytes.resize(length, 0);
        let read = read_full(&*file, bytes, 0).map_err(failed("read", &path))?;
        bytes.truncate(read);
        Ok(())
    }

    /// Checks one segment. The inner error is what may be cut off, with what stands before it.
    fn segment(&mut self, first: u64, bytes: &[u8]) -> Result<Result<Sound, (Sound, Damage)>, OpenError> {
        let path = segment_path(self.dir, first);
        let header = SegmentHeader::parse(bytes);
        let never_written = is_zero(bytes);
        let Some(header) = header else {
            let reason = "the segment has no valid header".to_owned();
            // A header is synced before the segment gets its name. Zeroes are what is left if a file
            // system loses it all the same; anything else is damage, and hides the epoch of the frames.
            if !never_written {
                return Err(OpenError::Corrupt { file: path, offset: 0, reason });
            }
            let segment = Sound { first, end: 0, sealed: false };
            let damage = Damage { path, offset: 0, reason, header: None, sealed: false };
            return Ok(Err((segment, damage)));
        };
        let sealed = header.is_sealed(bytes.len() as u64);
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut reason = None;
        if first != self.next {
            offset = 0;
            reason = Some(format!("the segment should begin with frame {}", self.next));
        }
        while reason.is_none() {
            let rest = bytes.get(offset..).unwrap_or_default();
            match parse_frame(rest, header.epoch) {
                Parsed::Frame(frame) => match self.misplaced(&frame) {
                    None => {
                        self.next += 1;
                        self.previous = Some(frame.hash());
                        offset += frame.bytes.len();
                    }
                    Some(misplaced) => reason = Some(misplaced),
                },
                Parsed::Short(_) | Parsed::Invalid if rest.is_empty() => break,
                Parsed::Short(_) | Parsed::Invalid if !sealed && is_zero(rest) => break,
                Parsed::Short(_) => reason = Some(format!("frame {} is cut short", self.next)),
                Parsed::Invalid => reason = Some(format!("frame {} is not valid", self.next)),
            }
        }
        let segment = Sound { first, end: offset as u64, sealed };
        Ok(match reason {
            None => Ok(segment),
            Some(reason) => Err((segment, Damage { path, offset, reason, header: Some(header), sealed })),
        })
    }

    fn misplaced(&self, frame: &RawFrame<'_>) -> Option<String> {
        if frame.sequence != self.next {
            return Some(format!("frame {} stands where frame {} should", frame.sequence, self.next));
        }
        let broken = self.previous.is_some_and(|previous| previous != frame.previous);
        broken.then(|| format!("frame {} does not follow from the one before it", frame.sequence))
    }

    /// Whether the damage is an unfinished tail: then how many bytes of it there are.
    fn judge(&self, damage: &Damage, bytes: &[u8], later: &[u64]) -> Result<u64, OpenError> {
        let corrupt =
            |reason| OpenError::Corrupt { file: damage.path.clone(), offset: damage.offset as u64, reason };
        if damage.sealed {
            return Err(corrupt(format!("{}, though it had been synced", damage.reason)));
        }
        let rest = bytes.get(damage.offset..).unwrap_or_default();
        let made_under = damage.header.map(|header| header.boot_id);
        let same_boot = made_under.is_none_or(|boot_id| self.storage.boot_id() == Some(boot_id));
        // A kill ends the writing of a frame anywhere. Only of a loss of power is it news that something was begun.
        let killed = same_boot && is_unpublished(rest, self.next, self.previous.as_ref());
        let mut lost = if killed { 0 } else { used_bytes(rest) };
        let mut evidence = damage.header.and_then(|header| self.later_frame(rest, header.epoch));
        let mut buffer = Vec::new();
        for &first in later {
            self.read(first, &mut buffer)?;
            lost += used_bytes(&buffer);
            let Some(header) = SegmentHeader::parse(&buffer) else { continue };
            let found = self.later_frame(&buffer, header.epoch);
            evidence = evidence.into_iter().chain(found).max_by_key(|&(_, durable)| durable);
        }
        let Some((sequence, durable)) = evidence else {
            return Ok(lost);
        };
        if same_boot {
            return Err(corrupt(format!("{}, but frame {sequence} comes later and is valid", damage.reason)));
        }
        if durable >= self.next {
            let reason = &damage.reason;
            return Err(corrupt(format!("{reason}, but frame {sequence} says that it had been synced")));
        }
        Ok(lost)
    }

    /// Looks for frames that come after the gap; returns the one that knows most to have been synced, as
    /// its sequence and that knowledge. No length is trusted: each place where the epoch stands is tried.
    fn later_frame(&self, bytes: &[u8], epoch: u64) -> Option<(u64, u64)> {
        memmem::find_iter(bytes, &epoch.to_le_bytes())
            .filter_map(|found| bytes.get(found.checked_sub(FRAME_EPOCH_OFFSET)?..))
            .filter_map(|start| match parse_frame(start, epoch) {
                Parsed::Frame(frame) if frame.sequence >= self.next => Some((frame.sequence, frame.durable)),
                Parsed::Frame(_) | Parsed::Short(_) | Parsed::Invalid => None,
            })
            .max_by_key(|&(_, durable)| durable)
    }

    /// Leaves on disk exactly the frames that were accepted, durable and in sealed segments. Can be
    /// interrupted and begun again at any point.
    fn repair(&self, sound: &mut Vec<Sound>, dropped: &[u64]) -> Result<(), OpenError> {
        // Newest first: what is left never has a gap.
        for &first in dropped.iter().rev() {
            self.remove(&segment_path(self.dir, first))?;
        }
        while let Some(segment) = sound.pop_if(|segment| segment.end <= SEGMENT_HEADER_BYTES as u64) {
            self.remove(&segment_path(self.dir, segment.first))?;
        }
        for segment in sound.iter().filter(|segment| !segment.sealed) {
            let path = segment_path(self.dir, segment.first);
            self.seal(&path, segment.end).map_err(failed("repair", &path))?;
        }
        for spare in list_spares(self.storage, self.dir).map_err(failed("list", self.dir))? {
            self.remove(&spare)?;
        }
        self.storage.sync_dir(self.dir).map_err(failed("sync", self.dir))
    }

    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        self.storage.remove(path).map_err(failed("delete", path))
    }

    /// Writes the segment's bytes once more, so that they are dirty and the sync means something.
    fn seal(&self, path: &Path, end: u64) -> io::Result<()> {
        let file = self.storage.open(path, true)?;
        let mut chunk = vec![0; 1024 * 1024];
        let mut offset = 0;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(chunk.len());
            let wanted = chunk.get_mut(..wanted).unwrap_or_default();
            let read = read_full(&*file, wanted, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write_all(&*file, chunk.get(..read).unwrap_or_default(), offset)?;
            offset += read as u64;
        }
        file.sync()?;
        file.set_len(end)?;
        file.sync()
    }
}

/// Bytes up to the last that is not zero.
fn used_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

fn failed(operation: &'static str, file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Io { operation, file, source }
}
