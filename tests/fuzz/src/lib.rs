//! Every parser of hostile bytes, one function a target: whatever the bytes are, it returns, and what it promises holds.
//! A target panics where a promise is broken. README.md says how they are run.

pub mod classify;
pub mod conversation;
pub mod identity;
pub mod journal;
pub mod ledger;
pub mod mutate;
pub mod target_url;
pub mod trail;
pub mod value;
pub mod wire;

/// Checks one input; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// All targets with their names, which are those of the folders in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("auth", wire::auth),
    ("backend", wire::backend),
    ("bundle", ledger::bundle),
    ("certificate", identity::certificate),
    ("checkpoint", ledger::checkpoint),
    ("classify", classify::classify),
    ("client_messages", conversation::client_messages),
    ("conversation", conversation::conversation),
    ("error_response", wire::error_response),
    ("frontend", wire::frontend),
    ("journal", journal::journal),
    ("leaf", trail::leaf),
    ("note", ledger::note),
    ("options", wire::options),
    ("packet", wire::packet),
    ("params", trail::params),
    ("proof", ledger::proof),
    ("record", trail::record),
    ("scram_client", identity::scram_client),
    ("scram_server", identity::scram_server),
    ("search_path", classify::search_path),
    ("shell", classify::shell),
    ("startup", wire::startup),
    ("target_url", target_url::target_url),
    ("tile_path", ledger::tile_path),
    ("tlog_proof", ledger::tlog_proof),
    ("token", identity::token),
    ("value", value::value),
    ("verifier_key", ledger::verifier_key),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// The bytes as text, if they are; targets that read text pass over all others.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Where to cut `length` bytes: everywhere near both ends, and at some places in between.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 64).max(1);
    (0..length).filter(move |at| *at < 16 || *at + 16 > length || at % step == 0)
}

/// Takes `N` bytes off the front, zeroes where there are fewer: what a target needs beside its input.
fn head<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let (front, rest) = data.split_at(N.min(data.len()));
    let mut bytes = [0; N];
    bytes.iter_mut().zip(front).for_each(|(slot, byte)| *slot = *byte);
    (bytes, rest)
}
