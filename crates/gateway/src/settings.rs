//! Settings of a node: one TOML file, every key optional, unknown keys refused.
//!
//! `docs/settings.schema.json` is generated from these types; a test keeps it so.

mod check;
mod read;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{Listener, Protection};
pub use read::SettingsError;

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
    /// The listener for the API.
    pub web: Web,
    /// The journal: what must be on disk before a command goes on.
    pub journal: Journal,
    /// Bounds on what clients can make the gateway hold.
    pub limits: Limits,
    /// Threads and shutdown.
    pub workers: Workers,
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
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:18080".to_owned(),
            tls: None,
            cert: None,
            key: None,
            allow_plaintext: false,
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
    /// Threads that carry sessions. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Seconds that open sessions get to end by themselves after SIGTERM.
    #[schemars(range(max = 3600))]
    pub shutdown_grace_s: u64,
}

impl Default for Workers {
    fn default() -> Self {
        Self { threads: None, shutdown_grace_s: 10 }
    }
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
