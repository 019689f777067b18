//! Login to a target: from the startup packet to the first ReadyForQuery.

use std::sync::Arc;

use classify::postgres::UNKNOWN_VALUE;
use identity::scram::{ChannelBinding, ChannelBindingPolicy, KeyCache, Nonce, ScramClient, ScramFinal};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use super::error::Problem;
use super::md5_password;
use super::url::TargetUrl;
use crate::stream::Stream;
use crate::stream::inbox::{Inbox, InboxError, Message};
use crate::wire::auth::{self, MAX_REQUEST_LEN, Request, SaslInitialResponse};
use crate::wire::error_response::Received;
use crate::wire::packet::{self, Cursor};
use crate::wire::startup::{MAX_CANCEL_KEY_LEN, MIN_CANCEL_KEY_LEN};

/// Most bytes that a target may send until it is ready. PostgreSQL sends about 500; login triggers and
/// `local_preload_libraries` may add notices.
pub const MAX_GREETING: usize = 1 << 20;

/// A target that waits for the first command.
#[derive(Debug, Default)]
pub struct Ready {
    /// What ParameterStatus said; a later one stands after an earlier one.
    pub parameters: Vec<(String, String)>,
    /// The backend's pid and cancel key; without them nothing can be cancelled.
    pub backend: Option<(i32, Vec<u8>)>,
    /// Every ParameterStatus and NoticeResponse as sent.
    pub greeting: Vec<u8>,
    /// The transaction status of ReadyForQuery.
    pub status: u8,
    /// What came after ReadyForQuery: notifications, at most.
    pub leftover: Vec<u8>,
}

/// Why the login failed.
#[derive(Debug)]
pub struct Failure {
    /// The reason.
    pub problem: Problem,
    /// Whether the server refused us with an ErrorResponse before the login was accepted: then libpq tries the other
    /// kind of encryption, where `sslmode` has two.
    pub refused: bool,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, refused: false }
    }
}

impl From<InboxError> for Problem {
    fn from(error: InboxError) -> Self {
        match error {
            InboxError::Closed => Self::Closed,
            InboxError::Io(error) => Self::Broken(error),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// The connection during login.
struct Exchange<'a> {
    stream: &'a mut Stream,
    inbox: Inbox,
    url: &'a TargetUrl,
    keys: &'a Arc<KeyCache>,
    ready: Ready,
    bound: bool,
}

/// Logs in with a startup packet made before. With `asks_search_path`, a server that does not say what the session's
/// search path is (before PostgreSQL 18) is asked: a role or a database may have one of its own, and unqualified names
/// mean nothing without it. The answer stands among the parameters, as if it had been reported.
///
/// # Errors
/// [`Failure`].
pub async fn log_in(
    stream: &mut Stream,
    url: &TargetUrl,
    keys: &Arc<KeyCache>,
    startup: &[u8],
    asks_search_path: bool,
) -> Result<Ready, Failure> {
    let inbox = Inbox::new(MAX_GREETING);
    let mut exchange = Exchange { stream, inbox, url, keys, ready: Ready::default(), bound: false };
    exchange.send(startup).await?;
    exchange.authenticate().await?;
    exchange.await_ready().await?;
    if asks_search_path && exchange.ready.parameters.iter().all(|(name, _)| name != SEARCH_PATH) {
        exchange.ask_search_path().await?;
    }
    exchange.ready.leftover = exchange.inbox.take();
    Ok(exchange.ready)
}

/// The setting that unqualified names are looked up by.
const SEARCH_PATH: &str = "search_path";

impl Exchange<'_> {
    /// Asks for the search path. A target that can't answer has one that is not known.
    async fn ask_search_path(&mut self) -> Result<(), Problem> {
        let mut question = Vec::new();
        packet::put(&mut question, b'Q', |out| packet::put_cstr(out, b"SHOW search_path"));
        self.send(&question).await?;
        let mut path = None;
        loop {
            let message = self.inbox.message(self.stream, MAX_GREETING).await?;
            let mut cursor = Cursor::new(message.body());
            match message.tag {
                b'D' => {
                    // One column, and the length of its value.
                    if cursor.take(2) == Some(&[0, 1]) && cursor.i32().is_some_and(|length| length >= 0) {
                        path = Some(String::from_utf8_lossy(cursor.rest()).into_owned());
                    }
                }
                b'S' => self.parameter_status(&message)?,
                b'N' => self.ready.greeting.extend_from_slice(&message.bytes),
                b'T' | b'C' | b'E' => {}
                b'Z' => {
                    self.ready.status = cursor.byte().ok_or_else(|| unexpected(b'Z'))?;
                    let path = path.unwrap_or_else(|| UNKNOWN_VALUE.to_owned());
                    self.ready.parameters.push((SEARCH_PATH.to_owned(), path));
                    return Ok(());
                }
                tag => return Err(unexpected(tag)),
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(Problem::Broken)
    }

    /// The next authentication request; notices are kept, an error ends it.
    async fn request(&mut self) -> Result<Message, Failure> {
        loop {
            let message = self.inbox.message(self.stream, MAX_REQUEST_LEN).await.map_err(Problem::from)?;
            match message.tag {
                b'R' => return Ok(message),
                b'N' => self.ready.greeting.extend_from_slice(&message.bytes),
                b'E' => return Err(Failure { problem: refusal(&message), refused: true }),
                // The server speaks an older minor version; what we asked for was only an offer.
                b'v' => {}
                tag => return Err(unexpected(tag).into()),
            }
        }
    }

    async fn authenticate(&mut self) -> Result<(), Failure> {
        let mut asked = false;
        loop {
            let message = self.request().await?;
            let request =
                Request::parse(message.body()).map_err(|error| Problem::Protocol(error.to_string()))?;
            let first = !std::mem::replace(&mut asked, true);
            if first
                && self.url.methods.as_ref().is_some_and(|known| !known.iter().any(|m| m == request.method()))
            {
                return Err(Problem::Method(request.method()).into());
            }
            let needs_binding = self.url.channel_binding == ChannelBindingPolicy::Require && !self.bound;
            match request {
                Request::Ok if needs_binding => return Err(Problem::NoChannelBinding.into()),
                Request::Ok => return Ok(()),
                Request::Sasl(mechanisms) if first => {
                    let names: Vec<Vec<u8>> = mechanisms.iter().map(<[u8]>::to_vec).collect();
                    self.scram(&names).await?;
                }
                Request::CleartextPassword | Request::Md5Password(_) if needs_binding => {
                    return Err(Problem::NoChannelBinding.into());
                }
                Request::CleartextPassword if first => self.cleartext().await?,
                Request::Md5Password(salt) if first => {
                    let response = md5_password::response(&self.url.user, &self.password()?, salt);
                    self.send_password(response.as_bytes()).await?;
                }
                Request::Other(_) => return Err(Problem::Method(request.method()).into()),
                _ => {
                    return Err(
                        Problem::Protocol("its authentication messages are out of order".to_owned()).into()
                    );
                }
            }
        }
    }

    fn password(&self) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let password = self.url.password.as_ref().ok_or(Problem::NoPassword)?;
        Ok(Zeroizing::new(password.expose().to_vec()))
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), Problem> {
        let mut out = Zeroizing::new(Vec::with_capacity(password.len() + 6));
        auth::put_password(&mut out, password);
        self.send(&out).await
    }

    /// Only where nobody can listen, or where the URL says that it may be.
    async fn cleartext(&mut self) -> Result<(), Problem> {
        let allowed =
            self.url.methods.as_ref().is_some_and(|methods| methods.iter().any(|m| m == "password"));
        if !(self.stream.is_tls() || self.stream.is_unix() || allowed) {
            return Err(Problem::Cleartext);
        }
        let password = self.password()?;
        self.send_password(&password).await
    }

    async fn scram(&mut self, mechanisms: &[Vec<u8>]) -> Result<(), Failure> {
        let password = self.password()?;
        let certificate = self.stream.target_certificate();
        let binding = certificate.and_then(|der| ChannelBinding::of_certificate(der).ok());
        let nonce = Nonce::random().ok_or(Problem::NoRandomness)?;
        let offered = mechanisms.iter().map(Vec::as_slice);
        let client = ScramClient::new(offered, binding.as_ref(), self.url.channel_binding, nonce);
        let client = client.map_err(Problem::Scram)?;
        let bound = client.mechanism() == identity::scram::Mechanism::ScramSha256Plus;

        let mut out = Vec::with_capacity(128);
        let mechanism = client.mechanism().as_str().as_bytes();
        SaslInitialResponse { mechanism, data: Some(client.message()) }.encode(&mut out);
        self.send(&out).await?;

        let challenge = self.request().await?;
        let Ok(Request::SaslContinue(data)) = Request::parse(challenge.body()) else {
            return Err(out_of_order());
        };
        let answer = client.challenged(data).map_err(Problem::Scram)?;
        let (salt, iterations) = (answer.salt().to_vec(), answer.iterations());
        let keys = if self.keys.holds(&password, &salt, iterations) {
            self.keys.keys(&password, &salt, iterations)
        } else {
            // Milliseconds of one core: not on the thread that serves other sessions.
            let cache = Arc::clone(self.keys);
            let derived = tokio::task::spawn_blocking(move || cache.keys(&password, &salt, iterations)).await;
            derived.map_err(|_| Problem::Protocol("the login was interrupted".to_owned()))?
        };
        let last: ScramFinal = answer.prove(&keys);
        out.clear();
        auth::put_sasl_response(&mut out, last.message());
        self.send(&out).await?;

        let verdict = self.request().await?;
        let Ok(Request::SaslFinal(data)) = Request::parse(verdict.body()) else { return Err(out_of_order()) };
        last.verify(data).map_err(Problem::Scram)?;
        self.bound = bound;
        Ok(())
    }

    fn parameter_status(&mut self, message: &Message) -> Result<(), Problem> {
        let mut cursor = Cursor::new(message.body());
        let (Some(name), Some(value)) = (cursor.cstr(), cursor.cstr()) else {
            return Err(unexpected(b'S'));
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.ready.parameters.push((text(name), text(value)));
        self.ready.greeting.extend_from_slice(&message.bytes);
        Ok(())
    }

    async fn await_ready(&mut self) -> Result<(), Problem> {
        loop {
            let message = self.inbox.message(self.stream, MAX_GREETING).await?;
            let mut cursor = Cursor::new(message.body());
            match message.tag {
                b'S' => self.parameter_status(&message)?,
                b'K' => {
                    let (Some(pid), key) = (cursor.i32(), cursor.rest()) else {
                        return Err(unexpected(b'K'));
                    };
                    if !(MIN_CANCEL_KEY_LEN..=MAX_CANCEL_KEY_LEN).contains(&key.len()) {
                        return Err(Problem::Protocol(format!("its cancel key has {} bytes", key.len())));
                    }
                    self.ready.backend = Some((pid, key.to_vec()));
                }
                b'N' => self.ready.greeting.extend_from_slice(&message.bytes),
                b'E' => return Err(refusal(&message)),
                b'v' => {}
                b'Z' => {
                    self.ready.status = cursor.byte().ok_or_else(|| unexpected(b'Z'))?;
                    return Ok(());
                }
                tag => return Err(unexpected(tag)),
            }
        }
    }
}

fn out_of_order() -> Failure {
    Problem::Protocol("its SASL messages are out of order".to_owned()).into()
}

fn unexpected(tag: u8) -> Problem {
    Problem::Protocol(format!("it sent the message `{}` during login", tag.escape_ascii()))
}

/// An ErrorResponse during login: about the gateway's credential (class 28), or about what the client asked for.
fn refusal(message: &Message) -> Problem {
    let received = Received::parse(message.body());
    let text = String::from_utf8_lossy(received.message).into_owned();
    let code = received.sqlstate().unwrap_or("XX000").to_owned();
    if code.starts_with("28") {
        return Problem::Credential { code, message: text };
    }
    Problem::Server { code, message: text, bytes: message.bytes.clone() }
}
