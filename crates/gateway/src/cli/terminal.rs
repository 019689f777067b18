//! What is fit for a terminal: one line, no control characters, no wider than it is.

use std::io::IsTerminal;

/// Columns of standard output, or `None` where it is no terminal.
pub fn width() -> Option<usize> {
    size().map(|(columns, _)| columns)
}

/// Columns and rows of standard output, or `None` where it is no terminal.
pub fn size() -> Option<(usize, usize)> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)))
        .filter(|(columns, _)| *columns > 0)
}

/// The text in one line: white space becomes one blank, and control characters are written out, so that nothing
/// that an agent sent can steer the reader's terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        push_printable(&mut line, word);
    }
    line
}

/// The text with its line breaks, and other control characters written out.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            safe.push('\n');
        }
        push_printable(&mut safe, line.trim_end_matches('\r'));
    }
    safe
}

/// The text cut to `columns` characters, with `…` where something is missing.
pub fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A duration as people read it: three digits and a unit.
pub fn duration(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let us_f = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", us_f / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us_f / 1e3),
        1_000_000..60_000_000 => format!("{:.1} s", us_f / 1e6),
        60_000_000..3_600_000_000 => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
        _ => format!("{} h {} min", us / 3_600_000_000, us / 60_000_000 % 60),
    }
}

/// Control characters, and those that reorder or hide text (bidirectional overrides, zero width), written out.
fn push_printable(to: &mut String, text: &str) {
    for c in text.chars() {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c == '\t' {
            to.push(c);
        } else if c.is_control() || hidden {
            to.extend(c.escape_default());
        } else {
            to.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_cannot_steer_the_terminal() {
        assert_eq!(
            one_line("SELECT 1;\n\t\x1b[2J-- \u{202e}x\u{7}"),
            "SELECT 1; \\u{1b}[2J-- \\u{202e}x\\u{7}"
        );
        assert_eq!(printable("a\r\nb\x1b]0;x\x07"), "a\nb\\u{1b}]0;x\\u{7}");
    }

    #[test]
    fn what_is_too_long_is_cut_visibly() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }

    #[test]
    fn durations_have_three_digits() {
        let shown: Vec<String> =
            [812, 1_234, 45_600, 2_500_000, 75_000_000, 7_260_000_000].map(duration).into();
        assert_eq!(shown, ["812 µs", "1.23 ms", "46 ms", "2.5 s", "1 min 15 s", "2 h 1 min"]);
    }
}
