//! What somebody wants to run: as reviewers see it, and as a grant binds it.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use vocabulary::{Class, ClientInfo, Name, PrincipalId, SessionId, TargetId, TargetKind, Who};

/// Longest command, its parameters included, that can be reviewed, in bytes. Whoever approves has to be able to read
/// all of it: a longer one is refused.
pub const MAX_SHOWN_BYTES: usize = 128 * 1024;

/// What changes the meaning of a command besides its text and parameters: role, database, search path, by name.
pub type Circumstances = BTreeMap<String, String>;

/// A command that waits for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The session it came in.
    pub session: SessionId,
    /// Who wants to run it.
    pub who: Who,
    /// From where.
    pub client: ClientInfo,
    /// Where it is to run.
    pub target: TargetId,
    /// The target's name.
    pub target_name: Name,
    /// The target's protocol.
    pub target_kind: TargetKind,
    /// Role, database and the like.
    pub circumstances: Circumstances,
    /// The exact text.
    pub text: String,
    /// Its parameters in text form; `None` is NULL.
    pub params: Vec<Option<String>>,
    /// Its own word.
    pub verb: String,
    /// The most dangerous thing it does.
    pub class: Class,
    /// Objects that it names.
    pub objects: Vec<String>,
    /// What a grant for it binds.
    pub fingerprint: Fingerprint,
}

/// What a grant binds: SHA-256 over principal, target, circumstances, text and parameters, each with its length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Fingerprint {
    /// Of one command. `params` are its parameters in any form that tells different ones apart.
    #[must_use]
    pub fn of(
        principal: PrincipalId,
        target: TargetId,
        circumstances: &Circumstances,
        text: &[u8],
        params: &[u8],
    ) -> Self {
        let mut hash = Context::new(&SHA256);
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(b"trailgate grant 1");
        part(principal.as_bytes());
        part(target.as_bytes());
        part(&(circumstances.len() as u64).to_be_bytes());
        for (name, value) in circumstances {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(text);
        part(params);
        let mut fingerprint = [0; 32];
        let digest = hash.finish();
        fingerprint.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(fingerprint)
    }
}
