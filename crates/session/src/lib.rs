//! The only place that judges, records and forwards.

pub mod snapshot;
