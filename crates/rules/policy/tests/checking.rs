//! What is wrong with a policy is said with its place and what to do.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect, in their helpers too")]

use policy::{MAX_BYTES, Policy};

#[test]
fn each_mistake_has_its_sentence() {
    let mut said = String::new();
    for source in [
        "permit (principal, action, resource)",
        "permit (principal, action, resource);\nallow everything;",
        "permit (principal == Persons::\"alice\", action, resource);",
        "permit (principal, action == Action::\"writes\", resource);",
        "\n  permit (principal, action, resource)\n  when { context.has_were };",
        "permit (principal, action, resource) when { context.hour == \"9\" };",
        "permit (principal, action, resource) when { context.on_behalf_of == Person::\"alice\" };",
        "permit (principal, action, resource) when { resource.getTag(\"env\") == \"prod\" };",
        "permit (principal, action, resource) when { context.client_addr.isInRange(ip(\"10.0.0.0/99\")) };",
        "permit (principal == ?principal, action, resource);",
        "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal is Agent, action, resource);",
        "@reviw(\"dba\")\nforbid (principal, action, resource);",
        "// first\n\n@review(\"dba\") permit (principal, action, resource);",
        "@approvals(\"2\") forbid (principal, action, resource);",
        "@limit_rows(\"many\") permit (principal, action, resource);",
        "@colour(\"red\") permit (principal, action, resource);",
        "@review(\"dba\") forbid (principal, action == Action::\"connect\", resource);",
        "@sessions(\"5\") permit (principal, action in [Action::\"read\", Action::\"write\"], resource);",
        "@sessions(\"5\") permit (principal, action, resource in Schema::\"orders.public\");",
        "@sessions(\"5\") permit (principal, action in Action::\"command\", resource is Target);",
    ] {
        let error = Policy::parse(source).unwrap_err();
        said.push_str(&format!("{source}\n"));
        for problem in &error.problems {
            said.push_str(&format!("    → {problem}\n"));
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn what_can_never_match_is_warned_of() {
    let source = "permit (principal, action, resource);\nforbid (principal, action == Action::\"connect\", resource is Object);";
    let policy = Policy::parse(source).unwrap();
    assert_eq!(policy.warnings().len(), 1, "{:?}", policy.warnings());
    assert_eq!(policy.warnings()[0].line, 2);
}

#[test]
fn every_mistake_is_found_at_once() {
    let source = "permit (principal, action, resource) when { context.a };\npermit (principal, action, resource) when { context.b };";
    let lines: Vec<u32> =
        Policy::parse(source).unwrap_err().problems.iter().map(|found| found.line).collect();
    assert_eq!((lines.first(), lines.last()), (Some(&1), Some(&2)));
}

#[test]
fn hostile_texts_are_refused_or_compiled_but_never_crash() {
    let deep = format!(
        "permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(20_000),
        ")".repeat(20_000)
    );
    let nots = format!("permit (principal, action, resource) when {{ {}true }};", "!".repeat(5_000));
    let conjunctions =
        format!("permit (principal, action, resource) when {{ {} true }};", "true && ".repeat(20_000));
    let ifs = format!(
        "permit (principal, action, resource) when {{ {} true }};",
        "if true then true else ".repeat(5_000)
    );
    let dots = format!("permit (principal, action, resource) when {{ context{} }};", ".a".repeat(20_000));
    for source in
        [deep, nots, conjunctions, ifs, dots, "\0".to_owned(), "@".repeat(1_000), "permit".repeat(10_000)]
    {
        let _either = Policy::parse(&source);
    }
    // As deep as it may be.
    let full = format!("permit (principal, action, resource) when {{ {} true }};", "true && ".repeat(120));
    assert!(Policy::parse(&full).is_ok());
    let long: Vec<String> = (0..5_000).map(|i| format!("Object::\"orders.public.t{i}\"")).collect();
    let long = format!("permit (principal, action, resource) when {{ resource in [{}] }};", long.join(", "));
    assert!(Policy::parse(&long).is_ok());
    assert!(Policy::parse(&"/".repeat(MAX_BYTES + 1)).is_err());
    let many = "permit (principal, action, resource);".repeat(1_001);
    assert!(Policy::parse(&many).unwrap_err().to_string().contains("more than 1000 policies"));
}
