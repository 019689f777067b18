use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use identity::scram::{Decoy, ScramVerifier};
use identity::{Credential, Principal, Token};
use rcgen::{CertificateParams, KeyPair};
use session::{Gatehouse, ListenerSettings, PasswordExchange, Secret, ServerTls, Snapshot, Target};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use vocabulary::{
    ClientInfo, CredentialId, NodeId, PrincipalId, PrincipalKind, ProvenBy, TargetId, TargetKind, Timestamp,
};

use super::*;
use crate::upstream::{Connector, Upstream, UpstreamError};
use crate::wire::auth;
use crate::wire::error_response::Received;
use crate::wire::packet;

/// A listener with its gatehouse: one principal `bot`, one target `orders`.
struct House {
    dir: TempDir,
    port: u16,
    token: Token,
    certificate: String,
    arrivals: mpsc::Receiver<Result<Seen, TurnedAway>>,
}

/// What is checked of an arrival.
#[derive(Debug)]
enum Seen {
    Guest {
        target: String,
        wish: Wish,
        settings: Vec<Setting>,
        proven_by: ProvenBy,
        protocol: Protocol,
        pending: usize,
    },
    Cancel(CancelRequest),
}

#[derive(Clone, Copy)]
struct Setup {
    tls: bool,
    require_tls: bool,
    password: PasswordExchange,
    deadline: Duration,
}

const USUAL: Setup = Setup {
    tls: true,
    require_tls: false,
    password: PasswordExchange::ScramSha256,
    deadline: Duration::from_secs(30),
};

fn target(name: &str, url: &str, material: &[(&str, &str)]) -> Target {
    let material =
        material.iter().map(|(name, value)| (name.to_string(), Secret::new(value.as_bytes().to_vec())));
    Target {
        id: TargetId::from_bytes([9; 16]),
        name: name.parse().unwrap(),
        kind: TargetKind::Postgres,
        url: url.to_owned(),
        material: material.collect(),
        labels: BTreeMap::new(),
        allow: BTreeSet::new(),
    }
}

fn own_tls() -> (ServerTls, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "orders.localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
    let tls = server_tls(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (tls, certificate)
}

impl House {
    async fn open(setup: Setup) -> Self {
        let dir = TempDir::new().unwrap();
        let node = NodeId::from_bytes([1; 16]);
        let keys = Arc::new(trail::NodeKey::new(&[7; 32]).unwrap());
        let (trail, _) =
            trail::Trail::open(dir.path(), trail::Settings::new(node, "test.example/log", keys)).unwrap();
        let house = Gatehouse::new(Arc::new(trail), node, session::Durability::default());

        let token = Token::mint().unwrap();
        let credential = Credential {
            id: CredentialId::from_bytes([3; 16]),
            scram: ScramVerifier::of_token(&token, [5; 16]),
            token_digest: token.digest(),
            created_at: Timestamp(0),
            expires_at: None,
            revoked_at: None,
        };
        let bot = Principal {
            id: PrincipalId::from_bytes([2; 16]),
            kind: PrincipalKind::Agent,
            name: "bot".parse().unwrap(),
            on_behalf_of: None,
            groups: Vec::new(),
            ssh_keys: Vec::new(),
            roles: Vec::new(),
            disabled: false,
            credentials: vec![credential],
        };
        let mut copying = target("copying", "postgres://a@b/c", &[]);
        copying.allow.insert("replication".to_owned());
        let targets = [target("orders", "postgres://a@b/c", &[]), copying];
        house.publish(Snapshot {
            principals: HashMap::from([(bot.name.clone(), Arc::new(bot))]),
            targets: targets.into_iter().map(|target| (target.name.clone(), Arc::new(target))).collect(),
            revision: 1,
            ..Snapshot::default()
        });

        let (tls, certificate) = own_tls();
        let settings = Arc::new(ListenerSettings {
            tls: setup.tls.then_some(tls),
            require_tls: setup.require_tls,
            password: setup.password,
            pre_auth_deadline: setup.deadline,
            decoy: Decoy::new([4; 32]),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, arrivals) = mpsc::channel(100);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let client = ClientInfo { addr: peer.to_string(), ..ClientInfo::default() };
                let door = house.door(&settings, client);
                let sender = sender.clone();
                tokio::spawn(async move {
                    let arrival = greet(Stream::tcp(stream).unwrap(), door).await;
                    let seen = match arrival {
                        Ok(Arrival::Guest(guest)) => Ok(welcome(*guest).await),
                        Ok(Arrival::Cancel(request)) => Ok(Seen::Cancel(request)),
                        Err(turned_away) => Err(turned_away),
                    };
                    let _ = sender.send(seen).await;
                });
            }
        });
        Self { dir, port, token, certificate, arrivals }
    }

    /// Logs in with the gateway's own client, which speaks what libpq speaks.
    async fn log_in(
        &self,
        user: &str,
        database: &str,
        query: &str,
        token: &str,
    ) -> Result<Upstream, UpstreamError> {
        self.log_in_with(
            user,
            query,
            token,
            &Wish { database: Some(database.into()), parameters: Vec::new() },
        )
        .await
    }

    async fn log_in_with(
        &self,
        user: &str,
        query: &str,
        token: &str,
        wish: &Wish,
    ) -> Result<Upstream, UpstreamError> {
        let url = format!("postgres://{user}@localhost:{}/?hostaddr=127.0.0.1&{query}", self.port);
        let material = [("password", token), ("sslrootcert", self.certificate.as_str())];
        Connector::default().connect(&Arc::new(target("gateway", &url, &material)), wish).await
    }

    async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Everything that the gateway says until it closes.
    async fn last_words(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.raw(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        read.expect("the gateway should close").expect("without a reset");
        answer
    }

    /// Whether the journal holds that text.
    fn recorded(&self, text: &str) -> bool {
        fn holds(path: &Path, text: &[u8]) -> bool {
            if path.is_dir() {
                return std::fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), text));
            }
            std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text)
        }
        holds(&self.dir.path().join("journal"), text.as_bytes())
    }
}

/// What a target would say next.
async fn welcome(mut guest: Guest) -> Seen {
    let mut out = Vec::new();
    // A server that does not report it would be asked.
    packet::put(&mut out, b'S', |out| {
        packet::put_cstr(out, b"search_path");
        packet::put_cstr(out, b"public");
    });
    auth::put_backend_key(&mut out, 42, &[1; 4]);
    auth::put_ready(&mut out, b'I');
    guest.stream.write_all(&out).await.unwrap();
    guest.stream.flush().await.unwrap();
    Seen::Guest {
        target: guest.opening.target().name.to_string(),
        wish: guest.wish,
        settings: guest.settings,
        proven_by: guest.opening.who().proven_by,
        protocol: guest.protocol,
        pending: guest.pending.len(),
    }
}

/// SQLSTATE and message of the error among these messages.
fn error_in(bytes: &[u8]) -> (String, String) {
    let mut rest = bytes;
    while let Some(packet) = packet::split(rest, 100_000).unwrap() {
        if packet.tag == b'E' {
            let received = Received::parse(packet.body);
            assert!(received.is_fatal());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            return (text(received.code), text(received.message));
        }
        rest = &rest[packet.len..];
    }
    panic!("no error in {}", bytes.escape_ascii());
}

fn heard(result: Result<Upstream, UpstreamError>) -> String {
    format!("{:?}", result.map(|_| "came in").unwrap_err().problem().unwrap())
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let parameters = parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    startup::put_startup(&mut out, Protocol::V3_0, parameters);
    out
}

#[tokio::test]
async fn the_right_token_opens_the_door_in_every_way() {
    let mut house = House::open(USUAL).await;
    let token = house.token.expose().to_owned();
    let cleartext = "options=-c%20trailgate.auth%3Dcleartext&require_auth=password";
    for (query, proof) in [
        ("sslmode=disable", ProvenBy::ScramSha256),
        ("sslmode=require&channel_binding=disable", ProvenBy::ScramSha256),
        ("sslmode=verify-full&channel_binding=require", ProvenBy::ScramSha256Plus),
        ("sslmode=verify-full&sslnegotiation=direct", ProvenBy::ScramSha256Plus),
        (&format!("sslmode=verify-full&{cleartext}"), ProvenBy::TokenInTls),
        (
            "sslmode=require&ssl_max_protocol_version=TLSv1.2&channel_binding=require",
            ProvenBy::ScramSha256Plus,
        ),
        ("sslmode=require&max_protocol_version=3.2", ProvenBy::ScramSha256Plus),
    ] {
        let upstream = house.log_in("bot", "orders/live", query, &token).await.unwrap();
        assert_eq!(upstream.pid, 42);
        let seen = house.arrivals.recv().await.unwrap().unwrap();
        let Seen::Guest { target, wish, proven_by, protocol, pending, .. } = seen else { panic!("{seen:?}") };
        assert_eq!((target.as_str(), wish.database.as_deref()), ("orders", Some(&b"live"[..])));
        assert_eq!(proven_by, proof, "{query}");
        assert!(wish.parameters.is_empty() && pending == 0, "{wish:?}");
        assert_eq!(protocol == Protocol::V3_2, query.contains("3.2"));
    }
}

#[tokio::test]
async fn a_listener_can_ask_for_the_token_itself_but_only_inside_tls() {
    let mut house = House::open(Setup { password: PasswordExchange::Cleartext, ..USUAL }).await;
    let token = house.token.expose().to_owned();
    for (sslmode, proof) in [("require", ProvenBy::TokenInTls), ("disable", ProvenBy::ScramSha256)] {
        house.log_in("bot~orders", "live", &format!("sslmode={sslmode}"), &token).await.unwrap();
        let seen = house.arrivals.recv().await.unwrap().unwrap();
        let Seen::Guest { target, wish, proven_by, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(
            (target.as_str(), wish.database.as_deref(), proven_by),
            ("orders", Some(&b"live"[..]), proof)
        );
    }
    let wrong = house.log_in("bot", "orders", "sslmode=require", "tg_wrong").await;
    assert!(heard(wrong).contains("28P01"));
    let options = "sslmode=disable&options=-c%20trailgate.auth%3Dcleartext";
    assert!(heard(house.log_in("bot", "orders", options, &token).await).contains("28000"));
}

#[tokio::test]
async fn parameters_go_on_and_ours_do_not() {
    let mut house = House::open(USUAL).await;
    let token = house.token.expose().to_owned();
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let wish = Wish {
        database: Some(b"orders".to_vec()),
        parameters: vec![
            pair("options", "-c search_path=a -c trailgate.task=T-7"),
            pair("application_name", "psql"),
            pair("Role", "admin"),
        ],
    };
    house.log_in_with("bot", "sslmode=require", &token, &wish).await.unwrap();
    let seen = house.arrivals.recv().await.unwrap().unwrap();
    let Seen::Guest { wish, settings, .. } = seen else { panic!("{seen:?}") };
    assert_eq!(wish.database, None);
    assert_eq!(
        wish.parameters,
        [pair("options", "-c search_path=a"), pair("application_name", "psql"), pair("Role", "admin")]
    );
    let names: Vec<&str> = settings.iter().map(|setting| setting.name.as_str()).collect();
    assert_eq!(names, ["search_path", "application_name", "role"]);
}

#[tokio::test]
async fn every_refusal_sounds_the_same_and_is_recorded_with_its_reason() {
    let house = House::open(USUAL).await;
    let other = Token::mint().unwrap();
    for (user, reason) in [("bot", "the token is wrong"), ("nobody", "no principal has that name")] {
        let answer = house.log_in(user, "orders", "sslmode=require", other.expose()).await.unwrap_err();
        let text = format!("{answer:?}");
        assert!(text.contains("28P01") && text.contains(identity::REFUSED), "{text}");
        assert!(house.recorded(reason), "{reason}");
    }
    assert!(!house.recorded(other.expose()));
}

#[tokio::test]
async fn who_guesses_too_often_hears_when_to_come_back() {
    let house = House::open(USUAL).await;
    let other = Token::mint().unwrap();
    let mut heard_last = String::new();
    for _ in 0..40 {
        heard_last = heard(house.log_in("bot", "orders", "sslmode=disable", other.expose()).await);
        if heard_last.contains("28000") {
            break;
        }
    }
    assert!(
        heard_last.contains("28000") && heard_last.contains("too many failed logins; try again in"),
        "{heard_last}"
    );
}

#[tokio::test]
async fn a_target_that_does_not_exist_is_only_told_to_who_is_known() {
    let house = House::open(USUAL).await;
    let token = house.token.expose().to_owned();
    let text = heard(house.log_in("bot", "nowhere", "sslmode=require", &token).await);
    for part in [
        "3D000",
        "there is no target `nowhere`",
        "trailgate target list",
        "dbname=TARGET/DATABASE",
        "user=NAME~TARGET",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(house.recorded("there is no target `nowhere`"));
    let stranger = heard(house.log_in("bot", "nowhere", "sslmode=require", "tg_x").await);
    assert!(stranger.contains("28P01") && !stranger.contains("nowhere"), "{stranger}");
}

#[tokio::test]
async fn replication_is_a_privilege_of_the_target() {
    let mut house = House::open(USUAL).await;
    let token = house.token.expose().to_owned();
    let wish = |database: &str| Wish {
        database: Some(database.into()),
        parameters: vec![(b"replication".to_vec(), b"database".to_vec())],
    };
    let text = heard(house.log_in_with("bot", "sslmode=require", &token, &wish("orders")).await);
    assert!(text.contains("42501") && text.contains("does not allow replication"), "{text}");
    assert!(house.arrivals.recv().await.unwrap().is_err());
    house.log_in_with("bot", "sslmode=require", &token, &wish("copying")).await.unwrap();
    let seen = house.arrivals.recv().await.unwrap().unwrap();
    let Seen::Guest { wish, .. } = seen else { panic!("{seen:?}") };
    assert_eq!(wish.parameters, [(b"replication".to_vec(), b"database".to_vec())]);
}

#[tokio::test]
async fn a_listener_can_demand_tls() {
    let house = House::open(Setup { require_tls: true, ..USUAL }).await;
    let answer = house.last_words(&startup(&[("user", "bot")])).await;
    let (code, message) = error_in(&answer);
    assert!(code == "28000" && message.contains("sslmode=require"), "{message}");
    let token = house.token.expose().to_owned();
    assert!(house.log_in("bot", "orders", "sslmode=verify-full", &token).await.is_ok());

    let plain = House::open(Setup { tls: false, ..USUAL }).await;
    let token = plain.token.expose().to_owned();
    assert!(!plain.log_in("bot", "orders", "sslmode=prefer", &token).await.unwrap().stream.is_tls());
    let text = heard(plain.log_in("bot", "orders", "sslmode=require", &token).await);
    assert!(text.contains("NoTls"), "{text}");
}

#[tokio::test]
async fn nothing_sent_before_tls_is_read_inside_it() {
    let house = House::open(USUAL).await;
    let early = [&startup::ssl_request()[..], &startup(&[("user", "bot")])].concat();
    let (code, message) = error_in(&house.last_words(&early).await);
    assert_eq!((code.as_str(), message.as_str()), ("08P01", "received unencrypted data after SSL request"));
}

#[tokio::test]
async fn gssapi_is_declined_and_the_login_goes_on() {
    let house = House::open(USUAL).await;
    let mut stream = house.raw(&[0, 0, 0, 8, 4, 210, 22, 48]).await;
    assert_eq!(stream.read_u8().await.unwrap(), b'N');
    stream.write_all(&startup(&[("user", "bot"), ("database", "orders")])).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'R');
}

#[tokio::test]
async fn cancel_requests_are_taken_and_never_answered() {
    let mut house = House::open(USUAL).await;
    let request = CancelRequest { pid: 42, key: vec![8; 32] };
    assert_eq!(house.last_words(&request.to_bytes()).await, b"");
    match house.arrivals.recv().await.unwrap().unwrap() {
        Seen::Cancel(seen) => assert_eq!(seen, request),
        other => panic!("{other:?}"),
    }
    assert_eq!(house.last_words(&[0, 0, 0, 8, 4, 210, 22, 46]).await, b"");
}

#[tokio::test]
async fn hostile_bytes_end_one_connection_with_a_clear_word() {
    let house = House::open(USUAL).await;
    let with = |body: &[u8]| [&startup(&[("user", "bot")])[..], body].concat();
    for (bytes, code, words) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "08P01", "invalid length of startup packet"),
        (vec![0xff; 64], "08P01", "invalid length of startup packet"),
        (vec![0, 0, 0, 8, 0, 9, 0, 0], "0A000", "unsupported frontend protocol 9.0"),
        (startup(&[("database", "x")]), "28000", "no PostgreSQL user name"),
        (with(b"p\xff\xff\xff\xff"), "08P01", "impossible length"),
        (with(b"p\x7f\0\0\0"), "08P01", "bytes long, more than"),
        (with(b"Q\0\0\0\x05\0"), "08P01", "expected a password or SASL response"),
        (with(b"p\0\0\0\x09hello"), "08P01", "malformed"),
        (with(b"p\0\0\0\x0eSCRAM\0\0\0\0\0"), "08P01", "SASL mechanism that was not offered"),
    ] {
        let (heard_code, message) = error_in(&house.last_words(&bytes).await);
        assert!(
            heard_code == code && message.contains(words),
            "{heard_code} {message} should have {code} {words}"
        );
    }
    // Old clients hear it in their own format, TLS without ALPN hears nothing.
    let old = house.last_words(&[0, 0, 0, 8, 0, 2, 0, 0]).await;
    assert!(old.starts_with(b"EFATAL:  unsupported frontend protocol 2.0"));
}

#[tokio::test]
async fn half_a_login_ends_at_the_deadline() {
    let mut house = House::open(Setup { deadline: Duration::from_millis(400), ..USUAL }).await;
    let began = Instant::now();
    // Silence is answered with silence.
    assert_eq!(house.last_words(b"").await, b"");
    let (code, message) = error_in(&house.last_words(&startup(&[("user", "bot")])[..10]).await);
    assert!(code == "57014" && message.contains("the login took longer than"), "{message}");
    let (code, _) = error_in(&house.last_words(&startup(&[("user", "bot")])).await);
    assert_eq!(code, "57014");
    // In the middle of a TLS handshake too.
    assert_eq!(house.last_words(&[0x16, 3, 1, 1, 0]).await, b"");
    assert!(began.elapsed() < Duration::from_secs(10));
    for _ in 0..4 {
        assert!(matches!(house.arrivals.recv().await.unwrap(), Err(TurnedAway::Deadline(_))));
    }
}

#[tokio::test]
async fn a_connection_that_waits_costs_little() {
    let house = House::open(USUAL).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    drop((house, client));
    let dir = TempDir::new().unwrap();
    let node = NodeId::from_bytes([1; 16]);
    let keys = Arc::new(trail::NodeKey::new(&[7; 32]).unwrap());
    let (trail, _) =
        trail::Trail::open(dir.path(), trail::Settings::new(node, "test.example/log", keys)).unwrap();
    let gatehouse = Gatehouse::new(Arc::new(trail), node, session::Durability::default());
    let settings = Arc::new(ListenerSettings {
        tls: None,
        require_tls: false,
        password: PasswordExchange::ScramSha256,
        pre_auth_deadline: Duration::from_secs(1),
        decoy: Decoy::new([4; 32]),
    });
    let door = gatehouse.door(&settings, ClientInfo::default());
    let future = greet(Stream::tcp(stream).unwrap(), door);
    let size = std::mem::size_of_val(&future);
    assert!(size <= 2_048, "{size} bytes for each connection that has not said a word");
}
