//! Texts that differ only in their constants.
//!
//! Clients that paste constants into their SQL send the same statement over and over with other numbers. A
//! scanner makes a key that is the same for all of them: plain integers and plain strings become marks. It
//! looks only at texts in which it can't be mistaken about where a constant begins and ends, and gives up on
//! all others.
//!
//! *Invariant*: if two texts have the same key, the grammar reads the same tokens in both, but for the values
//! of constants; and the cache uses a key only for statements whose facts don't depend on those.

/// Stands for an integer. No text that has a key holds control characters.
const INTEGER: u8 = 1;
/// Stands for a string.
const STRING: u8 = 2;

/// Longest integer that is one token of the same kind whatever its digits: nine digits fit into 32 bits.
const INTEGER_DIGITS: usize = 9;

/// What a byte is to the scanner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Part of a word or a number.
    Word,
    /// Part of a word or a number, which it may begin.
    Digit,
    /// Stands for itself, whatever is around it.
    Quiet,
    /// Has to be looked at.
    Special,
}

static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Special; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = index as u8;
        kinds[index] = match byte {
            b'0'..=b'9' => Kind::Digit,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => Kind::Word,
            b'\'' | b'"' | b'$' | b'.' | b'-' | b'/' | b'&' | b';' => Kind::Special,
            _ if plain(byte) => Kind::Quiet,
            _ => Kind::Special,
        };
        index += 1;
    }
    kinds
};

fn kind(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or(Kind::Special)
}

/// Appends the key of a text that is read with `standard_conforming_strings = on`. False: it has none.
pub(super) fn key(text: &[u8], key: &mut Vec<u8>) -> bool {
    let mut at = 0;
    // What stands before is in the key.
    let mut copied = 0;
    // Whether the byte before could be part of the same word or number.
    let mut glued = false;
    let mut constants = false;
    let mut ended = false;
    while let Some(&byte) = text.get(at) {
        if ended && !(byte == b';' || super::parse::is_space(byte)) {
            return false;
        }
        let start = at;
        at += 1;
        match kind(byte) {
            Kind::Word => {
                at += word(text.get(at..).unwrap_or_default());
                glued = true;
                continue;
            }
            Kind::Digit if glued => continue,
            Kind::Quiet => {
                glued = false;
                continue;
            }
            Kind::Digit | Kind::Special => {}
        }
        match byte {
            b'0'..=b'9' => {
                at += digits(text.get(at..).unwrap_or_default());
                // 1.5, 1e5, 1x, 0x1f, 1_000, 1$
                if at - start > INTEGER_DIGITS
                    || text.get(at).is_some_and(|&next| continues(next) || next == b'.')
                {
                    return false;
                }
                key.extend_from_slice(text.get(copied..start).unwrap_or_default());
                key.push(INTEGER);
                (copied, constants, glued) = (at, true, true);
                continue;
            }
            b'\'' if !glued => {
                let Some(length) = string(text.get(at..).unwrap_or_default()) else { return false };
                at += length;
                key.extend_from_slice(text.get(copied..start).unwrap_or_default());
                key.push(STRING);
                (copied, constants, glued) = (at, true, true);
                continue;
            }
            // E'…', B'…', 5'…', and strings next to each other.
            b'\'' => return false,
            b'"' => {
                // A name in quotes stays as it is.
                let Some(end) = memchr::memchr(b'"', text.get(at..).unwrap_or_default()) else {
                    return false;
                };
                at += end + 1;
                if text.get(start..at).is_none_or(|name| !name.iter().all(|&byte| plain(byte))) {
                    return false;
                }
            }
            // A parameter; not a dollar quote, nor a name with a dollar in it.
            b'$' if !glued => {
                let length = digits(text.get(at..).unwrap_or_default());
                at += length;
                if length == 0 || text.get(at).is_some_and(|&next| continues(next) || next == b'\'') {
                    return false;
                }
                glued = true;
                continue;
            }
            // A number that begins with its point; and `a.b`, `a.*`, which are what most points are.
            b'.' if text.get(at).is_some_and(u8::is_ascii_digit) => return false,
            b'-' if text.get(at) == Some(&b'-') => return false,
            b'/' if text.get(at) == Some(&b'*') => return false,
            // U&'…' and U&"…"
            b'&' if matches!(text.get(at), Some(b'\'' | b'"')) => return false,
            b';' => ended = true,
            b'.' | b'-' | b'/' | b'&' => {}
            _ => return false,
        }
        glued = false;
    }
    key.extend_from_slice(text.get(copied..).unwrap_or_default());
    // FLOAT(n) is another type for another n, and some n it refuses.
    constants && !has_float(text)
}

const fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r') && byte != b'\\'
}

/// Whether a byte goes on with a word or a number that it stands behind.
const fn continues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Length of what goes on with a word.
fn word(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| matches!(kind(byte), Kind::Word | Kind::Digit)).count()
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Length of the rest of a string with its closing quote, if there is nothing special in it and no other
/// string or name follows at once.
fn string(text: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\'', text)?;
    let inside = text.get(..end)?;
    let next = text.get(end + 1);
    let alone = !next.is_some_and(|&next| continues(next) || matches!(next, b'\'' | b'"'));
    (alone && inside.iter().all(|&byte| plain(byte))).then_some(end + 1)
}

fn has_float(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'f', b'F', text)
        .any(|at| text.get(at..at + 5).is_some_and(|word| word.eq_ignore_ascii_case(b"float")))
}

#[cfg(test)]
mod tests {
    fn key(text: &str) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        super::key(text.as_bytes(), &mut key).then_some(key)
    }

    #[test]
    fn constants_become_marks() {
        assert_eq!(key("SELECT 1, 'a' WHERE x=23;").unwrap(), b"SELECT \x01, \x02 WHERE x=\x01;");
        assert_eq!(key("SELECT a1, $1, \"b2\" + 7").unwrap(), b"SELECT a1, $1, \"b2\" + \x01");
        assert_eq!(key("SELECT 1"), key("SELECT 999999999"));
        assert_ne!(key("SELECT 1"), key("SELECT '1'"));
    }

    #[test]
    fn what_could_be_misread_has_no_key() {
        for text in [
            "SELECT 1 -- '",
            "SELECT 1 /* ' */",
            "SELECT E'a', 1",
            "SELECT U&'a', 1",
            "SELECT U&\"a\", 1",
            "SELECT $$a$$, 1",
            "SELECT $t$1$t$",
            "SELECT 'it''s'",
            "SELECT 'a\\'",
            "SELECT 1.5",
            "SELECT .5, 1",
            "SELECT 1e5",
            "SELECT 0x1f",
            "SELECT 1_000",
            "SELECT 1a",
            "SELECT 'a'b",
            "SELECT 1'a'",
            "SELECT 'a",
            "SELECT \"a, 1",
            "SELECT 1; SELECT 2",
            "SELECT 'é'",
            "SELECT a$1",
            "SELECT 1::float(5)",
            "SELECT 1234567890",
            "SELECT N'a', 1",
            "SELECT x'1f', 1",
            "SELECT 1\0",
            "SELECT \"a\\b\", 1",
        ] {
            assert_eq!(key(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_without_constants_needs_none() {
        assert_eq!(key("SELECT a FROM b"), None);
    }
}
