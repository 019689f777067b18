//! Markers in a shell's output, found and taken out: `ESC ] 7313 ; KEY ; NUMBER ; KIND ; TEXT BEL`.
//!
//! The form is that of an operating system command (ECMA-48, section 8.3.89), as in the markers that terminals know, with
//! a number of its own. The key is made anew for each shell. What has another one is output like any other.

use std::sync::LazyLock;

/// What every marker begins with, before its key.
const BEGIN: &[u8] = b"\x1b]7313;";

/// What ends it.
const END: u8 = 0x07;

/// Longest marker, in bytes: a line that was pasted, with each byte written out.
const MAX_MARKER_BYTES: usize = 1 << 20;

/// The key of one shell: 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a shell tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It tells from here on; what it is.
    Ready(String),
    /// It can't; why.
    Unable(String),
    /// This line is about to run. `None` where the shell itself does not know it.
    Runs(Option<Vec<u8>>),
    /// It is over, with this status.
    Done(i32),
    /// A prompt, and nothing has run before it.
    Idle,
}

/// Output, cut at its markers.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Output.
    Output(Vec<u8>),
    /// A marker, with its number.
    Marker(u64, Told),
    /// A marker with the right key that says nothing that can be understood.
    Broken,
    /// What looks like a marker and has another key; it stays in the output.
    Forged,
    /// The key itself stands in the output.
    KeyShown,
}

/// Finds markers in output that comes in pieces of any size.
pub(crate) struct Scanner {
    key: Key,
    /// What a marker of this shell begins with.
    prefix: Vec<u8>,
    /// The beginning of what may become a marker.
    held: Vec<u8>,
    /// The last bytes of output, as many as are not enough for a key.
    tail: Vec<u8>,
}

impl Scanner {
    pub(crate) fn new(key: Key) -> Self {
        let prefix = [BEGIN, key.0.as_bytes(), b";"].concat();
        Self { key, prefix, held: Vec::new(), tail: Vec::new() }
    }

    /// Takes output in; nothing is held back but what may be the beginning of a marker.
    pub(crate) fn take(&mut self, data: &[u8]) -> Vec<Piece> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        let mut from = 0;
        while let Some(found) = position(rest, from, 0x1b) {
            let (before, at) = rest.split_at(found);
            if let Some(inner) = at.strip_prefix(self.prefix.as_slice()) {
                if let Some(end) = inner.iter().take(MAX_MARKER_BYTES).position(|byte| *byte == END) {
                    self.push(&mut pieces, before);
                    let (body, after) = inner.split_at(end);
                    pieces.push(
                        parse(body).map_or(Piece::Broken, |(number, told)| Piece::Marker(number, told)),
                    );
                    rest = after.get(1..).unwrap_or_default();
                    from = 0;
                    continue;
                }
                if inner.len() <= MAX_MARKER_BYTES {
                    break;
                }
                pieces.push(Piece::Broken);
            } else if self.prefix.starts_with(at) {
                break;
            } else if at.starts_with(BEGIN) {
                pieces.push(Piece::Forged);
            }
            from = found + 1;
        }
        let held = position(rest, from, 0x1b).unwrap_or(rest.len());
        let (output, held) = rest.split_at(held);
        self.push(&mut pieces, output);
        self.held = held.to_vec();
        pieces
    }

    /// What is still held when the output is over.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn push(&mut self, pieces: &mut Vec<Piece>, output: &[u8]) {
        if output.is_empty() {
            return;
        }
        let key = self.key.0.as_bytes();
        let mut seen = std::mem::take(&mut self.tail);
        seen.extend_from_slice(output);
        if seen.windows(key.len()).any(|window| window == key) {
            pieces.push(Piece::KeyShown);
            seen.clear();
        }
        self.tail = seen.split_off(seen.len().saturating_sub(key.len() - 1));
        pieces.push(Piece::Output(output.to_vec()));
    }
}

fn position(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    let found = bytes.get(from..)?.iter().position(|byte| *byte == wanted)?;
    Some(from + found)
}

fn parse(body: &[u8]) -> Option<(u64, Told)> {
    let mut parts = body.splitn(3, |byte| *byte == b';');
    let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let kind = parts.next()?;
    let text = parts.next()?;
    let words = || String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(200).collect();
    let told = match kind {
        b"R" => Told::Ready(words()),
        b"X" => Told::Unable(words()),
        b"C" => Told::Runs(Some(line(text)?)),
        b"U" => Told::Runs(None),
        b"D" => Told::Done(std::str::from_utf8(text).ok()?.parse().ok()?),
        b"P" => Told::Idle,
        _ => return None,
    };
    Some((number, told))
}

/// A line with its length in bytes before it: output of another program in its midst does not become a part of it.
fn line(text: &[u8]) -> Option<Vec<u8>> {
    let split = text.iter().position(|byte| *byte == b';')?;
    let (length, rest) = text.split_at(split);
    let quoted = rest.get(1..)?;
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    if length != quoted.len() {
        return None;
    }
    let mut line = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            line.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => line.push(b'\\'),
            b'x' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                line.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?);
            }
            _ => return None,
        }
    }
    Some(line)
}

/// A greeting of the program that becomes the account's shell: `ESC ] 7313 ; hello ; SHELL BEL`. Finds it in `output`;
/// returns what stands before, the shell, and what stands behind.
pub(crate) fn greeting(output: &[u8]) -> Option<(Vec<u8>, String, Vec<u8>)> {
    static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| [BEGIN, b"hello;"].concat());
    let begin = output.windows(HELLO.len()).position(|window| window == HELLO.as_slice())?;
    let (before, rest) = output.split_at(begin);
    let rest = rest.get(HELLO.len()..)?;
    let end = rest.iter().position(|byte| *byte == END)?;
    let (shell, after) = rest.split_at(end);
    let after = after.get(1..).unwrap_or_default();
    Some((before.to_vec(), String::from_utf8_lossy(shell).into_owned(), after.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scanner() -> Scanner {
        Scanner::new(Key("0123456789abcdef0123456789abcdef".to_owned()))
    }

    fn marker(body: &str) -> String {
        format!("\x1b]7313;0123456789abcdef0123456789abcdef;{body}\x07")
    }

    /// Pieces with neighbouring output joined.
    fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
        let mut all: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (all.last_mut(), piece) {
                (Some(Piece::Output(before)), Piece::Output(more)) => before.extend(more),
                (_, piece) => all.push(piece),
            }
        }
        all
    }

    fn output(text: &str) -> Piece {
        Piece::Output(text.as_bytes().to_vec())
    }

    #[test]
    fn markers_are_read_and_taken_out() {
        let text = [
            "$ ls\r\n",
            &marker("7;C;12;a;b\\x0a\\\\\\x1b"),
            "out\x1b[0m",
            &marker("8;D;130"),
            &marker("9;P;0"),
            &marker("10;U;"),
            &marker("1;R;bash 5.2"),
        ]
        .concat();
        let expected = [
            output("$ ls\r\n"),
            Piece::Broken,
            output("out\x1b[0m"),
            Piece::Marker(8, Told::Done(130)),
            Piece::Marker(9, Told::Idle),
            Piece::Marker(10, Told::Runs(None)),
            Piece::Marker(1, Told::Ready("bash 5.2".to_owned())),
        ];
        assert_eq!(scanner().take(text.as_bytes()), expected);
        assert_eq!(
            scanner().take(marker("7;C;13;a;b\\x0a\\\\\\x1b").as_bytes()),
            [Piece::Marker(7, Told::Runs(Some(b"a;b\n\\\x1b".to_vec())))]
        );
    }

    #[test]
    fn what_has_another_key_stays_output() {
        let forged = "\x1b]7313;ffffffffffffffffffffffffffffffff;1;C;2;id\x07";
        assert_eq!(scanner().take(forged.as_bytes()), [Piece::Forged, output(forged)]);
        let other = "\x1b]133;A\x07\x1b]7314;x\x07";
        assert_eq!(scanner().take(other.as_bytes()), [output(other)]);
    }

    #[test]
    fn a_key_on_the_screen_is_noticed_wherever_output_is_cut() {
        let text = b"x=0123456789abcdef0123456789abcdef\r\n";
        for cut in 0..text.len() {
            let mut scanner = scanner();
            let (first, second) = text.split_at(cut);
            let mut pieces = scanner.take(first);
            pieces.extend(scanner.take(second));
            assert_eq!(pieces.iter().filter(|piece| **piece == Piece::KeyShown).count(), 1, "cut at {cut}");
        }
    }

    #[test]
    fn the_greeting_is_found() {
        let found = greeting(b"motd\r\n\x1b]7313;hello;/bin/zsh\x07rest");
        assert_eq!(found, Some((b"motd\r\n".to_vec(), "/bin/zsh".to_owned(), b"rest".to_vec())));
        assert_eq!(greeting(b"\x1b]7313;hello;/bin"), None);
    }

    proptest! {
        #[test]
        fn output_comes_out_as_it_went_in(
            parts in proptest::collection::vec(prop_oneof![
                "\\PC{0,8}", Just("\x1b".to_owned()), Just("\x1b]7313;".to_owned()), Just(marker("3;D;0")),
                Just("\x1b]7313;0123456789abcdef0123456789abcdef;".to_owned()), Just("\x07".to_owned()),
            ], 0..12),
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let text = parts.concat().into_bytes();
            let whole = {
                let mut scanner = scanner();
                let mut pieces = scanner.take(&text);
                pieces.push(Piece::Output(scanner.finish()));
                joined(pieces)
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut scanner = scanner();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.extend(scanner.take(&text[from..cut]));
                from = cut;
            }
            pieces.push(Piece::Output(scanner.finish()));
            let only = |pieces: Vec<Piece>| -> (Vec<u8>, Vec<Piece>) {
                let (output, markers): (Vec<Piece>, Vec<Piece>) =
                    pieces.into_iter().partition(|piece| matches!(piece, Piece::Output(_)));
                let bytes = output
                    .into_iter()
                    .flat_map(|piece| if let Piece::Output(bytes) = piece { bytes } else { Vec::new() })
                    .collect();
                let markers = markers.into_iter().filter(|piece| matches!(piece, Piece::Marker(..))).collect();
                (bytes, markers)
            };
            prop_assert_eq!(only(joined(pieces)), only(whole));
        }
    }
}
