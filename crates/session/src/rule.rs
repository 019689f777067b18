//! What policy says of a session's commands: looked up where it has been said before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use policy::{Approval, Decider, Effect, Ruling, Scene};
use vocabulary::{Facts, Verdict, Where, Who};

use crate::gatehouse::Gatehouse;
use crate::live::Live;
use crate::snapshot::Target;
use crate::stage::Stage;

/// A ruling, with its decision as the trail keeps it.
#[derive(Debug)]
pub(crate) struct Ruled {
    /// What policy said.
    pub ruling: Ruling,
    /// Its decision, encoded once.
    pub encoded: Vec<u8>,
    /// It permits, and nothing comes with that.
    pub free: bool,
}

impl From<Ruling> for Ruled {
    fn from(ruling: Ruling) -> Self {
        let encoded = trail::record::encode_decision(&ruling.decision);
        let free = ruling.is_permit() && ruling.obligations.is_empty() && ruling.budget.is_empty();
        Self { ruling, encoded, free }
    }
}

impl Ruled {
    /// The decision of a command that policy permits and something else forbids, encoded.
    pub fn forbidden(&self) -> Vec<u8> {
        let mut decision = self.ruling.decision.clone();
        decision.effect = Verdict::Forbid;
        trail::record::encode_decision(&decision)
    }

    /// Whether it asks people.
    pub const fn asks(&self) -> bool {
        matches!(self.ruling.effect, Effect::Review(_))
    }
}

/// What one session's rulings are made of.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The control state that the rest is of.
    generation: u64,
    stage: Stage,
    target: Arc<Target>,
    who: Arc<Who>,
    place: Where,
    client_addr: String,
    decider: Decider<Ruled>,
}

impl Rules {
    pub fn new(house: &Gatehouse, live: &Live, place: Where, client_addr: String) -> Self {
        let generation = house.generation.load(Ordering::Acquire);
        let snapshot = house.snapshot();
        Self {
            generation,
            stage: Stage::new(&snapshot, &live.who, &live.target, place.database.as_deref()),
            target: Arc::clone(&live.target),
            who: Arc::clone(&live.who),
            place,
            client_addr,
            decider: Decider::new(Arc::clone(&snapshot.policy)),
        }
    }

    /// Who the session's principal is.
    pub const fn who(&self) -> &Arc<Who> {
        &self.who
    }

    /// Where the session's commands run.
    pub const fn place(&self) -> &Where {
        &self.place
    }

    /// The target as it is configured now.
    pub const fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// What policy says of a command.
    pub fn rule(
        &mut self,
        house: &Gatehouse,
        facts: &Arc<Facts>,
        in_transaction: bool,
        approvals: &[Approval],
    ) -> Arc<Ruled> {
        let generation = house.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.refresh(house, generation);
        }
        if approvals.is_empty()
            && let Some(ruled) = self.decider.at_once(facts)
        {
            return ruled;
        }
        let scene = self.stage.scene(&self.who, &self.target, &self.client_addr);
        self.decider.decide(&Scene { in_transaction, approvals, ..scene }, facts)
    }

    fn refresh(&mut self, house: &Gatehouse, generation: u64) {
        let snapshot = house.snapshot();
        self.generation = generation;
        if let Some(target) = snapshot.targets.get(&self.target.name) {
            self.target = Arc::clone(target);
        }
        self.stage = Stage::new(&snapshot, &self.who, &self.target, self.place.database.as_deref());
        self.decider.forget(Arc::clone(&snapshot.policy));
    }
}
