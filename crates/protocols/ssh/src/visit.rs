//! One client's session: its place in the trail, its connections to the target, and what its channels have in common.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use russh::server::Handle;
use session::{
    Cleared, Hold, Judged, NotRecorded, OpenSession, Permit, Recorded, RefusalKind, Snapshot, Target, Turn,
};
use tokio::sync::{Notify, mpsc, watch};
use trail::record::OutcomeRecord;
use vocabulary::{SessionId, Status, TargetKind, Timestamp};

use crate::client_side::ClientChannel;
use crate::command::Asking;
use crate::inbox::Inboxes;
use crate::outflow::Held;
use crate::pool::{Lent, Pool};
use crate::upstream::{Incoming, TargetSide, UpstreamError};
use crate::{Settings, program, refusal};

/// What policy says of a command, once it is recorded.
pub(crate) enum Verdict {
    /// It may go; the proof is for forwarding it.
    Permit(Permit, Cleared),
    /// It may not; the trail has it. The sentence is for the client, the number its exit status.
    Refused(String, u32),
}

/// Who hears of a command that is held.
#[derive(Clone, Copy)]
pub(crate) enum Client<'a> {
    /// The channel that it came by; `terminal` if it has one.
    Channel { channel: &'a ClientChannel, terminal: bool },
    /// That channel, which has been told enough: only its end is noticed.
    Muted { channel: &'a ClientChannel },
    /// Nobody: it has no place for a sentence.
    Nobody,
}

impl Client<'_> {
    /// The same, but told nothing any more.
    pub(crate) const fn muted(self) -> Self {
        match self {
            Self::Channel { channel, .. } | Self::Muted { channel } => Self::Muted { channel },
            Self::Nobody => Self::Nobody,
        }
    }

    pub(crate) async fn tell(&self, sentence: &str) {
        if let Self::Channel { channel, terminal } = self {
            program::tell(channel, sentence, *terminal).await;
        }
    }

    async fn until_gone(&self) {
        match self {
            Self::Channel { channel, .. } | Self::Muted { channel } => channel.inbox.until_gone().await,
            Self::Nobody => std::future::pending().await,
        }
    }
}

/// Channels that a target opens on one connection, and which of them the client has been allowed to offer.
pub(crate) struct Opens {
    pub channels: mpsc::Receiver<Incoming>,
    pub agent: bool,
    pub x11: bool,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It goes on.
    Open,
    /// The client is gone. What it had sent is still carried, for a moment.
    Left,
    /// It was ended: nothing is carried any more.
    Ended,
}

/// One client's session.
pub(crate) struct Visit {
    session: RefCell<OpenSession>,
    pub(crate) target: Arc<Target>,
    pub(crate) login: Option<String>,
    pub(crate) client: Handle,
    pub(crate) settings: Arc<Settings>,
    pool: Arc<Pool>,
    /// What the client sends, by channel.
    pub(crate) inboxes: Inboxes,
    /// Output of all channels that is held so that input can go on.
    pub(crate) held: Held,
    /// Where the gateway's own listeners are: a forwarding to what a target of theirs serves is joined to them.
    pub(crate) joins: Arc<[(TargetKind, SocketAddr)]>,
    /// The connection that listens at the target for the client, once there is one.
    listening: RefCell<Option<Rc<Listening>>>,
    /// Where targets open channels towards the client, until the session's task looks after them.
    pub(crate) incoming: RefCell<Vec<Opens>>,
    pub(crate) listens: Notify,
    /// The connection that the session began with, for its first channel.
    first: Cell<Option<Lent>>,
    unrecorded: RefCell<Option<NotRecorded>>,
    failed: Notify,
    stage: watch::Sender<Stage>,
}

impl Visit {
    #[expect(clippy::too_many_arguments, reason = "all that a session is made of, and one place that has it")]
    pub(crate) fn new(
        session: OpenSession,
        target: Arc<Target>,
        login: Option<String>,
        client: Handle,
        settings: Arc<Settings>,
        pool: Arc<Pool>,
        first: Lent,
        inboxes: Inboxes,
        joins: Arc<[(TargetKind, SocketAddr)]>,
    ) -> Self {
        Self {
            session: RefCell::new(session),
            target,
            login,
            client,
            settings,
            pool,
            first: Cell::new(Some(first)),
            inboxes,
            held: Held::default(),
            joins,
            listening: RefCell::default(),
            incoming: RefCell::default(),
            listens: Notify::new(),
            unrecorded: RefCell::default(),
            failed: Notify::new(),
            stage: watch::Sender::new(Stage::Open),
        }
    }

    /// A connection to the target for one channel.
    pub(crate) async fn connection(&self) -> Result<Lent, UpstreamError> {
        match self.first.take() {
            Some(lent) if !lent.connection.is_closed() => Ok(lent),
            _ => self.pool.lend(&self.target, self.login.as_deref()).await,
        }
    }

    /// A connection of the session's own, for what lasts as long as the connection.
    pub(crate) async fn own_connection(&self) -> Result<Lent, UpstreamError> {
        self.pool.open(&self.target, self.login.as_deref()).await
    }

    /// The connection that listens at the target for the client.
    pub(crate) async fn listening(&self) -> Result<Rc<Listening>, UpstreamError> {
        if let Some(known) = self.is_listening() {
            return Ok(known);
        }
        let mut lent = self.own_connection().await?;
        if let Some(channels) = lent.connection.incoming.take() {
            self.take_in(Opens { channels, agent: false, x11: false });
        }
        let listening = Rc::new(Listening(lent));
        *self.listening.borrow_mut() = Some(Rc::clone(&listening));
        Ok(listening)
    }

    /// Has the session's task look after what a target opens: it may outlive the program that it was opened for.
    pub(crate) fn take_in(&self, opens: Opens) {
        self.incoming.borrow_mut().push(opens);
        self.listens.notify_one();
    }

    /// That connection, if there is one that works.
    pub(crate) fn is_listening(&self) -> Option<Rc<Listening>> {
        self.listening.borrow().clone().filter(|known| !known.0.connection.is_closed())
    }

    /// The control state in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.session.borrow().snapshot()
    }

    /// Takes back a connection whose channel ended in order.
    pub(crate) fn give_back(&self, lent: Lent) {
        self.pool.give_back(lent);
    }

    /// Gives the unused connection of the beginning back.
    pub(crate) fn leave(&self) {
        if let Some(lent) = self.first.take() {
            self.pool.give_back(lent);
        }
    }

    /// Judges a command; returns when what was decided is as durable as it has to be. One that is held waits here for
    /// people: `client` is told at once, and called off when it leaves.
    pub(crate) async fn judge(&self, asking: &Asking, client: &Client<'_>) -> Result<Verdict, NotRecorded> {
        let waits = async |hold: &mut Hold| {
            if let Some(notice) = hold.notice() {
                client.tell(&format!("{} {}", notice.message, notice.hint)).await;
            }
            tokio::select! {
                verdict = poll_fn(|cx| hold.poll_verdict(cx)) => verdict,
                () = client.until_gone() => session::Verdict::Left,
                () = self.until_over() => session::Verdict::Left,
            }
        };
        self.judge_with(asking, waits).await
    }

    /// As [`judge`](Self::judge), for what nobody can wait for: where people have to be asked they are, and the answer is
    /// no. The same command goes through once they have approved it.
    pub(crate) async fn judge_at_once(&self, asking: &Asking) -> Result<Verdict, NotRecorded> {
        let waits = async |hold: &mut Hold| {
            // Without a notice it has been approved already, and only the use of that is still to be stored.
            if hold.notice().is_some() {
                return session::Verdict::Lapsed;
            }
            tokio::select! {
                verdict = poll_fn(|cx| hold.poll_verdict(cx)) => verdict,
                () = self.until_over() => session::Verdict::Left,
            }
        };
        self.judge_with(asking, waits).await
    }

    async fn judge_with(
        &self,
        asking: &Asking,
        waits: impl AsyncFn(&mut Hold) -> session::Verdict,
    ) -> Result<Verdict, NotRecorded> {
        let command = asking.command();
        let (mut judged, mut recorded) = self.turn(|turn| turn.judge(&command))?;
        loop {
            let cleared = self.clear(recorded).await?;
            let mut hold = match judged {
                Judged::Permit(permit) => return Ok(Verdict::Permit(permit, cleared)),
                Judged::Refused(refusal) => {
                    let exit = match refusal.kind {
                        RefusalKind::Expired | RefusalKind::OverBudget => refusal::NOT_YET,
                        RefusalKind::Denied | RefusalKind::Cancelled => refusal::REFUSED,
                    };
                    let review = refusal.review.map(|review| format!(" (review {review})"));
                    let sentence =
                        format!("{}{}. {}", refusal.message, review.unwrap_or_default(), refusal.hint);
                    return Ok(Verdict::Refused(sentence, exit));
                }
                Judged::Held(hold) => hold,
            };
            let verdict = waits(&mut hold).await;
            (judged, recorded) = self.turn(|turn| turn.resume(hold, verdict, &command))?;
        }
    }

    /// Judges a command that the gateway itself refuses, whatever policy says: it is recorded as denied.
    pub(crate) async fn deny(&self, asking: &Asking, why: &str) -> Result<(), NotRecorded> {
        let ((), recorded) = self.turn(|turn| {
            let permit = turn.refused_by_gateway(&asking.command())?;
            let outcome =
                OutcomeRecord { executed: Some(false), message: Some(why), ..outcome(Status::Denied) };
            turn.observe(permit, outcome)
        })?;
        self.clear(recorded).await.map(drop)
    }

    /// Records what came of a command; returns when it is as durable as it has to be.
    pub(crate) async fn observe(
        &self,
        permit: Permit,
        outcome: OutcomeRecord<'_>,
    ) -> Result<Cleared, NotRecorded> {
        let ((), recorded) = self.turn(|turn| turn.observe(permit, outcome))?;
        self.clear(recorded).await
    }

    /// One turn of the session: what `work` puts into it is recorded with one write.
    pub(crate) fn turn<T>(
        &self,
        work: impl FnOnce(&mut Turn<'_>) -> Result<T, NotRecorded>,
    ) -> Result<(T, Recorded), NotRecorded> {
        let mut session = self.session.borrow_mut();
        let mut turn = session.turn();
        let result = work(&mut turn)?;
        Ok((result, turn.record()?))
    }

    /// Waits until what was recorded is as durable as it has to be.
    pub(crate) async fn clear(&self, recorded: Recorded) -> Result<Cleared, NotRecorded> {
        match recorded {
            Recorded::Cleared(cleared) => Ok(cleared),
            Recorded::Waiting(barrier) => poll_fn(|cx| barrier.poll(&self.session.borrow(), cx)).await,
        }
    }

    /// The session as seen from outside.
    pub(crate) fn live(&self) -> Arc<session::Live> {
        Arc::clone(self.session.borrow().live())
    }

    /// Something could not be recorded: the whole session has to end.
    pub(crate) fn fail(&self, error: NotRecorded) {
        self.unrecorded.borrow_mut().get_or_insert(error);
        self.failed.notify_one();
    }

    /// Returns when something could not be recorded.
    pub(crate) async fn failed(&self) -> NotRecorded {
        loop {
            if let Some(error) = self.unrecorded.borrow().as_ref() {
                return error.clone();
            }
            self.failed.notified().await;
        }
    }

    /// Tells everything under way that the client is gone. Programs have heard it by their inboxes already.
    pub(crate) fn client_left(&self) {
        self.stage.send_replace(Stage::Left);
    }

    /// Tells everything under way that the session was ended.
    pub(crate) fn hang_up(&self) {
        self.stage.send_replace(Stage::Ended);
    }

    /// Returns when the session is over, whoever ended it.
    pub(crate) async fn until_over(&self) {
        self.until(|stage| stage != Stage::Open).await;
    }

    /// Returns when the session was ended by the gateway.
    pub(crate) async fn until_ended(&self) {
        self.until(|stage| stage == Stage::Ended).await;
    }

    async fn until(&self, reached: impl Fn(Stage) -> bool) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.stage.subscribe().wait_for(|stage| reached(*stage)).await;
    }

    /// The session itself, to record its end.
    pub(crate) fn into_session(self) -> OpenSession {
        self.session.into_inner()
    }
}

/// The connection that listens at the target for a client.
pub(crate) struct Listening(Lent);

impl Listening {
    pub(crate) const fn handle(&self) -> &russh::client::Handle<TargetSide> {
        &self.0.connection.handle
    }
}

/// An outcome with a status and nothing counted. Session, number and time are filled in by the turn.
pub(crate) const fn outcome(status: Status) -> OutcomeRecord<'static> {
    OutcomeRecord::bare(SessionId::from_bytes([0; 16]), 0, Timestamp(0), status)
}
