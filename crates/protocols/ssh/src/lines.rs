//! Lines of a shell as entries of the trail: exact ones that the shell itself has told, *verified*, and those that were
//! read off its screen, *inferred*.

use classify::shell::Terminal;
use session::{NotRecorded, Permit};
use trail::record::OutcomeRecord;
use vocabulary::{Class, Facts, Status};

use crate::command::{Asking, classify_exec};
use crate::shell::follow::Seen;
use crate::visit::{Visit, outcome};

/// How a line is known: the shell told it, with the key that only it was given.
const VERIFIED: &str = "verified";

/// How a line is known: it was read off the screen.
const INFERRED: &str = "inferred";

/// The lines of one shell.
#[derive(Default)]
pub(crate) struct Lines {
    /// The one that runs, and how it is known.
    running: Option<(Permit, &'static str)>,
}

impl Lines {
    /// Puts what was seen into the trail, within the scope of the shell's permit. What ran was not judged, and nothing
    /// waits for the disk: the shell's own outcome does.
    ///
    /// # Errors
    /// When the trail can't take it: the session must end.
    pub(crate) fn tell(&mut self, visit: &Visit, shell: &Permit, seen: Seen) -> Result<(), NotRecorded> {
        match seen {
            Seen::Typed(line) if line.shown => {
                seen_once(visit, shell, "TYPED", line.text, (Some(INFERRED), None))
            }
            Seen::Typed(line) => {
                let text = if line.text.is_empty() {
                    "(a line that was not shown)".to_owned()
                } else {
                    format!("(a line that was not shown, at `{}`)", line.text)
                };
                let why = "the terminal did not show what was typed, as with a password; its keys are in the recording";
                seen_once(visit, shell, "TYPED", text, (Some(INFERRED), Some(why)))
            }
            Seen::Runs { line, exact } => {
                self.end(visit, None)?;
                let asking = Asking::new(if exact { facts(&line) } else { Facts::unknown("TYPED") }, line);
                let (permit, _) = visit.turn(|turn| turn.seen_running(shell, &asking.command()))?;
                self.running = Some((permit, if exact { VERIFIED } else { INFERRED }));
                Ok(())
            }
            Seen::Done(exit) => self.end(visit, exit),
            Seen::Began(what) => note(visit, shell, format!("shell markers began: {what}")),
            Seen::Stopped(why) => note(visit, shell, format!("shell markers stopped: {why}")),
            Seen::Forged => {
                let text = "shell marker forged: something wrote one with another key than the shell's; it is output like any other";
                note(visit, shell, text.to_owned())
            }
        }
    }

    /// The line that runs is over.
    fn end(&mut self, visit: &Visit, exit: Option<i32>) -> Result<(), NotRecorded> {
        let Some((permit, code)) = self.running.take() else { return Ok(()) };
        let status = match exit {
            Some(0) => Status::Ok,
            Some(_) => Status::Error,
            None => Status::Unknown,
        };
        let message = exit.is_none().then_some("the shell did not tell how it ended");
        let record =
            OutcomeRecord { executed: Some(true), code: Some(code), exit, message, ..outcome(status) };
        visit.turn(|turn| turn.observe(permit, record)).map(drop)
    }
}

/// Something about the markers themselves.
fn note(visit: &Visit, shell: &Permit, text: String) -> Result<(), NotRecorded> {
    seen_once(visit, shell, "MARKERS", text, (None, None))
}

fn seen_once(
    visit: &Visit,
    shell: &Permit,
    verb: &str,
    text: String,
    (code, message): (Option<&str>, Option<&str>),
) -> Result<(), NotRecorded> {
    let facts = if code.is_some() { Facts::unknown(verb) } else { Facts::plain(verb, Class::Session) };
    let asking = Asking::new(facts, text);
    let record = OutcomeRecord { executed: Some(true), code, message, ..outcome(Status::Ok) };
    visit.turn(|turn| turn.seen(shell, &asking.command(), record)).map(drop)
}

/// What a line does, as its text tells. An alias or a function of that shell may make something else of what looks
/// harmless, and neither stands in the text: it is code that was run.
fn facts(line: &[u8]) -> Facts {
    let mut facts = classify_exec(line, Terminal::Possible);
    if facts.class.is_harmless() {
        facts.class = Class::Execute;
    }
    facts
}
