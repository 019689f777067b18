//! Verifying the trail: everything that the files claim is computed again, from the files alone.
//!
//! 1. The ledger: entries against tiles, tiles against the signed root, each checkpoint against the next.
//! 2. Every leaf: canonical, and its index record and key slot say the same of it.
//! 3. Every payload: its CRC; if its key is at hand, it opens for this entry under its session's key and every commitment
//!    of the leaf is that of its fields. If its key was destroyed, an `erasure` entry must say so.
//! 4. Every session: it begins with `session.start`, has each number once and none left out, and `session.end` counts
//!    right. Of a session that is not over, only commands under way may be missing.
//! 5. Everything captured: its parts are all there, in order, and as long as the command's entry says.
//! 6. The journal: its frames are whole; how many are not sealed yet.
//! 7. The trail log, if this node keeps one or has a receipt of one: each of its leaves follows from those before, and what it
//!    says of this node is what the ledger is.
//! 8. With a witness policy: the latest entries are covered by a checkpoint, of the node or of the trail log, that is cosigned
//!    as the policy asks.

mod captures;
mod journal;
mod keeping;
mod payloads;
mod session;
mod slots;
mod witnessed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ledger::{LedgerReader, Snapshot, VerifierKey, VerifyError, WitnessPolicy};
use vocabulary::SessionId;

use crate::{
    TrailError,
    layout::Layout,
    sealer::state::{self, State},
    vault::{KeyWrap, VaultError, VaultReader},
};
use keeping::Keeping;
use payloads::Worker;
use session::Seen;

/// Leaves that one thread takes at a time: 16 bundles.
const UNIT: u64 = 4096;
/// Findings collected before no more are.
const MAX_FINDINGS: usize = 100;

/// What to verify with.
#[derive(Clone, Default)]
pub struct VerifyOptions {
    /// The log's key. `None`: the one that the policy names for this log, else `DATA/ledger/log.vkey`, which proves only that
    /// the files agree with each other.
    pub vkey: Option<VerifierKey>,
    /// Opens payloads. `None`: payloads are checked as far as that goes without (their CRC).
    pub keys: Option<Arc<dyn KeyWrap>>,
    /// Who must have cosigned. `None`: nobody.
    pub policy: Option<WitnessPolicy>,
}

/// How much older than the newest entry one may be that no cosigned checkpoint covers, in microseconds: 5 minutes. Witnesses may
/// have been away for a while, and nothing waits for them.
pub const WITNESS_LAG_US: u64 = 300_000_000;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file, relative to the data directory, if it is about one.
    pub file: Option<PathBuf>,
    /// The leaf's index, if it is about one.
    pub index: Option<u64>,
    /// The entry or the session, if it is about one.
    pub entry: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(f, "{entry}: ")?;
        }
        f.write_str(&self.problem)?;
        match (&self.file, self.index) {
            (Some(file), Some(index)) => write!(f, " ({}, leaf {index})", file.display()),
            (Some(file), None) => write!(f, " ({})", file.display()),
            (None, Some(index)) => write!(f, " (leaf {index})"),
            (None, None) => Ok(()),
        }
    }
}

/// What was verified, and what is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// The log's origin.
    pub origin: String,
    /// Entries that the checkpoint covers.
    pub entries: u64,
    /// Checkpoints published so far, each of them verified.
    pub checkpoints: u64,
    /// Sessions.
    pub sessions: u64,
    /// Sessions that are not over.
    pub open_sessions: u64,
    /// Payloads that open and match every commitment.
    pub verified: u64,
    /// Payloads whose key was destroyed, as an entry says.
    pub erased: u64,
    /// Payloads that can't be opened though they should.
    pub missing: u64,
    /// Payloads not opened, as no key was given.
    pub sealed: u64,
    /// Entries without payload.
    pub bare: u64,
    /// Frames of the journal that no checkpoint covers yet.
    pub unsealed: u64,
    /// Entries under a checkpoint that is cosigned as the policy asks; `None` without a policy.
    pub witnessed: Option<u64>,
    /// The trail log, if there is one here.
    pub trail_log: Option<TrailLogReport>,
    /// What is wrong, the first hundred; empty if all is well.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub problems: u64,
}

/// What was found in the trail log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrailLogReport {
    /// Its origin.
    pub origin: String,
    /// Its entries.
    pub entries: u64,
    /// Nodes that have joined, those that left included.
    pub nodes: u64,
    /// Nodes that have not left, and of which nothing has come for three heartbeats or more.
    pub silent: Vec<String>,
}

impl VerifyReport {
    /// Whether everything holds.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problems == 0
    }
}

impl fmt::Display for VerifyReport {
    /// One sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, checkpoints, sessions, open_sessions, verified, erased, sealed, .. } = self;
        if let Some(first) = self.findings.first() {
            write!(f, "the trail does not verify: {first}")?;
            return match self.problems {
                0 | 1 => Ok(()),
                problems => write!(f, ", and {} more", problems - 1),
            };
        }
        write!(
            f,
            "{entries} entries of {sessions} sessions ({open_sessions} open) verify under {checkpoints} checkpoints of {}",
            self.origin
        )?;
        write!(f, "; payloads: {verified} verified, {erased} erased")?;
        if *sealed > 0 {
            write!(f, ", {sealed} not opened for want of the node key")?;
        }
        if let Some(witnessed) = self.witnessed {
            write!(f, "; {witnessed} entries are cosigned as the policy asks")?;
        }
        if let Some(TrailLogReport { origin, entries, nodes, silent }) = &self.trail_log {
            write!(f, "; trail log {origin}: {entries} entries of {nodes} nodes")?;
            if !silent.is_empty() {
                write!(f, ", silent without having left: {}", silent.join(", "))?;
            }
        }
        if self.unsealed > 0 {
            write!(f, "; {} frames of the journal are not yet sealed", self.unsealed)?;
        }
        Ok(())
    }
}

/// Verifies the trail in `data_dir`, on all processors, also while a gateway writes it: what is verified is the latest
/// checkpoint at the start. `progress(done, total)` is called from several threads.
///
/// # Errors
/// [`TrailError`] if there is nothing to verify or the system can't read it. What is wrong with the trail is not an error
/// but in the report.
pub fn verify(
    data_dir: &Path,
    options: &VerifyOptions,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<VerifyReport, TrailError> {
    let layout = Layout::new(data_dir);
    let vkey = match &options.vkey {
        Some(vkey) => vkey.clone(),
        None => {
            let beside = layout.read_vkey()?;
            let named = options.policy.as_ref().and_then(|policy| policy.log_key(beside.name()));
            named.unwrap_or(&beside).clone()
        }
    };
    let run =
        Run { layout: &layout, vkey: vkey.clone(), findings: Mutex::default(), problems: AtomicU64::new(0) };
    let mut report = VerifyReport { origin: vkey.name().to_owned(), ..VerifyReport::default() };
    // The ledger's own work is about as much as ours.
    let ledger_progress = |done: u64, total: u64| progress(done, total.saturating_mul(2));
    match ledger::verify_all(&layout.ledger(), &vkey, ledger_progress) {
        Ok(ledger) => report.checkpoints = ledger.checkpoints,
        Err(VerifyError::Faults { faults }) => {
            for fault in faults {
                let file = Some(Path::new("ledger").join(&fault.file));
                let index = fault.entries.as_ref().map(|entries| entries.start);
                run.find(Finding { file, index, entry: None, problem: fault.problem });
            }
        }
        Err(VerifyError::Unreadable(error)) => return Err(error.into()),
    }
    match open_consistently(&layout, &vkey) {
        Ok((snapshot, state)) => {
            verify_entries(&run, &snapshot, state.as_ref(), options, &mut report, &progress)?;
            let trust = (options.policy.as_ref(), options.vkey.is_some());
            witnessed::verify(&run, &snapshot, trust, &mut report)?;
        }
        // The checkpoint itself is bad, which the ledger has reported.
        Err(error) if run.problems.load(Ordering::Relaxed) == 0 => return Err(error),
        Err(_) => {}
    }
    report.problems = run.problems.into_inner();
    report.findings = run.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What is about a whole file comes first: it is why entries are not found.
    report.findings.sort_by_key(|finding| finding.index);
    Ok(report)
}

/// A checkpoint and the sealer's state for it. The state is gone once two later checkpoints were published.
fn open_consistently(layout: &Layout, vkey: &VerifierKey) -> Result<(Snapshot, Option<State>), TrailError> {
    const TRIES: usize = 20;
    let reader = LedgerReader::new(&layout.ledger(), vkey.clone());
    for _ in 1..TRIES {
        let snapshot = reader.snapshot()?;
        if let Some((_, state)) = state::load(&layout.vault(), snapshot.size())? {
            return Ok((snapshot, Some(state)));
        }
    }
    Ok((reader.snapshot()?, None))
}

fn verify_entries(
    run: &Run<'_>,
    snapshot: &Snapshot,
    state: Option<&State>,
    options: &VerifyOptions,
    report: &mut VerifyReport,
    progress: &(impl Fn(u64, u64) + Sync),
) -> Result<(), TrailError> {
    report.entries = snapshot.size();
    if state.is_none() && snapshot.size() > 0 {
        let problem = "no valid state of the sealer belongs to the published checkpoint".to_owned();
        let torn = state::torn(&run.layout.vault());
        let file = torn.first().map_or_else(|| Some("vault".into()), |torn| run.relative(torn));
        run.find(Finding { file, index: None, entry: None, problem });
    }
    let has_vault = has_vault(run, snapshot.size());
    let slots = slots::read(run, state)?;
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let total = snapshot.size();
    let work = || -> Result<payloads::Found, TrailError> {
        let vault = has_vault.then(|| VaultReader::open(&run.layout.vault())).transpose()?;
        let mut worker = Worker::new(run, snapshot, vault, &slots, options.keys.as_deref());
        loop {
            let first = next.fetch_add(UNIT, Ordering::Relaxed);
            if first >= total {
                return Ok(worker.finish());
            }
            let end = (first + UNIT).min(total);
            worker.verify(first, end);
            let done = done.fetch_add(end - first, Ordering::Relaxed) + (end - first);
            progress(total + done, total.saturating_mul(2));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        for other in others {
            found
                .push(other.join().unwrap_or(Err(TrailError::Crypto("finish a thread of the verification"))));
        }
        found
    });
    let mut sessions: BTreeMap<SessionId, Seen> = BTreeMap::new();
    let mut kept = Keeping::default();
    let mut begun = slots::Begun::new();
    for found in found {
        let found = found?;
        report.verified += found.verified;
        report.erased += found.erased;
        report.missing += found.missing;
        report.sealed += found.sealed;
        report.bare += found.bare;
        kept.merge(found.keeping);
        begun.extend(found.begun);
        for (id, seen) in found.sessions {
            sessions.entry(id).or_default().merge(seen);
        }
    }
    slots::verify(run, &slots, &begun);
    kept.verify(run, snapshot, &slots, state);
    verify_sessions(run, &sessions, state, report);
    report.unsealed = journal::verify(run, state)?;
    Ok(())
}

/// Whether index and keys are there; names what is missing. Without one of them no payload can be told from another.
fn has_vault(run: &Run<'_>, entries: u64) -> bool {
    let missing = VaultReader::FILES.map(|name| (name, !run.layout.vault().join(name).exists()));
    for (name, _) in missing.iter().filter(|(_, is_missing)| *is_missing && entries > 0) {
        run.find_in(&format!("vault/{name}"), "it is missing".to_owned());
    }
    missing.iter().all(|(_, is_missing)| !is_missing)
}

fn verify_sessions(
    run: &Run<'_>,
    sessions: &BTreeMap<SessionId, Seen>,
    state: Option<&State>,
    report: &mut VerifyReport,
) {
    let mut under_way: BTreeMap<SessionId, BTreeSet<u64>> = BTreeMap::new();
    for open in state.iter().flat_map(|state| &state.sessions) {
        under_way.insert(open.session, open.pending.iter().map(|intent| intent.seq).collect());
    }
    let none = BTreeSet::new();
    for (id, seen) in sessions {
        report.sessions += 1;
        let pending = under_way.get(id);
        report.open_sessions += u64::from(!seen.is_over());
        for problem in seen.problems(pending.unwrap_or(&none)) {
            run.find_session(*id, problem);
        }
        if !seen.is_over() && pending.is_none() && state.is_some() {
            run.find_session(
                *id,
                "it has no session.end, and the sealer does not know it as open".to_owned(),
            );
        }
    }
}

/// One verification, shared by its threads.
struct Run<'a> {
    layout: &'a Layout,
    /// The log's key.
    vkey: VerifierKey,
    findings: Mutex<Vec<Finding>>,
    problems: AtomicU64,
}

impl Run<'_> {
    fn find(&self, finding: Finding) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < MAX_FINDINGS {
            findings.push(finding);
        }
    }

    fn find_in(&self, file: &str, problem: String) {
        self.find(Finding { file: Some(file.into()), index: None, entry: None, problem });
    }

    fn find_session(&self, session: SessionId, problem: String) {
        self.find(Finding { file: None, index: None, entry: Some(format!("session {session}")), problem });
    }

    /// A finding about the files of the vault.
    fn find_in_vault(&self, index: u64, entry: Option<String>, error: &VaultError) {
        let file = match error {
            VaultError::Damaged { path, .. } | VaultError::File { path, .. } => self.relative(path),
            _ => Some("vault".into()),
        };
        self.find(Finding { file, index: Some(index), entry, problem: error.to_string() });
    }

    fn relative(&self, path: &Path) -> Option<PathBuf> {
        Some(path.strip_prefix(self.layout.data()).unwrap_or(path).to_owned())
    }
}
