//! The payload vault: what leaves only commit to, sealed and erasable.
//!
//! Three kinds of files, all in `DATA/vault` and all byte by byte in `docs/ledger-format.md`:
//! - `payload-NNNNNNNN`: sealed payloads, one after the other;
//! - `index`: one record of fixed size per leaf, at the leaf's own index: where its payload is;
//! - `keys`: one slot of fixed size per session: its data key, wrapped. Erasing a session overwrites the slot.
//!
//! Invariants:
//! - What a published checkpoint covers is durable here before the checkpoint is signed, and never written again, but
//!   for the slot of a session that is erased.
//! - What lies beyond the published checkpoint is cut off at opening and made anew from the journal.
//! - A nonce is never used twice under one key: see [`seal::Nonces`].

mod error;
mod index;
mod keys;
mod payload;
mod read;
mod seal;
mod slots;
mod write;

pub use error::VaultError;
pub use keys::{DataKey, KeyWrap, NodeKey};
pub use slots::{MAX_WRAPPED_BYTES, SessionKey};

pub(crate) use index::{INDEX_RECORD_BYTES, IndexRecord, NO_SLOT};
pub(crate) use payload::{Field, Fields, push_field};
pub(crate) use read::VaultReader;
pub(crate) use seal::{OpenKey, Owner, open};
pub(crate) use slots::{SLOT_BYTES, keys_of, numbered_keys_of, read_up_to};
pub(crate) use write::{Ends, VaultWriter, payload_path};

/// The one retention class that there is so far. Part of the format: never reused for another.
pub(crate) const CLASS_COMMANDS: u8 = 1;

#[cfg(test)]
mod tests;
