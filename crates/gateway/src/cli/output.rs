//! Printing: JSON lines for programs, tables and cards for people.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use super::Failure;
use super::terminal;

/// What a shell says of a program that SIGPIPE ended.
const ENDED_BY_SIGPIPE: i32 = 128 + 13;

/// Prints one JSON object on one line.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| {
        Failure::new(format!("can't write the answer as JSON: {error}"), "please report this")
    })?;
    line.push(b'\n');
    bytes(&line)
}

/// Prints text and a line break.
pub fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are, at once. A reader who has gone away (`| head`) ends the program quietly, but not as a success:
/// what was to come, a verdict perhaps, has not been told.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(ENDED_BY_SIGPIPE),
        Err(error) => {
            Err(Failure::new(format!("can't write to standard output: {error}"), "check where it goes"))
        }
        Ok(()) => Ok(()),
    }
}

/// An empty file for what others may not read, such as the text of commands: mode 0600, also if it was there before.
///
/// # Errors
/// As opening it; also if it is another user's, who could then read it.
pub fn private_file(path: &Path) -> io::Result<File> {
    const MODE: u32 = 0o600;
    // Closed to others before anything is in it. What is no file (/dev/stdout, a pipe) stays as it is.
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.set_len(0)?;
    }
    Ok(file)
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// Whether it holds numbers.
    pub right: bool,
    /// Whether it gives way when the terminal is narrow.
    pub gives_way: bool,
}

/// A column of text.
pub const fn text(title: &'static str) -> Column {
    Column { title, right: false, gives_way: false }
}

/// A column of numbers.
pub const fn number(title: &'static str) -> Column {
    Column { title, right: true, gives_way: false }
}

/// A column of text that is cut when the terminal is narrow.
pub const fn cut(title: &'static str) -> Column {
    Column { title, right: false, gives_way: true }
}

/// A table as wide as `columns` characters at most; one line a row. `None`: as wide as it needs to be.
pub fn table(header: &[Column], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|column| column.title));
    let room = room_for_what_gives_way(header, rows, columns);
    for row in rows {
        let cells = row.iter().zip(header).map(|(cell, column)| {
            let cell = terminal::one_line(cell);
            if column.gives_way { terminal::shortened(&cell, room) } else { cell }
        });
        table.add_row(cells);
    }
    for (column, shown) in header.iter().zip(table.column_iter_mut()) {
        shown.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
        if column.right {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Characters that are left for each column that gives way, at least 12.
fn room_for_what_gives_way(header: &[Column], rows: &[Vec<String>], columns: Option<usize>) -> usize {
    let Some(columns) = columns else { return usize::MAX };
    let widest = |index: usize, column: &Column| {
        let cells =
            rows.iter().filter_map(|row| row.get(index)).map(|cell| terminal::one_line(cell).chars().count());
        cells.max().unwrap_or(0).max(column.title.chars().count())
    };
    let fixed: usize = header
        .iter()
        .enumerate()
        .map(|(index, column)| 2 + if column.gives_way { 0 } else { widest(index, column) })
        .sum();
    let giving = header.iter().filter(|column| column.gives_way).count().max(1);
    (columns.saturating_sub(fixed) / giving).max(12)
}

/// Lines of `name  value`, the values under each other; empty values are left out.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let value = terminal::printable(value).replace('\n', &format!("\n{:width$}  ", ""));
            format!("{name:width$}  {value}")
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal() {
        let rows = vec![
            vec!["chatgpt".to_owned(), "SELECT *\n  FROM carts WHERE id = 42".to_owned(), "1".to_owned()],
            vec!["alice".to_owned(), "\x1b[2J".to_owned(), "12".to_owned()],
        ];
        let header = [text("who"), cut("command"), number("rows")];
        insta::assert_snapshot!(table(&header, &rows, Some(40)), @r"
        who      command                  rows
        chatgpt  SELECT * FROM carts WH…     1
        alice    \u{1b}[2J                  12
        ");
        insta::assert_snapshot!(table(&header, &rows, None), @r"
        who      command                            rows
        chatgpt  SELECT * FROM carts WHERE id = 42     1
        alice    \u{1b}[2J                            12
        ");
    }

    #[test]
    fn a_private_file_is_private_and_empty_even_if_it_was_neither() {
        let temp = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let (new, old) = (temp.path().join("new"), temp.path().join("old"));
        std::fs::write(&old, "longer than what comes").unwrap();
        std::fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        for path in [&new, &old] {
            private_file(path).unwrap().write_all(b"secret").unwrap();
            assert_eq!((mode(path), std::fs::read(path).unwrap()), (0o600, b"secret".to_vec()));
        }
        private_file(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn fields_stand_under_each_other() {
        let shown =
            fields(&[("id", "1".into()), ("command", "SELECT 1\nFROM x".into()), ("none", String::new())]);
        insta::assert_snapshot!(shown, @r"
        id       1
        command  SELECT 1
                 FROM x
        ");
    }
}
