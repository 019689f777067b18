//! The gateway as a program: settings, wiring, supervision, the command line.
//!
//! The only crate that sees both the protocols and the control floor. `up` puts the floors together; every other
//! command is a client of the API ([`client`]), or reads a data directory by itself where that is possible without a
//! gateway.

pub mod cli;
pub mod client;
pub mod cores;
pub mod data;
pub mod deliver;
pub mod demo;
pub mod doctor;
mod evidence;
pub mod http_client;
mod keys;
pub mod logging;
mod node;
mod probe;
pub mod seal;
pub mod settings;
pub mod supervisor;
pub mod tls;
pub mod up;
pub mod witness;
pub mod workers;
