//! Judging: permit, refuse, or hold until people have answered.
//!
//! [`Turn::judge`] is for one command. Commands that stand or fall together (several statements in one message) are for
//! [`Turn::judge_all`]: one review covers all of them. [`Turn::resume`] and [`Turn::resume_all`] judge again once
//! [`Hold::poll_verdict`] has said how the waiting ended.

use std::sync::Arc;
use std::time::Duration;

use policy::{Approval, Budget, Effect, Requirement};
use review::{Asked, Circumstances, Fingerprint, MAX_SHOWN_BYTES, Review};
use serde_json::{Value, json};
use trail::record::{Event, OutcomeRecord, Params, Record};
use vocabulary::{Class, Kind, ReviewId, Status, Timestamp};

use crate::budget::Exceeded;
use crate::desk::{Found, Ticket};
use crate::hold::{Hold, Notice, Verdict};
use crate::open::{NotRecorded, OpenSession};
use crate::refusal::missing;
pub use crate::refusal::{Refusal, RefusalKind};
use crate::rule::Ruled;
use crate::turn::{Command, Duties, Permit, Turn};

/// Said of a command that stood beside one that was refused.
const BESIDE: &str = "not run: another command of the same message was refused";

/// What judging one command has led to.
#[derive(Debug)]
pub enum Judged {
    /// It may be forwarded once the turn is recorded.
    Permit(Permit),
    /// It does not run. Intent and outcome are in the turn.
    Refused(Refusal),
    /// It waits for people, who hear of it once the turn is recorded.
    Held(Hold),
}

/// What judging commands that stand or fall together has led to.
#[derive(Debug)]
pub enum Together<P = Permit, H = Hold> {
    /// All may be forwarded, in order.
    Permits(Vec<P>),
    /// None of them runs. All intents and outcomes are in the turn.
    Refused(Refusal),
    /// All of them wait.
    Held(H),
}

/// What policy, budget and obligations say of several commands.
enum Weighed {
    Permit(Vec<Arc<Ruled>>),
    Refuse { culprit: usize, refusal: Refusal, rulings: Vec<Arc<Ruled>> },
    Ask { requirement: Requirement, rulings: Vec<Arc<Ruled>> },
}

/// How commands that do not run stand in the trail.
struct Ending {
    /// Of those that are the cause.
    status: Status,
    code: Option<&'static str>,
}

impl Turn<'_> {
    /// Judges one command.
    ///
    /// # Errors
    /// When it can't be recorded: the command must not be forwarded.
    pub fn judge(&mut self, command: &Command<'_>) -> Result<Judged, NotRecorded> {
        if let Some(permit) = self.try_permit(command)? {
            return Ok(Judged::Permit(permit));
        }
        self.judge_all(std::slice::from_ref(command), command.text).and_then(one)
    }

    /// The permit, if the command may go on at once. Otherwise nothing has happened, and the command has to be
    /// [judged](Self::judge_all).
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn try_permit(&mut self, command: &Command<'_>) -> Result<Option<Permit>, NotRecorded> {
        let ruled = self.ruling(command, &[]);
        if ruled.free {
            return self.permit(command, &ruled, None).map(Some);
        }
        if !ruled.ruling.is_permit()
            || unmet(command, &ruled).is_some()
            || budget(self.session, std::slice::from_ref(&ruled)).is_err()
        {
            return Ok(None);
        }
        self.permit(command, &ruled, None).map(Some)
    }

    /// Judges commands that stand or fall together. `whole` is the text that has all of them: reviewers see it, and a
    /// grant binds it.
    ///
    /// # Errors
    /// When it can't be recorded: none of them may be forwarded.
    pub fn judge_all(&mut self, commands: &[Command<'_>], whole: &[u8]) -> Result<Together, NotRecorded> {
        match self.weigh(commands, &[]) {
            Weighed::Permit(rulings) => self.permit_all(commands, &rulings, None),
            Weighed::Refuse { culprit, refusal, rulings } => {
                self.refuse(commands, &rulings, &[culprit], refusal)
            }
            Weighed::Ask { requirement, rulings } => self.ask(commands, whole, &requirement, &rulings),
        }
    }

    /// Judges one command again, which waited.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn resume(
        &mut self,
        hold: Hold,
        verdict: Verdict,
        command: &Command<'_>,
    ) -> Result<Judged, NotRecorded> {
        self.resume_all(hold, verdict, std::slice::from_ref(command), command.text).and_then(one)
    }

    /// Judges commands again that waited together.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn resume_all(
        &mut self,
        hold: Hold,
        verdict: Verdict,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together, NotRecorded> {
        let review = hold.review;
        let known = self.session.house.desk.get(review);
        match verdict {
            Verdict::Granted => {
                hold.settle();
                let approvals = known.map(|review| review.approvals()).unwrap_or_default();
                match self.weigh(commands, &approvals) {
                    Weighed::Permit(rulings) => {
                        self.event(Kind::ReviewDecided, &json!({ "review": review, "step": "used" }))?;
                        self.permit_all(commands, &rulings, Some(review))
                    }
                    Weighed::Refuse { culprit, mut refusal, rulings } => {
                        refusal.review.get_or_insert(review);
                        self.refuse(commands, &rulings, &[culprit], refusal)
                    }
                    // The policy was changed in between: this grant does not reach.
                    Weighed::Ask { requirement, rulings } => {
                        self.ask(commands, whole, &requirement, &rulings)
                    }
                }
            }
            Verdict::PolicyChanged => self.rejudge(hold, commands, whole),
            Verdict::Denied { by, note } => {
                hold.settle();
                self.give_up(commands, Refusal::denied(review, &by, note.as_deref()))
            }
            Verdict::Lapsed => {
                let missing = missing(&known.map(|review| review.missing()).unwrap_or_default());
                let settings = self.session.house.desk.settings().clone();
                let refusal = Refusal::expired(review, hold.hold_for, &missing, &settings);
                hold.settle();
                self.give_up(commands, refusal)
            }
            Verdict::Cancelled => self.withdraw(hold, "the client called it off", commands),
            Verdict::Left => self.withdraw(hold, "the session ended", commands),
            Verdict::Over(word) => {
                hold.settle();
                self.give_up(commands, Refusal::grant_lost(review, word))
            }
            Verdict::NotStored(reason) => {
                hold.settle();
                let refusal =
                    Refusal::grant_lost(review, &format!("granted, but that can't be stored ({reason})"));
                self.give_up(commands, refusal)
            }
        }
    }

    /// Records a command that does not run since something before it was refused.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn not_run(&mut self, command: &Command<'_>, message: &str) -> Result<(), NotRecorded> {
        let ruled = self.ruling(command, &[]);
        let at = Timestamp::now();
        let seq = self.intend(command, &ruled.encoded, at)?;
        self.outcome(command, (seq, at), Status::Cancelled, None, message)
    }

    /// Takes note of a command that shows itself by its answer alone: it is too late to judge it.
    ///
    /// # Errors
    /// When it can't be recorded.
    pub fn acknowledge(&mut self, command: &Command<'_>) -> Result<Permit, NotRecorded> {
        let ruled = self.ruling(command, &[]);
        self.permit(command, &ruled, None)
    }

    fn ruling(&mut self, command: &Command<'_>, approvals: &[Approval]) -> Arc<Ruled> {
        let OpenSession { rules, house, .. } = &mut *self.session;
        rules.rule(house, command.known.facts(), command.in_transaction, approvals)
    }

    fn weigh(&mut self, commands: &[Command<'_>], approvals: &[Approval]) -> Weighed {
        let rulings: Vec<_> = commands.iter().map(|command| self.ruling(command, approvals)).collect();
        let forbids = |ruled: &Arc<Ruled>| ruled.ruling.effect == Effect::Forbid;
        if let Some(culprit) = rulings.iter().position(forbids) {
            let refusal = rulings.get(culprit).map(|ruled| Refusal::forbidden(&ruled.ruling.words));
            return Weighed::Refuse {
                culprit,
                refusal: refusal.unwrap_or_else(|| Refusal::forbidden(&policy::Words::default())),
                rulings,
            };
        }
        for (culprit, (command, ruled)) in commands.iter().zip(&rulings).enumerate() {
            if let Some(obligation) = unmet(command, ruled) {
                let refusal = Refusal::unmet(obligation, &ruled.ruling.decision.policies);
                return Weighed::Refuse { culprit, refusal, rulings };
            }
        }
        let asked = rulings.iter().filter_map(|ruled| match &ruled.ruling.effect {
            Effect::Review(requirement) => Some(requirement.clone()),
            Effect::Permit | Effect::Forbid => None,
        });
        if let Some(requirement) = asked.reduce(both) {
            return Weighed::Ask { requirement, rulings };
        }
        match budget(self.session, &rulings) {
            Ok(()) => Weighed::Permit(rulings),
            Err((culprit, exceeded)) => {
                let policies = rulings.get(culprit).map(|ruled| ruled.ruling.decision.policies.clone());
                let refusal = Refusal::over_budget(&exceeded, &policies.unwrap_or_default());
                Weighed::Refuse { culprit, refusal, rulings }
            }
        }
    }

    fn permit(
        &mut self,
        command: &Command<'_>,
        ruled: &Ruled,
        review: Option<ReviewId>,
    ) -> Result<Permit, NotRecorded> {
        let at = Timestamp::now();
        let level = self.level_of(command);
        let seq = match review {
            None => self.intend(command, &ruled.encoded, at)?,
            Some(review) => self.intend(command, &trail::record::reviewed(&ruled.encoded, review), at)?,
        };
        self.level = self.level.max(level);
        let duties = if ruled.free { None } else { Some(Box::new(self.duties(ruled))) };
        Ok(Permit { seq, at, level, duties })
    }

    fn duties(&self, ruled: &Ruled) -> Duties {
        let budget = ruled.ruling.budget;
        let (who, target) = (self.session.rules.who().id, self.session.rules.place().id);
        Duties {
            obligations: ruled.ruling.obligations,
            policies: ruled.ruling.decision.policies.clone(),
            meter: budget.rows_per_hour.map(|_| self.session.house.meters.of(who, target)),
        }
    }

    fn permit_all(
        &mut self,
        commands: &[Command<'_>],
        rulings: &[Arc<Ruled>],
        review: Option<ReviewId>,
    ) -> Result<Together, NotRecorded> {
        let permits =
            commands.iter().zip(rulings).map(|(command, ruled)| self.permit(command, ruled, review));
        permits.collect::<Result<_, _>>().map(Together::Permits)
    }

    /// Records all of them as not run; those at `culprits` as the cause.
    fn refuse(
        &mut self,
        commands: &[Command<'_>],
        rulings: &[Arc<Ruled>],
        culprits: &[usize],
        refusal: Refusal,
    ) -> Result<Together, NotRecorded> {
        let codes = self.session.codes;
        let ending = match refusal.kind {
            RefusalKind::Denied | RefusalKind::OverBudget => {
                Ending { status: Status::Denied, code: codes.refused }
            }
            RefusalKind::Expired => Ending { status: Status::Expired, code: codes.expired },
            RefusalKind::Cancelled => Ending { status: Status::Cancelled, code: codes.cancelled },
        };
        for (place, (command, ruled)) in commands.iter().zip(rulings).enumerate() {
            let at = Timestamp::now();
            if culprits.contains(&place) {
                let decision = ruled.forbidden();
                let decision =
                    refusal.review.map_or(decision.clone(), |id| trail::record::reviewed(&decision, id));
                let seq = self.intend(command, &decision, at)?;
                self.outcome(command, (seq, at), ending.status, ending.code, &refusal.message)?;
            } else {
                let seq = self.intend(command, &ruled.encoded, at)?;
                self.outcome(command, (seq, at), Status::Cancelled, None, BESIDE)?;
            }
        }
        Ok(Together::Refused(refusal))
    }

    /// They waited, and do not run. The cause are those that policy does not permit by itself.
    fn give_up(&mut self, commands: &[Command<'_>], refusal: Refusal) -> Result<Together, NotRecorded> {
        let rulings: Vec<_> = commands.iter().map(|command| self.ruling(command, &[])).collect();
        let mut culprits: Vec<usize> = (0..rulings.len())
            .filter(|place| rulings.get(*place).is_some_and(|ruled| !ruled.ruling.is_permit()))
            .collect();
        if culprits.is_empty() {
            // The policy would permit them by now; what was said before counts.
            culprits = (0..rulings.len()).collect();
        }
        self.refuse(commands, &rulings, &culprits, refusal)
    }

    fn withdraw(&mut self, hold: Hold, why: &str, commands: &[Command<'_>]) -> Result<Together, NotRecorded> {
        let review = hold.review;
        self.event(Kind::ReviewDecided, &json!({ "review": review, "step": "withdrawn", "why": why }))?;
        let refusal = Refusal::cancelled(review);
        let given_up = self.give_up(commands, refusal);
        self.session.house.desk.withdraw(hold.settle(), why);
        given_up
    }

    /// Another policy is in force while it waits.
    fn rejudge(
        &mut self,
        mut hold: Hold,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together, NotRecorded> {
        let review = hold.review;
        let approvals =
            self.session.house.desk.get(review).map(|known| known.approvals()).unwrap_or_default();
        let why = "the policy was changed";
        let withdrawn = json!({ "review": review, "step": "withdrawn", "why": why });
        match self.weigh(commands, &approvals) {
            Weighed::Permit(rulings) => {
                self.event(Kind::ReviewDecided, &withdrawn)?;
                self.session.house.desk.withdraw(hold.settle(), why);
                self.permit_all(commands, &rulings, None)
            }
            Weighed::Refuse { culprit, mut refusal, rulings } => {
                self.event(Kind::ReviewDecided, &withdrawn)?;
                self.session.house.desk.withdraw(hold.settle(), why);
                refusal.review = Some(review);
                self.refuse(commands, &rulings, &[culprit], refusal)
            }
            Weighed::Ask { requirement, .. } if self.fits(&hold, commands, whole) => {
                self.session.house.desk.require(review, &requirement);
                // The client knows already that it waits.
                hold.notice = None;
                Ok(Together::Held(hold))
            }
            Weighed::Ask { requirement, rulings } => {
                drop(hold);
                self.ask(commands, whole, &requirement, &rulings)
            }
        }
    }

    fn fits(&self, hold: &Hold, commands: &[Command<'_>], whole: &[u8]) -> bool {
        commands.first().is_some_and(|first| self.fingerprint(first, whole).1 == hold.fingerprint)
    }

    /// Asks people, or those who were asked before.
    fn ask(
        &mut self,
        commands: &[Command<'_>],
        whole: &[u8],
        requirement: &Requirement,
        rulings: &[Arc<Ruled>],
    ) -> Result<Together, NotRecorded> {
        let culprits: Vec<usize> = (0..rulings.len())
            .filter(|place| rulings.get(*place).is_some_and(|ruled| ruled.asks()))
            .collect();
        let Some((first, asking)) =
            commands.first().zip(culprits.first().and_then(|place| rulings.get(*place)))
        else {
            return Ok(Together::Permits(Vec::new()));
        };
        let (words, policies) = (&asking.ruling.words, &asking.ruling.decision.policies);
        let now = Timestamp::now();
        let (circumstances, fingerprint) = self.fingerprint(first, whole);
        let house = Arc::clone(&self.session.house);
        let settings = house.desk.settings();
        let (hold_for, short) = self.hold_for(requirement, commands);
        let (live, ticket) = (Arc::clone(&self.session.live), Arc::new(Ticket::default()));
        let found = house.desk.find(fingerprint, now);
        if let Found::Granted(id) | Found::Pending(id) = found
            && house.desk.attach(id, &ticket)
        {
            let known = house.desk.get(id).map(|known| missing(&known.missing())).unwrap_or_default();
            let notice = (found == Found::Pending(id))
                .then(|| Notice::held(id, words, &known, (hold_for, short), settings));
            if notice.is_some() {
                house.desk.require(id, requirement);
                self.event(Kind::ReviewRequested, &json!({ "review": id, "again": true }))?;
            }
            return Ok(Together::Held(Hold::new(
                Arc::clone(&house),
                live,
                (id, fingerprint),
                ticket,
                hold_for,
                notice,
            )));
        }
        let asked = match self.asked(commands, whole, circumstances, fingerprint) {
            Ok(asked) if house.desk.has_room(asked.who.id) => asked,
            Ok(_) => {
                let why = "too many of your commands wait for a review already: withdraw some, or wait";
                return self.refuse(commands, rulings, &culprits, Refusal::not_reviewable(words, why));
            }
            Err(why) => {
                return self.refuse(commands, rulings, &culprits, Refusal::not_reviewable(words, why));
            }
        };
        let id = new_review_id(now);
        let review = Review::request(
            id,
            asked,
            (words.reason.clone(), policies.clone()),
            requirement,
            now,
            settings.pace,
        );
        let notice = Notice::held(id, words, &missing(&review.missing()), (hold_for, short), settings);
        self.event(Kind::ReviewRequested, &requested(&review))?;
        self.requests.push((review, Arc::clone(&ticket)));
        Ok(Together::Held(Hold::new(
            Arc::clone(&house),
            live,
            (id, fingerprint),
            ticket,
            hold_for,
            Some(notice),
        )))
    }

    fn hold_for(&self, requirement: &Requirement, commands: &[Command<'_>]) -> (Duration, bool) {
        let settings = self.session.house.desk.settings();
        let wanted = requirement.hold_for.unwrap_or(settings.hold_for);
        let locks = commands
            .iter()
            .any(|command| command.amid || (command.in_transaction && self.session.transaction_wrote));
        let most = if locks { settings.hold_for_in_transaction } else { Duration::MAX };
        (wanted.min(most), locks && wanted > most)
    }

    fn fingerprint(&self, command: &Command<'_>, whole: &[u8]) -> (Circumstances, Fingerprint) {
        let place = self.session.rules.place();
        let role = command.context.role.unwrap_or(&place.role);
        let known = [
            ("role", Some(role).filter(|role| !role.is_empty())),
            ("database", place.database.as_deref()),
            ("search_path", command.context.search_path),
        ];
        let circumstances: Circumstances = known
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value.to_owned())))
            .collect();
        let who = self.session.rules.who().id;
        let fingerprint = Fingerprint::of(who, place.id, &circumstances, whole, command.params);
        (circumstances, fingerprint)
    }

    /// What reviewers see; or why they can't see all of it.
    fn asked(
        &self,
        commands: &[Command<'_>],
        whole: &[u8],
        circumstances: Circumstances,
        fingerprint: Fingerprint,
    ) -> Result<Asked, &'static str> {
        let params = commands.first().map_or(&[][..], |first| first.params);
        if whole.len() + params.len() > MAX_SHOWN_BYTES || commands.iter().any(|command| !command.whole) {
            return Err("it is too long to be read by people: send it in smaller pieces");
        }
        let text =
            std::str::from_utf8(whole).map_err(|_| "it is not valid UTF-8, so people can't read it")?;
        let place = self.session.rules.place();
        let worst = commands.iter().map(|command| command.known.facts()).max_by_key(|facts| facts.class);
        let mut objects: Vec<String> = commands
            .iter()
            .flat_map(|command| command.known.facts().objects.iter().map(|object| object.name.clone()))
            .collect();
        objects.sort_unstable();
        objects.dedup();
        Ok(Asked {
            session: self.session.id,
            who: (**self.session.rules.who()).clone(),
            client: self.session.client.clone(),
            target: place.id,
            target_name: self.session.rules.target().name.clone(),
            target_kind: place.kind,
            circumstances,
            text: text.to_owned(),
            params: Params::new(params).map(|value| value.map(shown)).collect(),
            verb: worst.map(|facts| facts.verb.clone()).unwrap_or_default(),
            class: worst.map_or(Class::Unknown, |facts| facts.class),
            objects,
            fingerprint,
        })
    }

    fn event(&mut self, kind: Kind, what: &Value) -> Result<(), NotRecorded> {
        let event = Event {
            session: self.session.id,
            seq: self.session.next_seq,
            at: Timestamp::now(),
            kind,
            actor: None,
            client: None,
            subject: None,
            what: what.to_string(),
        };
        Record::Event(event).encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))?;
        self.session.next_seq += 1;
        Ok(())
    }

    fn outcome(
        &mut self,
        command: &Command<'_>,
        (seq, at): (u64, Timestamp),
        status: Status,
        code: Option<&str>,
        message: &str,
    ) -> Result<(), NotRecorded> {
        let outcome = OutcomeRecord {
            executed: Some(false),
            bytes_in: command.bytes_in,
            code,
            message: Some(message),
            ..OutcomeRecord::bare(self.session.id, seq, at, status)
        };
        outcome.encode(&mut self.batch).map_err(|error| NotRecorded::new(&error))
    }
}

/// The first obligation that the protocol can't keep for a command.
fn unmet(command: &Command<'_>, ruled: &Ruled) -> Option<&'static str> {
    if ruled.ruling.effect == Effect::Forbid {
        return None;
    }
    let (wanted, means) = (&ruled.ruling.obligations, command.means);
    [
        (wanted.limit_rows.is_some() && !means.limit_rows, "a limit of rows"),
        (wanted.timeout_ms.is_some() && !means.timeout, "a time limit"),
        (wanted.read_only && !means.read_only, "the target to keep it read-only"),
        (wanted.record_rows.is_some() && !means.record_rows, "its rows to be recorded"),
    ]
    .into_iter()
    .find_map(|(unmet, what)| unmet.then_some(what))
}

/// Counts the commands against their budgets; which one is over, if one is.
fn budget(session: &OpenSession, rulings: &[Arc<Ruled>]) -> Result<(), (usize, Exceeded)> {
    let is_limited = |budget: &Budget| budget.commands_per_minute.is_some() || budget.rows_per_hour.is_some();
    if !rulings.iter().any(|ruled| is_limited(&ruled.ruling.budget)) {
        return Ok(());
    }
    let meter = session.house.meters.of(session.rules.who().id, session.rules.place().id);
    meter.take(rulings.iter().map(|ruled| &ruled.ruling.budget), Timestamp::now())
}

/// What both ask for.
fn both(mut one: Requirement, other: Requirement) -> Requirement {
    one.groups.extend(other.groups);
    one.groups.sort_unstable();
    one.groups.dedup();
    one.approvals = one.approvals.max(other.approvals);
    one.note_required |= other.note_required;
    one.hold_for = match (one.hold_for, other.hold_for) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    one
}

/// `review.requested`, for the trail: everything that reviewers see.
fn requested(review: &Review) -> Value {
    let Review { id, asked, reason, policies, open_until, .. } = review;
    json!({
        "review": id,
        "command": {
            "text": asked.text, "params": asked.params, "verb": asked.verb, "class": asked.class, "objects": asked.objects,
        },
        "circumstances": asked.circumstances,
        "reason": reason,
        "policies": policies,
        "groups": review.groups(),
        "approvals": review.approvals_needed(),
        "note_required": review.note_required,
        "open_until": open_until,
    })
}

/// A parameter as people read it.
fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

fn new_review_id(now: Timestamp) -> ReviewId {
    let mut random = [0u8; 10];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        tracing::error!("the system's random source failed");
    }
    ReviewId::from_parts(now.unix_ms(), random)
}

fn one(together: Together) -> Result<Judged, NotRecorded> {
    match together {
        Together::Refused(refusal) => Ok(Judged::Refused(refusal)),
        Together::Held(hold) => Ok(Judged::Held(hold)),
        Together::Permits(permits) => {
            let permit = permits.into_iter().next();
            permit.map(Judged::Permit).ok_or_else(|| NotRecorded::because("no command was given"))
        }
    }
}
