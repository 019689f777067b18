//! From an accepted connection to an open session: who it is, and where it wants to go.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use identity::{Principal, Rejected, SshPublicKey, TokenDigest};
use policy::{Effect, Words};
use tokio::io::{AsyncRead, AsyncWrite};
use trail::NewEvent;
use trail::record::EndReason;
use vocabulary::{ClientInfo, Facts, Kind, Name, Timestamp, Where, Who};

use crate::budget::Seat;
use crate::forward::Forwarder;
use crate::gatehouse::Gatehouse;
use crate::open::{NotRecorded, OpenSession};
use crate::snapshot::Target;
use crate::stage::Stage;

/// The listener's own TLS.
#[derive(Debug)]
pub struct ServerTls {
    /// Certificate, key and protocol settings.
    pub config: Arc<rustls::ServerConfig>,
    /// Hash of the certificate for the `tls-server-end-point` channel binding (RFC 5929).
    pub end_point: Vec<u8>,
}

/// How a client shows its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PasswordExchange {
    /// SCRAM-SHA-256, or -PLUS inside TLS: the token never crosses the wire.
    #[default]
    ScramSha256,
    /// The token itself; inside TLS only.
    Cleartext,
}

/// What every connection of one listener shares.
#[derive(Debug)]
pub struct ListenerSettings {
    /// TLS, if the listener offers it.
    pub tls: Option<ServerTls>,
    /// Whether a client must use TLS.
    pub require_tls: bool,
    /// How clients show their token.
    pub password: PasswordExchange,
    /// How long a client may take until it is authenticated.
    pub pre_auth_deadline: Duration,
    /// Makes challenges for principals that don't exist; the same for the life of the installation.
    pub decoy: identity::scram::Decoy,
}

/// The door for one accepted connection: nobody has said who they are.
#[derive(Debug)]
pub struct Door {
    house: Arc<Gatehouse>,
    listener: Arc<ListenerSettings>,
    client: ClientInfo,
}

impl Door {
    pub(crate) const fn new(
        house: Arc<Gatehouse>,
        listener: Arc<ListenerSettings>,
        client: ClientInfo,
    ) -> Self {
        Self { house, listener, client }
    }

    /// The listener's settings.
    #[must_use]
    pub fn listener(&self) -> &Arc<ListenerSettings> {
        &self.listener
    }

    /// What is known of the client; a protocol fills in what it learns.
    pub const fn client_mut(&mut self) -> &mut ClientInfo {
        &mut self.client
    }

    /// The gatehouse behind the door.
    #[must_use]
    pub fn house(&self) -> &Arc<Gatehouse> {
        &self.house
    }

    /// The principal of that name, if there is one.
    #[must_use]
    pub fn principal(&self, name: &str) -> Option<Arc<Principal>> {
        let name: Name = name.parse().ok()?;
        self.house.snapshot().principals.get(&name).cloned()
    }

    /// The principal that a public key for SSH belongs to, revoked ones included.
    #[must_use]
    pub fn holder_of_key(&self, key: &SshPublicKey) -> Option<Arc<Principal>> {
        let snapshot = self.house.snapshot();
        snapshot.principals.values().find(|principal| principal.ssh_key(key).is_some()).cloned()
    }

    /// The principal that a token belongs to, revoked ones included.
    #[must_use]
    pub fn holder_of_token(&self, presented: &[u8]) -> Option<Arc<Principal>> {
        let digest = TokenDigest::of(presented);
        let snapshot = self.house.snapshot();
        let has =
            |principal: &Principal| principal.credentials.iter().any(|known| known.token_digest == digest);
        snapshot.principals.values().find(|principal| has(principal)).cloned()
    }

    /// Whether this address may try to log in as `name` now.
    ///
    /// # Errors
    /// [`Rejected`] saying when to come back, after too many failures.
    pub fn may_try(&self, name: &str) -> Result<(), Rejected> {
        self.house.throttle().check(self.address(), name, Timestamp::now())
    }

    /// A login failed: counts it against address and name, and records it with its real reason. `claimed` is what
    /// the client called itself.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn failed(&self, claimed: &str, rejected: &Rejected) -> Result<(), NotRecorded> {
        self.failed_as(claimed, claimed, rejected)
    }

    /// As [`failed`](Self::failed), where what the client called itself is no principal's name: only `guessed` is counted
    /// against, and if it is empty, the address alone.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn failed_as(&self, claimed: &str, guessed: &str, rejected: &Rejected) -> Result<(), NotRecorded> {
        if !rejected.counts_as_failure() {
            // It was not even looked at. Entries of a flood would only help the flood.
            tracing::debug!(claimed, %rejected, "a login was turned away unseen");
            return Ok(());
        }
        self.house.throttle().failed(self.address(), guessed, Timestamp::now());
        let shown: String = claimed.chars().take(128).collect();
        let what = serde_json::json!({ "claimed": shown, "reason": rejected.to_string() });
        self.house
            .trail
            .node_session()
            .record_at_once(NewEvent {
                kind: Kind::AuthFailed,
                actor: None,
                client: Some(self.client.clone()),
                subject: None,
                what: what.to_string(),
            })
            .map(drop)
            .map_err(|error| NotRecorded::new(&error))
    }

    /// The principal is proven.
    #[must_use]
    pub fn identified(self, who: Who, principal: &Principal) -> Identified {
        self.house.throttle().succeeded(self.address(), who.name.as_str());
        let expires_at = principal.validity(who.credential).and_then(|validity| validity.expires_at);
        Identified { door: self, who: Arc::new(who), expires_at }
    }

    fn address(&self) -> IpAddr {
        let address = self.client.addr.parse::<std::net::SocketAddr>();
        address.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
    }
}

/// Why a proven principal does not get to a target. `Display` is one sentence for it and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    /// There is none of that name.
    #[error(transparent)]
    NoSuchTarget(#[from] NoSuchTarget),
    /// The policy does not let it in.
    #[error("{}; {}", .0.reason, .0.advice)]
    Forbidden(Words),
}

/// No target has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no target `{0}`; `trailgate target list` shows the targets that there are")]
pub struct NoSuchTarget(pub String);

/// A connection whose principal is proven.
#[derive(Debug)]
pub struct Identified {
    door: Door,
    who: Arc<Who>,
    expires_at: Option<Timestamp>,
}

impl Identified {
    /// Who it is.
    #[must_use]
    pub fn who(&self) -> &Arc<Who> {
        &self.who
    }

    /// Picks the target, and the database there if the client asks for another than the target's own; whether it may
    /// connect is the policy's to say.
    ///
    /// # Errors
    /// [`NotThere`], and the connection, to turn it away.
    pub fn target(self, name: &str, database: Option<&str>) -> Result<Opening, Box<(Self, NotThere)>> {
        let snapshot = self.door.house.snapshot();
        let found = name.parse::<Name>().ok().and_then(|name| snapshot.targets.get(&name).cloned());
        let Some(target) = found else {
            return Err(Box::new((self, NoSuchTarget(name.chars().take(128).collect()).into())));
        };
        let stage = Stage::new(&snapshot, &self.who, &target, database);
        let ruling = snapshot.policy.connect(&stage.scene(&self.who, &target, &self.door.client.addr));
        if !ruling.is_permit() {
            return Err(Box::new((self, NotThere::Forbidden(ruling.words))));
        }
        let limit = ruling.budget.sessions;
        match self.door.house.meters.of(self.who.id, target.id).sit(limit) {
            Some(seat) => {
                Ok(Opening { identified: self, target, database: database.map(str::to_owned), seat })
            }
            None => Err(Box::new((self, NotThere::Forbidden(full(limit))))),
        }
    }

    /// Whether there is a target of that name.
    #[must_use]
    pub fn has_target(&self, name: &str) -> bool {
        name.parse::<Name>().is_ok_and(|name| self.door.house.snapshot().targets.contains_key(&name))
    }

    /// The door it came through.
    #[must_use]
    pub const fn door(&self) -> &Door {
        &self.door
    }

    /// The principal is known, but what it asks for is not allowed: records that with its reason.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn turned_away(&self, reason: &str) -> Result<(), NotRecorded> {
        let what = serde_json::json!({ "claimed": self.who.name, "reason": reason });
        self.door
            .house
            .trail
            .node_session()
            .record_at_once(NewEvent {
                kind: Kind::AuthFailed,
                actor: Some((*self.who).clone()),
                client: Some(self.door.client.clone()),
                subject: None,
                what: what.to_string(),
            })
            .map(drop)
            .map_err(|error| NotRecorded::new(&error))
    }
}

/// What a client hears whose principal has as many sessions as it may.
fn full(limit: Option<u32>) -> Words {
    Words {
        reason: format!(
            "the budget of {} sessions at once at this target is used up",
            limit.unwrap_or_default()
        ),
        approvers: String::new(),
        advice: "end another session of this principal, and connect again".to_owned(),
    }
}

/// A proven principal in front of its target, which is not connected yet.
#[derive(Debug)]
pub struct Opening {
    identified: Identified,
    target: Arc<Target>,
    database: Option<String>,
    seat: Seat,
}

impl Opening {
    /// The database that the client asked for, if not the target's own.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Who wants to go there.
    #[must_use]
    pub fn who(&self) -> &Arc<Who> {
        &self.identified.who
    }

    /// Where it wants to go.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// What is known of the client; a protocol fills in what it learns.
    pub const fn client_mut(&mut self) -> &mut ClientInfo {
        &mut self.identified.door.client
    }

    /// Whether policy permits what the client arranges as it connects: settings that the target is to begin with.
    ///
    /// # Errors
    /// [`NotThere::Forbidden`]. Who stands at the door can't wait for people, so a review is a refusal too.
    pub fn arranges(&self, facts: &Facts) -> Result<(), NotThere> {
        let Identified { door, who, .. } = &self.identified;
        let snapshot = door.house.snapshot();
        let stage = Stage::new(&snapshot, who, &self.target, self.database.as_deref());
        let mut ruling = snapshot.policy.decide(&stage.scene(who, &self.target, &door.client.addr), facts);
        if ruling.is_permit() {
            return Ok(());
        }
        if matches!(ruling.effect, Effect::Review(_)) {
            "connect without it, and say it with SET, which can wait for the approval"
                .clone_into(&mut ruling.words.advice);
        }
        Err(NotThere::Forbidden(ruling.words))
    }

    /// As [`Identified`], to turn it away after all.
    #[must_use]
    pub const fn identified(&self) -> &Identified {
        &self.identified
    }

    /// The target could not be reached, or did not let the gateway in: records a session that ended as it began.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn fell_through(self, place: Where, reason: &str) -> Result<(), NotRecorded> {
        let Identified { door, who, expires_at } = self.identified;
        OpenSession::start(door.house, &who, expires_at, &self.target, door.client, (place, self.seat))?
            .end(EndReason::Target, Some(reason.to_owned()))
    }

    /// Records the session's start and takes the target's connection over.
    ///
    /// # Errors
    /// When the start can't be recorded: the connection is dropped unused.
    pub fn start<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        place: Where,
        stream: S,
    ) -> Result<(OpenSession, Forwarder<S>), NotRecorded> {
        let Identified { door, who, expires_at } = self.identified;
        let place = (place, self.seat);
        let session = OpenSession::start(door.house, &who, expires_at, &self.target, door.client, place)?;
        Ok((session, Forwarder::new(stream)))
    }

    /// Records the session's start, of a protocol that connects to the target more than once, or through a library:
    /// what it opens goes into a [`crate::Guarded`] each.
    ///
    /// # Errors
    /// When the start can't be recorded.
    pub fn start_guarded(self, place: Where) -> Result<OpenSession, NotRecorded> {
        let Identified { door, who, expires_at } = self.identified;
        OpenSession::start(door.house, &who, expires_at, &self.target, door.client, (place, self.seat))
    }
}
