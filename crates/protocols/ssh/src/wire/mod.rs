//! Protocols that run inside a channel, as far as the trail has to understand them. No I/O: bytes in, facts out; the
//! bytes themselves go on as they came.

pub(crate) mod content;
pub(crate) mod scp;
pub(crate) mod sftp;
