//! ErrorResponse and NoticeResponse: made by us, and read from the target
//! ("Error and Notice Message Fields" in PostgreSQL's manual).

use super::packet::{self, Cursor};

/// How bad it is. The first two end the command or the session, the others only tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The command failed.
    Error,
    /// The session ends.
    Fatal,
    /// Something to know.
    Warning,
    /// Something to know, not alarming.
    Notice,
}

impl Severity {
    /// The protocol's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Error | Self::Fatal => b'E',
            Self::Warning | Self::Notice => b'N',
        }
    }
}

/// An error or a notice of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// SQLSTATE.
    pub code: &'static str,
    /// One sentence; many drivers show nothing else.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Report {
    /// The command failed.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, code, message: message.into(), detail: None, hint: None }
    }

    /// The session ends.
    #[must_use]
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::error(code, message) }
    }

    /// Something to know.
    #[must_use]
    pub fn notice(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, ..Self::error(code, message) }
    }

    /// With more of it.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// With what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Appends the message's bytes: fields S, V, C, M, D, H in the order in which the server writes them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::put(out, self.severity.tag(), |out| {
            let fields = [
                (b'S', Some(self.severity.as_str())),
                (b'V', Some(self.severity.as_str())),
                (b'C', Some(self.code)),
                (b'M', Some(self.message.as_str())),
                (b'D', self.detail.as_deref()),
                (b'H', self.hint.as_deref()),
            ];
            for (field, text) in fields {
                if let Some(text) = text {
                    out.push(field);
                    packet::put_cstr(out, text.as_bytes());
                }
            }
            out.push(0);
        });
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.message.len());
        self.encode(&mut out);
        out
    }

    /// As protocol 2 wrote it, for a client that asked for nothing newer: tag and text, without a length.
    #[must_use]
    pub fn to_bytes_v2(&self) -> Vec<u8> {
        let mut out = vec![b'E'];
        let text = format!("{}:  {}\n", self.severity.as_str(), self.message);
        packet::put_cstr(&mut out, text.as_bytes());
        out
    }
}

/// What the gateway needs of an error or a notice that the target sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received<'a> {
    /// ERROR, FATAL, PANIC and so on, not translated (V, or S from servers before 9.6).
    pub severity: &'a [u8],
    /// SQLSTATE; empty if the server gave none.
    pub code: &'a [u8],
    /// The message, in the encoding of the session.
    pub message: &'a [u8],
}

impl<'a> Received<'a> {
    /// Reads a body. Fields that are unknown are passed over, those that are missing or cut stay empty: what the
    /// target sent goes to the client as it is, whatever we understand of it.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Self {
        let mut received = Self::default();
        let mut localized: &[u8] = &[];
        let mut cursor = Cursor::new(body);
        while let Some(field) = cursor.byte().filter(|field| *field != 0) {
            let Some(text) = cursor.cstr() else { break };
            match field {
                b'V' => received.severity = text,
                b'S' => localized = text,
                b'C' => received.code = text,
                b'M' => received.message = text,
                _ => {}
            }
        }
        if received.severity.is_empty() {
            received.severity = localized;
        }
        received
    }

    /// SQLSTATE, if it has the shape of one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&'a str> {
        let code = std::str::from_utf8(self.code).ok()?;
        (code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
    }

    /// Whether the session ends with it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, b"FATAL" | b"PANIC")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::packet::split;

    #[test]
    fn the_bytes_are_those_of_the_manual() {
        let report = Report::fatal("28P01", "no").with_hint("ask");
        assert_eq!(report.to_bytes(), b"E\0\0\0\x23SFATAL\0VFATAL\0C28P01\0Mno\0Hask\0\0");
        assert_eq!(Report::notice("00000", "x").to_bytes().first(), Some(&b'N'));
        assert_eq!(Report::fatal("0A000", "too old").to_bytes_v2(), b"EFATAL:  too old\n\0");
    }

    #[test]
    fn a_zero_in_a_text_cannot_smuggle_a_field() {
        let bytes = Report::error("42501", "no\0CXXXXX").to_bytes();
        let packet = split(&bytes, 1_000).unwrap().unwrap();
        assert_eq!(Received::parse(packet.body).code, b"42501");
        assert_eq!(Received::parse(packet.body).message, b"no");
    }

    #[test]
    fn an_old_server_without_v_is_understood() {
        let received = Received::parse(b"SFEHLER\0C42P01\0Mes gibt sie nicht\0\0");
        assert_eq!((received.severity, received.sqlstate()), (&b"FEHLER"[..], Some("42P01")));
        assert!(!received.is_fatal());
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(message in "[^\0]{0,80}", detail in prop::option::of("[^\0]{0,40}")) {
            let report = Report { detail, ..Report::error("22023", message.clone()) };
            let bytes = report.to_bytes();
            let packet = split(&bytes, 10_000).unwrap().unwrap();
            prop_assert_eq!(packet.len, bytes.len());
            let received = Received::parse(packet.body);
            prop_assert_eq!(received.message, message.as_bytes());
            prop_assert_eq!(received.sqlstate(), Some("22023"));
        }

        #[test]
        fn any_body_is_read(body: Vec<u8>) {
            let received = Received::parse(&body);
            let _ = (received.sqlstate(), received.is_fatal());
        }
    }
}
