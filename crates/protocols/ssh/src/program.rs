//! One program on one channel: judged, started, relayed, and its end told to the trail before it is told to the client.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use russh::client::Msg as TargetMsg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use session::{CaptureField, Cleared, Guarded, NotRecorded};
use trail::record::OutcomeRecord;
use vocabulary::Status;

use crate::client_side::{ClientChannel, Program, Setup};
use crate::command::Asking;
use crate::files::Inside;
use crate::forward;
use crate::pool::Lent;
use crate::refusal;
use crate::relay::{Reading, keep, relay};
use crate::screen::Screen;
use crate::shell::launch;
use crate::shell::marker::Key;
use crate::target_url::Address;
use crate::visit::{Client, Opens, Verdict, Visit, outcome};

/// Extended data of a program's standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// How long a target may take to answer a request.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Runs a program for a client, from judging it to its end.
///
/// # Errors
/// When the trail can't take a record: the session must end.
pub(crate) async fn run(
    visit: &Visit,
    channel: ClientChannel,
    setup: Setup,
    program: Program,
) -> Result<(), NotRecorded> {
    let terminal = setup.terminal.is_some();
    let asking = Asking::of_program(&program, &setup);
    let (permit, cleared) =
        match visit.judge(&asking, &Client::Channel { channel: &channel, terminal }).await? {
            Verdict::Permit(permit, cleared) => (permit, cleared),
            Verdict::Refused(sentence, exit) => {
                say_and_close(&channel, &sentence, exit, terminal).await;
                return Ok(());
            }
        };
    let extras = extras(visit, &setup).await?;
    let integrated = program == Program::Shell
        && setup.terminal.is_some()
        && Address::of_url(&visit.target.url).is_some_and(|address| address.shell_integration);
    // Without randomness there is no key, and a shell like any other.
    let key = integrated.then(Key::new).and_then(Result::ok);
    let asked = Cell::new(false);
    let started = tokio::select! {
        biased;
        started = start(visit, &setup, &program, key.is_some(), &cleared, extras, &asked) => started,
        () = channel.inbox.until_gone() => Err(Failure::given_up("the client went away", asked.get())),
        () = visit.until_over() => Err(Failure::given_up("the session was ended", asked.get())),
    };
    match started {
        Ok(mut running) => {
            if let Some(key) = &key {
                tokio::select! {
                    () = running.read.hand_over(&running.write, &cleared, key) => {}
                    () = channel.inbox.until_gone() => {}
                    () = visit.until_over() => {}
                }
            }
            let inside = Inside::of(&program);
            let screen = match &setup.terminal {
                Some(terminal) => {
                    let most = visit.settings.keep_recording_bytes;
                    let (screen, line) = Screen::new(terminal, &setup, &program, key, most);
                    keep(visit, &permit, CaptureField::Recording, &line)?;
                    Some(RefCell::new(screen))
                }
                None => None,
            };
            relay(visit, &channel, permit, cleared, running, inside, screen).await
        }
        Err(failure) => {
            let (why, status, executed) = failure.told();
            let outcome = OutcomeRecord { executed, message: Some(why), ..outcome(status) };
            visit.observe(permit, outcome).await?;
            say_and_close(&channel, why, refusal::NO_CONNECTION, terminal).await;
            Ok(())
        }
    }
}

/// What of the target's way back to the client is allowed: its agent, its windows.
#[derive(Clone, Copy, Default)]
struct Extras {
    agent: bool,
    x11: bool,
}

/// Judges what a client offers beside its program. What is refused is not offered to the target; the client is not told,
/// as by any server.
async fn extras(visit: &Visit, setup: &Setup) -> Result<Extras, NotRecorded> {
    let mut extras = Extras::default();
    for (wanted, privilege, what, is) in [
        (setup.agent, forward::AGENT, "agent", &mut extras.agent),
        (setup.x11.is_some(), forward::X11, "x11", &mut extras.x11),
    ] {
        if wanted && let Ok((permit, _)) = forward::allowed(visit, privilege, what).await? {
            let outcome = OutcomeRecord { executed: Some(true), ..outcome(Status::Ok) };
            visit.observe(permit, outcome).await?;
            *is = true;
        }
    }
    Ok(extras)
}

/// Why a program did not begin.
enum Failure {
    /// It certainly did not.
    NotStarted(String, Status),
    /// Nobody can tell.
    Lost(String),
}

impl Failure {
    /// Nobody waits for it any more. What the target has been asked for it may run all the same.
    fn given_up(why: &str, asked: bool) -> Self {
        if asked {
            Self::Lost(format!("{why} before the target had answered"))
        } else {
            Self::NotStarted(format!("{why} before it began"), Status::Cancelled)
        }
    }

    /// Its message, status, and whether it ran.
    fn told(&self) -> (&str, Status, Option<bool>) {
        match self {
            Self::NotStarted(why, status) => (why, *status, Some(false)),
            Self::Lost(why) => (why, Status::Unknown, None),
        }
    }
}

/// A program that runs at the target.
pub(crate) struct Running {
    pub(crate) lent: Lent,
    /// Whether the connection is for this program alone: the client's agent or windows belong to it.
    pub(crate) own: bool,
    pub(crate) read: Reading,
    pub(crate) write: Guarded<ChannelWriteHalf<TargetMsg>>,
}

/// Asks the target for the program, and says so with `sent` just before. The proof is that the intent is recorded.
async fn start(
    visit: &Visit,
    setup: &Setup,
    program: &Program,
    integrated: bool,
    cleared: &Cleared,
    extras: Extras,
    sent: &Cell<bool>,
) -> Result<Running, Failure> {
    let not_started = |why: String| Failure::NotStarted(why, Status::Error);
    let own = extras.agent || extras.x11;
    let lent = if own { visit.own_connection().await } else { visit.connection().await };
    let mut lent = lent.map_err(|error| not_started(format!("{error}; {}", error.advice())))?;
    let opened = match lent.connection.open_channel().await {
        Ok(opened) => opened,
        // A kept connection may have been closed by the target meanwhile; nothing has run yet, so another one will do.
        Err(_) => {
            let again = visit.own_connection().await;
            lent = again.map_err(|error| not_started(format!("{error}; {}", error.advice())))?;
            let opened = lent.connection.open_channel().await;
            opened.map_err(|error| not_started(format!("the target opened no channel: {error}")))?
        }
    };
    let (mut read, write) = opened.split();
    let write = Guarded::new(write);
    let target = write.forward(cleared);
    let lost = |error: russh::Error| Failure::Lost(format!("the connection to the target broke: {error}"));
    for (name, value) in &setup.variables {
        // A target accepts what it likes (AcceptEnv); a client is not told which, here as without the gateway.
        target.set_env(false, name.as_str(), value.as_str()).await.map_err(lost)?;
    }
    if let Some(terminal) = &setup.terminal {
        let [columns, rows, width, height] = terminal.size;
        let asked =
            target.request_pty(true, &terminal.term, columns, rows, width, height, &terminal.modes).await;
        asked.map_err(lost)?;
        if !answered(&mut read).await? {
            return Err(not_started("the target gives no terminal".to_owned()));
        }
    }
    if extras.agent {
        target.agent_forward(false).await.map_err(lost)?;
    }
    if let Some(x11) = setup.x11.as_ref().filter(|_| extras.x11) {
        let asked =
            target.request_x11(false, x11.single, x11.protocol.as_str(), x11.cookie.as_str(), x11.screen);
        asked.await.map_err(lost)?;
    }
    sent.set(true);
    let asked = match program {
        Program::Exec(line) => target.exec(true, line.clone()).await,
        Program::Shell if integrated => target.exec(true, launch::LINE).await,
        Program::Shell => target.request_shell(true).await,
        Program::Subsystem(name) => target.request_subsystem(true, name.as_str()).await,
    };
    asked.map_err(lost)?;
    if answered(&mut read).await? {
        if own && let Some(channels) = lent.connection.incoming.take() {
            visit.take_in(Opens { channels, agent: extras.agent, x11: extras.x11 });
        }
        Ok(Running { lent, own, read: Reading::new(read), write })
    } else {
        Err(not_started("the target does not run it".to_owned()))
    }
}

/// Whether the target said yes.
async fn answered(read: &mut ChannelReadHalf) -> Result<bool, Failure> {
    let lost = || Failure::Lost("the connection to the target broke before it answered".to_owned());
    let answer = async {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Success) => return Ok(true),
                Some(ChannelMsg::Failure) => return Ok(false),
                Some(ChannelMsg::Close) | None => return Err(lost()),
                Some(_) => {}
            }
        }
    };
    match tokio::time::timeout(ANSWER_TIME, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::Lost(format!("the target did not answer within {} s", ANSWER_TIME.as_secs()))),
    }
}

/// Says a sentence on standard error.
pub(crate) async fn tell(channel: &ClientChannel, sentence: &str, terminal: bool) {
    let said = channel.write.extended_data_bytes(STDERR, refusal::line(sentence, terminal));
    // A client that does not read, or is gone, does without.
    drop(tokio::time::timeout(ANSWER_TIME, said).await);
}

/// Says a sentence on standard error, gives an exit status, and closes the channel.
pub(crate) async fn say_and_close(channel: &ClientChannel, sentence: &str, exit: u32, terminal: bool) {
    let said = async {
        channel.write.extended_data_bytes(STDERR, refusal::line(sentence, terminal)).await?;
        channel.write.exit_status(exit).await?;
        channel.write.eof().await?;
        channel.write.close().await
    };
    // A client that does not read, or is gone, does without.
    let _: Result<Result<(), russh::Error>, _> = tokio::time::timeout(ANSWER_TIME, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_was_asked_for_is_never_told_as_not_run() {
        let failure = Failure::given_up("the client went away", false);
        let why = "the client went away before it began";
        assert_eq!(failure.told(), (why, Status::Cancelled, Some(false)));
        let failure = Failure::given_up("the client went away", true);
        let why = "the client went away before the target had answered";
        assert_eq!(failure.told(), (why, Status::Unknown, None));
    }
}
