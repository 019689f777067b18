//! Why there is no connection to a target, and what the client hears of it.

use std::io;

use identity::scram::ScramError;
use vocabulary::Name;

use super::url::UrlError;
use crate::wire::error_response::Report;

/// Why one attempt at one server failed. `Display` says what the server did, without its name or any secret.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The target's URL can't be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A certificate or key that is kept with the target can't be read.
    #[error("its {what} can't be used: {reason}")]
    Material {
        /// The parameter of the URL.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The name has no address.
    #[error("its name has no address: {0}")]
    Resolve(String),
    /// No connection.
    #[error("it can't be reached: {0}")]
    Connect(#[source] io::Error),
    /// No answer.
    #[error("it did not answer within {0} s")]
    TimedOut(u64),
    /// TLS is demanded and not offered.
    #[error("it does not offer TLS, which the target's sslmode demands")]
    NoTls,
    /// The TLS handshake broke.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// The certificate is not good enough.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// The connection ended before it was ready.
    #[error("it closed the connection during login")]
    Closed,
    /// The connection broke before it was ready.
    #[error("the connection broke during login: {0}")]
    Broken(#[source] io::Error),
    /// It does not speak the protocol.
    #[error("it does not speak the PostgreSQL protocol as expected: {0}")]
    Protocol(String),
    /// The role or password that is kept with the target is wrong, or may not log in from here.
    #[error("it refused the target's stored credential (SQLSTATE {code})")]
    Credential {
        /// The server's SQLSTATE.
        code: String,
        /// The server's own words: for the gateway's log, since they name the role.
        message: String,
    },
    /// It wants a password and none is kept.
    #[error("it asks for a password, and none is stored with the target")]
    NoPassword,
    /// The password would cross the network unprotected.
    #[error(
        "it asks for the password in the clear outside TLS; set sslmode=require, or require_auth=password to allow it"
    )]
    Cleartext,
    /// A method that the gateway can't do or the URL forbids.
    #[error(
        "it asks for {0} authentication, which the gateway does not speak or the target's require_auth forbids"
    )]
    Method(&'static str),
    /// The target let us in without what `channel_binding=require` demands.
    #[error("it did not bind the login to the TLS channel, which channel_binding=require demands")]
    NoChannelBinding,
    /// SCRAM failed.
    #[error(transparent)]
    Scram(ScramError),
    /// It is not the kind of server that `target_session_attrs` asks for.
    #[error("it is not what target_session_attrs asks for")]
    Attributes,
    /// The server refused the session for a reason that is the client's business.
    #[error("it answered: {message} (SQLSTATE {code})")]
    Server {
        /// SQLSTATE.
        code: String,
        /// The message.
        message: String,
        /// The whole ErrorResponse as sent.
        bytes: Vec<u8>,
    },
    /// No random numbers.
    #[error("the system has no random numbers to give")]
    NoRandomness,
}

impl Problem {
    /// How the gateway's own message for it is coded. SQLSTATE 28 is left to the client's own login: a driver that
    /// sees it asks for another password, and this one is not the client's.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Server { code, .. } => code,
            Self::Url(_) | Self::Material { .. } => "F0000",
            Self::Closed | Self::Broken(_) => "08006",
            Self::Protocol(_) => "08P01",
            Self::NoTls
            | Self::Tls(_)
            | Self::Certificate(_)
            | Self::Credential { .. }
            | Self::NoPassword
            | Self::Cleartext
            | Self::Method(_)
            | Self::NoChannelBinding
            | Self::Scram(_) => "08004",
            Self::Resolve(_) | Self::Connect(_) | Self::TimedOut(_) | Self::Attributes => "08001",
            Self::NoRandomness => "58000",
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Credential { .. } | Self::NoPassword => Some(
                "Your own token is fine. Whoever runs the gateway stores the right password with `trailgate target add`.",
            ),
            Self::Server { .. } => None,
            _ => Some(
                "Your own login is fine. Whoever runs the gateway sees more with `trailgate target test`.",
            ),
        }
    }

    /// Whether another host of the same target may do better, as libpq judges it.
    #[must_use]
    pub fn is_for_next_host(&self) -> bool {
        match self {
            Self::Resolve(_) | Self::Connect(_) | Self::TimedOut(_) | Self::Attributes => true,
            Self::Server { code, .. } => code == "57P03",
            _ => false,
        }
    }

    /// How much it tells: of several attempts the best-informed one speaks.
    const fn weight(&self) -> u8 {
        match self {
            Self::Server { .. } => 3,
            Self::Credential { .. } => 2,
            Self::Resolve(_) | Self::Connect(_) | Self::TimedOut(_) => 0,
            _ => 1,
        }
    }
}

/// An attempt that failed: where, and why.
#[derive(Debug)]
pub struct Attempt {
    /// `host:port`, or the path of a Unix socket; empty if it did not come that far.
    pub place: String,
    /// Why it failed.
    pub problem: Problem,
}

/// There is no connection to the target. `Display` is one sentence that names the target, each server that was
/// tried, and why it failed.
#[derive(Debug)]
pub struct UpstreamError {
    target: Name,
    attempts: Vec<Attempt>,
}

impl std::error::Error for UpstreamError {}

impl std::fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence(true))
    }
}

impl UpstreamError {
    pub(super) fn new(target: &Name, attempts: Vec<Attempt>) -> Self {
        Self { target: target.clone(), attempts }
    }

    pub(super) fn early(target: &Name, problem: Problem) -> Self {
        Self::new(target, vec![Attempt { place: String::new(), problem }])
    }

    /// Every attempt, in order.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The attempt that tells most; the last one of several alike.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        self.attempts.iter().map(|attempt| &attempt.problem).max_by_key(|problem| problem.weight())
    }

    /// Every attempt's reason once, with or without the server's address.
    fn sentence(&self, with_places: bool) -> String {
        let mut told: Vec<String> = Vec::new();
        for Attempt { place, problem } in &self.attempts {
            let line = match with_places && !place.is_empty() {
                true => format!("{place}: {problem}"),
                false => problem.to_string(),
            };
            // Two tries at the same server, with TLS and without, often fail alike.
            if !told.contains(&line) {
                told.push(line);
            }
        }
        format!("target `{}` can't be used: {}", self.target, told.join("; "))
    }

    /// SQLSTATE of [`Self::to_client`].
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        self.problem().map_or("08001", Problem::sqlstate)
    }

    /// The ErrorResponse for the client: the server's own if it is about what the client asked for, ours if it is
    /// about the gateway's way to the target. Ours names neither role nor password nor address: a client that knew the
    /// way could be tempted to go around.
    #[must_use]
    pub fn to_client(&self) -> Vec<u8> {
        match self.problem() {
            Some(Problem::Server { bytes, .. }) => bytes.clone(),
            problem => {
                let code = problem.map_or("08001", own_sqlstate);
                let report = Report::fatal(code, format!("Trailgate: {}", self.sentence(false)));
                match problem.and_then(Problem::hint) {
                    Some(hint) => report.with_hint(hint),
                    None => report,
                }
                .to_bytes()
            }
        }
    }
}

/// As [`Problem::sqlstate`], for what is never the server's own.
fn own_sqlstate(problem: &Problem) -> &'static str {
    const CODES: [&str; 6] = ["F0000", "08006", "08P01", "08004", "08001", "58000"];
    let code = problem.sqlstate();
    CODES.into_iter().find(|known| *known == code).unwrap_or("08001")
}
