//! `trailgate demo`: a throwaway PostgreSQL, a gateway, an agent, and the trail that they leave.
//!
//! Everything lives in one temporary directory and in child processes of this one; both are gone at the end.

mod gateway;
mod morning;
mod server;
mod tools;

use std::path::Path;
use std::time::{Duration, Instant};

use api::card::ConnectCard;
use api::types::{AddPrincipal, AddTarget, Minted, TargetView};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Failure, args, connect, entry, output, terminal};
use crate::client::Client;
use crate::demo::gateway::Gateway;
use crate::demo::server::Server;

/// Columns of the table where standard output is no terminal.
const COLUMNS: usize = 132;

/// How long a child may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows it all at work.
///
/// # Errors
/// [`Failure`] if PostgreSQL is not installed, or a step fails.
pub fn run(options: &args::Demo) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the system gives no resources: {error}"), "try again"))?;
    runtime.block_on(show(options))
}

async fn show(options: &args::Demo) -> Result<(), Failure> {
    let began = Instant::now();
    let failed =
        |error: std::io::Error| Failure::new(format!("signals can't be received: {error}"), "try again");
    // Taken over so that Ctrl-C ends the children (it reaches them too) and this process cleans up.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let tools = tools::Tools::find()?;
    let folder = tempfile::Builder::new()
        .prefix("trailgate-demo-")
        .tempdir()
        .map_err(|error| Failure::file("make a directory in", &std::env::temp_dir(), &error))?;

    heading(
        "A PostgreSQL server, as yours may be",
        "database `orders`, role `app` with a password that no agent will see",
    );
    let server = Server::start(&tools, folder.path(), PATIENCE).await?;
    heading("A gateway in front of it", "the agent `chatgpt` acts for the person `alice`");
    let data = folder.path().join("trailgate-data");
    let gateway = Gateway::start(&data, PATIENCE).await?;
    let client = Client::at_socket(&data);
    let token = introduce(&client, &server).await?;
    let card: ConnectCard = client.get("/v1/connect?principal=chatgpt&target=orders").await?;

    heading("The agent's morning, through stock psql", "what changed for it: host, port, user and password");
    morning::run(&tools, &card, &token, folder.path())?;

    heading("What the trail says", "oldest first; `trailgate trail` shows the newest first");
    let entries = entries(&client).await?;
    output::line(&entry::table(&entries, Some(terminal::width().unwrap_or(COLUMNS))))?;
    let mistake = entries.iter().find(|entry| {
        entry
            .pointer("/command/text")
            .and_then(Value::as_str)
            .is_some_and(|text| text.starts_with(morning::MISTAKE))
    });
    if let Some(mistake) = mistake {
        heading("Who emptied the carts?", "`trailgate trail show ID`");
        output::line(&entry::in_full(mistake))?;
    }
    heading("Does it hold?", "`trailgate trail verify` needs no gateway, only the files");
    crate::cli::verify::verify(&data, &crate::cli::args::Verify::default(), None, false)?;
    if options.keep {
        keep(&card, &token, &data, &mut interrupt, &mut terminate).await?;
    } else {
        heading("Try it by yourself", "");
        output::line("`trailgate demo --keep` leaves everything running and says how to connect.")?;
        output::line("`trailgate up` starts a gateway of your own; it says what to do next.")?;
    }
    gateway.stop();
    server.stop();
    if !options.keep {
        output::line(&format!(
            "\nThat took {:.1} s; everything has been removed again.",
            began.elapsed().as_secs_f64()
        ))?;
    }
    Ok(())
}

/// Target, person and agent; the agent's token.
async fn introduce(client: &Client, server: &Server) -> Result<String, Failure> {
    let target = AddTarget {
        name: name("orders")?,
        url: server.url(),
        labels: [("env".into(), "demo".into())].into(),
        allow: [].into(),
    };
    let _: TargetView = client.post("/v1/targets", &target).await?;
    let someone = |who: &str, on_behalf_of: Option<&str>| -> Result<AddPrincipal, Failure> {
        let on_behalf_of = on_behalf_of.map(name).transpose()?;
        Ok(AddPrincipal {
            name: name(who)?,
            on_behalf_of,
            groups: Vec::new(),
            roles: Vec::new(),
            ssh_keys: Vec::new(),
            expires: None,
        })
    };
    let _: Minted = client.post("/v1/persons", &someone("alice", None)?).await?;
    let agent: Minted = client.post("/v1/agents", &someone("chatgpt", Some("alice"))?).await?;
    Ok(agent.token)
}

fn name(text: &str) -> Result<vocabulary::Name, Failure> {
    text.parse().map_err(|error: vocabulary::NameError| Failure::from_sentence(&error.to_string()))
}

/// All entries but those of connections beginning and ending, oldest first.
async fn entries(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut lines = client.lines("/v1/trail?kind=command,control.changed,auth.failed&limit=1000").await?;
    let mut entries = Vec::new();
    while let Some(line) = lines.next().await? {
        let entry = serde_json::from_slice(&line).map_err(|error| {
            Failure::new(format!("an entry can't be read: {error}"), "please report this")
        })?;
        entries.push(entry);
    }
    entries.reverse();
    Ok(entries)
}

async fn keep(
    card: &ConnectCard,
    token: &str,
    data: &Path,
    interrupt: &mut Signal,
    terminate: &mut Signal,
) -> Result<(), Failure> {
    heading("Try it by yourself", "in another terminal");
    output::line(&connect::shown(&card.clone().with_token(token), true))?;
    let data = data.display();
    output::line(&format!(
        "\n# Then look\ntrailgate --data {data} trail\ntrailgate --data {data} trail tail"
    ))?;
    output::line(&format!("trailgate --data {data} doctor"))?;
    eprintln!("\nCtrl-C ends it and removes everything.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn heading(title: &str, more: &str) {
    let more = if more.is_empty() { String::new() } else { format!(" · {more}") };
    // A closed pipe is noticed by the next line that matters.
    drop(output::line(&format!("\n== {title}{more}")));
}
