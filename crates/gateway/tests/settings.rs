//! What a settings file may say, and what is said when it says something else.

#![expect(clippy::unwrap_used, reason = "tests say plainly what they expect")]

use std::path::Path;

use gateway::settings::{Protection, Settings};

fn refused(text: &str) -> String {
    Settings::from_toml(text, Path::new("trailgate.toml")).unwrap_err().to_string()
}

#[test]
fn the_committed_schema_is_the_types_own() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, Settings::schema()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == Settings::schema(),
        "docs/settings.schema.json is out of date: UPDATE_SCHEMA=1 cargo test -p trailgate --test settings writes it"
    );
}

#[test]
fn nothing_said_means_loopback_and_scram() {
    let settings = Settings::from_toml("", Path::new("x")).unwrap();
    let postgres = settings.postgres_listener().unwrap();
    assert_eq!(
        (postgres.address.to_string().as_str(), postgres.protection),
        ("127.0.0.1:15432", Protection::Offered)
    );
    let web = settings.web_listener().unwrap();
    assert_eq!((web.address.to_string().as_str(), web.protection), ("127.0.0.1:18080", Protection::Plain));
}

#[test]
fn everything_can_be_said() {
    let text = r#"
        [node]
        name = "eu-1"
        hosts = ["db-gateway.example", "10.0.0.5"]
        key = "env:TRAILGATE_KEY"
        [data]
        dir = "/var/lib/trailgate"
        [postgres]
        listen = "[::]:5432"
        tls = "required"
        cert = "cert.pem"
        key = "key.pem"
        auth = "cleartext"
        pre_auth_deadline_s = 5
        [web]
        listen = "0.0.0.0:443"
        tls = "required"
        [journal]
        segment_mib = 128
        reads = "power"
        changes = "crash"
        [limits]
        connections = 100
        api_connections = 10
        [workers]
        threads = 4
        shutdown_grace_s = 0
    "#;
    let settings = Settings::from_toml(text, Path::new("x")).unwrap();
    assert_eq!(settings.postgres_listener().unwrap().protection, Protection::Required);
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    let cases = [
        "[postgres]\nlisen = \"127.0.0.1:1\"",
        "[postgre]",
        "[postgres]\nlisten = 5432",
        "[postgres]\nlisten = \"5432\"",
        "[postgres]\ntls = \"maybe\"",
        "[postgres]\nlisten = \"0.0.0.0:5432\"\ntls = \"off\"",
        "[postgres]\nlisten = \"0.0.0.0:5432\"\ntls = \"offered\"",
        "[web]\nlisten = \"0.0.0.0:80\"\ntls = \"off\"",
        "[postgres]\nauth = \"cleartext\"",
        "[postgres]\nauth = \"trust\"",
        "[postgres]\ncert = \"c.pem\"",
        "[web]\nkey = \"k.pem\"",
        "[postgres]\npre_auth_deadline_s = 0",
        "[journal]\nsegment_mib = 4096",
        "[journal]\nreads = \"never\"",
        "[workers]\nthreads = 0",
        "[node]\nname = \"Not A Name\"",
        "[node]\nhosts = [\"a b\"]",
        "[node]\nkey = \"hunter2\"",
        "[postgres\n",
    ];
    let said: Vec<String> = cases.iter().map(|case| format!("{case}\n=> {}\n", refused(case))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn no_setting_lets_tokens_cross_a_network_in_the_clear_unasked() {
    for (text, secure) in [
        ("[postgres]\nlisten = \"0.0.0.0:5432\"", Protection::Required),
        ("[postgres]\nlisten = \"0.0.0.0:5432\"\nallow_plaintext = true", Protection::Offered),
        ("[postgres]\nlisten = \"0.0.0.0:5432\"\nallow_plaintext = true\ntls = \"off\"", Protection::Plain),
        ("[postgres]\nlisten = \"[::1]:5432\"\ntls = \"off\"", Protection::Plain),
    ] {
        let settings = Settings::from_toml(text, Path::new("x")).unwrap();
        assert_eq!(settings.postgres_listener().unwrap().protection, secure, "{text}");
    }
}
