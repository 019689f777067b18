//! Commands that may not simply flow: refused, held, or cut off behind a refusal.
//!
//! A refused message is replaced by one that the target must fail: so the transaction is really aborted, and the
//! `ReadyForQuery` behind it is the target's own. Its ErrorResponse is replaced by the gateway's words. In the extended
//! protocol everything up to the Sync is dropped, as the target would drop it.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use session::{Command, Context, Refusal, RefusalKind, Together};

use super::client::Flow;
use super::duty::Duty;
use super::running::{CommandKey, Running};
use super::{Conversation, Edit, Expected, Fault, Held, Next, Recorder, Scan, Statement};
use crate::facts::{FactsCache, One, Understood};
use crate::wire::error_response::Report;
use crate::wire::frontend::{self, Bind, FunctionCall, Parse};
use crate::wire::packet;
use classify::postgres::{ClientEncoding, UNKNOWN_VALUE};

/// No server takes it for a statement; whoever reads the target's log sees what it was.
const MUST_FAIL: &str = "TRAILGATE REFUSED A COMMAND";

/// The name of a prepared statement that never comes to be, so that the client's unnamed one stays.
const MUST_FAIL_NAME: &str = "trailgate.refused";

/// Said of what stands behind a refused command in the same segment.
const BEHIND_REFUSAL: &str = "not run: an earlier command of the same pipeline was refused";

/// What judging has led to.
pub(super) enum Gate<P> {
    /// They may go on.
    Open(Vec<P>),
    /// It has to wait for answers first.
    Stalled,
    /// It waits for people.
    Held,
    /// It does not run.
    Refused(Box<Report>),
}

/// How one command begins, or why it does not.
pub(super) enum Begun {
    /// It is under way.
    On(CommandKey),
    /// It is not.
    Not(Flow),
}

impl<P, H> Conversation<P, H> {
    /// Has one command judged with the parameters in `self.params`.
    pub(super) fn begin<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        statement: &Rc<Statement>,
        text: &[u8],
        (bytes_in, whole): (usize, bool),
        recorder: &mut R,
    ) -> Result<Begun, Fault> {
        // Taken out while the command borrows them.
        let params = std::mem::take(&mut self.params);
        let in_transaction = self.in_transaction();
        let known = Rc::clone(&statement.known);
        let (role, path);
        let mut command = Command {
            params: params.as_bytes(),
            bytes_in: bytes_in as u64,
            in_transaction,
            whole,
            means: Duty::means(known.facts(), in_transaction),
            ..Command::new(&known, text)
        };
        let flows = match self.held {
            Held::Nothing => recorder.try_permit(&command)?,
            Held::Waiting(_) | Held::Answered(..) => None,
        };
        let begun = if let Some(permit) = flows {
            Begun::On(self.admit::<R>(permit, statement, bytes_in))
        } else {
            (role, path) = self.context();
            command.context = Context { role: role.as_deref(), search_path: Some(&path) };
            command.amid = self.is_amid();
            match self.gate(std::slice::from_ref(&command), text, recorder)? {
                Gate::Open(permits) => match permits.into_iter().next() {
                    Some(permit) => Begun::On(self.admit::<R>(permit, statement, bytes_in)),
                    None => Begun::Not(Flow::Stalled),
                },
                Gate::Stalled => Begun::Not(Flow::Stalled),
                Gate::Held => Begun::Not(Flow::Held),
                Gate::Refused(report) => Begun::Not(Flow::Refuse(report)),
            }
        };
        self.params = params;
        Ok(begun)
    }

    /// Has the statements of one simple query judged together.
    pub(super) fn begin_together<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        whole: &[u8],
        statements: &[(Rc<Statement>, std::ops::Range<usize>)],
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<Result<Vec<CommandKey>, Flow>, Fault> {
        let (role, path) = self.context();
        let mut in_transaction = self.in_transaction();
        let amid = self.is_amid();
        let moves = statements.iter().any(|(statement, _)| {
            let facts = statement.known.facts();
            facts.transaction.is_some() || Duty::may_commit(facts)
        });
        let mut commands = Vec::with_capacity(statements.len());
        for (place, (statement, span)) in statements.iter().enumerate() {
            let facts = statement.known.facts();
            commands.push(Command {
                bytes_in: if place == 0 { bytes_in as u64 } else { 0 },
                in_transaction,
                amid,
                means: Duty::means_together(facts, moves),
                context: Context { role: role.as_deref(), search_path: Some(&path) },
                ..Command::new(&statement.known, whole.get(span.clone()).unwrap_or(whole))
            });
            // A BEGIN succeeds, or nothing behind it in the message runs.
            in_transaction = facts.leaves_transaction(in_transaction);
        }
        match self.gate(&commands, whole, recorder)? {
            Gate::Open(permits) => {
                let admitted =
                    statements.iter().zip(permits).enumerate().map(|(place, ((statement, _), permit))| {
                        self.admit::<R>(permit, statement, if place == 0 { bytes_in } else { 0 })
                    });
                Ok(Ok(admitted.collect()))
            }
            Gate::Stalled => Ok(Err(Flow::Stalled)),
            Gate::Held => Ok(Err(Flow::Held)),
            Gate::Refused(report) => Ok(Err(Flow::Refuse(report))),
        }
    }

    fn gate<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        commands: &[Command<'_>],
        whole: &[u8],
        recorder: &mut R,
    ) -> Result<Gate<P>, Fault> {
        let together = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Waiting(hold) => {
                self.held = Held::Waiting(hold);
                return Ok(Gate::Held);
            }
            Held::Answered(hold, verdict) => recorder.resume_all(hold, verdict, commands, whole)?,
            // Whether it runs in a transaction is only known once all before it is answered.
            Held::Nothing if !self.all_answered() => return Ok(Gate::Stalled),
            Held::Nothing => recorder.judge_all(commands, whole)?,
        };
        Ok(match together {
            Together::Permits(permits) => Gate::Open(permits),
            Together::Refused(refusal) => Gate::Refused(Box::new(self.report(&refusal))),
            Together::Held(hold) => {
                if let Some(notice) = R::notice(&hold) {
                    let report =
                        Report::notice("00000", notice.message.clone()).with_hint(notice.hint.clone());
                    self.readable(report).encode(&mut self.asides);
                }
                self.held = Held::Waiting(hold);
                Gate::Held
            }
        })
    }

    fn admit<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        permit: P,
        statement: &Rc<Statement>,
        bytes_in: usize,
    ) -> CommandKey {
        self.remember_effects(statement.known.facts());
        let duty = R::obligations(&permit).map(|(obligations, policies)| Duty::new(obligations, policies));
        self.commands.insert(Running::new(permit, Rc::clone(statement), bytes_in as u64, duty))
    }

    /// A command that shows itself by its answer alone.
    pub(super) fn acknowledge<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        statement: &Rc<Statement>,
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<CommandKey, Fault> {
        let in_transaction = self.in_transaction();
        let command = Command {
            params: self.params.as_bytes(),
            bytes_in: bytes_in as u64,
            in_transaction,
            ..Command::new(&statement.known, &statement.text)
        };
        let permit = recorder.acknowledge(&command)?;
        self.remember_effects(statement.known.facts());
        Ok(self.commands.insert(Running::new(permit, Rc::clone(statement), bytes_in as u64, None)))
    }

    /// Puts what must fail in place of a refused message of `total` bytes, of which `present` are there.
    pub(super) fn refuse(
        &mut self,
        tag: u8,
        taken: usize,
        (present, total): (usize, usize),
        report: Box<Report>,
    ) -> Scan {
        let extended = !matches!(tag, b'Q' | b'F');
        self.queue.push_back(Expected::Refused { report, extended });
        if extended {
            self.doomed = Some(Box::default());
        } else {
            self.end_segment(false);
        }
        self.drop_message(taken, (present, total), must_fail(extended))
    }

    /// Drops a message, with something else in its place.
    pub(super) fn drop_message(
        &mut self,
        taken: usize,
        (present, total): (usize, usize),
        insert: Vec<u8>,
    ) -> Scan {
        let rest = total.saturating_sub(present);
        self.client_body += rest as u64;
        self.dropping.0 = rest > 0;
        Scan { taken, next: Next::Edit(Edit { insert, skip: present, pass: 0 }) }
    }

    /// A message behind a refused command, up to the Sync: what it would have run is recorded as not run.
    pub(super) fn doomed_message<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        tag: u8,
        body: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        match tag {
            b'S' => {
                self.doomed = None;
                self.end_segment(true);
                return Ok(Flow::On);
            }
            b'X' => return Ok(Flow::Finished),
            b'P' => {
                let parse = Parse::read(body)?;
                let known = match self.understand(parse.text, facts) {
                    Understood::One(One { known, .. })
                    | Understood::Empty(known)
                    | Understood::Unknown(known) => known,
                    Understood::Many(_) => super::client::unknown_of(facts),
                };
                let statement = Rc::new(super::client::plain(parse.text, known));
                if let Some(doomed) = &mut self.doomed {
                    doomed.statements.insert(parse.name.into(), statement);
                }
            }
            b'B' => {
                let bind = Bind::read(body)?;
                let prepared = self.doomed.as_ref().and_then(|doomed| doomed.statements.get(bind.statement));
                let statement = prepared.or_else(|| self.statements.peek(bind.statement)).map(Rc::clone);
                let statement =
                    statement.unwrap_or_else(|| super::client::missing("prepared statement", bind.statement));
                self.capture(&bind.values, &statement.types.borrow(), body.len() + 5 == total)?;
                self.not_run(&statement.known, &statement.text, total, recorder)?;
            }
            b'Q' => {
                let text = frontend::Body::new("Query", body).string()?;
                self.params.clear();
                match self.understand(text, facts) {
                    Understood::Many(statements) => {
                        for One { span, known, .. } in statements {
                            self.not_run(&known, text.get(span).unwrap_or(text), 0, recorder)?;
                        }
                    }
                    Understood::One(One { known, .. })
                    | Understood::Empty(known)
                    | Understood::Unknown(known) => {
                        self.not_run(&known, text, total, recorder)?;
                    }
                }
            }
            b'F' => {
                let call = FunctionCall::read(body)?;
                let (text, facts) =
                    crate::functions::describe(call.function, crate::functions::by_oid(call.function));
                self.params.clear();
                let known = session::Known::new(std::sync::Arc::new(facts));
                self.not_run(&known, text.as_bytes(), total, recorder)?;
            }
            b'D' | b'C' | b'E' | b'H' | b'c' | b'f' => {}
            _ => return Err(super::client::bad_type(tag)),
        }
        Ok(Flow::Drop)
    }

    fn not_run<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        known: &session::Known,
        text: &[u8],
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let command = Command {
            params: self.params.as_bytes(),
            bytes_in: bytes_in as u64,
            ..Command::new(known, text)
        };
        Ok(recorder.not_run(&command, BEHIND_REFUSAL)?)
    }

    /// What the client hears of a refusal.
    fn report(&self, refusal: &Refusal) -> Report {
        let code = match refusal.kind {
            RefusalKind::Denied | RefusalKind::OverBudget => "42501",
            RefusalKind::Expired => "TG001",
            RefusalKind::Cancelled => "57014",
        };
        self.readable(Report::error(code, refusal.message.clone()).with_hint(refusal.hint.clone()))
    }

    /// The gateway's words in the client's encoding: where that is not UTF8, in what all encodings share.
    pub(super) fn readable(&self, mut report: Report) -> Report {
        if self.following.settings().client_encoding != ClientEncoding::Utf8 {
            let plain = |text: &mut String| {
                if !text.is_ascii() {
                    *text = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
                }
            };
            plain(&mut report.message);
            report.hint.iter_mut().for_each(plain);
        }
        report
    }

    /// Whether work of the segment under way is open at the target: earlier commands of the same pipeline.
    fn is_amid(&self) -> bool {
        self.queue.iter().any(|expected| super::target::command_of(expected).is_some())
    }

    /// What changes the meaning of a text, for a grant to bind.
    fn context(&self) -> (Option<String>, String) {
        let path = self.following.path();
        // What only the server knows is never the same twice: no grant is good for it beyond this moment.
        let unknown = || format!("unknown ({})", self.mark);
        // Something before it in the same segment may set the role or the path, and is not answered yet.
        if self.wary || self.doubt == self.segment {
            return (Some(unknown()), unknown());
        }
        let role = self.following.role();
        let role = role.map(|role| if role == UNKNOWN_VALUE { unknown() } else { role.to_owned() });
        if path.schemas().is_empty() && !path.catalog_first() {
            return (role, unknown());
        }
        let mut text =
            path.schemas().iter().map(|schema| format!("\"{schema}\"")).collect::<Vec<_>>().join(", ");
        if !path.catalog_first() {
            text.push_str(" (shadowing pg_catalog)");
        }
        (role, text)
    }
}

/// A number that no session has had before.
pub(super) fn new_mark() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A message that the target must fail.
pub(super) fn must_fail(extended: bool) -> Vec<u8> {
    if extended {
        packet::message(b'P', |out| {
            packet::put_cstr(out, MUST_FAIL_NAME.as_bytes());
            packet::put_cstr(out, MUST_FAIL.as_bytes());
            out.extend_from_slice(&[0, 0]);
        })
    } else {
        packet::message(b'Q', |out| packet::put_cstr(out, MUST_FAIL.as_bytes()))
    }
}
