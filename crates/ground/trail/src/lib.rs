#![doc = include_str!("../README.md")]

mod commitment;
mod entry;
mod error;
mod filter;
mod layout;
pub mod leaf;
mod reader;
pub mod record;
mod sealer;
mod trail;
mod vault;
mod verify;

pub use entry::{
    Entry, EntryClient, EntryCommand, EntryDecision, EntryLeaf, EntryNotKept, EntryOutcome, EntryPrincipal,
    EntryTarget,
};
pub use error::TrailError;
pub use filter::Filter;
pub use reader::{Newest, Reader};
pub use record::{
    EndReason, Event, FactsRecord, Intent, NodeStart, NotKept, OutcomeRecord, Params, ParamsBuf, Record,
    RecordError, SessionEnd, SessionStart,
};
#[doc(hidden)]
pub use sealer::{Probe, Step};
pub use trail::{Health, NewEvent, NodeSession, Recovery, Settings, Trail};
pub use vault::{DataKey, KeyWrap, MAX_WRAPPED_BYTES, NodeKey, SessionKey, VaultError};
pub use verify::{Finding, VerifyOptions, VerifyReport, verify};
