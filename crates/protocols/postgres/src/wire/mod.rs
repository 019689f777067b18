//! The protocol's messages, without any I/O: one family a file.

pub mod auth;
pub mod backend;
pub mod error_response;
pub mod frontend;
pub mod packet;
pub mod startup;
pub mod value;
