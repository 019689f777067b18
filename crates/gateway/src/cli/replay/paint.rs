//! What a recording may do to the terminal that plays it: paint, and nothing else.
//!
//! The program that was recorded wrote for somebody else's terminal, and may have been hostile. Only what is listed here goes
//! through: text, colours, movements, erasing and scrolling. What reads or sets anything beyond the screen does not: titles, the
//! clipboard, links, keyboard and mouse modes, printing, and every request that a terminal answers by itself, since the answer
//! would be typed into the reader's own shell.

/// Longest control sequence that is looked at, in characters.
const MAX_SEQUENCE_CHARS: usize = 128;

/// Most that one sequence may repeat, scroll or move: terminals do it as often as they are told.
const MAX_COUNT: u32 = 9999;

/// Private modes that only change how the screen is painted (xterm's control sequences, *DECSET*): reverse video, origin,
/// wrapping, the cursor, and the alternate screen in its three forms.
const MODES: [u32; 8] = [5, 6, 7, 25, 47, 1047, 1048, 1049];

/// Puts a terminal back into the state that shells expect, without clearing it.
pub const RESTORE: &str =
    "\x1b[?1049l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[?25h\x1b[4l\x1b7\x1b[r\x1b8\x1b(B\x0f\x1b[0m";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC` and an intermediate: one of the charsets.
    Charset(char),
    Control,
    /// OSC, DCS, APC, PM, SOS: a string that ends with BEL or ST.
    Hidden,
    HiddenEscape,
}

/// Lets through what paints.
#[derive(Default)]
pub struct Filter {
    state: State,
    sequence: String,
}

impl Filter {
    /// The part of the text that paints. Sequences may be cut anywhere between two calls.
    pub fn pass(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            self.step(c, &mut shown);
        }
        shown
    }

    fn step(&mut self, c: char, shown: &mut String) {
        // These end whatever sequence they stand in (ECMA-48's CAN and SUB as terminals do it).
        if matches!(c, '\u{18}' | '\u{1a}') {
            self.state = State::Text;
            return;
        }
        match self.state {
            State::Text => self.text(c, shown),
            State::Escape => self.escape(c, shown),
            State::Charset(which) => {
                self.state = State::Text;
                // ASCII, lines for boxes, British.
                if matches!(c, 'B' | '0' | 'A') {
                    shown.extend(['\u{1b}', which, c]);
                }
            }
            State::Control => match c {
                '\u{40}'..='\u{7e}' => {
                    self.state = State::Text;
                    self.control(c, shown);
                }
                '\u{1b}' => self.begin(State::Escape),
                // Terminals obey these inside of a sequence.
                '\u{0}'..='\u{1f}' => self.text(c, shown),
                _ if self.sequence.len() < MAX_SEQUENCE_CHARS => self.sequence.push(c),
                _ => self.state = State::Text,
            },
            State::Hidden => match c {
                '\u{7}' | '\u{9c}' => self.state = State::Text,
                '\u{1b}' => self.state = State::HiddenEscape,
                _ => {}
            },
            State::HiddenEscape => {
                if c == '\\' {
                    self.state = State::Text;
                } else {
                    // An escape ends the string, and begins something else.
                    self.begin(State::Escape);
                    self.escape(c, shown);
                }
            }
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
    }

    fn text(&mut self, c: char, shown: &mut String) {
        match c {
            '\u{1b}' => self.begin(State::Escape),
            // The same functions as one character each (ECMA-48, section 5.3).
            '\u{9b}' => self.begin(State::Control),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.begin(State::Hidden),
            '\u{7}'..='\u{f}' => shown.push(c),
            // ENQ among them, which a terminal answers.
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }

    fn escape(&mut self, c: char, shown: &mut String) {
        self.state = State::Text;
        match c {
            '[' => self.begin(State::Control),
            ']' | 'P' | '_' | '^' | 'X' => self.begin(State::Hidden),
            '(' | ')' => self.state = State::Charset(c),
            '\u{1b}' => self.state = State::Escape,
            // Any other charset, width or conformance level: swallow its second character.
            ' ' | '#' | '%' | '*' | '+' | '-' | '.' | '/' => self.state = State::Charset(' '),
            // Save and restore the cursor; down, next line, up; reset.
            '7' | '8' | 'D' | 'E' | 'M' => shown.extend(['\u{1b}', c]),
            'c' => shown.push_str("\u{1b}[0m\u{1b}[r\u{1b}[H\u{1b}[2J"),
            _ => {}
        }
    }

    fn control(&mut self, last: char, shown: &mut String) {
        let sequence = std::mem::take(&mut self.sequence);
        let (private, numbers) = match sequence.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, sequence.as_str()),
        };
        if !numbers.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':')) {
            return;
        }
        let parameters = || numbers.split(';').map(|number| number.parse::<u32>().unwrap_or(0));
        match (private, last) {
            (false, 'm') => *shown += &format!("\u{1b}[{numbers}m"),
            // Movements, erasing, inserting, deleting, scrolling, repeating, margins, saving the cursor.
            (
                false,
                'A'..='M' | 'P' | 'S' | 'X' | 'Z' | '@' | '`' | 'a' | 'b' | 'd'..='f' | 'r' | 's' | 'u',
            ) => {
                if sequence.is_empty() {
                    shown.extend(['\u{1b}', '[', last]);
                    return;
                }
                let counts: Vec<String> =
                    parameters().map(|count| count.min(MAX_COUNT).to_string()).collect();
                *shown += &format!("\u{1b}[{}{last}", counts.join(";"));
            }
            // Scrolling down; with more parameters the mouse is meant.
            (false, 'T') if !numbers.contains(';') => *shown += &format!("\u{1b}[{numbers}T"),
            // Insert mode.
            (false, 'h' | 'l') if numbers == "4" => *shown += &format!("\u{1b}[4{last}"),
            (true, 'h' | 'l') => {
                for mode in parameters().filter(|mode| MODES.contains(mode)) {
                    *shown += &format!("\u{1b}[?{mode}{last}");
                }
            }
            // Selective erasing.
            (true, 'J' | 'K') => *shown += &format!("\u{1b}[{numbers}{last}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(text: &str) -> String {
        Filter::default().pass(text)
    }

    #[test]
    fn what_paints_goes_through() {
        for text in [
            "a\u{1b}[1;31mb\u{1b}[0m\r\n",
            "\u{1b}[38;2;1;2;3mx\u{1b}[4:3m",
            "\u{1b}[H\u{1b}[2J\u{1b}[10;20Hx\u{1b}[K\u{1b}[1@",
            "\u{1b}[?1049h\u{1b}[?25l\u{1b}[1;20r",
            "\u{1b}(0lqk\u{1b}(B\u{1b}7\u{1b}8\u{1b}M",
            "\u{5c4b} \u{e9}\t\u{8}\u{7}",
        ] {
            assert_eq!(pass(text), text);
        }
    }

    #[test]
    fn what_reaches_beyond_the_screen_does_not() {
        for (text, shown) in [
            // Titles, the clipboard, links, notifications.
            ("\u{1b}]0;title\u{7}x\u{1b}]52;c;cm0=\u{1b}\\y", "xy"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            // What a terminal answers: where the cursor is, what it is, its title, its size, its colours, its modes.
            ("\u{1b}[6nx\u{1b}[?6ny\u{1b}[cz\u{1b}[>c\u{1b}[=c\u{1b}Z\u{5}", "xyz"),
            ("\u{1b}[21tx\u{1b}[18ty\u{1b}[?2026$pz\u{1b}[>q\u{1b}[?u\u{1b}[x", "xyz"),
            ("\u{1b}P+q544e\u{1b}\\x\u{1b}P$qm\u{1b}\\y\u{1b}_Gi=1\u{1b}\\z", "xyz"),
            // The same with C1 controls.
            ("\u{9b}6nx\u{9d}52;c;cm0=\u{9c}y\u{90}+q\u{9c}z", "xyz"),
            ("\u{9b}1mx", "\u{1b}[1mx"),
            // Keyboard, mouse, paste, focus, columns, printer, lights.
            ("\u{1b}[?1000h\u{1b}[?2004h\u{1b}[?1h\u{1b}[?1004h\u{1b}[>1u\u{1b}[>4;2m\u{1b}[?3h", ""),
            ("\u{1b}[5i\u{1b}[4i\u{1b}[?5i\u{1b}[3q\u{1b}=\u{1b}>\u{1b}[!p\u{1b}[61\"p", ""),
            ("\u{1b}[?25;1000;1049h", "\u{1b}[?25h\u{1b}[?1049h"),
            // What is cut off by something else.
            ("\u{1b}]0;x\u{18}y", "y"),
            ("\u{1b}]0;x\u{1b}[1my", "\u{1b}[1my"),
            ("\u{1b}[1\u{1b}[6nx", "x"),
            // Repeated for hours.
            ("x\u{1b}[2147483647b\u{1b}[4294967296S", "x\u{1b}[9999b\u{1b}[0S"),
            ("\u{1b}#8\u{1b} Fx", "x"),
        ] {
            assert_eq!(pass(text), shown, "{text:?}");
        }
    }

    #[test]
    fn sequences_may_be_cut_anywhere() {
        let text = "a\u{1b}]0;title\u{7}b\u{1b}[1;31mc\u{1b}[6nd\u{1b}(0e";
        let whole = pass(text);
        for (cut, _) in text.char_indices() {
            let mut filter = Filter::default();
            let (first, second) = text.split_at(cut);
            assert_eq!(filter.pass(first) + &filter.pass(second), whole, "cut at {cut}");
        }
    }

    proptest! {
        /// Whatever comes, only sequences that are listed come out, and passing them again changes nothing.
        #[test]
        fn what_came_through_comes_through_again(
            parts in proptest::collection::vec(prop_oneof![
                Just("\u{1b}".to_owned()), Just("\u{1b}[".to_owned()), Just("\u{9b}".to_owned()),
                Just("\u{1b}]".to_owned()), "[0-9;?$> -/A-Za-z\u{7}\u{9c}\\\\]{0,4}", "\\PC{0,3}", any::<String>(),
            ], 0..20)
        ) {
            let once = pass(&parts.concat());
            prop_assert_eq!(pass(&once), once);
        }
    }
}
