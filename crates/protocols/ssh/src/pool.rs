//! Connections to targets, kept for a while: what is logged in to needs no handshake.
//!
//! A connection carries one channel at a time. So a client that reads slowly makes only its own program wait, and a target
//! that allows few sessions per connection (`MaxSessions`) is not in the way. Only connections whose channel ended in
//! order are kept, for the same target with the same URL, secrets and login; they are as new to the next session as a
//! connection of its own, since all that a session changes (environment, terminal, folder) belongs to its channel.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use session::Target;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use vocabulary::TargetId;

use crate::upstream::{Connection, UpstreamError};

/// Connections that are kept at once, for all targets together.
const MAX_KEPT: usize = 64;

/// Logins at one target at once: sshd drops connections when many are not logged in yet (`MaxStartups`).
const MAX_LOGINS: usize = 8;

/// How long a connection is used at most: accounts, groups and keys at the target change.
const MAX_AGE: Duration = Duration::from_secs(300);

/// How often kept connections are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// A connection that is in use.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    target: Arc<Target>,
    login: Option<String>,
    since: Instant,
}

struct Kept {
    lent: Lent,
    until: Instant,
}

/// The kept connections.
pub(crate) struct Pool {
    reuse: Option<Duration>,
    kept: Mutex<VecDeque<Kept>>,
    /// Wakes those who wait for a login when a connection is given back.
    given_back: Notify,
    /// One for each target that was ever gone to: a target that does not answer holds up nobody else's.
    logins: Mutex<HashMap<TargetId, Arc<Semaphore>>>,
    tidying: AtomicBool,
}

impl Pool {
    pub(crate) fn new(reuse: Option<Duration>) -> Self {
        Self {
            reuse,
            kept: Mutex::default(),
            given_back: Notify::new(),
            logins: Mutex::default(),
            tidying: AtomicBool::new(false),
        }
    }

    /// A connection to the target, logged in: a kept one, or a new one. Who waits for a login takes what is given back
    /// meanwhile, or those who come later would take all of it.
    pub(crate) async fn lend(
        &self,
        target: &Arc<Target>,
        login: Option<&str>,
    ) -> Result<Lent, UpstreamError> {
        let logins = self.logins_of(target);
        let mut turn = pin!(logins.acquire());
        let turn = loop {
            // Before the look, so that nothing is given back in between unnoticed.
            let mut given_back = pin!(self.given_back.notified());
            given_back.as_mut().enable();
            if let Some(lent) = self.find(target, login) {
                return Ok(lent);
            }
            tokio::select! {
                turn = &mut turn => break turn,
                () = given_back => {}
            }
        };
        // The semaphore is never closed.
        Self::log_in(target, login, turn.ok()).await
    }

    /// A new connection, for what lasts as long as the connection: forwardings.
    pub(crate) async fn open(
        &self,
        target: &Arc<Target>,
        login: Option<&str>,
    ) -> Result<Lent, UpstreamError> {
        let logins = self.logins_of(target);
        let turn = logins.acquire().await;
        Self::log_in(target, login, turn.ok()).await
    }

    async fn log_in(
        target: &Arc<Target>,
        login: Option<&str>,
        _turn: Option<SemaphorePermit<'_>>,
    ) -> Result<Lent, UpstreamError> {
        let connection = Connection::open(target, login).await?;
        let (target, login) = (Arc::clone(target), login.map(str::to_owned));
        Ok(Lent { connection, target, login, since: Instant::now() })
    }

    fn logins_of(&self, target: &Target) -> Arc<Semaphore> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(logins.entry(target.id).or_insert_with(|| Arc::new(Semaphore::new(MAX_LOGINS))))
    }

    fn find(&self, target: &Target, login: Option<&str>) -> Option<Lent> {
        let now = Instant::now();
        let mut kept = self.lock();
        let fits = |kept: &Kept| {
            let known = &kept.lent;
            known.login.as_deref() == login
                && known.target.id == target.id
                && known.target.url == target.url
                && known.target.material == target.material
                && kept.until > now
                && !known.connection.is_closed()
        };
        // The latest first: it is the least likely to have been closed by the target.
        let place = kept.iter().rposition(fits)?;
        kept.remove(place).map(|kept| kept.lent)
    }

    /// Takes back a connection whose channel ended in order.
    pub(crate) fn give_back(self: &Arc<Self>, lent: Lent) {
        let Some(reuse) = self.reuse else { return };
        let now = Instant::now();
        if lent.connection.is_closed() || now.duration_since(lent.since) > MAX_AGE {
            return;
        }
        let mut kept = self.lock();
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(Kept { lent, until: now + reuse });
        drop(kept);
        self.given_back.notify_waiters();
        if !self.tidying.swap(true, Ordering::AcqRel) {
            let pool = Arc::clone(self);
            // Outlives the session that it belongs to: the connection has to be closed when nobody comes any more. It
            // ends with the last kept connection, or with the worker's runtime.
            drop(tokio::spawn(async move { pool.tidy(reuse).await }));
        }
    }

    /// Lets go of what was kept for long enough, until nothing is kept.
    async fn tidy(&self, reuse: Duration) {
        loop {
            tokio::time::sleep(reuse.min(TIDY_EVERY)).await;
            let now = Instant::now();
            let mut kept = self.lock();
            kept.retain(|kept| kept.until > now && !kept.lent.connection.is_closed());
            if kept.is_empty() {
                // Under the lock: whoever gives something back after this starts anew.
                self.tidying.store(false, Ordering::Release);
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
