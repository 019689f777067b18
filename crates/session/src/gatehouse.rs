//! What all sessions of a gateway share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use identity::Throttle;
use trail::Trail;
use vocabulary::{ClientInfo, NodeId, SessionId, Timestamp};

use crate::budget::Meters;
use crate::desk::Desk;
use crate::door::{Door, ListenerSettings};
use crate::live::{EndCause, Live, LiveSessions};
use crate::snapshot::Snapshot;

/// How often it is looked whether the last session is over.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(20);

/// When a record counts as written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// When the write has returned: survives the death of the gateway.
    Crash,
    /// When a sync has finished: survives the loss of power.
    Power,
}

/// Which level commands need before they leave, and their outcomes before they are released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durability {
    /// For commands that change nothing.
    pub reads: Level,
    /// For all others; inside an explicit transaction the barrier stands at its end.
    pub changes: Level,
}

impl Default for Durability {
    fn default() -> Self {
        Self { reads: Level::Crash, changes: Level::Power }
    }
}

/// What all sessions of a gateway share: the snapshot of the control state, the trail, and who is inside.
#[derive(Debug)]
pub struct Gatehouse {
    pub(crate) trail: Arc<Trail>,
    pub(crate) node: NodeId,
    pub(crate) durability: Durability,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) live: LiveSessions,
    pub(crate) desk: Desk,
    pub(crate) meters: Meters,
    /// Grows with every change of the control state.
    pub(crate) generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
    closing: AtomicBool,
}

impl Gatehouse {
    /// A gatehouse over an open trail; nobody can enter before the first [`publish`](Self::publish).
    #[must_use]
    pub fn new(trail: Arc<Trail>, node: NodeId, durability: Durability) -> Arc<Self> {
        Arc::new(Self {
            trail,
            node,
            durability,
            throttle: Mutex::new(Throttle::default()),
            live: LiveSessions::default(),
            desk: Desk::default(),
            meters: Meters::default(),
            generation: AtomicU64::new(1),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            closing: AtomicBool::new(false),
        })
    }

    /// Puts a new control state in force, and ends the open sessions that it no longer allows.
    pub fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = self.snapshot.swap(Arc::clone(&snapshot));
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.live.enforce(&snapshot, Timestamp::now());
        if before.policy.hash() != snapshot.policy.hash() {
            self.desk.policy_changed();
        }
    }

    /// The reviews of all sessions.
    #[must_use]
    pub const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Ends sessions whose credential has expired. To be called about once a second.
    pub fn tick(&self, now: Timestamp) {
        self.live.enforce(&self.snapshot.load(), now);
    }

    /// The control state in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The door for one accepted connection.
    #[must_use]
    pub fn door(self: &Arc<Self>, listener: &Arc<ListenerSettings>, client: ClientInfo) -> Door {
        Door::new(Arc::clone(self), Arc::clone(listener), client)
    }

    /// The trail that everything is recorded in.
    #[must_use]
    pub fn trail(&self) -> &Arc<Trail> {
        &self.trail
    }

    /// Every open session.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Live>> {
        self.live.all()
    }

    /// Lets nobody in any more and asks every session to end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for live in self.live.all() {
            live.end(EndCause::Shutdown);
        }
    }

    /// Returns once no session is open. For whoever has to outlive them.
    pub async fn all_gone(&self) {
        while !self.live.all().is_empty() {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether the gateway is stopping.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new session id. Randomness that fails leaves the clock, which is still unique enough to go on.
pub(crate) fn new_session_id(now: Timestamp) -> SessionId {
    let mut random = [0u8; 10];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        tracing::error!("the system's random source failed");
    }
    SessionId::from_parts(now.unix_ms(), random)
}
