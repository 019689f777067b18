//! Cancelling: a client shows the pid and key that it was given at login on a connection of its own, and the
//! gateway cancels what that session runs at the target.
//!
//! The client's pid is the target backend's, so that the pid in a notification means the same to a driver. The
//! key is the gateway's own: the target's never reaches a client. *Invariant:* whoever asks to cancel hears
//! nothing, whether the key was right or not.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, rand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::upstream::Problem;
use crate::upstream::dial::{self, Offer, Place, TlsPlan};
use crate::wire::startup::{CancelRequest, Protocol};

/// How long a target may take to take a cancel request.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Parts of the map that are locked by themselves.
const SHARDS: usize = 16;

/// How to cancel what runs on one connection to a target.
#[derive(Clone)]
pub struct CancelRoute {
    /// The very server that the connection leads to, not its name: behind a name there may be several.
    pub place: Place,
    /// TLS, if the connection uses it: the key must not cross the network in the clear then.
    pub tls: Option<TlsPlan>,
    /// The backend's pid.
    pub pid: i32,
    /// The backend's key.
    pub key: Vec<u8>,
}

impl fmt::Debug for CancelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.is_some();
        f.debug_struct("CancelRoute").field("place", &self.place).field("tls", &tls).finish_non_exhaustive()
    }
}

impl CancelRoute {
    /// Asks the target to cancel, and waits until it has closed the connection: by then it has passed the signal on.
    ///
    /// # Errors
    /// [`Problem`] if the target can't be reached as the session reaches it.
    pub async fn send(&self) -> Result<(), Problem> {
        let sent = tokio::time::timeout(CANCEL_TIMEOUT, Box::pin(self.send_now())).await;
        sent.unwrap_or(Err(Problem::TimedOut(CANCEL_TIMEOUT.as_secs())))
    }

    async fn send_now(&self) -> Result<(), Problem> {
        let mut stream = dial::connect(&self.place, None).await?;
        if let Some(tls) = &self.tls {
            stream = match dial::encrypt(stream, tls).await? {
                Offer::Encrypted(stream) => stream,
                Offer::Declined(_) => return Err(Problem::NoTls),
            };
        }
        let request = Zeroizing::new(CancelRequest { pid: self.pid, key: self.key.clone() }.to_bytes());
        stream.write_all(&request).await.map_err(Problem::Broken)?;
        stream.flush().await.map_err(Problem::Broken)?;
        let mut nothing = [0u8; 1];
        // The target closes without a word; some do it abruptly, which is as good.
        let _ = stream.read(&mut nothing).await;
        Ok(())
    }
}

/// Called when a session is to be cancelled; returns whether the session has dealt with it (a held command), so that
/// the target need not hear of it. Runs on the canceller's thread and must not block.
pub type Hook = Box<dyn Fn() -> bool + Send + Sync>;

struct Entry {
    id: u64,
    key: Zeroizing<Vec<u8>>,
    route: Arc<CancelRoute>,
    hook: Option<Arc<Hook>>,
}

/// The sessions that can be cancelled, by the pid that their clients know.
#[derive(Default)]
pub struct CancelMap {
    shards: [Mutex<HashMap<i32, Vec<Entry>>>; SHARDS],
    next: AtomicU64,
}

impl fmt::Debug for CancelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelMap").field("sessions", &self.len()).finish()
    }
}

impl CancelMap {
    /// Makes a session cancellable until the guard is dropped. `None` if the system has no random numbers: then
    /// the client gets no key.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        protocol: Protocol,
        route: CancelRoute,
        hook: Option<Hook>,
    ) -> Option<CancelGuard> {
        let mut key = Zeroizing::new(vec![0u8; protocol.cancel_key_len()]);
        rand::fill(&mut key).ok()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let pid = route.pid;
        let entry = Entry { id, key: key.clone(), route: Arc::new(route), hook: hook.map(Arc::new) };
        self.shard(pid).entry(pid).or_default().push(entry);
        Some(CancelGuard { map: Arc::clone(self), pid, id, key })
    }

    /// Cancels what a client asks to cancel. Does nothing for a wrong key; never says whether it did.
    pub async fn cancel(&self, request: &CancelRequest) {
        let Some((route, hook)) = self.find(request) else {
            tracing::debug!(pid = request.pid, "a cancel request fits no session");
            return;
        };
        if hook.is_some_and(|hook| hook()) {
            return;
        }
        if let Err(error) = route.send().await {
            tracing::warn!(place = %route.place, %error, "a cancel request did not reach the target");
        }
    }

    /// Sessions that can be cancelled now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, request: &CancelRequest) -> Option<(Arc<CancelRoute>, Option<Arc<Hook>>)> {
        let shard = self.shard(request.pid);
        // Two targets may have backends of the same pid; the keys tell them apart.
        let fits = |entry: &&Entry| constant_time::verify_slices_are_equal(&entry.key, &request.key).is_ok();
        let entry = shard.get(&request.pid)?.iter().find(fits)?;
        Some((Arc::clone(&entry.route), entry.hook.clone()))
    }

    fn shard(&self, pid: i32) -> MutexGuard<'_, HashMap<i32, Vec<Entry>>> {
        let [first, ..] = &self.shards;
        let place = usize::try_from(pid.unsigned_abs()).unwrap_or_default() % SHARDS;
        lock(self.shards.get(place).unwrap_or(first))
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session that can be cancelled; dropping it ends that.
pub struct CancelGuard {
    map: Arc<CancelMap>,
    pid: i32,
    id: u64,
    key: Zeroizing<Vec<u8>>,
}

impl CancelGuard {
    /// The pid for the client's BackendKeyData.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// The key for the client's BackendKeyData.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for CancelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelGuard").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let mut shard = self.map.shard(self.pid);
        if let Some(entries) = shard.get_mut(&self.pid) {
            entries.retain(|entry| entry.id != self.id);
            if entries.is_empty() {
                shard.remove(&self.pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn route(pid: i32) -> CancelRoute {
        // Nobody listens there.
        CancelRoute { place: Place::Unix("/nonexistent/.s.PGSQL.1".into()), tls: None, pid, key: vec![1; 4] }
    }

    fn hook(count: &Arc<AtomicUsize>) -> Option<Hook> {
        let count = Arc::clone(count);
        Some(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            true
        }))
    }

    #[tokio::test]
    async fn only_the_right_key_cancels_and_only_while_the_session_is_open() {
        let map = Arc::new(CancelMap::default());
        let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // Two targets, the same pid.
        let one = map.register(Protocol::V3_0, route(42), hook(&first)).unwrap();
        let two = map.register(Protocol::V3_2, route(42), hook(&second)).unwrap();
        assert_eq!((one.key().len(), two.key().len(), map.len()), (4, 32, 2));

        let ask = |pid: i32, key: &[u8]| CancelRequest { pid, key: key.to_vec() };
        for wrong in [ask(42, &[0; 4]), ask(43, one.key()), ask(42, &two.key()[..31]), ask(-1, &[0; 256])] {
            map.cancel(&wrong).await;
        }
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (0, 0));
        map.cancel(&ask(42, two.key())).await;
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (0, 1));

        let late = ask(42, one.key());
        drop(one);
        map.cancel(&late).await;
        assert_eq!((first.load(Ordering::SeqCst), map.len()), (0, 1));
        drop(two);
        assert!(map.is_empty());
    }

    #[test]
    fn keys_are_never_shown() {
        let shown = format!("{:?}", CancelRoute { key: vec![0xAB; 4], ..route(7) });
        assert!(!shown.contains("171"), "{shown}");
    }
}
