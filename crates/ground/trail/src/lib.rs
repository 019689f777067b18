//! What a command is, over journal and ledger.

pub mod record;

pub use record::{
    EndReason, Event, FactsRecord, Intent, NodeStart, NotKept, OutcomeRecord, Params, ParamsBuf, Record, RecordError,
    SessionEnd, SessionStart,
};
