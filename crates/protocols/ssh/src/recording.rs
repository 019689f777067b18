//! A terminal session as an asciicast, version 3 (docs.asciinema.org/manual/asciicast/v3): a header line, then one line
//! for each piece of output, input, change of size, and the exit status.

use std::time::Instant;

use serde_json::json;
use trail::record::NotKept;

use crate::keep::Keep;

/// One recording, as far as it has come.
pub(crate) struct Recording {
    start: Instant,
    /// When the last event was, in microseconds from the start.
    last_us: u128,
    /// Columns and rows.
    size: (u32, u32),
    output: Utf8,
    input: Utf8,
    bytes: u64,
    max_bytes: u64,
    full: bool,
    all_output: Whole,
    all_input: Whole,
}

/// All of one direction, whether it is in the recording or not.
struct Whole {
    keep: Keep,
    /// Bytes that are not in the recording.
    left_out: u64,
}

impl Whole {
    fn new() -> Self {
        Self { keep: Keep::new(0), left_out: 0 }
    }

    fn take(&mut self, data: &[u8], is_kept: bool) {
        self.keep.take(data);
        if !is_kept {
            self.left_out += data.len() as u64;
        }
    }

    fn not_kept(&self) -> Option<NotKept> {
        let bytes = self.left_out;
        self.keep.sha256().filter(|_| bytes > 0).map(|sha256| NotKept { bytes, sha256 })
    }
}

/// What a recording is made of, as its first line tells.
pub(crate) struct Header<'a> {
    /// Columns and rows.
    pub size: (u32, u32),
    /// `TERM`.
    pub term: &'a str,
    /// When it begins, in seconds since 1970.
    pub unix_s: u64,
    /// The command, if it is not the account's shell.
    pub command: Option<&'a str>,
    /// Environment variables that the client has set.
    pub variables: &'a [(String, String)],
}

impl Recording {
    /// Begins a recording; returns its first line. What is longer than `max_bytes` is not kept.
    pub(crate) fn begin(header: &Header<'_>, max_bytes: u64, now: Instant) -> (Self, Vec<u8>) {
        // A size of zero means that the client does not know (RFC 4254, section 6.2), and is none in an asciicast.
        let size @ (columns, rows) = header.size;
        let mut term = json!({ "cols": or(columns, 80), "rows": or(rows, 24) });
        if !header.term.is_empty() {
            term["type"] = json!(header.term);
        }
        let mut first = json!({ "version": 3, "term": term, "timestamp": header.unix_s });
        if let Some(command) = header.command {
            first["command"] = json!(command);
        }
        if !header.variables.is_empty() {
            let variables = header.variables.iter().map(|(name, value)| (name.clone(), json!(value)));
            first["env"] = serde_json::Value::Object(variables.collect());
        }
        let mut line = first.to_string().into_bytes();
        line.push(b'\n');
        let recording = Self {
            start: now,
            last_us: 0,
            size,
            output: Utf8::default(),
            input: Utf8::default(),
            bytes: line.len() as u64,
            max_bytes,
            full: false,
            all_output: Whole::new(),
            all_input: Whole::new(),
        };
        (recording, line)
    }

    /// Output of the program; the text as it could be read so far is returned as well.
    pub(crate) fn output(&mut self, data: &[u8], now: Instant) -> (Vec<u8>, String) {
        let text = self.output.push(data);
        let line = self.event("o", &text, now);
        self.all_output.take(data, !self.full || !line.is_empty());
        (line, text)
    }

    /// Input of the user.
    pub(crate) fn input(&mut self, data: &[u8], now: Instant) -> Vec<u8> {
        let text = self.input.push(data);
        let line = self.event("i", &text, now);
        self.all_input.take(data, !self.full || !line.is_empty());
        line
    }

    /// Another size of the terminal. Clients also tell one that it has already.
    pub(crate) fn resize(&mut self, columns: u32, rows: u32, now: Instant) -> Vec<u8> {
        if std::mem::replace(&mut self.size, (columns, rows)) == (columns, rows) {
            return Vec::new();
        }
        self.event("r", &format!("{}x{}", or(columns, 80), or(rows, 24)), now)
    }

    /// A place to come back to: a line that the shell runs.
    pub(crate) fn mark(&mut self, label: &str, now: Instant) -> Vec<u8> {
        self.event("m", label, now)
    }

    /// The program's end. It is kept however long the recording is.
    pub(crate) fn exit(&mut self, status: &str, now: Instant) -> Vec<u8> {
        self.full = false;
        self.max_bytes = u64::MAX;
        // Characters that never became whole.
        let mut lines = match self.output.finish() {
            Some(text) if self.all_output.left_out == 0 => self.event("o", text, now),
            _ => Vec::new(),
        };
        lines.extend(self.event("x", status, now));
        lines
    }

    /// What was left out of it, of the output and of the input, each with the hash of all of it.
    pub(crate) fn not_kept(&self) -> (Option<NotKept>, Option<NotKept>) {
        (self.all_output.not_kept(), self.all_input.not_kept())
    }

    fn event(&mut self, code: &str, text: &str, now: Instant) -> Vec<u8> {
        if text.is_empty() || self.full {
            return Vec::new();
        }
        // Intervals are between events. Whole microseconds since the start are kept, so that rounding does not add up.
        let at_us = now.saturating_duration_since(self.start).as_micros();
        let interval_us = at_us.saturating_sub(self.last_us);
        let data = json!(text);
        let (s, us) = (interval_us / 1_000_000, interval_us % 1_000_000);
        let line = format!("[{s}.{us:06}, \"{code}\", {data}]\n").into_bytes();
        if self.bytes.saturating_add(line.len() as u64) > self.max_bytes {
            self.full = true;
            return Vec::new();
        }
        self.last_us = self.last_us.max(at_us);
        self.bytes += line.len() as u64;
        line
    }
}

fn or(size: u32, default: u32) -> u32 {
    if size == 0 { default } else { size }
}

/// Text out of bytes that may be cut inside a character. What is no UTF-8 becomes U+FFFD.
#[derive(Default)]
struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    /// What stands for the beginning of a character whose rest never came.
    fn finish(&mut self) -> Option<&'static str> {
        (!std::mem::take(&mut self.rest).is_empty()).then_some("\u{fffd}")
    }

    fn push(&mut self, data: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(data);
        let mut text = String::with_capacity(bytes.len());
        let mut left = bytes.as_slice();
        loop {
            match std::str::from_utf8(left) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = left.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            left = after.get(length..).unwrap_or_default();
                        }
                        // The rest of the character may come yet.
                        None => {
                            self.rest = after.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn header() -> Header<'static> {
        Header { size: (80, 24), term: "xterm", unix_s: 1_795_424_400, command: None, variables: &[] }
    }

    #[test]
    fn a_session_becomes_a_cast() {
        let start = Instant::now();
        let variables = [("LANG".to_owned(), "C.UTF-8".to_owned())];
        let header = Header { command: Some("top"), variables: &variables, ..header() };
        let (mut recording, mut cast) = Recording::begin(&header, 1 << 20, start);
        cast.extend(
            recording.output("$ \u{20ac}".as_bytes().split_at(3).0, start + Duration::from_millis(250)).0,
        );
        let (rest, text) =
            recording.output("\u{20ac}".as_bytes().split_at(1).1, start + Duration::from_millis(250));
        assert_eq!(text, "\u{20ac}");
        cast.extend(rest);
        cast.extend(recording.input(b"ls\r", start + Duration::from_secs(1)));
        cast.extend(recording.resize(100, 0, start + Duration::from_secs(2)));
        cast.extend(recording.mark("ls", start + Duration::from_secs(2)));
        cast.extend(recording.output(b"\xff\xe2", start + Duration::from_secs(2)).0);
        cast.extend(recording.exit("0", start + Duration::from_secs(3)));
        let expected = concat!(
            r#"{"command":"top","env":{"LANG":"C.UTF-8"},"term":{"cols":80,"rows":24,"type":"xterm"},"timestamp":1795424400,"version":3}"#,
            "\n",
            "[0.250000, \"o\", \"$ \"]\n",
            "[0.000000, \"o\", \"\u{20ac}\"]\n",
            "[0.750000, \"i\", \"ls\\r\"]\n",
            "[1.000000, \"r\", \"100x24\"]\n",
            "[0.000000, \"m\", \"ls\"]\n",
            "[0.000000, \"o\", \"\u{fffd}\"]\n",
            "[1.000000, \"o\", \"\u{fffd}\"]\n",
            "[0.000000, \"x\", \"0\"]\n",
        );
        // Keys of the first line may be in any order.
        let (first, rest) = expected.split_once('\n').unwrap();
        let cast = String::from_utf8(cast).unwrap();
        let (cast_first, cast_rest) = cast.split_once('\n').unwrap();
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(read(cast_first), read(first));
        assert_eq!(cast_rest, rest);
        assert_eq!(recording.not_kept(), (None, None));
    }

    #[test]
    fn what_is_too_long_is_counted_and_hashed() {
        let now = Instant::now();
        let (mut recording, line) = Recording::begin(&header(), 200, now);
        let room = 200 - line.len() as u64;
        assert!(!recording.output(&[b'a'; 50], now).0.is_empty());
        assert!(recording.output(&[b'b'; 200], now).0.is_empty(), "{room}");
        assert!(recording.output(b"c", now).0.is_empty());
        assert!(recording.input(b"c", now).is_empty());
        assert_eq!(recording.exit("0", now), b"[0.000000, \"x\", \"0\"]\n");
        let whole = [vec![b'a'; 50], vec![b'b'; 200], vec![b'c']].concat();
        for (not_kept, bytes, whole) in
            [(recording.not_kept().0, 201, whole.as_slice()), (recording.not_kept().1, 1, b"c".as_slice())]
        {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, whole);
            let not_kept = not_kept.unwrap();
            assert_eq!((not_kept.bytes, not_kept.sha256.as_slice()), (bytes, digest.as_ref()));
        }
    }

    proptest! {
        #[test]
        fn text_is_the_same_however_it_is_cut(bytes: Vec<u8>, cuts in proptest::collection::vec(0_usize..64, 0..6)) {
            let mut utf8 = Utf8::default();
            let mut text = String::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                text.push_str(&utf8.push(&bytes[from..cut]));
                from = cut;
            }
            text.push_str(utf8.finish().unwrap_or_default());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }

        #[test]
        fn intervals_add_up(steps in proptest::collection::vec(0_u64..5_000_000, 1..50)) {
            let start = Instant::now();
            let (mut recording, _) = Recording::begin(&header(), u64::MAX, start);
            let (mut at_ns, mut sum_us) = (0, 0_u128);
            for step_ns in steps {
                at_ns += step_ns;
                let line = recording.output(b"x", start + Duration::from_nanos(at_ns)).0;
                let line = String::from_utf8(line).unwrap();
                let interval = line.trim_start_matches('[').split(',').next().unwrap().replace('.', "");
                sum_us += interval.parse::<u128>().unwrap();
            }
            prop_assert_eq!(sum_us, u128::from(at_ns / 1000));
        }
    }
}
