//! A gateway as a child process, exactly as `trailgate up` runs it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Failure;
use crate::client::{self, Client};

/// A running gateway; ends when dropped.
pub struct Gateway {
    child: Child,
}

impl Gateway {
    /// Starts a gateway over `data` on free ports, and waits until it answers.
    pub async fn start(data: &Path, patience: Duration) -> Result<Self, Failure> {
        let log = data.with_extension("log");
        let failed = |error: std::io::Error| {
            Failure::new(format!("the gateway can't be started: {error}"), "try again")
        };
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .args([
                "up",
                "--postgres-listen",
                "127.0.0.1:0",
                "--web-listen",
                "127.0.0.1:0",
                "--ssh-listen",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(data)
            .env_remove(client::URL_VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let mut gateway = Self { child };
        let client = Client::at_socket(data);
        let deadline = Instant::now() + patience;
        while client.get::<serde_json::Value>("/v1/health").await.is_err() {
            if gateway.child.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let last = log.trim().lines().last().unwrap_or("it said nothing").to_owned();
                return Err(Failure::new(
                    format!("the gateway did not come up: {last}"),
                    "`trailgate up` may say more",
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    /// Stops the gateway and waits for its end.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        drop(self.child.wait());
    }
}
