//! The first packets of a connection ("Start-up" and "StartupMessage" in PostgreSQL's manual): they have a
//! length and no tag. Limits and refusals are those of the server's `ProcessStartupPacket`.

pub mod options;

use super::error_response::Report;
use super::packet::{self, Cursor};

/// Longest startup packet in bytes, its length field not counted: the server's MAX_STARTUP_PACKET_LENGTH.
pub const MAX_STARTUP_LEN: usize = 10_000;

/// Longest cancel key in bytes (protocol 3.2).
pub const MAX_CANCEL_KEY_LEN: usize = 256;

/// Shortest cancel key in bytes, and the only length under protocol 3.0.
pub const MIN_CANCEL_KEY_LEN: usize = 4;

/// The first byte of a TLS handshake record. As the first byte of a length it would mean 352 MiB.
const TLS_HANDSHAKE: u8 = 0x16;

const CANCEL_REQUEST: u32 = 1234 << 16 | 5678;
const SSL_REQUEST: u32 = 1234 << 16 | 5679;
const GSSENC_REQUEST: u32 = 1234 << 16 | 5680;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// 3 for everything since 2003.
    pub major: u16,
    /// 0, or 2 from PostgreSQL 18 on.
    pub minor: u16,
}

impl Protocol {
    /// Version 3.0.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// Version 3.2: longer cancel keys.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// As the startup packet writes it.
    #[must_use]
    pub const fn code(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }

    /// The version of that code.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }

    /// Bytes of a cancel key under this version.
    #[must_use]
    pub fn cancel_key_len(self) -> usize {
        if self >= Self::V3_2 { 32 } else { MIN_CANCEL_KEY_LEN }
    }
}

/// A connection's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// A TLS handshake without being asked for; no byte of it is consumed.
    DirectTls,
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel what another connection runs.
    Cancel(CancelRequest),
    /// Wants a session.
    Startup(Startup),
}

/// Asks to cancel what the connection with this pid runs.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The pid of BackendKeyData.
    pub pid: i32,
    /// The key of BackendKeyData, 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl CancelRequest {
    /// The packet's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.key.len());
        packet::put_sized(&mut out, |out| {
            out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
            out.extend_from_slice(&self.pid.to_be_bytes());
            out.extend_from_slice(&self.key);
        });
        out
    }
}

/// The packet that asks for TLS.
#[must_use]
pub fn ssl_request() -> [u8; 8] {
    let mut out = [0, 0, 0, 8, 0, 0, 0, 0];
    let (_, code) = out.split_at_mut(4);
    code.copy_from_slice(&SSL_REQUEST.to_be_bytes());
    out
}

/// Why the first bytes of a connection are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// Most likely another protocol.
    #[error("invalid length of startup packet: this port speaks the PostgreSQL protocol")]
    Length,
    /// A version that nobody speaks any more, or not yet.
    #[error("unsupported frontend protocol {}.{}: the gateway supports 3.0 to 3.2", .0.major, .0.minor)]
    Version(Protocol),
    /// A name without a value, or no end.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// The session would have no user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// Neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    Replication(String),
    /// A cancel request is never answered, not even to say this.
    #[error("invalid length of cancel request packet")]
    Cancel,
    /// Bytes that came in plain text, too early to be read as part of the TLS connection (CVE-2021-23214).
    #[error("received unencrypted data after SSL request")]
    EarlyData,
}

impl StartupError {
    /// What the client hears, in the server's words where it has them; `None` where nothing may be said.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let report = |code| Report::fatal(code, self.to_string());
        let report = match self {
            Self::Length | Self::Layout => report("08P01"),
            Self::Version(version) => {
                let report = report("0A000");
                let old = version.major < 3 && version.major > 0;
                return Some(if old { report.to_bytes_v2() } else { report.to_bytes() });
            }
            Self::NoUser => report("28000"),
            Self::Replication(_) => {
                report("22023").with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
            }
            Self::Cancel => return None,
            Self::EarlyData => report("08P01").with_detail(
                "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
            ),
        };
        Some(report.to_bytes())
    }
}

/// The first packet in `buffer` and how many bytes it has, or `None` while its end is missing. `encrypted` says
/// that TLS was asked for already (whatever the answer was): then only a startup or a cancel request may come.
///
/// # Errors
/// [`StartupError`] as soon as it is certain.
pub fn parse(buffer: &[u8], encrypted: bool) -> Result<Option<(FirstPacket, usize)>, StartupError> {
    if buffer.first() == Some(&TLS_HANDSHAKE) && !encrypted {
        return Ok(Some((FirstPacket::DirectTls, 0)));
    }
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let size = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let size = size.filter(|size| (4..=MAX_STARTUP_LEN).contains(size)).ok_or(StartupError::Length)?;
    // The version is judged before the rest comes: half a packet of garbage need not be waited for.
    let Some((code, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let code = u32::from_be_bytes(*code);
    let special = !encrypted && matches!(code, SSL_REQUEST | GSSENC_REQUEST);
    if special && size != 4 {
        return Err(StartupError::Length);
    }
    if !special && code != CANCEL_REQUEST && code >> 16 != 3 {
        return Err(StartupError::Version(Protocol::from_code(code)));
    }
    let Some(body) = rest.get(4..size) else { return Ok(None) };
    let packet = match code {
        SSL_REQUEST if special => FirstPacket::SslRequest,
        GSSENC_REQUEST if special => FirstPacket::GssEncRequest,
        CANCEL_REQUEST => FirstPacket::Cancel(parse_cancel(body)?),
        code => FirstPacket::Startup(Startup::parse(Protocol::from_code(code), body)?),
    };
    Ok(Some((packet, size + 4)))
}

fn parse_cancel(body: &[u8]) -> Result<CancelRequest, StartupError> {
    let mut cursor = Cursor::new(body);
    let pid = cursor.i32().ok_or(StartupError::Cancel)?;
    let key = cursor.rest();
    if (MIN_CANCEL_KEY_LEN..=MAX_CANCEL_KEY_LEN).contains(&key.len()) {
        Ok(CancelRequest { pid, key: key.to_vec() })
    } else {
        Err(StartupError::Cancel)
    }
}

/// A parameter of the startup packet: name and value, both as the client sent them.
pub type Parameter = (Vec<u8>, Vec<u8>);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// Ordinary commands.
    #[default]
    No,
    /// Physical replication.
    Physical,
    /// Logical replication, with SQL.
    Logical,
}

/// A StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that the client asked for; see [`Startup::agreed`].
    pub requested: Protocol,
    /// All parameters but protocol options, in the client's order.
    pub parameters: Vec<Parameter>,
    /// Names of protocol options (`_pq_.*`) that were asked for. None is known yet, so none is supported.
    pub unsupported: Vec<Vec<u8>>,
    /// What the connection is for.
    pub replication: Replication,
}

impl Startup {
    fn parse(requested: Protocol, body: &[u8]) -> Result<Self, StartupError> {
        let mut startup =
            Self { requested, parameters: Vec::new(), unsupported: Vec::new(), replication: Replication::No };
        let mut cursor = Cursor::new(body);
        loop {
            let name = cursor.cstr().ok_or(StartupError::Layout)?;
            if name.is_empty() {
                break;
            }
            let value = cursor.cstr().ok_or(StartupError::Layout)?;
            if name.starts_with(b"_pq_.") {
                startup.unsupported.push(name.to_vec());
            } else {
                startup.parameters.push((name.to_vec(), value.to_vec()));
            }
        }
        if !cursor.rest().is_empty() {
            return Err(StartupError::Layout);
        }
        startup.replication = match startup.parameter(b"replication") {
            Some(value) => replication(value)?,
            None => Replication::No,
        };
        if startup.user().is_empty() {
            return Err(StartupError::NoUser);
        }
        Ok(startup)
    }

    /// The last value of that parameter.
    #[must_use]
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The user; never empty.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.parameter(b"user").unwrap_or_default()
    }

    /// The database, if one was named.
    #[must_use]
    pub fn database(&self) -> Option<&[u8]> {
        self.parameter(b"database").filter(|database| !database.is_empty())
    }

    /// The version that both ends speak.
    #[must_use]
    pub fn agreed(&self) -> Protocol {
        self.requested.min(Protocol::V3_2)
    }

    /// Appends NegotiateProtocolVersion if the client asked for what we don't speak.
    pub fn put_negotiation(&self, out: &mut Vec<u8>) {
        if self.requested <= Protocol::V3_2 && self.unsupported.is_empty() {
            return;
        }
        packet::put(out, b'v', |out| {
            out.extend_from_slice(&self.agreed().code().to_be_bytes());
            let count = u32::try_from(self.unsupported.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&count.to_be_bytes());
            for name in &self.unsupported {
                packet::put_cstr(out, name);
            }
        });
    }
}

/// `database`, or a boolean as the server's `parse_bool` reads it: any unambiguous beginning of a word, in any
/// case.
fn replication(value: &[u8]) -> Result<Replication, StartupError> {
    if value == b"database" {
        return Ok(Replication::Logical);
    }
    let lower = value.to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| lower.len() >= least && word.starts_with(&lower);
    if begins(b"true", 1) || begins(b"yes", 1) || lower == b"on" || lower == b"1" {
        Ok(Replication::Physical)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || lower == b"0" {
        Ok(Replication::No)
    } else {
        Err(StartupError::Replication(String::from_utf8_lossy(value).chars().take(64).collect()))
    }
}

/// Appends a StartupMessage.
pub fn put_startup<'a>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    parameters: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) {
    packet::put_sized(out, |out| {
        out.extend_from_slice(&protocol.code().to_be_bytes());
        for (name, value) in parameters {
            packet::put_cstr(out, name);
            packet::put_cstr(out, value);
        }
        out.push(0);
    });
}

#[cfg(test)]
mod tests;
