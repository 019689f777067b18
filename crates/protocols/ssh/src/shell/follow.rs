//! What a shell ran: out of its markers where it sends them, and out of what is read off its screen where it does not.
//!
//! A line that is read off the screen waits for the marker that tells it better. It is told as *inferred* when that can't
//! come any more: the shell is at its next prompt without having run it, or another program reads lines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::marker::Told;
use crate::typed::{Line, squeezed};

/// How long a line behind a prompt waits for its marker while a command runs, or before any marker came. A loaded target takes
/// its time.
const PROMPTED_TIME: Duration = Duration::from_secs(2);

/// How long one without a prompt does: it may be typed ahead, for the prompt after a command that runs for long.
const AHEAD_TIME: Duration = Duration::from_secs(30);

/// Lines that wait at most. The oldest is told then.
const MAX_WAITING: usize = 256;

/// Something that the trail is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// A line, read off the screen.
    Typed(Line),
    /// A line is about to run. It is exact, or else read off the screen.
    Runs { line: Vec<u8>, exact: bool },
    /// It is over. `None` where the shell did not tell its status.
    Done(Option<i32>),
    /// From here on the shell tells what it runs; what it is.
    Began(String),
    /// From here on it does not; why.
    Stopped(String),
    /// Something wrote what looks like a marker of the shell's, and is none.
    Forged,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing was told yet.
    Beginning,
    /// The shell waits for a line.
    Prompt,
    /// A line runs.
    Running,
    /// The shell tells nothing, or is not believed.
    Off,
}

/// Follows one shell.
pub(crate) struct Follow {
    phase: Phase,
    /// The last marker's number.
    number: u64,
    /// What the shell is.
    shell: String,
    /// The line that runs, for messages.
    runs: String,
    /// Whether it was said that the markers have stopped.
    stopped: bool,
    forged: bool,
    /// Lines read off the screen, and since when they wait.
    waiting: VecDeque<(Instant, Line)>,
}

impl Follow {
    /// A shell that sends markers, or does not.
    pub(crate) const fn new(integrated: bool) -> Self {
        Self {
            phase: if integrated { Phase::Beginning } else { Phase::Off },
            number: 0,
            shell: String::new(),
            runs: String::new(),
            stopped: !integrated,
            forged: false,
            waiting: VecDeque::new(),
        }
    }

    /// A line was read off the screen.
    pub(crate) fn typed(&mut self, line: Line, now: Instant) -> Vec<Seen> {
        if self.phase == Phase::Off {
            return vec![Seen::Typed(line)];
        }
        let mut seen = Vec::new();
        if matches!(self.phase, Phase::Running | Phase::Beginning)
            && self.waiting.iter().any(|(_, line)| line.prompted)
        {
            // A second prompt, and no marker between.
            self.without_marker(&mut seen);
        }
        self.waiting.push_back((now, line));
        if self.waiting.len() > MAX_WAITING
            && let Some((_, line)) = self.waiting.pop_front()
        {
            seen.push(Seen::Typed(line));
        }
        seen
    }

    /// When [`tick`](Self::tick) has something to do, unless something else comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waits = matches!(self.phase, Phase::Beginning | Phase::Running);
        let due =
            |(since, line): &(Instant, Line)| *since + if line.prompted { PROMPTED_TIME } else { AHEAD_TIME };
        self.waiting.iter().filter(|_| waits).map(due).min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Seen> {
        let mut seen = Vec::new();
        if self.due().is_some_and(|due| due <= now) {
            self.without_marker(&mut seen);
        }
        seen
    }

    /// What waits gets no marker any more.
    fn without_marker(&mut self, seen: &mut Vec<Seen>) {
        let why = match self.phase {
            Phase::Beginning => "the shell has sent none yet".to_owned(),
            _ => format!(
                "none came after `{}`: it reads lines itself, or the shell's hooks are gone",
                self.runs
            ),
        };
        self.stop(why, seen);
        self.flush(seen);
    }

    /// The shell told something.
    pub(crate) fn told(&mut self, number: u64, told: Told) -> Vec<Seen> {
        let mut seen = Vec::new();
        if self.phase == Phase::Off {
            return seen;
        }
        if number <= self.number {
            // Whoever has the key and is not the shell does not know how far it has come.
            self.distrust(
                "two markers had the same number: another program than the shell wrote one",
                &mut seen,
            );
            return seen;
        }
        self.number = number;
        match told {
            Told::Ready(shell) => {
                self.shell = shell;
                self.begin(&mut seen);
                self.phase = Phase::Prompt;
            }
            Told::Unable(why) => self.distrust(&format!("the shell can't send them: {why}"), &mut seen),
            Told::Runs(line) => self.runs(line, &mut seen),
            Told::Done(status) => {
                if self.phase == Phase::Running {
                    if self.waiting.iter().any(|(_, line)| line.prompted) {
                        self.without_marker(&mut seen);
                    }
                    seen.push(Seen::Done(Some(status)));
                }
                self.begin(&mut seen);
                self.phase = Phase::Prompt;
            }
            Told::Idle => {
                // Read at a prompt, and not run: a comment, or what is no command. What is typed ahead still waits.
                let (read, ahead): (VecDeque<_>, VecDeque<_>) =
                    self.waiting.drain(..).partition(|(_, line)| line.prompted);
                self.waiting = ahead;
                seen.extend(read.into_iter().map(|(_, line)| Seen::Typed(line)));
                if self.phase == Phase::Running {
                    seen.push(Seen::Done(None));
                }
                self.begin(&mut seen);
                self.phase = Phase::Prompt;
            }
        }
        seen
    }

    /// A marker of the shell's can't be read.
    pub(crate) fn broken(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        if self.phase != Phase::Off {
            self.stop("a marker was torn apart by other output".to_owned(), &mut seen);
        }
        seen
    }

    /// The key was seen where it does not belong.
    pub(crate) fn key_shown(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        if self.phase != Phase::Off {
            self.distrust("their key was shown on the screen, so that anybody could write them", &mut seen);
        }
        seen
    }

    /// Something looked like a marker. Said once for each shell.
    pub(crate) fn forged(&mut self) -> Vec<Seen> {
        if std::mem::replace(&mut self.forged, true) { Vec::new() } else { vec![Seen::Forged] }
    }

    /// The channel is over; the program's exit status, if that is known.
    pub(crate) fn over(&mut self, exit: Option<i32>) -> Vec<Seen> {
        let mut seen = Vec::new();
        match self.phase {
            Phase::Beginning => self.stop("the shell never sent one".to_owned(), &mut seen),
            // `exit`, or `exec`: the line's status is the shell's.
            Phase::Running => {
                if self.waiting.iter().any(|(_, line)| line.prompted) {
                    self.without_marker(&mut seen);
                }
                seen.push(Seen::Done(exit));
            }
            Phase::Prompt | Phase::Off => {}
        }
        self.flush(&mut seen);
        self.phase = Phase::Off;
        seen
    }

    fn runs(&mut self, line: Option<Vec<u8>>, seen: &mut Vec<Seen>) {
        if self.phase == Phase::Running {
            seen.push(Seen::Done(None));
            let which = "the shell no longer tells how a command ended: its PROMPT_COMMAND or precmd_functions was changed";
            self.stop(which.to_owned(), seen);
        }
        let exact = line.is_some();
        let line = match line {
            Some(line) => {
                self.replace(&squeezed(&String::from_utf8_lossy(&line)), seen);
                line
            }
            None => {
                let typed = self.waiting.pop_back().map(|(_, typed)| typed.text).unwrap_or_default();
                self.flush(seen);
                typed.into_bytes()
            }
        };
        self.runs = String::from_utf8_lossy(&line).chars().take(60).collect();
        seen.push(Seen::Runs { line, exact });
        self.phase = Phase::Running;
    }

    /// Takes away the lines that are a part of what was told. Those that were typed before them were not, and went to a
    /// program or came to nothing; those behind them are typed ahead.
    fn replace(&mut self, whole: &str, seen: &mut Vec<Seen>) {
        let is_part = |line: &Line| line.shown && whole.contains(&squeezed(&line.text));
        // Without any, the line was changed between, as the history's `!!` is.
        let last = self.waiting.iter().position(|(_, line)| is_part(line)).map_or_else(
            || self.waiting.iter().take_while(|(_, line)| line.prompted).count(),
            |first| first + self.waiting.iter().skip(first).take_while(|(_, line)| is_part(line)).count(),
        );
        let gone = self.waiting.drain(..last).map(|(_, line)| line);
        seen.extend(gone.filter(|line| !is_part(line)).map(Seen::Typed));
    }

    /// The markers are there, or there again.
    fn begin(&mut self, seen: &mut Vec<Seen>) {
        if self.phase == Phase::Beginning || std::mem::replace(&mut self.stopped, false) {
            self.stopped = false;
            seen.push(Seen::Began(self.shell.clone()));
        }
    }

    fn stop(&mut self, why: String, seen: &mut Vec<Seen>) {
        if !std::mem::replace(&mut self.stopped, true) {
            seen.push(Seen::Stopped(why));
        }
    }

    /// No marker is believed any more.
    fn distrust(&mut self, why: &str, seen: &mut Vec<Seen>) {
        if self.phase == Phase::Running {
            seen.push(Seen::Done(None));
        }
        self.stopped = false;
        self.stop(why.to_owned(), seen);
        self.flush(seen);
        self.phase = Phase::Off;
    }

    fn flush(&mut self, seen: &mut Vec<Seen>) {
        seen.extend(self.waiting.drain(..).map(|(_, line)| Seen::Typed(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, prompted: bool) -> Line {
        Line { text: text.to_owned(), shown: true, prompted }
    }

    fn runs(text: &str) -> Told {
        Told::Runs(Some(text.as_bytes().to_vec()))
    }

    fn ran(text: &str) -> Seen {
        Seen::Runs { line: text.as_bytes().to_vec(), exact: true }
    }

    fn none_after(text: &str) -> Seen {
        Seen::Stopped(format!(
            "none came after `{text}`: it reads lines itself, or the shell's hooks are gone"
        ))
    }

    /// A shell at its first prompt.
    fn begun() -> Follow {
        let mut follow = Follow::new(true);
        assert_eq!(follow.told(1, Told::Ready("bash 5.2".into())), [Seen::Began("bash 5.2".into())]);
        follow
    }

    #[test]
    fn a_marker_replaces_what_was_read_off_the_screen() {
        let (mut follow, now) = (begun(), Instant::now());
        assert_eq!(follow.typed(line("for i in 1; do", true), now), []);
        assert_eq!(follow.typed(line("echo $i; done", true), now), []);
        assert_eq!(
            follow.told(2, runs("for i in 1; do echo $i; done")),
            [ran("for i in 1; do echo $i; done")]
        );
        assert_eq!(follow.told(3, Told::Done(0)), [Seen::Done(Some(0))]);
        // A line that is no command.
        assert_eq!(follow.typed(line("echo )", true), now), []);
        assert_eq!(follow.told(4, Told::Idle), [Seen::Typed(line("echo )", true))]);
    }

    #[test]
    fn what_is_typed_ahead_is_told_once() {
        let (mut follow, now) = (begun(), Instant::now());
        follow.told(2, runs("sleep 1"));
        assert_eq!(follow.typed(line("ls", false), now), []);
        assert_eq!(follow.told(3, Told::Done(0)), [Seen::Done(Some(0))]);
        assert_eq!(follow.told(4, runs("ls")), [ran("ls")]);
    }

    #[test]
    fn a_nested_shell_stops_the_markers_until_it_is_over() {
        let (mut follow, now) = (begun(), Instant::now());
        follow.told(2, runs("bash"));
        assert_eq!(follow.typed(line("id", true), now), []);
        assert_eq!(follow.tick(now), []);
        assert_eq!(follow.tick(now + PROMPTED_TIME), [none_after("bash"), Seen::Typed(line("id", true))]);
        assert_eq!(follow.typed(line("exit", true), now), []);
        assert_eq!(
            follow.told(3, Told::Done(0)),
            [Seen::Typed(line("exit", true)), Seen::Done(Some(0)), Seen::Began("bash 5.2".into())]
        );
    }

    #[test]
    fn lines_of_a_program_that_has_no_prompt_are_told_when_they_can_not_be_typed_ahead() {
        let (mut follow, now) = (begun(), Instant::now());
        follow.told(2, runs("cat > x"));
        assert_eq!(follow.typed(line("text", false), now), []);
        assert_eq!(follow.told(3, Told::Done(0)), [Seen::Done(Some(0))]);
        assert_eq!(follow.typed(line("ls", true), now), []);
        assert_eq!(follow.told(4, runs("ls")), [Seen::Typed(line("text", false)), ran("ls")]);
        assert_eq!(follow.typed(line("long", false), now), []);
        assert_eq!(follow.tick(now + AHEAD_TIME), [none_after("ls"), Seen::Typed(line("long", false))]);
    }

    #[test]
    fn many_lines_that_are_typed_ahead_are_each_told_once() {
        let (mut follow, now) = (Follow::new(true), Instant::now());
        for text in ["echo one", "# two", "echo three", "exit"] {
            assert_eq!(follow.typed(line(text, false), now), []);
        }
        follow.told(1, Told::Ready("zsh".into()));
        assert_eq!(follow.told(2, runs("echo one")), [ran("echo one")]);
        follow.told(3, Told::Done(0));
        assert_eq!(follow.told(4, Told::Idle), []);
        assert_eq!(
            follow.told(5, runs("echo three")),
            [Seen::Typed(line("# two", false)), ran("echo three")]
        );
        follow.told(6, Told::Done(0));
        assert_eq!(follow.told(7, runs("exit")), [ran("exit")]);
        assert_eq!(follow.over(Some(0)), [Seen::Done(Some(0))]);
    }

    #[test]
    fn a_line_that_the_shell_has_changed_stands_beside_what_it_became() {
        let (mut follow, now) = (begun(), Instant::now());
        follow.typed(line("!!", true), now);
        assert_eq!(follow.told(2, runs("id")), [Seen::Typed(line("!!", true)), ran("id")]);
    }

    #[test]
    fn a_shell_without_its_hook_is_noticed_and_its_lines_stay_exact() {
        let mut follow = begun();
        follow.told(2, runs("unset PROMPT_COMMAND"));
        let seen = follow.told(3, runs("id"));
        assert!(
            matches!(seen.as_slice(), [Seen::Done(None), Seen::Stopped(_), Seen::Runs { exact: true, .. }]),
            "{seen:?}"
        );
        assert_eq!(follow.told(4, runs("w")), [Seen::Done(None), ran("w")]);
        assert_eq!(follow.over(Some(3)), [Seen::Done(Some(3))]);
    }

    #[test]
    fn whoever_has_the_key_and_is_not_the_shell_is_found_out() {
        let mut follow = begun();
        follow.told(2, runs("./forge"));
        follow.told(3, Told::Done(0));
        let seen = follow.told(3, Told::Done(0));
        assert!(matches!(seen.as_slice(), [Seen::Stopped(_)]), "{seen:?}");
        assert_eq!(follow.told(5, runs("id")), []);
        assert_eq!(follow.typed(line("id", true), Instant::now()), [Seen::Typed(line("id", true))]);
    }

    #[test]
    fn a_line_that_the_shell_does_not_know_is_read_off_the_screen() {
        let (mut follow, now) = (begun(), Instant::now());
        follow.typed(line("id", true), now);
        assert_eq!(follow.told(2, Told::Runs(None)), [Seen::Runs { line: b"id".to_vec(), exact: false }]);
    }

    #[test]
    fn a_shell_that_never_tells_is_told_of() {
        let mut follow = Follow::new(true);
        assert_eq!(follow.over(Some(0)), [Seen::Stopped("the shell never sent one".into())]);
        let mut plain = Follow::new(false);
        assert_eq!(plain.over(Some(0)), []);
    }
}
