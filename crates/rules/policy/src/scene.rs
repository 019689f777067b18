//! Who asks, where, and under which circumstances: all that a policy knows besides the command's own facts.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{Name, TargetKind, Timestamp, Who};

/// A target as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct TargetView<'a> {
    /// What clients call it.
    pub name: &'a Name,
    /// The protocol it speaks.
    pub kind: TargetKind,
    /// The role that the gateway logs in as there; empty where the protocol has none.
    pub role: &'a str,
    /// The database that the session is in, where the protocol has them.
    pub database: Option<&'a str>,
    /// Whether that is another database than the one the target's URL names.
    pub other_database: bool,
    /// What operators call it: `env=prod`.
    pub labels: &'a BTreeMap<String, String>,
    /// Privileges beyond ordinary commands that it grants.
    pub allow: &'a BTreeSet<String>,
}

/// One person's approval, given for one of the groups that a review asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Approval {
    /// The group that was asked.
    pub group: Name,
    /// Who approved. Two approvals of one person for one group count once.
    pub by: Name,
}

/// Everything that a policy may look at besides the command's facts.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The principal, and the person it acts for.
    pub who: &'a Who,
    /// Groups of the principal itself.
    pub groups: &'a [Name],
    /// Groups of the person it acts for.
    pub person_groups: &'a [Name],
    /// Where the command goes.
    pub target: TargetView<'a>,
    /// `address:port`, an address, or `unix:…`. What is no address of the network counts as `127.0.0.1` if it
    /// begins with `unix:` or is empty, and as `255.255.255.255` otherwise.
    pub client_addr: &'a str,
    /// Whether an explicit transaction is under way for certain.
    pub in_transaction: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// What was approved for this very command.
    pub approvals: &'a [Approval],
}
