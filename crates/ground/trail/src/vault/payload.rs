//! The plain text of a payload: its fields, each with the random key of its commitment.

use std::ops::Range;

use crate::CaptureField;

/// What a field is. Codes are part of the format and never reused; those from 16 on are [`CaptureField`]'s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Field {
    /// The command as it was sent.
    Text = 1,
    /// Its parameters: [`crate::ParamsBuf`].
    Params = 2,
    /// Its facts and the decision, as the intent carried them, one after the other.
    Judged = 3,
    /// The outcome's message, or why a session ended. UTF-8.
    Message = 4,
    /// The outcome's code, if it is not a SQLSTATE. UTF-8.
    Code = 5,
    /// SHA-256 of the whole of an output that was not kept whole.
    NotKept = 6,
    /// Names of a session's principal, client and target. JSON.
    Names = 7,
    /// What an event tells. JSON.
    Event = 8,
}

impl Field {
    pub(crate) const ALL: [Self; 8] = [
        Self::Text,
        Self::Params,
        Self::Judged,
        Self::Message,
        Self::Code,
        Self::NotKept,
        Self::Names,
        Self::Event,
    ];

    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Params => "params",
            Self::Judged => "facts and decision",
            Self::Message => "message",
            Self::Code => "code",
            Self::NotKept => "hash of what was not kept",
            Self::Names => "names",
            Self::Event => "event",
        }
    }

    pub(crate) fn name_of(code: u8) -> &'static str {
        let captured = CaptureField::from_code(code).map(CaptureField::as_str);
        let own = Self::ALL.into_iter().find(|field| field.code() == code).map(Self::as_str);
        own.or(captured).unwrap_or("unknown field")
    }
}

/// Adds a field to a payload: code, random key, length (LEB128), bytes.
pub(crate) fn push_field(plain: &mut Vec<u8>, field: u8, r: &[u8; 32], bytes: &[u8]) {
    plain.push(field);
    plain.extend_from_slice(r);
    let mut length = bytes.len();
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            plain.push(low);
            break;
        }
        plain.push(low | 0x80);
    }
    plain.extend_from_slice(bytes);
}

/// One field of an opened payload.
#[derive(Clone, Debug)]
pub(crate) struct OpenField {
    pub(crate) code: u8,
    pub(crate) r: [u8; 32],
    range: Range<usize>,
}

/// An opened payload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    plain: Vec<u8>,
    fields: Vec<OpenField>,
}

impl Fields {
    /// Reads the plain text of a payload. `None` if it is not one: torn, or its fields are not in rising order.
    pub(crate) fn parse(plain: Vec<u8>) -> Option<Self> {
        let mut fields: Vec<OpenField> = Vec::new();
        let mut at = 0;
        while let Some((code, rest)) = plain.get(at..)?.split_first() {
            let (r, rest) = rest.split_first_chunk::<32>()?;
            let (length, prefix) = read_length(rest)?;
            let start = at + 1 + r.len() + prefix;
            let end = start.checked_add(length).filter(|end| *end <= plain.len())?;
            if fields.last().is_some_and(|last| last.code >= *code) {
                return None;
            }
            fields.push(OpenField { code: *code, r: *r, range: start..end });
            at = end;
        }
        Some(Self { plain, fields })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u8; 32], &[u8])> {
        self.fields
            .iter()
            .map(|field| (field.code, &field.r, self.plain.get(field.range.clone()).unwrap_or_default()))
    }

    pub(crate) fn find(&self, field: Field) -> Option<&[u8]> {
        self.find_code(field.code())
    }

    pub(crate) fn find_code(&self, field: u8) -> Option<&[u8]> {
        self.iter().find(|(code, ..)| *code == field).map(|(.., bytes)| bytes)
    }
}

/// A LEB128 length and how many bytes it takes.
fn read_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0u64;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // One way to write each length.
            let shortest = place == 0 || *byte != 0;
            return shortest.then_some((usize::try_from(length).ok()?, place + 1));
        }
    }
    None
}
