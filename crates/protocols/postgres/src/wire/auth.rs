//! Authentication messages, both directions ("SASL Authentication" and `AuthenticationXXX` in PostgreSQL's
//! manual).

use super::packet::{self, Cursor};

/// Longest password or SASL message that is read from a client, in bytes. The server allows 65,535 for a
/// password and 1,024 for SASL; tokens have 52 characters.
pub const MAX_PASSWORD_LEN: usize = 8_192;

/// Longest authentication request that is read from a target, in bytes.
pub const MAX_REQUEST_LEN: usize = 16_384;

/// What the server says or asks in an `R` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// The login is accepted.
    Ok,
    /// The password as it is.
    CleartextPassword,
    /// The password hashed with MD5 and this salt.
    Md5Password([u8; 4]),
    /// One of these SASL mechanisms: names, each ended by a zero.
    Sasl(Mechanisms<'a>),
    /// SASL's next challenge.
    SaslContinue(&'a [u8]),
    /// SASL's last word from the server.
    SaslFinal(&'a [u8]),
    /// Something that we can't do: Kerberos, GSSAPI, SSPI, or unknown.
    Other(u32),
}

/// Names of SASL mechanisms as they come in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    /// The names in the server's order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || cursor.cstr().filter(|name| !name.is_empty()))
    }
}

/// The message is cut or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authentication message is malformed")]
pub struct Malformed;

impl<'a> Request<'a> {
    /// Reads the body of an `R` message.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut or has bytes too many.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let code = cursor.u32().ok_or(Malformed)?;
        let rest = cursor.rest();
        match (code, rest) {
            (0, []) => Ok(Self::Ok),
            (3, []) => Ok(Self::CleartextPassword),
            (5, &[a, b, c, d]) => Ok(Self::Md5Password([a, b, c, d])),
            (10, [.., 0]) => Ok(Self::Sasl(Mechanisms(rest))),
            (11, _) => Ok(Self::SaslContinue(rest)),
            (12, _) => Ok(Self::SaslFinal(rest)),
            (0 | 3 | 5 | 10, _) => Err(Malformed),
            (other, _) => Ok(Self::Other(other)),
        }
    }

    /// The method's name, as libpq's `require_auth` and error messages call it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Ok => "none",
            Self::CleartextPassword => "password",
            Self::Md5Password(_) => "md5",
            Self::Sasl(_) | Self::SaslContinue(_) | Self::SaslFinal(_) => "scram-sha-256",
            Self::Other(2) => "Kerberos V5",
            Self::Other(7 | 8) => "gss",
            Self::Other(9) => "sspi",
            Self::Other(_) => "an unknown method",
        }
    }
}

fn put_request(out: &mut Vec<u8>, code: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    packet::put(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        fill(out);
    });
}

/// Appends AuthenticationOk.
pub fn put_ok(out: &mut Vec<u8>) {
    put_request(out, 0, |_| {});
}

/// Appends AuthenticationCleartextPassword.
pub fn put_cleartext_password(out: &mut Vec<u8>) {
    put_request(out, 3, |_| {});
}

/// Appends AuthenticationSASL with the mechanisms to choose from, best first.
pub fn put_sasl<'a>(out: &mut Vec<u8>, mechanisms: impl IntoIterator<Item = &'a str>) {
    put_request(out, 10, |out| {
        for mechanism in mechanisms {
            packet::put_cstr(out, mechanism.as_bytes());
        }
        out.push(0);
    });
}

/// Appends AuthenticationSASLContinue.
pub fn put_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    put_request(out, 11, |out| out.extend_from_slice(data));
}

/// Appends AuthenticationSASLFinal.
pub fn put_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    put_request(out, 12, |out| out.extend_from_slice(data));
}

/// A client's SASLInitialResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that it chose.
    pub mechanism: &'a [u8],
    /// Its first message; `None` if it waits for the server to begin.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads the body of the first `p` message of a SASL exchange.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut, or its length field contradicts its size.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let mechanism = cursor.cstr().ok_or(Malformed)?;
        let length = cursor.i32().ok_or(Malformed)?;
        let rest = cursor.rest();
        match usize::try_from(length) {
            Ok(length) if length == rest.len() => Ok(Self { mechanism, data: Some(rest) }),
            Err(_) if length == -1 && rest.is_empty() => Ok(Self { mechanism, data: None }),
            _ => Err(Malformed),
        }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::put(out, b'p', |out| {
            packet::put_cstr(out, self.mechanism);
            let length = self.data.map(|data| i32::try_from(data.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(&length.unwrap_or(-1).to_be_bytes());
            out.extend_from_slice(self.data.unwrap_or_default());
        });
    }
}

/// Reads the body of a PasswordMessage: a text and its zero, nothing after it.
///
/// # Errors
/// [`Malformed`] if the zero is missing or not the last byte.
pub fn parse_password(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor::new(body);
    let password = cursor.cstr().ok_or(Malformed)?;
    if cursor.rest().is_empty() { Ok(password) } else { Err(Malformed) }
}

/// Appends a PasswordMessage.
pub fn put_password(out: &mut Vec<u8>, password: &[u8]) {
    packet::put(out, b'p', |out| packet::put_cstr(out, password));
}

/// Appends a SASLResponse.
pub fn put_sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    packet::put(out, b'p', |out| out.extend_from_slice(data));
}

/// Appends BackendKeyData: what the client shows to cancel.
pub fn put_backend_key(out: &mut Vec<u8>, pid: i32, key: &[u8]) {
    packet::put(out, b'K', |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// Appends ReadyForQuery with the transaction status `I`, `T` or `E`.
pub fn put_ready(out: &mut Vec<u8>, status: u8) {
    packet::put(out, b'Z', |out| out.push(status));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::packet::split;

    #[test]
    fn requests_read_back_as_they_were_put() {
        let mut out = Vec::new();
        put_sasl(&mut out, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        // As PostgreSQL 15 sends it inside TLS.
        assert_eq!(out, b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let packet = split(&out, 100).unwrap().unwrap();
        let Ok(Request::Sasl(mechanisms)) = Request::parse(packet.body) else { panic!("not SASL") };
        assert!(mechanisms.iter().eq([&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"]));
        assert_eq!(Request::parse(&[0, 0, 0, 5, 1, 2, 3, 4]), Ok(Request::Md5Password([1, 2, 3, 4])));
        assert_eq!(Request::parse(&[0, 0, 0, 5, 1, 2, 3]), Err(Malformed));
        assert_eq!(Request::parse(&[0, 0, 0, 0]), Ok(Request::Ok));
        assert_eq!(Request::parse(&[0, 0, 0, 7]), Ok(Request::Other(7)));
    }

    #[test]
    fn a_password_has_one_zero_at_its_end() {
        assert_eq!(parse_password(b"tg_x\0"), Ok(&b"tg_x"[..]));
        assert_eq!(parse_password(b"tg_x"), Err(Malformed));
        assert_eq!(parse_password(b"tg\0x\0"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn sasl_initial_response_round_trips(mechanism in "[A-Z0-9-]{1,20}", data in prop::option::of(any::<Vec<u8>>())) {
            let sent = SaslInitialResponse { mechanism: mechanism.as_bytes(), data: data.as_deref() };
            let mut out = Vec::new();
            sent.encode(&mut out);
            let packet = split(&out, 10_000).unwrap().unwrap();
            prop_assert_eq!(SaslInitialResponse::parse(packet.body), Ok(sent));
        }

        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>) {
            let _ = (SaslInitialResponse::parse(&body), parse_password(&body));
            if let Ok(Request::Sasl(mechanisms)) = Request::parse(&body) {
                prop_assert!(mechanisms.iter().count() <= body.len());
            }
        }
    }
}
