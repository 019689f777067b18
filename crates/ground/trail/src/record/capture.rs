//! What a command read and wrote, as it goes by.

use journal::Batch;
use serde::{Deserialize, Serialize};
use vocabulary::{SessionId, Timestamp};

use super::{Record, RecordError, as_bytes};

/// The most bytes in one record; more is several records.
pub const CAPTURE_RECORD_BYTES: usize = 256 * 1024;

/// A piece of what a command read or wrote. A command may have any number of them, in order, between its intent and its
/// outcome; the sealer joins them again. One with the number of a `session.start` belongs to the session as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Capture<'a> {
    /// The session it belongs to.
    pub session: SessionId,
    /// The command's place in the session.
    pub seq: u64,
    /// When it went by.
    pub at: Timestamp,
    /// What it is a piece of.
    pub field: CaptureField,
    /// The piece itself, at most [`CAPTURE_RECORD_BYTES`].
    #[serde(borrow, serialize_with = "as_bytes")]
    pub bytes: &'a [u8],
}

impl Capture<'_> {
    /// Adds the record to a batch.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be encoded; the batch is then as it was before.
    pub fn encode(&self, batch: &mut Batch) -> Result<(), RecordError> {
        Record::Capture(*self).encode(batch)
    }
}

/// What was captured. Codes and order are part of the formats of leaf and journal, and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum CaptureField {
    /// What the client sent to the program.
    Stdin = 16,
    /// What the program wrote.
    Stdout = 17,
    /// What the program wrote beside that.
    Stderr = 18,
    /// Rows of the result, in the form that the protocol's own documentation gives.
    Rows = 19,
    /// A terminal with its times: asciicast v3.
    Recording = 20,
    /// A file on its way to the target.
    Upload = 21,
    /// A file on its way from the target.
    Download = 22,
}

impl CaptureField {
    /// Every field, in the order of its code.
    pub const ALL: [Self; 7] =
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Rows, Self::Recording, Self::Upload, Self::Download];

    /// The code in leaf and payload.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The field that a code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.code() == code)
    }

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Rows => "rows",
            Self::Recording => "recording",
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

impl std::fmt::Display for CaptureField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for CaptureField {
    type Err = UnknownCapture;
    fn from_str(text: &str) -> Result<Self, UnknownCapture> {
        let found = Self::ALL.into_iter().find(|field| field.as_str() == text);
        found.ok_or_else(|| UnknownCapture(text.to_owned()))
    }
}

/// Nothing of that name is ever captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing called `{0}` is captured; there are stdin, stdout, stderr, rows, recording, upload and download"
)]
pub struct UnknownCapture(String);
