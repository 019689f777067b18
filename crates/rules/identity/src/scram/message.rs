//! The grammar of SCRAM messages (RFC 5802, section 7).

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{MAX_MESSAGE_LEN, ScramError};

/// Random bytes of a nonce, as in PostgreSQL.
const NONCE_LEN: usize = 18;

/// One end's fresh nonce: 18 random bytes as 24 characters.
#[derive(Clone)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce from the system's generator, or `None` if that fails.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0u8; NONCE_LEN];
        rand::fill(&mut bytes).ok()?;
        Some(Self::from_bytes(bytes))
    }

    /// The nonce of given bytes. They must never have been used before.
    #[must_use]
    pub fn from_bytes(bytes: [u8; NONCE_LEN]) -> Self {
        Self(STANDARD.encode(bytes))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn literal(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(…)")
    }
}

/// The message as text, if it can be one at all.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE_LEN {
        return Err(ScramError::Malformed("it is too long"));
    }
    if message.contains(&0) {
        return Err(ScramError::Malformed("it contains a zero byte"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is not UTF-8"))
}

/// Reads the attributes of a message one after the other.
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) const fn of(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The next attribute's letter and value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a str)>, ScramError> {
        let Some(rest) = self.rest else { return Ok(None) };
        let (attribute, after) = match rest.split_once(',') {
            Some((attribute, after)) => (attribute, Some(after)),
            None => (rest, None),
        };
        self.rest = after;
        match attribute.as_bytes() {
            [letter, b'=', ..] if letter.is_ascii_alphabetic() => {
                Ok(Some((*letter, attribute.get(2..).unwrap_or_default())))
            }
            _ => Err(ScramError::Malformed("an attribute is a letter, `=` and a value")),
        }
    }

    /// The value of the next attribute, which has to be this one.
    pub(super) fn expect(&mut self, letter: u8, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == letter => Ok(value),
            // RFC 5802, section 5.1: whoever doesn't know a mandatory extension must fail, and we know none.
            Some((b'm', _)) => Err(ScramError::Malformed("it asks for a mandatory extension")),
            _ => Err(ScramError::Malformed(missing)),
        }
    }

    /// Checks what may follow at the end of a message: optional extensions, to be ignored.
    pub(super) fn skip_extensions(&mut self) -> Result<(), ScramError> {
        while let Some((letter, _)) = self.next()? {
            if letter == b'm' {
                return Err(ScramError::Malformed("it asks for a mandatory extension"));
            }
        }
        Ok(())
    }

    /// Refuses anything that follows.
    pub(super) fn end(&mut self) -> Result<(), ScramError> {
        match self.next()? {
            None => Ok(()),
            Some(_) => Err(ScramError::Malformed("something follows the last attribute")),
        }
    }
}

/// A nonce: one or more printable ASCII characters; the comma is taken by the grammar.
pub(super) fn nonce(value: &str) -> Result<&str, ScramError> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(ScramError::Malformed("a nonce is printable ASCII"))
    }
}

pub(super) fn base64(value: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(value).map_err(|_| ScramError::Malformed(what))
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
