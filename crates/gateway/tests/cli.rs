//! What can be typed.

use clap::{CommandFactory, Parser};
use gateway::cli::args::{Cli, Command, Principal, Target, TrailCommand};

fn parsed(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_contract_is_there() {
    for line in [
        "trailgate up",
        "trailgate up --config f --data d --postgres-listen 127.0.0.1:0 --web-listen 127.0.0.1:0 --ssh-listen 127.0.0.1:0",
        "trailgate demo --keep",
        "trailgate target add orders postgres://app:secret@db:5432/orders --label env=prod --label team=a --allow replication",
        "trailgate target list --json",
        "trailgate target show orders",
        "trailgate target test orders",
        "trailgate target remove orders",
        "trailgate agent add chatgpt --for alice --group g1 --group g2 --expires 90d",
        "trailgate agent rotate chatgpt --grace 1h --expires never",
        "trailgate agent disable chatgpt",
        "trailgate agent enable chatgpt",
        "trailgate agent remove chatgpt",
        "trailgate person add alice --role administrator --role auditor",
        "trailgate person list",
        "trailgate service show etl",
        "trailgate connect chatgpt orders",
        "trailgate policy check shop.cedar",
        "trailgate policy apply careful",
        "trailgate policy show",
        "trailgate policy history --json",
        "trailgate policy explain --principal chatgpt --target orders --in-transaction --json DELETE",
        "trailgate policy explain --principal p --target t --policy f --from 10.0.0.1 --at 2026-11-23T22:00:00Z --approved-by g",
        "trailgate policy test policies",
        "trailgate trail",
        "trailgate trail --json --limit 5 --data d",
        "trailgate trail list --principal p --target t --kind command --class write --status ok --since 1h --until 2026-11-23 --grep x --session 00000000000000000000000000 --limit 1",
        "trailgate trail tail --kind command",
        "trailgate trail show 00000000000000000000000000-3",
        "trailgate trail erase 00000000000000000000000000 --reason GDPR-17",
        "trailgate trail verify --data d",
        "trailgate doctor --wait --timeout 5s --json",
    ] {
        parsed(line);
    }
}

#[test]
fn what_is_typed_arrives() {
    let Command::Target(Target::Add(add)) =
        parsed("trailgate target add o postgres://h/d --label a=b=c").command
    else {
        panic!("a target");
    };
    assert_eq!(add.labels, [("a".to_owned(), "b=c".to_owned())]);
    let Command::Agent(Principal::Add(add)) =
        parsed("trailgate agent add x --for alice --expires 12h").command
    else {
        panic!("an agent");
    };
    assert_eq!((add.on_behalf_of.unwrap().as_str(), add.expires.as_deref()), ("alice", Some("12h")));
    let cli = parsed("trailgate --json --data d trail list --kind command --kind auth.failed");
    let Command::Trail(trail) = cli.command else { panic!("the trail") };
    let Some(TrailCommand::List(filters)) = trail.command else { panic!("a list") };
    assert_eq!((filters.kinds.len(), cli.shared.json), (2, true));
}

#[test]
fn wrong_usage_is_explained_and_ends_with_2() {
    let cases = [
        "trailgate",
        "trailgate policy check",
        "trailgate target add Orders postgres://h/d",
        "trailgate target add o",
        "trailgate target add o postgres://h/d --label env",
        "trailgate agent add x --expires soon",
        "trailgate person add x --role root",
        "trailgate trail --kind commands",
        "trailgate trail --since yesterday",
        "trailgate trail --limit 0",
        "trailgate trail show 3",
        "trailgate doctor --timeout 5",
    ];
    let mut said = String::new();
    for case in cases {
        let error = Cli::try_parse_from(case.split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{case}");
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        said.push_str(&format!("{case}\n=> {first}\n"));
    }
    insta::assert_snapshot!(said);
}
