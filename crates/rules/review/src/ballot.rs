//! Who may vote, and what a vote counts for.

use serde::{Deserialize, Serialize};
use vocabulary::{Name, PrincipalId, PrincipalKind, Timestamp, Who};

use crate::asked::Asked;

/// Longest note, in bytes.
pub const MAX_NOTE_BYTES: usize = 4096;

/// Somebody who wants to vote.
#[derive(Clone, Copy, Debug)]
pub struct Reviewer<'a> {
    /// Who, proven.
    pub who: &'a Who,
    /// The groups they are in.
    pub groups: &'a [Name],
    /// The local administrator: counts as a member of every group.
    pub operator: bool,
}

/// What somebody says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballot {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub note: Option<String>,
}

/// A vote that was cast.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub by: Name,
    /// Their id.
    pub id: PrincipalId,
    /// The groups they were in then.
    pub groups: Vec<Name>,
    /// Whether they were the local administrator.
    pub operator: bool,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Vote {
    /// Whether it counts for a group.
    #[must_use]
    pub fn counts_for(&self, group: &Name) -> bool {
        self.approve && (self.operator || self.groups.contains(group))
    }
}

/// Why a vote does not count. `Display` is one sentence, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Objection {
    /// Not a person.
    #[error("{0} `{1}` can't answer reviews; only a person can")]
    NoPerson(PrincipalKind, Name),
    /// Their own command.
    #[error("this command is `{0}`'s own, and nobody approves their own; ask another reviewer")]
    Own(Name),
    /// Their own agent's command.
    #[error("`{agent}` acts for `{person}`, and nobody approves what is done for them; ask another reviewer")]
    OwnAgent {
        /// Who wants to run it.
        agent: Name,
        /// For whom.
        person: Name,
    },
    /// In none of the groups.
    #[error("`{by}` is in none of the groups that this review asks; {} decides", list(.groups))]
    OtherGroup {
        /// Who.
        by: Name,
        /// The groups that are asked.
        groups: Vec<Name>,
    },
    /// A note is required.
    #[error("the policy wants to know why; say it with a note")]
    NoteRequired,
    /// The note is too long.
    #[error("the note is too long; say it in {MAX_NOTE_BYTES} bytes")]
    NoteTooLong,
    /// They voted before.
    #[error("`{0}` has approved this already; it needs the approval of others")]
    Again(Name),
    /// The review is over.
    #[error("this review is {0} already; there is nothing left to answer")]
    Over(&'static str),
}

impl Objection {
    /// Whether the caller is not allowed, as against too late or incomplete.
    #[must_use]
    pub const fn is_about_the_caller(&self) -> bool {
        matches!(self, Self::NoPerson(..) | Self::Own(_) | Self::OwnAgent { .. } | Self::OtherGroup { .. })
    }
}

fn list(groups: &[Name]) -> String {
    groups.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// Whether somebody may say this of a command, by who they are alone.
pub(crate) fn admit(
    asked: &Asked,
    groups: &[Name],
    note_required: bool,
    reviewer: &Reviewer<'_>,
    ballot: &Ballot,
) -> Result<(), Objection> {
    let Who { id, kind, name, .. } = reviewer.who;
    if *kind != PrincipalKind::Person {
        return Err(Objection::NoPerson(*kind, name.clone()));
    }
    let own = *id == asked.who.id || *name == asked.who.name;
    let own_agent = asked.who.on_behalf_of.as_ref() == Some(name);
    if ballot.approve {
        if own {
            return Err(Objection::Own(name.clone()));
        }
        if own_agent {
            return Err(Objection::OwnAgent { agent: asked.who.name.clone(), person: name.clone() });
        }
    }
    let asked_of = reviewer.operator || groups.iter().any(|group| reviewer.groups.contains(group));
    // Whoever it is done for may always stop it.
    if !asked_of && (ballot.approve || !(own || own_agent)) {
        return Err(Objection::OtherGroup { by: name.clone(), groups: groups.to_vec() });
    }
    match ballot.note.as_deref().map(str::trim) {
        None | Some("") if note_required && ballot.approve => Err(Objection::NoteRequired),
        Some(note) if note.len() > MAX_NOTE_BYTES => Err(Objection::NoteTooLong),
        _ => Ok(()),
    }
}
