//! A small HTTP/1.1 client for what a gateway itself asks of others: one endpoint, one connection that is kept, bounded answers
//! and bounded time. No redirect is followed and no proxy of the environment is used.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cli::Failure;
use crate::client::tls;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer, in one clause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpError(pub String);

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpError {}

/// An answer, whatever its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty if there is none.
    pub content_type: String,
    /// The whole body.
    pub body: Bytes,
}

/// What TLS connections trust.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The authorities in a PEM file, or the system's.
    ///
    /// # Errors
    /// [`Failure`] if the file can't be used.
    pub fn new(ca: Option<&Path>) -> Result<Self, Failure> {
        tls::config(ca).map(Self)
    }
}

/// Where requests go: `http://host:port/prefix` or `https://…`.
pub struct Endpoint {
    url: String,
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
    trust: Option<Trust>,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Endpoint {
    /// An endpoint. Nothing is connected yet. `trust` is only asked for with `https`.
    ///
    /// # Errors
    /// [`Failure`] if the URL is none.
    pub fn new(url: &str, trust: impl FnOnce() -> Result<Trust, Failure>) -> Result<Self, Failure> {
        let wrong = || {
            Failure::new(
                format!("`{url}` is no URL to send requests to"),
                "write http://host:port/path or https://host/path",
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if host.is_empty() || has_user || uri.query().is_some() {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let trust = if tls { Some(trust()?) } else { None };
        Ok(Self { url: url.to_owned(), tls, host, port, prefix, trust, kept: None })
    }

    /// The URL as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a body to `prefix/path` and reads the whole answer, all within `deadline`. A connection that is still open is
    /// used again; if the other side has closed it meanwhile, a new one is opened. A request may therefore be sent twice.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let body = body.into();
        match tokio::time::timeout(deadline, self.exchange(path, headers, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.kept = None;
                Err(HttpError(format!("it does not answer within {} s", deadline.as_secs())))
            }
        }
    }

    async fn exchange(
        &mut self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(answer) = self.on(kept, path, headers, body.clone()).await
        {
            return Ok(answer);
        }
        let fresh = self.connect().await?;
        self.on(fresh, path, headers, body).await
    }

    async fn on(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/{path}", self.prefix))
            .header(header::HOST, format!("{host}:{}", self.port))
            .header(header::USER_AGENT, concat!("trailgate/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| HttpError(error.to_string()))?;
        let broke = |error: &dyn fmt::Display| HttpError(format!("the connection broke: {error}"));
        let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| broke(&error))?.to_bytes();
        self.kept = Some(sender);
        Ok(Answer { status, content_type, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let unreachable = |error: &dyn fmt::Display| HttpError(format!("it can't be reached: {error}"));
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let Some(Trust(config)) = self.trust.as_ref().filter(|_| self.tls) else {
            return started(stream).await;
        };
        let name = rustls_pki_types::ServerName::try_from(self.host.clone())
            .map_err(|_| HttpError(format!("`{}` is no host name", self.host)))?;
        let refused =
            |error: &dyn fmt::Display| HttpError(format!("its certificate was not accepted: {error}"));
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
            .map_err(|error| refused(&error))?;
        started(stream).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}

async fn started<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| HttpError(format!("it does not speak HTTP: {error}")))?;
    crate::supervisor::background(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_scheme_host_and_perhaps_a_path() {
        let none = || Err(Failure::new("no trust", ""));
        let endpoint = Endpoint::new("http://[::1]:8080/witness/", none).unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port, endpoint.prefix.as_str()),
            ("::1", 8080, "/witness")
        );
        for bad in ["", "host", "ftp://host", "http://", "http://user@host/", "http://host/?a=b"] {
            assert!(Endpoint::new(bad, none).is_err(), "{bad}");
        }
        assert!(Endpoint::new("https://host", none).is_err(), "TLS needs trust");
    }
}
