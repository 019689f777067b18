//! A terminal that a program has: recorded, and read for what runs in it.

use std::time::Instant;

use bytes::Bytes;
use trail::record::NotKept;
use vocabulary::Timestamp;

use crate::client_side::{Program, Setup, Terminal};
use crate::recording::{Header, Recording};
use crate::shell::follow::{Follow, Seen};
use crate::shell::marker::{Key, Piece, Scanner, Told};
use crate::typed::Typed;

/// What came of a piece of input or output.
#[derive(Default)]
pub(crate) struct Shown {
    /// What goes on to the client: the output without markers.
    pub(crate) data: Bytes,
    /// What is added to the recording.
    pub(crate) recording: Vec<u8>,
    /// What the trail is told beside.
    pub(crate) seen: Vec<Seen>,
}

/// One terminal.
pub(crate) struct Screen {
    recording: Recording,
    typed: Option<Typed>,
    scanner: Option<Scanner>,
    follow: Follow,
}

impl Screen {
    /// Begins one; returns the first line of its recording. With a key its program is a shell that sends markers.
    pub(crate) fn new(
        terminal: &Terminal,
        setup: &Setup,
        program: &Program,
        key: Option<Key>,
        max_bytes: u64,
    ) -> (Self, Vec<u8>) {
        let [columns, rows, ..] = terminal.size;
        let command = match program {
            Program::Exec(line) => Some(String::from_utf8_lossy(line)),
            Program::Shell | Program::Subsystem(_) => None,
        };
        let header = Header {
            size: (columns, rows),
            term: &terminal.term,
            unix_s: Timestamp::now().unix_ms() / 1000,
            command: command.as_deref(),
            variables: &setup.variables,
        };
        let (recording, line) = Recording::begin(&header, max_bytes, Instant::now());
        let typed = Typed::new(columns, rows);
        let follow = Follow::new(key.is_some());
        (Self { recording, typed, scanner: key.map(Scanner::new), follow }, line)
    }

    /// Input of the user; returns what is added to the recording.
    pub(crate) fn input(&mut self, data: &[u8]) -> Vec<u8> {
        if let Some(typed) = &mut self.typed {
            typed.input(data);
        }
        self.recording.input(data, Instant::now())
    }

    /// Output of the program.
    pub(crate) fn output(&mut self, data: Bytes) -> Shown {
        let now = Instant::now();
        let mut shown = Shown::default();
        let Some(scanner) = &mut self.scanner else {
            self.show(&data, now, &mut shown);
            shown.data = data;
            return shown;
        };
        let mut rest = Vec::with_capacity(data.len());
        for piece in scanner.take(&data) {
            match piece {
                Piece::Output(output) => {
                    self.show(&output, now, &mut shown);
                    rest.extend_from_slice(&output);
                }
                Piece::Marker(number, told) => {
                    if let Told::Runs(Some(line)) = &told {
                        let label = String::from_utf8_lossy(line);
                        shown.recording.extend(self.recording.mark(&label, now));
                    }
                    shown.seen.extend(self.follow.told(number, told));
                }
                Piece::Broken => shown.seen.extend(self.follow.broken()),
                Piece::Forged => shown.seen.extend(self.follow.forged()),
                Piece::KeyShown => shown.seen.extend(self.follow.key_shown()),
            }
        }
        shown.data = rest.into();
        shown
    }

    /// The output is over: what was held back of it.
    pub(crate) fn drained(&mut self) -> Shown {
        let mut shown = Shown::default();
        let held = self.scanner.as_mut().map(Scanner::finish).unwrap_or_default();
        if !held.is_empty() {
            self.show(&held, Instant::now(), &mut shown);
            shown.data = held.into();
        }
        shown
    }

    /// Another size; returns what is added to the recording.
    pub(crate) fn resize(&mut self, columns: u32, rows: u32) -> Vec<u8> {
        if let Some(typed) = &mut self.typed {
            typed.resize(columns, rows);
        }
        self.recording.resize(columns, rows, Instant::now())
    }

    /// When [`tick`](Self::tick) has something to do, unless something else comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.follow.due()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) -> Vec<Seen> {
        self.follow.tick(Instant::now())
    }

    /// The program is over, with that exit status if it is known.
    pub(crate) fn over(&mut self, exit: Option<i32>) -> Shown {
        let seen = self.follow.over(exit);
        let status = exit.map_or_else(|| "255".to_owned(), |exit| exit.to_string());
        let recording = self.recording.exit(&status, Instant::now());
        Shown { data: Bytes::new(), recording, seen }
    }

    /// What the recording's largest size left out of it, of the output and of the input.
    pub(crate) fn not_kept(&self) -> (Option<NotKept>, Option<NotKept>) {
        self.recording.not_kept()
    }

    fn show(&mut self, output: &[u8], now: Instant, shown: &mut Shown) {
        let (line, text) = self.recording.output(output, now);
        shown.recording.extend(line);
        let lines = self.typed.as_mut().map(|typed| typed.output(&text)).unwrap_or_default();
        for line in lines {
            shown.seen.extend(self.follow.typed(line, now));
        }
    }
}
