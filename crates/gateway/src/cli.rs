//! The command line: what is asked ([`args`]), carried out by one module per command.

pub mod args;
mod captured;
pub mod connect;
pub mod entry;
mod failure;
mod filters;
pub mod output;
mod policy;
mod principal;
mod prove;
mod replay;
mod review;
mod run;
mod ssh;
mod target;
pub mod terminal;
mod trail;
pub mod verify;

pub use failure::Failure;
pub(crate) use filters::duration_s;
pub use run::run;
