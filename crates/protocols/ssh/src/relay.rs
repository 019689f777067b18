//! Bytes of a running program, both ways: counted, kept, read where they can be, and its end told to the trail before it is
//! told to the client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg as TargetMsg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use session::{CaptureField, Cleared, Guarded, NotRecorded, Permit};
use tokio::sync::Notify;
use trail::record::{NotKept, OutcomeRecord};
use vocabulary::{Class, Facts, Status};

use crate::client_side::ClientChannel;
use crate::command::Asking;
use crate::files::{Inside, Stop};
use crate::inbox::Event;
use crate::keep::{Keep, LeftOut};
use crate::lines::Lines;
use crate::outflow::{Outflow, Thirst};
use crate::program::{Running, say_and_close};
use crate::refusal;
use crate::screen::{Screen, Shown};
use crate::shell::launch;
use crate::shell::marker::Key;
use crate::visit::{Client, Verdict, Visit, outcome};

/// How long the target may take to read what a client sent before it left.
pub(crate) const LAST_INPUT_TIME: Duration = Duration::from_secs(2);

/// How long a program may go on after the end of its output, before a client that still has input hears of that end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How a program ended, as the target told it.
#[derive(Clone, Debug)]
enum Exit {
    /// With a status.
    Status(u32),
    /// By a signal.
    Signal { name: Sig, core: bool, message: String },
}

/// Why a relay is over.
enum Over {
    /// The target closed the channel.
    Closed,
    /// The connection to the target broke, without the program's end being known.
    Broken,
    /// The client closed the channel, or went away.
    Client,
    /// The session was ended.
    Session,
    /// What is in the channel may not go on.
    Stopped(Stop),
}

/// What a target sends on a channel; first what it has sent before the relay began.
pub(crate) struct Reading {
    early: VecDeque<ChannelMsg>,
    read: ChannelReadHalf,
}

impl Reading {
    pub(crate) const fn new(read: ChannelReadHalf) -> Self {
        Self { early: VecDeque::new(), read }
    }

    /// Waits for a shell to say hello, and gives it what makes it tell what it runs.
    pub(crate) async fn hand_over(
        &mut self,
        write: &Guarded<ChannelWriteHalf<TargetMsg>>,
        cleared: &Cleared,
        key: &Key,
    ) {
        launch::hand_over(&mut self.read, &mut self.early, write, cleared, key).await;
    }

    /// The next message. May be given up and asked for again.
    pub(crate) async fn wait(&mut self) -> Option<ChannelMsg> {
        match self.early.pop_front() {
            Some(message) => Some(message),
            None => self.read.wait().await,
        }
    }
}

/// A terminal, and what became of the lines in it.
struct Shell {
    screen: RefCell<Screen>,
    lines: RefCell<Lines>,
    /// Something waits for time to pass.
    waits: Notify,
}

/// What is known of a running program so far; both directions share it.
struct Streams {
    stdin: Keep,
    stdout: Keep,
    stderr: Keep,
    exit: Option<Exit>,
    /// Whether the client has no more input.
    input_over: bool,
    /// Whether the target has no more output.
    output_over: bool,
    /// Whether the client was told that there is no more output.
    ended: bool,
}

impl Streams {
    /// What caps have left out. What was run on standard input stands before what came of it.
    fn left_out(&self) -> [(&'static str, Option<NotKept>); 3] {
        [
            ("standard input", self.stdin.not_kept()),
            ("standard output", self.stdout.not_kept()),
            ("standard error", self.stderr.not_kept()),
        ]
    }
}

/// Carries bytes both ways until one side ends it, then tells the trail and the client.
pub(crate) async fn relay(
    visit: &Visit,
    channel: &ClientChannel,
    permit: Permit,
    cleared: Cleared,
    running: Running,
    inside: Inside,
    screen: Option<RefCell<Screen>>,
) -> Result<(), NotRecorded> {
    let Running { lent, mut read, write, own: extras } = running;
    let terminal = screen.is_some();
    let settings = &visit.settings;
    // Files have entries of their own, with their digests, and a terminal has its recording.
    let kept = |is_own, cap| if screen.is_none() && is_own { Keep::new(cap) } else { Keep::count() };
    let (own_input, own_output) = inside.is_own();
    let streams = RefCell::new(Streams {
        stdin: kept(own_input, settings.keep_input_bytes),
        stdout: kept(own_output, settings.keep_output_bytes),
        stderr: Keep::new(settings.keep_output_bytes),
        exit: None,
        input_over: false,
        output_over: false,
        ended: false,
    });
    let shell = screen.map(|screen| Shell { screen, lines: RefCell::default(), waits: Notify::new() });
    let over = {
        let side = Side {
            visit,
            channel,
            permit: &permit,
            streams: &streams,
            inside: &inside,
            shell: shell.as_ref(),
            thirst: Thirst::default(),
        };
        let inbound = side.inbound(&write, &cleared);
        let outbound = side.outbound(Outflow::new(&mut read, &visit.held));
        tokio::select! {
            over = outbound => over?,
            over = inbound => over?,
            over = side.in_time() => over?,
            () = left(channel) => Over::Client,
            () = visit.until_ended() => Over::Session,
        }
    };
    inside.over(visit).await?;
    let streams = streams.into_inner();
    let (mut record, sentence) = told(&over, &streams);
    let mut left_out = streams.left_out();
    if let Some(Shell { screen, lines, .. }) = shell {
        let (mut screen, mut lines) = (screen.into_inner(), lines.into_inner());
        let Shown { recording, seen, .. } = screen.over(record.exit);
        keep(visit, &permit, CaptureField::Recording, &recording)?;
        seen.into_iter().try_for_each(|seen| lines.tell(visit, &permit, seen))?;
        let (output, input) = screen.not_kept();
        let [.., stderr] = left_out;
        left_out = [("the terminal's input", input), ("the terminal's output", output), stderr];
    }
    let left_out = LeftOut::of(left_out);
    record.not_kept = left_out.first;
    let message = [sentence.clone(), left_out.message].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let message = Some(message.as_str()).filter(|message| !message.is_empty());
    visit.observe(permit, OutcomeRecord { message, ..record }).await?;
    match over {
        Over::Closed => {
            finish(visit, channel, streams.exit, streams.ended).await;
            // What was asked for on this connection (an agent, windows) is for this client alone.
            if !extras {
                visit.give_back(lent);
            }
        }
        Over::Broken | Over::Session => {
            let sentence = sentence.unwrap_or_default();
            say_and_close(channel, &sentence, refusal::NO_CONNECTION, terminal).await;
            lent.connection.close().await;
        }
        Over::Stopped(Stop { sentence, exit }) => {
            say_and_close(channel, &sentence, exit, terminal).await;
            lent.connection.close().await;
        }
        // As without the gateway, the program loses its connection with its client.
        Over::Client => lent.connection.close().await,
    }
    Ok(())
}

/// What came of the program, for the trail; the sentence is its message.
fn told(over: &Over, streams: &Streams) -> (OutcomeRecord<'static>, Option<String>) {
    let (status, executed, sentence) = match (over, &streams.exit) {
        (Over::Closed, Some(Exit::Status(0))) => (Status::Ok, Some(true), None),
        (Over::Closed, Some(Exit::Status(_))) => (Status::Error, Some(true), None),
        (Over::Closed, Some(Exit::Signal { name, core, message })) => {
            let core = if *core { " (core dumped)" } else { "" };
            (
                Status::Error,
                Some(true),
                Some(format!("ended by signal {name:?}{core} {message}").trim().to_owned()),
            )
        }
        // Subsystems, and servers that do not tell.
        (Over::Closed, None) => (Status::Ok, Some(true), Some("the target told no exit status".to_owned())),
        (Over::Broken, _) => {
            (Status::Unknown, None, Some("the connection to the target broke while it ran".to_owned()))
        }
        (Over::Client, _) => {
            (Status::Cancelled, Some(true), Some("the client went away while it ran".to_owned()))
        }
        (Over::Session, _) => {
            (Status::Cancelled, Some(true), Some("the gateway ended the session while it ran".to_owned()))
        }
        (Over::Stopped(stop), _) => (Status::Cancelled, Some(true), Some(stop.sentence.clone())),
    };
    let exit = match &streams.exit {
        Some(Exit::Status(status)) => i32::try_from(*status).ok(),
        Some(Exit::Signal { .. }) | None => None,
    };
    let record = OutcomeRecord {
        executed,
        exit,
        bytes_in: streams.stdin.bytes(),
        bytes_out: streams.stdout.bytes().saturating_add(streams.stderr.bytes()),
        ..outcome(status)
    };
    (record, sentence)
}

/// Returns when the client is gone, and what it had sent has had its time to reach the target.
pub(crate) async fn left(channel: &ClientChannel) {
    channel.inbox.until_gone().await;
    tokio::time::sleep(LAST_INPUT_TIME).await;
}

/// What both directions of a relay share.
struct Side<'a> {
    visit: &'a Visit,
    channel: &'a ClientChannel,
    permit: &'a Permit,
    streams: &'a RefCell<Streams>,
    inside: &'a Inside,
    shell: Option<&'a Shell>,
    thirst: Thirst,
}

impl Side<'_> {
    /// From the client to the target. Ends only when the client is gone, or what it sends may not go on.
    async fn inbound(
        &self,
        write: &Guarded<ChannelWriteHalf<TargetMsg>>,
        cleared: &Cleared,
    ) -> Result<Over, NotRecorded> {
        loop {
            let sent = match self.channel.inbox.next().await {
                Event::Data(data) => match self.input(write, cleared, data).await? {
                    Ok(sent) => sent,
                    Err(stop) => return Ok(Over::Stopped(stop)),
                },
                Event::Eof => {
                    self.streams.borrow_mut().input_over = true;
                    write.forward(cleared).eof().await
                }
                Event::Resize([columns, rows, width, height]) => {
                    self.resized(columns, rows)?;
                    write.forward(cleared).window_change(columns, rows, width, height).await
                }
                Event::Signal(signal) => match signalled(self.visit, &signal).await? {
                    Some(proof) => write.forward(&proof).signal(signal).await,
                    None => Ok(()),
                },
                Event::Gone => {
                    self.inside.settled().await;
                    return Ok(Over::Client);
                }
            };
            if sent.is_err() {
                // The target's half tells how it ended.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A program's input.
    async fn input(
        &self,
        write: &Guarded<ChannelWriteHalf<TargetMsg>>,
        cleared: &Cleared,
        data: Bytes,
    ) -> Result<Result<Result<(), russh::Error>, Stop>, NotRecorded> {
        let kept = self.streams.borrow_mut().stdin.take(&data).len();
        keep(self.visit, self.permit, CaptureField::Stdin, data.get(..kept).unwrap_or_default())?;
        if let Some(shell) = self.shell {
            let line = shell.screen.borrow_mut().input(&data);
            keep(self.visit, self.permit, CaptureField::Recording, &line)?;
        }
        let mut data = data;
        loop {
            match self.inside.to_target(self.visit, &self.client(), &mut data).await? {
                Ok(Some(data)) => {
                    if let Err(error) = self.thirst.watch(write.forward(cleared).data_bytes(data)).await {
                        return Ok(Ok(Err(error)));
                    }
                }
                Ok(None) => return Ok(Ok(Ok(()))),
                Err(stop) => return Ok(Err(stop)),
            }
        }
    }

    /// Who hears of what is held inside of the channel.
    const fn client(&self) -> Client<'_> {
        Client::Channel { channel: self.channel, terminal: self.shell.is_some() }
    }

    /// What a terminal shows: recorded, and read for what runs in it. Returns what the client gets to see.
    fn shown(&self, data: Bytes) -> Result<Bytes, NotRecorded> {
        let Some(shell) = self.shell else { return Ok(data) };
        let shown = shell.screen.borrow_mut().output(data);
        self.tell(shell, shown)
    }

    /// Puts what came of a terminal's output into the trail.
    fn tell(&self, shell: &Shell, shown: Shown) -> Result<Bytes, NotRecorded> {
        keep(self.visit, self.permit, CaptureField::Recording, &shown.recording)?;
        let mut lines = shell.lines.borrow_mut();
        shown.seen.into_iter().try_for_each(|seen| lines.tell(self.visit, self.permit, seen))?;
        if shell.screen.borrow().due().is_some() {
            shell.waits.notify_one();
        }
        Ok(shown.data)
    }

    /// Tells what was read off a terminal and has waited long enough for the shell to tell it better. Never ends.
    async fn in_time(&self) -> Result<Over, NotRecorded> {
        let Some(shell) = self.shell else { return std::future::pending().await };
        loop {
            let due = shell.screen.borrow().due();
            let Some(due) = due else {
                shell.waits.notified().await;
                continue;
            };
            tokio::time::sleep_until(due.into()).await;
            let seen = shell.screen.borrow_mut().tick();
            self.tell(shell, Shown { seen, ..Shown::default() })?;
        }
    }

    fn resized(&self, columns: u32, rows: u32) -> Result<(), NotRecorded> {
        let Some(shell) = self.shell else { return Ok(()) };
        let line = shell.screen.borrow_mut().resize(columns, rows);
        keep(self.visit, self.permit, CaptureField::Recording, &line)
    }

    /// From the target to the client. Ends when the target has closed the channel, or is gone.
    async fn outbound(&self, mut from: Outflow<'_>) -> Result<Over, NotRecorded> {
        let (channel, streams) = (self.channel, self.streams);
        loop {
            let message = tokio::select! {
                biased;
                message = from.next() => message,
                () = self.inside.own_answer() => {
                    if let Err(stop) = self.output(&mut from, Bytes::new()).await? {
                        return Ok(Over::Stopped(stop));
                    }
                    continue;
                }
                () = self.end_is_due() => {
                    streams.borrow_mut().ended = true;
                    let _ = channel.write.eof().await;
                    continue;
                }
            };
            // A client that is gone is noticed elsewhere: what can't be sent to it is dropped.
            match message {
                Some(ChannelMsg::Data { data }) => {
                    if let Err(stop) = self.output(&mut from, data).await? {
                        return Ok(Over::Stopped(stop));
                    }
                }
                Some(ChannelMsg::ExtendedData { data, ext }) => {
                    let kept = streams.borrow_mut().stderr.take(&data).len();
                    keep(
                        self.visit,
                        self.permit,
                        CaptureField::Stderr,
                        data.get(..kept).unwrap_or_default(),
                    )?;
                    let data = self.shown(data)?;
                    let said = channel.write.extended_data_bytes(ext, data);
                    let _ = from.meanwhile(&self.thirst, said).await;
                }
                Some(ChannelMsg::Eof) => {
                    self.drained(&mut from).await?;
                    streams.borrow_mut().output_over = true;
                }
                // Told to the client when the trail has it.
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    streams.borrow_mut().exit = Some(Exit::Status(exit_status));
                }
                Some(ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, .. }) => {
                    let exit = Exit::Signal { name: signal_name, core: core_dumped, message: error_message };
                    streams.borrow_mut().exit = Some(exit);
                }
                Some(ChannelMsg::Close) => return Ok(Over::Closed),
                None => {
                    // A connection that breaks after the program has told its end loses nothing.
                    let known = streams.borrow().exit.is_some();
                    return Ok(if known { Over::Closed } else { Over::Broken });
                }
                Some(_) => {}
            }
        }
    }

    /// The end of the output: what was held back of it, since it could have become a marker or a line of scp's.
    async fn drained(&self, from: &mut Outflow<'_>) -> Result<(), NotRecorded> {
        let mut rest = self.inside.rest_of_target();
        if let Some(shell) = self.shell {
            let shown = shell.screen.borrow_mut().drained();
            let held = self.tell(shell, shown)?;
            self.streams.borrow_mut().stdout.take(&held);
            rest = [rest, held].concat().into();
        }
        if !rest.is_empty() {
            drop(from.meanwhile(&self.thirst, self.channel.write.data_bytes(rest)).await);
        }
        Ok(())
    }

    /// Returns when the client has to hear that there is no more output although the program goes on.
    ///
    /// A client whose input is over too closes the channel then, and the library answers that by itself: an exit status
    /// would come too late. So the end of the output waits for the program's own, which nearly always follows at once. A
    /// client that still has input may be waiting for the end of the output before it ends that.
    async fn end_is_due(&self) {
        let due = || {
            let streams = self.streams.borrow();
            streams.output_over && !streams.ended && !streams.input_over
        };
        if due() {
            tokio::time::sleep(END_PATIENCE).await;
            if due() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// A program's output.
    async fn output(&self, from: &mut Outflow<'_>, data: Bytes) -> Result<Result<(), Stop>, NotRecorded> {
        let data = self.shown(data)?;
        let kept = self.streams.borrow_mut().stdout.take(&data).len();
        keep(self.visit, self.permit, CaptureField::Stdout, data.get(..kept).unwrap_or_default())?;
        let mut data = data;
        loop {
            match self.inside.to_client(self.visit, &self.client(), &mut data).await? {
                Ok(Some(data)) => {
                    drop(from.meanwhile(&self.thirst, self.channel.write.data_bytes(data)).await);
                }
                Ok(None) => return Ok(Ok(())),
                Err(stop) => return Ok(Err(stop)),
            }
        }
    }
}

/// A signal is a command of its own.
async fn signalled(visit: &Visit, signal: &Sig) -> Result<Option<Cleared>, NotRecorded> {
    let facts = Facts::plain("SIGNAL", Class::Execute);
    let asking = Asking::new(facts, format!("signal {signal:?}"));
    match visit.judge(&asking, &Client::Nobody).await? {
        Verdict::Permit(permit, _) => {
            let outcome = OutcomeRecord { executed: Some(true), ..outcome(Status::Ok) };
            visit.observe(permit, outcome).await.map(Some)
        }
        Verdict::Refused(..) => Ok(None),
    }
}

/// Puts a part of a stream into the trail, before it goes on.
pub(crate) fn keep(
    visit: &Visit,
    permit: &Permit,
    field: CaptureField,
    data: &[u8],
) -> Result<(), NotRecorded> {
    if data.is_empty() {
        return Ok(());
    }
    // Pieces never wait for the disk by themselves: the outcome behind them does.
    visit.turn(|turn| turn.capture(permit, field, data)).map(drop)
}

/// Tells the client how its program ended, and closes the channel.
async fn finish(visit: &Visit, channel: &ClientChannel, exit: Option<Exit>, ended: bool) {
    // Errors mean that the client is gone.
    match exit {
        Some(Exit::Status(status)) => {
            let _ = channel.write.exit_status(status).await;
        }
        Some(Exit::Signal { name, core, message }) => {
            let _ = visit.client.exit_signal_request(channel.id, name, core, message, String::new()).await;
        }
        None => {}
    }
    if !ended {
        let _ = channel.write.eof().await;
    }
    let _ = channel.write.close().await;
}
