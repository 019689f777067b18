#![doc = include_str!("../README.md")]

mod commitment;
mod entry;
mod error;
mod filter;
mod layout;
pub mod leaf;
mod logs;
mod proof;
mod reader;
pub mod record;
pub mod retention;
mod sealer;
mod trail;
mod trail_log;
mod vault;
mod verify;

pub use entry::{
    Entry, EntryCaptured, EntryClient, EntryCommand, EntryDecision, EntryLeaf, EntryNotKept, EntryOutcome,
    EntryPrincipal, EntryTarget,
};
pub use error::TrailError;
pub use filter::Filter;
pub use logs::{ledger_reader, trail_log_reader};
pub use proof::{Link, ProofTrust, Proven, ProvenField, signed_alone, verify_proof};
pub use reader::{Captured, Newest, Reader};
pub use record::{
    Capture, CaptureField, EndReason, Event, FactsRecord, Intent, Keeping, KeepingAct, NodeStart, NotKept,
    OutcomeRecord, Params, ParamsBuf, Record, RecordError, SessionEnd, SessionStart,
};
pub use retention::{Covers, Keep, Retention, RetentionRule};
#[doc(hidden)]
pub use sealer::{Probe, Step};
#[doc(hidden)]
pub use trail::Storages;
pub use trail::{
    Expired, Health, NewEvent, NodeSession, Recovery, SealerProcess, SealerSettings, Settings, Trail,
};
pub use trail_log::{
    Head, Letter, MAX_NODES, NodeStanding, Roster, TrailInbox, TrailLeaf, TrailLog, TrailLogError,
};
pub use vault::{
    DataKey, KeyRing, KeyWrap, MAX_CLASS_BYTES, MAX_KEY_ID_BYTES, MAX_WRAPPED_BYTES, NodeKey, SessionKey,
    VaultError,
};
pub use verify::{Finding, TrailLogReport, VerifyOptions, VerifyReport, WITNESS_LAG_US, verify};
