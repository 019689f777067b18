//! What can go wrong with the control state, each as one sentence and what to do.

use std::path::PathBuf;

use identity::TokenError;
use vocabulary::{CredentialId, Name, PrincipalKind, Timestamp};

use crate::RecordError;
use crate::seal::SealError;

/// A change or a read of the control state failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Two targets can't have one name.
    #[error("there is a target `{0}` already; remove it first or choose another name")]
    TargetExists(Name),
    /// No target has that name.
    #[error("there is no target `{0}`; `trailgate target list` shows those that there are")]
    NoTarget(Name),
    /// A target with too many or too long labels, or an unknown privilege.
    #[error("{0}")]
    BadTarget(String),
    /// A secret of the target still lies in a file.
    #[error("`{0}` refers to a file that was not read; give its content")]
    UnreadFile(String),
    /// Two principals can't have one name, whatever their kinds.
    #[error("there is {} `{name}` already; remove it first or choose another name", article(*.kind))]
    PrincipalExists {
        /// The name.
        name: Name,
        /// What has it.
        kind: PrincipalKind,
    },
    /// A key proves one principal only.
    #[error("the SSH key {0} belongs to a principal already; every principal needs a key of its own")]
    SshKeyTaken(String),
    /// No principal has that name.
    #[error("there is no {kind} `{name}`; `trailgate {kind} list` shows those that there are")]
    NoPrincipal {
        /// What was asked for.
        kind: PrincipalKind,
        /// The name.
        name: Name,
    },
    /// The name belongs to something else.
    #[error("`{name}` is {}, not {}; use `trailgate {found}`", article(*.found), article(*.asked))]
    OtherKind {
        /// The name.
        name: Name,
        /// What was asked for.
        asked: PrincipalKind,
        /// What it is.
        found: PrincipalKind,
    },
    /// More keys than anybody needs.
    #[error("a principal can have at most {0} SSH keys")]
    TooManySshKeys(usize),
    /// Nobody can act for somebody unknown.
    #[error("there is no person `{0}` to act for; add it first: `trailgate person add {0}`")]
    NoPerson(Name),
    /// One acts for a person only.
    #[error("`{name}` is {}; one can act for a person only", article(*.kind))]
    ActsForNoPerson {
        /// Whom it should act for.
        name: Name,
        /// What that is.
        kind: PrincipalKind,
    },
    /// A person acts for itself.
    #[error("a person acts for itself; leave `--for` out, or add an agent")]
    PersonForPerson,
    /// Roles are for persons.
    #[error("{} can't have roles; give them to a person", article(*.0))]
    RolesForPersonsOnly(PrincipalKind),
    /// Others act for the person.
    #[error("`{name}` can't be removed: {} {} for it; remove {} first, or disable `{name}`", list(.agents), if .agents.len() == 1 { "acts" } else { "act" }, if .agents.len() == 1 { "that" } else { "those" })]
    ActedFor {
        /// The person.
        name: Name,
        /// Who acts for it.
        agents: Vec<Name>,
    },
    /// The principal has no such credential.
    #[error("`{name}` has no token {credential}; `trailgate {kind} show {name}` lists its tokens")]
    NoCredential {
        /// What it is.
        kind: PrincipalKind,
        /// The principal.
        name: Name,
        /// What was asked for.
        credential: CredentialId,
    },
    /// An expiry in the past.
    #[error("the expiry {0} lies in the past; give a later one, such as `90d`")]
    PastExpiry(Timestamp),
    /// A text that is no policy. Its source has every problem with its place.
    #[error("this is no policy; `trailgate policy check FILE` says where and why")]
    BadPolicy(#[source] policy::PolicyError),
    /// Too many groups.
    #[error("a principal can be in at most {0} groups")]
    TooManyGroups(usize),
    /// A change is only made once it stands in the trail.
    #[error("nothing was changed, because the change could not be recorded in the trail")]
    NotRecorded(#[source] RecordError),
    /// The change stands in the trail, but did not happen.
    #[error("the change was recorded but not made; check the disk that holds control.db and try again")]
    NotCommitted(#[source] rusqlite::Error),
    /// `work` ended without a result.
    #[error("nothing was changed")]
    Nothing,
    /// No token could be minted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The system has no random numbers.
    #[error("the system has no random numbers to give; nothing was changed")]
    NoRandomness,
    /// A value can't be sealed or opened.
    #[error("{place}: {source}")]
    Seal {
        /// Which value.
        place: String,
        /// Why.
        source: SealError,
    },
    /// The database is sealed under another key.
    #[error(
        "{path} was written under another node key (id {expected}, given {given}); put that key back, from a backup of node.key or from where settings point"
    )]
    WrongKey {
        /// The database.
        path: PathBuf,
        /// The key that it was written under.
        expected: String,
        /// The key that was given.
        given: String,
    },
    /// Others may read the database.
    #[error(
        "{path} can be read or written by others (mode {mode:03o}); run `chmod 600 {path}` and ask who may have read it"
    )]
    Permissions {
        /// The database.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is damaged, or none of ours.
    #[error("{path} is damaged or no Trailgate database ({detail}); put a backup in its place")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Written by a newer version.
    #[error("{0} was written by a newer version of Trailgate; run that version")]
    Newer(PathBuf),
    /// The schema could not be brought up to date.
    #[error("{path} could not be brought to this version's schema; it is as it was before")]
    Migration {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite_migration::Error,
    },
    /// Another process holds the database.
    #[error("{0} is in use by another process; stop it, or wait until it is done")]
    Busy(PathBuf),
    /// The disk is full.
    #[error("{0} can't be written: the disk is full; make space and try again")]
    Full(PathBuf),
    /// The file can't be opened or created.
    #[error("{path} can't be opened; check that the folder exists and belongs to you")]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else that the database says.
    #[error("{path}: the database refused")]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether whoever asked can put it right by asking differently, as against a fault of the gateway.
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        matches!(
            self,
            Self::TargetExists(_)
                | Self::NoTarget(_)
                | Self::BadTarget(_)
                | Self::UnreadFile(_)
                | Self::PrincipalExists { .. }
                | Self::SshKeyTaken(_)
                | Self::TooManySshKeys(_)
                | Self::NoPrincipal { .. }
                | Self::OtherKind { .. }
                | Self::NoPerson(_)
                | Self::ActsForNoPerson { .. }
                | Self::PersonForPerson
                | Self::RolesForPersonsOnly(_)
                | Self::ActedFor { .. }
                | Self::NoCredential { .. }
                | Self::PastExpiry(_)
                | Self::TooManyGroups(_)
                | Self::BadPolicy(_)
        )
    }
}

fn article(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Agent => "an agent",
        PrincipalKind::Person => "a person",
        PrincipalKind::Service => "a service",
    }
}

/// `a`, `b` and `c`; the first ten.
fn list(names: &[Name]) -> String {
    const SHOWN: usize = 10;
    let mut text = String::new();
    let shown = names.len().min(SHOWN);
    for (place, name) in names.iter().take(shown).enumerate() {
        if place > 0 {
            text.push_str(if place + 1 == names.len() { " and " } else { ", " });
        }
        text.push('`');
        text.push_str(name.as_str());
        text.push('`');
    }
    if names.len() > shown {
        text.push_str(" and ");
        text.push_str(&(names.len() - shown).to_string());
        text.push_str(" more");
    }
    text
}
