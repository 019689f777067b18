//! One command against one policy.
//!
//! For every demand, and for every verb of the command: a plain forbid refuses; what nothing permits is refused; a forbid with `@review` that its group
//! has not lifted yet asks for the review. The worst over all demands counts, in that order.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Context, Decision as Allowed, Entities, EntityUid, PolicyId, PolicySet, Request,
};
use vocabulary::{Class, Decision, Facts, Name, PolicyHash, Verdict};

use crate::annotations::{Notes, Review};
use crate::compile::{Compiled, Sets};
use crate::demands::{self, Action, Demand, Measure, Resource};
use crate::entities;
use crate::ruling::{Budget, Effect, Obligations, Requirement, Ruling, Words};
use crate::scene::{Approval, Scene};

/// What a client is told where the policies give no advice of their own.
const REFUSED: &str = "ask whoever administers the gateway whether it should be allowed";
const HELD: &str = "once it is approved, run the identical command again";

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// May it enter?
    Connect,
    /// May it run?
    Command,
}

/// May somebody enter a target?
pub(crate) fn connect(compiled: &Compiled, hash: PolicyHash, scene: &Scene<'_>) -> Ruling {
    let facts = Facts::plain("CONNECT", Class::Session);
    let mut judge = Judge::new(compiled, hash, scene, Question::Connect);
    judge.count_sessions(&facts);
    judge.rule(&facts)
}

/// May a command run?
pub(crate) fn command(compiled: &Compiled, hash: PolicyHash, scene: &Scene<'_>, facts: &Facts) -> Ruling {
    Judge::new(compiled, hash, scene, Question::Command).rule(facts)
}

struct Judge<'a> {
    compiled: &'a Compiled,
    hash: PolicyHash,
    scene: &'a Scene<'a>,
    question: Question,
    authorizer: Authorizer,
    /// Policies that decided so far, by what they said.
    permits: BTreeSet<String>,
    forbids: BTreeSet<String>,
    reviews: BTreeSet<String>,
    lifted: BTreeSet<String>,
    words: Option<Words>,
    review_words: Option<Words>,
    refused: bool,
    obligations: Obligations,
    budget: Budget,
    requirement: Option<Requirement>,
}

/// What stays the same for all demands of a command.
struct Evidence<'a> {
    principal: EntityUid,
    entities: &'a Entities,
    context: &'a Context,
}

impl<'a> Judge<'a> {
    fn new(compiled: &'a Compiled, hash: PolicyHash, scene: &'a Scene<'a>, question: Question) -> Self {
        Self {
            compiled,
            hash,
            scene,
            question,
            authorizer: Authorizer::new(),
            permits: BTreeSet::new(),
            forbids: BTreeSet::new(),
            reviews: BTreeSet::new(),
            lifted: BTreeSet::new(),
            words: None,
            review_words: None,
            refused: false,
            obligations: Obligations::default(),
            budget: Budget::default(),
            requirement: None,
        }
    }

    fn rule(mut self, facts: &Facts) -> Ruling {
        let demands = demands::of(facts, self.scene.target.kind);
        let approved = approved(&self.compiled.thresholds, self.scene.approvals);
        let types = &self.compiled.types;
        let entities = match entities::entities(types, self.scene, &demands) {
            Ok(entities) => entities,
            Err(error) => {
                self.broken(&error);
                return self.ruling();
            }
        };
        // What it runs besides its own word counts like that: a DELETE in a WITH list is a DELETE.
        for verb in std::iter::once(&facts.verb).chain(&facts.inner_verbs) {
            match entities::context(types, self.scene, facts, verb, &approved) {
                Ok(context) => {
                    let principal = types.principal(self.scene);
                    let evidence = Evidence { principal, entities: &entities, context: &context };
                    for demand in &demands {
                        self.judge(demand, facts, &evidence);
                    }
                }
                Err(error) => self.broken(&error),
            }
        }
        self.ruling()
    }

    /// Notes how many sessions there may be at once by every permit that whoever enters may come to use, also where it is
    /// for some commands alone.
    fn count_sessions(&mut self, facts: &Facts) {
        let compiled = self.compiled;
        if compiled.sessions.is_empty() {
            return;
        }
        let (scene, types) = (self.scene, &compiled.types);
        let demands = demands::of(facts, scene.target.kind);
        let request = entities::context(types, scene, facts, &facts.verb, &[]).and_then(|context| {
            let (action, place) = (types.action(Action::Connect), Resource::Target);
            let place = types.resource(&scene.target, place);
            Request::new(types.principal(scene), action, place, context, None)
                .map_err(|error| error.to_string())
        });
        let asked = request.and_then(|request| Ok((request, entities::entities(types, scene, &demands)?)));
        let (request, entities) = match asked {
            Ok(asked) => asked,
            Err(error) => return self.broken(&error),
        };
        let Some((_, counting)) = self.ask(&request, &compiled.sessions, &entities) else { return };
        for notes in counting.iter().filter_map(|id| compiled.notes.get(id)) {
            let sessions = notes.budget.sessions;
            self.budget = self.budget.and(&Budget { sessions, ..Budget::default() });
        }
    }

    fn judge(&mut self, demand: &Demand<'_>, facts: &Facts, evidence: &Evidence<'_>) {
        let compiled = self.compiled;
        let sets: &Sets = match demand.measure {
            Measure::Written | Measure::ForbidsOnly => &compiled.written,
            Measure::AnyOfSchema => &compiled.any_of_schema,
            Measure::AnyObject => &compiled.any_object,
            Measure::ByCode => &compiled.by_code,
            Measure::Anything => &compiled.anything,
        };
        let request = Request::new(
            evidence.principal.clone(),
            compiled.types.action(demand.action),
            compiled.types.resource(&self.scene.target, demand.resource),
            evidence.context.clone(),
            None,
        );
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.broken(&error.to_string()),
        };
        let Some((allowed, deciding)) = self.ask(&request, &sets.main, evidence.entities) else { return };
        if allowed {
            if demand.measure.needs_permit() {
                self.permitted(&deciding);
            }
        } else if !deciding.is_empty() {
            self.forbidden(&deciding, demand, facts);
        } else if demand.measure.needs_permit() {
            self.unpermitted(demand, facts);
        }
        // Who waits to be let in can't wait for a person: connecting is permitted or not.
        if self.question == Question::Connect || sets.reviews.is_empty() {
            return;
        }
        let Some((_, reviews)) = self.ask(&request, &sets.reviews, evidence.entities) else { return };
        self.reviewed(&reviews, demand, facts);
    }

    /// Whether a set allows it, and the policies that decided. `None` if it could not be evaluated.
    fn ask(
        &mut self,
        request: &Request,
        set: &PolicySet,
        entities: &Entities,
    ) -> Option<(bool, Vec<PolicyId>)> {
        let answer = self.authorizer.is_authorized(request, set, entities);
        // Cedar leaves out a policy that fails. A forbid that fails must not let anything through.
        if let Some(error) = answer.diagnostics().errors().next() {
            self.broken(&error.to_string());
            return None;
        }
        let deciding = answer.diagnostics().reason().cloned().collect();
        Some((answer.decision() == Allowed::Allow, deciding))
    }

    fn permitted(&mut self, permits: &[PolicyId]) {
        for id in permits {
            if let Some(notes) = self.compiled.notes.get(id) {
                self.obligations = self.obligations.and(&notes.obligations);
                self.budget = self.budget.and(&notes.budget);
            }
            self.permits.insert(id.to_string());
        }
    }

    fn forbidden(&mut self, forbids: &[PolicyId], demand: &Demand<'_>, facts: &Facts) {
        self.refused = true;
        let first = self.forbids.is_empty();
        self.forbids.extend(forbids.iter().map(ToString::to_string));
        if first {
            let what = self.phrase(demand, facts);
            self.words = Some(Words {
                reason: format!("{} {what}", policies(forbids, "forbids", "forbid")),
                approvers: String::new(),
                advice: self.advice(forbids).unwrap_or_else(|| REFUSED.to_owned()),
            });
        }
    }

    fn unpermitted(&mut self, demand: &Demand<'_>, facts: &Facts) {
        self.refused = true;
        if self.words.is_none() {
            let who = &self.scene.who;
            let what = self.phrase(demand, facts);
            self.words = Some(Words {
                reason: format!("no policy permits {} `{}` {what}", who.kind, who.name),
                approvers: String::new(),
                advice: REFUSED.to_owned(),
            });
        }
    }

    fn reviewed(&mut self, reviews: &[PolicyId], demand: &Demand<'_>, facts: &Facts) {
        let mut open = Vec::new();
        for id in reviews {
            let Some(review) = self.compiled.notes.get(id).and_then(|notes| notes.review.as_ref()) else {
                return self.broken("a review's annotations are missing");
            };
            if count(self.scene.approvals, &review.group) >= usize::from(review.approvals) {
                self.lifted.insert(id.to_string());
                continue;
            }
            self.requirement = Some(stricter(self.requirement.take(), review));
            open.push(id.clone());
        }
        if open.is_empty() {
            return;
        }
        if self.review_words.is_none() {
            let what = self.phrase(demand, facts);
            self.review_words = Some(Words {
                reason: format!("{} {what}", policies(&open, "asks for a review of", "ask for a review of")),
                approvers: String::new(),
                advice: self.advice(&open).unwrap_or_else(|| HELD.to_owned()),
            });
        }
        self.reviews.extend(open.iter().map(ToString::to_string));
    }

    /// Policies can't be evaluated: nothing passes.
    fn broken(&mut self, error: &str) {
        self.refused = true;
        self.words = Some(Words {
            reason: format!("the policy could not be evaluated: {error}"),
            approvers: String::new(),
            advice: "tell whoever runs the gateway; `trailgate policy explain` shows the same".to_owned(),
        });
    }

    fn ruling(self) -> Ruling {
        let decision = |effect, policies: BTreeSet<String>| Decision {
            effect,
            policies: policies.into_iter().collect(),
            policy_hash: self.hash,
        };
        let stable = !self.compiled.looks_at.anything() && self.scene.approvals.is_empty();
        if self.refused {
            return Ruling {
                effect: Effect::Forbid,
                decision: decision(Verdict::Forbid, self.forbids),
                words: self.words.unwrap_or_default(),
                obligations: Obligations::default(),
                budget: Budget::default(),
                stable,
            };
        }
        let (obligations, budget) = (self.obligations, self.budget);
        if let Some(requirement) = self.requirement {
            let words = self.review_words.unwrap_or_default();
            return Ruling {
                words: Words { approvers: approvers(&requirement), ..words },
                effect: Effect::Review(requirement),
                decision: decision(Verdict::Forbid, self.reviews),
                obligations,
                budget,
                stable,
            };
        }
        let mut deciding = self.permits;
        deciding.extend(self.lifted);
        Ruling {
            effect: Effect::Permit,
            decision: decision(Verdict::Permit, deciding),
            words: Words::default(),
            obligations,
            budget,
            stable,
        }
    }

    /// What a demand is, for people.
    fn phrase(&self, demand: &Demand<'_>, facts: &Facts) -> String {
        let target = &self.scene.target;
        let Demand { measure, action, resource } = demand;
        let word = action.as_str();
        match (measure, resource) {
            (_, Resource::Target) if self.question == Question::Connect => {
                format!("{word} to {}", target.name)
            }
            (Measure::Anything, _) => format!("what the gateway can't understand on {}", target.name),
            (Measure::ByCode, _) => {
                format!("{word} on {}, which the code that this {} runs may do", target.name, facts.verb)
            }
            (Measure::AnyObject, Resource::Target) if *action != Action::Execute => {
                format!(
                    "{word} on every object of {}, and this command does not say which it means",
                    target.name
                )
            }
            (_, Resource::Target) => format!("{word} on {}", target.name),
            (_, Resource::Schema(name)) => {
                format!("{word} on everything in {}", entities::qualified(target, name))
            }
            (_, Resource::Object(name) | Resource::Function(name, _)) => {
                format!("{word} on {}", entities::qualified(target, name))
            }
        }
    }

    /// The policies' own advice, each once.
    fn advice(&self, ids: &[PolicyId]) -> Option<String> {
        let mut said: Vec<&str> = ids
            .iter()
            .filter_map(|id| self.compiled.notes.get(id).and_then(|notes: &Notes| notes.advice.as_deref()))
            .collect();
        said.sort_unstable();
        said.dedup();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Groups that have approved as often as any of their policies asks.
fn approved<'a>(thresholds: &BTreeMap<Name, u8>, approvals: &'a [Approval]) -> Vec<&'a str> {
    let mut groups: Vec<&str> = approvals
        .iter()
        .filter(|approval| {
            let needed = thresholds.get(&approval.group).copied().unwrap_or(1);
            count(approvals, &approval.group) >= usize::from(needed)
        })
        .map(|approval| approval.group.as_str())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// How many different people approved for a group.
fn count(approvals: &[Approval], group: &Name) -> usize {
    let people: BTreeSet<&Name> =
        approvals.iter().filter(|approval| approval.group == *group).map(|approval| &approval.by).collect();
    people.len()
}

fn stricter(so_far: Option<Requirement>, review: &Review) -> Requirement {
    let mut requirement = so_far.unwrap_or(Requirement {
        groups: Vec::new(),
        approvals: 1,
        note_required: false,
        hold_for: None,
    });
    if let Err(place) = requirement.groups.binary_search(&review.group) {
        requirement.groups.insert(place, review.group.clone());
    }
    requirement.approvals = requirement.approvals.max(review.approvals);
    requirement.note_required |= review.note_required;
    requirement.hold_for = match (requirement.hold_for, review.hold_for) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    requirement
}

fn approvers(requirement: &Requirement) -> String {
    let groups: Vec<String> = requirement.groups.iter().map(|group| format!("`{group}`")).collect();
    let people = match requirement.approvals {
        1 => "1 person".to_owned(),
        many => format!("{many} people"),
    };
    match groups.as_slice() {
        [one] => format!("{people} of group {one}"),
        several => format!("{people} of each of the groups {}", several.join(", ")),
    }
}

fn policies(ids: &[PolicyId], one: &str, several: &str) -> String {
    let mut names: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    names.sort_unstable();
    match names.as_slice() {
        [name] => format!("policy {name} {one}"),
        names => format!("policies {} {several}", names.join(", ")),
    }
}
