//! PostgreSQL through the gateway.
//!
//! [`wire`] reads and writes messages without any I/O; [`conversation`] turns them into commands and outcomes; the
//! rest is the shell around them: [`login`] lets the client in, [`upstream`] logs in at the target, `relay` moves
//! bytes between the two, [`serve`] holds them together. README.md says what is supported.

mod buffer;
pub mod cancel;
pub mod conversation;
pub mod facts;
mod functions;
pub mod login;
mod relay;
pub mod serve;
pub mod stream;
pub mod upstream;
pub mod wire;

pub use serve::Postgres;
pub use upstream::{ServerInfo, test_target};
