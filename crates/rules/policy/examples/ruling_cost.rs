//! What a ruling costs, in microseconds: cold (Cedar is asked) and remembered, for the shipped policies and one of a hundred rules.

#![expect(clippy::unwrap_used, reason = "an example may say plainly what it expects")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use policy::{Decider, Policy, Ruling, Scene, TargetView, shipped};
use vocabulary::{
    Class, CredentialId, Facts, Name, ObjectUse, PrincipalId, PrincipalKind, ProvenBy, TargetKind, Timestamp,
    Usage, Who,
};

const COLD: u32 = 5_000;
const REMEMBERED: u32 = 5_000_000;

fn main() {
    let name = |text: &str| text.parse::<Name>().unwrap();
    let who = Who {
        id: PrincipalId::from_bytes([1; 16]),
        kind: PrincipalKind::Agent,
        name: name("chatgpt"),
        on_behalf_of: Some(name("alice")),
        credential: CredentialId::from_bytes([2; 16]),
        proven_by: ProvenBy::ScramSha256,
    };
    let (groups, target) = ([name("bots"), name("readers")], name("orders"));
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let allow = BTreeSet::new();
    let scene = Scene {
        who: &who,
        groups: &groups,
        person_groups: &groups,
        target: TargetView {
            name: &target,
            kind: TargetKind::Postgres,
            role: "app",
            database: Some("orders"),
            other_database: false,
            labels: &labels,
            allow: &allow,
        },
        client_addr: "10.0.0.7:51234",
        in_transaction: true,
        now: Timestamp::now(),
        approvals: &[],
    };
    let object = |name: &str, usage| ObjectUse { name: name.to_owned(), usage };
    let commands = [
        ("SELECT of a table", {
            let objects = vec![object("public.carts", Usage::Read)];
            Facts { objects, ..Facts::plain("SELECT", Class::Read) }
        }),
        ("INSERT … SELECT", {
            let objects = vec![object("public.carts", Usage::Write), object("public.orders", Usage::Read)];
            Facts { objects, ..Facts::plain("INSERT", Class::Write) }
        }),
        ("not understood", Facts::unknown("UNKNOWN")),
    ];
    let hundred: String = (0..100)
        .map(|i| {
            format!("forbid (principal in Group::\"g{i}\", action, resource) when {{ context.verb == \"V{i}\" }};\n")
        })
        .collect();
    let mut policies: Vec<(&str, String)> =
        shipped::names().iter().map(|name| (*name, shipped::source(name).unwrap().to_owned())).collect();
    policies.push(("100 forbids", format!("permit (principal, action, resource);\n{hundred}")));
    println!("{:12} {:20} {:>12} {:>14}", "policy", "command", "cold µs", "remembered µs");
    for (policy_name, source) in &policies {
        let policy = Arc::new(Policy::parse(source).unwrap());
        for (command, facts) in &commands {
            let facts = Arc::new(facts.clone());
            let began = Instant::now();
            for _ in 0..COLD {
                black_box(policy.decide(black_box(&scene), black_box(&facts)));
            }
            let cold = began.elapsed().as_secs_f64() * 1e6 / f64::from(COLD);
            let mut decider = Decider::<Ruling>::new(Arc::clone(&policy));
            let began = Instant::now();
            for _ in 0..REMEMBERED {
                black_box(decider.decide(black_box(&scene), black_box(&facts)));
            }
            let remembered = began.elapsed().as_secs_f64() * 1e6 / f64::from(REMEMBERED);
            println!("{policy_name:12} {command:20} {cold:12.2} {remembered:14.4}");
        }
    }
    let began = Instant::now();
    for _ in 0..100 {
        black_box(Policy::parse(shipped::source("careful").unwrap()).unwrap());
    }
    println!("compiling `careful`: {:.0} µs", began.elapsed().as_secs_f64() * 1e4);
}
