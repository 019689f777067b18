//! What a terminal sends when keys are pressed (ECMA-48; xterm's control sequences, *Bracketed Paste Mode*).

/// A key, as far as it matters for a line that is being typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A character that goes into the line at its end, unless something was edited before.
    Text(char),
    /// A line break inside of what was pasted: a part of the line.
    Break,
    /// The last character is taken back.
    Back,
    /// The whole line is taken back.
    Clear,
    /// Anything else that changes the line, or may: arrows, history, completion.
    Edit,
    /// The line is given up: interrupt, suspend.
    Abandon,
    /// End of file, or the character under the cursor is deleted.
    End,
    /// The line is entered.
    Enter,
}

/// Longest control sequence that is followed, in bytes.
const MAX_SEQUENCE_BYTES: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Ground,
    Escape,
    /// CSI: parameters up to a final byte.
    Control,
    /// SS3: one more byte.
    Single,
    /// OSC, DCS, APC: an answer of the terminal's, up to ST or BEL.
    Answer,
    AnswerEscape,
    /// Coordinates of the mouse in its oldest form: bytes that are left.
    Mouse(u8),
}

/// Reads keys out of bytes that come in pieces of any size.
#[derive(Default, Debug)]
pub(crate) struct Keys {
    state: State,
    sequence: Vec<u8>,
    /// A character that is not whole yet.
    partial: Vec<u8>,
    pasting: bool,
}

impl Keys {
    /// Takes one byte in.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Key> {
        match self.state {
            State::Ground => self.ground(byte),
            State::Escape => {
                self.state = State::Ground;
                match byte {
                    b'[' => self.begin(State::Control),
                    b'O' => self.begin(State::Single),
                    b']' | b'P' | b'_' | b'^' | b'X' => self.begin(State::Answer),
                    0x1b => self.begin(State::Escape),
                    // Alt and a key.
                    _ => Some(Key::Edit),
                }
            }
            State::Control => match byte {
                0x40..=0x7e => {
                    self.state = State::Ground;
                    self.control(byte)
                }
                _ if self.sequence.len() < MAX_SEQUENCE_BYTES => {
                    self.sequence.push(byte);
                    None
                }
                _ => {
                    self.state = State::Ground;
                    Some(Key::Edit)
                }
            },
            State::Single => {
                self.state = State::Ground;
                // The keypad's Enter.
                Some(if byte == b'M' { Key::Enter } else { Key::Edit })
            }
            State::Answer => {
                match byte {
                    0x07 => self.state = State::Ground,
                    0x1b => self.state = State::AnswerEscape,
                    _ => {}
                }
                None
            }
            State::AnswerEscape => {
                self.state = if byte == b'\\' { State::Ground } else { State::Answer };
                None
            }
            State::Mouse(left) => {
                self.state = if left > 1 { State::Mouse(left - 1) } else { State::Ground };
                None
            }
        }
    }

    fn begin(&mut self, state: State) -> Option<Key> {
        self.state = state;
        self.sequence.clear();
        None
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        if byte >= 0x80 {
            return self.character(byte);
        }
        self.partial.clear();
        match byte {
            0x1b => self.begin(State::Escape),
            b'\r' | b'\n' if self.pasting => Some(Key::Break),
            // Ctrl-O enters a line, and fetches the one after it from the history.
            b'\r' | b'\n' | 0x0f => Some(Key::Enter),
            0x20..=0x7e => Some(Key::Text(char::from(byte))),
            b'\t' if self.pasting => Some(Key::Text('\t')),
            0x08 | 0x7f => Some(Key::Back),
            0x15 => Some(Key::Clear),
            // Interrupt, quit, suspend.
            0x03 | 0x1c | 0x1a => Some(Key::Abandon),
            0x04 => Some(Key::End),
            _ => Some(Key::Edit),
        }
    }

    fn character(&mut self, byte: u8) -> Option<Key> {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next();
                self.partial.clear();
                character.map(Key::Text)
            }
            Err(error) if error.error_len().is_none() => None,
            Err(_) => {
                self.partial.clear();
                Some(Key::Text(char::REPLACEMENT_CHARACTER))
            }
        }
    }

    fn control(&mut self, last: u8) -> Option<Key> {
        let sequence = std::mem::take(&mut self.sequence);
        match (sequence.as_slice(), last) {
            (b"200", b'~') => {
                self.pasting = true;
                None
            }
            (b"201", b'~') => {
                self.pasting = false;
                None
            }
            // Enter, as terminals send it that tell keys apart.
            ([b'1', b'3'] | [b'1', b'3', b';', ..], b'u') => Some(Key::Enter),
            (b"", b'M') => {
                self.state = State::Mouse(3);
                None
            }
            // What a terminal sends by itself: where the cursor is, what it can do, focus, the mouse.
            (_, b'R' | b'c' | b'n' | b't' | b'y' | b'I' | b'O') | ([b'<' | b'?', ..], _) => None,
            _ => Some(Key::Edit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.push(*byte)).collect()
    }

    #[test]
    fn keys_and_what_a_terminal_says_by_itself_are_told_apart() {
        use Key::{Abandon, Back, Break, Clear, Edit, Enter, Text};
        assert_eq!(keys("aé\r".as_bytes()), [Text('a'), Text('é'), Enter]);
        assert_eq!(keys(b"\x1b[A\x1bOA\x1bb\x12\t"), [Edit; 5]);
        assert_eq!(keys(b"\x7f\x15\x03\x1bOM\x1b[13u"), [Back, Clear, Abandon, Enter, Enter]);
        assert_eq!(keys(b"\x1b[24;80R\x1b[?62;c\x1b]11;rgb:0/0/0\x1b\\\x1b[I\x1b[<0;1;1M\x1b[Mabc"), []);
        assert_eq!(keys(b"\x1b[200~a\rb\x1b[201~\r"), [Text('a'), Break, Text('b'), Enter]);
        assert_eq!(keys(b"\xff\xe2\x82a"), [Text('\u{fffd}'), Text('a')]);
    }
}
