//! Who a node is: its id, and its log's name for the world.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vocabulary::{NodeId, Timestamp};

use crate::cli::Failure;
use crate::data::DataDir;
use crate::settings::Settings;

/// Who the node is; made at the first start, in `DATA/node.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Its id.
    pub id: NodeId,
    /// The log's name for the world. It stands in every checkpoint, so it never changes.
    pub origin: String,
}

impl NodeIdentity {
    /// Reads it; `None` if no gateway has been started over this data directory yet.
    ///
    /// # Errors
    /// [`Failure`] if it is there and can't be read.
    pub fn read(data: &Path) -> Result<Option<Self>, Failure> {
        let path = data.join("node.json");
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::new(
                    format!("{} is damaged: {error}", path.display()),
                    "put a backup of it in its place",
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file("read", &path, &error)),
        }
    }

    /// Reads it, or makes it up at the first start.
    ///
    /// # Errors
    /// [`Failure`] if it can't be read or written.
    pub fn of(data: &DataDir, settings: &Settings) -> Result<Self, Failure> {
        match Self::read(data.path())? {
            Some(node) => Ok(node),
            None => {
                let path = data.path().join("node.json");
                let mut random = [0u8; 10];
                aws_lc_rs::rand::fill(&mut random)
                    .map_err(|_| Failure::new("the system has no random numbers to give", "try again"))?;
                let id = NodeId::from_parts(Timestamp::now().unix_ms(), random);
                let node = Self { id, origin: format!("{}/{id}", settings.node_name()) };
                let text = serde_json::to_vec_pretty(&node).unwrap_or_default();
                data.replace("node.json", &text).map_err(|error| Failure::file("write", &path, &error))?;
                Ok(node)
            }
        }
    }
}
