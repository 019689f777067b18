//! The control state as the data path sees it: immutable, replaced as a whole, never queried.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use identity::Principal;
use vocabulary::{Name, TargetId, TargetKind};
use zeroize::Zeroizing;

/// Bytes that must not be shown: a password, a private key. Zeroed when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A place that principals reach through the gateway.
#[derive(Clone, Debug)]
pub struct Target {
    /// Stays the same when the target is renamed.
    pub id: TargetId,
    /// What clients call it.
    pub name: Name,
    /// The protocol it speaks.
    pub kind: TargetKind,
    /// Where it is, as its client library writes it, without any secret.
    pub url: String,
    /// Secrets and files that belong to the URL, by the name of the parameter: `password`, `sslrootcert`,
    /// `sslcert`, `sslkey`.
    pub material: BTreeMap<String, Secret>,
    /// What operators call it: `env=prod`.
    pub labels: BTreeMap<String, String>,
    /// Privileges beyond ordinary commands that this target grants: `replication`.
    pub allow: BTreeSet<String>,
}

/// Everything that the data path needs to know, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Principals by name.
    pub principals: HashMap<Name, Arc<Principal>>,
    /// Targets by name.
    pub targets: HashMap<Name, Arc<Target>>,
    /// Grows with every change of the control state.
    pub revision: u64,
}
