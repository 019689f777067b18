//! What was typed into a shell, as far as it shows: the keys say that something was typed and when it was entered, an
//! emulated terminal says what became of it. History, completion and editing need no knowledge of the shell, since the
//! terminal shows the line that they lead to. It is a guess all the same: *inferred*, and nothing is ever blocked by it.

mod keys;

use std::collections::VecDeque;

use avt::{Anchor, Cell, ScreenKind, Terminal};

use keys::{Key, Keys};

/// Largest terminal that is emulated. Clients may claim any size.
const MAX_COLUMNS: usize = 500;
const MAX_ROWS: usize = 200;

/// Longest command that is inferred, in characters.
const MAX_COMMAND_CHARS: usize = 8192;

/// Lines that were entered and wait for their echo.
const MAX_AHEAD: usize = 256;

/// Line breaks of other output that a line may wait for its echo.
const MAX_PASSED: u32 = 200;

/// A line that was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// Its text; of one that was not shown, what stood before it.
    pub(crate) text: String,
    /// Whether the terminal showed it. A password is not shown.
    pub(crate) shown: bool,
    /// Whether something stood before it on its row, as a prompt does.
    pub(crate) prompted: bool,
}

/// Where a line begins: behind the prompt.
struct Start {
    anchor: Anchor,
    /// Columns of the prompt, and what stands in them.
    column: usize,
    prompt: String,
}

/// A line that was entered and is not echoed to its end yet.
struct Entered {
    start: Option<Start>,
    /// What was typed, if nothing was edited.
    text: Option<String>,
    /// Line breaks that were something else's.
    passed: u32,
}

/// Follows one terminal.
pub(crate) struct Typed {
    terminal: Terminal,
    keys: Keys,
    start: Option<Start>,
    text: String,
    edited: bool,
    entered: VecDeque<Entered>,
    /// What stood before the last line that stood behind something.
    prompt: String,
    /// Lines that will not be shown any more, and are still to be told.
    hidden: Vec<Line>,
}

impl Typed {
    /// A terminal of that size; `None` if it has none.
    pub(crate) fn new(columns: u32, rows: u32) -> Option<Self> {
        let (columns, rows) = clamped(columns, rows);
        Some(Self {
            terminal: Terminal::new(columns, rows).ok()?,
            keys: Keys::default(),
            start: None,
            text: String::new(),
            edited: false,
            entered: VecDeque::new(),
            prompt: String::new(),
            hidden: Vec::new(),
        })
    }

    /// Another size of the terminal.
    pub(crate) fn resize(&mut self, columns: u32, rows: u32) {
        let (columns, rows) = clamped(columns, rows);
        self.terminal.resize(columns, rows);
    }

    /// Input of the user, before it is sent.
    pub(crate) fn input(&mut self, data: &[u8]) {
        let full_screen = self.terminal.active_screen_kind() == ScreenKind::Alternate;
        for byte in data {
            let Some(key) = self.keys.push(*byte) else { continue };
            if full_screen {
                // An editor or a pager: keys are no lines.
                self.forget();
                self.entered.clear();
                continue;
            }
            match key {
                Key::Enter => self.enter(),
                Key::Abandon => self.forget(),
                Key::End if self.start.is_none() || (self.text.is_empty() && !self.edited) => self.forget(),
                Key::Text(character) => {
                    self.begin();
                    if self.text.len() < MAX_COMMAND_CHARS {
                        self.text.push(character);
                    }
                }
                Key::Break => {
                    self.begin();
                    self.text.push('\n');
                }
                Key::Back if !self.edited => drop(self.text.pop()),
                Key::Clear if !self.edited => self.text.clear(),
                Key::Back | Key::Clear | Key::Edit | Key::End => {
                    self.begin();
                    self.edited = true;
                }
            }
        }
    }

    /// Output of the shell; returns the lines of which it shows that they were entered.
    pub(crate) fn output(&mut self, text: &str) -> Vec<Line> {
        let mut lines = std::mem::take(&mut self.hidden);
        let mut rest = text;
        while !self.entered.is_empty() {
            let Some((before, after)) = rest.split_once('\n') else { break };
            self.terminal.feed(before);
            if self.terminal.active_screen_kind() == ScreenKind::Primary {
                let ended = self.ended();
                lines.append(&mut self.hidden);
                lines.extend(ended);
            }
            self.terminal.feed("\n");
            rest = after;
        }
        self.terminal.feed(rest);
        lines
    }

    /// The first key of a line: it begins where the cursor is, unless the prompt before it is still to come.
    fn begin(&mut self) {
        if self.start.is_some() {
            return;
        }
        let cursor = self.terminal.cursor();
        let prompt = text_of(self.cells(cursor.row).iter().take(cursor.col));
        if let Some(first) = self.entered.front() {
            if prompt.trim().is_empty() || prompt != self.prompt || first.passed == 0 {
                return;
            }
            // The shell is at its next prompt: what has not been shown until now never will be.
            self.hidden.extend(self.entered.drain(..).filter_map(hidden));
        }
        if !prompt.trim().is_empty() {
            self.prompt.clone_from(&prompt);
        }
        self.start = Some(Start { anchor: self.terminal.anchor_at_cursor(), column: cursor.col, prompt });
    }

    fn forget(&mut self) {
        self.start = None;
        self.text.clear();
        self.edited = false;
    }

    fn enter(&mut self) {
        let text = std::mem::take(&mut self.text);
        let text = (!self.edited).then_some(text);
        let start = self.start.take();
        self.edited = false;
        if self.entered.len() < MAX_AHEAD {
            self.entered.push_back(Entered { start, text, passed: 0 });
        }
    }

    /// A line on the screen has ended: it may be one that was entered.
    fn ended(&mut self) -> Option<Line> {
        // It may be one that was typed further ahead, if those before it were never shown.
        let row = squeezed(&self.shown(None).0);
        if let Some(index) = self.entered.iter().position(|entered| self.is_shown(entered, &row)) {
            self.hidden.extend(self.entered.drain(..index).filter_map(hidden));
            let entered = self.entered.pop_front()?;
            return Some(self.line(&entered, &row)).filter(|line| !line.text.is_empty());
        }
        let behind = self.entered.front().map(|first| squeezed(&self.shown(first.start.as_ref()).0))?;
        let first = self.entered.front_mut()?;
        first.passed += 1;
        let passed = first.passed;
        let prompted = first.start.as_ref().is_some_and(|start| !start.prompt.trim().is_empty());
        let is_empty = first.text.as_deref().is_some_and(|text| text.trim().is_empty());
        let text = first.text.as_deref().map(squeezed).unwrap_or_default();
        let is_begun = !behind.is_empty() && behind.len() < text.len() && text.starts_with(&behind);
        if passed < MAX_PASSED && is_begun {
            // Several lines that were pasted are drawn anew as they are entered: there is more to come.
            return None;
        }
        if !is_empty && !prompted && passed < MAX_PASSED {
            // Output of something else, such as what a shell says before its first prompt.
            return None;
        }
        let first = self.entered.pop_front()?;
        if is_empty {
            return None;
        }
        let line = self.line(&first, &row);
        let typed = first.text.as_deref().and_then(|text| text.chars().next());
        if prompted && (typed.is_none() || line.text.starts_with(|shown| Some(shown) == typed)) {
            // It was edited by more than keys: abbreviations are expanded by some shells.
            return Some(line).filter(|line| !line.text.is_empty());
        }
        hidden(first)
    }

    /// Whether the line at the cursor, all of it, is certainly this one.
    fn is_shown(&self, entered: &Entered, row: &str) -> bool {
        let start = entered.start.as_ref();
        let behind = start.map(|start| squeezed(&self.shown(Some(start)).0));
        let shown = behind.as_deref().unwrap_or(row);
        match &entered.text {
            Some(text) => {
                let (typed, last) = (squeezed(text), squeezed(text.lines().last().unwrap_or_default()));
                let prompted = start.is_some_and(|start| !start.prompt.trim().is_empty());
                !typed.is_empty()
                    && (shown == typed
                        || (prompted && shown.starts_with(&*typed))
                        || (!prompted && !last.is_empty() && shown.ends_with(&*last)))
            }
            // What was edited is only known by the screen.
            None => start.is_some() && !shown.is_empty(),
        }
    }

    /// The line, as it was typed if that is known, else as the screen shows it.
    fn line(&self, entered: &Entered, row: &str) -> Line {
        let (shown, prompted) = self.shown(entered.start.as_ref());
        let typed = entered.text.as_ref().filter(|_| self.is_shown(entered, row));
        let text = typed.map_or_else(|| self.without_right_prompt(shown.trim()), |typed| typed.trim_end());
        Line { text: text.chars().take(MAX_COMMAND_CHARS).collect(), shown: true, prompted }
    }

    /// A line without what some shells show at the right end of its row.
    fn without_right_prompt<'a>(&self, shown: &'a str) -> &'a str {
        const GAP: &str = "    ";
        let (columns, _) = self.terminal.size();
        let row = self.row(self.terminal.cursor().row, 0);
        let reaches_the_end = row.trim_end().chars().count() + 2 >= columns;
        match shown.rfind(GAP) {
            Some(gap) if reaches_the_end && !shown.contains('\n') => {
                shown.get(..gap).unwrap_or(shown).trim_end()
            }
            _ => shown,
        }
    }

    /// What stands on the screen between a line's start and the end of the cursor's row, and whether there is something
    /// before it on its first row.
    fn shown(&self, start: Option<&Start>) -> (String, bool) {
        let cursor = self.terminal.cursor().row;
        let screen = self.terminal.screen();
        let (mut row, column) =
            start.map_or_else(|| (self.first_row(cursor), 0), |start| self.place(start, cursor));
        let mut text = self.row(row, column);
        while row < cursor && text.len() < MAX_COMMAND_CHARS {
            // A row that is not full ends a line inside of the command.
            if !screen.line(row).is_some_and(avt::Line::is_wrapped) {
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
            row += 1;
            text.push_str(&self.row(row, 0));
        }
        let prompted = match start {
            Some(start) => !start.prompt.trim().is_empty(),
            None => false,
        };
        (text, prompted)
    }

    /// Where a line begins now. It was drawn anew if the same prompt stands nearer to the cursor: below a list of
    /// completions, or on a screen that was cleared.
    fn place(&self, start: &Start, cursor: usize) -> (usize, usize) {
        if !start.prompt.trim().is_empty() {
            let again = (0..=cursor).rev().find(|row| {
                let mut shown = self.cells(*row).iter().filter(|cell| cell.width() > 0).map(Cell::char);
                start.prompt.chars().all(|expected| shown.next() == Some(expected))
            });
            if let Some(row) = again {
                return (row, start.column);
            }
        }
        let found = self.terminal.resolve(&start.anchor).filter(|place| place.screen == ScreenKind::Primary);
        let found = found.and_then(|place| Some((usize::try_from(place.row).ok()?, place.col)));
        found.filter(|(row, _)| *row <= cursor).unwrap_or((cursor, start.column))
    }

    /// The first of the rows that the line at `row` was wrapped over.
    fn first_row(&self, row: usize) -> usize {
        let screen = self.terminal.screen();
        let mut first = row;
        while first > 0 && screen.line(first - 1).is_some_and(avt::Line::is_wrapped) {
            first -= 1;
        }
        first
    }

    /// The text of a row from a column on.
    fn row(&self, row: usize, column: usize) -> String {
        text_of(self.cells(row).iter().skip(column))
    }

    fn cells(&self, row: usize) -> &[Cell] {
        self.terminal.screen().line(row).map(avt::Line::cells).unwrap_or_default()
    }
}

/// A line that was entered and not shown, with what stood before it; none if nothing was typed.
fn hidden(entered: Entered) -> Option<Line> {
    entered.text.filter(|text| !text.trim().is_empty())?;
    let text = entered.start.map(|start| start.prompt.trim().to_owned()).unwrap_or_default();
    let prompted = !text.is_empty();
    Some(Line { text, shown: false, prompted })
}

fn text_of<'a>(cells: impl Iterator<Item = &'a Cell>) -> String {
    // The second half of a wide character has no width of its own.
    cells.filter(|cell| cell.width() > 0).map(Cell::char).collect()
}

/// The text without white space: a line that a terminal has wrapped compares equal to itself.
pub(crate) fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

fn clamped(columns: u32, rows: u32) -> (usize, usize) {
    let within = |size: u32, most: usize| usize::try_from(size).unwrap_or(most).clamp(1, most);
    let or = |size: u32, default: u32| if size == 0 { default } else { size };
    (within(or(columns, 80), MAX_COLUMNS), within(or(rows, 24), MAX_ROWS))
}

#[cfg(test)]
mod tests;
