//! What the SSH library asks of the gateway on the client's leg.
//!
//! Nothing here waits for one channel: this runs in the library's one task of the connection. Requests are answered at
//! once, in their order, and handed to the task that belongs to the channel. Only what belongs to the whole connection,
//! that a target listens for it, waits for the target's answer, and not for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use identity::SshPublicKey;
use russh::keys::ssh_key::PublicKey;
use russh::keys::{Algorithm, Certificate};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, MethodKind, MethodSet, Pty, Sig};
use session::NotRecorded;
use tokio::sync::{mpsc, oneshot};

use crate::client_stream::Switch;
use crate::inbox::{Event, Flood, Inbox, Inboxes, WINDOW_BYTES};
use crate::login::{Arrived, LoginAttempt};

/// Channels of one connection at once.
const MAX_CHANNELS: usize = 256;

/// Environment variables of one channel, and the longest value, in bytes.
const MAX_VARIABLES: usize = 64;
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// Longest command line, in bytes: a packet carries a little more at most.
const MAX_COMMAND_BYTES: usize = 256 * 1024;

/// The smallest window, in bytes: what a client is granted while one of its channels is crowded.
const TRICKLE_BYTES: u32 = 2;

/// How long each trickle is held up.
const TRICKLE_PAUSE: Duration = Duration::from_millis(1);

/// Why a client's connection is ended from here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientFault {
    /// The protocol, or the connection.
    #[error(transparent)]
    Library(#[from] russh::Error),
    /// More than its window allows.
    #[error("the client sent more than it may")]
    Flood,
    /// A failed login could not be recorded.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
}

impl From<Flood> for ClientFault {
    fn from(_: Flood) -> Self {
        Self::Flood
    }
}

/// A terminal that a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Terminal {
    /// `TERM`.
    pub term: String,
    /// Columns, rows, and both in pixels.
    pub size: [u32; 4],
    /// Modes (RFC 4254, section 8).
    pub modes: Vec<(Pty, u32)>,
}

/// X11 as a client offers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct X11 {
    pub single: bool,
    pub protocol: String,
    pub cookie: String,
    pub screen: u32,
}

/// What was asked for on a channel before its program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Setup {
    pub terminal: Option<Terminal>,
    pub variables: Vec<(String, String)>,
    pub agent: bool,
    pub x11: Option<X11>,
}

/// A program that a client wants to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// A command line, for the account's shell.
    Exec(Vec<u8>),
    /// The account's shell itself.
    Shell,
    /// A subsystem by name: `sftp`.
    Subsystem(String),
}

/// The client's end of a channel. Dropped, its place among the connection's channels is free again: a channel that the
/// gateway closes first is never heard of again from the library.
pub(crate) struct ClientChannel {
    pub id: ChannelId,
    pub write: ChannelWriteHalf<Msg>,
    pub inbox: Arc<Inbox>,
    inboxes: Inboxes,
}

impl ClientChannel {
    pub(crate) const fn new(
        id: ChannelId,
        write: ChannelWriteHalf<Msg>,
        inbox: Arc<Inbox>,
        inboxes: Inboxes,
    ) -> Self {
        Self { id, write, inbox, inboxes }
    }
}

impl Drop for ClientChannel {
    fn drop(&mut self) {
        self.inboxes.remove(self.id);
    }
}

/// What the target listens on, or why it does not. Of a socket, and of what it listens on no longer, the number means
/// nothing.
pub(crate) type Listens = Result<u32, String>;

/// Something that a client wants, for the connection's own task.
pub(crate) enum Wish {
    /// To run a program.
    Program { channel: ClientChannel, setup: Setup, program: Program },
    /// To talk to a port that the target can reach.
    DirectTcp {
        channel: ClientChannel,
        reply: ChannelOpenHandle,
        to: (String, u32),
        originator: (String, u32),
    },
    /// To talk to a socket at the target.
    DirectStreamlocal { channel: ClientChannel, reply: ChannelOpenHandle, path: String },
    /// That the target listens on a port for it.
    ListenTcp { at: (String, u32), answer: oneshot::Sender<Listens> },
    /// That the target listens no longer.
    CancelTcp { at: (String, u32), answer: oneshot::Sender<Listens> },
    /// That the target listens on a socket for it.
    ListenStreamlocal { path: String, answer: oneshot::Sender<Listens> },
    /// That the target listens no longer.
    CancelStreamlocal { path: String, answer: oneshot::Sender<Listens> },
}

/// A channel whose program was not asked for yet.
struct Unstarted {
    write: ChannelWriteHalf<Msg>,
    setup: Setup,
}

/// Answers one client's connection.
pub(crate) struct ClientSide {
    login: LoginAttempt,
    arrived: Option<oneshot::Sender<Arrived>>,
    switch: Arc<Switch>,
    wishes: mpsc::Sender<Wish>,
    inboxes: Inboxes,
    unstarted: HashMap<ChannelId, Unstarted>,
    crowd: Arc<AtomicUsize>,
    accept_env: Arc<[String]>,
}

impl ClientSide {
    pub(crate) fn new(
        login: LoginAttempt,
        arrived: oneshot::Sender<Arrived>,
        switch: Arc<Switch>,
        wishes: mpsc::Sender<Wish>,
        accept_env: Arc<[String]>,
        inboxes: Inboxes,
    ) -> Self {
        Self {
            login,
            arrived: Some(arrived),
            switch,
            wishes,
            inboxes,
            unstarted: HashMap::new(),
            crowd: Arc::default(),
            accept_env,
        }
    }

    fn concluded(&mut self, arrived: Option<Arrived>) -> Auth {
        let Some(arrived) = arrived else { return rejected() };
        let Some(sender) = self.arrived.take() else { return rejected() };
        // Nobody there: the time for the login is over.
        if sender.send(arrived).is_err() {
            return rejected();
        }
        self.switch.lift_budget();
        Auth::Accept
    }

    /// Takes a channel in, unless there are too many.
    fn open(&mut self, id: ChannelId) -> Option<Arc<Inbox>> {
        if self.inboxes.len() >= MAX_CHANNELS {
            return None;
        }
        let inbox = Inbox::new(Arc::clone(&self.crowd));
        self.inboxes.insert(id, Arc::clone(&inbox));
        Some(inbox)
    }

    /// Takes a channel in that needs no program, unless there are too many.
    fn taken_in(&mut self, channel: Channel<Msg>) -> Option<ClientChannel> {
        let id = channel.id();
        let inbox = self.open(id)?;
        let (_, write) = channel.split();
        Some(ClientChannel::new(id, write, inbox, self.inboxes.clone()))
    }

    /// A channel whose program was not asked for yet.
    fn unstarted(&mut self, id: ChannelId) -> Option<&mut Unstarted> {
        self.unstarted.get_mut(&id)
    }

    /// Hands a program over to the connection's own task, and says yes: what becomes of it is said on the channel.
    async fn start(
        &mut self,
        id: ChannelId,
        program: Program,
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        let (Some(Unstarted { write, setup }), Some(inbox)) =
            (self.unstarted.remove(&id), self.inboxes.of(id))
        else {
            return Ok(session.channel_failure(id)?);
        };
        let channel = ClientChannel::new(id, write, inbox, self.inboxes.clone());
        session.channel_success(id)?;
        self.wish(Wish::Program { channel, setup, program }).await;
        Ok(())
    }

    async fn wish(&self, wish: Wish) {
        // Nobody there: the connection is being ended.
        drop(self.wishes.send(wish).await);
    }

    /// Asks for what the whole connection waits for: who answers has a deadline, and never waits for people. A no has no
    /// room for its reason, so that goes before it as a message that clients show when they are asked to be verbose (RFC
    /// 4253, section 11.3).
    async fn ask(
        &self,
        session: &mut Session,
        wish: impl FnOnce(oneshot::Sender<Listens>) -> Wish,
    ) -> Result<Option<u32>, ClientFault> {
        let (answer, answered) = oneshot::channel();
        self.wish(wish(answer)).await;
        match answered.await {
            Ok(Ok(port)) => Ok(Some(port)),
            Ok(Err(sentence)) => {
                session.debug(true, &format!("trailgate: {sentence}"), "")?;
                Ok(None)
            }
            // The connection is being ended.
            Err(_) => Ok(None),
        }
    }

    fn accepts(&self, name: &str) -> bool {
        self.accept_env.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        self.inboxes.gone();
    }
}

fn rejected() -> Auth {
    let methods = [MethodKind::PublicKey, MethodKind::Password];
    Auth::Reject { proceed_with_methods: Some(MethodSet::from(methods.as_slice())), partial_success: false }
}

fn public_key(key: &PublicKey) -> Option<SshPublicKey> {
    SshPublicKey::from_blob(key.to_bytes().ok()?).ok()
}

impl Handler for ClientSide {
    type Error = ClientFault;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, ClientFault> {
        Ok(rejected())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, ClientFault> {
        // An RSA key without a hash is one that signs with SHA-1 (RFC 8332, section 3).
        self.login.software(self.switch.software());
        let outdated = matches!(offer.algorithm, Algorithm::Rsa { hash: None });
        Ok(if !outdated && self.login.may_sign(user) { Auth::Accept } else { rejected() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, ClientFault> {
        let Some(key) = public_key(key.public_key) else { return Ok(rejected()) };
        let arrived = self.login.by_key(user, &key)?;
        Ok(self.concluded(arrived))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, ClientFault> {
        let arrived = self.login.by_certificate(user, certificate)?;
        Ok(self.concluded(arrived))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, ClientFault> {
        self.login.software(self.switch.software());
        let arrived = self.login.by_token(user, password)?;
        Ok(self.concluded(arrived))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ClientFault> {
        let id = channel.id();
        if self.open(id).is_none() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // The library's own queue is not used: it would make the whole connection wait.
        let (_, write) = channel.split();
        self.unstarted.insert(id, Unstarted { write, setup: Setup::default() });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ClientFault> {
        let Some(channel) = self.taken_in(channel) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let (to, originator) = ((host.to_owned(), port), (originator_address.to_owned(), originator_port));
        self.wish(Wish::DirectTcp { channel, reply, to, originator }).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ClientFault> {
        let Some(channel) = self.taken_in(channel) else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        self.wish(Wish::DirectStreamlocal { channel, reply, path: socket_path.to_owned() }).await;
        Ok(())
    }

    /// The client has taken a channel that the gateway opened: from here on it may send.
    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), ClientFault> {
        self.inboxes.insert(id, Inbox::new(Arc::clone(&self.crowd)));
        Ok(())
    }

    // Channels that a client has no business opening (RFC 4254, sections 6.3.2 and 7.2) are refused by the library when
    // their reply is dropped: x11, forwarded-tcpip.

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), ClientFault> {
        let Some(inbox) = self.inboxes.of(id) else { return Ok(()) };
        inbox.data(data)?;
        if inbox.is_crowded() && data.len() <= TRICKLE_BYTES as usize {
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        if self.crowd.load(Ordering::Acquire) > 0 { TRICKLE_BYTES } else { WINDOW_BYTES }
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), ClientFault> {
        if let Some(inbox) = self.inboxes.of(id) {
            inbox.push(Event::Eof)?;
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), ClientFault> {
        self.unstarted.remove(&id);
        if let Some(inbox) = self.inboxes.remove(id) {
            inbox.gone();
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        let terminal = Terminal {
            term: term.chars().take(64).collect(),
            size: [columns, rows, width, height],
            modes: modes.to_vec(),
        };
        match self.unstarted(id) {
            Some(open) if open.setup.terminal.is_none() => {
                open.setup.terminal = Some(terminal);
                session.channel_success(id)?;
            }
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        let accepted = self.accepts(name) && value.len() <= MAX_VALUE_BYTES;
        match self.unstarted(id) {
            Some(open) if accepted && open.setup.variables.len() < MAX_VARIABLES => {
                open.setup.variables.push((name.to_owned(), value.to_owned()));
                session.channel_success(id)?;
            }
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        let x11 = X11 { single, protocol: protocol.to_owned(), cookie: cookie.to_owned(), screen };
        match self.unstarted(id) {
            Some(open) => {
                open.setup.x11 = Some(x11);
                session.channel_success(id)?;
            }
            None => session.channel_failure(id)?,
        }
        Ok(())
    }

    async fn agent_request(&mut self, id: ChannelId, _: &mut Session) -> Result<bool, ClientFault> {
        Ok(self.unstarted(id).map(|open| open.setup.agent = true).is_some())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        if command.len() > MAX_COMMAND_BYTES {
            return Ok(session.channel_failure(id)?);
        }
        self.start(id, Program::Exec(command.to_vec()), session).await
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), ClientFault> {
        self.start(id, Program::Shell, session).await
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        self.start(id, Program::Subsystem(name.to_owned()), session).await
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), ClientFault> {
        let size = [columns, rows, width, height];
        if let Some(open) = self.unstarted(id) {
            if let Some(terminal) = &mut open.setup.terminal {
                terminal.size = size;
            }
        } else if let Some(inbox) = self.inboxes.of(id) {
            inbox.push(Event::Resize(size))?;
        }
        Ok(session.channel_success(id)?)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), ClientFault> {
        if let Some(inbox) = self.inboxes.of(id) {
            inbox.push(Event::Signal(signal))?;
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, ClientFault> {
        let at = (address.to_owned(), *port);
        let given = self.ask(session, |answer| Wish::ListenTcp { at, answer }).await?;
        if let Some(given) = given {
            *port = given;
        }
        Ok(given.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        session: &mut Session,
    ) -> Result<bool, ClientFault> {
        let at = (address.to_owned(), port);
        Ok(self.ask(session, |answer| Wish::CancelTcp { at, answer }).await?.is_some())
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, ClientFault> {
        let path = path.to_owned();
        Ok(self.ask(session, |answer| Wish::ListenStreamlocal { path, answer }).await?.is_some())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        session: &mut Session,
    ) -> Result<bool, ClientFault> {
        let path = path.to_owned();
        Ok(self.ask(session, |answer| Wish::CancelStreamlocal { path, answer }).await?.is_some())
    }
}
