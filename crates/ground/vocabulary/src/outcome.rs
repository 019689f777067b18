//! What came of a command.

use serde::{Deserialize, Serialize};

/// How a command ended. Codes are part of the leaf format and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// The target did it.
    Ok = 1,
    /// The target said no.
    Error = 2,
    /// The gateway refused it; it never left.
    Denied = 3,
    /// It was called off: by the client, or because a command before it failed.
    Cancelled = 4,
    /// Nobody answered the review in time; it never left.
    Expired = 5,
    /// The gateway or the target went away while it was under way.
    Unknown = 6,
}

impl Status {
    /// Every status, in the order of its code.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Error, Self::Denied, Self::Cancelled, Self::Expired, Self::Unknown];

    /// The code in a leaf.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status that a leaf's code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Status {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// No command ends that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no status `{0}`; a status is ok, error, denied, cancelled, expired or unknown")]
pub struct UnknownStatus(String);

/// The result of one command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Whether the target ran it: `Some(false)` for what was refused, or skipped after an error before it;
    /// `None` where nobody can tell any more.
    pub executed: Option<bool>,
    /// Rows returned, affected or copied; `None` where the command has no such count.
    pub rows: Option<u64>,
    /// Bytes from the client for this command, protocol framing included.
    pub bytes_in: u64,
    /// Bytes to the client for this command, protocol framing included.
    pub bytes_out: u64,
    /// The protocol's own code: SQLSTATE for SQL.
    pub code: Option<String>,
    /// The target's or the gateway's message.
    pub message: Option<String>,
    /// Exit status of a program.
    pub exit: Option<i32>,
}

impl Outcome {
    /// An outcome with a status and nothing counted.
    #[must_use]
    pub const fn bare(status: Status, executed: Option<bool>) -> Self {
        Self {
            status,
            executed,
            rows: None,
            bytes_in: 0,
            bytes_out: 0,
            code: None,
            message: None,
            exit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_agree() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().unwrap(), status);
            assert_eq!(Status::from_code(status.code()), Some(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }
}
