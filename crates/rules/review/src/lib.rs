//! Reviews: request → votes → verdict → grant → used, expired or withdrawn. Pure: no I/O, no clock.
//!
//! *Invariants.*
//! - Nobody approves their own command, nor that of an agent that acts for them; an agent or a service approves nothing.
//! - A grant fits one command: principal, target, text, parameters and everything that changes what the text means
//!   ([`Fingerprint`]). It is used once, and not after it has expired.
//! - A review that is over (denied, used, expired, withdrawn) never changes again.

mod asked;
mod ballot;
mod state;
#[cfg(test)]
mod tests;

pub use asked::{Asked, Circumstances, Fingerprint, MAX_SHOWN_BYTES};
pub use ballot::{Ballot, Objection, Reviewer, Vote};
pub use state::{Pace, Review, State, Step};
