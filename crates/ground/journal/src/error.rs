//! What can go wrong, one variant per failed operation.

use std::{io, path::PathBuf, sync::Arc};

use crate::Position;

/// The journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, writes to the directory.
    #[error("{} is in use by another process; stop that one first, a journal has a single writer", dir.display())]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// What stands on disk is damaged in a way that no crash explains.
    #[error("{} is damaged at byte {offset}: {reason}; restore the file from a copy, or move the journal away to start a new one", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the first wrong byte may stand, from the start of the file.
        offset: u64,
        /// What was found there.
        reason: String,
    },
    /// An operation on the directory or one of its files failed.
    #[error("could not {operation} {}; check the disk, its free space and the permissions", file.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// To which file or directory.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The setting makes no sense.
    #[error("segments of {segment_bytes} bytes are too small; use at least {least}")]
    SegmentsTooSmall {
        /// The value that was given.
        segment_bytes: u64,
        /// The least that is accepted.
        least: u64,
    },
}

/// An append or a sync was refused. Shared by all who waited for the same sync, hence `Clone`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// One record is larger than [`crate::MAX_FRAME_BYTES`].
    #[error("a record of {bytes} bytes does not fit the journal, whose limit is 64 MiB")]
    FrameTooLarge {
        /// Size of the record.
        bytes: usize,
    },
    /// The batch is larger than [`crate::MAX_BATCH_BYTES`].
    #[error("a batch of {bytes} bytes does not fit the journal, whose limit is 256 MiB")]
    BatchTooLarge {
        /// Size of the batch, headers included.
        bytes: usize,
    },
    /// Writing the frames failed. Nothing of the batch counts; later appends are tried again.
    #[error("could not write to the journal segment {}; free space or repair the disk, the journal heals by itself", file.display())]
    Write {
        /// The segment.
        file: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The current segment is full and no new one could be made. Tried again in the background.
    #[error("could not make a new journal segment in {}; free space or repair the disk, the journal heals by itself", dir.display())]
    NoSegment {
        /// The journal's directory.
        dir: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// An fsync failed: what was written since the last one may never reach the disk, and the kernel
    /// does not say so twice. Nothing is accepted until the journal is opened anew.
    #[error("the disk failed to keep the journal segment {}; check the disk, then restart", file.display())]
    Poisoned {
        /// The segment or directory whose sync failed.
        file: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The journal was closed.
    #[error("the journal is closed; the gateway is shutting down")]
    Closed,
    /// A wait for a frame that was never appended would never end.
    #[error("frame {position} was never appended to the journal, whose last one is {written}")]
    NotWritten {
        /// The position waited for.
        position: Position,
        /// The last position there is.
        written: Position,
    },
}

/// Frames could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A frame that should be there is not valid.
    #[error("{} is damaged at byte {offset}: {reason}; restore the file from a copy", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the frame should begin, from the start of the file.
        offset: u64,
        /// What was found there.
        reason: String,
    },
    /// The frame asked for was deleted by [`crate::Journal::retire`].
    #[error("frame {wanted} has left the journal, whose oldest is {oldest}; read on from there")]
    Retired {
        /// The frame asked for.
        wanted: Position,
        /// The oldest that is still there.
        oldest: Position,
    },
    /// The journal was closed, and all its frames have been read.
    #[error("the journal is closed, and frame {next} was never appended")]
    Closed {
        /// The frame that would have come next.
        next: Position,
    },
    /// An operation on a file failed.
    #[error("could not {operation} {}; check the disk and the permissions", file.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// To which file or directory.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A segment could not be deleted; it is tried again by the next [`crate::Journal::retire`].
#[derive(Debug, thiserror::Error)]
#[error("could not delete the journal segment {}; check the disk and the permissions", file.display())]
pub struct RetireError {
    /// The segment.
    pub file: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}
