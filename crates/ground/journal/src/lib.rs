//! Durable append of opaque records: the write-ahead log under the trail.
//!
//! [`Journal::append`] stores all frames of a [`Batch`] in the page cache, on the caller's own thread under
//! a mutex. When it returns, they survive `kill -9` (level `crash`); [`Journal::poll_synced`] tells when
//! they survive a power loss too (level `power`), one thread syncing for all who wait.
//! [`Journal::follow`] reads the frames in order while appends go on; [`Reader`] does so from another
//! process. What a record means is none of the journal's business.
//!
//! # Format, version 1
//! A journal is a directory (mode 0700) of segments (0600). The segment whose first frame is number *n* is
//! `n.journal`, *n* in 20 decimal digits; `*.spare` are segments prepared and not yet used; `lock` is held by
//! the writer. All integers are little-endian. A segment begins with 64 bytes:
//!
//! | bytes | |
//! |---|---|
//! | 0–7 | `tgjrnl`, 0, format version 1 |
//! | 8–15 | epoch: random, of this segment alone, never 0 |
//! | 16–31 | the kernel's boot id when the segment was made; 0 if unknown |
//! | 32–39 | capacity: length in bytes of the file when it was made |
//! | 40–59 | 0 |
//! | 60–63 | CRC32C of bytes 0–59 |
//!
//! Frames follow without gaps, then zeroes to the file's end:
//!
//! | bytes | |
//! |---|---|
//! | 0–3 | length *l* of the payload, at most 64 MiB |
//! | 4–11 | sequence: 1 for the journal's first frame, then one more each |
//! | 12–19 | epoch of the segment |
//! | 20–27 | highest sequence known to be synced when this frame was written |
//! | 28–59 | SHA-256 of the whole frame before this one, be it in another segment; 0 in frame 1 |
//! | 60– | payload, *l* bytes |
//! | 60+*l* – 63+*l* | CRC32C of all bytes before |
//!
//! # Recovery
//! Every segment belongs to one run of one writer: opening ends the last segment and begins a new one.
//! A frame is valid if CRC, epoch, sequence and predecessor's hash are right. Opening reads all frames; at
//! the first that is not valid,
//! - if no valid frame follows it anywhere, it and what follows are an unfinished tail, cut off and reported. One exception:
//!   a frame's epoch is written last, so a process that is killed leaves frames without one. If the kernel has not been
//!   restarted since and all else fits, that is what they are, and nobody is told of them;
//! - if one follows, the journal is damaged and is not opened. One exception: the kernel has been
//!   restarted since (its boot id is another) and no later frame says that the missing ones had been synced.
//!   Then they were lost with the page cache, which keeps no order, and the tail is cut off there;
//! - if the file is shorter than its capacity, it had been synced as a whole before it was cut, and the
//!   journal is damaged whatever follows.
//!
//! Frames that survive are written again and synced before they count as durable: after a failed fsync the
//! kernel may hold them in memory as clean though the disk never got them.
//!
//! # Failures
//! - **A write fails or is short**: that append is refused; the segment is synced and cut back to its last good
//!   frame, and the next append begins another one.
//! - **No room for a new segment**: appends go on while the current one has room, then are refused. A thread
//!   tries again after [`Settings::retry_after`], so the journal heals without being asked.
//! - **A sync fails**: all appends and waits are refused until the journal is opened anew. It is never retried.

mod append;
mod batch;
mod error;
mod follow;
mod format;
mod journal;
mod prepare;
mod read;
mod recover;
mod segment;
mod storage;
mod sync;

pub use batch::Batch;
pub use error::{AppendError, OpenError, ReadError, RetireError};
pub use follow::{Follower, Level};
pub use format::{MAX_BATCH_BYTES, MAX_FRAME_BYTES};
pub use journal::{Health, Journal, Position, Recovered, Settings, Truncated};
pub use read::{Frame, Frames, Reader};
pub use storage::{Disk, Lock, Storage, StorageFile};
