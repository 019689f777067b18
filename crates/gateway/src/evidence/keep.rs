//! A trail log of this node's own: for itself, and for other nodes that send their checkpoints here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trail::{TrailError, TrailInbox, TrailLog, TrailLogError, signed_alone};

use super::Node;
use crate::cli::Failure;

/// Writes the trail log.
pub(super) struct Keeper {
    node: Node,
    key: PathBuf,
    /// `None` after a failure: it is opened anew.
    log: Option<TrailLog>,
    inbox: TrailInbox,
    heartbeat: Duration,
    /// Entries under the node's checkpoint that stands in it.
    size: u64,
    joined: bool,
    problem: Option<String>,
}

impl Keeper {
    pub(super) fn open(node: Node, key: &Path, heartbeat: Duration) -> Result<Self, Failure> {
        let log = open(&node, key).map_err(|error| Failure::from_sentence(&error.in_full()))?;
        let inbox = TrailInbox::at(&node.data);
        let size = log.roster().node(node.key().name()).map_or(0, |known| known.head.size);
        let newest = node.newest().map_or(0, |newest| newest.size());
        if size > newest {
            return Err(Failure::new(
                format!(
                    "the trail log has seen {size} entries of this node's log, which has {newest}: it was set back"
                ),
                "put back the newest copy of the data directory, or go on with a new one (docs/guides/operating.md, \"Backups\")",
            ));
        }
        let key = key.to_owned();
        Ok(Self { node, key, log: Some(log), inbox, heartbeat, size, joined: false, problem: None })
    }

    /// Adds what is new, if anything is.
    pub(super) fn work(&mut self) {
        let worked = self.try_work();
        let problem = worked.err();
        if problem != self.problem {
            match &problem {
                Some(problem) => {
                    tracing::error!(problem, "the trail log can't be written; it is tried again");
                }
                None => tracing::info!("the trail log is written again"),
            }
            self.problem = problem;
        }
    }

    fn try_work(&mut self) -> Result<(), String> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => {
                let log = open(&self.node, &self.key).map_err(|error| error.in_full())?;
                self.size = log.roster().node(self.node.key().name()).map_or(0, |known| known.head.size);
                log
            }
        };
        let mut any = false;
        if !self.joined
            && let Some(join) = self.node.join()
        {
            log.add(&join).map_err(|error| error.to_string())?;
            any = true;
        }
        let newest = self.node.newest().filter(|newest| newest.size() > self.size);
        if let Some(newest) = &newest {
            log.add(signed_alone(newest).as_bytes()).map_err(|error| error.to_string())?;
            any = true;
        }
        for (name, leaf) in self.inbox.letters() {
            match log.add(&leaf) {
                Ok(_) => any = true,
                Err(TrailLogError::Ledger(error)) => return Err(error.to_string()),
                Err(error) => self.inbox.refuse(&name, &error.to_string()),
            }
        }
        self.inbox.forget();
        any |= log.heartbeat(self.heartbeat).map_err(|error| error.to_string())?;
        if any {
            log.publish().map_err(|error| error.to_string())?;
        }
        self.joined = true;
        if let Some(newest) = newest {
            self.size = newest.size();
        }
        self.log = Some(log);
        Ok(())
    }

    /// Says that the node leaves in order.
    pub(super) fn leave(&mut self) {
        self.work();
        let (Some(log), Some(leave)) = (&mut self.log, self.node.leave()) else { return };
        let left = log.add(&leave).and_then(|_| log.publish());
        if let Err(error) = left {
            tracing::warn!(%error, "the trail log does not say that this node left in order");
        }
    }
}

fn open(node: &Node, key: &Path) -> Result<TrailLog, TrailError> {
    let origin = format!("{}/trail", node.key().name());
    TrailLog::open(&node.data, &origin, key)
}
