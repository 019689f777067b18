//! One connection from its first byte to its last: login, target, relay, and the last words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use session::{Codes, Door, EndCause, Ended, NotRecorded, Protocol, Recorded};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trail::record::EndReason;
use vocabulary::{TargetKind, Where};

use crate::cancel::{CancelGuard, CancelMap, CancelRoute, Hook};
use crate::conversation::{Conversation, Fault};
use crate::login::{self, Arrival, Guest, farewell};
use crate::relay::{Over, Relay};
use crate::stream::Stream;
use crate::upstream::{Connector, Upstream, UpstreamError};
use crate::wire::error_response::Report;
use crate::wire::packet;
use crate::wire::startup::options::Setting;

/// Longest that the value of a setting is kept, in characters. The startup packet bounds how many there are.
const MAX_SETTING_CHARS: usize = 1024;

/// SQLSTATE `program_limit_exceeded`.
const TOO_LARGE: &str = "54000";

/// How long a client that sends too much is heard out, and how long a pause ends that.
const HEARING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// How long the client may take to read the greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// PostgreSQL through the gateway.
#[derive(Debug, Default)]
pub struct Postgres {
    connector: Connector,
    cancels: Arc<CancelMap>,
}

/// A client that vanishes without a word must not keep its locks for ever: what PostgreSQL's own server does by default takes
/// two hours.
const fn keepalive() -> TcpKeepalive {
    let (silence, between) = (Duration::from_secs(60), Duration::from_secs(10));
    TcpKeepalive::new().with_time(silence).with_interval(between).with_retries(6)
}

impl Protocol for Postgres {
    fn name(&self) -> TargetKind {
        TargetKind::Postgres
    }

    async fn serve(&self, client: TcpStream, door: Door) -> Ended {
        let stream = match Stream::tcp(client) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it began");
                return Ended::TurnedAway;
            }
        };
        if let Some(socket) = stream.tcp_socket()
            && let Err(error) = SockRef::from(socket).set_tcp_keepalive(&keepalive())
        {
            tracing::debug!(%error, "a client's silence will not be looked into");
        }
        // Each step in a box of its own, gone before the next begins: an open session should not have the room of a login.
        let arrival = Box::pin(login::greet(stream, door)).await;
        match arrival {
            Ok(Arrival::Guest(guest)) => {
                let hosted = Box::pin(self.host(*guest)).await;
                match hosted {
                    Ok(open) => {
                        run(open).await;
                        Ended::Session
                    }
                    Err(ended) => ended,
                }
            }
            Ok(Arrival::Cancel(request)) => {
                self.cancels.cancel(&request).await;
                Ended::Signal
            }
            Err(turned_away) => {
                tracing::debug!(%turned_away, "a client was not let in");
                Ended::TurnedAway
            }
        }
    }
}

impl Postgres {
    /// Connects a guest with its target; an error says what the connection came to without a session.
    async fn host(&self, guest: Guest) -> Result<Box<Open>, Ended> {
        let Guest { stream, mut opening, protocol, wish, settings, pending, .. } = guest;
        let settings = shown(&settings);
        let role = settings.get("role").cloned();
        opening.client_mut().settings = settings;
        let target = Arc::clone(opening.target());
        let upstream = match Box::pin(self.connector.connect(&target, &wish)).await {
            Ok(upstream) => upstream,
            Err(error) => {
                let database =
                    wish.database.as_deref().map(|name| String::from_utf8_lossy(name).into_owned());
                Self::not_reached(stream, opening, database, &error).await;
                return Err(Ended::Session);
            }
        };
        let place = Where {
            id: target.id,
            name: target.name.clone(),
            kind: TargetKind::Postgres,
            role: upstream.role.clone(),
            database: Some(upstream.database.clone()),
            peer: (upstream.pid != 0).then(|| format!("backend {}", upstream.pid)),
        };
        let Upstream { stream: target, parameters, cancel, mut greeting, status, leftover, .. } = upstream;
        let (mut session, target) = match opening.start(place, target) {
            Ok(started) => started,
            Err(error) => {
                farewell(stream, &not_recorded(&error).to_bytes()).await;
                return Err(Ended::TurnedAway);
            }
        };
        session.set_codes(Codes { refused: Some("42501"), expired: Some("TG001"), cancelled: Some("57014") });
        let live = Arc::clone(session.live());
        let hook: Hook = Box::new(move || live.cancel_hold());
        let guard = cancel.clone().and_then(|route| self.cancels.register(protocol, route, Some(hook)));
        finish_greeting(&mut greeting, guard.as_ref(), status);
        let mut conversation =
            Conversation::new(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        conversation.greeted(status);
        if let Some(role) = role {
            conversation.starts_as(&role);
        }
        let mut stream = stream;
        let welcome = async {
            stream.write_all(&greeting).await?;
            stream.flush().await
        };
        if !matches!(timeout(GREETING_TIMEOUT, welcome).await, Ok(Ok(()))) {
            let detail = Some("the client left before it was greeted".to_owned());
            log_unrecorded(session.end(EndReason::Client, detail));
            return Err(Ended::Session);
        }
        drop(greeting);
        let relay = Relay::new(stream, target, session, conversation, cancel.clone(), (&pending, &leftover));
        Ok(Box::new(Open { relay, cancel, guard }))
    }

    /// The target did not let us in: the client hears which side is at fault, and the trail too.
    async fn not_reached(
        stream: Stream,
        opening: session::Opening,
        database: Option<String>,
        error: &UpstreamError,
    ) {
        let target = opening.target();
        let place = Where {
            id: target.id,
            name: target.name.clone(),
            kind: TargetKind::Postgres,
            role: String::new(),
            database,
            peer: None,
        };
        let last_word = match opening.fell_through(place, &error.to_string()) {
            Ok(()) => error.to_client(),
            Err(error) => not_recorded(&error).to_bytes(),
        };
        farewell(stream, &last_word).await;
    }
}

/// What the client asks for at start, as the trail shows it: a later value of the same name wins, as at the server.
fn shown(settings: &[Setting]) -> BTreeMap<String, String> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).chars().take(MAX_SETTING_CHARS).collect();
    settings.iter().map(|setting| (setting.name.clone(), text(&setting.value))).collect()
}

/// Completes what the target said at login with what is the gateway's to say.
fn finish_greeting(greeting: &mut Vec<u8>, guard: Option<&CancelGuard>, status: u8) {
    if let Some(guard) = guard {
        packet::put(greeting, b'K', |out| {
            out.extend_from_slice(&guard.pid().to_be_bytes());
            out.extend_from_slice(guard.key());
        });
    }
    packet::put(greeting, b'Z', |out| out.push(status));
}

/// A session that has begun.
struct Open {
    relay: Relay<Stream, Stream>,
    cancel: Option<CancelRoute>,
    guard: Option<CancelGuard>,
}

/// Relays, then sees to it that everything has its end.
async fn run(mut open: Box<Open>) {
    let over = open.relay.run().await;
    Box::pin(conclude(open, over)).await;
}

async fn conclude(open: Box<Open>, over: Over) {
    let Open { mut relay, cancel, guard } = *open;
    drop(guard);
    if !matches!(over, Over::NotRecorded(_))
        && let Err(error) = relay.withdraw()
    {
        tracing::error!(?error, "what waited for people could not be taken back in the trail");
    }
    let may_speak = relay.may_speak();
    let Relay { client, target, mut session, mut conversation, .. } = relay;
    let was_waiting = conversation.is_waiting();
    let said_goodbye = conversation.target_said_goodbye();
    let (reason, detail, report) = ending(&over, said_goodbye, session.live().target.name.as_str());
    // What the trail could not take has no permit that may be observed; the session's end closes what is open.
    if !matches!(over, Over::NotRecorded(_)) {
        let mut turn = session.turn();
        let why = detail.as_deref().unwrap_or("the session ended while it was under way");
        let abandoned = conversation.abandon(&mut turn, why).and_then(|()| turn.record());
        match abandoned {
            Ok(Recorded::Cleared(_) | Recorded::Waiting(_)) => {}
            Err(error) => tracing::error!(%error, "what was under way could not be recorded"),
        }
    }
    log_unrecorded(session.end(reason, detail));
    let stop_target = async {
        if let (true, Over::Ended(_), Some(route)) = (was_waiting, &over, cancel)
            && let Err(error) = route.send().await
        {
            tracing::warn!(%error, "what ran at the target could not be cancelled");
        }
        drop(target);
    };
    let last_word = async {
        if let (true, Some(report)) = (may_speak, report) {
            let client = match over {
                Over::Fault(Fault::Client { code: TOO_LARGE, .. }) => hear_out(client).await,
                _ => client,
            };
            farewell(client, &report.to_bytes()).await;
        }
    };
    tokio::join!(stop_target, last_word);
}

/// Throws away what a client still sends. While libpq writes a long message it keeps what it reads for later, and
/// forgets it if the connection ends meanwhile: told at once, its user would learn nothing but that.
async fn hear_out(mut client: Stream) -> Stream {
    let mut heard = vec![0; 16 * 1024];
    let listen = async { while let Ok(Ok(1..)) = timeout(PAUSE, client.read(&mut heard)).await {} };
    if timeout(HEARING, listen).await.is_err() {
        tracing::debug!("a client that sent too much went on for too long");
    }
    client
}

/// How a session's end stands in the trail, and what the client hears of it.
fn ending(over: &Over, said_goodbye: bool, target: &str) -> (EndReason, Option<String>, Option<Report>) {
    match over {
        Over::Client => (EndReason::Client, None, None),
        // The client has heard it from the target itself.
        Over::Target(_) if said_goodbye => {
            (EndReason::Target, Some("the target ended the session".into()), None)
        }
        Over::Target(error) => {
            let why = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            let message = format!("the target `{target}` closed the connection{why}");
            let report = Report::fatal("08006", message.clone())
                .with_hint("The gateway is up; connect again when the target is.");
            (EndReason::Target, Some(message), Some(report))
        }
        Over::Fault(Fault::Client { code, message }) => {
            (EndReason::Protocol, Some(message.clone()), Some(Report::fatal(code, message.clone())))
        }
        Over::Fault(fault) => {
            let message = format!("{fault} (target `{target}`)");
            (EndReason::Target, Some(message.clone()), Some(Report::fatal("08P01", message)))
        }
        Over::NotRecorded(error) => (EndReason::Protocol, Some(error.to_string()), Some(not_recorded(error))),
        Over::Ended(EndCause::Revoked(why)) => {
            let report = Report::fatal("28000", format!("the gateway has ended this session: {why}"))
                .with_hint("Ask whoever runs the gateway; connecting again needs a valid token.");
            (EndReason::Revoked, Some(why.clone()), Some(report))
        }
        Over::Ended(EndCause::Shutdown) => {
            let report = Report::fatal("08006", "the gateway is shutting down")
                .with_hint("Connect again when it is back; the target itself is not affected.");
            (EndReason::Shutdown, Some("the gateway was stopped".into()), Some(report))
        }
    }
}

fn not_recorded(error: &NotRecorded) -> Report {
    Report::fatal("58030", error.to_string()).with_hint(
        "Nothing runs unrecorded. Whoever runs the gateway finds the cause with `trailgate doctor`.",
    )
}

fn log_unrecorded(ended: Result<(), NotRecorded>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's end could not be recorded; recovery will do it");
    }
}
