//! The log of logs: a small log whose leaves are checkpoints of nodes' logs, so that a node, its whole log included, can't be
//! hidden. Witnesses cosign its checkpoints like those of any log.
//!
//! Each leaf is a signed note, byte for byte as its maker signed it:
//! - a node's **checkpoint**, about once a second while its log grows; its first line is the log's origin;
//! - a **statement**, whose first line is `trailgate trail log v1` and whose second line says which: a node `join`s or
//!   `leave`s, or the trail log itself has a `heartbeat`, with the roster of all nodes.
//!
//! `docs/ledger-format.md` has the bytes. What follows from what is [`Roster`]'s business, for the writer and for whoever
//! verifies alike.
//!
//! *Invariant:* a node's sizes never decrease, also over leaving and joining again.

mod inbox;
mod roster;
mod writer;

use ledger::{Checkpoint, CheckpointError, Hash, Note, NoteError, TreeHead, VerifierKey};

pub use inbox::{Letter, TrailInbox};
pub use roster::{MAX_NODES, NodeStanding, Roster};
pub use writer::TrailLog;

/// First line of a leaf that is no checkpoint.
const FIRST_LINE: &str = "trailgate trail log v1";

/// What is wrong with a leaf of a trail log.
#[derive(Debug, thiserror::Error)]
pub enum TrailLogError {
    /// It does not have the form of one.
    #[error("it is no leaf of a trail log: {0}")]
    Malformed(String),
    /// Its note, or the signature that it must have.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A checkpoint that is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It does not follow from the leaves before.
    #[error("it does not follow from what stands before: {0}")]
    OutOfPlace(String),
    /// A node's checkpoint that stands there already: it may have been sent twice.
    #[error("the checkpoint of {0} entries stands there already")]
    Known(u64),
    /// The log itself.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// What a leaf says. No signature was verified: see [`Roster::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrailLeaf {
    /// A node's log has grown.
    Checkpoint(Checkpoint),
    /// A gateway began to run over this log.
    Join {
        /// Seconds since 1970, by the node's clock.
        time_s: u64,
        /// The node's log key; its name is the log's origin.
        key: VerifierKey,
        /// The note.
        note: Note,
    },
    /// A gateway stopped in order. Until it joins again, no checkpoints of it will come.
    Leave {
        /// Seconds since 1970, by the node's clock.
        time_s: u64,
        /// What its log was then.
        head: TreeHead,
        /// The note.
        note: Note,
    },
    /// The trail log is alive, and these are all its nodes.
    Heartbeat {
        /// Seconds since 1970, by the trail log's clock.
        time_s: u64,
        /// By origin, in rising order.
        nodes: Vec<NodeStanding>,
        /// The note.
        note: Note,
    },
}

impl TrailLeaf {
    /// Reads a leaf.
    ///
    /// # Errors
    /// [`TrailLogError::Malformed`], [`TrailLogError::Note`], [`TrailLogError::Checkpoint`].
    pub fn parse(leaf: &[u8]) -> Result<Self, TrailLogError> {
        let note = Note::parse(leaf)?;
        if note.text().split('\n').next() != Some(FIRST_LINE) {
            return Ok(Self::Checkpoint(Checkpoint::parse(leaf)?));
        }
        let malformed = |what: &str| TrailLogError::Malformed(what.to_owned());
        let body = note.text().strip_suffix('\n').ok_or_else(|| malformed("it ends without a newline"))?;
        let mut lines = body.split('\n').skip(1);
        let kind = lines.next().unwrap_or_default();
        let time_s = decimal(lines.next()).ok_or_else(|| malformed("its third line is no time"))?;
        let rest: Vec<&str> = lines.collect();
        match (kind, rest.as_slice()) {
            ("join", [vkey]) => {
                let key = VerifierKey::parse(vkey).map_err(|error| malformed(&error.to_string()))?;
                Ok(Self::Join { time_s, key, note })
            }
            ("leave", [origin, size, root]) => {
                let head = TreeHead::parse(&format!("{origin}\n{size}\n{root}\n"))?;
                Ok(Self::Leave { time_s, head, note })
            }
            ("heartbeat", nodes) => {
                let nodes: Option<Vec<_>> = nodes.iter().map(|line| NodeStanding::parse(line)).collect();
                let nodes = nodes.ok_or_else(|| malformed("a line of its roster is not understood"))?;
                Ok(Self::Heartbeat { time_s, nodes, note })
            }
            _ => Err(malformed("it is neither join, leave nor heartbeat")),
        }
    }

    /// The text of a `join`, to be signed by the node's key.
    #[must_use]
    pub fn join_text(time_s: u64, key: &VerifierKey) -> String {
        format!("{FIRST_LINE}\njoin\n{time_s}\n{key}\n")
    }

    /// The text of a `leave`, to be signed by the node's key.
    #[must_use]
    pub fn leave_text(time_s: u64, head: &TreeHead) -> String {
        format!("{FIRST_LINE}\nleave\n{time_s}\n{head}")
    }

    /// The text of a `heartbeat`, to be signed by the trail log's key.
    #[must_use]
    pub fn heartbeat_text(time_s: u64, nodes: &[NodeStanding]) -> String {
        let roster: String = nodes.iter().map(|node| format!("{node}\n")).collect();
        format!("{FIRST_LINE}\nheartbeat\n{time_s}\n{roster}")
    }

    /// The origin of the node that the leaf is about; `None` for a heartbeat.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Checkpoint(checkpoint) => Some(checkpoint.origin()),
            Self::Join { key, .. } => Some(key.name()),
            Self::Leave { head, .. } => Some(&head.origin),
            Self::Heartbeat { .. } => None,
        }
    }
}

/// A decimal number as it is always written: no sign, no leading zeroes.
fn decimal(text: Option<&str>) -> Option<u64> {
    let number: u64 = text?.parse().ok()?;
    (Some(number.to_string().as_str()) == text).then_some(number)
}

/// The size and root of a node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// The Merkle tree hash over them.
    pub root: Hash,
}

#[cfg(test)]
mod tests;
