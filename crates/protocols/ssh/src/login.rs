//! Who is at the door: a public key, a certificate of the gateway's authority, or the token as password.
//!
//! The user name says where the client wants to go, `TARGET` or `LOGIN@TARGET`; who it is, only the proof says. A client
//! that is known, but asks for what is not there, is let in and told so: SSH has no other place for a sentence.

use std::sync::Arc;

use identity::{Login, Principal, Rejected, SshPublicKey};
use russh::keys::Certificate;
use session::{Door, NotRecorded, NotThere, Opening};
use vocabulary::{ProvenBy, Timestamp, Who};

use crate::keys::GatewayKeys;
use crate::refusal;

/// What a user name asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// The target's name as written; it may not exist.
    pub target: String,
    /// The account at the target, if not the target's own.
    pub login: Option<String>,
}

impl Asked {
    /// Reads a user name.
    pub(crate) fn of_user(user: &str) -> Self {
        match user.rsplit_once('@') {
            Some((login, target)) if !login.is_empty() => {
                Self { target: target.to_owned(), login: Some(login.to_owned()) }
            }
            Some((_, target)) => Self { target: target.to_owned(), login: None },
            None => Self { target: user.to_owned(), login: None },
        }
    }
}

/// Somebody who proved who it is.
pub(crate) enum Arrived {
    /// Its target is there, and may be entered so.
    Guest(Box<Guest>),
    /// It may not go where it wants; it hears this sentence, and its programs have this exit status. The trail has it
    /// already.
    Away(String, u32),
}

/// A proven principal in front of its target.
pub(crate) struct Guest {
    pub opening: Opening,
    /// The account at the target, if not the target's own.
    pub login: Option<String>,
}

/// The login of one connection, as far as it has come.
pub(crate) struct LoginAttempt {
    door: Option<Door>,
    keys: Arc<GatewayKeys>,
    /// Keys that somebody signed with and that nobody has: recorded once, when the connection ends without a login.
    strangers: Vec<String>,
    claimed: String,
}

/// Unknown keys that are remembered for the trail.
const MAX_STRANGERS: usize = 8;

impl LoginAttempt {
    pub(crate) const fn new(door: Door, keys: Arc<GatewayKeys>) -> Self {
        Self { door: Some(door), keys, strangers: Vec::new(), claimed: String::new() }
    }

    /// What the client calls its program; the session's entries have it.
    pub(crate) fn software(&mut self, software: Option<String>) {
        if let Some(door) = &mut self.door {
            door.client_mut().application = software;
        }
    }

    /// Whether somebody who offers a key may go on to sign with it. Which key it is does not matter yet: a certified one
    /// is offered like any other, and who holds it is in the certificate. Nor does how often it failed from there: the
    /// key may be that of somebody who has come in from there before, and who is not to pay for others.
    pub(crate) fn may_sign(&mut self, user: &str) -> bool {
        user.clone_into(&mut self.claimed);
        self.door.is_some()
    }

    /// A signature by this key was verified.
    pub(crate) fn by_key(&mut self, user: &str, key: &SshPublicKey) -> Result<Option<Arrived>, NotRecorded> {
        let Some(door) = self.door.as_ref() else { return Ok(None) };
        let Some(holder) = door.holder_of_key(key) else {
            // Clients try one key after the other: it is no failure before the last.
            if self.strangers.len() < MAX_STRANGERS {
                self.strangers.push(key.fingerprint());
            }
            return Ok(None);
        };
        let proof = login(Some(&holder)).by_ssh_key(key);
        self.conclude(user, Some(&holder), proof)
    }

    /// A signature by a certified key was verified; the certificate itself was not.
    pub(crate) fn by_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Option<Arrived>, NotRecorded> {
        let Some(door) = self.door.as_ref() else { return Ok(None) };
        let (holder, proof) = match self.keys.bearer(certificate, Timestamp::now()) {
            None => (None, Err(Rejected::Certificate)),
            Some((name, credential)) => {
                let holder = door.principal(name.as_str());
                let proof = login(holder.as_deref()).by_certificate(credential);
                (holder, proof)
            }
        };
        self.conclude(user, holder.as_ref(), proof)
    }

    /// The token itself.
    pub(crate) fn by_token(&mut self, user: &str, token: &str) -> Result<Option<Arrived>, NotRecorded> {
        let Some(door) = self.door.as_ref() else { return Ok(None) };
        let holder = door.holder_of_token(token.as_bytes());
        let proof = match &holder {
            None => Err(Rejected::WrongSecret),
            found => login(found.as_deref()).by_token(token.as_bytes(), ProvenBy::TokenInSsh),
        };
        self.conclude(user, holder.as_ref(), proof)
    }

    fn conclude(
        &mut self,
        user: &str,
        holder: Option<&Arc<Principal>>,
        proof: Result<Who, Rejected>,
    ) -> Result<Option<Arrived>, NotRecorded> {
        user.clone_into(&mut self.claimed);
        let Some(door) = self.door.take() else { return Ok(None) };
        // The user name is a target's. Counting failures by it would let anybody lock everybody out of a target.
        let guessed = holder.map_or("", |holder| holder.name.as_str());
        let proof = door.may_try(guessed).and(proof);
        let (who, holder) = match (proof, holder) {
            (Ok(who), Some(holder)) => (who, holder),
            (Ok(_), None) => {
                self.door = Some(door);
                return Ok(None);
            }
            (Err(rejected), _) => {
                let recorded = door.failed_as(user, guessed, &rejected);
                self.door = Some(door);
                return recorded.map(|()| None);
            }
        };
        self.strangers.clear();
        let asked = Asked::of_user(user);
        let opening = match door.identified(who, holder).target(&asked.target, None) {
            Ok(opening) => opening,
            Err(refused) => {
                let (identified, not_there) = *refused;
                let (sentence, exit) = match &not_there {
                    NotThere::NoSuchTarget(_) => (not_there.to_string(), refusal::NO_CONNECTION),
                    NotThere::Forbidden(_) => (format!("refused by policy: {not_there}"), refusal::REFUSED),
                };
                identified.turned_away(&sentence)?;
                return Ok(Some(Arrived::Away(sentence, exit)));
            }
        };
        if let Some(sentence) = objection(&opening, &asked) {
            opening.identified().turned_away(&sentence)?;
            return Ok(Some(Arrived::Away(sentence, refusal::NO_CONNECTION)));
        }
        Ok(Some(Arrived::Guest(Box::new(Guest { opening, login: asked.login }))))
    }

    /// The connection has ended: keys that nobody has are recorded now, as one failed login.
    pub(crate) fn over(&mut self) {
        let Some(door) = self.door.take() else { return };
        if self.strangers.is_empty() {
            return;
        }
        let unknown = || Rejected::UnknownKey(self.strangers.join(", "));
        // Who is throttled is not looked at: a flood does not fill the trail.
        let rejected = door.may_try("").err().unwrap_or_else(unknown);
        if let Err(error) = door.failed_as(&self.claimed, "", &rejected) {
            tracing::error!(%error, "a failed login could not be recorded");
        }
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        self.over();
    }
}

fn login(principal: Option<&Principal>) -> Login<'_> {
    Login { principal, now: Timestamp::now() }
}

/// Why a target that is there can't be entered so.
fn objection(opening: &Opening, asked: &Asked) -> Option<String> {
    let target = opening.target();
    if target.kind != vocabulary::TargetKind::Ssh {
        return Some(format!(
            "the target `{}` is not for SSH but for {}; `trailgate connect` shows how to reach it",
            target.name, target.kind
        ));
    }
    let login = asked.login.as_deref()?;
    let own = crate::target_url::Address::of_url(&target.url).is_some_and(|address| address.login == login);
    if own || target.allow.contains(&format!("login:{login}")) {
        return None;
    }
    Some(format!(
        "the target `{}` may not be entered as `{login}`; leave that away, or ask for `target add … --allow login:{login}`",
        target.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_say_where_to() {
        let asked = |user| {
            let Asked { target, login } = Asked::of_user(user);
            (target, login)
        };
        assert_eq!(asked("web1"), ("web1".to_owned(), None));
        assert_eq!(asked("deploy@web1"), ("web1".to_owned(), Some("deploy".to_owned())));
        assert_eq!(asked("a@b@web1"), ("web1".to_owned(), Some("a@b".to_owned())));
        assert_eq!(asked("@web1"), ("web1".to_owned(), None));
        assert_eq!(asked(""), (String::new(), None));
    }
}
