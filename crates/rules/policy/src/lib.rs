//! Policies and a command's facts → a ruling. Pure: no I/O, no clock, no protocol.
//!
//! A policy is Cedar text, held strictly to [`SCHEMA`]. Each command becomes *demands* (actions on resources), all of
//! which have to be permitted; README.md has the table.
//!
//! *Invariants.*
//! - What nothing permits is refused.
//! - A forbid without `@review` wins over everything; one with `@review` is lifted by its own group's approvals alone.
//! - A policy that can't be evaluated refuses.
//! - Of a command in doubt (code, not understood, an object without its schema) the worst is assumed: forbids hold for
//!   whatever it may do, and permits count only if they hold for all of it.

mod annotations;
mod compile;
mod decide;
mod decider;
mod demands;
mod entities;
mod error;
mod policy;
mod quantity;
mod ruling;
mod scene;
pub mod shipped;
mod widen;

pub use annotations::MAX_APPROVALS;
pub use compile::{MAX_BYTES, MAX_POLICIES, SCHEMA};
pub use decider::Decider;
pub use error::{PolicyError, Problem};
pub use policy::Policy;
pub use ruling::{Budget, Effect, Obligations, Requirement, Ruling, Words};
pub use scene::{Approval, Scene, TargetView};
