//! The HTTP API of a gateway: targets, principals, policies, the trail.
//!
//! One router, served on the control socket and on the web listener ([`serve`]). Who asks, and what they may, is
//! decided by [`caller`]. Every refusal is a [`problem`].
//!
//! *Invariants.*
//! - A change is durable in the trail before it is made ([`control`]), and in force for open sessions when the answer
//!   is given.
//! - Reading recorded commands is durable in the trail before the first of them is given.
//! - Bodies, connections, time and answers are bounded.

pub mod caller;
pub mod card;
pub mod control;
pub mod explain;
mod extract;
pub mod filters;
pub mod problem;
pub mod reviews;
mod routes;
pub mod serve;
pub mod types;

pub use control::{Control, LogAccess, NodeInfo, Parts, Prober};
pub use reviews::Message;
pub use routes::router;
