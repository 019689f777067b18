//! What stands outside the node's own log: cosignatures, and the trail log.

use std::path::Path;

use ledger::{Checkpoint, LedgerReader, Snapshot, TlogProof, VerifierKey, VerifyError, WitnessPolicy};

use super::{Finding, Run, TrailLogReport, VerifyReport, WITNESS_LAG_US};
use crate::{Head, Link, Roster, TrailError, TrailLeaf, leaf::Leaf, reader::trail_receipt};

/// Heartbeats of the trail log without a leaf of a node after which the node counts as silent.
const SILENT_AFTER: u64 = 3;

pub(super) fn verify(
    run: &Run<'_>,
    snapshot: &Snapshot,
    (policy, key_is_given): (Option<&WitnessPolicy>, bool),
    report: &mut VerifyReport,
) -> Result<(), TrailError> {
    let node = Node { run, snapshot };
    let mut covered = 0;
    // Of logs that it does not name, a policy says nothing: what is cosigned there may be anybody's.
    let names = |origin: &str| {
        policy.is_none_or(|policy| policy.logs().is_empty() || policy.log_key(origin).is_some())
    };
    let is_own_named = key_is_given || names(run.vkey.name());
    let mut is_trail_named = false;
    let reader = LedgerReader::new(&run.layout.ledger(), run.vkey.clone());
    match reader.witnessed() {
        Ok(Some(checkpoint)) => {
            node.check(head(&checkpoint), "ledger/checkpoint.witnessed");
            if is_own_named && policy.is_some_and(|policy| policy.is_met_by(checkpoint.note())) {
                covered = checkpoint.size();
            }
        }
        Ok(None) => {}
        Err(error) => run.find_in("ledger/checkpoint.witnessed", error.to_string()),
    }
    let has = |name: &str| run.layout.trail_log().join(name).exists();
    if !has("checkpoint") && (has("checkpoints") || has("tile")) {
        run.find_in("trail-log/checkpoint", "it is missing".to_owned());
    } else if has("checkpoint") {
        let (found, by_trail) = trail_log(&node, policy)?;
        if names(&found.origin) {
            is_trail_named = true;
            covered = covered.max(by_trail);
        }
        report.trail_log = Some(found);
    }
    match trail_receipt(run.layout) {
        Ok(Some(receipt)) => {
            let by_trail = node.receipt(&receipt, policy);
            if VerifierKey::parse(&receipt.vkey).is_ok_and(|key| names(key.name())) {
                is_trail_named = true;
                covered = covered.max(by_trail);
            }
        }
        Ok(None) => {}
        Err(error) => run.find_in("ledger/trail-log.receipt", error.to_string()),
    }
    if !is_own_named && !is_trail_named {
        let problem = format!(
            "it is the key of {}, and the witness policy names neither this log nor a trail log that it is in",
            run.vkey.name()
        );
        run.find_in("ledger/log.vkey", problem);
    }
    if policy.is_some_and(WitnessPolicy::asks_for_cosignatures) {
        report.witnessed = Some(covered);
        node.lag(covered)?;
    }
    Ok(())
}

fn head(checkpoint: &Checkpoint) -> Head {
    Head { size: checkpoint.size(), root: *checkpoint.root() }
}

/// The node's own log.
struct Node<'a> {
    run: &'a Run<'a>,
    snapshot: &'a Snapshot,
}

impl Node<'_> {
    /// Others say that this log had this root with so many entries.
    fn check(&self, said: Head, file: &str) {
        let Head { size, root } = said;
        let mut snapshot = self.snapshot.clone();
        if size > snapshot.size()
            && let Ok(newer) = LedgerReader::new(&self.run.layout.ledger(), self.run.vkey.clone()).snapshot()
        {
            // A gateway at work has published more since the verification began.
            snapshot = newer;
        }
        if size > snapshot.size() {
            let here = snapshot.size();
            let problem =
                format!("it is about {size} entries of this log, which has {here}: the log was set back");
            return self.run.find_in(file, problem);
        }
        match snapshot.root_at(size) {
            Ok(found) if found == root => {}
            Ok(_) => self.run.find_in(
                file,
                format!("its {size} entries of this log were others: the log was forked or replaced"),
            ),
            // The ledger's own verification has named the tile.
            Err(_) => {}
        }
    }

    /// A trail log elsewhere has confirmed a checkpoint of this node. Returns how many entries that puts under a checkpoint
    /// which meets the policy.
    fn receipt(&self, receipt: &Link, policy: Option<&WitnessPolicy>) -> u64 {
        const FILE: &str = "ledger/trail-log.receipt";
        let checked = || -> Result<(Checkpoint, Checkpoint), String> {
            let TrailLeaf::Checkpoint(own) =
                TrailLeaf::parse(receipt.leaf.as_bytes()).map_err(|error| error.to_string())?
            else {
                return Err("its leaf is no checkpoint".to_owned());
            };
            own.note().verify(&self.run.vkey).map_err(|error| error.to_string())?;
            let proof = TlogProof::parse(&receipt.proof).map_err(|error| error.to_string())?;
            let hint = VerifierKey::parse(&receipt.vkey).map_err(|error| error.to_string())?;
            let key = policy.and_then(|policy| policy.log_key(hint.name())).unwrap_or(&hint);
            proof.verify(receipt.leaf.as_bytes(), key).map_err(|error| error.to_string())?;
            Ok((own, proof.checkpoint))
        };
        match checked() {
            Ok((own, trail)) => {
                self.check(head(&own), FILE);
                let met = policy.is_some_and(|policy| policy.is_met_by(trail.note()));
                if met { own.size() } else { 0 }
            }
            Err(problem) => {
                self.run.find_in(FILE, problem);
                0
            }
        }
    }

    /// The first entry that no cosigned checkpoint covers must not be much older than the newest.
    fn lag(&self, covered: u64) -> Result<(), TrailError> {
        let size = self.snapshot.size();
        if covered >= size {
            return Ok(());
        }
        let ended_at = |index: u64| -> Result<Option<u64>, TrailError> {
            // A leaf that can't be read has been named before.
            Ok(Leaf::decode(&self.snapshot.entry(index)?).ok().map(|leaf| leaf.ended_at().0))
        };
        let (Some(first), Some(last)) = (ended_at(covered)?, ended_at(size - 1)?) else { return Ok(()) };
        if covered == 0 || last.saturating_sub(first) > WITNESS_LAG_US {
            let problem = format!(
                "entries {covered} to {} are under no checkpoint that is cosigned as the policy asks",
                size - 1
            );
            self.run.find(Finding {
                file: Some("ledger/checkpoint.witnessed".into()),
                index: Some(covered),
                entry: None,
                problem,
            });
        }
        Ok(())
    }
}

/// Walks the trail log from its first leaf. Returns also how many entries of this node it puts under a checkpoint which meets
/// the policy.
fn trail_log(node: &Node<'_>, policy: Option<&WitnessPolicy>) -> Result<(TrailLogReport, u64), TrailError> {
    let run = node.run;
    let reader = crate::trail_log_reader(run.layout.data())?;
    let key = policy.and_then(|policy| policy.log_key(reader.verifier().name()));
    let reader = key.map_or(reader.clone(), |key| LedgerReader::new(reader.dir(), key.clone()));
    let mut report =
        TrailLogReport { origin: reader.verifier().name().to_owned(), ..TrailLogReport::default() };
    if let Err(error) = ledger::verify_all(reader.dir(), reader.verifier(), |_, _| {}) {
        match error {
            VerifyError::Faults { faults } => {
                for fault in faults {
                    let file = Some(Path::new("trail-log").join(&fault.file));
                    let index = fault.entries.as_ref().map(|entries| entries.start);
                    run.find(Finding { file, index, entry: None, problem: fault.problem });
                }
            }
            VerifyError::Unreadable(error) => return Err(error.into()),
        }
        return Ok((report, 0));
    }
    // In this order: what is cosigned is then covered by the latest.
    let witnessed = reader.witnessed().unwrap_or_else(|error| {
        run.find_in("trail-log/checkpoint.witnessed", error.to_string());
        None
    });
    let snapshot = reader.snapshot()?;
    if let Some(witnessed) = &witnessed {
        let fits = witnessed.size() <= snapshot.size()
            && snapshot.root_at(witnessed.size()).is_ok_and(|root| root == *witnessed.root());
        if !fits {
            run.find_in(
                "trail-log/checkpoint.witnessed",
                "it is about another history of the trail log".to_owned(),
            );
        }
    }
    let met = witnessed.filter(|witnessed| policy.is_some_and(|policy| policy.is_met_by(witnessed.note())));
    let cosigned = met.map_or(0, |witnessed| witnessed.size());
    report.entries = snapshot.size();
    let own = run.vkey.name();
    let (mut roster, mut covered) = (Roster::default(), 0);
    // Heartbeats so far, and by node how many there were when its last leaf came.
    let (mut beats, mut heard) = (0u64, std::collections::BTreeMap::<String, u64>::new());
    for entry in snapshot.entries(0..snapshot.size()) {
        let (index, bytes) = entry?;
        let applied =
            TrailLeaf::parse(&bytes).and_then(|leaf| roster.apply(&leaf, reader.verifier()).map(|()| leaf));
        let leaf = match applied {
            Ok(leaf) => leaf,
            Err(error) => {
                let file = Some("trail-log".into());
                run.find(Finding { file, index: Some(index), entry: None, problem: error.to_string() });
                continue;
            }
        };
        match leaf.origin() {
            None => beats += 1,
            Some(origin) => {
                heard.insert(origin.to_owned(), beats);
            }
        }
        if let Some(standing) = roster.node(own).filter(|_| leaf.origin() == Some(own)) {
            if matches!(leaf, TrailLeaf::Checkpoint(_) | TrailLeaf::Leave { .. }) {
                node.check(standing.head, "trail-log");
            }
            if index < cosigned {
                covered = standing.head.size;
            }
        }
    }
    report.nodes = roster.nodes().count() as u64;
    let is_silent =
        |origin: &str| heard.get(origin).is_some_and(|heard| beats.saturating_sub(*heard) >= SILENT_AFTER);
    let here = roster.nodes().filter(|node| node.here).map(|node| node.key.name());
    report.silent = here.filter(|origin| is_silent(origin)).map(str::to_owned).collect();
    if roster.node(own).is_none() && report.nodes > 0 {
        run.find_in("trail-log", format!("this node, {own}, is not in it"));
    }
    Ok((report, covered))
}
