//! What the journal promises, each promise once.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test says plainly what it expects"
)]

mod append;
mod disk_full;
mod faults;
mod follow;
mod kill;
mod power_loss;
mod recovery;
mod support;
mod sync;
