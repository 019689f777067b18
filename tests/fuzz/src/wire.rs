//! PostgreSQL's messages, one by one.

use postgres::wire::auth::{Request, SaslInitialResponse, parse_password, put_password};
use postgres::wire::backend as answers;
use postgres::wire::error_response::{Received, Report};
use postgres::wire::frontend::{Bind, FunctionCall, Named, Parse, Values, execute};
use postgres::wire::packet::{Cursor, put, split};
use postgres::wire::startup::options::Options;
use postgres::wire::startup::{FirstPacket, MAX_STARTUP_LEN, Startup, StartupError, parse, put_startup};

use crate::cuts;

/// Largest body that the targets here let through; no seed is larger.
const MAX_BODY: usize = 4096;

/// The first packet of a connection: what a beginning decides, the whole confirms; what is read is written back the same.
pub fn startup(data: &[u8]) {
    for encrypted in [false, true] {
        let whole = parse(data, encrypted);
        for cut in cuts(data.len()) {
            match parse(&data[..cut], encrypted) {
                Ok(None) => {}
                certain => assert_eq!(certain, whole, "cut at {cut}"),
            }
        }
        match whole {
            Ok(Some((packet, size))) => {
                assert!(size <= data.len() && size <= MAX_STARTUP_LEN + 4);
                first_packet(&packet, &data[..size], encrypted);
            }
            // A packet has a limit, so waiting for more ends.
            Ok(None) => assert!(data.len() < MAX_STARTUP_LEN + 4),
            Err(error) => refusal(&error),
        }
    }
}

fn first_packet(packet: &FirstPacket, bytes: &[u8], encrypted: bool) {
    match packet {
        FirstPacket::DirectTls => assert!(bytes.is_empty() && !encrypted),
        FirstPacket::SslRequest | FirstPacket::GssEncRequest => assert!(bytes.len() == 8 && !encrypted),
        FirstPacket::Cancel(request) => assert_eq!(request.to_bytes(), bytes),
        FirstPacket::Startup(startup) => {
            assert!(!startup.user().is_empty());
            assert!(startup.agreed() <= startup.requested);
            written_again(startup, bytes, encrypted);
            let mut answer = Vec::new();
            startup.put_negotiation(&mut answer);
            assert!(answer.is_empty() || is_one_message(&answer, b'v'));
        }
    }
}

fn written_again(startup: &Startup, bytes: &[u8], encrypted: bool) {
    let options = startup.unsupported.iter().map(|name| (name.as_slice(), &b""[..]));
    let parameters = startup.parameters.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    let mut out = Vec::new();
    put_startup(&mut out, startup.requested, parameters.chain(options));
    if startup.unsupported.is_empty() {
        assert_eq!(out, bytes);
    }
    let again = parse(&out, encrypted).expect("what was read can be written").expect("whole");
    assert_eq!(again, (FirstPacket::Startup(startup.clone()), out.len()));
}

fn refusal(error: &StartupError) {
    match (error, error.to_bytes()) {
        (StartupError::Cancel, said) => assert_eq!(said, None),
        (StartupError::Version(version), Some(bytes)) if (1..3).contains(&version.major) => {
            assert!(bytes.starts_with(b"EFATAL:  ") && bytes.ends_with(b"\n\0"));
        }
        (_, Some(bytes)) => assert!(is_one_message(&bytes, b'E'), "{error}"),
        (_, None) => panic!("{error} should be said"),
    }
}

fn is_one_message(bytes: &[u8], tag: u8) -> bool {
    matches!(split(bytes, 64 * 1024), Ok(Some(packet)) if packet.len == bytes.len() && packet.tag == tag)
}

/// The startup parameter `options`: it goes on unchanged unless something of ours was in it, and then without ours and
/// with all else.
pub fn options(data: &[u8]) {
    let options = Options::parse(data);
    if options.own.is_empty() {
        assert_eq!(options.forwarded.as_deref().unwrap_or_default(), data);
    }
    let again = Options::parse(options.forwarded.as_deref().unwrap_or_default());
    assert_eq!(again.own, [], "ours reaches the target");
    assert_eq!(again.settings, options.settings, "a setting was lost or made up");
}

/// Framing: a message is found only when it is whole, and never reaches beyond the bytes or the limit.
pub fn packet(data: &[u8]) {
    let whole = split(data, MAX_BODY);
    for cut in cuts(data.len()) {
        match split(&data[..cut], MAX_BODY) {
            Ok(None) => {}
            certain => assert_eq!(certain, whole, "cut at {cut}"),
        }
    }
    if let Ok(Some(packet)) = whole {
        let mut out = Vec::new();
        put(&mut out, packet.tag, |out| out.extend_from_slice(packet.body));
        assert_eq!(out, data[..packet.len]);
        assert!(packet.body.len() <= MAX_BODY);
    }
    let mut cursor = Cursor::new(data);
    let mut seen = 0;
    while let Some(text) = cursor.cstr() {
        seen += text.len() + 1;
    }
    assert_eq!(seen + cursor.rest().len(), data.len());
}

/// Authentication messages of both sides: what is read is written back the same.
pub fn auth(data: &[u8]) {
    if let Ok(request) = Request::parse(data) {
        assert!(!request.method().is_empty());
        if let Request::Sasl(mechanisms) = request {
            assert!(mechanisms.iter().map(|name| name.len() + 1).sum::<usize>() <= data.len());
        }
    }
    let mut out = Vec::new();
    if let Ok(response) = SaslInitialResponse::parse(data) {
        response.encode(&mut out);
        assert_eq!(&out[5..], data);
    }
    if let Ok(password) = parse_password(data) {
        out.clear();
        put_password(&mut out, password);
        assert_eq!(&out[5..], data);
    }
}

/// Messages that name statements and portals: of a body that is cut among its values, the values before are the same.
pub fn frontend(data: &[u8]) {
    if let Ok(parse) = Parse::read(data) {
        assert!(parse.types.len() % 4 == 0);
        assert!(parse.name.len() + parse.text.len() + parse.types.len() + 4 <= data.len());
    }
    if let Ok(portal) = execute(data) {
        assert!(portal.len() + 5 <= data.len());
    }
    if let Ok(Named::Statement(name) | Named::Portal(name)) = Named::read("Close", data) {
        assert!(name.len() + 2 <= data.len());
    }
    for read in [bind, call] {
        let Some(values) = read(data) else { continue };
        // A count of 65,535 takes two bytes, so only values that are there are compared.
        let whole: Vec<_> = values.iter().map_while(Result::ok).collect();
        assert!(whole.iter().map(|(_, value)| 4 + value.map_or(0, <[u8]>::len)).sum::<usize>() <= data.len());
        for cut in cuts(data.len()) {
            let Some(values) = read(&data[..cut]) else { continue };
            let some: Vec<_> = values.iter().map_while(Result::ok).collect();
            assert!(whole.starts_with(&some), "cut at {cut}");
        }
    }
}

fn bind(body: &[u8]) -> Option<Values<'_>> {
    Bind::read(body).ok().map(|bind| bind.values)
}

fn call(body: &[u8]) -> Option<Values<'_>> {
    FunctionCall::read(body).ok().map(|call| call.values)
}

/// Answers that the gateway looks into.
pub fn backend(data: &[u8]) {
    if let Some(rows) = answers::tag_rows(data) {
        let digits = data.rsplit(|byte| *byte == b' ').next().and_then(crate::text);
        assert_eq!(digits.and_then(|digits| digits.parse().ok()), Some(rows));
    }
    if let Ok((name, value)) = answers::parameter_status(data) {
        assert!(name.len() + value.len() + 2 <= data.len());
    }
    if let Ok(types) = answers::parameter_description(data) {
        assert!(types.len() % 4 == 0 && types.len() + 2 <= data.len());
    }
}

/// Errors and notices: whatever a target says can be said again in our own words, and then reads the same.
pub fn error_response(data: &[u8]) {
    let received = Received::parse(data);
    assert!([received.severity, received.code, received.message].iter().all(|field| !field.contains(&0)));
    assert!(received.sqlstate().is_none_or(|code| code.len() == 5));
    let message = String::from_utf8_lossy(received.message);
    for report in [Report::fatal("08006", &*message), Report::notice("00000", &*message)] {
        let bytes = report.with_detail(&*message).to_bytes();
        let packet = split(&bytes, usize::MAX / 2).expect("our own message").expect("whole");
        assert_eq!(packet.len, bytes.len());
        assert_eq!(Received::parse(packet.body).message, message.as_bytes());
    }
}
