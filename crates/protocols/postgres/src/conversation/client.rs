//! The client's half: from its messages to commands that are judged.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use session::{Command, Known};
use vocabulary::{Class, Facts};

use super::limits::{
    CAPTURED_PARAMETER_BYTES, MAX_MESSAGE_BYTES, MAX_OUTSTANDING, MAX_PREPARED_BYTES,
    MAX_SMALL_MESSAGE_BYTES, MAX_STATEMENT_BYTES,
};
use super::names::Found;
use super::running::{CommandKey, Overflow, Running};
use super::{Charge, Conversation, Expected, Fault, Next, Portal, Recorder, Scan, Statement};
use crate::facts::{FactsCache, One, Understood};
use crate::functions;
use crate::wire::backend::Transaction;
use crate::wire::frontend::{self, Bind, FunctionCall, Malformed, Named, Parse, Values};
use crate::wire::value;

/// Bytes of tag and length.
const HEADER: usize = 5;

/// What one message came to.
enum Flow {
    /// It may go on.
    On,
    /// It has to wait for answers.
    Stalled,
    /// The client ends the session.
    Finished,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::client("08P01", malformed.to_string())
    }
}

impl<P> Conversation<P> {
    /// Scans what the client sent. What was taken may be forwarded once `recorder`'s turn is recorded; the rest must
    /// be shown again, with more behind it.
    ///
    /// # Errors
    /// [`Fault`]: the session has to end, and nothing of these bytes may be forwarded.
    pub fn client<R: Recorder<Permit = P>>(
        &mut self,
        bytes: &[u8],
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Scan, Fault> {
        let mut taken = 0;
        loop {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                return Ok(Scan { taken, next: Next::Bytes(1) });
            };
            if self.client_body > 0 {
                taken += self.pass_client_body(rest);
                continue;
            }
            let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<HEADER>() else {
                return Ok(Scan { taken, next: Next::Bytes(HEADER) });
            };
            let length = u64::from(u32::from_be_bytes([a, b, c, d]));
            if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
                return Err(Fault::client(
                    "08P01",
                    format!("invalid length of message {:?}", char::from(tag)),
                ));
            }
            if tag == b'd' {
                // COPY data: only counted. Outside a COPY the target ignores it.
                self.client_body = length + 1;
                self.client_body_of = self.queue.front().and_then(super::target::command_of);
                continue;
            }
            let total = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
            let needed = wanted(tag, total)?;
            let Some(message) = rest.get(..needed) else {
                return Ok(Scan { taken, next: Next::Bytes(needed) });
            };
            if self.queue.len() >= MAX_OUTSTANDING {
                return Ok(Scan { taken, next: Next::Stalled });
            }
            let body = message.get(HEADER..).unwrap_or_default();
            match self.client_message(tag, body, total, recorder, facts)? {
                Flow::On => {
                    taken += needed;
                    self.client_body += (total - needed) as u64;
                }
                Flow::Stalled => return Ok(Scan { taken, next: Next::Stalled }),
                Flow::Finished => return Ok(Scan { taken: taken + needed, next: Next::Finished }),
            }
        }
    }

    fn pass_client_body(&mut self, rest: &[u8]) -> usize {
        let count = rest.len().min(usize::try_from(self.client_body).unwrap_or(usize::MAX));
        if let Some(running) = self.client_body_of.and_then(|key| self.commands.get_mut(key)) {
            running.bytes_in += count as u64;
            if let (Some(overflow), Some(part)) = (&mut running.overflow, rest.get(..count)) {
                overflow.update(part);
            }
        }
        self.client_body -= count as u64;
        count
    }

    fn client_message<R: Recorder<Permit = P>>(
        &mut self,
        tag: u8,
        body: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        match tag {
            b'B' => return self.bind(body, total, recorder),
            b'E' => return self.execute(frontend::execute(body)?, total, recorder),
            b'P' => return self.parse(&Parse::read(body)?, total, facts),
            b'Q' => return self.query(body, total, recorder, facts),
            b'F' => return self.function_call(body, total, recorder),
            b'D' => self.queue.push_back(match Named::read("Describe", body)? {
                Named::Statement(name) => Expected::DescribeStatement { name: name.into() },
                Named::Portal(_) => Expected::DescribePortal,
            }),
            b'C' => self.close(Named::read("Close", body)?),
            b'S' => {
                // While it reads COPY data the target ignores Sync and Flush, for the convenience of libraries.
                if !self.copying_in {
                    self.end_segment(true);
                }
            }
            b'H' => {}
            b'c' | b'f' => {
                if !std::mem::take(&mut self.copying_in) {
                    self.queue.push_back(Expected::CopyEnd);
                }
            }
            b'X' => return Ok(Flow::Finished),
            _ => {
                let shown = tag.escape_ascii();
                return Err(Fault::client("08P01", format!("invalid frontend message type '{shown}'")));
            }
        }
        Ok(Flow::On)
    }

    /// A segment ends; what follows is in the next.
    fn end_segment(&mut self, sync: bool) {
        self.queue.push_back(Expected::Ready { segment: self.segment, sync });
        self.segment += 1;
    }

    fn parse(&mut self, parse: &Parse<'_>, total: usize, facts: &mut FactsCache) -> Result<Flow, Fault> {
        if self.in_doubt() {
            return Ok(Flow::Stalled);
        }
        if self.prepared_bytes.get() + parse.text.len() > MAX_PREPARED_BYTES {
            let limit = MAX_PREPARED_BYTES / (1024 * 1024);
            let message =
                format!("this session's prepared statements have more than {limit} MiB: close some of them");
            return Err(Fault::client("54000", message));
        }
        let (known, prepares) = match self.understand(parse.text, facts) {
            Understood::One(One { known, prepares, .. }) => (known, prepares),
            Understood::Empty(known) | Understood::Unknown(known) => (known, None),
            // The target refuses several statements in one Parse.
            Understood::Many(_) => (unknown_of(facts), None),
        };
        let types = RefCell::new(parse.types.into());
        // The unnamed one is replaced by the next.
        let charge = (!parse.name.is_empty()).then(|| Charge::new(&self.prepared_bytes, total));
        let statement =
            Rc::new(Statement { text: parse.text.into(), known, prepares, types, _charge: charge });
        let opened = self.statements.open(parse.name, Rc::clone(&statement), self.segment);
        self.queue.push_back(Expected::Parse {
            name: parse.name.into(),
            opened,
            statement,
            bytes_in: total as u64,
        });
        Ok(Flow::On)
    }

    fn bind<R: Recorder<Permit = P>>(
        &mut self,
        body: &[u8],
        total: usize,
        recorder: &mut R,
    ) -> Result<Flow, Fault> {
        let bind = Bind::read(body)?;
        if self.in_doubt() {
            return Ok(Flow::Stalled);
        }
        let answered = self.all_answered();
        let statement = match self.statements.find(bind.statement, self.segment, answered) {
            Found::Known(statement) => Rc::clone(statement),
            Found::InDoubt => return Ok(Flow::Stalled),
            Found::Missing => missing("prepared statement", bind.statement),
        };
        let whole = HEADER + body.len() == total;
        self.capture(&bind.values, &statement.types.borrow(), whole)?;
        let command = self.begin(&statement, total.min(HEADER + body.len()), recorder)?;
        if !whole {
            self.overflow(command, body);
        }
        let portal = Portal { statement, command: Some(command) };
        let opened = self.portals.open(bind.portal, portal, self.segment);
        self.queue.push_back(Expected::Bind { name: bind.portal.into(), opened, command });
        Ok(Flow::On)
    }

    fn execute<R: Recorder<Permit = P>>(
        &mut self,
        name: &[u8],
        total: usize,
        recorder: &mut R,
    ) -> Result<Flow, Fault> {
        let answered = self.all_answered();
        let (statement, command) = match self.portals.find(name, self.segment, answered) {
            Found::Known(portal) => (Rc::clone(&portal.statement), portal.command),
            Found::InDoubt => return Ok(Flow::Stalled),
            // DECLARE makes portals too: FETCH over the extended protocol.
            Found::Missing => (missing("portal", name), None),
        };
        let command = match command.filter(|key| self.commands.get(*key).is_some()) {
            Some(command) => {
                if let Some(running) = self.commands.get_mut(command) {
                    running.bytes_in += total as u64;
                }
                command
            }
            None => {
                // The portal has run to its end before, or is a cursor of SQL's: a command of its own.
                self.params.clear();
                let command = self.begin(&statement, total, recorder)?;
                if let Found::Known(portal) = self.portals.find(name, self.segment, true) {
                    portal.command = Some(command);
                }
                command
            }
        };
        if let Some(running) = self.commands.get_mut(command) {
            running.executes += 1;
        }
        self.queue.push_back(Expected::Execute { command: Some(command) });
        Ok(Flow::On)
    }

    fn close(&mut self, named: Named<'_>) {
        self.queue.push_back(match named {
            Named::Statement(name) => {
                Expected::CloseStatement { name: name.into(), id: self.statements.close(name, self.segment) }
            }
            Named::Portal(name) => {
                Expected::ClosePortal { name: name.into(), id: self.portals.close(name, self.segment) }
            }
        });
    }

    fn query<R: Recorder<Permit = P>>(
        &mut self,
        body: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        if self.in_doubt() {
            return Ok(Flow::Stalled);
        }
        let text = frontend::Body::new("Query", body).string()?;
        self.params.clear();
        match self.understand(text, facts) {
            Understood::One(one) => self.query_statement(text, 0..text.len(), one, total, recorder)?,
            Understood::Many(statements) => {
                // The message is counted with its first statement.
                let mut bytes_in = total;
                for one in statements {
                    let span = one.span.clone();
                    self.query_statement(text, span, one, std::mem::take(&mut bytes_in), recorder)?;
                }
            }
            Understood::Empty(known) => {
                let one = One { span: 0..text.len(), known, prepares: None };
                self.query_statement(text, 0..text.len(), one, total, recorder)?;
            }
            Understood::Unknown(known) => {
                let statement = Rc::new(plain(text, known));
                let command = self.begin(&statement, total, recorder)?;
                self.queue.push_back(Expected::Opaque { command: Some(command), statement });
            }
        }
        self.end_segment(false);
        Ok(Flow::On)
    }

    fn query_statement<R: Recorder<Permit = P>>(
        &mut self,
        text: &[u8],
        span: std::ops::Range<usize>,
        one: One,
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let text = text.get(span).unwrap_or(text);
        let keeps_text = one.prepares.is_some();
        // The text is only needed later where the command prepares something; the intent has it already.
        let kept: Box<[u8]> = if keeps_text { text.into() } else { Box::default() };
        let types = RefCell::default();
        let statement =
            Rc::new(Statement { text: kept, known: one.known, prepares: one.prepares, types, _charge: None });
        let command = self.begin_text(&statement, text, bytes_in, recorder)?;
        self.queue.push_back(Expected::Statement { command });
        Ok(())
    }

    fn function_call<R: Recorder<Permit = P>>(
        &mut self,
        body: &[u8],
        total: usize,
        recorder: &mut R,
    ) -> Result<Flow, Fault> {
        let call = FunctionCall::read(body)?;
        if self.in_doubt() {
            return Ok(Flow::Stalled);
        }
        let whole = HEADER + body.len() == total;
        let known = functions::by_oid(call.function);
        let types: Vec<u8> = known
            .map(|known| known.types.iter().flat_map(|oid| oid.to_be_bytes()).collect())
            .unwrap_or_default();
        self.capture(&call.values, &types, whole)?;
        let (text, facts) = functions::describe(call.function, known);
        let statement = Rc::new(plain(text.as_bytes(), Rc::new(Known::new(Arc::new(facts)))));
        let command = self.begin(&statement, HEADER + body.len(), recorder)?;
        if !whole {
            self.overflow(command, body);
        }
        self.queue.push_back(Expected::Statement { command });
        self.end_segment(false);
        Ok(Flow::On)
    }

    /// Puts parameters into `self.params`. Of a message that is cut, the last value is cut too.
    fn capture(&mut self, values: &Values<'_>, types: &[u8], whole: bool) -> Result<(), Fault> {
        self.params.clear();
        let (oids, _) = types.as_chunks::<4>();
        for (index, item) in values.iter().enumerate() {
            let (binary, bytes) = match item {
                Ok(value) => value,
                Err(malformed) if whole => return Err(malformed.into()),
                Err(_) => break,
            };
            let kept = match bytes {
                None => {
                    self.params.push_null();
                    true
                }
                Some(bytes) if binary => {
                    let oid = oids.get(index).map_or(0, |oid| u32::from_be_bytes(*oid));
                    self.params.push_with(|out| value::write_text(oid, bytes, out))
                }
                Some(bytes) => self.params.push(bytes),
            };
            if !kept {
                return Err(Fault::client("54000", "a parameter is too long to be recorded"));
            }
        }
        Ok(())
    }

    fn overflow(&mut self, command: CommandKey, kept: &[u8]) {
        if let Some(running) = self.commands.get_mut(command) {
            running.overflow = Some(Box::new(Overflow::new(kept)));
        }
        self.client_body_of = Some(command);
    }

    /// Has a statement judged with the parameters in `self.params`.
    pub(super) fn begin<R: Recorder<Permit = P>>(
        &mut self,
        statement: &Rc<Statement>,
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<CommandKey, Fault> {
        self.begin_text(statement, &statement.text, bytes_in, recorder)
    }

    fn begin_text<R: Recorder<Permit = P>>(
        &mut self,
        statement: &Rc<Statement>,
        text: &[u8],
        bytes_in: usize,
        recorder: &mut R,
    ) -> Result<CommandKey, Fault> {
        let known = &statement.known;
        let in_transaction = self.transaction == Transaction::Open && !self.transaction_may_end;
        let command = Command { known, text, params: self.params.as_bytes(), in_transaction };
        let permit = recorder.judge(&command)?;
        self.remember_effects(known.facts());
        Ok(self.commands.insert(Running::new(permit, Rc::clone(statement), bytes_in as u64)))
    }

    /// Notes what the command may change that later messages depend on.
    fn remember_effects(&mut self, facts: &Facts) {
        let runs_code = matches!(facts.class, Class::Execute | Class::Unknown);
        if facts.transaction.is_some() || runs_code {
            self.transaction_may_end = true;
        }
        let names = matches!(facts.verb.as_str(), "PREPARE" | "DEALLOCATE" | "DISCARD");
        if names || runs_code || !facts.settings.is_empty() {
            self.doubt = self.segment;
        }
        let lexing = |name: &str| {
            matches!(name, "*" | "standard_conforming_strings" | "client_encoding" | "names" | "search_path")
        };
        if facts.settings.iter().any(|setting| lexing(&setting.name)) {
            self.lexing_doubt = self.segment;
        }
    }
}

/// How many bytes of a message have to be there before it is looked at.
fn wanted(tag: u8, total: usize) -> Result<usize, Fault> {
    match tag {
        b'Q' | b'P' => {
            if total > MAX_STATEMENT_BYTES {
                let limit = MAX_STATEMENT_BYTES / (1024 * 1024);
                let message = format!(
                    "the statement has {total} bytes; the gateway takes up to {limit} MiB in one: send the data with COPY or as parameters"
                );
                return Err(Fault::client("54000", message));
            }
            Ok(total)
        }
        b'B' | b'F' => Ok(total.min(HEADER + CAPTURED_PARAMETER_BYTES)),
        _ if total > MAX_SMALL_MESSAGE_BYTES => {
            Err(Fault::client("08P01", format!("invalid length of message {:?}", char::from(tag))))
        }
        _ => Ok(total),
    }
}

pub(super) fn plain(text: &[u8], known: Rc<Known>) -> Statement {
    Statement { text: text.into(), known, prepares: None, types: RefCell::default(), _charge: None }
}

fn unknown_of(facts: &FactsCache) -> Rc<Known> {
    match facts.unknown() {
        Understood::Unknown(known) | Understood::Empty(known) | Understood::One(One { known, .. }) => known,
        Understood::Many(_) => Rc::new(Known::new(Arc::new(Facts::unknown("UNKNOWN")))),
    }
}

/// Stands for a name that the gateway has not seen; the target will say whether there is such a thing.
fn missing(what: &str, name: &[u8]) -> Rc<Statement> {
    let text = format!("({what} \"{}\")", String::from_utf8_lossy(name));
    Rc::new(plain(text.as_bytes(), Rc::new(Known::new(Arc::new(Facts::unknown("EXECUTE"))))))
}
