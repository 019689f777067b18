//! Binary parameter values as the text that a reader of the trail expects.
//!
//! The common types are decoded as PostgreSQL's own output functions would print them; what is not known, or
//! does not have the length its type demands, is shown as `\x` and hexadecimal digits, like a `bytea`.

use std::fmt::Write as _;

use jiff::{SignedDuration, Span};

/// Type OIDs, as `pg_type.dat` fixes them for good.
mod oid {
    pub const BOOL: u32 = 16;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    /// Arrays of the types above; their binary form names the element type itself.
    pub const ARRAYS: [u32; 22] = [
        199, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1115, 1182, 1183,
        1185, 1231, 2951, 3807, 143,
    ];
}

/// How many dimensions an array may have (`MAXDIM`).
const MAX_DIMENSIONS: u32 = 6;

/// Appends the text form of a binary value of the type `oid`.
pub fn write_text(oid: u32, value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if known(oid, value, out).is_none() {
        out.truncate(start);
        write_hex(value, out);
    }
}

fn known(oid: u32, value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut text = String::new();
    match oid {
        oid::TEXT
        | oid::VARCHAR
        | oid::BPCHAR
        | oid::NAME
        | oid::JSON
        | oid::XML
        | oid::UNKNOWN
        | oid::CHAR => {
            out.extend_from_slice(value);
            return Some(());
        }
        oid::JSONB => {
            let (version, json) = value.split_first()?;
            out.extend_from_slice((*version == 1).then_some(json)?);
            return Some(());
        }
        oid::BOOL => text.push(match value {
            [0] => 'f',
            [_] => 't',
            _ => return None,
        }),
        oid::INT2 => write!(text, "{}", i16::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::INT4 => write!(text, "{}", i32::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::INT8 => write!(text, "{}", i64::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::OID => write!(text, "{}", u32::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::FLOAT4 => write!(text, "{}", f32::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::FLOAT8 => write!(text, "{}", f64::from_be_bytes(value.try_into().ok()?)).ok()?,
        oid::UUID => {
            let bytes: [u8; 16] = value.try_into().ok()?;
            for (index, byte) in bytes.iter().enumerate() {
                if matches!(index, 4 | 6 | 8 | 10) {
                    text.push('-');
                }
                write!(text, "{byte:02x}").ok()?;
            }
        }
        oid::DATE => {
            let days = i32::from_be_bytes(value.try_into().ok()?);
            let date = jiff::civil::date(2000, 1, 1).checked_add(Span::new().try_days(days).ok()?).ok()?;
            write!(text, "{date}").ok()?;
        }
        oid::TIME => {
            let micros = i64::from_be_bytes(value.try_into().ok()?);
            let time = jiff::civil::Time::midnight().checked_add(SignedDuration::from_micros(micros)).ok()?;
            write!(text, "{time}").ok()?;
        }
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(value.try_into().ok()?);
            let moment = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
            let moment = moment.checked_add(SignedDuration::from_micros(micros)).ok()?;
            write!(text, "{} {}", moment.date(), moment.time()).ok()?;
            if oid == oid::TIMESTAMPTZ {
                text.push_str("+00");
            }
        }
        oid::NUMERIC => numeric(value, &mut text)?,
        array if oid::ARRAYS.contains(&array) => return self::array(value, out),
        _ => return None,
    }
    out.extend_from_slice(text.as_bytes());
    Some(())
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// `numeric_send`: digit count, weight, sign, display scale, then digits in base 10,000.
fn numeric(mut value: &[u8], text: &mut String) -> Option<()> {
    let count = u16::from_be_bytes(take(&mut value)?);
    let weight = i16::from_be_bytes(take(&mut value)?);
    let sign = u16::from_be_bytes(take(&mut value)?);
    let scale = usize::from(u16::from_be_bytes(take(&mut value)?));
    if value.len() != usize::from(count) * 2 {
        return None;
    }
    let digit = |place: i32| -> Option<u16> {
        // `place` counts from the first stored digit; what is not stored is zero.
        let Ok(index) = usize::try_from(place) else { return Some(0) };
        let Some(bytes) = value.get(index * 2..index * 2 + 2) else { return Some(0) };
        Some(u16::from_be_bytes(bytes.try_into().ok()?)).filter(|digit| *digit < 10_000)
    };
    match sign {
        0 => {}
        0x4000 => text.push('-'),
        0xC000 => return write!(text, "NaN").ok(),
        0xD000 => return write!(text, "Infinity").ok(),
        0xF000 => return write!(text, "-Infinity").ok(),
        _ => return None,
    }
    let weight = i32::from(weight);
    if weight < 0 {
        text.push('0');
    }
    for place in 0..=weight {
        let digit = digit(place)?;
        if place == 0 { write!(text, "{digit}").ok()? } else { write!(text, "{digit:04}").ok()? }
    }
    if scale > 0 {
        text.push('.');
        let start = text.len();
        let mut place = weight + 1;
        while text.len() - start < scale {
            write!(text, "{:04}", digit(place)?).ok()?;
            place += 1;
        }
        text.truncate(start + scale);
    }
    Some(())
}

/// `array_send`: dimensions, a flag for NULLs, the element type, each dimension's length and lower bound, values.
fn array(mut value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let dimensions = u32::from_be_bytes(take(&mut value)?);
    let _has_null = take::<4>(&mut value)?;
    let element = u32::from_be_bytes(take(&mut value)?);
    if dimensions == 0 {
        out.extend_from_slice(b"{}");
        return Some(());
    }
    if dimensions > MAX_DIMENSIONS || oid::ARRAYS.contains(&element) {
        return None;
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        // An empty dimension would let a few bytes stand for billions of braces.
        lengths.push(Some(u32::from_be_bytes(take(&mut value)?)).filter(|length| *length > 0)?);
        let _lower_bound = take::<4>(&mut value)?;
    }
    dimension(&lengths, element, &mut value, out)?;
    value.is_empty().then_some(())
}

fn dimension(lengths: &[u32], element: u32, value: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (count, inner) = lengths.split_first()?;
    out.push(b'{');
    for index in 0..*count {
        if index > 0 {
            out.push(b',');
        }
        if !inner.is_empty() {
            dimension(inner, element, value, out)?;
            continue;
        }
        let length = i32::from_be_bytes(take(value)?);
        if length == -1 {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let (bytes, rest) = value.split_at_checked(usize::try_from(length).ok()?)?;
        *value = rest;
        let mut text = Vec::new();
        write_text(element, bytes, &mut text);
        quote_element(&text, out);
    }
    out.push(b'}');
    Some(())
}

fn quote_element(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace();
    if !text.is_empty() && !text.iter().any(special) && !text.eq_ignore_ascii_case(b"null") {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn write_hex(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + value.len() * 2);
    out.extend_from_slice(b"\\x");
    for byte in value {
        for nibble in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(oid: u32, value: &[u8]) -> String {
        let mut out = Vec::new();
        write_text(oid, value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn common_types_read_as_the_server_prints_them() {
        assert_eq!(text(oid::INT4, &42i32.to_be_bytes()), "42");
        assert_eq!(text(oid::INT8, &(-7i64).to_be_bytes()), "-7");
        assert_eq!(text(oid::BOOL, &[1]), "t");
        assert_eq!(text(oid::FLOAT8, &1.5f64.to_be_bytes()), "1.5");
        assert_eq!(text(oid::TEXT, "é".as_bytes()), "é");
        assert_eq!(text(oid::JSONB, b"\x01{}"), "{}");
        assert_eq!(text(oid::UUID, &[0xab; 16]), "abababab-abab-abab-abab-abababababab");
        assert_eq!(text(oid::DATE, &9823i32.to_be_bytes()), "2026-11-23");
        assert_eq!(text(oid::TIMESTAMP, &0i64.to_be_bytes()), "2000-01-01 00:00:00");
        assert_eq!(text(oid::TIMESTAMPTZ, &1i64.to_be_bytes()), "2000-01-01 00:00:00.000001+00");
    }

    #[test]
    fn numerics_keep_their_scale() {
        let value = |digits: &[u16], weight: i16, sign: u16, scale: u16| {
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&u16::try_from(digits.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&weight.to_be_bytes());
            bytes.extend_from_slice(&sign.to_be_bytes());
            bytes.extend_from_slice(&scale.to_be_bytes());
            digits.iter().for_each(|digit| bytes.extend_from_slice(&digit.to_be_bytes()));
            text(oid::NUMERIC, &bytes)
        };
        assert_eq!(value(&[1, 2345, 6700], 1, 0, 2), "12345.67");
        assert_eq!(value(&[5], -1, 0x4000, 4), "-0.0005");
        assert_eq!(value(&[1], 2, 0, 0), "100000000");
        assert_eq!(value(&[], 0, 0xC000, 0), "NaN");
        assert_eq!(value(&[], 0, 0, 0), "0");
    }

    #[test]
    fn arrays_quote_what_needs_it() {
        let mut bytes = Vec::new();
        for word in [1u32, 1, oid::TEXT, 3, 1] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        for element in ["a", "b c"] {
            bytes.extend_from_slice(&u32::try_from(element.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(element.as_bytes());
        }
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(text(1009, &bytes), "{a,\"b c\",NULL}");
    }

    #[test]
    fn what_is_not_known_is_shown_in_hex() {
        assert_eq!(text(999_999, &[0xde, 0xad]), "\\xdead");
        assert_eq!(text(oid::INT4, &[1]), "\\x01");
    }

    proptest! {
        #[test]
        fn hostile_values_are_shown_somehow(index in 0..30usize, value: Vec<u8>) {
            let oids = [16, 17, 18, 20, 21, 23, 25, 26, 700, 701, 1082, 1083, 1114, 1184, 1700, 2950, 3802, 1007, 1009, 1231];
            let mut out = Vec::new();
            write_text(oids[index % oids.len()], &value, &mut out);
            prop_assert!(out.len() <= 256 * 1024 + value.len() * 16);
        }
    }
}
