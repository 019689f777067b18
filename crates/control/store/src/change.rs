//! What a change was, for the trail. Holds no secret, so that it can be recorded as it is.

use serde::Serialize;
use serde_json::Value;
use vocabulary::{Name, PrincipalKind};

/// What sort of thing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A target.
    Target,
    /// An agent.
    Agent,
    /// A person.
    Person,
    /// A service.
    Service,
    /// The policy in force.
    Policy,
}

impl From<PrincipalKind> for Subject {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Agent => Self::Agent,
            PrincipalKind::Person => Self::Person,
            PrincipalKind::Service => Self::Service,
        }
    }
}

/// What was done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was added.
    Add,
    /// It was altered.
    Alter,
    /// It got a new token.
    Rotate,
    /// One of its tokens was revoked.
    Revoke,
    /// It was shut out.
    Disable,
    /// It was let in again.
    Enable,
    /// It was removed.
    Remove,
    /// It came into force.
    Apply,
}

/// One change of the control state.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Change {
    /// What sort of thing changed.
    pub subject: Subject,
    /// What was done.
    pub action: Action,
    /// Its id, which outlives renaming.
    pub id: String,
    /// Its name.
    pub name: Name,
    /// How it was, without secrets; `None` if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// How it is now, without secrets; `None` if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}
