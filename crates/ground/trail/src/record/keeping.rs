//! What is to become of payloads.

use serde::{Deserialize, Serialize};

use super::Event;

/// An event that is an order to the sealer, too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keeping {
    /// What the entry tells.
    pub event: Event,
    /// What is to be done.
    pub act: KeepingAct,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KeepingAct {
    /// Destroy the keys in these slots of the vault, but for those of sessions that are open or under a hold.
    Erase(Vec<u32>),
    /// Put the event's subject under a legal hold.
    Hold,
    /// Release it.
    Release,
}
