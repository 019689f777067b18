//! The only place that judges, records and forwards.
//!
//! A protocol meets this crate in four steps, each of which yields what the next one needs:
//!
//! ```text
//! Door ──identify──▶ Identified ──target──▶ Opening ──start──▶ OpenSession + Forwarder
//!                                                                  │
//!                              Turn::judge(Command) ──▶ Permit     │ the intent is in the batch
//!                              Turn::observe(Permit, Outcome)      │ the outcome is in the batch
//!                              Turn::record() ──▶ Recorded ──▶ Cleared
//!                                                                  │
//!                              Forwarder::poll_forward(&Cleared, bytes)
//! ```
//!
//! *Invariants.* No byte reaches a target but through [`Forwarder::poll_forward`], which wants a
//! [`Cleared`]; a `Cleared` only comes from [`Turn::record`], after everything that was judged in that turn
//! stands in the journal at the level it needs. A [`Permit`] only comes from [`Turn::judge`] and is used up by
//! [`Turn::observe`]. What can't be recorded is refused.

pub mod door;
pub mod forward;
pub mod gatehouse;
pub mod live;
pub mod open;
pub mod protocol;
pub mod snapshot;
pub mod turn;

pub use door::{Door, Identified, ListenerSettings, NoSuchTarget, Opening, PasswordExchange, ServerTls};
pub use forward::Forwarder;
pub use gatehouse::{Durability, Gatehouse, Level};
pub use live::{EndCause, Live};
pub use open::{NotRecorded, OpenSession};
pub use protocol::{Ended, Protocol};
pub use snapshot::{Secret, Snapshot, Target};
pub use turn::{Barrier, Cleared, Command, Known, Permit, Recorded, Turn};
