//! Settings of a node: one TOML file, every key optional, unknown keys refused.
//!
//! `docs/settings.schema.json` is generated from these types; a test keeps it so.

mod check;
mod read;
mod retention;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{Listener, Protection};
pub use read::SettingsError;
pub use retention::{CapturedField, Retention, RetentionRule};

/// Settings of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The node itself.
    pub node: Node,
    /// Where it keeps everything.
    pub data: Data,
    /// The listener for PostgreSQL clients.
    pub postgres: Postgres,
    /// The listener for SSH clients.
    pub ssh: Ssh,
    /// The listener for the API.
    pub web: Web,
    /// The journal: what must be on disk before a command goes on.
    pub journal: Journal,
    /// How the payloads of the trail are sealed.
    pub vault: Vault,
    /// How long what is kept.
    pub retention: Retention,
    /// The sealer: what makes evidence of the journal.
    pub sealer: Sealer,
    /// Witnesses: independent parties that cosign the log's checkpoints.
    pub witness: Witness,
    /// The trail log: the log of logs, which keeps a node from being hidden.
    pub trail_log: TrailLog,
    /// Bounds on what clients can make the gateway hold.
    pub limits: Limits,
    /// Threads and shutdown.
    pub workers: Workers,
    /// Commands that wait for people.
    pub review: Review,
}

/// The node itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// What operators call it; also part of its log's origin, so keep it. Default: `trailgate`.
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// The key that everything secret hangs on, kept elsewhere: `env:NAME` or `file:PATH` (base64 of 32 random bytes).
    /// Default: the node makes one, in `DATA/node.key`.
    pub key: Option<String>,
    /// Host names and addresses by which clients reach the node, the most usual first. The certificate that the
    /// node signs itself is for these, besides `localhost` and the addresses it listens on.
    #[schemars(length(max = 64))]
    pub hosts: Vec<String>,
}

/// Where the node keeps everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Data directory; `--data` and `TRAILGATE_DATA` come first. Default: `./trailgate-data`.
    pub dir: Option<PathBuf>,
}

/// Whether a listener speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    Off,
    /// If the client asks for it.
    Offered,
    /// Always; a client without it is turned away.
    Required,
}

/// How PostgreSQL clients prove who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum PostgresAuth {
    /// SCRAM-SHA-256, and -PLUS inside TLS: the token never crosses the wire.
    #[default]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The token itself, inside TLS only: for clients without SCRAM.
    #[serde(rename = "cleartext")]
    Cleartext,
}

/// The listener for PostgreSQL clients.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// `address:port`; port 0 takes a free one.
    pub listen: String,
    /// Whether it speaks TLS. Default: `offered` on loopback, `required` elsewhere.
    pub tls: Option<TlsMode>,
    /// PEM file with the certificate chain. Without it the node signs one itself, under `DATA/tls`.
    pub cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// Lets clients in without TLS from other machines as well.
    pub allow_plaintext: bool,
    /// How clients prove who they are.
    pub auth: PostgresAuth,
    /// Seconds that a client may take until it is authenticated.
    #[schemars(range(min = 1, max = 600))]
    pub pre_auth_deadline_s: u64,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:15432".to_owned(),
            tls: None,
            cert: None,
            key: None,
            allow_plaintext: false,
            auth: PostgresAuth::ScramSha256,
            pre_auth_deadline_s: 15,
        }
    }
}

/// The listener for SSH clients, and what is kept of what they do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ssh {
    /// `address:port`; port 0 takes a free one.
    pub listen: String,
    /// Seconds that a client may take until it is authenticated.
    #[schemars(range(min = 1, max = 600))]
    pub pre_auth_deadline_s: u64,
    /// KiB kept of each command's standard output, and as much of its standard error; of the rest the trail has the
    /// count, and the SHA-256 of the whole.
    #[schemars(range(max = 1_048_576))]
    pub keep_output_kib: u64,
    /// KiB kept of each command's standard input; of the rest the count, and the SHA-256 of the whole.
    #[schemars(range(max = 1_048_576))]
    pub keep_input_kib: u64,
    /// MiB kept of the recording of a terminal; of the rest the count, and the SHA-256 of all its output.
    #[schemars(range(max = 4096))]
    pub keep_recording_mib: u64,
    /// Environment variables that clients may set at the target; `*` at the end stands for any rest.
    pub accept_env: Vec<String>,
    /// Seconds of silence after which the gateway asks a client whether it is there; 0 for never.
    #[schemars(range(max = 86_400))]
    pub keepalive_s: u64,
    /// Seconds that a connection to a target is kept open for the next session; 0 opens one for each.
    #[schemars(range(max = 3600))]
    pub reuse_s: u64,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:12222".to_owned(),
            pre_auth_deadline_s: 15,
            keep_output_kib: 1024,
            keep_input_kib: 64,
            keep_recording_mib: 64,
            accept_env: vec!["LANG".to_owned(), "LC_*".to_owned(), "GIT_PROTOCOL".to_owned()],
            keepalive_s: 60,
            reuse_s: 30,
        }
    }
}

/// Whether the web listener speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebTlsMode {
    /// Never.
    Off,
    /// Always.
    Required,
}

/// The listener for the API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// `address:port`; port 0 takes a free one.
    pub listen: String,
    /// Whether it speaks TLS. Default: `off` on loopback, `required` elsewhere.
    pub tls: Option<WebTlsMode>,
    /// PEM file with the certificate chain. Without it the node signs one itself, under `DATA/tls`.
    pub cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// Lets clients in without TLS from other machines as well.
    pub allow_plaintext: bool,
    /// Gives the log under `/log/` (checkpoints, tiles, leaves; no free text) to anybody, not only to administrators and
    /// auditors. Default: on loopback.
    pub public_log: Option<bool>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:18080".to_owned(),
            tls: None,
            cert: None,
            key: None,
            allow_plaintext: false,
            public_log: None,
        }
    }
}

/// When a record counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When the write has returned: survives the death of the gateway.
    Crash,
    /// When a sync has finished: survives the loss of power.
    Power,
}

/// The journal: what must be on disk before a command goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment file, in MiB.
    #[schemars(range(min = 1, max = 1024))]
    pub segment_mib: u64,
    /// For commands that change nothing.
    pub reads: Durability,
    /// For all others.
    pub changes: Durability,
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_mib: 64, reads: Durability::Crash, changes: Durability::Power }
    }
}

/// How the payloads of the trail are sealed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vault {
    /// An age recipient (`age1…`), to wrap the data keys of payloads for in place of the node key. Without its identity the
    /// gateway writes payloads that it can't read. What was wrapped by the node key before stays readable with that.
    pub recipient: Option<String>,
    /// The recipient's identity, for a gateway that shall read as well: `file:PATH` (as `age-keygen` writes it) or `env:NAME`.
    pub identity: Option<String>,
}

/// Who seals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SealerRun {
    /// A thread of the gateway.
    #[default]
    Inside,
    /// `trailgate seal`, a process of its own, which alone needs the signing key.
    External,
}

/// The sealer: what makes evidence of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sealer {
    /// Who seals.
    pub run: SealerRun,
    /// Seconds without anything to seal after which an entry says that the gateway runs.
    #[schemars(range(min = 1, max = 86_400))]
    pub heartbeat_s: u64,
}

impl Default for Sealer {
    fn default() -> Self {
        Self { run: SealerRun::Inside, heartbeat_s: 600 }
    }
}

/// Witnesses: independent parties that cosign the log's checkpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Witness {
    /// File in the format of c2sp.org/tlog-policy: who the witnesses are, each with its URL, and how many of them must cosign.
    pub policy: Option<PathBuf>,
    /// PEM file with the authorities that sign the witnesses' TLS certificates, in place of the system's.
    pub ca: Option<PathBuf>,
}

/// The trail log: the log of logs, which keeps a node from being hidden.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrailLog {
    /// URL of the gateway that keeps it for several, such as `https://gateway-1.example:18080`. Default: this node keeps one of its
    /// own, in `DATA/trail-log`.
    pub url: Option<String>,
    /// PEM file with the authorities that sign that gateway's TLS certificate, in place of the system's.
    pub ca: Option<PathBuf>,
    /// File with the vkeys of the other nodes whose checkpoints this node's trail log takes, one a line.
    pub nodes: Option<PathBuf>,
}

/// Bounds on what clients can make the gateway hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of clients at once, those not yet authenticated included; more wait in the kernel's queue.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// Connections to the API at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub api_connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 20_000, api_connections: 256 }
    }
}

/// Threads and shutdown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Threads that carry sessions. Default: three quarters of the cores.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Whether each of them has a core of its own, if there are more cores than workers and no quota on them.
    pub own_cores: bool,
    /// Seconds that open sessions get to end by themselves after SIGTERM.
    #[schemars(range(max = 3600))]
    pub shutdown_grace_s: u64,
}

impl Default for Workers {
    fn default() -> Self {
        Self { threads: None, own_cores: true, shutdown_grace_s: 10 }
    }
}

/// Commands that wait for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Review {
    /// Seconds that a command is held on the wire where the policy does not say (`@hold_for`).
    #[schemars(range(min = 1, max = 3600))]
    pub hold_for_s: u64,
    /// The most seconds that a command is held while its session keeps locks: in a transaction that has written.
    #[schemars(range(min = 1, max = 3600))]
    pub hold_for_in_transaction_s: u64,
    /// Seconds that a review waits for an answer.
    #[schemars(range(min = 1, max = 604_800))]
    pub open_for_s: u64,
    /// Seconds that an approval can be used.
    #[schemars(range(min = 1, max = 86_400))]
    pub grant_for_s: u64,
    /// Whether the local administrator, on the control socket, may approve.
    pub operator_approves: bool,
    /// Where people reach the web listener: `https://gateway.example`. Default: its own address.
    pub address: Option<String>,
    /// Who hears of reviews, by a name of your own.
    pub webhook: BTreeMap<String, Webhook>,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            hold_for_s: 20,
            hold_for_in_transaction_s: 5,
            open_for_s: 3600,
            grant_for_s: 900,
            operator_approves: true,
            address: None,
            webhook: BTreeMap::new(),
        }
    }
}

/// What a webhook is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// The review as JSON, signed.
    #[default]
    Json,
    /// A message as Slack's incoming webhooks take it.
    Slack,
}

/// Somebody who hears of reviews.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it is posted: `https://…`; `http://` on loopback only. Or `env:NAME`, `file:PATH`, since a URL may be a secret.
    pub url: String,
    /// The key that bodies are signed with: `env:NAME` or `file:PATH`. Required for the format `json`.
    #[serde(default)]
    pub secret: Option<String>,
    /// What is sent.
    #[serde(default)]
    pub format: WebhookFormat,
}

impl Settings {
    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        self.node.name.as_deref().unwrap_or("trailgate")
    }

    /// The JSON Schema of the settings file, as committed.
    #[must_use]
    pub fn schema() -> String {
        let mut schema = schemars::schema_for!(Self);
        schema.insert("title".to_owned(), "Settings of a Trailgate node".into());
        let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push('\n');
        text
    }
}
