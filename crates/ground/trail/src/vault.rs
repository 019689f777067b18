//! The payload vault: what leaves only commit to, sealed and erasable.
//!
//! Three kinds of files, all in `DATA/vault` and all byte by byte in `docs/ledger-format.md`:
//! - `payload-NNNNNNNN`: sealed payloads, one after the other;
//! - `index`: one record of fixed size per leaf, at the leaf's own index: where its payload is;
//! - `keys`: one slot of fixed size per session and retention class: its data key, wrapped. Erasing overwrites the slot.
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
pub use keys::{DataKey, KeyRing, KeyWrap, NodeKey};
pub use slots::{MAX_CLASS_BYTES, MAX_KEY_ID_BYTES, MAX_WRAPPED_BYTES, SessionKey};

pub(crate) use index::{INDEX_RECORD_BYTES, IndexRecord, NO_SLOT};
pub(crate) use keys::NODE_KEY_PREFIX;
pub(crate) use payload::{Field, Fields, push_field};
pub(crate) use read::VaultReader;
pub(crate) use seal::{OpenKey, Owner, open};
pub(crate) use slots::{SLOT_BYTES, each_slot, numbered_keys_of, read_up_to};
pub(crate) use write::{Ends, VaultWriter, open_or_create, payload_path, write_all_at};

#[cfg(test)]
mod tests;
