//! A compiled policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use vocabulary::{Decision, Facts, Name, PolicyHash, Verdict};

use crate::compile::{self, Compiled};
use crate::decide;
use crate::error::{PolicyError, Problem};
use crate::ruling::{Budget, Effect, Obligations, Ruling, Words};
use crate::scene::Scene;
use crate::shipped;
use crate::widen::LooksAt;

/// A policy, ready to decide. Immutable; shared by all sessions.
#[derive(Debug)]
pub struct Policy {
    source: Arc<str>,
    hash: PolicyHash,
    brain: Brain,
}

#[derive(Debug)]
enum Brain {
    /// The same for every command, whatever it is and whoever runs it.
    Constant(Arc<Ruling>),
    Cedar(Box<Compiled>),
}

impl Policy {
    /// Compiles a policy.
    ///
    /// # Errors
    /// [`PolicyError`] with everything that is wrong.
    pub fn parse(source: &str) -> Result<Self, PolicyError> {
        let compiled = compile::compile(source)?;
        let hash = hash(source);
        let brain = match constant(&compiled, hash) {
            Some(ruling) => Brain::Constant(Arc::new(ruling)),
            None => Brain::Cedar(Box::new(compiled)),
        };
        Ok(Self { source: source.into(), hash, brain })
    }

    /// Everything flows, everything is recorded.
    #[must_use]
    pub fn observe() -> Self {
        let source = shipped::source(shipped::OBSERVE).unwrap_or_default();
        let hash = hash(source);
        // Not compiled, so that nothing that could fail stands between a gateway and its start; a test holds it to what
        // the text compiles to.
        let decision = Decision {
            effect: Verdict::Permit,
            policies: vec![shipped::OBSERVE.to_owned()],
            policy_hash: hash,
        };
        let ruling = permit(decision, Obligations::default(), Budget::default());
        Self { source: source.into(), hash, brain: Brain::Constant(Arc::new(ruling)) }
    }

    /// Nobody enters and nothing runs: for when no policy can be read.
    #[must_use]
    pub fn locked() -> Self {
        let source = shipped::source(shipped::LOCKED).unwrap_or_default();
        let hash = hash(source);
        let ruling = Ruling {
            effect: Effect::Forbid,
            decision: Decision {
                effect: Verdict::Forbid,
                policies: vec![shipped::LOCKED.to_owned()],
                policy_hash: hash,
            },
            words: Words {
                reason: "policy `locked` forbids everything".to_owned(),
                approvers: String::new(),
                advice: "the gateway is locked: ask whoever runs it when it opens again".to_owned(),
            },
            obligations: Obligations::default(),
            budget: Budget::default(),
            stable: true,
        };
        Self { source: source.into(), hash, brain: Brain::Constant(Arc::new(ruling)) }
    }

    /// The text of a policy that comes with the gateway.
    #[must_use]
    pub fn shipped(name: &str) -> Option<&'static str> {
        shipped::source(name)
    }

    /// The text that it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the text.
    #[must_use]
    pub const fn hash(&self) -> PolicyHash {
        self.hash
    }

    /// What is not wrong, but most likely not meant: policies that can never match, look-alike letters.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        match &self.brain {
            Brain::Constant(_) => &[],
            Brain::Cedar(compiled) => &compiled.warnings,
        }
    }

    /// What every command gets, if that is so: the policy permits everything unconditionally, say.
    #[must_use]
    pub const fn constant(&self) -> Option<&Arc<Ruling>> {
        match &self.brain {
            Brain::Constant(ruling) => Some(ruling),
            Brain::Cedar(_) => None,
        }
    }

    /// What it says of a command. Takes tens of microseconds; [`crate::Decider`] remembers it.
    #[must_use]
    pub fn decide(&self, scene: &Scene<'_>, facts: &Facts) -> Ruling {
        match &self.brain {
            Brain::Constant(ruling) => Ruling::clone(ruling),
            Brain::Cedar(compiled) => decide::command(compiled, self.hash, scene, facts),
        }
    }

    /// What it says of somebody who wants to enter a target. Permit or forbid: who waits at the door can't wait for a
    /// review.
    #[must_use]
    pub fn connect(&self, scene: &Scene<'_>) -> Ruling {
        match &self.brain {
            Brain::Constant(ruling) => Ruling::clone(ruling),
            Brain::Cedar(compiled) => decide::connect(compiled, self.hash, scene),
        }
    }

    /// Groups that its reviews ask, and how many people of each at most.
    #[must_use]
    pub fn reviewers(&self) -> &BTreeMap<Name, u8> {
        static NOBODY: BTreeMap<Name, u8> = BTreeMap::new();
        match &self.brain {
            Brain::Constant(_) => &NOBODY,
            Brain::Cedar(compiled) => &compiled.thresholds,
        }
    }

    pub(crate) fn looks_at(&self) -> LooksAt {
        match &self.brain {
            Brain::Constant(_) => LooksAt::default(),
            Brain::Cedar(compiled) => compiled.looks_at,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::observe()
    }
}

/// The one ruling of a policy that permits everything.
fn constant(compiled: &Compiled, policy_hash: PolicyHash) -> Option<Ruling> {
    if !compiled.permits_all {
        return None;
    }
    let (mut obligations, mut budget) = (Obligations::default(), Budget::default());
    for notes in compiled.notes.values() {
        obligations = obligations.and(&notes.obligations);
        budget = budget.and(&notes.budget);
    }
    let mut policies: Vec<String> = compiled.notes.keys().map(ToString::to_string).collect();
    policies.sort_unstable();
    Some(permit(Decision { effect: Verdict::Permit, policies, policy_hash }, obligations, budget))
}

fn permit(decision: Decision, obligations: Obligations, budget: Budget) -> Ruling {
    Ruling { effect: Effect::Permit, decision, words: Words::default(), obligations, budget, stable: true }
}

fn hash(source: &str) -> PolicyHash {
    let mut hash = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, source.as_bytes());
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    PolicyHash(hash)
}
