//! The only place that judges, records and forwards.
//!
//! A protocol meets this crate in four steps, each of which yields what the next one needs:
//!
//! ```text
//! Door ──identify──▶ Identified ──target──▶ Opening ──start──▶ OpenSession + Forwarder
//!                                                                  │
//!                              Turn::judge(Command) ──▶ Permit     │ the intent is in the batch
//!                                                   └─▶ Refused    │ intent and outcome are in the batch
//!                                                   └─▶ Held       │ review.requested is in the batch
//!                              Turn::resume(Hold, Verdict, …)      │ judged again, once people have answered
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

mod budget;
pub mod desk;
pub mod door;
pub mod forward;
pub mod gatehouse;
pub mod hold;
pub mod judge;
pub mod live;
pub mod open;
pub mod protocol;
mod refusal;
mod rule;
pub mod snapshot;
mod stage;
pub mod turn;

pub use desk::{AnswerError, Desk, ReviewSettings};
pub use door::{
    Door, Identified, ListenerSettings, NoSuchTarget, NotThere, Opening, PasswordExchange, ServerTls,
};
pub use forward::{Forwarder, Guarded};
pub use gatehouse::{Durability, Gatehouse, Level};
pub use hold::{Hold, Notice, Verdict};
pub use judge::{Judged, Refusal, RefusalKind, Together};
pub use live::{EndCause, Live};
pub use open::{Codes, NotRecorded, OpenSession};
pub use protocol::{Ended, Protocol};
pub use snapshot::{Secret, Snapshot, Target};
pub use trail::CaptureField;
pub use turn::{Barrier, Cleared, Command, Context, Known, Means, Permit, Recorded, Turn};
