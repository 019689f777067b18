//! The command line: what is asked ([`args`]), carried out by one module per command.

pub mod args;
pub mod connect;
pub mod entry;
mod failure;
mod filters;
pub mod output;
mod principal;
mod run;
mod target;
pub mod terminal;
mod trail;
pub mod verify;

pub use failure::Failure;
pub use run::run;
