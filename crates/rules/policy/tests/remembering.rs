//! A decider says what the policy says.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect, in their helpers too")]

mod common;

use std::sync::Arc;

use common::{World, calling, facts, name, parse};
use policy::{Approval, Decider, Policy, Ruling, shipped};
use proptest::prelude::*;
use vocabulary::{Class, Effect, Facts, Timestamp};

fn policies() -> Vec<Arc<Policy>> {
    let mut all: Vec<Arc<Policy>> =
        shipped::names().iter().map(|name| Arc::new(parse(shipped::source(name).unwrap()))).collect();
    all.push(Arc::new(parse(
        r#"
        permit (principal, action, resource) when { context.minute < 30 };
        @review("dba") forbid (principal, action == Action::"write", resource) unless { context.in_transaction };
        @review("dba") @approvals("2") forbid (principal, action, resource)
        when { context.verb == "DROP TABLE" } unless { context.approvals.contains("dba") };
        "#,
    )));
    all
}

fn commands() -> Vec<Arc<Facts>> {
    let mut all = Vec::new();
    for class in Class::ALL {
        all.push(facts("SELECT", class, &[]));
        all.push(facts("DROP TABLE", class, &["!public.carts"]));
        all.push(calling(facts("UPDATE", class, &["+public.carts", "x"]), "f", Effect::Write));
    }
    // The same facts once more, at another address.
    all.extend(all.clone());
    all.into_iter().map(Arc::new).collect()
}

proptest! {
    #[test]
    fn remembered_is_what_would_be_decided(
        policy in 0..4usize,
        asked in prop::collection::vec((0..48usize, any::<bool>(), 0..120u64, 0..3usize), 1..40),
    ) {
        let policy = Arc::clone(&policies()[policy]);
        let commands = commands();
        let mut decider = Decider::<Ruling>::new(Arc::clone(&policy));
        let start = World::default().now;
        for (command, in_transaction, minutes, approvals) in asked {
            let approvals = ["bob", "eve"][..approvals.min(2)]
                .iter()
                .map(|by| Approval { group: name("dba"), by: name(by) })
                .collect();
            let now = Timestamp(start.0 + minutes * 60_000_000);
            let world = World { in_transaction, now, approvals, ..World::default() };
            let facts = &commands[command];
            prop_assert_eq!(&*decider.decide(&world.scene(), facts), &policy.decide(&world.scene(), facts));
        }
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let careful = Arc::new(parse(shipped::source("careful").unwrap()));
    let mut decider = Decider::<Ruling>::new(Arc::clone(&careful));
    let world = World::default();
    for i in 0..3_000 {
        decider.decide(&world.scene(), &Arc::new(facts("SELECT", Class::Read, &[&format!("public.t{i}")])));
    }
    assert!(decider.len() <= 1_024, "{}", decider.len());
    decider.forget(careful);
    assert!(decider.is_empty());
}

#[test]
fn equal_facts_are_judged_once() {
    let mut decider = Decider::<Ruling>::new(Arc::new(parse(shipped::source("careful").unwrap())));
    let world = World::default();
    let first = decider.decide(&world.scene(), &Arc::new(common::select()));
    let second = decider.decide(&world.scene(), &Arc::new(common::select()));
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(decider.len(), 1);
}
