//! What users type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vocabulary::{EntryId, Name, SessionId};

use super::filters::FilterArgs;

/// A gateway for AI agents and the people they work for: every command recorded, nothing changed for the client.
#[derive(Parser, Debug)]
#[command(name = "trailgate", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command understands.
#[derive(Args, Debug, Clone, Default)]
pub struct Shared {
    /// Data directory of the gateway [default: ./trailgate-data]
    #[arg(long, global = true, env = "TRAILGATE_DATA", value_name = "DIR", hide_env_values = true)]
    pub data: Option<PathBuf>,
    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// Every command.
#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, for the life of the program")]
pub enum Command {
    /// Run a gateway in the foreground
    Up(Up),
    /// Show it all at work: a throwaway PostgreSQL, a gateway, an agent, and the trail they leave
    Demo(Demo),
    /// Where agents may go: databases and other servers behind the gateway
    #[command(subcommand)]
    Target(Target),
    /// Programs that act by themselves, often for a person
    #[command(subcommand)]
    Agent(Principal),
    /// Human beings
    #[command(subcommand)]
    Person(Principal),
    /// Programs that do one fixed job
    #[command(subcommand)]
    Service(Principal),
    /// Print what to paste so that a principal reaches a target: DSN, .pgpass, service file, URLs
    Connect(Connect),
    /// Who ran what, when, and with what result
    Trail(Trail),
    /// Check the installation and say what to do
    Doctor(Doctor),
}

/// `trailgate up`
#[derive(Args, Debug, Clone, Default)]
pub struct Up {
    /// Settings of the node (TOML); without it everything is embedded and loopback only
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where PostgreSQL clients connect; port 0 takes a free one [default: 127.0.0.1:15432]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub postgres_listen: Option<String>,
    /// Where the API answers; port 0 takes a free one [default: 127.0.0.1:18080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub web_listen: Option<String>,
}

/// `trailgate demo`
#[derive(Args, Debug)]
pub struct Demo {
    /// Leave everything running until Ctrl-C, to try it by yourself
    #[arg(long)]
    pub keep: bool,
}

/// `trailgate target …`
#[derive(Subcommand, Debug)]
pub enum Target {
    /// Add a target
    Add(TargetAdd),
    /// List the targets
    List,
    /// Show one target
    Show {
        /// Its name
        name: Name,
    },
    /// Log in to a target as the gateway would, and say which side is at fault if that fails
    Test {
        /// Its name
        name: Name,
    },
    /// Remove a target; its open sessions end at once
    Remove {
        /// Its name
        name: Name,
    },
}

/// `trailgate target add`
#[derive(Args, Debug)]
pub struct TargetAdd {
    /// What clients will call it
    pub name: Name,
    /// As the client library writes it: postgres://app:secret@db:5432/orders; the password may be env:NAME or
    /// file:PATH
    pub url: String,
    /// What operators call it, e.g. env=prod; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// A privilege beyond ordinary commands: replication; may be repeated
    #[arg(long = "allow", value_name = "PRIVILEGE", value_parser = ["replication"])]
    pub allow: Vec<String>,
}

/// `trailgate agent …`, `person …`, `service …`
#[derive(Subcommand, Debug)]
pub enum Principal {
    /// Add one and print its token, this once
    Add(PrincipalAdd),
    /// List them
    List,
    /// Show one
    Show {
        /// Its name
        name: Name,
    },
    /// Mint a new token in place of the old
    Rotate(Rotate),
    /// Shut it out; its open sessions end at once
    Disable {
        /// Its name
        name: Name,
    },
    /// Let it in again
    Enable {
        /// Its name
        name: Name,
    },
    /// Remove it; its open sessions end at once, its entries in the trail stay
    Remove {
        /// Its name
        name: Name,
    },
}

/// `trailgate agent add`
#[derive(Args, Debug)]
pub struct PrincipalAdd {
    /// What it will log in as
    pub name: Name,
    /// The person it acts for
    #[arg(long = "for", value_name = "PERSON")]
    pub on_behalf_of: Option<Name>,
    /// A group to put it in; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<Name>,
    /// What a person may do with the gateway itself: administrator, auditor, reviewer; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<identity::Role>,
    /// How long the token works: 90d, 12h, 2027-01-31, never [default: 90d for agents, never for others]
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub expires: Option<String>,
}

/// `trailgate agent rotate`
#[derive(Args, Debug)]
pub struct Rotate {
    /// Its name
    pub name: Name,
    /// How long the old token still works: 10m, 1d [default: ends at once, with its sessions]
    #[arg(long, value_name = "TIME", value_parser = super::filters::duration_s)]
    pub grace: Option<u64>,
    /// How long the new token works: 90d, 12h, 2027-01-31, never [default: 90d for agents, never for others]
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub expires: Option<String>,
}

/// `trailgate connect`
#[derive(Args, Debug)]
pub struct Connect {
    /// The agent, person or service that connects
    pub principal: Name,
    /// Where it wants to go
    pub target: Name,
    /// Its token, to be filled in where the card says TOKEN; the gateway does not know it
    #[arg(long, env = "TRAILGATE_AGENT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// `trailgate trail …`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Trail {
    /// What to do with it; without it, list.
    #[command(subcommand)]
    pub command: Option<TrailCommand>,
    /// Which entries.
    #[command(flatten)]
    pub filters: FilterArgs,
}

/// What to do with the trail.
#[derive(Subcommand, Debug)]
pub enum TrailCommand {
    /// List entries, newest first
    List(FilterArgs),
    /// Show entries as they come, until Ctrl-C
    Tail(FilterArgs),
    /// Show one entry in full
    Show {
        /// Its id, as `trail list` shows it
        id: EntryId,
    },
    /// Destroy the payloads of a session (commands, parameters, messages) for good; its entries still verify
    Erase {
        /// The session, as its entries name it
        session: SessionId,
        /// Why; stands in the trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Check offline that every entry, tile, checkpoint and payload holds
    Verify,
}

/// `trailgate doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// Wait until a gateway answers, then check
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::filters::duration_s)]
    pub timeout: u64,
}

/// Checked here, sent as written: it counts from when the gateway reads it.
fn expiry(text: &str) -> Result<String, String> {
    text.parse::<store::Expiry>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as key=value, for example env=prod".to_owned()),
    }
}
