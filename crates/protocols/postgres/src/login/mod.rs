//! The client's leg until it is known who it is and where it wants to go.
//!
//! Whoever is not authenticated yet costs little: a deadline and a byte budget hold for the whole login, buffers
//! grow with what came, and the large states (TLS, SCRAM) are boxed when they are reached.

mod prove;
pub mod target;
#[cfg(test)]
mod tests;
pub mod tls;

use std::io;
use std::time::Duration;

use session::{Door, NotThere, Opening};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vocabulary::Facts;

use crate::stream::Stream;
use crate::stream::inbox::{Inbox, InboxError};
use crate::upstream::{Wish, tls::ALPN};
use crate::wire::error_response::Report;
use crate::wire::startup::options::{Options, Setting};
use crate::wire::startup::{self, CancelRequest, FirstPacket, Protocol, Replication, Startup, StartupError};

pub use tls::{TlsError, server_tls};

/// Most bytes that a client may send before it is authenticated, TLS records not counted: a startup packet, and
/// some messages of at most 8 KiB.
pub const MAX_LOGIN_BYTES: usize = 32_768;

/// Longest that a client's own description of itself is kept, in characters.
const MAX_DESCRIPTION_CHARS: usize = 128;

/// After an error: how long to wait for the client to read it and close.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes that are thrown away meanwhile.
const LINGER_BYTES: u64 = 65_536;

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Arrival {
    /// Somebody who is let in.
    Guest(Box<Guest>),
    /// A request to cancel what another connection runs; to be handed to the cancel map, and never answered.
    Cancel(CancelRequest),
}

/// A client whose principal is proven and whose target exists. AuthenticationOk is sent; what comes next is the
/// target's greeting, BackendKeyData and ReadyForQuery, or an error.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub stream: Stream,
    /// Who, and where to; opens the session.
    pub opening: Opening,
    /// The version of the protocol that was agreed on.
    pub protocol: Protocol,
    /// What to ask of the target.
    pub wish: Wish,
    /// Every setting that the client asks for at startup, in the order in which the server applies them.
    pub settings: Vec<Setting>,
    /// What the connection is for; anything but ordinary only where the target allows it.
    pub replication: Replication,
    /// What the client sent already, beyond the login.
    pub pending: Vec<u8>,
}

/// Why nobody came in. The client has been told what it may hear.
#[derive(Debug, thiserror::Error)]
pub enum TurnedAway {
    /// It left by itself.
    #[error("the client left before it was authenticated")]
    Gone,
    /// The connection broke.
    #[error("the connection broke before the client was authenticated: {0}")]
    Broken(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the client's TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// It came with TLS in a way that is not offered.
    #[error("the client began with TLS, and {0}")]
    DirectTls(&'static str),
    /// It took too long.
    #[error("the client was not authenticated within {0} s")]
    Deadline(u64),
    /// Its first packets are none.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// It was refused.
    #[error("the client was refused: {}", .0.message)]
    Refused(Box<Report>),
}

impl TurnedAway {
    fn refused(report: Report) -> Self {
        Self::Refused(Box::new(report))
    }

    fn protocol(reason: &str) -> Self {
        Self::refused(Report::fatal("08P01", format!("protocol violation during login: {reason}")))
    }

    /// What the client hears; `None` where nothing may be said, or nobody listens.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Gone | Self::Broken(_) | Self::Tls(_) | Self::DirectTls(_) => None,
            Self::Deadline(seconds) => {
                let message = format!("the login took longer than {seconds} s and was ended; connect again");
                Some(Report::fatal("57014", message).to_bytes())
            }
            Self::Startup(error) => error.to_bytes(),
            Self::Refused(report) => Some(report.to_bytes()),
        }
    }
}

impl From<InboxError> for TurnedAway {
    fn from(error: InboxError) -> Self {
        match error {
            InboxError::Closed => Self::Gone,
            InboxError::Io(error) => Self::Broken(error),
            other => Self::protocol(&other.to_string()),
        }
    }
}

/// Receives a connection: TLS, startup packet, authentication, choice of the target.
///
/// # Errors
/// [`TurnedAway`], for the gateway's log; the client has been told, and the connection is closed.
pub async fn greet(stream: Stream, door: Door) -> Result<Arrival, TurnedAway> {
    let deadline = door.listener().pre_auth_deadline;
    let mut visitor = Visitor {
        stream: Some(stream),
        inbox: Inbox::new(MAX_LOGIN_BYTES),
        out: Vec::new(),
        door: Some(door),
    };
    let arrival =
        timeout(deadline, visitor.come_in()).await.unwrap_or(Err(TurnedAway::Deadline(deadline.as_secs())));
    match arrival {
        Ok(arrival) => Ok(arrival),
        Err(turned_away) => {
            // Who never said a word hears none: it may not even speak the protocol.
            if !visitor.inbox.is_untouched()
                && let (Some(stream), Some(bytes)) = (visitor.stream.take(), turned_away.to_bytes())
            {
                visitor.out.extend_from_slice(&bytes);
                farewell(stream, &visitor.out).await;
            }
            Err(turned_away)
        }
    }
}

/// Says a last word and closes so that it arrives: closing with bytes unread would reset the connection, and the
/// client might never see it.
pub async fn farewell(mut stream: Stream, bytes: &[u8]) {
    let spoken = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        // A small buffer: after a deadline thousands of clients may be told at once.
        let (mut rest, mut heard) = (stream.take(LINGER_BYTES), [0; 512]);
        while rest.read(&mut heard).await? > 0 {}
        io::Result::Ok(())
    };
    // Boxed: an error is rare, and who is well should not have its room.
    if let Ok(Err(error)) = timeout(LINGER, Box::pin(spoken)).await {
        tracing::debug!(%error, "the client did not hear the last word");
    }
}

/// Somebody at the door.
struct Visitor {
    /// `None` only during a TLS handshake, and after coming in.
    stream: Option<Stream>,
    inbox: Inbox,
    /// What is to be said next.
    out: Vec<u8>,
    /// `None` only after it was passed.
    door: Option<Door>,
}

impl Visitor {
    async fn come_in(&mut self) -> Result<Arrival, TurnedAway> {
        match self.negotiate().await? {
            FirstPacket::Cancel(request) => Ok(Arrival::Cancel(request)),
            FirstPacket::Startup(startup) => Box::pin(self.identify(startup)).await,
            // `negotiate` deals with all others.
            FirstPacket::DirectTls | FirstPacket::SslRequest | FirstPacket::GssEncRequest => {
                Err(TurnedAway::Gone)
            }
        }
    }

    /// Until there is a startup packet or a cancel request, in TLS if the client asked for it.
    async fn negotiate(&mut self) -> Result<FirstPacket, TurnedAway> {
        let mut asked_tls = false;
        loop {
            let Some((packet, len)) = startup::parse(self.inbox.unread(), asked_tls)? else {
                let stream = self.stream.as_mut().ok_or(TurnedAway::Gone)?;
                self.inbox.fill(stream).await?;
                continue;
            };
            self.inbox.consume(len);
            match packet {
                FirstPacket::DirectTls => {
                    let early = self.inbox.take();
                    Box::pin(self.encrypt(&early)).await?;
                    if self.stream.as_ref().and_then(Stream::alpn) != Some(ALPN) {
                        return Err(TurnedAway::DirectTls("did not name the protocol `postgresql` (ALPN)"));
                    }
                    asked_tls = true;
                }
                FirstPacket::SslRequest => {
                    asked_tls = true;
                    let offered = self.door.as_ref().is_some_and(|door| door.listener().tls.is_some());
                    if offered && !self.inbox.unread().is_empty() {
                        return Err(StartupError::EarlyData.into());
                    }
                    self.answer(if offered { b'S' } else { b'N' }).await?;
                    if offered {
                        Box::pin(self.encrypt(&[])).await?;
                    }
                }
                FirstPacket::GssEncRequest => self.answer(b'N').await?,
                FirstPacket::Cancel(_) | FirstPacket::Startup(_) => return Ok(packet),
            }
        }
    }

    async fn answer(&mut self, answer: u8) -> Result<(), TurnedAway> {
        self.out.push(answer);
        let stream = self.stream.as_mut().ok_or(TurnedAway::Gone)?;
        prove::send(stream, &mut self.out).await
    }

    async fn encrypt(&mut self, early: &[u8]) -> Result<(), TurnedAway> {
        let door = self.door.as_ref().ok_or(TurnedAway::Gone)?;
        let tls = door.listener().tls.as_ref();
        let tls = tls.ok_or(TurnedAway::DirectTls("this listener has no certificate"))?;
        let stream = self.stream.take().ok_or(TurnedAway::Gone)?;
        self.stream = Some(stream.accept_tls(tls, early).await.map_err(TurnedAway::Tls)?);
        Ok(())
    }

    /// From the startup packet to the open door.
    async fn identify(&mut self, startup: Startup) -> Result<Arrival, TurnedAway> {
        let (Some(stream), Some(door)) = (&mut self.stream, &mut self.door) else {
            return Err(TurnedAway::Gone);
        };
        if door.listener().require_tls && !stream.is_tls() && !stream.is_unix() {
            let message = "this listener of Trailgate accepts TLS only; set sslmode=require";
            return Err(TurnedAway::refused(Report::fatal("28000", message)));
        }
        let options = Options::parse(startup.parameter(b"options").unwrap_or_default());
        let client = door.client_mut();
        client.application = startup.parameter(b"application_name").and_then(description);
        client.task = options.own("task").and_then(description);
        client.tls = stream.tls_version().map(str::to_owned);

        let claimed = String::from_utf8_lossy(target::principal(startup.user())).into_owned();
        let exchange = prove::exchange(door, stream, options.own("auth"))?;
        startup.put_negotiation(&mut self.out);
        let who = prove::prove(stream, &mut self.inbox, &mut self.out, door, &claimed, exchange).await?;

        let principal = door.principal(&claimed);
        let (Some(door), Some(principal)) = (self.door.take(), principal) else {
            // Removed in the very moment.
            return Err(TurnedAway::refused(Report::fatal("28P01", identity::REFUSED)));
        };
        let identified = door.identified(who, &principal);
        let asked = target::asked(startup.user(), startup.database(), stream.server_name(), |name| {
            identified.has_target(name)
        });
        let database = asked.database.as_deref().map(String::from_utf8_lossy);
        let opening = identified.target(&asked.target, database.as_deref()).map_err(|refused| {
            let (identified, error) = *refused;
            record(identified.turned_away(&error.to_string()));
            TurnedAway::refused(match &error {
                NotThere::NoSuchTarget(_) => no_such_target(&error.to_string()),
                NotThere::Forbidden(_) => forbidden(&error.to_string()),
            })
        })?;
        let allowed = opening.target().allow.contains("replication");
        if startup.replication != Replication::No && !allowed {
            record(opening.identified().turned_away("replication is not allowed for the target"));
            return Err(TurnedAway::refused(no_replication(opening.target().name.as_str())));
        }
        let settings = settings(&options, &startup);
        opening.arranges(&arranged(&settings)).map_err(|error| {
            let names: Vec<&str> = settings.iter().map(|setting| setting.name.as_str()).collect();
            let reason = format!("settings of the connection ({}): {error}", names.join(", "));
            record(opening.identified().turned_away(&reason));
            TurnedAway::refused(forbidden(&reason))
        })?;
        prove::send(stream, &mut self.out).await?;

        let wish = Wish { database: asked.database, parameters: forwarded(&startup, &options) };
        let stream = self.stream.take().ok_or(TurnedAway::Gone)?;
        Ok(Arrival::Guest(Box::new(Guest {
            stream,
            opening,
            protocol: startup.agreed(),
            wish,
            settings,
            replication: startup.replication,
            pending: self.inbox.take(),
        })))
    }
}

fn record(result: Result<(), session::NotRecorded>) {
    if let Err(error) = result {
        tracing::error!(%error, "a refusal could not be recorded");
    }
}

/// What a client says of itself, fit to be shown.
fn description(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_DESCRIPTION_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

/// The client's parameters for the target.
fn forwarded(startup: &Startup, options: &Options) -> Vec<startup::Parameter> {
    let own = [&b"user"[..], b"database", b"options", b"replication"];
    let others = startup.parameters.iter().filter(|(name, _)| !own.contains(&name.as_slice())).cloned();
    let options = options.forwarded.clone().map(|options| (b"options".to_vec(), options));
    let replication = startup.parameter(b"replication").filter(|_| startup.replication != Replication::No);
    let replication = replication.map(|value| (b"replication".to_vec(), value.to_vec()));
    options.into_iter().chain(replication).chain(others).collect()
}

/// Settings in the order in which the server applies them: the options first, then the parameters.
fn settings(options: &Options, startup: &Startup) -> Vec<Setting> {
    let own = [&b"user"[..], b"database", b"options", b"replication"];
    let parameters = startup.parameters.iter().filter(|(name, _)| !own.contains(&name.as_slice()));
    let parameters = parameters.map(|(name, value)| Setting {
        name: String::from_utf8_lossy(name).to_ascii_lowercase(),
        value: value.clone(),
    });
    options.settings.iter().cloned().chain(parameters).collect()
}

/// What the settings of a connection come to, as facts of a command that policy judges.
fn arranged(settings: &[Setting]) -> Facts {
    let values: Vec<_> =
        settings.iter().map(|setting| (&*setting.name, String::from_utf8_lossy(&setting.value))).collect();
    classify::postgres::arranged(values.iter().map(|(name, value)| (*name, &**value)))
}

/// Many drivers show the message alone, so it says everything.
fn no_such_target(reason: &str) -> Report {
    let message = format!(
        "{reason}; name one as the database (dbname=TARGET or dbname=TARGET/DATABASE), in the user name (user=NAME~TARGET), or as the first part of the host name in TLS"
    );
    Report::fatal("3D000", message)
}

/// The message says everything: many drivers show no hint.
fn forbidden(reason: &str) -> Report {
    Report::fatal("42501", reason).with_hint("There is no other route to this target.")
}

fn no_replication(target: &str) -> Report {
    let message = format!(
        "target `{target}` does not allow replication through Trailgate; whoever runs the gateway can allow it for this target"
    );
    Report::fatal("42501", message)
}
