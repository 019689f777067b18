//! The words of the house.
//!
//! Every floor above speaks in these types: who ([`principal`]), where ([`target`]), what
//! ([`command`]), whether ([`decision`]), and with what result ([`outcome`]). Nothing here does I/O,
//! knows a protocol, or holds a target's password.

pub mod command;
pub mod decision;
pub mod ids;
pub mod instant;
pub mod kind;
pub mod outcome;
pub mod principal;
pub mod target;

pub use command::{Class, Effect, Facts, FunctionUse, ObjectUse, SettingChange, TransactionControl, Usage};
pub use decision::{Decision, PolicyHash, Verdict};
pub use ids::{CredentialId, EntryId, IdError, NodeId, PrincipalId, ReviewId, SessionId, TargetId};
pub use instant::Timestamp;
pub use kind::Kind;
pub use outcome::{Outcome, Status};
pub use principal::{Certainty, ClientInfo, Name, NameError, PrincipalKind, ProvenBy, Who};
pub use target::{TargetKind, Where};
