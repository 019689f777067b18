//! A small world to judge in.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by test programs that each use a part; tests say plainly what they expect"
)]

use std::collections::{BTreeMap, BTreeSet};

use policy::{Approval, Effect, Policy, Ruling, Scene, TargetView};
use vocabulary::{
    Class, CredentialId, Facts, FunctionUse, Name, ObjectUse, PrincipalId, PrincipalKind, ProvenBy,
    TargetKind, Timestamp, Usage, Who,
};

/// 23 November 2026 is a Monday.
pub const MONDAY_NINE: &str = "2026-11-23T09:00:00Z";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Everything that a scene is made of, owned.
pub struct World {
    pub who: Who,
    pub groups: Vec<Name>,
    pub person_groups: Vec<Name>,
    pub target: Name,
    pub kind: TargetKind,
    pub database: Option<String>,
    pub other_database: bool,
    pub labels: BTreeMap<String, String>,
    pub allow: BTreeSet<String>,
    pub client_addr: String,
    pub in_transaction: bool,
    pub now: Timestamp,
    pub approvals: Vec<Approval>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            who: Who {
                id: PrincipalId::from_bytes([1; 16]),
                kind: PrincipalKind::Agent,
                name: name("chatgpt"),
                on_behalf_of: Some(name("alice")),
                credential: CredentialId::from_bytes([2; 16]),
                proven_by: ProvenBy::ScramSha256,
            },
            groups: vec![name("bots")],
            person_groups: vec![name("dba")],
            target: name("orders"),
            kind: TargetKind::Postgres,
            database: Some("orders".to_owned()),
            other_database: false,
            labels: [("env".to_owned(), "prod".to_owned())].into(),
            allow: BTreeSet::new(),
            client_addr: "10.0.0.7:51234".to_owned(),
            in_transaction: false,
            now: MONDAY_NINE.parse().unwrap(),
            approvals: Vec::new(),
        }
    }
}

impl World {
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            who: &self.who,
            groups: &self.groups,
            person_groups: &self.person_groups,
            target: TargetView {
                name: &self.target,
                kind: self.kind,
                role: "app",
                database: self.database.as_deref(),
                other_database: self.other_database,
                labels: &self.labels,
                allow: &self.allow,
            },
            client_addr: &self.client_addr,
            in_transaction: self.in_transaction,
            now: self.now,
            approvals: &self.approvals,
        }
    }

    pub fn approved(mut self, group: &str, by: &[&str]) -> Self {
        self.approvals.extend(by.iter().map(|by| Approval { group: name(group), by: name(by) }));
        self
    }

    pub fn decide(&self, policy: &Policy, facts: &Facts) -> Ruling {
        policy.decide(&self.scene(), facts)
    }
}

pub fn parse(source: &str) -> Policy {
    Policy::parse(source).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

/// Facts of a command with a class, and objects as `+name` (written), `!name` (defined) or `name` (read).
pub fn facts(verb: &str, class: Class, objects: &[&str]) -> Facts {
    let objects = objects.iter().map(|object| match object.split_at(1) {
        ("+", name) => ObjectUse { name: name.to_owned(), usage: Usage::Write },
        ("!", name) => ObjectUse { name: name.to_owned(), usage: Usage::Define },
        _ => ObjectUse { name: (*object).to_owned(), usage: Usage::Read },
    });
    Facts { objects: objects.collect(), ..Facts::plain(verb, class) }
}

pub fn calling(mut facts: Facts, function: &str, effect: vocabulary::Effect) -> Facts {
    facts.functions.push(FunctionUse { name: function.to_owned(), effect });
    facts
}

pub fn select() -> Facts {
    facts("SELECT", Class::Read, &["public.carts"])
}

pub fn delete(has_where: bool) -> Facts {
    Facts { has_where: Some(has_where), ..facts("DELETE", Class::Write, &["+public.carts"]) }
}

/// One word for what was ruled.
pub fn word(ruling: &Ruling) -> String {
    match &ruling.effect {
        Effect::Permit => "permit".to_owned(),
        Effect::Forbid => "forbid".to_owned(),
        Effect::Review(requirement) => {
            let groups: Vec<&str> = requirement.groups.iter().map(Name::as_str).collect();
            format!("review by {}", groups.join("+"))
        }
    }
}
