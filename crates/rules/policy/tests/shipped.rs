//! The policies that come with the gateway, as one table that a person can review.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect, in their helpers too")]

mod common;

use common::{World, calling, delete, facts, parse, select, word};
use policy::{Policy, shipped};
use vocabulary::{Class, Effect, Facts};

fn situations() -> Vec<(&'static str, Facts)> {
    let write = |verb, objects: &[&str]| facts(verb, Class::Write, objects);
    let lasting = |facts: Facts| Facts { outlives_rollback: true, ..facts };
    vec![
        ("session   BEGIN", facts("BEGIN", Class::Session, &[])),
        ("session   SET", facts("SET", Class::Session, &[])),
        ("read      SELECT of a table", select()),
        ("read      SELECT of nothing", facts("SELECT", Class::Read, &[])),
        ("write     INSERT", write("INSERT", &["+public.carts"])),
        ("write     INSERT … SELECT", write("INSERT", &["+public.carts", "public.orders"])),
        ("write     DELETE with WHERE", delete(true)),
        ("write     DELETE without WHERE", delete(false)),
        ("write     SELECT … FOR UPDATE", write("SELECT", &["public.carts"])),
        ("write     TRUNCATE", write("TRUNCATE TABLE", &["+public.carts"])),
        (
            "write     SELECT nextval",
            lasting(calling(facts("SELECT", Class::Write, &[]), "nextval", Effect::Write)),
        ),
        ("define    DROP TABLE", facts("DROP TABLE", Class::Define, &["!public.carts"])),
        ("define    SELECT INTO", facts("SELECT INTO", Class::Define, &["!public.copy", "public.carts"])),
        ("administer GRANT", facts("GRANT", Class::Administer, &["!public.carts"])),
        (
            "administer pg_read_file",
            calling(facts("SELECT", Class::Administer, &[]), "pg_read_file", Effect::File),
        ),
        ("execute   DO", lasting(facts("DO", Class::Execute, &[]))),
        ("execute   COPY … PROGRAM", lasting(facts("COPY", Class::Execute, &["public.carts"]))),
        ("transfer  upload", facts("PUT", Class::Transfer, &["+/etc/passwd"])),
        ("transfer  forwarding", facts("FORWARD", Class::Transfer, &[])),
        ("unknown   SELECT of an own function", {
            calling(facts("SELECT", Class::Unknown, &[]), "total_of", Effect::Unknown)
        }),
        ("unknown   not parsed", Facts::unknown("UNKNOWN")),
    ]
}

#[test]
fn the_table_of_what_the_shipped_policies_say() {
    let mut table = format!("{:38}", "");
    let policies: Vec<(&str, Policy)> =
        shipped::names().into_iter().map(|name| (name, parse(shipped::source(name).unwrap()))).collect();
    for (name, _) in &policies {
        table.push_str(&format!("{name:24}{:24}", "… in a transaction"));
    }
    let outside = World::default();
    let inside = World { in_transaction: true, ..World::default() };
    table = format!("{}\n{:38}", table.trim_end(), "connect");
    for (_, policy) in &policies {
        table.push_str(&format!("{:48}", word(&policy.connect(&outside.scene()))));
    }
    for (situation, facts) in situations() {
        table = format!("{}\n{situation:38}", table.trim_end());
        for (_, policy) in &policies {
            for world in [&outside, &inside] {
                table.push_str(&format!("{:24}", word(&world.decide(policy, &facts))));
            }
        }
    }
    insta::assert_snapshot!(table.trim_end());
}

#[test]
fn what_the_shipped_policies_tell_the_client() {
    let mut said = String::new();
    for name in shipped::names() {
        let policy = parse(shipped::source(name).unwrap());
        for facts in [delete(false), Facts::unknown("UNKNOWN")] {
            let ruling = World::default().decide(&policy, &facts);
            let words = &ruling.words;
            said.push_str(&format!(
                "{name}, {}: {}\n  by {:?}\n  reason: {}\n  approvers: {}\n  advice: {}\n",
                facts.verb,
                word(&ruling),
                ruling.decision.policies,
                words.reason,
                words.approvers,
                words.advice
            ));
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn shipped_policies_are_found_by_name_and_have_no_warnings() {
    for name in shipped::names() {
        let source = Policy::shipped(name).unwrap();
        assert_eq!(shipped::name_of(source), Some(name));
        assert_eq!(parse(source).warnings(), []);
    }
    assert_eq!(Policy::shipped("nothing"), None);
}

#[test]
fn what_is_built_in_says_what_its_text_compiles_to() {
    let world = World::default();
    for (built_in, name) in [(Policy::observe(), "observe"), (Policy::locked(), "locked")] {
        let compiled = parse(shipped::source(name).unwrap());
        assert_eq!(built_in.hash(), compiled.hash());
        assert_eq!(built_in.source(), compiled.source());
        for (_, facts) in situations() {
            let (one, other) = (world.decide(&built_in, &facts), world.decide(&compiled, &facts));
            assert_eq!(
                (&one.effect, &one.decision, one.stable),
                (&other.effect, &other.decision, other.stable)
            );
            assert_eq!(one.words.advice, other.words.advice);
        }
    }
    assert!(parse(shipped::source("observe").unwrap()).constant().is_some(), "no Cedar per command");
}
