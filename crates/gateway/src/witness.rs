//! Witnesses: the gateway's side, which asks them to cosign, and `trailgate witness up`, which is one.

pub mod ask;
mod compare;
pub mod serve;

pub use compare::compare;

use std::path::Path;

use ledger::WitnessPolicy;

use crate::cli::Failure;
use crate::settings::Settings;

/// The witness policy that the settings name.
///
/// # Errors
/// [`Failure`] if it can't be read or understood, or a witness in it has no URL.
pub fn policy(settings: &Settings) -> Result<Option<WitnessPolicy>, Failure> {
    let Some(path) = &settings.witness.policy else { return Ok(None) };
    let policy = read_policy(path)?;
    if let Some(witness) = policy.witnesses().iter().find(|witness| witness.url.is_none()) {
        return Err(Failure::new(
            format!("witness {} in {} has no URL", witness.name, path.display()),
            "write `witness NAME VKEY URL`: the gateway has to ask it",
        ));
    }
    Ok(Some(policy))
}

/// A policy file as c2sp.org/tlog-policy specifies it.
///
/// # Errors
/// [`Failure`] names the file and the line.
pub fn read_policy(path: &Path) -> Result<WitnessPolicy, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    WitnessPolicy::parse(&text).map_err(|error| {
        Failure::new(
            format!("{}: {error}", path.display()),
            "the format is c2sp.org/tlog-policy: witness NAME VKEY URL, group NAME K NAME…, quorum NAME",
        )
    })
}
