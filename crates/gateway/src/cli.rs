//! The command line: what is asked ([`args`]), carried out by one module per command.

pub mod args;
mod connect;
mod failure;
mod filters;
mod output;
mod principal;
mod run;
mod target;
mod terminal;
mod trail;
mod watch;

pub use failure::Failure;
pub use run::run;
