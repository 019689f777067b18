//! The program itself: with a gateway that runs, and without one.

#![expect(clippy::unwrap_used, reason = "tests say plainly what they expect")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use gateway::tls::OwnAuthority;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A gateway on free ports; ends when dropped.
struct Gateway {
    child: Option<Child>,
    data: PathBuf,
}

impl Gateway {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_trailgate"))
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
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(data.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        let gateway = Self { child: Some(child), data: data.to_owned() };
        let waited = trailgate(data, &["doctor", "--wait", "--timeout", "60s"]);
        assert!(stderr(&waited).is_empty(), "{}{}", stdout(&waited), gateway.log());
        gateway
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap()
    }

    /// SIGTERM, and the exit code.
    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        child.wait().unwrap().code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

fn trailgate(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trailgate"))
        .args(arguments)
        .env("TRAILGATE_DATA", data)
        .env_remove("TRAILGATE_URL")
        .env_remove("TRAILGATE_TOKEN")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What must work: its standard output.
fn done(data: &Path, arguments: &[&str]) -> String {
    let output = trailgate(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn without_a_gateway_changes_are_refused_in_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    for arguments in [
        &["target", "add", "orders", "postgres://app@127.0.0.1/orders"][..],
        &["agent", "add", "chatgpt"],
        &["person", "list"],
        &["connect", "chatgpt", "orders"],
        &["trail"],
        &["trail", "tail"],
    ] {
        let output = trailgate(&data, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(
            stderr(&output),
            format!(
                "trailgate: no gateway answers at {}\nstart one with `trailgate up`, or name its data directory with --data\n",
                data.join("control.sock").display()
            )
        );
    }
    assert!(!data.exists(), "asking makes no files");
    let verify = trailgate(&data, &["trail", "verify"]);
    assert_eq!((verify.status.code(), stderr(&verify).lines().count()), (Some(1), 2));
}

#[test]
fn what_is_changed_and_read_stands_in_the_trail_and_can_be_read_without_the_gateway() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut gateway = Gateway::start(&data);
    done(
        &data,
        &["target", "add", "orders", "postgres://app:hunter2@127.0.0.1:1/orders", "--label", "env=test"],
    );
    let alice = done(&data, &["person", "add", "alice", "--role", "auditor"]);
    assert!(alice.starts_with("tg_") && alice.trim().lines().count() == 1, "only the token: {alice}");
    done(&data, &["agent", "add", "chatgpt", "--for", "alice"]);
    let unknown = trailgate(&data, &["agent", "add", "other", "--for", "bob"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("trailgate person add bob"), "{}", stderr(&unknown));

    let shown = objects(&done(&data, &["target", "show", "orders", "--json"]));
    assert_eq!(shown[0]["labels"]["env"], "test");
    assert!(done(&data, &["target", "list"]).contains("orders"));
    let card = done(&data, &["connect", "chatgpt", "orders"]);
    assert!(card.contains("psql ") && card.contains("TOKEN"), "{card}");
    let test = trailgate(&data, &["target", "test", "orders"]);
    assert_eq!(test.status.code(), Some(1));
    assert!(stderr(&test).contains("(network"), "{}", stderr(&test));

    done(&data, &["agent", "disable", "chatgpt"]);
    let entries = objects(&done(&data, &["trail", "--json", "--kind", "control.changed"]));
    let done_to: Vec<String> = entries
        .iter()
        .map(|entry| {
            format!(
                "{} {}",
                entry["event"]["action"].as_str().unwrap(),
                entry["event"]["name"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(done_to, ["disable chatgpt", "add chatgpt", "add alice", "add orders"]);
    assert_eq!(entries[0]["principal"]["name"], "local-administrator");
    let reads = objects(&done(&data, &["trail", "--json", "--kind", "trail.read"]));
    assert_eq!(reads.len(), 1, "the first reading is an entry; the second is not yet one for itself");
    assert_eq!(reads[0]["event"]["count"], 4);
    let id = entries[0]["id"].as_str().unwrap();
    assert!(done(&data, &["trail", "show", id]).contains("disable"));

    let everything = done(&data, &["trail", "--json", "--limit", "100"]) + &gateway.log();
    assert!(!everything.contains("hunter2") && !everything.contains("tg_"), "no secret in trail or log");

    assert_eq!(gateway.stop(), Some(0), "{}", gateway.log());
    assert!(!data.join("control.sock").exists() && !data.join("addresses.json").exists());
    let verified = done(&data, &["trail", "verify"]);
    assert!(verified.contains("verify under"), "{verified}");
    let offline = trailgate(&data, &["trail", "list", "--json", "--kind", "control.changed"]);
    assert_eq!(objects(&stdout(&offline)), entries, "the same without the gateway");
    assert!(stderr(&offline).contains("no gateway answers"));
    let refused = trailgate(&data, &["agent", "enable", "chatgpt"]);
    assert!(stderr(&refused).contains("no gateway answers"));
}

#[test]
fn over_the_web_listener_a_token_decides() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let gateway = Gateway::start(&data);
    let addresses: Value =
        serde_json::from_slice(&std::fs::read(data.join("addresses.json")).unwrap()).unwrap();
    let url = format!("http://{}", addresses["web"].as_str().unwrap());
    let root = done(&data, &["person", "add", "root", "--role", "administrator"]);
    let agent = done(&data, &["agent", "add", "chatgpt"]);
    let over_web = |token: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_trailgate"))
            .args(arguments)
            .env("TRAILGATE_DATA", temp.path().join("elsewhere"))
            .env("TRAILGATE_URL", &url)
            .env("TRAILGATE_TOKEN", token.trim())
            .output()
            .unwrap()
    };
    let added = over_web(&root, &["person", "add", "bob"]);
    assert!(added.status.success(), "{}", stderr(&added));
    let agents_try = over_web(&agent, &["person", "add", "eve"]);
    assert_eq!(agents_try.status.code(), Some(1));
    assert!(stderr(&agents_try).contains("agents can never administrate"), "{}", stderr(&agents_try));
    let no_auditor = over_web(&root, &["trail"]);
    assert!(stderr(&no_auditor).contains("lacks the role auditor"), "{}", stderr(&no_auditor));
    let wrong = over_web("tg_wrong", &["target", "list"]);
    assert_eq!(wrong.status.code(), Some(1));
    let missing = over_web("", &["target", "list"]);
    assert!(stderr(&missing).contains("TRAILGATE_TOKEN"));
    drop(gateway);
}

#[test]
fn the_web_listener_speaks_tls_that_its_own_authority_vouches_for() {
    let temp = tempfile::tempdir().unwrap();
    let (data, settings) = (temp.path().join("data"), temp.path().join("trailgate.toml"));
    std::fs::write(&settings, "[web]\ntls = \"required\"\n").unwrap();
    let gateway = Gateway::start_with(&data, &["--config", settings.to_str().unwrap()]);
    let addresses: Value =
        serde_json::from_slice(&std::fs::read(data.join("addresses.json")).unwrap()).unwrap();
    let root = done(&data, &["person", "add", "root", "--role", "administrator"]);
    let over_tls = |authority: &Path| {
        Command::new(env!("CARGO_BIN_EXE_trailgate"))
            .args(["person", "list", "--json"])
            .env("TRAILGATE_URL", format!("https://{}", addresses["web"].as_str().unwrap()))
            .env("TRAILGATE_TOKEN", root.trim())
            .env("TRAILGATE_CA", authority)
            .output()
            .unwrap()
    };
    let listed = over_tls(&data.join("tls/ca.pem"));
    assert_eq!(objects(&stdout(&listed))[0]["name"], "root", "{}", stderr(&listed));
    let other = OwnAuthority::open(temp.path(), "other").unwrap();
    assert!(stderr(&over_tls(&other.ca_file)).contains("certificate was not accepted"));
    drop(gateway);
}

#[test]
fn followers_see_entries_as_they_come() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let gateway = Gateway::start(&data);
    let follower = Command::new(env!("CARGO_BIN_EXE_trailgate"))
        .args(["trail", "tail", "--json", "--kind", "control.changed", "--limit", "2"])
        .env("TRAILGATE_DATA", &data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The reading is recorded when the follower is in place.
    while done(&data, &["trail", "--json", "--kind", "trail.read", "--grep", "tail"]).is_empty() {}
    for name in ["alice", "bob"] {
        done(&data, &["person", "add", name]);
    }
    let followed = follower.wait_with_output().unwrap();
    let names: Vec<Value> =
        objects(&stdout(&followed)).iter().map(|entry| entry["event"]["name"].clone()).collect();
    assert_eq!((names, followed.status.code()), (vec!["alice".into(), "bob".into()], Some(0)));
    drop(gateway);
}

#[test]
fn one_data_directory_has_one_gateway() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let gateway = Gateway::start(&data);
    let second = trailgate(
        &data,
        &[
            "up",
            "--postgres-listen",
            "127.0.0.1:0",
            "--web-listen",
            "127.0.0.1:0",
            "--ssh-listen",
            "127.0.0.1:0",
        ],
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another gateway uses the data directory"), "{}", stderr(&second));
    drop(gateway);
}

#[test]
fn a_gateway_that_is_killed_comes_up_again() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut gateway = Gateway::start(&data);
    done(&data, &["person", "add", "alice"]);
    let mut child = gateway.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut gateway = Gateway::start(&data);
    assert!(done(&data, &["person", "list"]).contains("alice"));
    let entries = objects(&done(&data, &["trail", "--json", "--kind", "control.changed"]));
    assert_eq!(entries.len(), 1);
    assert_eq!(gateway.stop(), Some(0));
    done(&data, &["trail", "verify"]);
}
