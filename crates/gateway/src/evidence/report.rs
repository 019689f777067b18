//! A trail log that another gateway keeps: this node sends its checkpoints there, and keeps the receipt of the latest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::problem::Problem;
use api::types::TrailLogView;
use hyper::header;
use trail::{Link, TrailLeaf, signed_alone};
use vocabulary::Timestamp;

use super::Node;
use crate::cli::Failure;
use crate::http_client::{Endpoint, Trust};

/// How long the other side may take: it writes once a second.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long the end of this node waits for the other side.
const GOODBYE: Duration = Duration::from_secs(3);

/// How the trail log's keeper says that it has a checkpoint already.
const STANDS_THERE: &str = "stands there already";
/// How it says that it knows a later one, or another of the same size.
const OTHER_HISTORY: [&str; 2] = ["the log was set back", "the log was forked"];

/// Pauses after failures, from the first to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends the node's checkpoints.
pub(super) struct Reporter {
    node: Node,
    endpoint: Endpoint,
    view: TrailLogView,
    joined: bool,
    pause: Duration,
    not_before: Option<Instant>,
    /// The trail log knows another history of this node. That does not pass by itself, and must not be grown over.
    broken: Option<String>,
}

impl Reporter {
    pub(super) fn new(node: Node, url: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(&format!("{}/trail-log", url.trim_end_matches('/')), || Trust::new(ca))?;
        let view = TrailLogView { url: url.to_owned(), size: 0, at: None, problem: None };
        Ok(Self { node, endpoint, view, joined: false, pause: PAUSE, not_before: None, broken: None })
    }

    /// Sends what is new, if anything is.
    pub(super) async fn work(&mut self) {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        let before = self.view.clone();
        match self.try_work(DEADLINE).await {
            Ok(()) => {
                if self.view.problem.take().is_some() {
                    tracing::info!(url = self.view.url, "the trail log takes this node's checkpoints again");
                }
                (self.pause, self.not_before) = (PAUSE, None);
            }
            Err(problem) => {
                if self.view.problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        url = self.view.url,
                        problem,
                        "the trail log does not have this node's newest checkpoint"
                    );
                }
                self.view.problem = Some(problem);
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        if self.view != before {
            let text = serde_json::to_vec_pretty(&self.view).unwrap_or_default();
            if let Err(error) = replace(&self.node.data.join("ledger/trail-log.json"), &text) {
                tracing::debug!(%error, "the state of the trail log could not be written");
            }
        }
    }

    async fn try_work(&mut self, deadline: Duration) -> Result<(), String> {
        if let Some(reason) = &self.broken {
            return Err(reason.clone());
        }
        if !self.joined {
            let join = self.node.join().ok_or("the log's key does not sign")?;
            self.send(&join, deadline).await?;
            self.joined = true;
        }
        let Some(newest) = self.node.newest().filter(|newest| newest.size() > self.view.size) else {
            return Ok(());
        };
        let leaf = signed_alone(&newest);
        match self.send(leaf.as_bytes(), deadline).await {
            Ok(receipt) => {
                let text = serde_json::to_vec_pretty(&receipt).unwrap_or_default();
                let path = self.node.data.join("ledger/trail-log.receipt");
                replace(&path, &text).map_err(|error| format!("the receipt can't be kept: {error}"))?;
            }
            // Sent before, and the answer was lost.
            Err(reason) if reason.contains(STANDS_THERE) => {}
            Err(reason) if OTHER_HISTORY.iter().any(|words| reason.contains(words)) => {
                let reason = format!(
                    "{reason}. Entries that this node had are gone: restore its data directory, or start it as a new node"
                );
                self.broken = Some(reason.clone());
                return Err(reason);
            }
            Err(reason) => {
                // Perhaps the other side was given a new trail log.
                self.joined = false;
                return Err(reason);
            }
        }
        (self.view.size, self.view.at) = (newest.size(), Some(Timestamp::now()));
        Ok(())
    }

    /// Says that the node leaves in order.
    pub(super) async fn leave(&mut self) {
        let last = self.try_work(GOODBYE).await;
        let Some(leave) = self.node.leave() else { return };
        if let Err(problem) = match last {
            Ok(()) => self.send(&leave, GOODBYE).await.map(drop),
            Err(problem) => Err(problem),
        } {
            tracing::warn!(problem, "the trail log does not say that this node left in order");
        }
    }

    /// Sends a leaf. The answer is the proof that it stands in the trail log, checked here.
    async fn send(&mut self, leaf: &[u8], deadline: Duration) -> Result<Link, String> {
        let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let answer = self.endpoint.post("add", &headers, leaf.to_vec(), deadline).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 200 {
            let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
            return Err(
                problem.map_or_else(|| format!("it answers {}", answer.status), |problem| problem.detail)
            );
        }
        let unusable = |error: &dyn std::fmt::Display| format!("its answer can't be used: {error}");
        let link: Link = serde_json::from_slice(&answer.body).map_err(|error| unusable(&error))?;
        let key = ledger::VerifierKey::parse(&link.vkey).map_err(|error| unusable(&error))?;
        let proof = ledger::TlogProof::parse(&link.proof).map_err(|error| unusable(&error))?;
        proof.verify(leaf, &key).map_err(|error| unusable(&error))?;
        TrailLeaf::parse(link.leaf.as_bytes()).map_err(|error| unusable(&error))?;
        Ok(link)
    }
}

fn replace(path: &PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("tmp");
    std::fs::write(&draft, bytes)?;
    std::fs::File::open(&draft)?.sync_all()?;
    std::fs::rename(&draft, path)
}
