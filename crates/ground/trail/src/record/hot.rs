//! The two records of every command, written and read by hand.
//!
//! The bytes are postcard's, which `tests` holds them to. Serde's way goes through one call for every byte of an id and
//! costs several times as much, on the thread that serves the client and on the sealer's. What can't be read here is read
//! by what is derived, which then says what is wrong with it.

use vocabulary::{SessionId, Status, Timestamp};

use super::{Intent, NotKept, OutcomeRecord, Record};

/// Which variant of [`super::Record`] follows.
const INTENT: u8 = 1;
const OUTCOME: u8 = 2;

/// Room for all that a record has besides texts: the longest is an outcome with an id of 16 bytes, a hash of 32, and
/// eight numbers of at most 10 bytes.
const HEAD_BYTES: usize = 160;

/// The fixed part of a record, put together before it is appended at once.
struct Head {
    bytes: [u8; HEAD_BYTES],
    length: usize,
}

impl Head {
    fn new(variant: u8, session: SessionId) -> Self {
        let mut head = Self { bytes: [0; HEAD_BYTES], length: 0 };
        head.byte(variant);
        head.bytes(session.as_bytes());
        head
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// Seven bits a byte, the lowest first (LEB128).
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
        self.byte(value as u8);
    }

    fn length_of(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
    }

    /// Appends what is there, and begins anew.
    fn flush(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.bytes.get(..self.length).unwrap_or_default());
        self.length = 0;
    }

    fn text(&mut self, text: Option<&str>, buffer: &mut Vec<u8>) {
        let Some(text) = text else { return self.byte(0) };
        self.byte(1);
        self.length_of(text.as_bytes());
        self.flush(buffer);
        buffer.extend_from_slice(text.as_bytes());
    }
}

/// Appends an intent as a [`super::Record`].
pub(super) fn intent(record: &Intent<'_>, buffer: &mut Vec<u8>) {
    let Intent { session, seq, at, facts, decision, text, params } = *record;
    buffer.reserve(HEAD_BYTES + facts.len() + decision.len() + text.len() + params.len());
    let mut head = Head::new(INTENT, session);
    head.number(seq);
    head.number(at.0);
    for part in [facts, decision, text, params] {
        head.length_of(part);
        head.flush(buffer);
        buffer.extend_from_slice(part);
    }
}

/// Appends an outcome as a [`super::Record`].
pub(super) fn outcome(record: &OutcomeRecord<'_>, buffer: &mut Vec<u8>) {
    let OutcomeRecord {
        session,
        seq,
        at,
        duration_us,
        status,
        executed,
        rows,
        bytes_in,
        bytes_out,
        code,
        message,
        exit,
        not_kept,
    } = *record;
    let mut head = Head::new(OUTCOME, session);
    head.number(seq);
    head.number(at.0);
    head.number(duration_us);
    // Variants are counted from 0, codes from 1.
    head.byte(status.code() - 1);
    match executed {
        None => head.byte(0),
        Some(executed) => head.bytes(&[1, u8::from(executed)]),
    }
    match rows {
        None => head.byte(0),
        Some(rows) => {
            head.byte(1);
            head.number(rows);
        }
    }
    head.number(bytes_in);
    head.number(bytes_out);
    head.text(code, buffer);
    head.text(message, buffer);
    match exit {
        None => head.byte(0),
        Some(exit) => {
            head.byte(1);
            // Zigzag: the sign in the lowest bit.
            head.number(u64::from(((exit << 1) ^ (exit >> 31)).cast_unsigned()));
        }
    }
    match not_kept {
        None => head.byte(0),
        Some(NotKept { bytes, sha256 }) => {
            head.byte(1);
            head.number(bytes);
            head.bytes(&sha256);
        }
    }
    head.flush(buffer);
}

/// Reads an intent or an outcome. `None` for any other record, and for bytes that are none.
pub(super) fn read(frame: &[u8]) -> Option<Record<'_>> {
    let mut rest = Rest(frame);
    let record = match rest.byte()? {
        INTENT => Record::Intent(Intent {
            session: SessionId::from_bytes(*rest.array()?),
            seq: rest.number()?,
            at: Timestamp(rest.number()?),
            facts: rest.slice()?,
            decision: rest.slice()?,
            text: rest.slice()?,
            params: rest.slice()?,
        }),
        OUTCOME => Record::Outcome(OutcomeRecord {
            session: SessionId::from_bytes(*rest.array()?),
            seq: rest.number()?,
            at: Timestamp(rest.number()?),
            duration_us: rest.number()?,
            status: Status::from_code(rest.byte()?.checked_add(1)?)?,
            executed: rest.option(|rest| match rest.byte()? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })?,
            rows: rest.option(Rest::number)?,
            bytes_in: rest.number()?,
            bytes_out: rest.number()?,
            code: rest.option(Rest::text)?,
            message: rest.option(Rest::text)?,
            exit: rest.option(|rest| {
                let zigzag = u32::try_from(rest.number()?).ok()?;
                Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
            })?,
            not_kept: rest.option(|rest| Some(NotKept { bytes: rest.number()?, sha256: *rest.array()? }))?,
        }),
        _ => return None,
    };
    rest.0.is_empty().then_some(record)
}

/// What of a frame is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        // Lengths and counts are mostly short.
        if let Some((&byte @ 0..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return Some(u64::from(byte));
        }
        self.long_number()
    }

    fn long_number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if place == 9 && byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.slice()?).ok()
    }

    /// `None` if the bytes are wrong, `Some(None)` if there is no value.
    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}
