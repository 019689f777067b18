//! Where a command runs.

use serde::{Deserialize, Serialize};

use crate::ids::TargetId;
use crate::principal::Name;

/// The protocol that a target speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TargetKind {
    /// PostgreSQL and what speaks its protocol.
    Postgres = 1,
    /// A host with an SSH server.
    Ssh = 2,
}

impl TargetKind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Ssh];

    /// The kind that a leaf's code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Ssh => "ssh",
        }
    }
}

impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a session's commands run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Where {
    /// The target's id: stays the same when it is renamed.
    pub id: TargetId,
    /// Its name.
    pub name: Name,
    /// The protocol it speaks.
    pub kind: TargetKind,
    /// The role that the gateway logs in as.
    pub role: String,
    /// The database, where the protocol has them.
    pub database: Option<String>,
    /// The target's own name for the session: `backend 4242`.
    pub peer: Option<String>,
}
