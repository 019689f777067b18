//! The leg to the target: connecting, making sure that it is the target, logging in with the gateway's own credential.

mod error;
mod known;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, ChannelOpenHandle, KeyboardInteractiveAuthResponse, Msg};
use russh::keys::{
    Algorithm, Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key,
};
use russh::{Channel, ChannelOpenFailure, Disconnect};
use session::{Secret, Target};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use error::UpstreamError;
use known::Known;

use crate::algorithms;
use crate::client_stream::READ_BYTES;
use crate::target_url::Address;

/// Bytes that a target may send on a channel before the gateway has taken them: its window (RFC 4254, section 5.2).
const WINDOW_BYTES: u32 = 2 << 20;

/// Messages of a target that wait for one channel's client; then the target has to wait.
const QUEUED_MESSAGES: usize = 32;

/// Silence after which a target is asked whether it is there, and how often it may be silent then.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVES_UNANSWERED: usize = 3;

/// How long a target may take to open a channel on a connection that is logged in.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// Channels that a target opens (for a remote forwarding) and nobody has looked at yet.
const QUEUED_CHANNELS: usize = 16;

/// A channel that the target has opened towards the client.
pub(crate) enum Incoming {
    /// Somebody connected to a port that the target listens on for the client.
    Tcp {
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        connected: (String, u32),
        originator: (String, u32),
    },
    /// Somebody connected to a socket that the target listens on for the client.
    Streamlocal { channel: Channel<Msg>, reply: ChannelOpenHandle, path: String },
    /// A program at the target wants to talk to the client's agent.
    Agent { channel: Channel<Msg>, reply: ChannelOpenHandle },
    /// A program at the target wants to show a window.
    X11 { channel: Channel<Msg>, reply: ChannelOpenHandle, originator: (String, u32) },
}

/// A connection to a target, logged in.
pub struct Connection {
    pub(crate) handle: client::Handle<TargetSide>,
    /// What the target says it is: `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub version: String,
    /// The account that the gateway is logged in to.
    pub login: String,
    /// The gateway's own end, by which the target's log names the connection.
    pub local: String,
    /// Channels that the target opens.
    pub(crate) incoming: Option<mpsc::Receiver<Incoming>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("version", &self.version).field("login", &self.login).finish()
    }
}

impl Connection {
    /// Connects to a target and logs in, as `login` or as its URL says.
    ///
    /// # Errors
    /// [`UpstreamError`] says which side is at fault.
    pub async fn open(target: &Target, login: Option<&str>) -> Result<Self, UpstreamError> {
        let mut address = Address::of_url(&target.url).ok_or(UpstreamError::Url)?;
        if let Some(login) = login {
            login.clone_into(&mut address.login);
        }
        let patience = address.connect_timeout;
        let opened = Box::pin(timeout(patience, Self::open_at(target, &address))).await;
        opened.unwrap_or_else(|_| Err(UpstreamError::TimedOut(patience)))
    }

    async fn open_at(target: &Target, address: &Address) -> Result<Self, UpstreamError> {
        let known = Known::of(&target.material)?;
        let credential = Credential::of(&target.material)?;
        let config = config(&known);
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
        let stream = stream.map_err(|source| UpstreamError::Connect {
            place: format!("{}:{}", address.host, address.port),
            source,
        })?;
        stream.set_nodelay(true).map_err(UpstreamError::Broken)?;
        let local = stream.local_addr().map_err(UpstreamError::Broken)?.to_string();
        let (channels, incoming) = mpsc::channel(QUEUED_CHANNELS);
        let seen = Arc::<Mutex<Seen>>::default();
        let side = TargetSide { known, host: address.host.clone(), seen: Arc::clone(&seen), channels };
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let connected = client::connect_stream(Arc::new(config), stream, side).await;
        let mut handle = connected.map_err(|error| {
            let refused = lock(&seen).refused.take();
            refused.unwrap_or(UpstreamError::Handshake(error))
        })?;
        credential.prove(&mut handle, &address.login).await?;
        let version = lock(&seen).version.clone();
        Ok(Self { handle, version, login: address.login.clone(), local, incoming: Some(incoming) })
    }

    /// Whether the target, or the network, has ended the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Opens a channel for a program.
    ///
    /// # Errors
    /// When the target opens none, or does not answer: a connection that was kept may have died unseen.
    pub(crate) async fn open_channel(&self) -> Result<Channel<Msg>, russh::Error> {
        let opened = timeout(OPEN_TIME, self.handle.channel_open_session()).await;
        opened.unwrap_or(Err(russh::Error::ConnectionTimeout))
    }

    /// Says goodbye.
    pub async fn close(self) {
        // The target may be gone already.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }
}

fn config(known: &Known) -> client::Config {
    client::Config {
        client_id: algorithms::software(),
        window_size: WINDOW_BYTES,
        maximum_packet_size: algorithms::MAX_PACKET_BYTES,
        channel_buffer_size: QUEUED_MESSAGES,
        preferred: algorithms::to_target(known.algorithms(), known.certificate_algorithms()),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_UNANSWERED,
        limits: algorithms::rekey_limits(),
        nodelay: true,
        ..client::Config::default()
    }
}

/// What the gateway logs in with.
enum Credential {
    Key(Arc<PrivateKey>, Option<Box<Certificate>>),
    Password(String),
}

impl Credential {
    fn of(material: &std::collections::BTreeMap<String, Secret>) -> Result<Self, UpstreamError> {
        let text = |name: &'static str| {
            let bytes = material.get(name)?;
            Some(std::str::from_utf8(bytes.expose()).map_err(|_| UpstreamError::Material(name)))
        };
        if let Some(key) = text("key") {
            // Old PEM files of RSA keys may have spaces around them.
            let key = decode_secret_key(key?, None).map_err(UpstreamError::Key)?;
            let certificate = text("key_cert").transpose()?.map(|text| {
                Certificate::from_openssh(text.trim()).map_err(|_| UpstreamError::Material("key_cert"))
            });
            return Ok(Self::Key(Arc::new(key), certificate.transpose()?.map(Box::new)));
        }
        match text("password").transpose()? {
            Some(password) if !password.is_empty() => Ok(Self::Password(password.to_owned())),
            _ => Err(UpstreamError::NoCredential),
        }
    }

    async fn prove(self, handle: &mut client::Handle<TargetSide>, login: &str) -> Result<(), UpstreamError> {
        let (result, method) = match self {
            Self::Key(key, Some(certificate)) => {
                (handle.authenticate_openssh_cert(login, key, *certificate).await, "certificate")
            }
            Self::Key(key, None) => {
                // Only RSA has a choice; asking waits for the target to name its own.
                let hash = match key.algorithm() {
                    Algorithm::Rsa { .. } => handle.best_supported_rsa_hash().await.ok().flatten().flatten(),
                    _ => None,
                };
                let key = PrivateKeyWithHashAlg::new(key, hash);
                (handle.authenticate_publickey(login, key).await, "key")
            }
            Self::Password(password) => {
                let first = handle.authenticate_password(login, password.as_str()).await;
                if matches!(first, Ok(AuthResult::Failure { .. })) && asked(handle, login, &password).await? {
                    return Ok(());
                }
                (first, "password")
            }
        };
        match result {
            Ok(AuthResult::Success) => Ok(()),
            Ok(AuthResult::Failure { partial_success: true, .. }) => Err(UpstreamError::SecondFactor),
            Ok(AuthResult::Failure { .. }) => Err(UpstreamError::Refused { login: login.to_owned(), method }),
            Err(error) => Err(UpstreamError::Handshake(error)),
        }
    }
}

/// The password as an answer to one question (RFC 4256): what PAM makes of passwords.
async fn asked(
    handle: &mut client::Handle<TargetSide>,
    login: &str,
    password: &str,
) -> Result<bool, UpstreamError> {
    let mut answer = handle
        .authenticate_keyboard_interactive_start(login, None)
        .await
        .map_err(UpstreamError::Handshake)?;
    // One question, and then perhaps one without any.
    for _ in 0..3 {
        let responses = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => match prompts.as_slice() {
                [] => Vec::new(),
                [only] if !only.echo => vec![password.to_owned()],
                _ => return Ok(false),
            },
        };
        answer = handle
            .authenticate_keyboard_interactive_respond(responses)
            .await
            .map_err(UpstreamError::Handshake)?;
    }
    Ok(matches!(answer, KeyboardInteractiveAuthResponse::Success))
}

/// What was seen of the target before it was logged in to.
#[derive(Default)]
struct Seen {
    version: String,
    refused: Option<UpstreamError>,
}

/// Answers what the target asks for by itself: to be known, and channels towards the client.
pub(crate) struct TargetSide {
    known: Known,
    host: String,
    seen: Arc<Mutex<Seen>>,
    channels: mpsc::Sender<Incoming>,
}

impl TargetSide {
    /// Hands a channel over to whoever the forwarding belongs to; dropped, it is refused.
    fn hand_over(&self, incoming: Incoming) -> Result<(), russh::Error> {
        // Refused if nobody wants it, or a flood of them comes: dropping the reply says so to the target.
        drop(self.channels.try_send(incoming));
        Ok(())
    }
}

impl client::Handler for TargetSide {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        match self.known.check(&self.host, shown) {
            Ok(()) => Ok(true),
            Err(refused) => {
                lock(&self.seen).refused = Some(refused);
                Ok(false)
            }
        }
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &russh::Names,
        session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        lock(&self.seen).version = String::from_utf8_lossy(session.remote_sshid()).trim().to_owned();
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.hand_over(Incoming::Tcp {
            channel,
            reply,
            connected: (connected_address.to_owned(), connected_port),
            originator: (originator_address.to_owned(), originator_port),
        })
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.hand_over(Incoming::Streamlocal { channel, reply, path: socket_path.to_owned() })
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.hand_over(Incoming::Agent { channel, reply })
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let originator = (originator_address.to_owned(), originator_port);
        self.hand_over(Incoming::X11 { channel, reply, originator })
    }

    // A server has no business opening these (RFC 4254, sections 6.1 and 7.2); the library would let it.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a target said of itself when the gateway logged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its version string.
    pub version: String,
    /// The account.
    pub login: String,
}

/// Logs in to a target as a session would, and leaves again.
///
/// # Errors
/// [`UpstreamError`] says which side is at fault.
pub async fn test_target(target: &Target) -> Result<Server, UpstreamError> {
    let connection = Connection::open(target, None).await?;
    let server = Server { version: connection.version.clone(), login: connection.login.clone() };
    connection.close().await;
    Ok(server)
}
