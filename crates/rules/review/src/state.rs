//! The state machine of one review.

use std::time::Duration;

use policy::{Approval, Requirement};
use serde::{Deserialize, Serialize};
use vocabulary::{Name, ReviewId, SessionId, Timestamp};

use crate::asked::{Asked, Fingerprint};
use crate::ballot::{self, Ballot, Objection, Reviewer, Vote};

/// How long things take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How long a review waits for its votes.
    pub open_for: Duration,
    /// How long a grant waits to be used.
    pub grant_for: Duration,
}

impl Default for Pace {
    /// An hour for the votes, 15 minutes for the grant.
    fn default() -> Self {
        Self { open_for: Duration::from_secs(60 * 60), grant_for: Duration::from_secs(15 * 60) }
    }
}

/// Where a review stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// It waits for votes.
    Pending,
    /// Enough have approved: the command may run once.
    Granted {
        /// From when on it may not any more.
        until: Timestamp,
    },
    /// Somebody said no.
    Denied {
        /// Who.
        by: Name,
        /// Why.
        note: Option<String>,
    },
    /// The command went on.
    Used {
        /// When.
        at: Timestamp,
        /// In which session.
        session: SessionId,
    },
    /// Nobody decided in time, or nobody used the grant in time.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Whoever asked is gone, or called it off.
    Withdrawn {
        /// When.
        at: Timestamp,
        /// How that came.
        why: String,
    },
}

impl State {
    /// One word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted { .. } => "granted",
            Self::Denied { .. } => "denied",
            Self::Used { .. } => "used",
            Self::Expired { .. } => "expired",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }

    /// Whether nothing can change any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !matches!(self, Self::Pending | Self::Granted { .. })
    }
}

/// What a vote has led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// More votes are needed.
    Counted,
    /// The command may run.
    Granted,
    /// It may not.
    Denied,
}

impl Step {
    /// One word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "vote",
            Self::Granted => "granted",
            Self::Denied => "denied",
        }
    }
}

/// One review.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// What it is about.
    pub asked: Asked,
    /// Why it is asked, in the policy's words.
    pub reason: String,
    /// The policies that ask.
    pub policies: Vec<String>,
    /// All of these groups have to approve.
    groups: Vec<Name>,
    /// So many people of each.
    approvals: u8,
    /// Whether they have to say why.
    pub note_required: bool,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Until when it waits for votes.
    pub open_until: Timestamp,
    /// Every vote, in order.
    pub votes: Vec<Vote>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
}

impl Review {
    /// Somebody asks.
    #[must_use]
    pub fn request(
        id: ReviewId,
        asked: Asked,
        (reason, policies): (String, Vec<String>),
        requirement: &Requirement,
        now: Timestamp,
        pace: Pace,
    ) -> Self {
        Self {
            id,
            asked,
            reason,
            policies,
            groups: requirement.groups.clone(),
            approvals: requirement.approvals.max(1),
            note_required: requirement.note_required,
            requested_at: now,
            open_until: later(now, pace.open_for),
            votes: Vec::new(),
            state: State::Pending,
        }
    }

    /// The groups that have to approve.
    #[must_use]
    pub fn groups(&self) -> &[Name] {
        &self.groups
    }

    /// How many people of each group have to approve.
    #[must_use]
    pub const fn approvals_needed(&self) -> u8 {
        self.approvals
    }

    /// How many more people of each group have to approve, where there are any.
    #[must_use]
    pub fn missing(&self) -> Vec<(Name, usize)> {
        let missing = |group: &Name| {
            let given = self.votes.iter().filter(|vote| vote.counts_for(group)).count();
            usize::from(self.approvals).saturating_sub(given)
        };
        self.groups
            .iter()
            .map(|group| (group.clone(), missing(group)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The approvals given so far, as a policy reads them.
    #[must_use]
    pub fn approvals(&self) -> Vec<Approval> {
        let of = |vote: &Vote| {
            let groups = self.groups.iter().filter(|group| vote.counts_for(group));
            groups.map(|group| Approval { group: group.clone(), by: vote.by.clone() }).collect::<Vec<_>>()
        };
        self.votes.iter().flat_map(of).collect()
    }

    /// Somebody votes. One no decides; a yes decides once every group has enough.
    ///
    /// # Errors
    /// [`Objection`]; nothing has changed then.
    pub fn vote(
        &mut self,
        reviewer: &Reviewer<'_>,
        ballot: Ballot,
        now: Timestamp,
        pace: Pace,
    ) -> Result<Step, Objection> {
        if !matches!(self.state, State::Pending) {
            return Err(Objection::Over(self.state.as_str()));
        }
        if now >= self.open_until {
            return Err(Objection::Over("expired"));
        }
        ballot::admit(&self.asked, &self.groups, self.note_required, reviewer, &ballot)?;
        let Ballot { approve, note } = ballot;
        let note = note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
        let by = reviewer.who.name.clone();
        if self.votes.iter().any(|vote| vote.approve && (vote.id == reviewer.who.id || vote.by == by))
            && approve
        {
            return Err(Objection::Again(by));
        }
        self.votes.push(Vote {
            by: by.clone(),
            id: reviewer.who.id,
            groups: reviewer.groups.to_vec(),
            operator: reviewer.operator,
            approve,
            note: note.clone(),
            at: now,
        });
        if !approve {
            self.state = State::Denied { by, note };
            return Ok(Step::Denied);
        }
        Ok(self.settle(now, pace))
    }

    /// The policy asks for something else than before, since it was changed: votes given keep counting. If they are enough
    /// now, that is to be recorded before it is [granted](Self::grant).
    pub fn require(&mut self, requirement: &Requirement) {
        if matches!(self.state, State::Pending) {
            self.groups.clone_from(&requirement.groups);
            self.approvals = requirement.approvals.max(1);
            self.note_required = requirement.note_required;
        }
    }

    /// Whether it waits for votes at `now` that it does not need any more.
    #[must_use]
    pub fn is_met(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Pending) && now < self.open_until && self.missing().is_empty()
    }

    /// The votes given are enough since the policy was changed. Returns whether that changed anything.
    pub fn grant(&mut self, now: Timestamp, pace: Pace) -> bool {
        self.is_met(now) && self.settle(now, pace) == Step::Granted
    }

    fn settle(&mut self, now: Timestamp, pace: Pace) -> Step {
        if self.missing().is_empty() {
            self.state = State::Granted { until: later(now, pace.grant_for) };
            Step::Granted
        } else {
            Step::Counted
        }
    }

    /// Uses the grant for the command that it fits.
    ///
    /// # Errors
    /// [`Objection::Over`] if there is no grant, or not for this command, or not any more.
    pub fn take(
        &mut self,
        fingerprint: Fingerprint,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), Objection> {
        match &self.state {
            State::Granted { until } if *until <= now => Err(Objection::Over("expired")),
            State::Granted { .. } if fingerprint == self.asked.fingerprint => {
                self.state = State::Used { at: now, session };
                Ok(())
            }
            State::Granted { .. } => Err(Objection::Over("given to another command")),
            other => Err(Objection::Over(other.as_str())),
        }
    }

    /// Whether its time is over at `now`, though it has not been said so yet.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Pending => now >= self.open_until,
            State::Granted { until } => now >= *until,
            _ => false,
        }
    }

    /// Its time is over.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let overdue = self.is_overdue(now);
        if overdue {
            self.state = State::Expired { at: now };
        }
        overdue
    }

    /// Whoever asked is gone, or called it off. Returns whether that changed anything.
    pub fn withdraw(&mut self, why: &str, now: Timestamp) -> bool {
        let open = !self.state.is_over();
        if open {
            self.state = State::Withdrawn { at: now, why: why.to_owned() };
        }
        open
    }

    /// When it was over, if it is.
    #[must_use]
    pub fn over_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending | State::Granted { .. } => None,
            State::Denied { .. } => Some(self.votes.last().map_or(self.requested_at, |vote| vote.at)),
            State::Used { at, .. } | State::Expired { at } | State::Withdrawn { at, .. } => Some(*at),
        }
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}
