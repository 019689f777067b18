//! What every route works on.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use identity::SshPublicKey;
use identity::scram::Decoy;
use ledger::VerifierKey;
use session::{Gatehouse, ListenerSettings, PasswordExchange, Target};
use store::{AppliedPolicy, Change, ControlStore, Edit, StoreError};
use tokio::sync::{Semaphore, watch};
use trail::Trail;
use vocabulary::{CredentialId, Kind, Name, NodeId, ReviewId, Timestamp};

use crate::caller::Caller;
use crate::problem::Problem;
use crate::reviews::Told;
use crate::types::{Addresses, TargetTest};

/// Logs in to a target as the gateway would, and says what it found. The protocols do that; this floor must not
/// know them.
pub trait Prober: Send + Sync {
    /// Tests one target. Takes as long as the connection's own timeouts.
    fn test(&self, target: Arc<Target>) -> Pin<Box<dyn Future<Output = TargetTest> + Send + '_>>;
}

/// Certifies public keys of principals for SSH. The protocols do that; this floor must not know them.
pub trait SshAuthority: Send + Sync {
    /// A certificate as its file has it, valid for `lifetime` and as long as `credential` is.
    ///
    /// # Errors
    /// A sentence for whoever asked.
    fn certify(
        &self,
        principal: &Name,
        credential: CredentialId,
        key: &SshPublicKey,
        lifetime: Duration,
    ) -> Result<String, String>;
}

/// What the gateway tells of itself.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub id: NodeId,
    /// Its name from the settings.
    pub name: String,
    /// Version of the binary.
    pub version: String,
    /// When it came up.
    pub started_at: Timestamp,
    /// Its data directory.
    pub data: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// How its log is served.
    pub log: LogAccess,
}

/// How the node's log is served under `/log/`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogAccess {
    /// To anybody, not only to administrators and auditors.
    pub public: bool,
    /// With the latest checkpoint that witnesses have cosigned as *the* checkpoint, once there is one.
    pub witnessed: bool,
    /// Its checkpoints go into a trail log elsewhere.
    pub trail_elsewhere: bool,
    /// Nodes whose checkpoints its trail log takes.
    pub trail_nodes: Vec<VerifierKey>,
}

/// What the API is made of.
pub struct Parts {
    /// Snapshot, sessions, throttle.
    pub gatehouse: Arc<Gatehouse>,
    /// For doors of bearer tokens.
    pub decoy: Decoy,
    /// The trail.
    pub trail: Arc<Trail>,
    /// The control state.
    pub store: Box<dyn ControlStore>,
    /// Tests targets.
    pub prober: Box<dyn Prober>,
    /// Certifies keys for SSH.
    pub ssh: Option<Box<dyn SshAuthority>>,
    /// What the gateway tells of itself.
    pub node: NodeInfo,
    /// Webhooks that hear of reviews, by name.
    pub webhooks: Vec<String>,
    /// Holds `true` once the gateway stops.
    pub stop: watch::Receiver<bool>,
}

/// What every route works on; clones share it.
#[derive(Clone)]
pub struct Control(Arc<State>);

/// See [`Parts`].
pub struct State {
    pub(crate) gatehouse: Arc<Gatehouse>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) prober: Box<dyn Prober>,
    pub(crate) ssh: Option<Box<dyn SshAuthority>>,
    pub(crate) node: NodeInfo,
    pub(crate) stop: watch::Receiver<bool>,
    /// What doors for bearer tokens share.
    pub(crate) web_listener: Arc<ListenerSettings>,
    /// Webhooks that hear of reviews, by name.
    pub(crate) webhooks: Vec<String>,
    /// Held by whoever stores reviews, from taking them off the desk until the store has them.
    pub(crate) keeping: Mutex<()>,
    /// What webhooks have been told of each review.
    pub(crate) told: Mutex<HashMap<ReviewId, Told>>,
    /// Signs what a page of a review gives back.
    pub(crate) tickets: aws_lc_rs::hmac::Key,
    pub(crate) tickets_work: bool,
    /// Places for those who follow the trail.
    pub(crate) tails: Arc<Semaphore>,
    store: Mutex<Box<dyn ControlStore>>,
}

/// Most who may follow the trail at once; each has a thread.
const MAX_TAILS: usize = 64;

impl Deref for Control {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Control {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { gatehouse, decoy, trail, store, prober, ssh, node, webhooks, stop } = parts;
        let mut key = [0; 32];
        // Without randomness a page's tickets are worth nothing, so they are never accepted then.
        let random = aws_lc_rs::rand::fill(&mut key).is_ok();
        if !random {
            tracing::error!("the system's random source failed: reviews can't be answered on their page");
        }
        let web_listener = Arc::new(ListenerSettings {
            tls: None,
            require_tls: false,
            password: PasswordExchange::Cleartext,
            pre_auth_deadline: Duration::from_secs(10),
            decoy,
        });
        Self(Arc::new(State {
            gatehouse,
            trail,
            prober,
            ssh,
            node,
            stop,
            webhooks,
            keeping: Mutex::default(),
            told: Mutex::default(),
            tickets: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key),
            tickets_work: random,
            web_listener,
            tails: Arc::new(Semaphore::new(MAX_TAILS)),
            store: Mutex::new(store),
        }))
    }

    /// Changes the control state: recorded durably first, then committed, then put in force for open sessions too.
    pub(crate) async fn change<T, W>(&self, caller: &Caller, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnMut(&mut dyn Edit) -> Result<T, StoreError> + Send + 'static,
    {
        let (control, caller) = (self.clone(), caller.clone());
        blocking(move || control.change_now(&caller, work)).await
    }

    /// Policies that were applied, newest first. Blocks.
    pub(crate) fn policies(&self, most: usize) -> Result<Vec<AppliedPolicy>, Problem> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.policies(most).map_err(|error| refused(&error))
    }

    /// The control state, for what is no change of it.
    pub(crate) fn store(&self) -> std::sync::MutexGuard<'_, Box<dyn ControlStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_now<T>(
        &self,
        caller: &Caller,
        work: impl FnMut(&mut dyn Edit) -> Result<T, StoreError>,
    ) -> Result<T, Problem> {
        // Held until the snapshot is published, so that no older one can follow it.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recorded: Vec<serde_json::Value> = Vec::new();
        let changed = store::change(store.as_mut(), Timestamp::now(), work, &mut |change: &Change| {
            let what = serde_json::to_value(change)?;
            self.note(Kind::ControlChanged, caller, &what)?;
            recorded.push(what);
            Ok(())
        });
        match changed {
            Ok(result) => {
                let snapshot = store.snapshot().map_err(Problem::internal)?;
                self.gatehouse.publish(snapshot);
                Ok(result)
            }
            Err(error @ StoreError::NotCommitted(_)) => {
                // The trail says that it happened: it has to say that it did not.
                for mut what in recorded {
                    if let Some(fields) = what.as_object_mut() {
                        fields.insert("made".to_owned(), false.into());
                    }
                    self.note(Kind::ControlChanged, caller, &what).map_err(Problem::unrecorded)?;
                }
                Err(refused(&error))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// Records an event of the caller; returns once it survives the loss of power.
    pub(crate) fn note(
        &self,
        kind: Kind,
        caller: &Caller,
        what: &serde_json::Value,
    ) -> Result<(), trail::TrailError> {
        self.trail.note(kind, Some(caller.who.clone()), Some(caller.client.clone()), what).map(drop)
    }
}

/// Runs what blocks on a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::internal(error)),
    }
}

/// The store's refusal, as the caller sees it.
pub(crate) fn refused(error: &StoreError) -> Problem {
    let status = match error {
        StoreError::TargetExists(_)
        | StoreError::PrincipalExists { .. }
        | StoreError::SshKeyTaken(_)
        | StoreError::ActedFor { .. } => StatusCode::CONFLICT,
        StoreError::NoTarget(_)
        | StoreError::NoPrincipal { .. }
        | StoreError::OtherKind { .. }
        | StoreError::NoCredential { .. } => StatusCode::NOT_FOUND,
        StoreError::NotRecorded(reason) => return Problem::unrecorded(reason),
        error if error.is_callers_fault() => StatusCode::UNPROCESSABLE_ENTITY,
        error => {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, source, "a change of the control state failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Problem::from_sentence(status, &error.to_string())
}
