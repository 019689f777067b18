//! What the journal promises, each promise once.

mod append;
mod disk_full;
mod faults;
mod follow;
mod kill;
mod power_loss;
mod recovery;
mod support;
mod sync;
