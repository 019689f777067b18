//! One connection from its first byte to its last: login, target, channels, and the last words.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use russh::server::{Handle, run_stream};
use russh::{Disconnect, MethodKind, MethodSet};
use session::{Door, EndCause, Ended, NotRecorded, Opening, Protocol};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout, timeout_at};
use trail::record::EndReason;
use vocabulary::{TargetKind, Where};

use crate::client_side::{ClientSide, Program, Wish};
use crate::client_stream::{ClientStream, READ_BYTES, Switch};
use crate::inbox::{Inboxes, WINDOW_BYTES};
use crate::keys::GatewayKeys;
use crate::login::{Arrived, Guest, LoginAttempt};
use crate::pool::Pool;
use crate::relay::LAST_INPUT_TIME;
use crate::target_url::Address;
use crate::upstream::UpstreamError;
use crate::visit::{Opens, Visit};
use crate::{Settings, algorithms, forward, program, refusal};

/// Wishes of one client that wait for its task.
const QUEUED_WISHES: usize = 64;

/// Output of all channels of one client that waits for the library's task, in messages of at most a packet.
const QUEUED_OUTPUT: usize = 32;

/// Proofs of one connection that may fail.
const MAX_ATTEMPTS: usize = 20;

/// Keepalives in a row that a client may leave unanswered.
const KEEPALIVES_UNANSWERED: usize = 3;

/// How long a client may take to read the last words.
const FAREWELL: Duration = Duration::from_secs(2);

/// SSH through the gateway.
pub struct Ssh {
    keys: Arc<GatewayKeys>,
    settings: Arc<Settings>,
    accept_env: Arc<[String]>,
    config: Arc<russh::server::Config>,
    pool: Arc<Pool>,
    joins: Arc<[(TargetKind, SocketAddr)]>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ssh {
    /// SSH with the gateway's own keys.
    #[must_use]
    pub fn new(keys: Arc<GatewayKeys>, settings: Settings) -> Self {
        let config = russh::server::Config {
            server_id: algorithms::software(),
            methods: MethodSet::from([MethodKind::PublicKey, MethodKind::Password].as_slice()),
            // Keys are no secrets, and a token can't be guessed: who tries too often is throttled by name and address.
            auth_rejection_time: Duration::ZERO,
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![keys.host.clone()],
            certificates: vec![keys.certificate.clone()],
            limits: algorithms::rekey_limits(),
            window_size: WINDOW_BYTES,
            maximum_packet_size: algorithms::MAX_PACKET_BYTES,
            // Not used: data goes to the gateway's own queues.
            channel_buffer_size: 1,
            event_buffer_size: QUEUED_OUTPUT,
            preferred: algorithms::to_client(),
            max_auth_attempts: MAX_ATTEMPTS,
            inactivity_timeout: None,
            keepalive_interval: settings.keepalive,
            keepalive_max: KEEPALIVES_UNANSWERED,
            nodelay: true,
        };
        let pool = Arc::new(Pool::new(settings.reuse));
        let accept_env = settings.accept_env.clone().into();
        let joins = settings.joins.clone().into();
        Self { keys, settings: Arc::new(settings), accept_env, config: Arc::new(config), pool, joins }
    }
}

/// A connection after its login.
struct Client {
    handle: Handle,
    inboxes: Inboxes,
    wishes: mpsc::Receiver<Wish>,
    switch: Arc<Switch>,
}

impl Protocol for Ssh {
    fn name(&self) -> TargetKind {
        TargetKind::Ssh
    }

    async fn serve(&self, client: TcpStream, door: Door) -> Ended {
        let deadline = Instant::now() + door.listener().pre_auth_deadline;
        let switch = Arc::<Switch>::default();
        let (wish, wishes) = mpsc::channel(QUEUED_WISHES);
        let (arrived, arrival) = oneshot::channel();
        let login = LoginAttempt::new(door, Arc::clone(&self.keys));
        let inboxes = Inboxes::default();
        let accept_env = Arc::clone(&self.accept_env);
        let side = ClientSide::new(login, arrived, Arc::clone(&switch), wish, accept_env, inboxes.clone());
        let stream = BufReader::with_capacity(READ_BYTES, ClientStream::new(client, Arc::clone(&switch)));
        let config = Arc::clone(&self.config);
        let begun = timeout_at(deadline.into(), Box::pin(run_stream(config, stream, side))).await;
        let mut running = match begun {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client did not begin to speak SSH");
                return Ended::TurnedAway;
            }
            Err(_) => return Ended::TurnedAway,
        };
        let handle = running.handle();
        let arrived = tokio::select! {
            biased;
            // The sender is gone when the connection has ended.
            arrived = arrival => arrived.ok(),
            () = sleep(deadline.saturating_duration_since(Instant::now())) => None,
        };
        let client = Client { handle, inboxes, wishes, switch: Arc::clone(&switch) };
        let ended = match arrived {
            Some(Arrived::Guest(guest)) => {
                Box::pin(self.host(*guest, client)).await;
                Ended::Session
            }
            Some(Arrived::Away(sentence, exit)) => {
                turn_away(client, &sentence, exit).await;
                Ended::TurnedAway
            }
            // Too late, or gone: nothing is left to be said.
            None => {
                switch.cut();
                Ended::TurnedAway
            }
        };
        // Whatever the client does now, the connection ends.
        if timeout(FAREWELL, &mut running).await.is_err() {
            switch.cut();
            drop(timeout(FAREWELL, running).await);
        }
        ended
    }
}

impl Ssh {
    /// Connects a guest with its target, and serves its channels.
    async fn host(&self, guest: Guest, client: Client) {
        let Guest { opening, login } = guest;
        let target = Arc::clone(opening.target());
        let lent = match self.pool.lend(&target, login.as_deref()).await {
            Ok(lent) => lent,
            Err(error) => return not_reached(opening, login, client, &error).await,
        };
        let place = Where {
            id: target.id,
            name: target.name.clone(),
            kind: TargetKind::Ssh,
            role: lent.connection.login.clone(),
            database: None,
            peer: Some(format!("from {}", lent.connection.local)),
        };
        let session = match opening.start_guarded(place) {
            Ok(session) => session,
            Err(error) => return turn_away(client, &error.to_string(), refusal::NO_CONNECTION).await,
        };
        let Client { handle, inboxes, wishes, switch } = client;
        let settings = Arc::clone(&self.settings);
        let (pool, joins) = (Arc::clone(&self.pool), Arc::clone(&self.joins));
        let visit = Visit::new(session, target, login, handle.clone(), settings, pool, lent, inboxes, joins);
        let over = Box::pin(channels(&visit, wishes)).await;
        visit.leave();
        let (reason, detail, last_word) = ending(&over);
        if let Err(error) = visit.into_session().end(reason, detail) {
            tracing::error!(%error, "a session's end could not be recorded; recovery will do it");
        }
        if let Some(last_word) = last_word {
            let said = handle.disconnect(
                Disconnect::ByApplication,
                format!("Trailgate: {last_word}"),
                String::new(),
            );
            if !matches!(timeout(FAREWELL, said).await, Ok(Ok(()))) {
                switch.cut();
            }
        }
    }
}

/// Why a session is over.
enum Over {
    /// The client went away.
    Client,
    /// The trail could not take a record.
    NotRecorded(NotRecorded),
    /// Ended from outside.
    Ended(EndCause),
}

/// Serves what the client wishes, until the session is over.
async fn channels(visit: &Visit, mut wishes: mpsc::Receiver<Wish>) -> Over {
    let mut running: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + '_>>> = FuturesUnordered::new();
    let live = visit.live();
    let mut registered = false;
    let mut ended =
        pin!(poll_fn(|cx| { live.ending(cx.waker(), &mut registered).map_or(Poll::Pending, Poll::Ready) }));
    let over = loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) => running.push(Box::pin(fulfil(visit, wish))),
                None => break Over::Client,
            },
            Some(()) = running.next(), if !running.is_empty() => {}
            () = visit.listens.notified() => {
                for opens in visit.incoming.take() {
                    running.push(Box::pin(listen(visit, opens)));
                }
            }
            error = visit.failed() => break Over::NotRecorded(error),
            cause = &mut ended => break Over::Ended(cause),
        }
    };
    // Each command that is under way sees that its client is gone, or is told so, and records its end.
    let patience = match over {
        // Nothing more can be recorded; what is open ends as unknown.
        Over::NotRecorded(_) => return over,
        Over::Client => {
            visit.client_left();
            LAST_INPUT_TIME + FAREWELL
        }
        Over::Ended(_) => {
            visit.hang_up();
            FAREWELL
        }
    };
    let rest = async { while running.next().await.is_some() {} };
    drop(timeout(patience, rest).await);
    over
}

async fn fulfil(visit: &Visit, wish: Wish) {
    let done = match wish {
        Wish::Program { channel, setup, program } => {
            Box::pin(program::run(visit, channel, setup, program)).await
        }
        forwarding => Box::pin(forward::fulfil(visit, forwarding)).await,
    };
    if let Err(error) = done {
        visit.fail(error);
    }
}

/// Takes what a target opens towards the client.
async fn listen(visit: &Visit, opens: Opens) {
    if let Err(error) = forward::incoming(visit, opens).await {
        visit.fail(error);
    }
}

/// How a session's end stands in the trail, and what the client hears of it.
fn ending(over: &Over) -> (EndReason, Option<String>, Option<String>) {
    match over {
        Over::Client => (EndReason::Client, None, None),
        Over::NotRecorded(error) => (EndReason::Protocol, Some(error.to_string()), Some(error.to_string())),
        Over::Ended(EndCause::Revoked(why)) => {
            let said = format!("the gateway has ended this session: {why}");
            (EndReason::Revoked, Some(why.clone()), Some(said))
        }
        Over::Ended(EndCause::Shutdown) => {
            let said = "the gateway is shutting down; connect again when it is back".to_owned();
            (EndReason::Shutdown, Some("the gateway was stopped".to_owned()), Some(said))
        }
    }
}

/// The target did not let us in: the client hears which side is at fault, and the trail too.
async fn not_reached(opening: Opening, login: Option<String>, client: Client, error: &UpstreamError) {
    let target = opening.target();
    let role = login.or_else(|| Address::of_url(&target.url).map(|address| address.login));
    let place = Where {
        id: target.id,
        name: target.name.clone(),
        kind: TargetKind::Ssh,
        role: role.unwrap_or_default(),
        database: None,
        peer: None,
    };
    let sentence = match opening.fell_through(place, &error.to_string()) {
        Ok(()) => format!("{error}; {}", error.advice()),
        Err(error) => error.to_string(),
    };
    turn_away(client, &sentence, refusal::NO_CONNECTION).await;
}

/// A client that is let in only to hear why it can't go on: on its first channel, if it opens one.
async fn turn_away(mut client: Client, sentence: &str, exit: u32) {
    let patience = timeout(Duration::from_secs(5), client.wishes.recv()).await;
    if let Ok(Some(Wish::Program { channel, setup, program })) = patience {
        let terminal = setup.terminal.is_some() || program == Program::Shell;
        program::say_and_close(&channel, sentence, exit, terminal).await;
        // A client that has shown it goes by itself. One that is told to go before that shows nothing of it.
        drop(timeout(FAREWELL, async { while client.wishes.recv().await.is_some() {} }).await);
    }
    let said =
        client.handle.disconnect(Disconnect::ByApplication, format!("Trailgate: {sentence}"), String::new());
    if !matches!(timeout(FAREWELL, said).await, Ok(Ok(()))) {
        client.switch.cut();
    }
}
