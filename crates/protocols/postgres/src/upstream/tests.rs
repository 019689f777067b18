//! Against a real server, in one go: starting one costs more than all the cases together.

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use session::{Secret, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vocabulary::{TargetId, TargetKind};

use self::server::Server;
use super::*;
use crate::cancel::CancelMap;
use crate::stream::inbox::Inbox;
use crate::wire::error_response::{Received, Report};
use crate::wire::packet;
use crate::wire::startup::{CancelRequest, Protocol};

fn target(url: &str, material: &[(&str, &str)]) -> Arc<Target> {
    let material =
        material.iter().map(|(name, value)| (name.to_string(), Secret::new(value.as_bytes().to_vec())));
    Arc::new(Target {
        id: TargetId::from_bytes([1; 16]),
        name: "orders".parse().unwrap(),
        kind: TargetKind::Postgres,
        url: url.to_owned(),
        material: material.collect::<BTreeMap<_, _>>(),
        labels: BTreeMap::new(),
        allow: BTreeSet::new(),
    })
}

async fn connect(url: &str, material: &[(&str, &str)]) -> Result<Upstream, UpstreamError> {
    Connector::default().connect(&target(url, material), &Wish::default()).await
}

/// What the client would hear: SQLSTATE and message.
fn heard(error: &UpstreamError) -> (String, String) {
    let bytes = error.to_client();
    let packet = packet::split(&bytes, 100_000).unwrap().unwrap();
    let received = Received::parse(packet.body);
    assert!(received.is_fatal());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(received.code), text(received.message))
}

async fn refused(url: &str, material: &[(&str, &str)]) -> (String, String) {
    match connect(url, material).await {
        Ok(_) => panic!("{url} should have failed"),
        Err(error) => heard(&error),
    }
}

#[tokio::test]
async fn a_real_server_is_entered_in_every_way_it_asks_for() {
    let server = Server::start();
    methods(&server).await;
    sockets_and_probe(&server).await;
    wishes(&server).await;
    tls_modes(&server).await;
    several_hosts(&server).await;
    cancelling(&server).await;
    self_signed(&server).await;
    without_tls(&server).await;
}

async fn methods(server: &Server) {
    let at =
        |user: &str, query: &str| format!("postgres://{user}@localhost:{}/postgres?{query}", server.port);
    for user in ["u_trust", "u_password", "u_md5", "u_scram"] {
        for sslmode in ["disable", "require"] {
            let url = at(user, &format!("sslmode={sslmode}&require_auth=none,password,md5,scram-sha-256"));
            let upstream = connect(&url, &[("password", "s3cret")]).await.unwrap();
            assert_eq!((upstream.status, upstream.role.as_str()), (b'I', user));
            assert_eq!(upstream.stream.is_tls(), sslmode == "require");
            assert!(upstream.pid > 0 && upstream.cancel.is_some() && upstream.leftover.is_empty());
            let version = upstream.parameters.iter().find(|(name, _)| name == "server_version");
            assert!(version.is_some());
            let first = packet::split(&upstream.greeting, 1_000).unwrap().unwrap();
            assert_eq!(first.tag, b'S');
        }
    }
    // Not even asked for it outside TLS, unless the URL says so.
    let (code, message) = refused(&at("u_password", "sslmode=disable"), &[("password", "s3cret")]).await;
    assert_eq!(code, "08004");
    assert!(message.contains("asks for the password in the clear outside TLS"), "{message}");

    for user in ["u_password", "u_md5", "u_scram"] {
        let url = at(user, "sslmode=require");
        let error = connect(&url, &[("password", "wrong-one")]).await.unwrap_err();
        let (code, message) = heard(&error);
        assert_eq!(code, "08004");
        assert_eq!(
            message,
            "Trailgate: target `orders` can't be used: it refused the target's stored credential (SQLSTATE 28P01)"
        );
        let all = format!("{error} {error:?}");
        assert!(!all.contains("wrong-one") && !message.contains(user), "{all}");
        let (_, message) = refused(&url, &[]).await;
        assert!(message.contains("it asks for a password, and none is stored with the target"), "{message}");
    }
    let (_, message) = refused(&at("u_md5", "require_auth=scram-sha-256"), &[("password", "s3cret")]).await;
    assert!(message.contains("it asks for md5 authentication"), "{message}");
    let url = at("u_scram", "sslmode=require&channel_binding=require");
    assert!(connect(&url, &[("password", "s3cret")]).await.is_ok());
    for (user, sslmode) in [("u_scram", "disable"), ("u_trust", "require"), ("u_md5", "require")] {
        let url = at(user, &format!("sslmode={sslmode}&channel_binding=require"));
        let (code, message) = refused(&url, &[("password", "s3cret")]).await;
        assert!(code == "08004" && message.contains("channel_binding=require"), "{message}");
    }
}

async fn sockets_and_probe(server: &Server) {
    let socket = server.socket_dir().replace('/', "%2F");
    let url = format!(
        "postgres://postgres@{socket}:{}/postgres?sslmode=verify-full&sslrootcert=system",
        server.port
    );
    let info = test_target(&target(&url, &[])).await.unwrap();
    assert_eq!((info.role.as_str(), info.database.as_str(), info.tls), ("postgres", "postgres", None));
    assert!(info.version.starts_with(char::is_numeric), "{}", info.version);

    let url = format!("postgres://u_scram@localhost:{}/postgres?sslmode=require", server.port);
    let info = test_target(&target(&url, &[("password", "s3cret")])).await.unwrap();
    assert_eq!((info.role.as_str(), info.tls.as_deref()), ("u_scram", Some("TLSv1.3")));
}

async fn wishes(server: &Server) {
    let url = format!(
        "postgres://u_trust@127.0.0.1:{}/postgres?application_name=fallback&options=-c%20geqo=off",
        server.port
    );
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let connector = Connector::default();
    let target = target(&url, &[]);
    let reported = |upstream: &Upstream, name: &str| {
        upstream.parameters.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap()
    };

    let plain = connector.connect(&target, &Wish::default()).await.unwrap();
    assert_eq!(reported(&plain, "application_name"), "fallback");
    let wish = Wish {
        database: Some(b"template1".to_vec()),
        parameters: vec![
            pair("options", "-c DateStyle=SQL,DMY -c standard_conforming_strings=off"),
            pair("application_name", "psql"),
            pair("client_encoding", "LATIN1"),
        ],
    };
    let upstream = connector.connect(&target, &wish).await.unwrap();
    assert_eq!(upstream.database, "template1");
    for (name, value) in [
        ("application_name", "psql"),
        ("client_encoding", "LATIN1"),
        ("DateStyle", "SQL, DMY"),
        ("standard_conforming_strings", "off"),
    ] {
        assert_eq!(reported(&upstream, name), value);
    }

    // What the client asked for and can't have, in the server's own words.
    for (wish, code, words) in [
        (
            Wish { database: Some(b"nowhere".to_vec()), ..Wish::default() },
            "3D000",
            "database \"nowhere\" does not exist",
        ),
        (
            Wish { parameters: vec![pair("client_encoding", "KLINGON")], ..Wish::default() },
            "22023",
            "invalid value for parameter \"client_encoding\": \"KLINGON\"",
        ),
        (
            Wish { parameters: vec![pair("no_such", "1")], ..Wish::default() },
            "42704",
            "unrecognized configuration parameter \"no_such\"",
        ),
    ] {
        let error = connector.connect(&target, &wish).await.unwrap_err();
        assert_eq!(heard(&error), (code.to_owned(), words.to_owned()));
    }
}

async fn tls_modes(server: &Server) {
    let at = |user: &str, host: &str, query: &str| {
        format!("postgres://{user}@{host}:{}/postgres?hostaddr=127.0.0.1&{query}", server.port)
    };
    let tls = |upstream: Result<Upstream, UpstreamError>| {
        upstream.map(|upstream| upstream.stream.is_tls()).unwrap()
    };
    let ca = [("sslrootcert", server.ca.as_str())];
    let other = [("sslrootcert", server.other_ca.as_str())];
    // Who may do what: u_tls only in TLS, u_plain only outside it.
    for (user, mode, in_tls) in [
        ("u_trust", "disable", false),
        ("u_trust", "allow", false),
        ("u_trust", "prefer", true),
        ("u_trust", "require", true),
        ("u_tls", "allow", true),
        ("u_plain", "prefer", false),
    ] {
        assert_eq!(
            tls(connect(&at(user, "localhost", &format!("sslmode={mode}")), &[]).await),
            in_tls,
            "{user} {mode}"
        );
    }
    for (user, mode) in [("u_tls", "disable"), ("u_plain", "require")] {
        let (code, message) = refused(&at(user, "localhost", &format!("sslmode={mode}")), &[]).await;
        assert_eq!(code, "08004");
        assert!(message.contains("stored credential (SQLSTATE 28000)"), "{message}");
    }
    for (host, mode) in [("localhost", "verify-full"), ("elsewhere", "verify-ca"), ("127.0.0.1", "require")] {
        assert!(tls(connect(&at("u_trust", host, &format!("sslmode={mode}")), &ca).await), "{mode}");
    }
    for (host, mode, material, sentence) in [
        ("elsewhere", "verify-full", &ca, "it is for another host name than the URL's"),
        ("127.0.0.1", "verify-full", &ca, "it is for another host name than the URL's"),
        ("localhost", "verify-full", &other, "none of the given root certificates has signed it"),
        ("localhost", "verify-ca", &other, "none of the given root certificates has signed it"),
        // As in libpq, a root certificate that is there counts under `require` too.
        ("localhost", "require", &other, "none of the given root certificates has signed it"),
    ] {
        let (code, message) = refused(&at("u_trust", host, &format!("sslmode={mode}")), material).await;
        assert_eq!(code, "08004", "{message}");
        assert!(
            message.contains("its certificate is not accepted") && message.contains(sentence),
            "{message}"
        );
    }
    // And under `prefer` it only means no TLS.
    assert!(!tls(connect(&at("u_trust", "localhost", "sslmode=prefer"), &other).await));
    let broken = [("sslrootcert", "-----BEGIN NOTHING-----")];
    let (code, message) = refused(&at("u_trust", "localhost", "sslmode=verify-ca"), &broken).await;
    assert!(code == "F0000" && message.contains("its sslrootcert can't be used"), "{message}");
    for version in ["1.2", "1.3"] {
        let query = format!(
            "sslmode=require&ssl_min_protocol_version=TLSv{version}&ssl_max_protocol_version=TLSv{version}"
        );
        let upstream = connect(&at("u_scram", "localhost", &query), &[("password", "s3cret")]).await.unwrap();
        assert_eq!(upstream.stream.tls_version().unwrap(), format!("TLSv{version}"));
    }
    // The client certificate is sent, and the server wants it.
    let material = [("sslcert", server.client_cert.as_str()), ("sslkey", server.client_key.as_str())];
    assert!(tls(connect(&at("u_cert", "localhost", "sslmode=require"), &material).await));
    let (code, _) = refused(&at("u_cert", "localhost", "sslmode=require"), &[]).await;
    assert_eq!(code, "08004");
}

async fn several_hosts(server: &Server) {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u_trust@127.0.0.1:{dead},localhost:{}/postgres", server.port);
    assert!(connect(&url, &[]).await.is_ok());
    let (code, message) = refused(&format!("postgres://u_trust@127.0.0.1:{dead}/x"), &[]).await;
    assert_eq!(code, "08001");
    assert!(
        message
            .starts_with("Trailgate: target `orders` can't be used: it can't be reached: Connection refused")
    );
    let (code, message) = refused("postgres://a@no-such-host.invalid/x?connect_timeout=2", &[]).await;
    assert_eq!(code, "08001");
    assert!(message.contains("its name has no address") || message.contains("within 2 s"), "{message}");
    let url = format!("postgres://u_trust@127.0.0.1:{}/postgres?target_session_attrs=standby", server.port);
    let (_, message) = refused(&url, &[]).await;
    assert!(message.contains("not what target_session_attrs asks for"), "{message}");
}

async fn cancelling(server: &Server) {
    for sslmode in ["disable", "require"] {
        let url = format!("postgres://u_trust@localhost:{}/postgres?sslmode={sslmode}", server.port);
        let mut upstream = connect(&url, &[]).await.unwrap();
        let map = Arc::new(CancelMap::default());
        let route = upstream.cancel.clone().unwrap();
        assert_eq!(route.tls.is_some(), sslmode == "require");
        let guard = map.register(Protocol::V3_0, route, None).unwrap();
        assert_eq!(guard.pid(), upstream.pid);

        let mut query = Vec::new();
        packet::put(&mut query, b'Q', |out| packet::put_cstr(out, b"SELECT pg_sleep(60)"));
        upstream.stream.write_all(&query).await.unwrap();
        upstream.stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let wrong = CancelRequest { pid: guard.pid(), key: vec![0; 4] };
        map.cancel(&wrong).await;
        let began = Instant::now();
        map.cancel(&CancelRequest { pid: guard.pid(), key: guard.key().to_vec() }).await;
        let mut inbox = Inbox::new(100_000);
        let code = loop {
            let message = inbox.message(&mut upstream.stream, 10_000).await.unwrap();
            if message.tag == b'E' {
                break Received::parse(message.body()).code.to_vec();
            }
        };
        assert_eq!(code, b"57014");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

/// A self-signed certificate that is its own root and has only a common name: the manual's quick recipe.
async fn self_signed(server: &Server) {
    let certificate = server.use_self_signed("localhost");
    let material = [("sslrootcert", certificate.as_str())];
    let at = |host: &str, mode: &str| {
        format!("postgres://u_scram@{host}:{}/postgres?hostaddr=127.0.0.1&sslmode={mode}", server.port)
    };
    let with_password = [material[0], ("password", "s3cret")];
    let upstream = connect(&at("localhost", "verify-full"), &with_password).await.unwrap();
    assert!(upstream.stream.is_tls());
    let (_, message) = refused(&at("elsewhere", "verify-full"), &with_password).await;
    assert!(message.contains("for another host name"), "{message}");
    let (_, message) = refused(&at("localhost", "verify-ca"), &[("sslrootcert", &server.ca)]).await;
    assert!(message.contains("none of the given root certificates has signed it"), "{message}");
}

async fn without_tls(server: &Server) {
    server.turn_tls_off();
    let at = |mode: &str| format!("postgres://u_trust@localhost:{}/postgres?sslmode={mode}", server.port);
    assert!(!connect(&at("prefer"), &[]).await.unwrap().stream.is_tls());
    let (code, message) = refused(&at("require"), &[]).await;
    assert!(code == "08004" && message.contains("it does not offer TLS"), "{message}");
}

/// A server that says what it is told to.
async fn scripted(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0u8; 4096];
        for answer in answers {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&answer).await;
        }
        // Keeps the connection open: silence is the test's business.
        let _ = stream.read(&mut buffer).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    port
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

#[tokio::test]
async fn a_server_that_misbehaves_is_told_apart_from_one_that_is_down() {
    let ok = message(b'R', &[0, 0, 0, 0]);
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    for (answers, code, sentence) in [
        (
            vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()],
            "08P01",
            "does not speak the PostgreSQL protocol",
        ),
        (vec![message(b'T', b"")], "08P01", "it sent the message `T` during login"),
        (vec![vec![b'R', 0xff, 0xff, 0xff, 0xff]], "08P01", "impossible length"),
        (vec![vec![b'R', 0x7f, 0, 0, 0]], "08P01", "bytes long, more than"),
        (vec![message(b'R', &[0, 0, 0, 7])], "08004", "it asks for gss authentication"),
        // No proof was asked for after all: whoever answers so does not know the password.
        (vec![sasl.clone(), ok.clone()], "08P01", "its SASL messages are out of order"),
        (vec![sasl, message(b'R', b"\0\0\0\x0br=x,s=AAAA,i=1")], "08004", "nonce does not match"),
        (vec![[ok.clone(), message(b'K', &[0; 300])].concat()], "08P01", "its cancel key has 296 bytes"),
        (vec![ok], "08001", "it did not answer within 1 s"),
        (vec![], "08001", "it did not answer within 1 s"),
    ] {
        let port = scripted(answers).await;
        let url = format!("postgres://a@127.0.0.1:{port}/x?sslmode=disable&connect_timeout=1");
        let heard = refused(&url, &[("password", "x")]).await;
        assert!(heard.0 == code && heard.1.contains(sentence), "{heard:?} should have {code} {sentence}");
    }
}

#[tokio::test]
async fn bytes_after_the_answer_to_an_ssl_request_are_never_read_as_plain_text() {
    let injected = [&b"S"[..], &Report::fatal("XX000", "injected").to_bytes()].concat();
    let port = scripted(vec![injected]).await;
    let (_, message) =
        refused(&format!("postgres://a@127.0.0.1:{port}/x?sslmode=require&connect_timeout=2"), &[]).await;
    assert!(!message.contains("injected") && message.contains("the TLS handshake failed"), "{message}");
}
