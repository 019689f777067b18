//! From what a client asks for to what is judged and recorded.

use std::cell::RefCell;
use std::sync::Arc;

use classify::shell::{Cache, Terminal};
use session::{Command, Known};
use trail::record::ParamsBuf;
use vocabulary::{Class, Effect, Facts, FunctionUse, ObjectUse, Usage};

use crate::client_side::{Program, Setup};

thread_local! {
    /// Command lines that this thread has read before.
    static UNDERSTOOD: RefCell<Cache> = RefCell::default();
}

/// A command with all that belongs to it, owned.
pub(crate) struct Asking {
    known: Known,
    text: Vec<u8>,
    params: ParamsBuf,
}

impl Asking {
    pub(crate) fn new(facts: Facts, text: impl Into<Vec<u8>>) -> Self {
        Self { known: Known::new(Arc::new(facts)), text: text.into(), params: ParamsBuf::new() }
    }

    /// A program on a channel, with the environment and the terminal that it gets.
    pub(crate) fn of_program(program: &Program, setup: &Setup) -> Self {
        let (facts, text) = match program {
            Program::Exec(line) => {
                let terminal = if setup.terminal.is_some() { Terminal::Possible } else { Terminal::Absent };
                (classify_exec(line, terminal), line.clone())
            }
            Program::Shell => (interactive_shell(), b"shell".to_vec()),
            Program::Subsystem(name) => {
                let class = if name == "sftp" { Class::Transfer } else { Class::Unknown };
                (Facts { class, ..Facts::unknown("SUBSYSTEM") }, format!("subsystem {name}").into_bytes())
            }
        };
        let mut asking = Self::new(facts, text);
        for (name, value) in &setup.variables {
            // Values are bounded where they come in, so each fits.
            let _ = asking.params.push(format!("{name}={value}").as_bytes());
        }
        if let Some(terminal) = &setup.terminal {
            let _ = asking.params.push(format!("TERM={}", terminal.term).as_bytes());
        }
        asking
    }

    /// A forwarding: `local:host:port`, `remote:host:port`, `local:/path`, `remote:/path`, `agent`, `x11`.
    pub(crate) fn of_forwarding(what: &str) -> Self {
        let objects = vec![ObjectUse { name: what.to_owned(), usage: Usage::Write }];
        Self::new(
            Facts { objects, class: Class::Transfer, ..Facts::unknown("FORWARD") },
            format!("forward {what}"),
        )
    }

    /// As the session judges it.
    pub(crate) fn command(&self) -> Command<'_> {
        Command { params: self.params.as_bytes(), ..Command::new(&self.known, &self.text) }
    }
}

/// What a command line does, by the shell's own grammar. With a terminal, pagers run what is typed into them.
pub(crate) fn classify_exec(line: &[u8], terminal: Terminal) -> Facts {
    UNDERSTOOD.with_borrow_mut(|cache| cache.understand(line, terminal)).facts.clone()
}

/// An interactive shell: it runs whatever is typed. Policies forbid it apart from commands by the function that it calls.
fn interactive_shell() -> Facts {
    let functions = vec![FunctionUse { name: "shell".to_owned(), effect: Effect::Code }];
    Facts { functions, class: Class::Execute, ..Facts::unknown("SHELL") }
}
