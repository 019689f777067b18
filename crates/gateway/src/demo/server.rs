//! A throwaway PostgreSQL server with a small shop in it.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tools::Tools;
use crate::cli::Failure;

/// What the shop sells, and how.
const SHOP: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, country text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, status text NOT NULL,
                     total numeric(10,2) NOT NULL, placed date NOT NULL);
CREATE TABLE carts (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, items int NOT NULL, idle_days int NOT NULL);
INSERT INTO customers SELECT n, 'Customer ' || n, (ARRAY['DE','FR','JP','US'])[1 + n / 7 % 4] FROM generate_series(1, 200) n;
INSERT INTO orders SELECT n, 1 + n % 200, (ARRAY['open','packed','shipped','paid'])[1 + n % 4], (n * 7919 % 50000) / 100.0,
                          date '2026-11-01' + n % 22 FROM generate_series(1, 2000) n;
INSERT INTO carts SELECT n, 1 + n % 200, 1 + n % 5, n % 40 FROM generate_series(1, 137) n;
ALTER TABLE customers OWNER TO app;
ALTER TABLE orders OWNER TO app;
ALTER TABLE carts OWNER TO app;
";

/// A running server; ends when dropped.
pub struct Server {
    child: Child,
    port: u16,
    password: String,
}

impl Server {
    /// Makes a server under `folder`, starts it and fills it.
    pub async fn start(tools: &Tools, folder: &Path, patience: Duration) -> Result<Self, Failure> {
        let broken = |error: std::io::Error| Failure::file("prepare PostgreSQL in", folder, &error);
        // The server's user has to get through to its own directory.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).map_err(broken)?;
        let home = folder.join("postgres");
        tools.directory(&home).map_err(broken)?;
        let (cluster, log) = (home.join("data"), folder.join("postgres.log"));
        let log_file = File::create(&log).map_err(broken)?;
        let made = tools
            .as_server(&tools.initdb)
            .args(["--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", "-D"])
            .arg(&cluster)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().map_err(broken)?)
            .stderr(log_file.try_clone().map_err(broken)?)
            .status()
            .map_err(broken)?;
        if !made.success() {
            return Err(said("initdb failed", &log));
        }
        let port = free_port().map_err(broken)?;
        let child = tools
            .as_server(&tools.postgres)
            .arg("-D")
            .arg(&cluster)
            .arg("-k")
            .arg(&home)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=20"])
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().map_err(broken)?)
            .stderr(log_file)
            .spawn()
            .map_err(broken)?;
        let mut server = Self { child, port, password: password()? };
        server.until_ready(tools, &home, &log, patience).await?;
        server.fill(tools, &home)?;
        Ok(server)
    }

    /// As the client library writes it, the password with it.
    pub fn url(&self) -> String {
        format!("postgres://app:{}@127.0.0.1:{}/orders", self.password, self.port)
    }

    /// Stops the server and waits for its end.
    pub fn stop(self) {
        drop(self);
    }

    async fn until_ready(
        &mut self,
        tools: &Tools,
        home: &Path,
        log: &Path,
        patience: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let asked = self.administer(tools, home, "postgres").args(["-c", "SELECT 1"]).output();
            if asked.is_ok_and(|asked| asked.status.success()) {
                return Ok(());
            }
            if self.child.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
                return Err(said("PostgreSQL did not come up", log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn fill(&self, tools: &Tools, home: &Path) -> Result<(), Failure> {
        // The password goes through standard input, not through the process list.
        let role = format!("CREATE ROLE app LOGIN PASSWORD '{}';\nCREATE DATABASE orders;\n", self.password);
        for (database, script) in [("postgres", role.as_str()), ("orders", SHOP)] {
            let failed =
                |error: std::io::Error| Failure::new(format!("psql can't be run: {error}"), "try again");
            let mut psql = self
                .administer(tools, home, database)
                .args(["-v", "ON_ERROR_STOP=1", "-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(failed)?;
            if let Some(mut input) = psql.stdin.take() {
                input.write_all(script.as_bytes()).map_err(failed)?;
            }
            let done = psql.wait_with_output().map_err(failed)?;
            if !done.status.success() {
                let reason = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                return Err(Failure::new(
                    format!("the shop can't be filled: {reason}"),
                    "please report this",
                ));
            }
        }
        Ok(())
    }

    /// psql as the server's superuser, over its Unix socket.
    fn administer(&self, tools: &Tools, home: &Path, database: &str) -> Command {
        let mut psql = tools.as_server(&tools.psql);
        psql.args(["-X", "-q", "-U", "postgres", "-p", &self.port.to_string(), "-d", database, "-h"])
            .arg(home);
        psql
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        drop(self.child.wait());
    }
}

/// A port that nobody listens on now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// 128 random bits.
fn password() -> Result<String, Failure> {
    let mut random = [0u8; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new("the system has no random numbers to give", "try again"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn said(what: &str, log: &Path) -> Failure {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let last = log.trim().lines().last().unwrap_or("it said nothing").to_owned();
    Failure::new(format!("{what}: {last}"), "check that PostgreSQL is installed in full")
}
