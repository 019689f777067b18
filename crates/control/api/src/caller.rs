//! Who asks, and what they may.
//!
//! | caller | proven by | may |
//! |---|---|---|
//! | local administrator | being able to open the control socket (mode 0600) | everything |
//! | person with the role `administrator` | bearer token | change targets and principals, see both and the sessions |
//! | person with the role `auditor` | bearer token | read the trail, see targets, principals and sessions |
//! | anybody else with a token, agents always | bearer token | nothing here: 403 |
//! | nobody | | the bare health of the gateway; its log, where the node says so (default: on loopback) |
//!
//! Handlers name what they need by the extractor that they take: [`Administrator`], [`Auditor`], [`Insider`], [`Monitor`].

use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use identity::token::{Token, TokenDigest};
use identity::{Login, Principal, REFUSED, Rejected, Role};
use session::Door;
use vocabulary::{ClientInfo, CredentialId, Name, PrincipalId, PrincipalKind, ProvenBy, Timestamp, Who};

use crate::control::Control;
use crate::problem::Problem;

/// The connection that a request came on.
#[derive(Clone, Debug)]
pub enum Peer {
    /// The control socket.
    Control {
        /// User id of the process, if the system tells.
        uid: Option<u32>,
        /// Its process id, if the system tells.
        pid: Option<i32>,
    },
    /// The web listener.
    Web {
        /// The client's address.
        address: SocketAddr,
        /// Whether it is inside TLS.
        tls: bool,
    },
}

/// Somebody who is proven, and what they may.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who, as the trail names them.
    pub who: Who,
    /// From where.
    pub client: ClientInfo,
    /// May change targets and principals.
    pub administers: bool,
    /// May read the trail.
    pub audits: bool,
    /// Has the role reviewer.
    pub reviews: bool,
    /// The groups they are in.
    pub groups: Vec<Name>,
    /// Came by the control socket.
    pub is_local: bool,
}

/// A caller who may change targets and principals.
#[derive(Clone, Debug)]
pub struct Administrator(pub Caller);

/// A caller who may read the trail.
#[derive(Clone, Debug)]
pub struct Auditor(pub Caller);

/// Somebody who may fetch the node's log: anybody where the node says so, else as [`Insider`].
#[derive(Clone, Copy, Debug)]
pub struct Monitor;

/// A caller with any role that sees the control state.
#[derive(Clone, Debug)]
pub struct Insider(pub Caller);

impl FromRequestParts<Control> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().cloned();
        let application = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let application = application.map(|text| text.chars().take(128).collect());
        match peer {
            Some(Peer::Control { uid, pid }) => Ok(Self::local_administrator(uid, pid, application)),
            Some(Peer::Web { address, tls }) => {
                let client = web_client(address, tls, application);
                let presented = parts.headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
                Self::by_bearer(control, presented, client)
            }
            None => Err(Problem::internal("a request came without its connection")),
        }
    }
}

impl FromRequestParts<Control> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, control).await?;
        if caller.administers { Ok(Self(caller)) } else { Err(caller.lacks("administrator")) }
    }
}

impl FromRequestParts<Control> for Auditor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, control).await?;
        if caller.audits { Ok(Self(caller)) } else { Err(caller.lacks("auditor")) }
    }
}

impl FromRequestParts<Control> for Insider {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, control).await?;
        if caller.administers || caller.audits {
            Ok(Self(caller))
        } else {
            Err(caller.lacks("administrator or auditor"))
        }
    }
}

impl FromRequestParts<Control> for Monitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        if !control.node.log.public {
            Insider::from_request_parts(parts, control).await?;
        }
        Ok(Self)
    }
}

impl Caller {
    /// Whoever opened the control socket. The socket's mode is the proof; user and process id say who it was.
    fn local_administrator(uid: Option<u32>, pid: Option<i32>, application: Option<String>) -> Self {
        let shown = |id: Option<String>| id.unwrap_or_else(|| "?".to_owned());
        let uid = shown(uid.map(|id| id.to_string()));
        let pid = shown(pid.map(|id| id.to_string()));
        Self {
            who: local_administrator(),
            client: ClientInfo {
                addr: format!("unix:uid={uid},pid={pid}"),
                application,
                ..ClientInfo::default()
            },
            administers: true,
            audits: true,
            reviews: true,
            groups: Vec::new(),
            is_local: true,
        }
    }

    fn by_bearer(control: &Control, header: Option<&[u8]>, client: ClientInfo) -> Result<Self, Problem> {
        let presented = header.and_then(bearer).ok_or_else(|| {
            unauthorized("this needs a token", "send `Authorization: Bearer tg_…` with the token of a person")
        })?;
        Self::by_token(control, presented, client)
    }

    /// Whoever shows this token.
    pub(crate) fn by_token(control: &Control, presented: &[u8], client: ClientInfo) -> Result<Self, Problem> {
        let door = control.gatehouse.door(&control.web_listener, client.clone());
        let snapshot = control.gatehouse.snapshot();
        let principal = holder(snapshot.principals.values().map(AsRef::as_ref), presented);
        let proof = principal.ok_or(Rejected::WrongSecret).and_then(|found| {
            let login = Login { principal: Some(found), now: Timestamp::now() };
            login.by_token(presented, ProvenBy::Bearer).map(|who| (who, found))
        });
        match proof {
            Ok((who, found)) => {
                let person = found.kind == PrincipalKind::Person;
                Ok(Self {
                    who,
                    client,
                    administers: person && found.has_role(Role::Administrator),
                    audits: person && found.has_role(Role::Auditor),
                    reviews: person && found.has_role(Role::Reviewer),
                    groups: found.groups.clone(),
                    is_local: false,
                })
            }
            Err(rejected) => {
                let claimed = principal.map_or("", |found| found.name.as_str());
                Err(turned_away(&door, claimed, &rejected))
            }
        }
    }

    fn lacks(&self, role: &str) -> Problem {
        let Who { kind, name, .. } = &self.who;
        let advice = match kind {
            PrincipalKind::Person => {
                "ask an administrator, or use the control socket on the gateway's own machine"
            }
            PrincipalKind::Agent => {
                "agents can never administrate a gateway or read its trail; ask the person"
            }
            PrincipalKind::Service => "use the token of a person with that role",
        };
        Problem::forbidden(format!("{kind} `{name}` lacks the role {role}"), advice)
    }
}

/// The local administrator as the trail names them. The ids are all zero: nobody is minted with those.
fn local_administrator() -> Who {
    Who {
        id: PrincipalId::from_bytes([0; 16]),
        kind: PrincipalKind::Person,
        name: Name::local_administrator(),
        on_behalf_of: None,
        credential: CredentialId::from_bytes([0; 16]),
        proven_by: ProvenBy::ControlSocket,
    }
}

/// What is known of a client of the web listener.
pub(crate) fn web_client(address: SocketAddr, tls: bool, application: Option<String>) -> ClientInfo {
    ClientInfo {
        addr: address.to_string(),
        application,
        task: None,
        tls: tls.then(|| "TLS".to_owned()),
        ..ClientInfo::default()
    }
}

/// What is said to a bad token. Only those wait: nobody guesses a good one, and whoever has it is not locked out by others
/// behind the same address. For the same reason the address alone is counted against, not the name.
fn turned_away(door: &Door, claimed: &str, rejected: &Rejected) -> Problem {
    // Before it is recorded, so that a flood does not fill the trail.
    if let Err(throttled) = door.may_try("") {
        let advice = "wait, then send the right token";
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, throttled.to_string(), advice);
    }
    match door.failed_as(claimed, "", rejected) {
        Ok(()) => unauthorized(REFUSED, "check the token; `trailgate person rotate NAME` mints a new one"),
        Err(error) => Problem::unrecorded(error),
    }
}

fn unauthorized(detail: &str, advice: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail, advice)
}

/// The token in an `Authorization` header (RFC 6750, section 2.1), if it could be one of ours.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    let token = token.trim_ascii();
    let whole = std::str::from_utf8(token).is_ok_and(|text| Token::parse(text).is_ok());
    (scheme.eq_ignore_ascii_case(b"bearer ") && whole).then_some(token)
}

/// Whose token it is, revoked ones included.
fn holder<'a>(principals: impl Iterator<Item = &'a Principal>, presented: &[u8]) -> Option<&'a Principal> {
    let digest = TokenDigest::of(presented);
    let mut principals = principals;
    principals.find(|principal| principal.credentials.iter().any(|known| known.token_digest == digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_looked_at() {
        let token = Token::mint().unwrap();
        let header = format!("bEARER {}", token.expose());
        assert_eq!(bearer(header.as_bytes()), Some(token.expose().as_bytes()));
        for bad in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer tg_x", "Béarer x"] {
            assert_eq!(bearer(bad.as_bytes()), None, "{bad}");
        }
    }
}
