//! The target's half: from its answers to outcomes that are observed.

use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use classify::postgres::{Freed, TransactionStatus};
use session::Known;
use vocabulary::{Class, Facts, Status};

use super::client::plain;
use super::duty::{Duty, Stop};
use super::gate::{must_fail, new_mark};
use super::limits::{MAX_ANSWER_BYTES, MAX_ERROR_MESSAGE_BYTES};
use super::names::Opened;
use super::running::{CLIENT_GONE, CommandKey, NEVER_EXECUTED, Parts, SKIPPED, SUSPENDED};
use super::{Conversation, Edit, Expected, Fault, Next, Portal, Recorder, Scan};
use crate::wire::backend::{self, Transaction};
use crate::wire::error_response::Received;

/// Bytes of tag and length.
const HEADER: usize = 5;

/// How many values of settings the gateway's own question asks for, before what names stand for.
const SETTINGS_ASKED: usize = 2;

/// Digits of a SHA-256.
const SHA256_HEX_LEN: usize = 64;

/// SQLSTATE `query_canceled`.
const QUERY_CANCELED: &str = "57014";

/// What becomes of a message of the target's.
#[derive(Debug, PartialEq, Eq)]
enum Release {
    /// It goes on to the client.
    Pass,
    /// The client never hears of it.
    Drop,
    /// The client hears this instead.
    Replace(Vec<u8>),
}

/// The command that an expectation belongs to.
pub(super) const fn command_of(expected: &Expected) -> Option<CommandKey> {
    match expected {
        Expected::Statement { command } | Expected::Bind { command, .. } => Some(*command),
        Expected::Execute { command } | Expected::Opaque { command, .. } => *command,
        Expected::Parse { .. }
        | Expected::DescribeStatement { .. }
        | Expected::DescribePortal
        | Expected::CloseStatement { .. }
        | Expected::ClosePortal { .. }
        | Expected::CopyEnd
        | Expected::Refused { .. }
        | Expected::Injected { .. }
        | Expected::Asked { .. }
        | Expected::Ready { .. } => None,
    }
}

impl<P, H> Conversation<P, H> {
    /// Scans what the target sent. What was taken may be released to the client once `recorder`'s turn is recorded;
    /// the rest must be shown again, with more behind it.
    ///
    /// # Errors
    /// [`Fault`]: the session has to end, and nothing of these bytes may be released.
    pub fn target<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        bytes: &[u8],
        recorder: &mut R,
    ) -> Result<Scan, Fault> {
        let scan = self.scan_target(bytes, recorder)?;
        self.skip_stray_copy_ends();
        if let Some(key) = self.queue.front().and_then(command_of) {
            self.keep_rows(key, recorder)?;
        }
        Ok(scan)
    }

    fn scan_target<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        bytes: &[u8],
        recorder: &mut R,
    ) -> Result<Scan, Fault> {
        let mut taken = 0;
        loop {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                return Ok(Scan { taken, next: Next::Bytes(1) });
            };
            if self.target_body > 0 {
                let count = rest.len().min(usize::try_from(self.target_body).unwrap_or(usize::MAX));
                self.target_body -= count as u64;
                if self.dropping.1 {
                    self.dropping.1 = self.target_body > 0;
                    return Ok(Scan { taken, next: Next::Edit(Edit { skip: count, ..Edit::default() }) });
                }
                if self.tapped.is_some() {
                    self.tap(rest.get(..count).unwrap_or_default());
                }
                taken += count;
                continue;
            }
            let Some((&[tag, a, b, c, d], _)) = rest.split_first_chunk::<HEADER>() else {
                return Ok(Scan { taken, next: Next::Bytes(HEADER) });
            };
            let length = u32::from_be_bytes([a, b, c, d]);
            if !(4..=0x7fff_ffff).contains(&length) {
                return Err(Fault::Target(format!("it sent a message of {length} bytes")));
            }
            let total = u64::from(length) + 1;
            // No answer is the answer to one, whatever this message is.
            self.skip_stray_copy_ends();
            let asked = matches!(self.queue.front(), Some(Expected::Asked { .. }));
            if matches!(tag, b'D' | b'd') && !asked {
                let rows = self.pass_rows(tag, rest);
                if rows > 0 {
                    taken += rows;
                    continue;
                }
                self.dropping.1 = !self.count_row(tag, total);
                self.target_body = total;
                continue;
            }
            if !read_whole(tag) && !asked {
                self.count_bytes(total);
                self.dropping.1 = self.header_only(tag, recorder)? == Release::Drop;
                self.tapped = None;
                self.target_body = total;
                continue;
            }
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            if total > MAX_ANSWER_BYTES {
                return Err(Fault::Target(format!("it sent an answer of {total} bytes")));
            }
            let Some(message) = rest.get(..total) else {
                return Ok(Scan { taken, next: Next::Bytes(total) });
            };
            self.count_bytes(total as u64);
            match self.answer(tag, message.get(HEADER..).unwrap_or_default(), recorder)? {
                Release::Pass => taken += total,
                Release::Drop => {
                    return Ok(Scan { taken, next: Next::Edit(Edit { skip: total, ..Edit::default() }) });
                }
                Release::Replace(insert) => {
                    return Ok(Scan { taken, next: Next::Edit(Edit { insert, skip: total, pass: 0 }) });
                }
            }
        }
    }

    /// Counts the rows that lie whole at the beginning of `bytes`, if they only have to be counted; how many bytes they are.
    fn pass_rows(&mut self, tag: u8, bytes: &[u8]) -> usize {
        let command = self.queue.front().and_then(command_of);
        let running = command.and_then(|key| self.commands.get_mut(key));
        let Some(running) = running.filter(|running| running.duty.is_none()) else { return 0 };
        let (mut rows, mut taken) = (0, 0);
        while let Some((&[next, a, b, c, d], _)) =
            bytes.get(taken..).and_then(<[u8]>::split_first_chunk::<HEADER>)
        {
            let length = u32::from_be_bytes([a, b, c, d]);
            let end =
                usize::try_from(length).ok().and_then(|length| taken.checked_add(length)?.checked_add(1));
            match end {
                Some(end) if next == tag && length >= 4 && end <= bytes.len() => taken = end,
                _ => break,
            }
            rows += 1;
        }
        running.bytes_out += taken as u64;
        if tag == b'D' {
            running.rows += rows;
        } else {
            running.copied += rows;
        }
        taken
    }

    /// Counts a row; whether the client may have it.
    fn count_row(&mut self, tag: u8, total: u64) -> bool {
        self.tapped = None;
        if matches!(self.queue.front(), Some(Expected::Injected { .. })) {
            return false;
        }
        let Some(key) = self.queue.front().and_then(command_of) else { return true };
        let Some(running) = self.commands.get_mut(key) else { return true };
        if let Some(duty) = &mut running.duty {
            if let Some(limit) = duty.obligations.limit_rows
                && running.rows + running.copied >= limit
            {
                if duty.stop.is_none() {
                    duty.stop = Some(Stop::Rows(limit));
                    self.cancel_wanted = true;
                }
                return !matches!(duty.stop, Some(Stop::Rows(_)));
            }
            if let Some(tap) = &mut duty.tap {
                if tag == b'd' {
                    tap.copy_begins();
                }
                self.tapped = Some(key);
            }
        }
        running.bytes_out += total;
        if tag == b'D' {
            running.rows += 1;
        } else {
            running.copied += 1;
        }
        true
    }

    /// Follows a part of a row that passes.
    fn tap(&mut self, bytes: &[u8]) {
        let running = self.tapped.and_then(|key| self.commands.get_mut(key));
        if let Some(tap) =
            running.and_then(|running| running.duty.as_mut()).and_then(|duty| duty.tap.as_mut())
        {
            tap.feed(bytes);
        }
    }

    /// Records what has passed of a command's rows, before the client has it.
    fn keep_rows<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        key: CommandKey,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let Some(running) = self.commands.get_mut(key) else { return Ok(()) };
        if let Some(tap) = running.duty.as_mut().and_then(|duty| duty.tap.as_mut()) {
            let lines = tap.take();
            if !lines.is_empty() {
                recorder.capture_rows(&running.permit, &lines)?;
            }
        }
        Ok(())
    }

    fn count_bytes(&mut self, total: u64) {
        let command = self.queue.front().and_then(command_of);
        if let Some(running) = command.and_then(|key| self.commands.get_mut(key)) {
            running.bytes_out += total;
        }
    }

    /// Answers whose content does not matter.
    fn header_only<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        tag: u8,
        recorder: &mut R,
    ) -> Result<Release, Fault> {
        match self.queue.front() {
            Some(Expected::Injected { .. })
                if matches!(tag, b'1' | b'2' | b'3' | b'T' | b'n' | b'I' | b's') =>
            {
                if tag == b'3' {
                    self.queue.pop_front();
                }
                return Ok(Release::Drop);
            }
            Some(Expected::Refused { .. }) if matches!(tag, b'1' | b'2' | b'I') => return Err(not_refused()),
            _ => {}
        }
        match tag {
            b'1' => {
                if let Some(Expected::Parse { name, opened, .. }) = self.queue.pop_front() {
                    self.statements.confirm(&name, opened.id);
                }
            }
            b'2' => {
                if let Some(Expected::Bind { name, opened, .. }) = self.queue.pop_front() {
                    self.portals.confirm(&name, opened.id);
                    if let Some(portal) = opened.into_replaced() {
                        self.close_portal(&portal, recorder)?;
                    }
                }
            }
            b'3' => match self.queue.pop_front() {
                Some(Expected::CloseStatement { name, id: Some(id) }) => {
                    self.statements.closed(&name, id);
                }
                Some(Expected::ClosePortal { name, id: Some(id) }) => {
                    if let Some(portal) = self.portals.closed(&name, id) {
                        self.close_portal(&portal, recorder)?;
                    }
                }
                _ => {}
            },
            // RowDescription, NoData: the end of a Describe, or the head of a result.
            b'T' | b'n' => {
                if matches!(
                    self.queue.front(),
                    Some(Expected::DescribeStatement { .. } | Expected::DescribePortal)
                ) {
                    self.queue.pop_front();
                }
            }
            b'I' => self.complete(None, recorder)?,
            b's' if self.stopped().is_some() => return self.too_late(true, recorder),
            b's' => {
                self.alone = None;
                if let Some(Expected::Execute { command: Some(key) }) = self.queue.pop_front()
                    && let Some(running) = self.commands.get_mut(key)
                {
                    running.executes = running.executes.saturating_sub(1);
                    running.ran = true;
                }
            }
            b'V' => self.complete(None, recorder)?,
            b'G' | b'W' => self.copy_in_begins(),
            _ => {}
        }
        Ok(Release::Pass)
    }

    /// The limit of rows for which the command under way is being stopped.
    fn stopped(&self) -> Option<Stop> {
        let running = self.queue.front().and_then(command_of).and_then(|key| self.commands.get(key))?;
        running.duty.as_ref()?.stop.filter(|stop| matches!(stop, Stop::Rows(_)))
    }

    /// A command that was to be stopped at a limit of rows has come to its end before the target heard of it: what
    /// must fail takes the place of its completion, so that the transaction ends as after any error.
    fn too_late<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        extended: bool,
        recorder: &mut R,
    ) -> Result<Release, Fault> {
        let Some(expected) = self.queue.pop_front() else { return Ok(Release::Pass) };
        let Some(key) = command_of(&expected) else { return Ok(Release::Pass) };
        let report = self.commands.get(key).and_then(|running| {
            let duty = running.duty.as_ref()?;
            Some(self.readable(duty.report(duty.stop?)))
        });
        let Some(report) = report else { return Ok(Release::Pass) };
        let message = report.message.clone();
        let parts = Parts {
            status: Status::Error,
            executed: Some(true),
            rows: None,
            code: Some(report.code),
            message: Some(&message),
        };
        self.finish(key, &parts, recorder)?;
        self.queue.push_front(Expected::Refused { report: Box::new(report), extended });
        if extended {
            self.upward.extend_from_slice(&must_fail(true));
        } else {
            // The target has still to say that it is ready; then it fails, and is ready again.
            self.ready_dropped = true;
        }
        Ok(Release::Drop)
    }

    /// Answers that are read.
    fn answer<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        tag: u8,
        body: &[u8],
        recorder: &mut R,
    ) -> Result<Release, Fault> {
        if matches!(self.queue.front(), Some(Expected::Asked { .. })) && !matches!(tag, b'S' | b'N' | b'A') {
            return Ok(self.asked(tag, body));
        }
        match (tag, self.queue.front()) {
            (b'E', Some(Expected::Refused { .. } | Expected::Injected { .. })) => {
                return self.failed_as_meant(body);
            }
            (b'C', Some(Expected::Injected { .. })) => return Ok(Release::Drop),
            (b'C', Some(Expected::Refused { .. })) => return Err(not_refused()),
            (b'Z', _) if std::mem::take(&mut self.ready_dropped) => {
                self.upward.extend_from_slice(&must_fail(false));
                return Ok(Release::Drop);
            }
            (b'C', Some(Expected::Execute { .. })) if self.stopped().is_some() => {
                return self.too_late(true, recorder);
            }
            (b'C', Some(Expected::Statement { .. })) if self.stopped().is_some() => {
                return self.too_late(false, recorder);
            }
            (b'E', _) => return self.failed(body, recorder),
            _ => {}
        }
        match tag {
            b'C' => self.complete(backend::tag_rows(body.strip_suffix(b"\0").unwrap_or(body)), recorder),
            b'Z' => self.ready(Transaction::read(body.first().copied().unwrap_or_default()), recorder),
            b'S' => {
                if let Ok((name, value)) = backend::parameter_status(body) {
                    if name == b"search_path" {
                        self.changes += 1;
                    }
                    self.following.reports(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value));
                }
                Ok(())
            }
            b't' => {
                let described = match self.queue.front() {
                    Some(Expected::DescribeStatement { name }) => self.statements.peek(name),
                    _ => None,
                };
                if let (Some(statement), Ok(types)) = (described, backend::parameter_description(body)) {
                    statement.types.replace(types.into());
                }
                Ok(())
            }
            _ => Ok(()),
        }?;
        Ok(Release::Pass)
    }

    /// An answer to the gateway's own question.
    fn asked(&mut self, tag: u8, body: &[u8]) -> Release {
        let Some(Expected::Asked { answers }) = self.queue.front_mut() else { return Release::Pass };
        match tag {
            // One column, and the length of its value.
            b'D' => {
                if let [0, 1, _, _, _, _, value @ ..] = body {
                    if answers.len() < SETTINGS_ASKED {
                        answers.push(String::from_utf8_lossy(value).into_owned());
                    } else {
                        self.vouched_for(value);
                    }
                }
            }
            b'E' if Received::parse(body).is_fatal() => {
                self.target_said_goodbye = true;
                return Release::Pass;
            }
            b'Z' => {
                self.following.told(answers.first().map(String::as_str), answers.get(1).map(String::as_str));
                self.statements.keep_vouched();
                self.changes += 1;
                self.queue.pop_front();
            }
            _ => {}
        }
        Release::Drop
    }

    /// The target has said what one name of a prepared statement stands for, as [`NAMES_QUESTION`] asks.
    ///
    /// [`NAMES_QUESTION`]: super::client::NAMES_QUESTION
    fn vouched_for(&mut self, value: &[u8]) {
        let Some((hex, name)) = value.split_first_chunk::<SHA256_HEX_LEN>() else { return };
        self.statements.vouch(name, |statement| {
            let hash = digest(&SHA256, &statement.text);
            let digits =
                |byte: &u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef".get(usize::from(digit)));
            hash.as_ref().iter().flat_map(digits).eq(hex.iter().map(Some))
        });
    }

    /// What must fail has failed, or the gateway's own statement has.
    fn failed_as_meant(&mut self, body: &[u8]) -> Result<Release, Fault> {
        if Received::parse(body).is_fatal() {
            self.target_said_goodbye = true;
            return Ok(Release::Pass);
        }
        // Whoever meant it, what the transaction has set is undone.
        self.following.failed();
        match self.queue.pop_front() {
            Some(Expected::Refused { report, extended }) => {
                self.skipping = extended;
                Ok(Release::Replace(report.to_bytes()))
            }
            Some(Expected::Injected { simple }) => {
                if simple {
                    // The target now takes the query behind it for part of a pipeline, and waits for its Sync.
                    self.upward.extend_from_slice(&crate::wire::packet::message(b'S', |_| {}));
                } else {
                    self.skipping = true;
                }
                Ok(Release::Pass)
            }
            other => {
                self.queue.extend(other);
                Ok(Release::Pass)
            }
        }
    }

    /// The target asks for COPY data. What ended the data may have been sent already: behind all of a simple query. A
    /// Sync before that, which only goes on if the command was not known for what it is, the target ignores.
    fn copy_in_begins(&mut self) {
        let simple = matches!(self.queue.front(), Some(Expected::Statement { .. } | Expected::Opaque { .. }));
        let (mut place, mut in_query) = (1, simple);
        while let Some(next) = self.queue.get(place) {
            match next {
                Expected::Statement { .. } if in_query => place += 1,
                Expected::Ready { sync: false, .. } if in_query => {
                    in_query = false;
                    place += 1;
                }
                Expected::Ready { sync: true, .. } => {
                    self.queue.remove(place);
                }
                Expected::CopyEnd => {
                    self.queue.remove(place);
                    return;
                }
                _ => break,
            }
        }
        self.copying_in = true;
    }

    /// Nothing before it waits for its answer any more, so there was no COPY to end, or it had failed: the target
    /// ignores it.
    fn skip_stray_copy_ends(&mut self) {
        while matches!(self.queue.front(), Some(Expected::CopyEnd)) {
            self.queue.pop_front();
        }
    }

    /// A command is complete.
    fn complete<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        rows: Option<u64>,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        self.copying_in = false;
        let parts = Parts { rows, ..Parts::default() };
        match self.queue.front_mut() {
            Some(Expected::Statement { command }) => {
                let key = *command;
                self.queue.pop_front();
                self.finish(key, &parts, recorder)
            }
            Some(Expected::Execute { command }) => {
                let key = *command;
                self.queue.pop_front();
                key.map_or(Ok(()), |key| self.finish(key, &parts, recorder))
            }
            Some(Expected::Opaque { command, statement }) => {
                let statement = Rc::clone(statement);
                let key = match command.take() {
                    Some(key) => key,
                    // One more completion of a text that we can't take apart.
                    None => self.acknowledge(&statement, 0, recorder)?,
                };
                self.finish(key, &parts, recorder)
            }
            // A completion that nothing was waiting for, such as a further one of a statement.
            _ => self.unattached("COMPLETION", &parts, recorder),
        }
    }

    /// The target reports an error.
    fn failed<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        body: &[u8],
        recorder: &mut R,
    ) -> Result<Release, Fault> {
        self.copying_in = false;
        self.following.failed();
        let received = Received::parse(body);
        let mut code = received.sqlstate();
        let status = if code == Some(QUERY_CANCELED) { Status::Cancelled } else { Status::Error };
        let mut message = shortened(received.message);
        let running = self.queue.front().and_then(command_of).and_then(|key| self.commands.get(key));
        let duty = running.and_then(|running| running.duty.as_ref());
        let stopped =
            duty.filter(|_| status == Status::Cancelled).and_then(|duty| Some(duty.report(duty.stop?)));
        let mut release = Release::Pass;
        if let Some(report) = stopped {
            let report = self.readable(report);
            code = Some(report.code);
            message = std::borrow::Cow::Owned(report.message.clone());
            release = Release::Replace(report.to_bytes());
        }
        let parts = Parts { status, executed: Some(true), rows: None, code, message: Some(&message) };
        self.target_said_goodbye |= received.is_fatal();
        let told: Result<(), Fault> = match self.queue.pop_front() {
            Some(Expected::Statement { command }) => {
                self.finish(command, &parts, recorder)?;
                self.skip_statements(recorder)
            }
            Some(Expected::Opaque { command, statement }) => {
                let key = match command {
                    Some(key) => key,
                    None => self.acknowledge(&statement, 0, recorder)?,
                };
                self.finish(key, &parts, recorder)
            }
            Some(Expected::Execute { command }) => {
                self.skipping = true;
                command.map_or(Ok(()), |key| self.finish(key, &parts, recorder))
            }
            Some(Expected::Bind { name, opened, command }) => {
                self.skipping = true;
                self.undo_bind(&name, opened);
                // Nothing is executed before Execute, but planning may have run functions.
                self.finish(command, &parts, recorder)
            }
            Some(Expected::Parse { name, opened, statement, bytes_in }) => {
                self.skipping = true;
                self.undo_parse(&name, opened);
                self.params.clear();
                let key =
                    self.acknowledge(&statement, usize::try_from(bytes_in).unwrap_or(usize::MAX), recorder)?;
                self.finish(key, &Parts { executed: Some(false), ..parts }, recorder)
            }
            Some(
                other @ (Expected::DescribeStatement { .. }
                | Expected::DescribePortal
                | Expected::CloseStatement { .. }
                | Expected::ClosePortal { .. }),
            ) => {
                self.skipping = true;
                self.undo(other);
                self.unattached("DESCRIBE", &parts, recorder)
            }
            // The session ends while no command is under way; its end tells of it.
            Some(ready @ Expected::Ready { .. }) if received.is_fatal() => {
                self.queue.push_front(ready);
                Ok(())
            }
            // What fails at the end of a segment: a deferred constraint when an implicit transaction commits.
            Some(ready @ Expected::Ready { .. }) => {
                self.queue.push_front(ready);
                self.unattached("COMMIT", &parts, recorder)
            }
            // Those of the gateway's own are looked at before.
            Some(
                Expected::CopyEnd
                | Expected::Refused { .. }
                | Expected::Injected { .. }
                | Expected::Asked { .. },
            ) => Ok(()),
            // Said to nobody in particular: the target shuts down, or ends an idle session.
            None => Ok(()),
        };
        told.map(|()| release)
    }

    /// Of a simple query, the statements behind the failed one are not run.
    fn skip_statements<R: Recorder<Permit = P, Hold = H>>(&mut self, recorder: &mut R) -> Result<(), Fault> {
        while let Some(Expected::Statement { command }) = self.queue.front() {
            let key = *command;
            self.queue.pop_front();
            self.finish(key, &Parts::skipped(SKIPPED), recorder)?;
        }
        Ok(())
    }

    /// The target is ready: a segment is over.
    fn ready<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        transaction: Transaction,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        self.copying_in = false;
        let must_be_sync = std::mem::take(&mut self.skipping);
        let mut skipped = Vec::new();
        let ends_here = |expected: &Expected| match expected {
            Expected::Ready { sync, .. } => *sync || !must_be_sync,
            _ => false,
        };
        // A Sync that the target took for part of a COPY leaves one answer without its question: then nothing is
        // skipped on its account.
        if self.queue.iter().any(ends_here) {
            while let Some(expected) = self.queue.pop_front() {
                if let Expected::Ready { segment, sync } = expected {
                    self.answered = segment;
                    if sync || !must_be_sync {
                        break;
                    }
                } else {
                    skipped.push(expected);
                }
            }
        }
        self.skipped(skipped, recorder)?;
        self.transaction = transaction;
        if self.queue.is_empty() {
            self.transaction_may_end = false;
        }
        self.following.ready(match transaction {
            Transaction::Idle => TransactionStatus::Idle,
            Transaction::Open => TransactionStatus::Open,
            Transaction::Failed => TransactionStatus::Failed,
        });
        if transaction == Transaction::Idle {
            // What was sent since may have begun another, and written in it.
            if !self.queue.iter().any(|expected| command_of(expected).is_some()) {
                recorder.outside_transaction();
            }
            if !self.portals.is_empty() {
                // Portals end with their transaction.
                for portal in self.portals.drain_confirmed() {
                    self.close_portal(&portal, recorder)?;
                }
            }
        }
        Ok(())
    }

    /// What the target has skipped, oldest first.
    fn skipped<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        skipped: Vec<Expected>,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        for expected in skipped.into_iter().rev() {
            let key = command_of(&expected);
            self.undo(expected);
            if let Some(key) = key.filter(|key| self.commands.get(*key).is_some()) {
                self.finish(key, &Parts::skipped(SKIPPED), recorder)?;
            }
        }
        Ok(())
    }

    /// The target skips all that is under way, up to a Sync that the client has not sent yet.
    pub(super) fn skip_all<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let mut skipped = Vec::with_capacity(self.queue.len());
        while let Some(expected) = self.queue.pop_front() {
            match expected {
                Expected::Ready { segment, .. } => self.answered = segment,
                other => skipped.push(other),
            }
        }
        self.skipped(skipped, recorder)
    }

    /// The client asked for it, and the target did not do it.
    fn undo(&mut self, expected: Expected) {
        match expected {
            Expected::Parse { name, opened, .. } => self.undo_parse(&name, opened),
            Expected::Bind { name, opened, .. } => self.undo_bind(&name, opened),
            Expected::CloseStatement { name, id: Some(id) } => self.statements.undo_close(&name, id),
            Expected::ClosePortal { name, id: Some(id) } => self.portals.undo_close(&name, id),
            _ => {}
        }
    }

    /// A statement did not come to be. What was asked for behind it under the same name replaces what it would have.
    fn undo_parse(&mut self, name: &[u8], opened: Opened<Rc<super::Statement>>) {
        let Some(undone) = self.statements.undo_open(name, opened) else { return };
        for expected in &mut self.queue {
            if let Expected::Parse { opened: later, .. } = expected
                && later.has_replaced(undone.id)
            {
                later.replaced = undone.replaced;
                return;
            }
        }
    }

    /// As [`undo_parse`](Self::undo_parse), of a portal.
    fn undo_bind(&mut self, name: &[u8], opened: Opened<Portal>) {
        let Some(undone) = self.portals.undo_open(name, opened) else { return };
        for expected in &mut self.queue {
            if let Expected::Bind { opened: later, .. } = expected
                && later.has_replaced(undone.id)
            {
                later.replaced = undone.replaced;
                return;
            }
        }
    }

    /// SQL has named a statement.
    fn prepared(&mut self, name: &[u8], statement: super::Statement) {
        if let Some(beneath) = self.statements.set(name, Rc::new(statement))
            && let Some(asked_for) = self.first_asked_for(name)
        {
            asked_for.replaced = Some(beneath);
        }
    }

    /// SQL has freed names of statements.
    fn deallocated(&mut self, freed: &Freed) {
        match freed {
            Freed::One(name) => {
                let name = name.as_bytes();
                if self.statements.free(name).is_none()
                    && let Some(asked_for) = self.first_asked_for(name)
                {
                    asked_for.replaced = None;
                }
            }
            Freed::All => self.statements.free_all(),
        }
    }

    /// The Parse of this name that the target answers next: what stands there now is what it replaces.
    fn first_asked_for(&mut self, wanted: &[u8]) -> Option<&mut Opened<Rc<super::Statement>>> {
        self.queue.iter_mut().find_map(|expected| match expected {
            Expected::Parse { name, opened, .. } if **name == *wanted => Some(opened),
            _ => None,
        })
    }

    /// A portal is gone: whatever it has not done will not happen.
    fn close_portal<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        portal: &Portal,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        let Some(key) = portal.command else { return Ok(()) };
        let Some(running) = self.commands.get(key) else { return Ok(()) };
        if running.executes > 0 {
            return Ok(());
        }
        let parts = if running.ran {
            Parts { message: Some(SUSPENDED), ..Parts::default() }
        } else {
            Parts::skipped(NEVER_EXECUTED)
        };
        self.finish(key, &parts, recorder)
    }

    /// A command has its outcome.
    pub(super) fn finish<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        key: CommandKey,
        parts: &Parts<'_>,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        self.keep_rows(key, recorder)?;
        let Some(running) = self.commands.remove(key) else { return Ok(()) };
        let statement = Rc::clone(&running.statement);
        let unheard = self.client_gone.then_some(CLIENT_GONE);
        running.observe(recorder, &Parts { message: parts.message.or(unheard), ..*parts })?;
        if parts.status == Status::Ok {
            self.take_effect(&statement);
            if let Some(cursor) = &statement.declares
                && let Some(portal) = self.portals.free(cursor.name.as_bytes())
            {
                // SQL can close what the protocol has bound: only then is the name free for a cursor.
                self.close_portal(&portal, recorder)?;
            }
        } else if parts.executed != Some(false) && Duty::may_commit(statement.known.facts()) {
            // As far as to a COMMIT of its own it may have run.
            self.following.code_ran();
        }
        Ok(())
    }

    /// What a command that succeeded changes in the session.
    fn take_effect(&mut self, statement: &Rc<super::Statement>) {
        let facts = statement.known.facts();
        self.following.completed(facts);
        if let Some(cursor) = &statement.declares {
            self.cursors.declared(&cursor.name, Arc::clone(&cursor.facts));
        } else if matches!(facts.class, Class::Execute | Class::Unknown) {
            self.cursors.forget();
        }
        if !facts.settings.is_empty() || self.following.in_doubt() {
            self.mark = new_mark();
        }
        if let Some(prepared) = &statement.prepares {
            let inner = super::Statement {
                text: statement.text.clone(),
                known: Rc::new(Known::new(Arc::clone(&prepared.facts))),
                prepares: None,
                declares: None,
                frees: None,
                copies_in: false,
                path: Some(Arc::clone(self.following.path())),
                by_name: statement.by_name,
                types: std::cell::RefCell::default(),
                _charge: Some(super::Charge::new(&self.prepared_bytes, statement.text.len())),
            };
            self.prepared(prepared.name.as_bytes(), inner);
        }
        if let Some(freed) = &statement.frees {
            self.deallocated(freed);
        }
    }

    /// An answer that belongs to no command gets an entry of its own.
    fn unattached<R: Recorder<Permit = P, Hold = H>>(
        &mut self,
        verb: &str,
        parts: &Parts<'_>,
        recorder: &mut R,
    ) -> Result<(), Fault> {
        self.params.clear();
        let known = Rc::new(Known::new(Arc::new(Facts::plain(verb, Class::Session))));
        let key = self.acknowledge(&Rc::new(plain(b"", known)), 0, recorder)?;
        self.finish(key, parts, recorder)
    }
}

fn not_refused() -> Fault {
    Fault::Target("it took what stands for a refused command for a statement".to_owned())
}

/// Whether an answer has to be there as a whole before it is looked at.
const fn read_whole(tag: u8) -> bool {
    matches!(tag, b'C' | b'E' | b'Z' | b'S' | b't')
}

/// A message as the trail keeps it: valid UTF-8, and not without end.
fn shortened(message: &[u8]) -> std::borrow::Cow<'_, str> {
    match message.get(..MAX_ERROR_MESSAGE_BYTES) {
        None => String::from_utf8_lossy(message),
        Some(head) => format!("{}… ({} bytes in all)", String::from_utf8_lossy(head), message.len()).into(),
    }
}
