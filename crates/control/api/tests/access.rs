//! Who may do what: every route for every kind of caller, as one reviewed table; and that it is recorded.

#![expect(clippy::unwrap_used, reason = "tests say plainly what they expect")]

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::caller::Peer;
use api::control::{LogAccess, NodeInfo, Parts, Prober};
use api::types::{Addresses, TargetTest};
use api::{Control, router};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use identity::Role;
use identity::scram::Decoy;
use serde_json::{Value, json};
use session::{Durability, Gatehouse, Target};
use store::{ControlStore, NewPrincipal, NewTarget, NodeKey, SqliteStore};
use tokio::sync::watch;
use tower::ServiceExt;
use trail::Trail;
use vocabulary::{NodeId, PrincipalKind, Timestamp};

/// Says that every target is well.
struct Well;

impl Prober for Well {
    fn test(&self, target: Arc<Target>) -> Pin<Box<dyn Future<Output = TargetTest> + Send + '_>> {
        Box::pin(async move {
            TargetTest {
                target: target.name.clone(),
                ok: true,
                server: None,
                role: None,
                database: None,
                tls: None,
                duration_us: 1,
                fault: None,
                problem: None,
                advice: None,
            }
        })
    }
}

struct House {
    router: Router,
    trail: Arc<Trail>,
    tokens: Vec<(&'static str, String)>,
    _stop: watch::Sender<bool>,
}

/// A gateway without listeners, with one principal of every sort.
fn house(data: &Path) -> House {
    let settings = trail::Settings::new(
        NodeId::from_bytes([1; 16]),
        "test/node",
        Arc::new(trail::NodeKey::new(&[7; 32]).unwrap()),
    );
    let trail = Arc::new(Trail::open(data, settings).unwrap().0);
    trail.start_sealer().unwrap();
    let mut store = SqliteStore::open(&data.join("control.db"), NodeKey::new([7; 32]), |_| None).unwrap();
    let mut tokens = Vec::new();
    for (name, kind, roles) in [
        ("administrator", PrincipalKind::Person, vec![Role::Administrator]),
        ("auditor", PrincipalKind::Person, vec![Role::Auditor]),
        ("reviewer", PrincipalKind::Person, vec![Role::Reviewer]),
        ("person", PrincipalKind::Person, vec![]),
        ("agent", PrincipalKind::Agent, vec![]),
        ("service", PrincipalKind::Service, vec![]),
        ("disabled", PrincipalKind::Person, vec![Role::Administrator]),
        ("expired", PrincipalKind::Person, vec![Role::Administrator]),
    ] {
        let now = Timestamp::now();
        let new = NewPrincipal {
            kind,
            name: name.parse().unwrap(),
            on_behalf_of: None,
            groups: Vec::new(),
            roles,
            ssh_keys: Vec::new(),
            expires_at: (name == "expired").then_some(Timestamp(now.0 + 1_000)),
        };
        let minted = store::change(
            &mut store,
            now,
            |edit| {
                let minted = edit.add_principal(&new)?;
                if name == "disabled" {
                    edit.set_disabled(kind, &new.name, true)?;
                }
                Ok(minted)
            },
            &mut |_| Ok(()),
        );
        tokens.push((name, minted.unwrap().token.expose().to_owned()));
    }
    let target = NewTarget {
        name: "orders".parse().unwrap(),
        url: "postgres://app:hunter2@127.0.0.1:5432/orders".parse().unwrap(),
        labels: [].into(),
        allow: [].into(),
    };
    store::change(&mut store, Timestamp::now(), |edit| edit.add_target(&target), &mut |_| Ok(())).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let gatehouse = Gatehouse::new(Arc::clone(&trail), NodeId::from_bytes([1; 16]), Durability::default());
    gatehouse.publish(store.snapshot().unwrap());
    let (stop, stopping) = watch::channel(false);
    let control = Control::new(Parts {
        gatehouse,
        decoy: Decoy::new([3; 32]),
        trail: Arc::clone(&trail),
        store: Box::new(store),
        ssh: None,
        prober: Box::new(Well),
        node: NodeInfo {
            id: NodeId::from_bytes([1; 16]),
            name: "test".into(),
            version: "0".into(),
            started_at: Timestamp(0),
            data: "/".into(),
            addresses: Addresses { postgres: Some("127.0.0.1:15432".into()), ..Addresses::default() },
            log: LogAccess::default(),
        },
        webhooks: Vec::new(),
        stop: stopping,
    });
    House { router: router(control), trail, tokens, _stop: stop }
}

impl House {
    async fn ask(&self, caller: &str, method: &str, path: &str, body: &Value) -> (u16, String) {
        // Addresses of their own, so that one caller's failures do not slow another down.
        let place = self.tokens.iter().position(|(name, _)| *name == caller).unwrap_or(99);
        self.ask_from(u8::try_from(place).unwrap(), caller, method, path, body).await
    }

    async fn ask_from(
        &self,
        place: u8,
        caller: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        let peer = if caller == "control socket" {
            Peer::Control { uid: Some(0), pid: Some(1) }
        } else {
            Peer::Web { address: SocketAddr::from(([10, 0, 0, place], 9)), tls: false }
        };
        if let Some((_, token)) = self.tokens.iter().find(|(name, _)| *name == caller) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(peer);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        if path.ends_with("/tail") && status == 200 {
            return (status, String::new());
        }
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        if status >= 400 {
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{method} {path}: {body}");
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["status"], status);
            assert!(!problem["detail"].as_str().unwrap().is_empty());
        }
        assert!(!body.contains("hunter2"), "{body}");
        (status, body)
    }

    async fn entries(&self, kind: &str) -> Vec<Value> {
        let (status, lines) =
            self.ask("control socket", "GET", &format!("/v1/trail?kind={kind}"), &Value::Null).await;
        assert_eq!(status, 200, "{lines}");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const CALLERS: [&str; 10] = [
    "nobody",
    "agent",
    "service",
    "person",
    "reviewer",
    "auditor",
    "administrator",
    "disabled",
    "expired",
    "control socket",
];

#[tokio::test]
async fn the_table_of_who_may_do_what() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    let nothing = json!({});
    // What changes something does so in an order in which each caller who may finds it possible.
    let routes: [(&str, &str, Value); 34] = [
        ("GET", "/v1/health", nothing.clone()),
        ("GET", "/v1/status", nothing.clone()),
        ("GET", "/v1/targets", nothing.clone()),
        ("GET", "/v1/targets/orders", nothing.clone()),
        ("POST", "/v1/targets", json!({"name": "NEW", "url": "postgres://app:x@127.0.0.1/d"})),
        ("POST", "/v1/targets/orders/test", nothing.clone()),
        ("DELETE", "/v1/targets/NEW", nothing.clone()),
        ("GET", "/v1/agents", nothing.clone()),
        ("POST", "/v1/agents", json!({"name": "NEW"})),
        ("POST", "/v1/agents/NEW/rotate", json!({"grace_s": 60})),
        ("POST", "/v1/agents/NEW/disable", nothing.clone()),
        ("POST", "/v1/agents/NEW/enable", nothing.clone()),
        ("GET", "/v1/agents/agent", nothing.clone()),
        ("DELETE", "/v1/agents/NEW", nothing.clone()),
        ("POST", "/v1/persons", json!({"name": "NEW", "roles": ["administrator"]})),
        ("POST", "/v1/services", json!({"name": "NEW-s"})),
        ("GET", "/v1/policy", nothing.clone()),
        ("POST", "/v1/policy", json!({"name": "careful"})),
        ("GET", "/v1/policy/history", nothing.clone()),
        (
            "POST",
            "/v1/policy/explain",
            json!({"principal": "agent", "target": "orders", "command": "SELECT 1"}),
        ),
        ("GET", "/v1/sessions", nothing.clone()),
        ("GET", "/v1/connect?principal=agent&target=orders", nothing.clone()),
        ("GET", "/v1/trail", nothing.clone()),
        ("GET", "/v1/trail/tail", nothing.clone()),
        ("GET", "/v1/trail/00000000000000000000000000-1", nothing.clone()),
        ("POST", "/v1/trail/sessions/00000000000000000000000000/erase", json!({"reason": "asked for"})),
        ("GET", "/v1/reviews", nothing.clone()),
        ("GET", "/v1/reviews/rv_00000000000000000000000000", nothing.clone()),
        ("POST", "/v1/reviews/rv_00000000000000000000000000/approve", nothing.clone()),
        ("POST", "/v1/reviews/rv_00000000000000000000000000/deny", nothing.clone()),
        ("GET", "/log/checkpoint", nothing.clone()),
        ("GET", "/log/tile/0/000", nothing.clone()),
        ("GET", "/v1/trail/00000000000000000000000000-1/proof?payload=true", nothing.clone()),
        ("GET", "/v1/nothing", nothing.clone()),
    ];
    let mut table = format!("{:62}", "");
    for caller in CALLERS {
        table.push_str(&format!("{caller:>15}"));
    }
    for (method, path, body) in &routes {
        table.push_str(&format!("\n{:62}", format!("{method} {}", path.split('?').next().unwrap())));
        for caller in CALLERS {
            let fresh = format!("new-{}", caller.replace(' ', "-"));
            let body: Value = serde_json::from_str(&body.to_string().replace("NEW", &fresh)).unwrap();
            let (status, _) = house.ask(caller, method, &path.replace("NEW", &fresh), &body).await;
            table.push_str(&format!("{status:>15}"));
        }
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn changes_readings_and_failed_logins_are_entries() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    let (status, _) = house.ask("administrator", "POST", "/v1/persons", &json!({"name": "bob"})).await;
    assert_eq!(status, 201);
    let changes = house.entries("control.changed").await;
    assert_eq!(changes.len(), 1);
    let change = &changes[0];
    assert_eq!((&change["event"]["action"], &change["event"]["name"]), (&json!("add"), &json!("bob")));
    assert_eq!(change["principal"]["name"], "administrator");
    assert_eq!(change["principal"]["proven_by"], "bearer");

    let (status, _) = house.ask("auditor", "GET", "/v1/trail?grep=bob&limit=7", &Value::Null).await;
    assert_eq!(status, 200);
    let reads = house.entries("trail.read").await;
    let read = reads.iter().find(|read| read["principal"]["name"] == "auditor").unwrap();
    assert_eq!(read["event"]["filters"], json!({"grep": "bob", "limit": 7}));
    assert_eq!(read["event"]["count"], 1);

    for caller in ["disabled", "expired"] {
        assert_eq!(house.ask(caller, "GET", "/v1/targets", &Value::Null).await.0, 401);
    }
    let failed = house.entries("auth.failed").await;
    let reasons: Vec<&str> = failed.iter().map(|entry| entry["event"]["claimed"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["expired", "disabled"]);
    house.trail.close(Duration::from_secs(10)).unwrap();
}

#[tokio::test]
async fn bad_tokens_lock_out_only_bad_tokens() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    // More than pass without waiting; all from one address.
    let mut answers = Vec::new();
    for _ in 0..25 {
        answers.push(house.ask_from(3, "expired", "GET", "/v1/targets", &Value::Null).await.0);
    }
    assert_eq!((answers.first(), answers.last()), (Some(&401), Some(&429)), "{answers:?}");
    assert_eq!(house.ask_from(3, "administrator", "GET", "/v1/targets", &Value::Null).await.0, 200);
    assert_eq!(house.ask_from(4, "expired", "GET", "/v1/targets", &Value::Null).await.0, 401);
    let recorded = answers.iter().filter(|status| **status == 401).count() + 1;
    assert_eq!(house.entries("auth.failed").await.len(), recorded, "a flood does not fill the trail");
    house.trail.close(Duration::from_secs(10)).unwrap();
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    house.trail.close(Duration::from_secs(10)).unwrap();
    let (status, _) = house.ask("control socket", "POST", "/v1/persons", &json!({"name": "bob"})).await;
    assert_eq!(status, 503);
    assert_eq!(house.ask("control socket", "GET", "/v1/persons/bob", &Value::Null).await.0, 404);
    assert_eq!(house.ask("control socket", "GET", "/v1/trail", &Value::Null).await.0, 503);
}

#[tokio::test]
async fn bad_requests_are_explained() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    let mut said = String::new();
    for (method, path, body) in [
        ("POST", "/v1/targets", json!({"name": "orders", "url": "postgres://app:x@h/d"})),
        ("POST", "/v1/targets", json!({"name": "x", "url": "oracle://h/d"})),
        ("POST", "/v1/targets", json!({"name": "x", "url": "postgres://app:file%3A%2Fetc%2Fpasswd@h/d"})),
        ("POST", "/v1/targets", json!({"name": "X", "url": "postgres://app:x@h/d"})),
        ("POST", "/v1/targets", json!({"name": "x", "uri": "postgres://app:x@h/d"})),
        ("GET", "/v1/targets/nowhere", Value::Null),
        ("GET", "/v1/agents/person", Value::Null),
        ("POST", "/v1/agents", json!({"name": "a", "on_behalf_of": "bob"})),
        ("POST", "/v1/agents", json!({"name": "a", "roles": ["administrator"]})),
        ("POST", "/v1/agents", json!({"name": "a", "expires": "soon"})),
        ("POST", "/v1/persons", json!({"name": "local-administrator"})),
        ("GET", "/v1/connect?principal=nobody&target=orders", Value::Null),
        ("GET", "/v1/connect?principal=agent&target=nowhere", Value::Null),
        ("POST", "/v1/policy", json!({"name": "reckless"})),
        (
            "POST",
            "/v1/policy",
            json!({"name": "own", "source": "permit (principal, action, resource)\nwhen { context.verbs };"}),
        ),
        (
            "POST",
            "/v1/policy/explain",
            json!({"principal": "nobody", "target": "orders", "command": "SELECT 1"}),
        ),
        (
            "POST",
            "/v1/policy/explain",
            json!({"principal": "agent", "target": "nowhere", "command": "SELECT 1"}),
        ),
        ("GET", "/v1/trail?kind=commands", Value::Null),
        ("GET", "/v1/trail?limit=99999999", Value::Null),
        ("GET", "/v1/trail?colour=red", Value::Null),
        ("PUT", "/v1/targets", Value::Null),
    ] {
        let (status, answer) = house.ask("control socket", method, path, &body).await;
        let problem: Value = serde_json::from_str(&answer).unwrap();
        let (detail, advice) = (problem["detail"].as_str().unwrap(), problem["advice"].as_str().unwrap());
        said.push_str(&format!("{method} {path} {body}\n  {status} {detail}\n  → {advice}\n"));
    }
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    let body = json!({"name": "x", "url": "x".repeat(2 << 20)});
    assert_eq!(house.ask("control socket", "POST", "/v1/targets", &body).await.0, 413);
}

#[tokio::test]
async fn a_policy_is_applied_shown_and_explained() {
    let temp = tempfile::tempdir().unwrap();
    let house = house(temp.path());
    let get = async |path: &str| -> Value {
        let (status, body) = house.ask("auditor", "GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let before = get("/v1/policy").await;
    assert_eq!((&before["name"], &before["number"]), (&json!("observe"), &json!(0)));

    let (status, applied) =
        house.ask("administrator", "POST", "/v1/policy", &json!({"name": "careful"})).await;
    let applied: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!((status, &applied["changed"], &applied["before"]), (200, &json!(true), &before["hash"]));
    let warning = applied["policy"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("group `reviewers` has 0 people"), "{warning}");

    let now = get("/v1/policy").await;
    assert_eq!((&now["name"], &now["applied_by"]), (&json!("careful"), &json!("administrator")));
    assert_eq!(get("/v1/policy/history").await.as_array().unwrap().len(), 1);
    let changes = house.entries("control.changed").await;
    let change = &changes[0]["event"];
    assert_eq!((&change["subject"], &change["action"]), (&json!("policy"), &json!("apply")));
    assert_eq!((&change["before"]["hash"], &change["after"]["hash"]), (&before["hash"], &now["hash"]));

    let mut question = json!({"principal": "agent", "target": "orders",
        "command": "SELECT 1; DELETE FROM carts WHERE id = 1"});
    let explain = async |question: &Value| -> Value {
        let (status, body) = house.ask("auditor", "POST", "/v1/policy/explain", question).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let both = explain(&question).await;
    assert_eq!((&both[0]["effect"], &both[1]["effect"]), (&json!("permit"), &json!("review")));
    assert_eq!(both[1]["objects"], json!([{"name": "public.carts", "usage": "write"}]));
    assert_eq!(both[1]["review"]["groups"], json!(["reviewers"]));
    assert_eq!(both[1]["decision"]["policies"], json!(["careful-write"]));
    question["in_transaction"] = json!(true);
    assert_eq!(explain(&question).await[1]["effect"], "permit");
    question["in_transaction"] = json!(false);
    question["approved_by"] = json!(["reviewers"]);
    assert_eq!(explain(&question).await[1]["effect"], "permit");
    question["source"] = json!(policy::shipped::source("locked").unwrap());
    assert_eq!(explain(&question).await[1]["effect"], "forbid");
    question["command"] = json!("");
    assert_eq!(explain(&question).await[0]["verb"], "CONNECT");
    house.trail.close(Duration::from_secs(10)).unwrap();
}
