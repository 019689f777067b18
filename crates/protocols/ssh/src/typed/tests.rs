use proptest::prelude::*;

use super::*;

fn lines(columns: u32, steps: &[(&str, &str)]) -> Vec<Line> {
    let mut typed = Typed::new(columns, 8).unwrap();
    let mut found = Vec::new();
    for (input, output) in steps {
        typed.input(input.as_bytes());
        found.extend(typed.output(output));
    }
    found
}

fn typed(columns: u32, steps: &[(&str, &str)]) -> Vec<String> {
    lines(columns, steps)
        .into_iter()
        .map(|line| if line.shown { line.text } else { format!("(hidden: {})", line.text) })
        .collect()
}

#[test]
fn what_stands_behind_the_prompt_is_the_command() {
    let found = typed(
        80,
        &[
            ("", "\x1b[01;32muser@web\x1b[00m:\x1b[01;34m~\x1b[00m$ "),
            ("l", "l"),
            ("s", "s"),
            ("\r", "\r\nfile\r\nuser@web:~$ "),
            ("\r", "\r\nuser@web:~$ "),
            // Typed faster than it is echoed.
            ("rm -rf x\r", "rm -rf x\r\nuser@web:~$ "),
        ],
    );
    assert_eq!(found, ["ls", "rm -rf x"]);
}

#[test]
fn editing_history_and_completion_are_read_as_they_show() {
    let found = typed(
        80,
        &[
            ("", "$ "),
            ("lx", "lx"),
            ("\x7f", "\u{8} \u{8}"),
            ("s", "s"),
            ("\r", "\r\n$ "),
            ("\x1b[A", "ls"),
            ("\r", "\r\n$ "),
            ("cat /etc/ho\t", "cat /etc/hostname "),
            ("\r", "\r\nweb\r\n$ "),
            // In the middle of the line.
            ("echo ac", "echo ac"),
            ("\x1b[D", "\u{8}"),
            ("b", "\x1b[1@b"),
            ("\r", "\r\nabc\r\n$ "),
        ],
    );
    assert_eq!(found, ["ls", "ls", "cat /etc/hostname", "echo abc"]);
}

#[test]
fn a_line_that_is_drawn_anew_is_found_by_its_prompt() {
    let found = typed(
        80,
        &[
            ("", "user@web:~$ "),
            // Completion shows what there is, and the line below.
            ("cat no\t\t", "cat no\x07\r\nnote1  note2  \r\nuser@web:~$ cat note"),
            ("1", "1"),
            ("\r", "\r\nx\r\nuser@web:~$ "),
            // The history is searched.
            ("\x12", "\r(reverse-i-search)`': \x1b[K"),
            ("ca", "\u{8}\u{8}\u{8}ca': cat note1"),
            ("\r", "\ruser@web:~$ cat note1\x1b[K\r\n\r\nx\r\nuser@web:~$ "),
            // The screen is cleared.
            ("ls -l", "ls -l"),
            ("\x0c", "\x1b[H\x1b[2Juser@web:~$ ls -l"),
            ("a\r", "a\r\nuser@web:~$ "),
        ],
    );
    assert_eq!(found, ["cat note1", "cat note1", "ls -la"]);
}

#[test]
fn long_lines_wrap_and_the_screen_scrolls() {
    let found = typed(
        10,
        &[
            ("", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n$ "),
            ("echo 0123456789 abc", "echo 0123456789 abc"),
            ("\r", "\r\n0123456789 abc\r\n$ "),
            ("\x1b[A", "echo 0123456789 abc"),
            ("\r", "\r\n0123456789 abc\r\n$ "),
        ],
    );
    assert_eq!(found, ["echo 0123456789 abc", "echo 0123456789 abc"]);
}

#[test]
fn pasted_lines_are_one_command_where_the_shell_takes_them_so() {
    let found = typed(
        40,
        &[
            ("", "\x1b[?2004h$ "),
            ("\x1b[200~for i in 1; do\rid\rdone\x1b[201~", "for i in 1; do\r\nid\r\ndone"),
            // Drawn anew, without what marked it as pasted.
            ("\r", "\x1b[2A\r$ for i in 1; do\r\nid\r\ndone\r\n\x1b[?2004l\ruid=0\r\n\x1b[?2004h$ "),
            // One that does not takes them one by one.
            ("id\rw\r", "id\r\nuid=0\r\n$ w\r\n$ "),
        ],
    );
    assert_eq!(found, ["for i in 1; do\nid\ndone", "id", "w"]);
}

#[test]
fn passwords_are_left_out_and_editors_and_interrupts_are_no_commands() {
    let found = typed(
        80,
        &[
            ("", "$ "),
            ("sudo id\r", "sudo id\r\n[sudo] password for me: "),
            ("secret\r", "\r\nuid=0\r\n$ "),
            ("sudo -k id\r", "sudo -k id\r\nPassword: "),
            ("hunter2\r", "*******\r\nuid=0\r\n$ "),
            ("vi x\r", "vi x\r\n\x1b[?1049h~"),
            ("ihello\r", "hello\r\n"),
            ("\x1b:q\r", "\x1b[?1049l$ "),
            ("abc\x03", "abc^C\r\n$ "),
            // A program that does not even end the line.
            ("read -s x\r", "read -s x\r\nPIN: "),
            ("1234\r", "$ "),
            ("stty -echo\r", "stty -echo\r\n$ "),
            ("id\r", "uid=0\r\n$ "),
        ],
    );
    let expected = [
        "sudo id",
        "(hidden: [sudo] password for me:)",
        "sudo -k id",
        "(hidden: Password:)",
        "vi x",
        "read -s x",
        "(hidden: PIN:)",
        "stty -echo",
        "(hidden: $)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_typed_ahead_is_found_behind_other_output() {
    let found = lines(
        80,
        &[
            ("ls\r", "Linux web 6.1\r\n\r\nLast login: today\r\nuser@web:~$ ls\r\nfile\r\nuser@web:~$ "),
            ("sleep 1\r", "sleep 1\r\n"),
            ("id\r", "id\r\n"),
            ("", "user@web:~$ id\r\nuid=0\r\n"),
        ],
    );
    let found: Vec<(&str, bool)> = found.iter().map(|line| (line.text.as_str(), line.prompted)).collect();
    assert_eq!(found, [("ls", false), ("sleep 1", true), ("id", false)]);
}

#[test]
fn a_prompt_at_the_right_is_no_part_of_the_line() {
    let row = format!("% ls{:>34}", "12:00");
    let found = typed(40, &[("", "% "), ("\x1b[A", &format!("\r{row}\x1b[33D")), ("\r", "\r\n% ")]);
    assert_eq!(found, ["ls"]);
}

#[test]
fn wide_characters_take_their_room() {
    let found = typed(
        40,
        &[("", "\u{5c4b}$ "), ("echo \u{5c4b}", "echo \u{5c4b}"), ("\x1b[A\x1b[B\r", "\r\n\u{5c4b}$ ")],
    );
    assert_eq!(found, ["echo \u{5c4b}"]);
}

#[test]
fn what_a_terminal_says_by_itself_begins_no_line() {
    let found =
        typed(80, &[("\x1b[?62;c", "motd\r\n$ "), ("\x1b[I", ""), ("\x1b[A", "ls"), ("\r", "\r\n$ ")]);
    assert_eq!(found, ["ls"]);
}

proptest! {
    #[test]
    fn any_session_is_followed(
        columns in 0_u32..200, rows in 0_u32..60, steps: Vec<(Vec<u8>, String)>,
        resize: Vec<(u32, u32)>,
    ) {
        let mut typed = Typed::new(columns, rows).unwrap();
        for (input, output) in steps {
            typed.input(&input);
            typed.output(&output);
            typed.input(b"\r");
            typed.output("\r\n");
        }
        for (columns, rows) in resize {
            typed.resize(columns % 300, rows % 100);
            typed.input(b"x\r");
            typed.output("x\r\n");
        }
    }
}
