//! The client's half: from its messages to commands that are judged.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use classify::postgres::QUESTION;
use session::Known;
use vocabulary::{Class, Facts, TransactionControl};

use super::gate::{Begun, new_mark};
use super::limits::{
    CAPTURED_PARAMETER_BYTES, MAX_MESSAGE_BYTES, MAX_OUTSTANDING, MAX_PREPARED_BYTES,
    MAX_SMALL_MESSAGE_BYTES, MAX_STATEMENT_BYTES,
};
use super::names::Found;
use super::running::{CommandKey, OVERTAKEN, Overflow, Parts};
use super::{
    Bound, Charge, Conversation, CopyToCome, Edit, Expected, Fault, Next, Portal, Recorder, Scan, Statement,
};
use crate::facts::{FactsCache, One, Understood};
use crate::functions;
use crate::wire::backend::Transaction;
use crate::wire::error_response::Report;
use crate::wire::frontend::{self, Bind, FunctionCall, Malformed, Named, Parse, Values};
use crate::wire::{packet, value};

/// Bytes of tag and length.
const HEADER: usize = 5;

/// Asks besides what the names of prepared statements stand for: of each the SHA-256 of its text, and its name.
pub(super) const NAMES_QUESTION: &str = "; SELECT pg_catalog.concat(pg_catalog.encode(\
     pg_catalog.sha256(pg_catalog.convert_to(statement, 'UTF8')), 'hex'), name) FROM pg_catalog.pg_prepared_statements";

/// What one message came to.
pub(super) enum Flow {
    /// It may go on.
    On,
    /// It may go on behind something of the gateway's own.
    Behind(Vec<u8>),
    /// It has to wait for answers.
    Stalled,
    /// It has to wait for people.
    Held,
    /// It does not run, and the client hears this.
    Refuse(Box<Report>),
    /// It is of no use any more.
    Drop,
    /// The client ends the session.
    Finished,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::client("08P01", malformed.to_string())
    }
}

impl<P, H> Conversation<P, H> {
    /// Scans what the client sent. What was taken may be forwarded once `recorder`'s turn is recorded; the rest must
    /// be shown again, with more behind it.
    ///
    /// # Errors
    /// [`Fault`]: the session has to end, and nothing of these bytes may be forwarded.
    pub fn client<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        bytes: &[u8],
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Scan, Fault> {
        let mut taken = 0;
        loop {
            if !self.behind.is_empty() && self.client_body == 0 {
                let insert = std::mem::take(&mut self.behind);
                return Ok(Scan { taken, next: Next::Edit(Edit { insert, skip: 0, pass: 0 }) });
            }
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                return Ok(Scan { taken, next: Next::Bytes(1) });
            };
            if self.client_body > 0 {
                if self.dropping.0 {
                    let skip = rest.len().min(usize::try_from(self.client_body).unwrap_or(usize::MAX));
                    self.client_body -= skip as u64;
                    self.dropping.0 = self.client_body > 0;
                    return Ok(Scan { taken, next: Next::Edit(Edit { skip, ..Edit::default() }) });
                }
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
                if self.doomed.is_some() {
                    self.dropping.0 = true;
                    continue;
                }
                self.client_body_of = self.queue.front().and_then(super::target::command_of);
                continue;
            }
            let total = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
            let needed = wanted(tag, total)?;
            let Some(message) = rest.get(..needed) else {
                return Ok(Scan { taken, next: Next::Bytes(needed) });
            };
            if self.queue.len() >= MAX_OUTSTANDING && self.is_skipped() {
                // No answer will ever come: the Sync that ends this is still with the client.
                self.skip_all(recorder)?;
            }
            if self.queue.len() >= MAX_OUTSTANDING || (self.is_alone() && !matches!(tag, b'c' | b'f' | b'X'))
            {
                return Ok(Scan { taken, next: Next::Stalled });
            }
            let body = message.get(HEADER..).unwrap_or_default();
            match self.client_message(tag, body, total, recorder, facts)? {
                Flow::On => {
                    self.at_start &= !matches!(tag, b'P' | b'B' | b'E' | b'D' | b'C' | b'H');
                    taken += needed;
                    self.client_body += (total - needed) as u64;
                }
                Flow::Behind(insert) => {
                    self.at_start &= !matches!(tag, b'P' | b'B' | b'E');
                    self.client_body += (total - needed) as u64;
                    return Ok(Scan { taken, next: Next::Edit(Edit { insert, skip: 0, pass: needed }) });
                }
                Flow::Stalled => return Ok(Scan { taken, next: Next::Stalled }),
                Flow::Held => return Ok(Scan { taken, next: Next::Held }),
                Flow::Refuse(report) => return Ok(self.refuse(tag, taken, (needed, total), report)),
                Flow::Drop => return Ok(self.drop_message(taken, (needed, total), Vec::new())),
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

    fn client_message<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        tag: u8,
        body: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        if self.doomed.is_some() {
            return self.doomed_message(tag, body, total, recorder, facts);
        }
        if matches!(tag, b'B' | b'E' | b'P' | b'Q' | b'F') && self.asks_first(recorder) {
            return Ok(Flow::Stalled);
        }
        match tag {
            b'B' => return self.bind(body, total, recorder, facts),
            b'E' => return self.execute(frontend::execute(body)?, total, recorder, facts),
            b'P' => return self.parse(&Parse::read(body)?, total, facts),
            b'Q' => return self.query(body, total, recorder, facts),
            b'F' => return self.function_call(body, total, recorder),
            b'D' => self.queue.push_back(match Named::read("Describe", body)? {
                Named::Statement(name) => Expected::DescribeStatement { name: name.into() },
                Named::Portal(_) => Expected::DescribePortal,
            }),
            b'C' => self.close(Named::read("Close", body)?),
            b'S' => return Ok(self.sync()),
            b'H' => {}
            b'c' | b'f' => self.copy_ends(),
            b'X' => return Ok(Flow::Finished),
            _ => return Err(bad_type(tag)),
        }
        Ok(Flow::On)
    }

    /// While the target reads COPY data it ignores a Sync, for the convenience of libraries, and as soon as it does not,
    /// it answers. Which of them it was no answer tells, so it never gets one that can be either: it waits until the
    /// COPY has begun, and is dropped then; the one behind the end of the data goes on.
    fn sync(&mut self) -> Flow {
        if self.copying_in {
            return Flow::Drop;
        }
        if self.may_yet_copy() {
            return Flow::Stalled;
        }
        self.end_segment(true);
        Flow::On
    }

    /// Whether the target has still to say if it reads COPY data.
    fn may_yet_copy(&mut self) -> bool {
        let to_come = match self.copy_to_come {
            CopyToCome::Nothing => return false,
            CopyToCome::Execute(key) => {
                !self.skipping && self.commands.get(key).is_some_and(|running| !running.ran)
            }
            CopyToCome::Query(segment) => self.answered < segment && !self.queue.is_empty(),
        };
        if !to_come {
            self.copy_to_come = CopyToCome::Nothing;
        }
        to_come
    }

    /// The client has sent all data of a COPY, whether or not the target has asked for it.
    fn copy_ends(&mut self) {
        if matches!(self.copy_to_come, CopyToCome::Execute(_)) {
            self.copy_to_come = CopyToCome::Nothing;
        }
        // With nothing to answer, the target has no COPY to end: it ignores what comes behind one that failed.
        if !std::mem::take(&mut self.copying_in) && !self.queue.is_empty() {
            self.queue.push_back(Expected::CopyEnd);
        }
    }

    /// A segment ends; what follows is in the next.
    pub(super) fn end_segment(&mut self, sync: bool) {
        self.queue.push_back(Expected::Ready { segment: self.segment, sync });
        self.segment += 1;
        self.at_start = true;
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
        let doubts = self.reads_in_doubt();
        let One { known, prepares, declares, copies_in, frees, by_name, .. } =
            self.understand_one(doubts, parse.text, facts);
        let path = Some(Arc::clone(self.following.path()));
        // What was read in doubt is read again before it runs.
        let by_name = by_name || doubts;
        let types = RefCell::new(parse.types.into());
        // The unnamed one is replaced by the next.
        let charge = (!parse.name.is_empty()).then(|| Charge::new(&self.prepared_bytes, total));
        let statement = Rc::new(Statement {
            text: parse.text.into(),
            known,
            prepares,
            declares,
            frees,
            copies_in,
            path,
            by_name,
            types,
            _charge: charge,
        });
        if !parse.name.is_empty() {
            self.renames += 1;
        }
        let opened = self.statements.open(parse.name, Rc::clone(&statement), self.segment);
        self.queue.push_back(Expected::Parse {
            name: parse.name.into(),
            opened,
            statement,
            bytes_in: total as u64,
        });
        Ok(Flow::On)
    }

    /// What is known of a text that has to be one statement: the target refuses several in one Parse.
    fn understand_one(&self, in_doubt: bool, text: &[u8], facts: &mut FactsCache) -> One {
        let (known, copies_in) = match self.understand_if(in_doubt, text, facts) {
            Understood::One(one) => return one,
            Understood::Empty(known) => (known, false),
            Understood::Unknown(known) => (known, true),
            Understood::Many(_) => (unknown_of(facts), true),
        };
        One {
            span: 0..text.len(),
            known,
            prepares: None,
            declares: None,
            copies_in,
            frees: None,
            by_name: false,
        }
    }

    fn bind<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        body: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        let bind = Bind::read(body)?;
        if self.in_doubt() {
            return Ok(Flow::Stalled);
        }
        let statement = match self.statements.look(bind.statement, self.moment()) {
            Found::Known(statement) => Rc::clone(statement),
            Found::InDoubt => return Ok(Flow::Stalled),
            Found::Missing => missing("prepared statement", bind.statement),
        };
        let statement = if self.still_holds(&statement) {
            statement
        } else {
            let anew = self.anew(self.reads_in_doubt(), &statement, facts);
            if self.unsure.get() {
                return Ok(Flow::Stalled);
            }
            anew
        };
        let whole = HEADER + body.len() == total;
        self.capture(&bind.values, &statement.types.borrow(), whole)?;
        let bytes_in = total.min(HEADER + body.len());
        let command = match self.begin(&statement, &statement.text, (bytes_in, whole), recorder)? {
            Begun::On(command) => command,
            Begun::Not(flow) => return Ok(flow),
        };
        if !whole {
            self.overflow(command, body);
        }
        if let Ok(name) = std::str::from_utf8(bind.portal) {
            self.cursors.gives_up(name);
        }
        let before = self.before(&[command], false);
        if !bind.portal.is_empty() {
            self.renames += 1;
        }
        let bound = (statement.is_late() && !(whole && self.params.is_empty()))
            .then(|| Box::new(Bound { params: self.params.clone(), whole }));
        let changes = self.changes_for(&statement);
        let portal = Portal { statement, command: Some(command), changes, bound };
        let opened = self.portals.open(bind.portal, portal, self.segment);
        self.queue.push_back(Expected::Bind { name: bind.portal.into(), opened, command });
        Ok(before.map_or(Flow::On, Flow::Behind))
    }

    /// A prepared statement as the target reads it now.
    fn anew(&self, in_doubt: bool, statement: &Statement, facts: &mut FactsCache) -> Rc<Statement> {
        let One { known, prepares, declares, copies_in, frees, by_name, .. } =
            self.understand_one(in_doubt, &statement.text, facts);
        Rc::new(Statement {
            text: statement.text.clone(),
            known,
            prepares,
            declares,
            frees,
            copies_in,
            path: Some(Arc::clone(self.following.path())),
            by_name,
            types: RefCell::new(statement.types.borrow().clone()),
            _charge: None,
        })
    }

    fn execute<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        name: &[u8],
        total: usize,
        recorder: &mut R,
        facts: &mut FactsCache,
    ) -> Result<Flow, Fault> {
        let (statement, command, judged_at) = match self.portals.look(name, self.moment()) {
            Found::Known(portal) => (Rc::clone(&portal.statement), portal.command, portal.changes),
            Found::InDoubt => return Ok(Flow::Stalled),
            // DECLARE makes portals too: FETCH over the extended protocol.
            Found::Missing => (missing("portal", name), None, 0),
        };
        let running = command.and_then(|key| self.commands.get(key));
        let overtaken = running.is_some_and(|running| running.executes == 0 && !running.ran)
            && judged_at != self.changes_for(&statement)
            && statement.is_late();
        let (command, statement, before) = match command.filter(|_| running.is_some()) {
            Some(command) if !overtaken => {
                if let Some(running) = self.commands.get_mut(command) {
                    running.bytes_in += total as u64;
                }
                (command, statement, None)
            }
            bound => {
                let (statement, whole) = match bound {
                    // What it was bound with is judged with what its names stand for now.
                    Some(_) if self.in_doubt() => return Ok(Flow::Stalled),
                    Some(_) => (self.late(&statement, facts), self.recall(name)),
                    // The portal has run to its end before, or is a cursor of SQL's: a command of its own.
                    None => {
                        self.params.clear();
                        (statement, true)
                    }
                };
                if bound.is_some() && self.unsure.get() {
                    return Ok(Flow::Stalled);
                }
                let command = match self.begin(&statement, &statement.text, (total, whole), recorder)? {
                    Begun::On(command) => command,
                    Begun::Not(flow) => return Ok(flow),
                };
                let before = self.before(&[command], false);
                if let Some(bound) = bound {
                    self.take_over(bound, command, recorder)?;
                }
                let (changes, moment) = (self.changes_for(&statement), self.moment());
                if let Found::Known(portal) = self.portals.find(name, moment) {
                    portal.command = Some(command);
                    portal.changes = changes;
                    portal.statement = Rc::clone(&statement);
                }
                (command, statement, before)
            }
        };
        if let Some(running) = self.commands.get_mut(command) {
            running.executes += 1;
        }
        self.remember_execution(statement.known.facts());
        self.queue.push_back(Expected::Execute { command: Some(command) });
        if self.is_limited(command) {
            // The target answers at once, and nothing is sent behind it before it does.
            self.behind = packet::message(b'H', |_| {});
            self.isolate(command, false);
        }
        if statement.copies_in {
            // It may as well be something else, whose answer the target would keep until a Sync.
            self.behind = packet::message(b'H', |_| {});
            self.copy_to_come = CopyToCome::Execute(command);
        }
        Ok(before.map_or(Flow::On, Flow::Behind))
    }

    /// A statement that was bound before, as it has to be taken now.
    fn late(&self, statement: &Statement, facts: &mut FactsCache) -> Rc<Statement> {
        // Of these the target has looked some names up as it was bound, and looks others up now: no path tells all.
        let mixed = matches!(
            statement.known.facts().verb.as_str(),
            "EXPLAIN"
                | "CALL"
                | "CREATE TABLE AS"
                | "CREATE MATERIALIZED VIEW"
                | "SELECT INTO"
                | "DECLARE CURSOR"
        );
        self.anew(mixed || self.reads_in_doubt(), statement, facts)
    }

    /// Puts the parameters that a portal was bound with into `self.params`; whether they are all of them.
    fn recall(&mut self, portal: &[u8]) -> bool {
        let bound = match self.portals.look(portal, self.moment()) {
            Found::Known(portal) => portal.bound.as_deref(),
            Found::InDoubt | Found::Missing => None,
        };
        let Some(bound) = bound else {
            self.params.clear();
            return true;
        };
        self.params.clone_from(&bound.params);
        bound.whole
    }

    /// A portal's command was judged again: the new one stands for the Bind too, and the old one has not run.
    fn take_over<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        old: CommandKey,
        new: CommandKey,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let overflow = self.commands.get_mut(old).and_then(|running| running.overflow.take());
        if let Some(running) = self.commands.get_mut(new) {
            running.overflow = overflow;
        }
        for expected in &mut self.queue {
            if let Expected::Bind { command, .. } = expected
                && *command == old
            {
                *command = new;
            }
        }
        self.finish(old, &Parts::skipped(OVERTAKEN), recorder)
    }

    fn close(&mut self, named: Named<'_>) {
        self.renames += 1;
        self.queue.push_back(match named {
            Named::Statement(name) => {
                Expected::CloseStatement { name: name.into(), id: self.statements.close(name, self.segment) }
            }
            Named::Portal(name) => {
                Expected::ClosePortal { name: name.into(), id: self.portals.close(name, self.segment) }
            }
        });
    }

    fn query<R: Recorder<Permit = P, Hold = H>>(
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
        let understood = self.understand(text, facts);
        if self.unsure.get() {
            return Ok(Flow::Stalled);
        }
        match understood {
            Understood::One(one) => {
                let span = one.span.clone();
                let statement = one_statement(text, one);
                let text = text.get(span).unwrap_or(text);
                match self.begin(&statement, text, (total, true), recorder)? {
                    Begun::On(command) => Ok(self.queried(&[command], None)),
                    Begun::Not(flow) => Ok(flow),
                }
            }
            Understood::Many(statements) => {
                let each: Vec<_> = statements
                    .into_iter()
                    .map(|one| (one.span.clone(), one))
                    .map(|(span, one)| (one_statement(text, one), span))
                    .collect();
                match self.begin_together(text, &each, total, recorder)? {
                    Ok(keys) => Ok(self.queried(&keys, None)),
                    Err(flow) => Ok(flow),
                }
            }
            Understood::Empty(known) => {
                let statement = Rc::new(plain(b"", known));
                match self.begin(&statement, text, (total, true), recorder)? {
                    Begun::On(command) => Ok(self.queried(&[command], None)),
                    Begun::Not(flow) => Ok(flow),
                }
            }
            Understood::Unknown(known) => {
                let statement = Rc::new(plain(text, known));
                match self.begin(&statement, text, (total, true), recorder)? {
                    Begun::On(command) => Ok(self.queried(&[command], Some(statement))),
                    Begun::Not(flow) => Ok(flow),
                }
            }
        }
    }

    /// A simple query goes on.
    fn queried(&mut self, keys: &[CommandKey], opaque: Option<Rc<Statement>>) -> Flow {
        let before = self.before(keys, true);
        if let Some(last) = keys.last() {
            self.isolate(*last, before.is_some());
        }
        let copies_in =
            |key: &CommandKey| self.commands.get(*key).is_some_and(|running| running.statement.copies_in);
        if keys.iter().any(copies_in) {
            self.copy_to_come = CopyToCome::Query(self.segment);
        }
        match opaque {
            Some(statement) => {
                self.queue.push_back(Expected::Opaque { command: keys.first().copied(), statement });
            }
            None => self.queue.extend(keys.iter().map(|command| Expected::Statement { command: *command })),
        }
        self.end_segment(false);
        before.map_or(Flow::On, Flow::Behind)
    }

    fn function_call<R: Recorder<Permit = P, Hold = H>>(
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
        let bytes_in = HEADER + body.len();
        let command = match self.begin(&statement, &statement.text, (bytes_in, whole), recorder)? {
            Begun::On(command) => command,
            Begun::Not(flow) => return Ok(flow),
        };
        if !whole {
            self.overflow(command, body);
        }
        let before = self.before(&[command], true);
        self.isolate(command, before.is_some());
        self.queue.push_back(Expected::Statement { command });
        self.end_segment(false);
        Ok(before.map_or(Flow::On, Flow::Behind))
    }

    /// Puts parameters into `self.params`. Of a message that is cut, the last value is cut too.
    pub(super) fn capture(&mut self, values: &Values<'_>, types: &[u8], whole: bool) -> Result<(), Fault> {
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

    /// Notes what the command may change that later messages depend on.
    pub(super) fn remember_effects(&mut self, facts: &Facts) {
        let runs_code = matches!(facts.class, Class::Execute | Class::Unknown);
        if runs_code {
            self.code = self.segment;
            self.statements.code_runs();
        }
        if facts.may_end_transaction() {
            self.transaction_may_end = true;
            self.begun = 0;
        }
        let verb = facts.verb.as_str();
        let renames = matches!(verb, "PREPARE" | "DEALLOCATE" | "DEALLOCATE ALL" | "DISCARD ALL");
        if renames {
            self.statements.renames(self.segment);
        }
        // What is LOCAL, and what is undone, ends with the transaction.
        let undoes = !self.following.is_settled()
            && !matches!(facts.transaction, None | Some(TransactionControl::Begin));
        if renames || verb == "DECLARE CURSOR" || runs_code || undoes || !facts.settings.is_empty() {
            self.doubt = self.segment;
            self.changes += 1;
            self.mark = new_mark();
        }
        let lexing = |name: &str| {
            matches!(name, "*" | "standard_conforming_strings" | "client_encoding" | "names" | "search_path")
        };
        if undoes || facts.settings.iter().any(|setting| lexing(&setting.name)) {
            self.lexing_doubt = self.segment;
        }
    }

    /// Notes what an Execute does: a portal that was bound may be executed later, or never.
    fn remember_execution(&mut self, facts: &Facts) {
        self.remember_effects(facts);
        if facts.transaction == Some(TransactionControl::Begin) {
            self.begun = self.segment;
        }
    }

    /// Whether the target has to be asked first what settings and names code has left, where policy cares. That can only be between
    /// two segments; within one, what a text means stays in doubt.
    fn asks_first<R: Recorder<Permit = P, Hold = H>>(&mut self, recorder: &mut R) -> bool {
        // It was asked when nothing else was, so its answer comes first.
        if matches!(self.queue.front(), Some(Expected::Asked { .. })) {
            return true;
        }
        let code = self.following.in_doubt() || self.code == self.segment || self.statements.are_doubted();
        self.wary = code && !recorder.permits_unknown();
        if !self.wary || !self.at_start || self.transaction == Transaction::Failed {
            return false;
        }
        if self.queue.is_empty() {
            let names = self.statements.has_named();
            packet::put(&mut self.upward, b'Q', |out| {
                out.extend_from_slice(QUESTION.as_bytes());
                packet::put_cstr(out, if names { NAMES_QUESTION.as_bytes() } else { b"" });
            });
            self.queue.push_back(Expected::Asked { answers: Vec::new() });
        }
        true
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

pub(super) fn bad_type(tag: u8) -> Fault {
    let shown = tag.escape_ascii();
    Fault::client("08P01", format!("invalid frontend message type '{shown}'"))
}

/// A statement of a simple query. Its text is only needed later where it prepares something; the intent has it already.
fn one_statement(text: &[u8], one: One) -> Rc<Statement> {
    let kept = if one.prepares.is_some() { text.get(one.span).unwrap_or(text) } else { b"" };
    Rc::new(Statement {
        text: kept.into(),
        known: one.known,
        prepares: one.prepares,
        declares: one.declares,
        frees: one.frees,
        copies_in: one.copies_in,
        path: None,
        by_name: one.by_name,
        types: RefCell::default(),
        _charge: None,
    })
}

pub(super) fn plain(text: &[u8], known: Rc<Known>) -> Statement {
    Statement {
        text: text.into(),
        known,
        prepares: None,
        declares: None,
        frees: None,
        copies_in: true,
        path: None,
        by_name: false,
        types: RefCell::default(),
        _charge: None,
    }
}

pub(super) fn unknown_of(facts: &FactsCache) -> Rc<Known> {
    match facts.unknown() {
        Understood::Unknown(known) | Understood::Empty(known) | Understood::One(One { known, .. }) => known,
        Understood::Many(_) => Rc::new(Known::new(Arc::new(Facts::unknown("UNKNOWN")))),
    }
}

/// Stands for a name that the gateway has not seen; the target will say whether there is such a thing.
pub(super) fn missing(what: &str, name: &[u8]) -> Rc<Statement> {
    let text = format!("({what} \"{}\")", String::from_utf8_lossy(name));
    let known = Rc::new(Known::new(Arc::new(Facts::unknown("EXECUTE"))));
    // A portal that only SQL has made is a cursor.
    Rc::new(Statement { copies_in: what != "portal", ..plain(text.as_bytes(), known) })
}
