//! Owns every thread of the gateway: starts them, tells them to stop, and notices when one ends by itself.
//!
//! *Invariant:* nothing else starts threads or detached tasks. What runs inside a thread belongs to that thread's
//! future and is gone with it.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

/// Endings that are remembered; each thread has one.
const MAX_THREADS: usize = 4096;

/// A thread that ended before it was told to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Which.
    pub name: String,
    /// Whether it panicked.
    pub panicked: bool,
}

/// The threads of a gateway.
#[derive(Debug)]
pub struct Supervisor {
    stop: watch::Sender<bool>,
    ended: mpsc::Sender<Ended>,
    endings: mpsc::Receiver<Ended>,
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let (ended, endings) = mpsc::channel(MAX_THREADS);
        Self { stop: watch::Sender::new(false), ended, endings, threads: Vec::new() }
    }
}

impl Supervisor {
    /// Holds `true` once everything should stop.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs `work` on a thread of its own, on a runtime of its own with a large stack if asked for.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<F, W>(&mut self, name: &str, stack_bytes: usize, work: W) -> io::Result<()>
    where
        F: Future<Output = ()>,
        W: FnOnce() -> F + Send + 'static,
    {
        let end = AtEnd { ended: self.ended.clone(), name: name.to_owned() };
        let (built, building) = std::sync::mpsc::sync_channel(1);
        let thread =
            std::thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(move || {
                // A runtime of local tasks belongs to its thread, so it is built there. It polls `work` only when
                // that itself is woken, which a `LocalSet` would do at every wake-up of any task.
                match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        let _ = built.send(Ok(()));
                        // Tasks that are left are dropped with the runtime, inside its context.
                        runtime.block_on(work());
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
                drop(end);
            })?;
        building.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it began")))?;
        self.threads.push((name.to_owned(), thread));
        Ok(())
    }

    /// The next thread that ends.
    pub async fn ended(&mut self) -> Option<Ended> {
        self.endings.recv().await
    }

    /// Tells everything to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for all threads; returns the names of those that still run after `patience`. They are left behind.
    #[must_use]
    pub fn join(self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        let mut left = Vec::new();
        for (name, thread) in self.threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                if thread.join().is_err() {
                    tracing::error!(thread = name, "a thread panicked");
                }
            } else {
                left.push(name);
            }
        }
        left
    }
}

/// Tells of a thread's end, however it comes.
struct AtEnd {
    ended: mpsc::Sender<Ended>,
    name: String,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let ended = Ended { name: std::mem::take(&mut self.name), panicked: std::thread::panicking() };
        // Full means that thousands ended already, and that is known.
        let _ = self.ended.try_send(ended);
    }
}

/// Drives a connection of the command line in the background of its short life.
pub fn background(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_thread_is_noticed_and_the_others_stop() {
        let mut supervisor = Supervisor::default();
        let mut stop = supervisor.stopping();
        supervisor
            .start("patient", 1 << 20, move || async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .unwrap();
        supervisor.start("clumsy", 1 << 20, || async { panic!("as the test wants") }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ended = runtime.block_on(supervisor.ended());
        assert_eq!(ended, Some(Ended { name: "clumsy".into(), panicked: true }));
        supervisor.stop();
        assert_eq!(supervisor.join(Duration::from_secs(10)), Vec::<String>::new());
    }

    #[test]
    fn a_thread_that_does_not_stop_is_named() {
        let mut supervisor = Supervisor::default();
        supervisor.start("deaf", 1 << 20, std::future::pending).unwrap();
        supervisor.stop();
        assert_eq!(supervisor.join(Duration::from_millis(20)), ["deaf"]);
    }
}
