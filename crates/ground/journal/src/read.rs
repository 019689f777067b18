//! Reading frames in order, across segments, while they may be written.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    slice,
    sync::Arc,
};

use crate::{
    Position,
    error::ReadError,
    format::{
        FRAME_OVERHEAD_BYTES, FrameHash, MAX_FRAME_BYTES, Parsed, SEGMENT_HEADER_BYTES, SegmentHeader,
        is_unpublished, is_zero, parse_frame,
    },
    segment::{list_segments, read_full, segment_path},
    storage::{Disk, Storage, StorageFile},
};

/// Bytes read at once; more only for a frame that is larger.
const CHUNK_BYTES: usize = 256 * 1024;

/// One record, as it was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its place in the journal.
    pub position: Position,
    /// The bytes that were pushed.
    pub payload: &'a [u8],
}

/// Some frames that follow each other, oldest first.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    buffer: &'a [u8],
    found: slice::Iter<'a, Found>,
    complete: bool,
}

impl Frames<'_> {
    /// Whether these are all that there were when they were asked for; `false` also where nobody knows.
    #[must_use]
    pub const fn are_all(&self) -> bool {
        self.complete
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let found = self.found.next()?;
        let payload = self.buffer.get(found.payload.clone()).unwrap_or_default();
        Some(Frame { position: Position(found.sequence), payload })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.found.size_hint()
    }
}

impl ExactSizeIterator for Frames<'_> {}

/// Reads a journal that another process may be writing. Takes no lock and changes nothing.
pub struct Reader {
    cursor: Cursor,
}

impl Reader {
    /// Reads the journal in `dir` from the frame at `from` on. The directory is looked at when frames
    /// are asked for.
    #[must_use]
    pub fn open(dir: &Path, from: Position) -> Self {
        Self { cursor: Cursor::new(Arc::new(Disk), dir, from) }
    }

    /// The next frames, complete and valid; none if there are no more for now. The last of them may not
    /// be synced yet, and an append that is refused may show for a moment: who must not see more than a
    /// power loss leaves stays at or before [`durable`](Self::durable).
    ///
    /// # Errors
    /// If the frame was retired, is damaged, or cannot be read. The same frame comes next.
    pub fn next_batch(&mut self) -> Result<Frames<'_>, ReadError> {
        self.cursor.read(None)?;
        Ok(self.cursor.frames())
    }

    /// As [`next_batch`](Self::next_batch), none after `limit`: for who is told otherwise up to where frames are synced.
    /// None if all up to `limit` were handed out.
    ///
    /// # Errors
    /// As [`next_batch`](Self::next_batch); a frame up to `limit` that is not there is damage.
    pub fn next_batch_until(&mut self, limit: Position) -> Result<Frames<'_>, ReadError> {
        if limit < self.position() {
            self.cursor.clear();
        } else {
            self.cursor.read(Some(limit.0))?;
        }
        Ok(self.cursor.frames())
    }

    /// The highest position that the frames read so far say to be synced.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.cursor.durable)
    }

    /// Position of the frame that comes next.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.cursor.wanted)
    }

    /// Where the journal ends in bytes that are no frame, once [`next_batch`](Self::next_batch) finds no more: the file, and
    /// where in it the next frame should begin. `None` if only zeroes follow, or, before the system is started anew, what a killed
    /// process leaves of a frame that it had not published. It is a frame that is being written just now, one whose writing was
    /// cut short, or damage; a second look a little later tells the first from the others.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn rest(&self) -> Result<Option<(PathBuf, u64)>, ReadError> {
        let Some(segment) = &self.cursor.segment else { return Ok(None) };
        let header = &segment.header;
        let length = segment.file.length().map_err(failed("read", &segment.path))?;
        // As recovery sees it: neither in a file that was closed in order, nor after a loss of power.
        let can_be_unpublished =
            !header.is_sealed(length) && self.cursor.storage.boot_id() == Some(header.boot_id);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = segment.offset;
        loop {
            let read =
                read_full(&*segment.file, &mut chunk, offset).map_err(failed("read", &segment.path))?;
            let bytes = chunk.get(..read).unwrap_or_default();
            let is_next = can_be_unpublished && offset == segment.offset;
            let nothing =
                is_zero(bytes) || is_next && is_unpublished(bytes, segment.next, segment.previous.as_ref());
            if !nothing {
                return Ok(Some((segment.path.clone(), segment.offset)));
            }
            if read < CHUNK_BYTES {
                return Ok(None);
            }
            offset += read as u64;
        }
    }
}

/// A frame in the cursor's buffer.
#[derive(Clone, Debug)]
struct Found {
    sequence: u64,
    payload: Range<usize>,
}

struct Segment {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    header: SegmentHeader,
    /// Where the next frame begins.
    offset: u64,
    /// Sequence of that frame.
    next: u64,
    /// Hash of the frame before, once known.
    previous: Option<FrameHash>,
}

/// A place in the journal.
pub(crate) struct Cursor {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    segment: Option<Segment>,
    /// Sequence of the next frame to hand out.
    pub(crate) wanted: u64,
    durable: u64,
    buffer: Vec<u8>,
    found: Vec<Found>,
    /// All up to the last limit are handed out.
    complete: bool,
}

impl Cursor {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path, from: Position) -> Self {
        Self {
            storage,
            dir: dir.to_owned(),
            segment: None,
            wanted: from.0.max(1),
            durable: 0,
            buffer: Vec::new(),
            found: Vec::new(),
            complete: false,
        }
    }

    /// What the last `read` has found.
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames { buffer: &self.buffer, found: self.found.iter(), complete: self.complete }
    }

    /// There is nothing up to the limit.
    pub(crate) fn clear(&mut self) {
        self.found.clear();
        self.complete = true;
    }

    /// Finds some frames from `wanted` on. With a `limit`, all up to it are known to be there and none
    /// after it is handed out; at least one is found. Without, none may be found.
    pub(crate) fn read(&mut self, limit: Option<u64>) -> Result<(), ReadError> {
        self.found.clear();
        self.complete = false;
        let mut reopened = false;
        loop {
            if self.segment.is_none() {
                self.segment = self.locate()?;
            }
            let Some(segment) = &mut self.segment else {
                return Ok(());
            };
            let skipping = segment.next < self.wanted;
            let progress = fill(segment, &mut self.buffer, &mut self.found, self.wanted, limit)?;
            self.durable = self.durable.max(progress.durable);
            if let Some(last) = self.found.last() {
                self.wanted = last.sequence + 1;
                self.complete = limit.is_some_and(|limit| last.sequence >= limit);
                return Ok(());
            }
            if skipping && progress.any {
                continue;
            }
            // The next frame is in another file, or this file has been replaced while it was empty.
            let next = segment.next;
            let (file, offset) = (segment.path.clone(), segment.offset);
            if self.follow_on(next)? {
                continue;
            }
            if reopened || !self.is_missing(next, limit)? {
                return match limit {
                    None if !reopened => Ok(()),
                    _ => {
                        Err(ReadError::Corrupt { file, offset, reason: format!("frame {next} is not valid") })
                    }
                };
            }
            // It may have come between the two looks. Once more, then it is damage.
            reopened = true;
            self.segment = None;
        }
    }

    /// Whether the frame should be there by now.
    fn is_missing(&self, next: u64, limit: Option<u64>) -> Result<bool, ReadError> {
        if let Some(limit) = limit {
            return Ok(next <= limit);
        }
        let firsts = list_segments(&*self.storage, &self.dir).map_err(failed("list", &self.dir))?;
        Ok(firsts.last().is_some_and(|&last| last > next))
    }

    /// Goes to the segment that begins with frame `next`, if there is one and it is not the current.
    fn follow_on(&mut self, next: u64) -> Result<bool, ReadError> {
        let path = segment_path(&self.dir, next);
        let Some(current) = &self.segment else { return Ok(false) };
        if current.path == path {
            return Ok(false);
        }
        let previous = current.previous;
        match self.open(next, previous)? {
            None => Ok(false),
            Some(segment) => {
                self.segment = Some(segment);
                Ok(true)
            }
        }
    }

    /// Opens the segment in which the wanted frame stands or will stand.
    fn locate(&self) -> Result<Option<Segment>, ReadError> {
        let firsts = list_segments(&*self.storage, &self.dir).map_err(failed("list", &self.dir))?;
        let wanted = Position(self.wanted);
        match firsts.iter().rev().find(|&&first| first <= self.wanted) {
            Some(&first) => self.open(first, None),
            None => match firsts.first() {
                Some(&oldest) => Err(ReadError::Retired { wanted, oldest: Position(oldest) }),
                None => Ok(None),
            },
        }
    }

    fn open(&self, first: u64, previous: Option<FrameHash>) -> Result<Option<Segment>, ReadError> {
        let path = segment_path(&self.dir, first);
        let file = match self.storage.open(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut header = [0; SEGMENT_HEADER_BYTES];
        read_full(&*file, &mut header, 0).map_err(failed("read", &path))?;
        let Some(header) = SegmentHeader::parse(&header) else {
            let reason = "the segment has no valid header".to_owned();
            return Err(ReadError::Corrupt { file: path, offset: 0, reason });
        };
        let offset = SEGMENT_HEADER_BYTES as u64;
        Ok(Some(Segment { file, path, header, offset, next: first, previous }))
    }
}

#[derive(Default)]
struct Progress {
    /// Whether any frame was read, be it one to skip.
    any: bool,
    durable: u64,
}

/// Reads one chunk and takes all valid frames in it up to the limit. Those before `wanted` are only checked.
fn fill(
    segment: &mut Segment,
    buffer: &mut Vec<u8>,
    found: &mut Vec<Found>,
    wanted: u64,
    limit: Option<u64>,
) -> Result<Progress, ReadError> {
    let mut progress = Progress::default();
    let mut chunk = CHUNK_BYTES;
    loop {
        buffer.resize(chunk, 0);
        buffer.shrink_to(chunk);
        let read =
            read_full(&*segment.file, buffer, segment.offset).map_err(failed("read", &segment.path))?;
        let bytes = buffer.get(..read).unwrap_or_default();
        let mut start = 0;
        let needed = loop {
            if limit.is_some_and(|limit| segment.next > limit) {
                break 0;
            }
            let frame = match parse_frame(bytes.get(start..).unwrap_or_default(), segment.header.epoch) {
                Parsed::Frame(frame) => frame,
                Parsed::Short(needed) => break needed,
                Parsed::Invalid => break 0,
            };
            let chained = segment.previous.is_none_or(|previous| previous == frame.previous);
            if frame.sequence != segment.next || !chained {
                break 0;
            }
            let payload_start = start + FRAME_OVERHEAD_BYTES - 4;
            if frame.sequence >= wanted {
                let payload = payload_start..payload_start + frame.payload.len();
                found.push(Found { sequence: frame.sequence, payload });
            }
            progress.any = true;
            progress.durable = progress.durable.max(frame.durable);
            segment.previous = Some(frame.hash());
            segment.next += 1;
            start += frame.bytes.len();
        };
        segment.offset += start as u64;
        // A frame larger than the chunk, and the file has more: once more, with room for it.
        let larger = needed > chunk && needed <= MAX_FRAME_BYTES + FRAME_OVERHEAD_BYTES && read == chunk;
        if progress.any || !larger {
            return Ok(progress);
        }
        chunk = needed;
    }
}

pub(crate) fn failed(operation: &'static str, file: &Path) -> impl FnOnce(io::Error) -> ReadError {
    let file = file.to_owned();
    move |source| ReadError::Io { operation, file, source }
}
