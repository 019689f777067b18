//! What policies look at of a session: who, in which groups, where.

use std::sync::Arc;

use policy::{Scene, TargetView};
use vocabulary::{Name, Timestamp, Who};

use crate::snapshot::{Snapshot, Target};

/// The part of a policy's scene that stays the same for a session until the control state changes.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    groups: Vec<Name>,
    person_groups: Vec<Name>,
    role: String,
    database: Option<String>,
    other_database: bool,
}

impl Stage {
    /// For a principal in front of a target. `database` is set if the client asked for one.
    pub(crate) fn new(snapshot: &Snapshot, who: &Who, target: &Arc<Target>, database: Option<&str>) -> Self {
        let groups = |name: &Name| snapshot.principals.get(name).map(|found| found.groups.clone());
        let own = target.database();
        Self {
            groups: groups(&who.name).unwrap_or_default(),
            person_groups: who.on_behalf_of.as_ref().and_then(groups).unwrap_or_default(),
            role: target.role(),
            other_database: database.is_some() && database != own.as_deref(),
            database: database.map(str::to_owned).or(own),
        }
    }

    /// The scene outside a transaction, now, with nothing approved; callers change what is otherwise.
    pub(crate) fn scene<'a>(&'a self, who: &'a Who, target: &'a Target, client_addr: &'a str) -> Scene<'a> {
        Scene {
            who,
            groups: &self.groups,
            person_groups: &self.person_groups,
            target: TargetView {
                name: &target.name,
                kind: target.kind,
                role: &self.role,
                database: self.database.as_deref(),
                other_database: self.other_database,
                labels: &target.labels,
                allow: &target.allow,
            },
            client_addr,
            in_transaction: false,
            now: Timestamp::now(),
            approvals: &[],
        }
    }
}
