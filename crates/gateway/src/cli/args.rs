//! What users type.

use std::path::PathBuf;

use ::trail::CaptureField;
use clap::{Args, Parser, Subcommand};
use vocabulary::{EntryId, Name, ReviewId, SessionId};

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
    /// An age identity file that opens payloads which the gateway can't: the trail's files are then read by this command
    #[arg(long, global = true, env = "TRAILGATE_IDENTITY", value_name = "FILE", hide_env_values = true)]
    pub identity: Option<PathBuf>,
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
    /// Certificates for SSH clients
    #[command(subcommand)]
    Ssh(Ssh),
    /// Print what to paste so that a principal reaches a target: DSN, .pgpass, service file, URLs
    Connect(Connect),
    /// What flows, what is refused, and what waits for people
    #[command(subcommand)]
    Policy(Policy),
    /// Who ran what, when, and with what result
    Trail(Trail),
    /// Commands that wait for people: see them, approve or deny them
    #[command(subcommand)]
    Review(Review),
    /// Seal the journal of a gateway with sealer.run = "external", as a process and user of its own
    Seal(Seal),
    /// An independent party that cosigns the checkpoints of logs, and refuses a second history
    #[command(subcommand)]
    Witness(Witness),
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
    /// Where SSH clients connect; port 0 takes a free one [default: 127.0.0.1:12222]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub ssh_listen: Option<String>,
    /// Where the API answers; port 0 takes a free one [default: 127.0.0.1:18080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub web_listen: Option<String>,
}

/// `trailgate seal`
#[derive(Args, Debug, Clone, Default)]
pub struct Seal {
    /// Settings of the node (TOML), the same as the gateway's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The key that signs checkpoints; made at the first start [default: DATA/log.key]
    #[arg(long, value_name = "FILE")]
    pub log_key: Option<PathBuf>,
    /// The key that signs the trail log; made at the first start [default: DATA/trail-log.key]
    #[arg(long, value_name = "FILE")]
    pub trail_log_key: Option<PathBuf>,
    /// A copy of the node key that belongs to the sealer's user [default: node.key of the settings, or DATA/node.key]
    #[arg(long, value_name = "FILE")]
    pub node_key: Option<PathBuf>,
}

/// `trailgate witness …`
#[derive(Subcommand, Debug)]
pub enum Witness {
    /// Run a witness in the foreground, as c2sp.org/tlog-witness specifies; --data is its own directory [default: ./trailgate-witness]
    Up(WitnessUp),
}

/// `trailgate witness up`
#[derive(Args, Debug, Clone)]
pub struct WitnessUp {
    /// Its name for the world, such as witness.example/w1; stands in every cosignature, so keep it
    #[arg(long, value_name = "NAME", default_value = "trailgate-witness")]
    pub name: String,
    /// Where it answers; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:18090")]
    pub listen: String,
    /// The vkey of a log to cosign, as DATA/ledger/log.vkey holds it; may be repeated
    #[arg(long, value_name = "VKEY")]
    pub log: Vec<String>,
    /// A file with such vkeys, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub logs: Vec<PathBuf>,
    /// PEM file with the certificate chain, for TLS
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Answer other machines without TLS, because something in front of it has that
    #[arg(long)]
    pub allow_plaintext: bool,
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
    /// As the client library writes it: postgres://app:secret@db:5432/orders,
    /// ssh://deploy@web?key=file:PATH&host_key=file:PATH; secrets may be env:NAME or file:PATH. With
    /// shell_integration=on an ssh target's shells tell exactly what they run
    pub url: String,
    /// What operators call it, e.g. env=prod; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// A privilege beyond ordinary commands: replication; for ssh local-forward, remote-forward, local-streamlocal,
    /// remote-streamlocal, agent-forward, x11-forward, login:NAME; may be repeated
    #[arg(long = "allow", value_name = "PRIVILEGE")]
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
    /// A public key that proves it over SSH (id_ed25519.pub); may be repeated
    #[arg(long = "ssh-key", value_name = "FILE")]
    pub ssh_keys: Vec<PathBuf>,
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
    /// A public key in place of all that proved it over SSH; may be repeated
    #[arg(long = "ssh-key", value_name = "FILE")]
    pub ssh_keys: Vec<PathBuf>,
}

/// `trailgate ssh …`
#[derive(Subcommand, Debug)]
pub enum Ssh {
    /// Certify a public key, so that whoever has its private half comes in as a principal
    Cert(SshCert),
}

/// `trailgate ssh cert`
#[derive(Args, Debug)]
pub struct SshCert {
    /// The agent, person or service that it proves
    pub principal: Name,
    /// The public key
    #[arg(long, value_name = "FILE.pub")]
    pub key: PathBuf,
    /// How long it is valid: 12h, 7d; never longer than the principal's token [default: 12h]
    #[arg(long, value_name = "TIME", value_parser = super::filters::duration_s)]
    pub expires: Option<u64>,
    /// Where to write it [default: beside the key, where ssh looks for it]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `trailgate policy …`
#[derive(Subcommand, Debug)]
pub enum Policy {
    /// Check a policy's text without a gateway; every problem with its place
    Check {
        /// A file, or a shipped policy: observe, careful, locked
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a policy in force, for open sessions too
    Apply {
        /// A file, or a shipped policy: observe, careful, locked
        #[arg(value_name = "FILE|NAME")]
        file: PathBuf,
    },
    /// Show the policy in force
    Show,
    /// List the policies that were in force, newest first
    History,
    /// Say what a policy makes of a command, without running it
    Explain(PolicyExplain),
    /// Run table-driven tests of policies, without a gateway
    Test {
        /// A folder with test files (*.toml), or one such file
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// `trailgate policy explain`
#[derive(Args, Debug)]
pub struct PolicyExplain {
    /// Who would run it
    #[arg(long, value_name = "P")]
    pub principal: Name,
    /// Where
    #[arg(long, value_name = "T")]
    pub target: Name,
    /// The database there, if not the target's own
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// As if inside an explicit transaction
    #[arg(long)]
    pub in_transaction: bool,
    /// As if the client were there [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<std::net::IpAddr>,
    /// As if it were then, e.g. 2026-11-23T22:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<vocabulary::Timestamp>,
    /// As if this group had approved it; may be repeated
    #[arg(long = "approved-by", value_name = "GROUP")]
    pub approved_by: Vec<Name>,
    /// Another policy than the one in force: a file, or a shipped name
    #[arg(long, value_name = "FILE|NAME")]
    pub policy: Option<PathBuf>,
    /// The command; without it, whether P may connect to T
    #[arg(default_value = "", hide_default_value = true)]
    pub command: String,
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
        /// Write only this, all of it and as it was: stdin, stdout, stderr, rows, recording, upload, download
        #[arg(long, value_name = "WHAT")]
        captured: Option<CaptureField>,
        /// As it was even on a terminal, which it may then steer; otherwise control characters are written out there
        #[arg(long, requires = "captured")]
        raw: bool,
    },
    /// Destroy the payloads of a session (commands, parameters, messages) for good; its entries still verify
    Erase {
        /// The session, as its entries name it
        session: SessionId,
        /// Why; stands in the trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Keep the payloads of a session from being erased, by people and by their retention
    Hold {
        /// The session, as its entries name it
        session: SessionId,
        /// Why; stands in the trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold
    Release {
        /// The session, as its entries name it
        session: SessionId,
        /// Why; stands in the trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the sessions under a hold
    Holds,
    /// Play what was recorded of a terminal, in this one
    Replay(Replay),
    /// Check offline that every entry, tile, checkpoint and payload holds; or, with FILE, one entry's proof
    Verify(Verify),
    /// Write a proof of one entry that anybody can check, with standard tools too (c2sp.org/tlog-proof)
    Prove(Prove),
}

/// `trailgate trail verify`
#[derive(Args, Debug, Clone, Default)]
pub struct Verify {
    /// A proof that `trail prove` has written; without it, the trail in the data directory
    pub file: Option<PathBuf>,
    /// The log's key, or a file that holds it [default: that in DATA/ledger/log.vkey, or in the proof]
    #[arg(long, value_name = "VKEY")]
    pub vkey: Option<String>,
    /// Who must have cosigned: a policy file as c2sp.org/tlog-policy specifies it
    #[arg(long, value_name = "FILE")]
    pub witness_policy: Option<PathBuf>,
}

/// `trailgate trail prove`
#[derive(Args, Debug, Clone)]
pub struct Prove {
    /// The entry's id, as `trail list` shows it
    pub id: EntryId,
    /// Where to write the proof; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Leave the payload out: the proof then shows ids, times, counts and codes, and no text
    #[arg(long)]
    pub without_payload: bool,
}

/// `trailgate review …`
#[derive(Subcommand, Debug)]
pub enum Review {
    /// List what waits for an answer
    List {
        /// Which: pending, granted, denied, used, expired, withdrawn, all [default: pending and granted]
        #[arg(long, value_name = "STATE", value_parser = ["pending", "granted", "denied", "used", "expired", "withdrawn", "all"])]
        state: Option<String>,
    },
    /// Show the exact command, who wants to run it, where and why it is held
    Show {
        /// The review's id, as `review list` shows it
        id: ReviewId,
    },
    /// Let the command run, once
    Approve(Answer),
    /// Refuse the command
    Deny(Answer),
}

/// `trailgate review approve`, `trailgate review deny`
#[derive(Args, Debug)]
pub struct Answer {
    /// The review's id, as `review list` shows it
    pub id: ReviewId,
    /// Why; stands in the trail
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `trailgate trail replay`
#[derive(Args, Debug)]
pub struct Replay {
    /// The session, as its entries name it
    pub session: SessionId,
    /// Which of its recordings, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub number: usize,
    /// Write it out instead: cast (asciicast, version 3)
    #[arg(long, value_name = "FORMAT", value_parser = ["cast"])]
    pub export: Option<String>,
    /// Where to [default: standard output]
    #[arg(short, long, value_name = "FILE", requires = "export")]
    pub output: Option<PathBuf>,
    /// How many times as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive)]
    pub speed: f64,
    /// Longest pause, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = not_negative)]
    pub idle_limit: f64,
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

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "write a number above 0, for example 2 or 0.5".to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "write a number of seconds, for example 2 or 0.5".to_owned())
}
