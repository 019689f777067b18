//! The command line's side of the API: one connection to the one address that was given, nothing else.
//!
//! No proxy from the environment, no redirect, no name but the given one is ever looked up: the request may
//! carry an administrator's token.

pub(crate) mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::filters::CUT_HEADER;
use api::problem::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::Failure;

/// Names the gateway's API, in place of the control socket.
pub const URL_VARIABLE: &str = "TRAILGATE_URL";

/// The bearer token for [`URL_VARIABLE`].
pub const TOKEN_VARIABLE: &str = "TRAILGATE_TOKEN";

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer may take to begin. The gateway gives up before.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

/// Longest answer that is read into memory, in bytes.
const MAX_ANSWER: usize = 256 << 20;

/// Where the API is.
#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    Web { tls: bool, host: String, port: u16, token: String },
}

/// A client of the API.
#[derive(Clone, Debug)]
pub struct Client {
    place: Place,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nothing listens there.
    NoGateway {
        /// Where it should have been.
        place: String,
        /// Whether that is the control socket of a data directory.
        local: bool,
    },
    /// The gateway said no.
    Refused(Problem),
    /// Anything else.
    Failed(Failure),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoGateway { place, local: true } => Self::new(
                format!("no gateway answers at {place}"),
                "start one with `trailgate up`, or name its data directory with --data",
            ),
            ClientError::NoGateway { place, local: false } => Self::new(
                format!("no gateway answers at {place}"),
                format!("check {URL_VARIABLE}, and that the gateway is up"),
            ),
            ClientError::Refused(problem) => problem.into(),
            ClientError::Failed(failure) => failure,
        }
    }
}

impl Client {
    /// The gateway of a data directory, or the one that the environment names.
    ///
    /// # Errors
    /// [`Failure`] if the environment names one wrongly.
    pub fn from_environment(data: &Path) -> Result<Self, Failure> {
        match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Self::at_url(&url, std::env::var(TOKEN_VARIABLE).ok()),
            _ => Ok(Self::at_socket(data)),
        }
    }

    /// The gateway of a data directory, over its control socket.
    #[must_use]
    pub fn at_socket(data: &Path) -> Self {
        Self { place: Place::Socket(crate::data::control_socket(data)) }
    }

    /// A gateway by its web listener.
    ///
    /// # Errors
    /// [`Failure`] if the URL is none, or there is no token.
    pub fn at_url(text: &str, token: Option<String>) -> Result<Self, Failure> {
        let advice = format!("write {URL_VARIABLE} as http://127.0.0.1:18080 or https://gateway.example");
        let wrong = || Failure::new(format!("`{text}` is no address of a gateway"), &advice);
        let url: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host =
            url.host().map(|host| host.trim_start_matches('[').trim_end_matches(']')).unwrap_or_default();
        let plain_path =
            matches!(url.path_and_query().map_or("", hyper::http::uri::PathAndQuery::as_str), "" | "/");
        if host.is_empty()
            || !plain_path
            || url.authority().is_none_or(|authority| authority.as_str().contains('@'))
        {
            return Err(wrong());
        }
        let (host, port) = (host.to_owned(), url.port_u16().unwrap_or(if tls { 443 } else { 80 }));
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
            Failure::new(
                format!("{URL_VARIABLE} is set but {TOKEN_VARIABLE} is not"),
                format!(
                    "set {TOKEN_VARIABLE} to the token of a person with the role administrator or auditor"
                ),
            )
        })?;
        Ok(Self { place: Place::Web { tls, host, port, token } })
    }

    /// Whether it is the gateway of a data directory on this machine.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    /// The host that the environment named; `None` for the gateway of a data directory.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Socket(_) => None,
            Place::Web { host, .. } => Some(host),
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        whole(self.request(Method::GET, path, Bytes::new()).await?).await
    }

    /// Sends something and reads the answer.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        whole(self.request(Method::POST, path, body.into()).await?).await
    }

    /// Removes something.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        whole(self.request(Method::DELETE, path, Bytes::new()).await?).await
    }

    /// Asks for text.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
            ClientError::Failed(Failure::new(format!("the gateway's answer broke off: {error}"), "try again"))
        })?;
        String::from_utf8(body.to_bytes().into()).map_err(|error| unreadable(&error))
    }

    /// Asks for JSON lines, which may come for ever.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        let cut = response.headers().get(CUT_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Lines { body: response.into_body(), rest: Vec::new(), searched: 0, ended: false, cut })
    }

    /// Asks for bytes, however many.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn pieces(&self, path: &str) -> Result<Pieces, ClientError> {
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        Ok(Pieces { body: response.into_body() })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let has_body = !body.is_empty();
        let mut request = Request::builder()
            .method(method)
            .header(header::USER_AGENT, concat!("trailgate/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if has_body {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let host = match &self.place {
            Place::Socket(_) => "localhost".to_owned(),
            Place::Web { host, port, token, .. } => {
                let mut bearer = header::HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                    ClientError::Failed(Failure::new(
                        format!("{TOKEN_VARIABLE} is no token"),
                        "copy it again from where it was shown",
                    ))
                })?;
                bearer.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, bearer);
                authority(host, *port)
            }
        };
        let request = request.uri(path).header(header::HOST, host).body(Full::new(body));
        let request = request.map_err(|error| unreadable(&error))?;
        let mut sender =
            tokio::time::timeout(CONNECT_DEADLINE, self.connect()).await.map_err(|_| self.nobody())??;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, sender.send_request(request)).await;
        let response = answer
            .map_err(|_| {
                ClientError::Failed(Failure::new("the gateway takes too long to answer", "see its log"))
            })?
            .map_err(|error| broken(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
                    std::io::ErrorKind::PermissionDenied => ClientError::Failed(Failure::new(
                        format!("you may not open {}", path.display()),
                        "run this as the user that runs the gateway, or use TRAILGATE_URL and TRAILGATE_TOKEN",
                    )),
                    _ => self.nobody(),
                })?;
                started(stream).await
            }
            Place::Web { tls, host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|_| self.nobody())?;
                if *tls {
                    let stream = tls::connect(stream, host).await.map_err(ClientError::Failed)?;
                    started(stream).await
                } else {
                    started(stream).await
                }
            }
        }
    }

    fn nobody(&self) -> ClientError {
        match &self.place {
            Place::Socket(path) => ClientError::NoGateway { place: path.display().to_string(), local: true },
            Place::Web { tls, host, port, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                ClientError::NoGateway {
                    place: format!("{scheme}://{}", authority(host, *port)),
                    local: false,
                }
            }
        }
    }
}

/// `host:port`, as a URL has it.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// JSON lines as they come.
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    /// Bytes at the beginning of `rest` that have been searched for the end of a line: a long one comes in many pieces.
    searched: usize,
    ended: bool,
    cut: Option<String>,
}

impl Lines {
    /// What the gateway says if these are not all, and how to see the rest.
    #[must_use]
    pub fn cut(&self) -> Option<&str> {
        self.cut.as_deref()
    }

    /// The next line that is not empty, or `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`] if the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().skip(self.searched).position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=self.searched + end).collect();
                self.searched = 0;
                line.pop();
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.rest.len();
            if self.ended {
                self.searched = 0;
                let line = std::mem::take(&mut self.rest);
                return Ok((!line.is_empty()).then_some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(broken(&error)),
                None => self.ended = true,
            }
        }
    }
}

/// Bytes as they come.
pub struct Pieces {
    body: Incoming,
}

impl Pieces {
    /// The next ones, or `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`] if the connection breaks: what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    Ok(_) | Err(_) => {}
                },
                Some(Err(error)) => return Err(broken(&error)),
                None => return Ok(None),
            }
        }
    }
}

async fn started<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    crate::supervisor::background(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the gateway ended early");
        }
    });
    Ok(sender)
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
        ClientError::Failed(Failure::new(format!("the gateway's answer broke off: {error}"), "try again"))
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| unreadable(&error))
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    match whole::<Problem>(response).await {
        Ok(problem) => ClientError::Refused(problem),
        Err(_) => ClientError::Refused(not_ours(status)),
    }
}

fn not_ours(status: StatusCode) -> Problem {
    Problem::new(
        status,
        format!("what answers there is no Trailgate API: it said {status}"),
        format!("check {URL_VARIABLE}: it names the web listener, without a path"),
    )
}

fn broken(error: &hyper::Error) -> ClientError {
    ClientError::Failed(Failure::new(
        format!("the connection to the gateway broke: {error}"),
        "see the gateway's log; it may have stopped",
    ))
}

fn unreadable(error: &impl std::fmt::Display) -> ClientError {
    ClientError::Failed(Failure::new(
        format!("the gateway and this command do not understand each other: {error}"),
        "use the same version of trailgate on both sides",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_named_by_scheme_host_and_port_alone() {
        let token = || Some("tg_x".to_owned());
        for (text, tls, host, port) in [
            ("http://127.0.0.1:18080", false, "127.0.0.1", 18080),
            ("https://gateway.example/", true, "gateway.example", 443),
            ("http://[::1]:8080", false, "::1", 8080),
        ] {
            let Place::Web { tls: t, host: h, port: p, .. } = Client::at_url(text, token()).unwrap().place
            else {
                panic!("{text} is no socket")
            };
            assert_eq!((t, h.as_str(), p), (tls, host, port));
        }
        for bad in
            ["", "gateway", "ftp://x", "http://", "http://a/b", "http://user:secret@host", "http://a?b"]
        {
            assert!(Client::at_url(bad, token()).is_err(), "{bad}");
        }
        assert!(Client::at_url("http://a", None).unwrap_err().what.contains("TRAILGATE_TOKEN"));
    }
}
