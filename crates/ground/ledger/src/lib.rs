#![doc = include_str!("../README.md")]

pub mod bundle;
pub mod tile;
pub mod tree;

mod at_rest;
mod checkpoint;
mod edge;
mod error;
mod hash;
mod history;
mod key;
mod note;
mod policy;
mod reader;
mod storage;
mod tlog_proof;
mod verify;
mod witness;
mod witnessed;
mod writer;

pub use checkpoint::{Checkpoint, CheckpointError, TreeHead};
pub use error::{Error, Fault};
pub use hash::{HASH_BYTES, Hash, leaf_hash, node_hash};
pub use history::{HISTORY_FILE, History};
pub use key::{
    Ed25519Signer, KeyError, KeyKind, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SignError, Signer, VerifierKey,
    is_valid_key_name,
};
pub use note::{MAX_NOTE_BYTES, MAX_SIGNATURES, Note, NoteError, NoteSignature};
pub use policy::{PolicyError, PolicyLog, PolicyWitness, WitnessPolicy};
pub use reader::{Entries, LedgerReader, Snapshot};
pub use storage::{FileSystem, Storage};
pub use tile::{MAX_ENTRY_BYTES, TILE_WIDTH, Tile, TileKind};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use tree::{CompactRange, ProofError, verify_consistency, verify_inclusion, verify_inclusion_hash};
pub use verify::{Report, VerifyError, verify_all};
pub use witness::{
    AddCheckpoint, MAX_PROOF_LINES, Refusal, SIZE_CONTENT_TYPE, Witness, WitnessError, parse_cosignatures,
};
pub use witnessed::WITNESSED_FILE;
pub use writer::{CHECKPOINT_FILE, Ledger, Options};
