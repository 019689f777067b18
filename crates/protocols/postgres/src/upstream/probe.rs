//! `trailgate target test`: whether the gateway gets in, and what it finds there.

use std::sync::Arc;

use session::Target;
use tokio::io::AsyncWriteExt;

use super::error::{Attempt, Problem, UpstreamError};
use super::{Connector, Upstream, Wish};
use crate::stream::inbox::Inbox;
use crate::wire::error_response::Received;
use crate::wire::packet::{self, Cursor};

/// Most bytes of the answer.
const MAX_ANSWER: usize = 65_536;

/// What a target says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `server_version`: `15.14 (Debian 15.14-0+deb12u1)`.
    pub version: String,
    /// The role that commands run as.
    pub role: String,
    /// The database.
    pub database: String,
    /// The TLS version, `None` if the connection is plain.
    pub tls: Option<String>,
}

/// Connects to a target as a session would, and asks it who and where we are.
///
/// # Errors
/// [`UpstreamError`].
pub async fn test_target(target: &Target) -> Result<ServerInfo, UpstreamError> {
    let connector = Connector::default();
    let mut upstream = connector.connect(&Arc::new(target.clone()), &Wish::default()).await?;
    let answer =
        tokio::time::timeout(super::url::DEFAULT_CONNECT_TIMEOUT, Box::pin(ask(&mut upstream))).await;
    let seconds = super::url::DEFAULT_CONNECT_TIMEOUT.as_secs();
    match answer.unwrap_or(Err(Problem::TimedOut(seconds))) {
        Ok(info) => Ok(info),
        Err(problem) => {
            let attempt = Attempt { place: String::new(), problem };
            Err(UpstreamError::new(&target.name, vec![attempt]))
        }
    }
}

async fn ask(upstream: &mut Upstream) -> Result<ServerInfo, Problem> {
    let mut query = Vec::new();
    packet::put(&mut query, b'Q', |out| {
        packet::put_cstr(out, b"SELECT pg_catalog.current_database(), current_user::pg_catalog.text");
    });
    upstream.stream.write_all(&query).await.map_err(Problem::Broken)?;
    upstream.stream.flush().await.map_err(Problem::Broken)?;
    let mut inbox = Inbox::new(MAX_ANSWER);
    let mut row = Vec::new();
    loop {
        let message = inbox.message(&mut upstream.stream, MAX_ANSWER).await?;
        match message.tag {
            b'D' => row = columns(message.body()),
            b'E' => {
                let received = Received::parse(message.body());
                return Err(Problem::Server {
                    code: received.sqlstate().unwrap_or("XX000").to_owned(),
                    message: String::from_utf8_lossy(received.message).into_owned(),
                    bytes: message.bytes.clone(),
                });
            }
            b'Z' => break,
            _ => {}
        }
    }
    let mut terminate = Vec::new();
    packet::put(&mut terminate, b'X', |_| {});
    // The answer is complete; whether the goodbye arrives changes nothing.
    let _ = upstream.stream.write_all(&terminate).await;
    let _ = upstream.stream.shutdown().await;

    let version = upstream.parameters.iter().rfind(|(name, _)| name == "server_version");
    let mut row = row.into_iter();
    match (row.next(), row.next()) {
        (Some(database), Some(role)) => Ok(ServerInfo {
            version: version.map(|(_, value)| value.clone()).unwrap_or_default(),
            role,
            database,
            tls: upstream.stream.tls_version().map(str::to_owned),
        }),
        _ => Err(Problem::Protocol("it did not say which database and role these are".to_owned())),
    }
}

/// The values of a DataRow; NULL and what is cut end it.
fn columns(body: &[u8]) -> Vec<String> {
    let mut cursor = Cursor::new(body);
    let mut values = Vec::new();
    if cursor.take(2).is_some() {
        while let Some(length) = cursor.i32().and_then(|length| usize::try_from(length).ok()) {
            let Some(value) = cursor.take(length) else { break };
            values.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    values
}
