//! The control state as the data path sees it: immutable, replaced as a whole, never queried.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use identity::Principal;
use policy::Policy;
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

impl Target {
    /// The role that the URL names; empty if it names none.
    #[must_use]
    pub fn role(&self) -> String {
        let authority = self.authority();
        let user = authority.rsplit_once('@').map(|(user, _)| user.split(':').next().unwrap_or_default());
        user.map_or_else(|| self.parameter("user").unwrap_or_default(), decoded)
    }

    /// The database that the URL names, or that the protocol takes if it names none.
    #[must_use]
    pub fn database(&self) -> Option<String> {
        match self.kind {
            TargetKind::Postgres => {
                let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
                let path = rest.split(['?', '#']).next().and_then(|rest| rest.split_once('/'));
                let named = path.map(|(_, path)| decoded(path)).filter(|name| !name.is_empty());
                let named = self.parameter("dbname").or(named).unwrap_or_else(|| self.role());
                (!named.is_empty()).then_some(named)
            }
            TargetKind::Ssh => None,
        }
    }

    fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.url.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Everything that the data path needs to know, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Principals by name.
    pub principals: HashMap<Name, Arc<Principal>>,
    /// Targets by name.
    pub targets: HashMap<Name, Arc<Target>>,
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// Grows with every change of the control state.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_and_database_are_read_from_the_url() {
        for (url, role, database) in [
            ("postgres://app@db:5432/orders", "app", "orders"),
            ("postgres://app@db", "app", "app"),
            ("postgres://a%40b@h1:1,h2:2/x%2Fy?sslmode=require", "a@b", "x/y"),
            ("postgres:///orders?host=/run/postgresql&user=app", "app", "orders"),
            ("postgres://app@db/orders?dbname=other", "app", "other"),
        ] {
            let target = Target {
                id: TargetId::from_bytes([1; 16]),
                name: "orders".parse().unwrap(),
                kind: TargetKind::Postgres,
                url: url.to_owned(),
                material: BTreeMap::new(),
                labels: BTreeMap::new(),
                allow: BTreeSet::new(),
            };
            assert_eq!(
                (target.role().as_str(), target.database().as_deref()),
                (role, Some(database)),
                "{url}"
            );
        }
    }
}
