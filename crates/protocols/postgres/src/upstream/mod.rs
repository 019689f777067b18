//! The target's leg until it is ready: where it is, TLS, login with the target's own credential.

mod certificate;
pub mod dial;
pub mod error;
pub mod exchange;
mod md5_password;
pub mod probe;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod url;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use identity::scram::KeyCache;
use rustls::ClientConfig;
use session::Target;
use vocabulary::TargetId;

pub use error::{Problem, UpstreamError};
pub use probe::{ServerInfo, test_target};
pub use url::{SslMode, TargetUrl};

use self::dial::{Offer, Place, TlsPlan};
use self::error::Attempt;
use self::exchange::Ready;
use self::url::{Host, SessionAttributes};
use crate::cancel::CancelRoute;
use crate::stream::Stream;
use crate::wire::startup::{Parameter, put_startup};

/// Salted keys that are remembered: one per target password, and a few for rotations.
const CACHED_KEYS: usize = 256;

/// Targets whose URL and TLS settings are remembered.
const CACHED_PLANS: usize = 1_024;

/// What a client wants of the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The database; `None` for the target's own.
    pub database: Option<Vec<u8>>,
    /// The client's startup parameters, in its order, without `user` and `database`; `replication` only if it is
    /// allowed.
    pub parameters: Vec<Parameter>,
}

/// A target that waits for the first command.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// The role that the gateway logged in as.
    pub role: String,
    /// The database that was asked for.
    pub database: String,
    /// What ParameterStatus said, in order; a later one wins.
    pub parameters: Vec<(String, String)>,
    /// The backend's pid, 0 if the server gave none.
    pub pid: i32,
    /// How to cancel what runs there; `None` if the server gave no key.
    pub cancel: Option<CancelRoute>,
    /// For the client: every ParameterStatus and NoticeResponse as sent.
    pub greeting: Vec<u8>,
    /// For the client: the transaction status of ReadyForQuery.
    pub status: u8,
    /// For the client: what came after ReadyForQuery.
    pub leftover: Vec<u8>,
}

/// A target's URL and TLS settings, made once.
#[derive(Debug)]
struct Plan {
    url: TargetUrl,
    tls: Option<Arc<ClientConfig>>,
}

impl Plan {
    fn of(target: &Target) -> Result<Self, Problem> {
        let url = TargetUrl::of(target)?;
        let tls = tls::config(&url)?;
        Ok(Self { url, tls })
    }
}

/// A plan, and the target that it was made for: a changed target is another.
type Known = (Arc<Target>, Arc<Plan>);

/// Whether an attempt is to be in TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    No,
    /// If the server offers it.
    Offered,
    Yes,
}

/// Connects to targets. One per process: it remembers what is costly to make.
#[derive(Debug)]
pub struct Connector {
    keys: Arc<KeyCache>,
    plans: Mutex<HashMap<TargetId, Known>>,
}

impl Default for Connector {
    fn default() -> Self {
        Self { keys: Arc::new(KeyCache::new(CACHED_KEYS)), plans: Mutex::default() }
    }
}

impl Connector {
    /// Connects to a target and logs in there.
    ///
    /// # Errors
    /// [`UpstreamError`]: every server that was tried and why it failed.
    pub async fn connect(&self, target: &Arc<Target>, wish: &Wish) -> Result<Upstream, UpstreamError> {
        let plan = self.plan(target).map_err(|problem| UpstreamError::early(&target.name, problem))?;
        let mut attempts = Vec::new();
        for host in &plan.url.hosts {
            let found = tokio::time::timeout(plan.url.connect_timeout, dial::places(host)).await;
            let seconds = plan.url.connect_timeout.as_secs();
            let places = match found.unwrap_or(Err(Problem::TimedOut(seconds))) {
                Ok(places) => places,
                Err(problem) => {
                    attempts.push(Attempt { place: host.to_string(), problem });
                    continue;
                }
            };
            for place in &places {
                // Boxed: a session that waits for its target should not carry the room of a TLS handshake.
                let tried = Box::pin(self.try_place(&plan, host, place, wish, &mut attempts));
                match tokio::time::timeout(plan.url.connect_timeout, tried).await {
                    Ok(Ok(upstream)) => return Ok(upstream),
                    Ok(Err(())) => {}
                    Err(_) => {
                        let problem = Problem::TimedOut(seconds);
                        attempts.push(Attempt { place: place.to_string(), problem });
                    }
                }
                if !attempts.last().is_some_and(|attempt| attempt.problem.is_for_next_host()) {
                    return Err(UpstreamError::new(&target.name, attempts));
                }
            }
        }
        Err(UpstreamError::new(&target.name, attempts))
    }

    fn plan(&self, target: &Arc<Target>) -> Result<Arc<Plan>, Problem> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, plan)) = plans.get(&target.id)
            && Arc::ptr_eq(known, target)
        {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(Plan::of(target)?);
        if plans.len() >= CACHED_PLANS {
            plans.clear();
        }
        plans.insert(target.id, (Arc::clone(target), Arc::clone(&plan)));
        Ok(plan)
    }

    /// One server, with and without TLS as `sslmode` says. Failures are added to `attempts`.
    async fn try_place(
        &self,
        plan: &Plan,
        host: &Host,
        place: &Place,
        wish: &Wish,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Upstream, ()> {
        let order: &[Encryption] = match (place, plan.url.sslmode) {
            // libpq never asks for TLS over a Unix socket, whatever the mode.
            (Place::Unix(_), _) | (_, SslMode::Disable) => &[Encryption::No],
            (_, SslMode::Allow) => &[Encryption::No, Encryption::Offered],
            (_, SslMode::Prefer) => &[Encryption::Offered, Encryption::No],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Encryption::Yes],
        };
        for encryption in order {
            match self.try_once(plan, host, place, wish, *encryption).await {
                Ok(upstream) => return Ok(upstream),
                Err((problem, try_other)) => {
                    attempts.push(Attempt { place: place.to_string(), problem });
                    if !try_other {
                        break;
                    }
                }
            }
        }
        Err(())
    }

    /// One connection. The flag says whether the other kind of encryption may do better: as in libpq, if the TLS
    /// handshake failed or the server refused the login with or without TLS.
    async fn try_once(
        &self,
        plan: &Plan,
        host: &Host,
        place: &Place,
        wish: &Wish,
        encryption: Encryption,
    ) -> Result<Upstream, (Problem, bool)> {
        let keepalives = Some(&plan.url.keepalives);
        let mut stream = dial::connect(place, keepalives).await.map_err(|problem| (problem, false))?;
        let mut tls = None;
        if let (Encryption::Offered | Encryption::Yes, Some(config)) = (encryption, &plan.tls) {
            let name = dial::server_name(host).map_err(|problem| (problem, false))?;
            let way = TlsPlan { config: Arc::clone(config), name, direct: plan.url.direct_tls };
            stream = match dial::encrypt(stream, &way).await {
                Ok(Offer::Encrypted(stream)) => {
                    tls = Some(way);
                    stream
                }
                Ok(Offer::Declined(_)) if encryption == Encryption::Yes => {
                    return Err((Problem::NoTls, false));
                }
                Ok(Offer::Declined(stream)) => stream,
                Err(problem) => {
                    let handshake = matches!(problem, Problem::Tls(_) | Problem::Certificate(_));
                    return Err((problem, handshake && encryption == Encryption::Offered));
                }
            };
        }
        // With `prefer` and a server without TLS there is no other way left to try.
        let other_left = encryption == Encryption::No || tls.is_some();
        let startup = startup(&plan.url, wish);
        // A replication connection runs no SQL to speak of.
        let asks = wish.parameters.iter().all(|(name, _)| name != b"replication");
        let ready = exchange::log_in(&mut stream, &plan.url, &self.keys, &startup, asks).await;
        let ready = ready.map_err(|failure| (failure.problem, failure.refused && other_left))?;
        if !has_attributes(&ready, plan.url.attributes) {
            return Err((Problem::Attributes, false));
        }
        let (pid, cancel) = match ready.backend {
            Some((pid, key)) => (pid, Some(CancelRoute { place: place.clone(), tls, pid, key })),
            None => (0, None),
        };
        Ok(Upstream {
            stream,
            role: plan.url.user.clone(),
            database: String::from_utf8_lossy(&database(&plan.url, wish)).into_owned(),
            parameters: ready.parameters,
            pid,
            cancel,
            greeting: ready.greeting,
            status: ready.status,
            leftover: ready.leftover,
        })
    }
}

fn database(url: &TargetUrl, wish: &Wish) -> Vec<u8> {
    let own = || url.database.as_ref().unwrap_or(&url.user).as_bytes().to_vec();
    wish.database.clone().unwrap_or_else(own)
}

/// The startup packet: the target's role, the database, and the client's own parameters on top of the URL's.
fn startup(url: &TargetUrl, wish: &Wish) -> Vec<u8> {
    let database = database(url, wish);
    let wished =
        |name: &[u8]| wish.parameters.iter().rfind(|(known, _)| known == name).map(|(_, v)| v.as_slice());
    let mut parameters: Vec<(&[u8], &[u8])> = vec![(b"user", url.user.as_bytes()), (b"database", &database)];
    // A later option wins at the server, so that the client's own come last.
    let options = [url.options.as_ref().map(String::as_bytes), wished(b"options")];
    let options: Vec<&[u8]> = options.into_iter().flatten().collect();
    let options = options.join(&b' ');
    if !options.is_empty() {
        parameters.push((b"options", &options));
    }
    if let (Some(name), None) = (&url.application_name, wished(b"application_name")) {
        parameters.push((b"application_name", name.as_bytes()));
    }
    let reserved = [&b"user"[..], b"database", b"options"];
    let others = wish.parameters.iter().filter(|(name, _)| !reserved.contains(&name.as_slice()));
    parameters.extend(others.map(|(name, value)| (name.as_slice(), value.as_slice())));
    let mut out = Vec::with_capacity(256);
    put_startup(&mut out, url.protocol, parameters);
    out
}

/// `target_session_attrs`, by what PostgreSQL 14 and later report of themselves. An older server says nothing and
/// passes.
fn has_attributes(ready: &Ready, wanted: SessionAttributes) -> bool {
    let is_on = |name: &str| {
        let found = ready.parameters.iter().rfind(|(known, _)| known == name);
        found.is_some_and(|(_, value)| value == "on")
    };
    let standby = is_on("in_hot_standby");
    let read_only = standby || is_on("default_transaction_read_only");
    match wanted {
        SessionAttributes::Any => true,
        SessionAttributes::ReadWrite => !read_only,
        SessionAttributes::ReadOnly => read_only,
        SessionAttributes::Primary => !standby,
        SessionAttributes::Standby => standby,
    }
}
