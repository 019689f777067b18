use proptest::prelude::*;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put_sized(&mut out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(body);
    });
    out
}

fn startup(code: u32, body: &[u8]) -> Result<Startup, StartupError> {
    match parse(&packet(code, body), false)? {
        Some((FirstPacket::Startup(startup), _)) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

const V3: u32 = 3 << 16;

#[test]
fn a_psql_startup_is_read_in_order() {
    // As psql 15 sends it.
    let body = b"user\0chatgpt\0database\0orders\0application_name\0psql\0client_encoding\0UTF8\0\0";
    let startup = startup(V3, body).unwrap();
    assert_eq!((startup.user(), startup.database()), (&b"chatgpt"[..], Some(&b"orders"[..])));
    assert_eq!(startup.parameters.len(), 4);
    assert_eq!(startup.agreed(), Protocol::V3_0);
    let mut out = Vec::new();
    startup.put_negotiation(&mut out);
    assert!(out.is_empty());
    let parameters = startup.parameters.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    put_startup(&mut out, Protocol::V3_0, parameters);
    assert_eq!(out, packet(V3, body));
}

#[test]
fn requests_before_the_startup_are_told_apart() {
    assert_eq!(parse(&ssl_request(), false), Ok(Some((FirstPacket::SslRequest, 8))));
    assert_eq!(ssl_request(), [0, 0, 0, 8, 4, 210, 22, 47]);
    assert_eq!(parse(&packet(GSSENC_REQUEST, b""), false), Ok(Some((FirstPacket::GssEncRequest, 8))));
    assert_eq!(parse(&[0x16, 3, 1], false), Ok(Some((FirstPacket::DirectTls, 0))));
    // More than eight bytes is not what it says it is.
    assert_eq!(parse(&packet(SSL_REQUEST, b"x"), false), Err(StartupError::Length));
    // And inside TLS there is no second TLS.
    assert!(matches!(parse(&ssl_request(), true), Err(StartupError::Version(_))));
    assert!(matches!(parse(&[0x16, 3, 1, 0, 1], true), Err(StartupError::Length)));
}

#[test]
fn cancel_keys_of_both_versions_are_read() {
    for len in [4, 32, 256] {
        let request = CancelRequest { pid: -7, key: vec![9; len] };
        let bytes = request.to_bytes();
        assert_eq!(parse(&bytes, false), Ok(Some((FirstPacket::Cancel(request), bytes.len()))));
    }
    for len in [0, 3, 257] {
        let bytes = CancelRequest { pid: 1, key: vec![9; len] }.to_bytes();
        let error = parse(&bytes, true).unwrap_err();
        assert_eq!((error.to_bytes(), error), (None, StartupError::Cancel));
    }
}

#[test]
fn newer_minors_and_protocol_options_are_negotiated() {
    let body = b"user\0a\0_pq_.report\0x\0_pq_.b\0\0\0";
    let asked = startup(V3 | 9999, body).unwrap();
    assert_eq!(asked.agreed(), Protocol::V3_2);
    assert_eq!(asked.parameters.len(), 1);
    let mut out = Vec::new();
    asked.put_negotiation(&mut out);
    assert_eq!(out, b"v\0\0\0\x1f\0\x03\0\x02\0\0\0\x02_pq_.report\0_pq_.b\0");
    // 3.0 with an option that we don't know stays 3.0.
    let mut out = Vec::new();
    startup(V3, body).unwrap().put_negotiation(&mut out);
    assert_eq!(out.get(5..9), Some(&[0, 3, 0, 0][..]));
}

#[test]
fn what_the_server_refuses_is_refused_in_its_words() {
    let text = |error: StartupError| String::from_utf8_lossy(&error.to_bytes().unwrap()).into_owned();
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "invalid length of startup packet"),
        (&[0, 0, 0, 7, 0, 3, 0], "invalid length of startup packet"),
        (&[0, 0, 0x27, 0x15], "invalid length of startup packet"),
        (&[0xff, 0xff, 0xff, 0xff], "invalid length of startup packet"),
    ] {
        assert!(text(parse(bytes, false).unwrap_err()).contains(expected), "{bytes:?}");
    }
    assert!(parse(&[0, 0, 0x27, 0x14], false).unwrap().is_none());
    for (code, body, expected) in [
        (V3, &b"user\0a"[..], "expected terminator as last byte"),
        (V3, b"user\0a\0\0extra", "expected terminator as last byte"),
        (V3, b"user\0", "expected terminator as last byte"),
        (V3, b"database\0a\0\0", "no PostgreSQL user name"),
        (V3, b"user\0a\0replication\0maybe\0\0", "invalid value for parameter \"replication\": \"maybe\""),
        (4 << 16, b"\0", "unsupported frontend protocol 4.0"),
    ] {
        let error = startup(code, body).unwrap_err();
        assert!(text(error).contains(expected), "{body:?}");
    }
    let old = startup(2 << 16, b"").unwrap_err().to_bytes().unwrap();
    assert!(old.starts_with(b"EFATAL:  unsupported frontend protocol 2.0"));
}

#[test]
fn replication_is_read_as_the_server_reads_booleans() {
    let of = |value: &str| {
        startup(V3, format!("user\0a\0replication\0{value}\0\0").as_bytes()).map(|s| s.replication)
    };
    for value in ["true", "t", "YES", "on", "1"] {
        assert_eq!(of(value), Ok(Replication::Physical), "{value}");
    }
    for value in ["false", "F", "no", "of", "off", "0"] {
        assert_eq!(of(value), Ok(Replication::No), "{value}");
    }
    assert_eq!(of("database"), Ok(Replication::Logical));
    for value in ["", "o", "2", "Database", "truex"] {
        assert!(of(value).is_err(), "{value}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, encrypted: bool) {
        if let Ok(Some((_, len))) = parse(&bytes, encrypted) {
            prop_assert!(len <= bytes.len());
        }
    }

    #[test]
    fn any_body_of_version_3_is_read_or_refused(body: Vec<u8>) {
        let _ = parse(&packet(V3, &body), false);
    }

    /// An error may show early, but never turns into a packet later, nor the other way round.
    #[test]
    fn cut_anywhere_the_packet_is_the_same(
        parameters in prop::collection::vec(("[a-z_.]{1,10}", "[ -~]{0,20}"), 0..6),
        minor in 0u16..4,
        tail: Vec<u8>,
    ) {
        let mut bytes = Vec::new();
        let pairs = [(&b"user"[..], &b"u"[..])];
        let pairs = pairs.into_iter().chain(parameters.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
        put_startup(&mut bytes, Protocol { major: 3, minor }, pairs);
        let whole = bytes.len();
        bytes.extend_from_slice(&tail);
        let expected = parse(&bytes, false);
        if let Ok(Some((_, len))) = &expected {
            prop_assert_eq!(*len, whole);
        }
        for cut in 0..whole {
            match parse(&bytes[..cut], false) {
                Ok(None) => {}
                other => prop_assert_eq!(&other, &expected),
            }
        }
        prop_assert_eq!(parse(&bytes[..whole], false), expected);
    }
}
