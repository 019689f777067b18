//! Trail, control store and gatehouse of a data directory, open together.

use std::sync::Arc;
use std::time::Duration;

use api::control::{Control, LogAccess, NodeInfo, Parts};
use api::types::Addresses;
use identity::scram::Decoy;
use ledger::VerifierKey;
use review::Pace;
use session::{Durability, Gatehouse, Level, ReviewSettings};
use store::{ControlStore, NodeKey, SqliteStore};
use tokio::sync::watch;
use trail::Trail;
use vocabulary::Timestamp;

use crate::cli::Failure;
use crate::data::DataDir;
use crate::keys;
use crate::node::NodeIdentity;
use crate::probe::Probers;
use crate::settings::{self, Settings};

/// Separates the trail's use of the node key from the store's.
const VAULT_PURPOSE: &str = "trail vault";

/// Separates the use of the node key for challenges of principals that don't exist.
const DECOY_PURPOSE: &str = "login decoy";

/// The floors of a gateway, open.
pub struct House {
    /// What sessions enter by.
    pub gatehouse: Arc<Gatehouse>,
    /// For challenges of principals that don't exist.
    pub decoy: Decoy,
    trail: Arc<Trail>,
    /// Until [`control`](Self::control) takes it.
    store: std::sync::Mutex<Option<Box<dyn ControlStore>>>,
    node: NodeIdentity,
    started_at: Timestamp,
    data: String,
}

impl House {
    /// Opens everything; what a crash left under way is closed, and said.
    pub fn open(data: &DataDir, settings: &Settings) -> Result<Self, Failure> {
        let database = data.path().join("control.db");
        let key = settings
            .key_source(data.path())
            .load(&database, store::key_file::process_environment)
            .map_err(|error| Failure::from_error(&error))?;
        let node = NodeIdentity::of(data, settings)?;
        let (trail, recovery) = Trail::open(data.path(), trail_settings(&node, &key, settings)?)
            .map_err(|error| Failure::from_error(&error))?;
        said(&recovery);
        let trail = Arc::new(trail);
        let decoy = Decoy::new(*key.derive(DECOY_PURPOSE));
        let store = SqliteStore::open(&database, key, store::key_file::process_environment)
            .map_err(|error| Failure::from_error(&error))?;
        let level = |durability| match durability {
            settings::Durability::Crash => Level::Crash,
            settings::Durability::Power => Level::Power,
        };
        let durability =
            Durability { reads: level(settings.journal.reads), changes: level(settings.journal.changes) };
        let gatehouse = Gatehouse::new(Arc::clone(&trail), node.id, durability);
        gatehouse.publish(store.snapshot().map_err(|error| Failure::from_error(&error))?);
        Ok(Self {
            gatehouse,
            decoy,
            trail,
            store: std::sync::Mutex::new(Some(Box::new(store))),
            node,
            started_at: Timestamp::now(),
            data: data.path().display().to_string(),
        })
    }

    /// Starts sealing.
    pub fn start_sealer(&self) -> Result<(), Failure> {
        self.trail.start_sealer().map_err(|error| Failure::from_error(&error))
    }

    /// Sets how reviews are held, and puts back those of earlier runs.
    fn reviews(&self, control: &Control, addresses: &Addresses, settings: &Settings) -> Result<(), Failure> {
        let wanted = &settings.review;
        let own = addresses.web.as_ref().map(|web| {
            let scheme = if addresses.web_tls { "https" } else { "http" };
            match &addresses.host {
                Some(host) => format!(
                    "{scheme}://{host}{}",
                    web.rsplit_once(':').map_or(String::new(), |(_, port)| format!(":{port}"))
                ),
                None => format!("{scheme}://{web}"),
            }
        });
        let address = wanted.address.clone().or(own);
        let configured = ReviewSettings {
            hold_for: Duration::from_secs(wanted.hold_for_s),
            hold_for_in_transaction: Duration::from_secs(wanted.hold_for_in_transaction_s),
            pace: Pace {
                open_for: Duration::from_secs(wanted.open_for_s),
                grant_for: Duration::from_secs(wanted.grant_for_s),
            },
            address: address.map(|address| address.trim_end_matches('/').to_owned()),
            operator_approves: wanted.operator_approves,
        };
        self.gatehouse
            .desk()
            .configure(configured)
            .map_err(|_| Failure::new("a session came before the gateway was ready", "please report this"))?;
        control.restore_reviews().map_err(Failure::from)
    }

    /// What the API works on.
    pub fn control(
        &self,
        addresses: &Addresses,
        settings: &Settings,
        ssh_keys: Arc<ssh::GatewayKeys>,
        stop: watch::Receiver<bool>,
    ) -> Result<Control, Failure> {
        let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let store = store.ok_or_else(|| Failure::new("the control store is in use", "please report this"))?;
        let control = Control::new(Parts {
            gatehouse: Arc::clone(&self.gatehouse),
            decoy: self.decoy.clone(),
            trail: Arc::clone(&self.trail),
            store,
            prober: Box::new(Probers),
            ssh: Some(Box::new(crate::probe::Authority(ssh_keys))),
            node: NodeInfo {
                id: self.node.id,
                name: settings.node_name().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: self.started_at,
                data: self.data.clone(),
                addresses: addresses.clone(),
                log: LogAccess {
                    public: settings.log_is_public(),
                    witnessed: settings.witness.policy.is_some(),
                    trail_elsewhere: settings.trail_log.url.is_some(),
                    trail_nodes: trail_nodes(settings)?,
                },
            },
            webhooks: settings.review.webhook.keys().cloned().collect(),
            stop,
        });
        self.reviews(&control, addresses, settings)?;
        Ok(control)
    }

    /// The log's name for the world.
    pub fn origin(&self) -> &str {
        &self.node.origin
    }

    /// The trail itself.
    pub const fn trail(&self) -> &Arc<Trail> {
        &self.trail
    }

    /// Seals and closes the trail.
    pub fn close(&self, patience: Duration) -> Result<(), Failure> {
        self.trail.close(patience).map_err(|error| Failure::from_error(&error))
    }
}

/// The nodes whose checkpoints the trail log here takes.
fn trail_nodes(settings: &Settings) -> Result<Vec<VerifierKey>, Failure> {
    let Some(path) = &settings.trail_log.nodes else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|vkey| VerifierKey::parse(vkey).map_err(|error| Failure::from_error(&error))).collect()
}

fn trail_settings(
    node: &NodeIdentity,
    key: &NodeKey,
    settings: &Settings,
) -> Result<trail::Settings, Failure> {
    let keys = keys::ring(vault_keys(key)?, &settings.vault)?;
    let mut wanted = trail::Settings::new(node.id, node.origin.clone(), keys);
    wanted.journal.segment_bytes = settings.journal.segment_mib << 20;
    wanted.retention = settings.retention.to_trail().map_err(|error| Failure::from_error(&error))?;
    wanted.sealed_elsewhere = settings.sealed_elsewhere();
    Ok(wanted)
}

/// What wraps the data keys of payloads.
pub fn vault_keys(key: &NodeKey) -> Result<Arc<dyn trail::KeyWrap>, Failure> {
    let keys =
        trail::NodeKey::new(&key.derive(VAULT_PURPOSE)).map_err(|error| Failure::from_error(&error))?;
    Ok(Arc::new(keys))
}

/// One sentence about what a crash left behind.
fn said(recovery: &trail::Recovery) {
    let trail::Recovery { truncated, commands, sessions, unsealed } = recovery;
    let torn =
        if truncated.is_some() { ", and an unfinished record at the journal's end was cut off" } else { "" };
    if *commands + *sessions > 0 || truncated.is_some() {
        tracing::warn!(
            "the gateway did not stop in order: {commands} commands got the outcome unknown, {sessions} sessions an \
             end{torn}; {unsealed} records were still to be sealed"
        );
    } else if *unsealed > 0 {
        tracing::info!("{unsealed} records of an earlier run are being sealed");
    }
}
