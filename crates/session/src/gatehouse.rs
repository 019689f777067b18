//! What all sessions of a gateway share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use identity::Throttle;
use trail::Trail;
use vocabulary::{ClientInfo, Decision, NodeId, PolicyHash, SessionId, Timestamp, Verdict};

use crate::door::{Door, ListenerSettings};
use crate::live::{EndCause, Live, LiveSessions};
use crate::snapshot::Snapshot;

/// The policy in force until another is applied: everything flows, everything is recorded.
const OBSERVE: &str = "observe";

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
    pub(crate) decision: Vec<u8>,
    snapshot: ArcSwap<Snapshot>,
    closing: AtomicBool,
}

impl Gatehouse {
    /// A gatehouse over an open trail; nobody can enter before the first [`publish`](Self::publish).
    #[must_use]
    pub fn new(trail: Arc<Trail>, node: NodeId, durability: Durability) -> Arc<Self> {
        let decision = Decision {
            effect: Verdict::Permit,
            policies: vec![OBSERVE.to_owned()],
            policy_hash: PolicyHash(sha256(OBSERVE.as_bytes())),
        };
        Arc::new(Self {
            trail,
            node,
            durability,
            throttle: Mutex::new(Throttle::default()),
            live: LiveSessions::default(),
            decision: trail::record::encode_decision(&decision),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            closing: AtomicBool::new(false),
        })
    }

    /// Puts a new control state in force, and ends the open sessions that it no longer allows.
    pub fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        self.live.enforce(&snapshot, Timestamp::now());
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
        self.closing.store(true, Ordering::Release);
        for live in self.live.all() {
            live.end(EndCause::Shutdown);
        }
    }

    /// Whether the gateway is stopping.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0u8; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// A new session id. Randomness that fails leaves the clock, which is still unique enough to go on.
pub(crate) fn new_session_id(now: Timestamp) -> SessionId {
    let mut random = [0u8; 10];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        tracing::error!("the system's random source failed");
    }
    SessionId::from_parts(now.unix_ms(), random)
}
