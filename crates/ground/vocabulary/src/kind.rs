//! What an entry of the trail tells of.

use serde::{Deserialize, Serialize};

/// The kind of an entry. Codes are part of the leaf format (`docs/ledger-format.md`) and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// A principal was let in and the target answered.
    #[serde(rename = "session.start")]
    SessionStart = 1,
    /// The connection ended; carries the count of the session's entries.
    #[serde(rename = "session.end")]
    SessionEnd = 2,
    /// A command still runs a second after it began.
    #[serde(rename = "command.started")]
    CommandStarted = 3,
    /// A command and its result.
    #[serde(rename = "command")]
    Command = 4,
    /// A command waits for a person.
    #[serde(rename = "review.requested")]
    ReviewRequested = 5,
    /// A person decided, or nobody did in time.
    #[serde(rename = "review.decided")]
    ReviewDecided = 6,
    /// Somebody could not prove who they are, or was not let in.
    #[serde(rename = "auth.failed")]
    AuthFailed = 7,
    /// Targets, principals, credentials or policies changed.
    #[serde(rename = "control.changed")]
    ControlChanged = 8,
    /// Somebody read recorded commands.
    #[serde(rename = "trail.read")]
    TrailRead = 9,
    /// A session's payload key was destroyed.
    #[serde(rename = "erasure")]
    Erasure = 10,
    /// The gateway knows that it lost something.
    #[serde(rename = "gap")]
    Gap = 11,
    /// The target saw a session that did not come through the gateway.
    #[serde(rename = "escape")]
    Escape = 12,
    /// A part of what a command read or wrote, kept beside the command's own entry. Lists leave it out.
    #[serde(rename = "capture")]
    Capture = 13,
    /// Nothing else happened for a while, and the gateway runs.
    #[serde(rename = "heartbeat")]
    Heartbeat = 14,
}

impl Kind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 14] = [
        Self::SessionStart,
        Self::SessionEnd,
        Self::CommandStarted,
        Self::Command,
        Self::ReviewRequested,
        Self::ReviewDecided,
        Self::AuthFailed,
        Self::ControlChanged,
        Self::TrailRead,
        Self::Erasure,
        Self::Gap,
        Self::Escape,
        Self::Capture,
        Self::Heartbeat,
    ];

    /// The code in a leaf.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind that a leaf's code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The public name, as in `trail --kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionStart => "session.start",
            Self::SessionEnd => "session.end",
            Self::CommandStarted => "command.started",
            Self::Command => "command",
            Self::ReviewRequested => "review.requested",
            Self::ReviewDecided => "review.decided",
            Self::AuthFailed => "auth.failed",
            Self::ControlChanged => "control.changed",
            Self::TrailRead => "trail.read",
            Self::Erasure => "erasure",
            Self::Gap => "gap",
            Self::Escape => "escape",
            Self::Capture => "capture",
            Self::Heartbeat => "heartbeat",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// No entry is of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no kind `{0}`; kinds are session.start, session.end, command.started, command, review.requested, review.decided, auth.failed, control.changed, trail.read, erasure, gap, escape, capture and heartbeat"
)]
pub struct UnknownKind(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_codes_and_json_agree() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse::<Kind>().unwrap(), kind);
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
