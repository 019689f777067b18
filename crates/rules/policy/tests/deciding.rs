//! What policies mean: each behaviour once.

#![allow(clippy::unwrap_used, reason = "tests say plainly what they expect, in their helpers too")]

mod common;

use std::time::Duration;

use common::{World, calling, delete, facts, name, parse, select, word};
use policy::{Effect, Policy};
use vocabulary::{Class, Facts, PrincipalKind, SettingChange, TargetKind, Usage, Verdict};

/// What a policy says of some commands, each in one word.
fn says(source: &str, world: &World, commands: &[Facts]) -> Vec<String> {
    let policy = parse(source);
    commands.iter().map(|facts| word(&world.decide(&policy, facts))).collect()
}

#[test]
fn what_nothing_permits_is_refused_with_a_sentence() {
    let ruling = World::default().decide(&parse(""), &select());
    assert_eq!(ruling.effect, Effect::Forbid);
    assert_eq!(ruling.words.reason, "no policy permits agent `chatgpt` read on orders.public.carts");
    assert!(ruling.words.advice.contains("ask whoever administers"), "{:?}", ruling.words);
    assert_eq!((ruling.decision.effect, ruling.decision.policies.len()), (Verdict::Forbid, 0));
}

#[test]
fn every_object_has_to_be_permitted_as_it_is_used() {
    let policy = r#"
        permit (principal, action == Action::"read", resource in Schema::"orders.public");
        permit (principal, action == Action::"write", resource == Object::"orders.public.carts");
    "#;
    let insert = |from: &str| facts("INSERT", Class::Write, &["+public.carts", from]);
    let commands = [
        insert("public.orders"),
        insert("secret.orders"),
        facts("INSERT", Class::Write, &["+public.orders", "public.carts"]),
        select(),
        facts("SELECT", Class::Read, &[]),
    ];
    let expected = ["permit", "forbid", "forbid", "permit", "forbid"];
    assert_eq!(says(policy, &World::default(), &commands), expected);
}

#[test]
fn a_target_holds_its_objects_and_a_label_its_targets() {
    for scope in [
        r#"resource in Target::"orders""#,
        r#"resource in Label::"env=prod""#,
        r#"resource) when { resource.hasTag("env") && resource.getTag("env") like "pr*" }"#,
        r#"resource) when { resource.target == Target::"orders" && resource.kind == "postgres" }"#,
        r#"resource) when { resource.role == "app" && resource.database == "orders" }"#,
    ] {
        let end = if scope.contains(')') { ";" } else { ");" };
        let policy = format!("permit (principal, action, {scope}{end}");
        assert_eq!(
            says(&policy, &World::default(), &[select(), delete(true)]),
            ["permit", "permit"],
            "{scope}"
        );
        let elsewhere = World {
            target: name("billing"),
            labels: [("env".to_owned(), "test".to_owned())].into(),
            kind: TargetKind::Postgres,
            database: None,
            ..World::default()
        };
        assert_eq!(says(&policy, &elsewhere, &[select()]), ["forbid"], "{scope}");
    }
}

#[test]
fn principals_are_known_by_kind_name_groups_and_person() {
    let world = World::default();
    let person = World {
        who: vocabulary::Who {
            kind: PrincipalKind::Person,
            name: name("alice"),
            on_behalf_of: None,
            ..world.who.clone()
        },
        groups: vec![name("dba")],
        person_groups: Vec::new(),
        ..World::default()
    };
    for (scope, agent_may, person_may) in [
        (r#"principal == Agent::"chatgpt""#, true, false),
        (r#"principal == Person::"chatgpt""#, false, false),
        (r#"principal in Group::"bots""#, true, false),
        // An agent is not in its person's groups.
        (r#"principal in Group::"dba""#, false, true),
        ("principal is Person", false, true),
        ("principal is Agent", true, false),
    ] {
        let policy = format!("permit ({scope}, action, resource);");
        for (world, may) in [(&world, agent_may), (&person, person_may)] {
            let expected = if may { "permit" } else { "forbid" };
            assert_eq!(says(&policy, world, &[select()]), [expected], "{scope}");
        }
    }
    let for_dba = r#"permit (principal, action, resource)
        when { context has on_behalf_of && context.on_behalf_of in Group::"dba" };"#;
    assert_eq!(says(for_dba, &world, &[select()]), ["permit"]);
    assert_eq!(says(for_dba, &person, &[select()]), ["forbid"]);
    let for_alice = r#"permit (principal is Agent, action, resource)
        when { principal has on_behalf_of && principal.on_behalf_of == Person::"alice" };"#;
    assert_eq!(says(for_alice, &world, &[select()]), ["permit"]);
}

#[test]
fn circumstances_count() {
    let world = World::default();
    let command = Facts {
        settings: vec![SettingChange { name: "role".to_owned(), value: None, local: false }],
        ..calling(delete(true), "lower", vocabulary::Effect::Pure)
    };
    for (condition, holds) in [
        (r#"context.verb == "DELETE""#, true),
        (r#"context.class == "write""#, true),
        ("context.has_where", true),
        ("context has has_where && !context.has_where", false),
        (r#"context.functions.contains("lower")"#, true),
        (r#"context.effects.containsAny(["network", "code"])"#, false),
        (r#"context.settings.contains("role")"#, true),
        ("context.in_transaction", false),
        ("context.lasting", false),
        (r#"context.client_addr.isInRange(ip("10.0.0.0/8"))"#, true),
        (r#"context.client_addr == ip("10.0.0.8")"#, false),
        ("context.hour == 9 && context.minute == 0 && context.weekday == 1", true),
        ("context.hour >= 18 || context.weekday > 5", false),
        (r#"context.approvals.contains("dba")"#, false),
    ] {
        let policy = format!("permit (principal, action, resource) when {{ {condition} }};");
        let expected = if holds { "permit" } else { "forbid" };
        assert_eq!(says(&policy, &world, std::slice::from_ref(&command)), [expected], "{condition}");
    }
}

const REVIEWED: &str = r#"
    permit (principal, action, resource);
    @id("no-where") @review("dba")
    forbid (principal, action == Action::"write", resource) unless { context.has_where };
"#;

#[test]
fn a_review_waits_for_its_group_and_is_lifted_by_it_alone() {
    let policy = parse(REVIEWED);
    let world = World::default();
    let ruling = world.decide(&policy, &delete(false));
    assert_eq!(word(&ruling), "review by dba");
    assert_eq!(
        (ruling.decision.effect, &ruling.decision.policies[..]),
        (Verdict::Forbid, &["no-where".to_owned()][..])
    );
    assert_eq!(ruling.words.approvers, "1 person of group `dba`");
    assert_eq!(word(&world.decide(&policy, &delete(true))), "permit");
    let others = World::default().approved("reviewers", &["bob"]);
    assert_eq!(word(&others.decide(&policy, &delete(false))), "review by dba");
    let lifted = World::default().approved("dba", &["bob"]).decide(&policy, &delete(false));
    assert_eq!(word(&lifted), "permit");
    assert!(lifted.decision.policies.contains(&"no-where".to_owned()), "{:?}", lifted.decision);
    assert!(!lifted.stable, "what was approved once must not be remembered");
}

#[test]
fn a_condition_on_approvals_is_the_same() {
    let policy = r#"
        permit (principal, action, resource);
        @review("dba") @approvals("2")
        forbid (principal, action == Action::"define", resource) unless { context.approvals.contains("dba") };
    "#;
    let drop = [facts("DROP TABLE", Class::Define, &["!public.carts"])];
    assert_eq!(says(policy, &World::default(), &drop), ["review by dba"]);
    let twice_the_same = World::default().approved("dba", &["bob", "bob"]);
    assert_eq!(says(policy, &twice_the_same, &drop), ["review by dba"], "one person counts once");
    assert_eq!(says(policy, &World::default().approved("dba", &["bob", "eve"]), &drop), ["permit"]);
}

#[test]
fn several_reviews_all_have_to_approve() {
    let policy = r#"
        permit (principal, action, resource);
        @review("dba") @approvals("2") @hold_for("30s") forbid (principal, action == Action::"write", resource);
        @review("legal") @note("required") @hold_for("5s")
        forbid (principal, action, resource == Object::"orders.public.carts");
    "#;
    let compiled = parse(policy);
    let Effect::Review(requirement) = World::default().decide(&compiled, &delete(true)).effect else {
        panic!("no review")
    };
    assert_eq!(requirement.groups, [name("dba"), name("legal")]);
    assert_eq!((requirement.approvals, requirement.note_required), (2, true));
    assert_eq!(requirement.hold_for, Some(Duration::from_secs(5)));
    let half = World::default().approved("dba", &["bob", "eve"]);
    assert_eq!(says(policy, &half, &[delete(true)]), ["review by legal"]);
    assert_eq!(says(policy, &half.approved("legal", &["ann"]), &[delete(true)]), ["permit"]);
}

#[test]
fn a_plain_forbid_wins_and_a_review_permits_nothing() {
    let with_forbid = format!(
        r#"{REVIEWED} @id("never") forbid (principal, action, resource == Object::"orders.public.carts");"#
    );
    let ruling = World::default().approved("dba", &["bob"]).decide(&parse(&with_forbid), &delete(false));
    assert_eq!(
        (word(&ruling).as_str(), &ruling.decision.policies[..]),
        ("forbid", &["never".to_owned()][..])
    );
    let only_review = r#"@review("dba") forbid (principal, action, resource);"#;
    assert_eq!(says(only_review, &World::default(), &[select()]), ["forbid"], "approval would not help");
    assert_eq!(says(only_review, &World::default().approved("dba", &["bob"]), &[select()]), ["forbid"]);
}

#[test]
fn connecting_is_permitted_or_not_but_never_waits() {
    let world = World::default();
    assert_eq!(word(&parse("").connect(&world.scene())), "forbid");
    let reviewed = parse(
        r#"permit (principal, action, resource); @review("dba") forbid (principal, action, resource);"#,
    );
    assert_eq!(word(&reviewed.connect(&world.scene())), "permit");
    assert_eq!(word(&world.decide(&reviewed, &facts("SET", Class::Session, &[]))), "review by dba");
    let away = parse(
        r#"permit (principal, action, resource);
           @id("office") @advice("come through the VPN")
           forbid (principal, action == Action::"connect", resource)
           unless { context.client_addr.isInRange(ip("192.168.0.0/16")) };"#,
    );
    let ruling = away.connect(&world.scene());
    assert_eq!(ruling.words.reason, "policy `office` forbids connect to orders");
    assert_eq!(ruling.words.advice, "come through the VPN");
    assert!(!ruling.stable);
}

#[test]
fn the_worst_that_a_command_does_is_demanded() {
    let write_only = r#"permit (principal, action in [Action::"read", Action::"write"], resource);"#;
    let commands = [
        // A function that administers, in a read of a table.
        calling(
            facts("SELECT", Class::Administer, &["public.carts"]),
            "pg_read_file",
            vocabulary::Effect::File,
        ),
        facts("GRANT", Class::Administer, &["!public.carts"]),
        facts("COPY", Class::Execute, &["+public.carts"]),
        facts("SELECT INTO", Class::Define, &["!public.copy", "public.carts"]),
        calling(facts("SELECT", Class::Write, &["public.carts"]), "nextval", vocabulary::Effect::Write),
    ];
    let expected = ["forbid", "forbid", "forbid", "forbid", "permit"];
    assert_eq!(says(write_only, &World::default(), &commands), expected);
    // Rows may be locked where they may be written, and only there.
    let one_table = r#"
        permit (principal, action == Action::"read", resource);
        permit (principal, action == Action::"write", resource == Object::"orders.public.carts");
    "#;
    let locking = |table: &str| facts("SELECT", Class::Write, &[table]);
    let next = calling(locking("public.carts"), "nextval", vocabulary::Effect::Write);
    let said = says(one_table, &World::default(), &[locking("public.carts"), locking("public.orders"), next]);
    assert_eq!(said, ["permit", "forbid", "forbid"]);
}

#[test]
fn a_function_can_be_forbidden_by_name() {
    let policy = r#"
        permit (principal, action, resource) unless { action == Action::"call" };
        @id("no-kill")
        forbid (principal, action == Action::"call", resource == Function::"orders.pg_terminate_backend");
        @review("dba")
        forbid (principal, action == Action::"call", resource) when { resource.effect == "network" };
    "#;
    let call = |function, effect| [calling(facts("SELECT", Class::Administer, &[]), function, effect)];
    let world = World::default();
    use vocabulary::Effect::{Administer, Network, Pure};
    assert_eq!(says(policy, &world, &call("pg_terminate_backend", Administer)), ["forbid"]);
    assert_eq!(
        says(policy, &world, &call("pg_cancel_backend", Administer)),
        ["permit"],
        "needs no permit of its own"
    );
    assert_eq!(says(policy, &world, &call("dblink", Network)), ["review by dba"]);
    assert_eq!(says(policy, &world, &call("lower", Pure)), ["permit"]);
}

#[test]
fn the_unknown_needs_every_permit_and_meets_every_forbid() {
    let unknown = [Facts::unknown("UNKNOWN")];
    let world = World::default();
    for (policy, expected) in [
        ("permit (principal, action, resource);", "permit"),
        (r#"permit (principal, action in Action::"command", resource);"#, "permit"),
        (r#"permit (principal, action in Action::"change", resource);"#, "forbid"),
        (r#"permit (principal, action == Action::"execute", resource);"#, "forbid"),
        (r#"permit (principal, action, resource in Schema::"orders.public");"#, "forbid"),
        // A permit that depends on what it does can't be counted on.
        (r#"permit (principal, action, resource) unless { context.verb == "DROP TABLE" };"#, "forbid"),
        (r#"permit (principal, action, resource) when { resource.name != "public.secrets" };"#, "forbid"),
        // One that depends on the circumstances can.
        ("permit (principal, action, resource) when { context.hour < 18 };", "permit"),
        (r#"permit (principal, action, resource) when { resource.target == Target::"orders" };"#, "permit"),
    ] {
        assert_eq!(says(policy, &world, &unknown), [expected], "{policy}");
    }
    for (forbid, expected) in [
        (r#"forbid (principal, action == Action::"define", resource);"#, "forbid"),
        (
            r#"forbid (principal, action == Action::"read", resource == Object::"orders.public.secrets");"#,
            "forbid",
        ),
        (r#"forbid (principal, action, resource in Schema::"orders.secret");"#, "forbid"),
        (r#"forbid (principal, action, resource == Function::"orders.dblink");"#, "forbid"),
        (r#"forbid (principal, action, resource == Object::"billing.public.secrets");"#, "permit"),
        (r#"forbid (principal, action, resource in Target::"billing");"#, "permit"),
        (
            r#"forbid (principal, action == Action::"write", resource) unless { context.has_where };"#,
            "forbid",
        ),
        (r#"forbid (principal, action, resource) when { context.verb == "TRUNCATE TABLE" };"#, "forbid"),
        (r#"forbid (principal, action, resource) when { resource.name like "secret*" };"#, "forbid"),
        (r#"forbid (principal, action, resource is Object);"#, "forbid"),
        (r#"forbid (principal, action, resource) when { context.hour >= 18 };"#, "permit"),
        (r#"forbid (principal == Agent::"other", action, resource);"#, "permit"),
        (r#"@review("dba") forbid (principal, action == Action::"define", resource);"#, "review by dba"),
    ] {
        let policy = format!("permit (principal, action, resource); {forbid}");
        assert_eq!(says(&policy, &world, &unknown), [expected], "{forbid}");
    }
}

#[test]
fn what_runs_code_meets_every_forbid_on_what_code_can_do() {
    let code = [facts("DO", Class::Execute, &[])];
    let world = World::default();
    for (forbid, expected) in [
        (
            r#"forbid (principal, action == Action::"write", resource == Object::"orders.public.secrets");"#,
            "forbid",
        ),
        (r#"forbid (principal, action == Action::"define", resource);"#, "forbid"),
        (r#"forbid (principal, action, resource) when { resource.name like "*.secrets" };"#, "forbid"),
        (r#"forbid (principal, action == Action::"forward", resource);"#, "permit"),
        (r#"forbid (principal, action == Action::"connect", resource);"#, "permit"),
        // Whatever the condition on commands is: the code may run one that fits.
        (
            r#"forbid (principal, action == Action::"write", resource) unless { context.has_where };"#,
            "forbid",
        ),
        (r#"forbid (principal, action, resource) when { context.verb == "TRUNCATE TABLE" };"#, "forbid"),
        (
            r#"@review("dba") forbid (principal, action == Action::"write", resource) when { context.verb == "DELETE" };"#,
            "review by dba",
        ),
        (
            r#"forbid (principal, action == Action::"execute", resource) when { context.verb == "CALL" };"#,
            "permit",
        ),
        (
            r#"forbid (principal, action == Action::"define", resource) when { context.hour >= 18 };"#,
            "permit",
        ),
    ] {
        let policy = format!("permit (principal, action, resource); {forbid}");
        assert_eq!(says(&policy, &world, &code), [expected], "{forbid}");
    }
    let execute_only = r#"permit (principal, action == Action::"execute", resource);"#;
    assert_eq!(says(execute_only, &world, &code), ["permit"]);
    let but = r#"permit (principal, action, resource) unless { resource.name == "public.secrets" };"#;
    assert_eq!(says(but, &world, &code), ["forbid"]);
}

#[test]
fn what_is_defined_without_its_schema_may_be_any_unless_it_lives_in_none() {
    let policy = r#"
        permit (principal, action, resource);
        forbid (principal, action == Action::"define", resource == Object::"orders.public.secrets");
    "#;
    let world = World::default();
    assert_eq!(says(policy, &world, &[facts("DROP TABLE", Class::Define, &["!secrets"])]), ["forbid"]);
    assert_eq!(says(policy, &world, &[facts("CREATE SCHEMA", Class::Define, &["!shop"])]), ["permit"]);
}

#[test]
fn what_a_command_runs_within_it_counts_by_its_own_verb() {
    let of = |verb: &str, inner: &[&str]| {
        let inner_verbs = inner.iter().map(|&verb| verb.to_owned()).collect();
        [Facts { inner_verbs, ..facts(verb, Class::Write, &["+public.carts"]) }]
    };
    let world = World::default();
    let deletes = r#"
        permit (principal, action, resource);
        @review("dba") forbid (principal, action == Action::"write", resource) when { context.verb == "DELETE" };
    "#;
    for (verb, inner) in [("DELETE", &[][..]), ("SELECT", &["DELETE"]), ("EXECUTE", &["DELETE", "INSERT"])] {
        assert_eq!(says(deletes, &world, &of(verb, inner)), ["review by dba"], "{verb}");
    }
    assert_eq!(says(deletes, &world, &of("SELECT", &["INSERT"])), ["permit"]);
    let selects = r#"permit (principal, action, resource) when { context.verb == "SELECT" };"#;
    assert_eq!(says(selects, &world, &of("SELECT", &["DELETE"])), ["forbid"]);
}

#[test]
fn a_table_without_its_schema_may_be_any() {
    let policy = r#"
        permit (principal, action, resource);
        forbid (principal, action == Action::"write", resource == Object::"orders.public.secrets");
    "#;
    let commands = [
        facts("DELETE", Class::Write, &["+carts"]),
        facts("SELECT", Class::Read, &["carts"]),
        facts("DELETE", Class::Write, &["+public.carts"]),
        facts("CREATE SCHEMA", Class::Define, &["!carts"]),
    ];
    assert_eq!(says(policy, &World::default(), &commands), ["forbid", "permit", "permit", "permit"]);
    let paths = World { kind: TargetKind::Postgres, ..World::default() };
    let one = r#"permit (principal, action, resource in Schema::"orders.public");"#;
    assert_eq!(says(one, &paths, &[facts("SELECT", Class::Read, &["carts"])]), ["forbid"]);
}

#[test]
fn a_whole_schema_is_all_that_it_holds() {
    let world = World::default();
    let commands = [
        facts("DROP SCHEMA", Class::Define, &["!public"]),
        facts("GRANT", Class::Administer, &["!public.*"]),
        facts("DROP SCHEMA", Class::Define, &["!app"]),
    ];
    for (forbid, public, app) in [
        (r#"forbid (principal, action, resource == Object::"orders.public.salaries");"#, "forbid", "permit"),
        (r#"forbid (principal, action, resource in Object::"orders.public.salaries");"#, "forbid", "permit"),
        (r#"forbid (principal, action, resource in Schema::"orders.public");"#, "forbid", "permit"),
        (r#"forbid (principal, action, resource == Object::"orders.public");"#, "forbid", "permit"),
        (r#"forbid (principal, action, resource == Function::"orders.public.f");"#, "forbid", "permit"),
        (r#"forbid (principal, action, resource == Function::"orders.lo_unlink");"#, "permit", "permit"),
        (r#"forbid (principal, action, resource in Target::"orders");"#, "forbid", "forbid"),
        (r#"forbid (principal, action, resource in Target::"billing");"#, "permit", "permit"),
        (r#"forbid (principal, action, resource is Object);"#, "forbid", "forbid"),
        (r#"forbid (principal, action, resource is Function);"#, "permit", "permit"),
        // Another database's, another target's, and another schema's with a dot in its name.
        (
            r#"forbid (principal, action, resource == Object::"orders/x.public.salaries");"#,
            "permit",
            "permit",
        ),
        (r#"forbid (principal, action, resource == Object::"billing.public.salaries");"#, "permit", "permit"),
        (
            r#"forbid (principal, action, resource == Object::"orders.\"public.x\".salaries");"#,
            "permit",
            "permit",
        ),
        // A condition may hold of an object that is in it, unless it is the same for all of a schema.
        (r#"forbid (principal, action, resource) when { resource.name like "*.sal*" };"#, "forbid", "forbid"),
        (
            r#"forbid (principal, action, resource) when { resource in Schema::"orders.public" };"#,
            "forbid",
            "permit",
        ),
        (
            r#"forbid (principal, action, resource == Object::"orders.public.salaries")
               unless { resource in [Schema::"orders.app", Schema::"orders.public"] };"#,
            "permit",
            "permit",
        ),
        // It is asked as what it does: it reads nothing.
        (
            r#"forbid (principal, action == Action::"read", resource == Object::"orders.public.salaries");"#,
            "permit",
            "permit",
        ),
        (
            r#"@review("dba") forbid (principal, action, resource == Object::"orders.public.salaries");"#,
            "review by dba",
            "permit",
        ),
    ] {
        let policy = format!("permit (principal, action, resource); {forbid}");
        assert_eq!(says(&policy, &world, &commands), [public, public, app], "{forbid}");
    }
    let policy = r#"permit (principal, action, resource);
        @id("no-salaries") forbid (principal, action, resource == Object::"orders.public.salaries");"#;
    let ruling = world.decide(&parse(policy), &commands[0]);
    assert_eq!(ruling.words.reason, "policy `no-salaries` forbids define on everything in orders.public");
    // The same name as that of an object, in one command.
    let moved = facts("ALTER EXTENSION", Class::Define, &["!public", "!public.*"]);
    assert_eq!(says(policy, &world, &[moved]), ["forbid"]);
    let archive = World { database: Some("archive".to_owned()), other_database: true, ..World::default() };
    assert_eq!(says(policy, &archive, &commands[..1]), ["permit"]);
}

#[test]
fn a_whole_schema_needs_a_permit_for_all_that_it_holds() {
    let dropped = [
        facts("DROP SCHEMA", Class::Define, &["!app"]),
        facts("DROP SCHEMA", Class::Define, &["!public"]),
        facts("CREATE PUBLICATION", Class::Administer, &["app.*"]),
    ];
    for (permit, expected) in [
        (
            r#"permit (principal, action, resource in Schema::"orders.app");
               permit (principal, action == Action::"administer", resource == Target::"orders");"#,
            ["permit", "forbid", "permit"],
        ),
        (
            r#"permit (principal, action == Action::"define", resource) when { resource in Schema::"orders.app" };"#,
            ["permit", "forbid", "forbid"],
        ),
        (
            r#"permit (principal, action, resource == Object::"orders.app.carts");"#,
            ["forbid", "forbid", "forbid"],
        ),
        (
            r#"permit (principal, action == Action::"define", resource) when { resource.name like "app*" };"#,
            ["forbid", "forbid", "forbid"],
        ),
        (
            r#"permit (principal, action == Action::"define", resource is Object);"#,
            ["permit", "permit", "forbid"],
        ),
    ] {
        assert_eq!(says(permit, &World::default(), &dropped), expected, "{permit}");
    }
}

#[test]
fn what_only_the_server_can_tell_is_any_object() {
    let commands = [
        facts("DROP OWNED", Class::Administer, &["!*"]),
        facts("DROP DATABASE", Class::Administer, &["!*", "!orders"]),
        facts("CREATE PUBLICATION", Class::Administer, &["*", "!p"]),
    ];
    let world = World::default();
    for (policy, expected) in [
        (r#"forbid (principal, action, resource == Object::"orders.public.salaries");"#, "forbid"),
        (r#"forbid (principal, action, resource in Schema::"orders.public");"#, "forbid"),
        (r#"forbid (principal, action, resource == Object::"billing.public.salaries");"#, "permit"),
    ] {
        let policy = format!("permit (principal, action, resource); {policy}");
        assert_eq!(says(&policy, &world, &commands), [expected; 3], "{policy}");
    }
    let administers = r#"permit (principal, action == Action::"administer", resource);"#;
    assert_eq!(says(administers, &world, &commands), ["forbid"; 3]);
    // A path of another protocol is a path.
    let ssh = World { kind: TargetKind::Ssh, ..World::default() };
    let path = r#"permit (principal, action, resource == Object::"orders.*");"#;
    assert_eq!(says(path, &ssh, &[facts("cat", Class::Read, &["*"])]), ["permit"]);
}

#[test]
fn sessions_are_counted_by_every_permit_that_who_enters_may_come_to_use() {
    let world = World::default();
    for (permit, counted) in [
        ("permit (principal, action, resource);", Some(3)),
        (r#"permit (principal, action, resource) when { context.class == "read" };"#, Some(3)),
        (r#"permit (principal, action, resource) unless { action == Action::"connect" };"#, Some(3)),
        (r#"permit (principal, action, resource) when { context.in_transaction };"#, Some(3)),
        (r#"permit (principal, action, resource) when { resource.name like "public.*" };"#, Some(3)),
        (
            r#"permit (principal, action in [Action::"connect", Action::"read"], resource in Target::"orders");"#,
            Some(3),
        ),
        (r#"permit (principal, action, resource in Label::"env=prod");"#, Some(3)),
        (r#"permit (principal, action == Action::"connect", resource is Target);"#, Some(3)),
        // Others, elsewhere, and at other times.
        ("permit (principal is Person, action, resource);", None),
        (r#"permit (principal, action, resource in Target::"billing");"#, None),
        (r#"permit (principal, action, resource) when { context.hour >= 18 };"#, None),
    ] {
        let policy = format!("permit (principal, action, resource); @sessions(\"3\") {permit}");
        let ruling = parse(&policy).connect(&world.scene());
        assert_eq!((word(&ruling).as_str(), ruling.budget.sessions), ("permit", counted), "{permit}");
    }
}

#[test]
fn another_database_has_other_objects() {
    let policy = r#"permit (principal, action, resource == Object::"orders/archive.public.carts");"#;
    let archive = World { database: Some("archive".to_owned()), other_database: true, ..World::default() };
    assert_eq!(says(policy, &archive, &[select()]), ["permit"]);
    assert_eq!(says(policy, &World::default(), &[select()]), ["forbid"]);
}

#[test]
fn obligations_and_budgets_are_the_strictest_of_the_permits() {
    let policy = parse(
        r#"
        @limit_rows("1000") @timeout("5s") @commands_per_minute("600") @sessions("9")
        permit (principal, action, resource);
        @limit_rows("50") @read_only @record_rows("1MiB") @rows_per_hour("10000") @commands_per_minute("900")
        permit (principal, action == Action::"read", resource);
        "#,
    );
    let world = World::default();
    let read = world.decide(&policy, &select());
    assert_eq!(read.obligations.limit_rows, Some(50));
    assert_eq!((read.obligations.timeout_ms, read.obligations.read_only), (Some(5_000), true));
    assert_eq!(read.obligations.record_rows, Some(1 << 20));
    assert_eq!((read.budget.commands_per_minute, read.budget.rows_per_hour), (Some(600), Some(10_000)));
    let write = world.decide(&policy, &delete(true));
    assert_eq!((write.obligations.limit_rows, write.obligations.read_only), (Some(1000), false));
    assert_eq!(policy.connect(&world.scene()).budget.sessions, Some(9));
    let refused = parse(r#"@limit_rows("5") permit (principal, action == Action::"read", resource);"#);
    assert!(world.decide(&refused, &delete(true)).obligations.is_empty());
}

#[test]
fn a_policy_that_fails_refuses() {
    let overflow = "permit (principal, action, resource);
        forbid (principal, action, resource) when { context.hour * 9223372036854775807 == 1 };";
    let ruling = World::default().decide(&parse(overflow), &select());
    assert_eq!(ruling.effect, Effect::Forbid);
    assert!(ruling.words.reason.contains("could not be evaluated"), "{:?}", ruling.words);
}

#[test]
fn stable_is_what_looks_at_the_command_alone() {
    let world = World::default();
    for (condition, stable) in [
        (r#"context.verb == "DELETE" && resource.name like "x*" && context.has_where"#, true),
        ("context.hour < 8", false),
        ("context.in_transaction", false),
        (r#"context.client_addr.isLoopback()"#, false),
        (r#"context.approvals.contains("x")"#, false),
        (r#"if principal is Agent then context.weekday == 1 else true"#, false),
    ] {
        let policy = parse(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        assert_eq!(world.decide(&policy, &select()).stable, stable, "{condition}");
    }
}

#[test]
fn hostile_names_stay_names() {
    let policy = parse(r#"permit (principal, action, resource == Object::"orders.public.carts");"#);
    for object in
        ["public.carts\"", "", ".", "\"", "public.\"carts\"", "ünï.cödé", "\0", "a\u{202e}b", "'; --"]
    {
        let facts = Facts {
            objects: vec![vocabulary::ObjectUse { name: object.to_owned(), usage: Usage::Read }],
            ..calling(facts("SELECT", Class::Read, &[]), object, vocabulary::Effect::Write)
        };
        assert_eq!(word(&World::default().decide(&policy, &facts)), "forbid", "{object:?}");
    }
    let many: Vec<String> = (0..5_000).map(|i| format!("public.t{i}")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).collect();
    let all = Policy::parse(
        r#"permit (principal, action, resource); forbid (principal == Agent::"x", action, resource);"#,
    );
    assert_eq!(
        word(&World::default().decide(&all.unwrap(), &facts("SELECT", Class::Read, &names))),
        "permit"
    );
}
