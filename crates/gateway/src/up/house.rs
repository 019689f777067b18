//! Trail, control store and gatehouse of a data directory, open together.

use std::sync::Arc;
use std::time::Duration;

use api::control::{Control, NodeInfo, Parts};
use api::types::Addresses;
use identity::scram::Decoy;
use serde::{Deserialize, Serialize};
use session::{Durability, Gatehouse, Level};
use store::{ControlStore, NodeKey, SqliteStore};
use tokio::sync::watch;
use trail::Trail;
use vocabulary::{NodeId, Timestamp};

use crate::cli::Failure;
use crate::data::DataDir;
use crate::probe::PostgresProber;
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

/// Who the node is; made at the first start, in `DATA/node.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NodeIdentity {
    id: NodeId,
    /// The log's name for the world. It stands in every checkpoint, so it never changes.
    origin: String,
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

    /// What the API works on.
    pub fn control(
        &self,
        addresses: &Addresses,
        settings: &Settings,
        stop: watch::Receiver<bool>,
    ) -> Result<Control, Failure> {
        let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let store = store.ok_or_else(|| Failure::new("the control store is in use", "please report this"))?;
        Ok(Control::new(Parts {
            gatehouse: Arc::clone(&self.gatehouse),
            decoy: self.decoy.clone(),
            trail: Arc::clone(&self.trail),
            store,
            prober: Box::new(PostgresProber),
            node: NodeInfo {
                id: self.node.id,
                name: settings.node_name().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: self.started_at,
                data: self.data.clone(),
                addresses: addresses.clone(),
            },
            stop,
        }))
    }

    /// Seals and closes the trail.
    pub fn close(&self, patience: Duration) -> Result<(), Failure> {
        self.trail.close(patience).map_err(|error| Failure::from_error(&error))
    }
}

impl NodeIdentity {
    fn of(data: &DataDir, settings: &Settings) -> Result<Self, Failure> {
        let path = data.path().join("node.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                Failure::new(
                    format!("{} is damaged: {error}", path.display()),
                    "put a backup of it in its place",
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut random = [0u8; 10];
                aws_lc_rs::rand::fill(&mut random)
                    .map_err(|_| Failure::new("the system has no random numbers to give", "try again"))?;
                let id = NodeId::from_parts(Timestamp::now().unix_ms(), random);
                let node = Self { id, origin: format!("{}/{id}", settings.node_name()) };
                let text = serde_json::to_vec_pretty(&node).unwrap_or_default();
                data.replace("node.json", &text).map_err(|error| Failure::file("write", &path, &error))?;
                Ok(node)
            }
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }
}

fn trail_settings(
    node: &NodeIdentity,
    key: &NodeKey,
    settings: &Settings,
) -> Result<trail::Settings, Failure> {
    let keys = vault_keys(key)?;
    let mut wanted = trail::Settings::new(node.id, node.origin.clone(), keys);
    wanted.journal.segment_bytes = settings.journal.segment_mib << 20;
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
