//! Signals, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use session::Gatehouse;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::cli::Failure;
use crate::supervisor::Supervisor;

/// How often it is looked whether the last session is over.
const GLANCE: Duration = Duration::from_millis(20);

/// How long sessions that have been asked to end may take for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub fn new(runtime: &Runtime) -> Result<Self, Failure> {
        let _inside = runtime.enter();
        let failed =
            |error: std::io::Error| Failure::new(format!("signals can't be received: {error}"), "try again");
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Lets nobody in any more, gives open sessions `grace` to end by themselves (a second signal cuts it short), then
/// ends them.
pub async fn drain(house: &Arc<Gatehouse>, supervisor: &Supervisor, signals: &mut Signals, grace: Duration) {
    supervisor.stop();
    let open = house.sessions().len();
    if open > 0 && !grace.is_zero() {
        tracing::info!(
            "stopping: {open} open session{} may end within {} s; a second signal ends them now",
            if open == 1 { "" } else { "s" },
            grace.as_secs()
        );
        tokio::select! {
            () = all_over(house, grace) => {}
            () = signals.next() => {}
        }
    }
    house.close();
    all_over(house, GOODBYE).await;
}

/// Returns once no session is open, or after `patience`.
async fn all_over(house: &Gatehouse, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !house.sessions().is_empty() && Instant::now() < deadline {
        sleep(GLANCE).await;
    }
}
