//! The proof of one entry: a C2SP tlog-proof that any verifier of that format accepts, and in its `extra` line what makes
//! it readable: the leaf itself, what the leaf commits to, and that the node's checkpoint stands in a trail log.
//!
//! Nothing authenticates `extra` by itself, and nothing needs to: the leaf must hash to the proven leaf hash, the openings
//! must fit the leaf's commitments, and the trail log's proof is one of its own.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ledger::{Checkpoint, LedgerReader, Snapshot, TlogProof, VerifierKey, WitnessPolicy};
use serde::{Deserialize, Serialize};
use vocabulary::{EntryId, Kind, Timestamp};

use crate::{
    TrailError, TrailLeaf,
    commitment::Committer,
    leaf::Leaf,
    vault::{Field, Fields},
};

/// What stands in `extra`, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Extra {
    /// The version of this format: 1.
    trailgate_proof: u8,
    /// The log's vkey. Take it from elsewhere to be sure whose log it is.
    vkey: String,
    /// The leaf, in standard Base64.
    leaf: String,
    /// What the leaf commits to, in the order of its commitments; empty if that is kept back, or was erased.
    #[serde(default)]
    openings: Vec<Opening>,
    /// The node's checkpoint in a trail log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trail: Option<Link>,
}

/// A payload field with the random key of its commitment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opening {
    /// Code of the field.
    field: u8,
    /// 32 bytes in Base64.
    r: String,
    /// The field's bytes in Base64.
    bytes: String,
}

/// A node's checkpoint in a trail log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The trail log's vkey. Take it from elsewhere to be sure.
    pub vkey: String,
    /// The leaf: the node's checkpoint as a note.
    pub leaf: String,
    /// Its tlog-proof in the trail log.
    pub proof: String,
}

/// A payload field that was proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProvenField {
    /// What it is: `text`, `params`, …
    pub name: &'static str,
    /// Its code.
    pub code: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a proof proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The log's origin.
    pub log: String,
    /// Index of the leaf.
    pub index: u64,
    /// Entries that the checkpoint covers.
    pub size: u64,
    /// The entry.
    pub entry: EntryId,
    /// What it tells of.
    pub kind: Kind,
    /// When that began, as the gateway says.
    pub at: Timestamp,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Payload fields that fit the leaf's commitments.
    pub fields: Vec<ProvenField>,
    /// Commitments in the leaf.
    pub commitments: usize,
    /// Witnesses of the policy that cosigned the node's checkpoint, with the time of each (seconds since 1970).
    pub cosigners: Vec<(String, u64)>,
    /// The trail log that has the node's checkpoint, with its cosigners.
    pub trail: Option<(String, Vec<(String, u64)>)>,
}

/// Which keys a proof must stand under.
#[derive(Clone, Debug, Default)]
pub struct ProofTrust {
    /// The log's key. `None`: one that the policy names, or the one in the proof, which proves only that the proof agrees
    /// with itself.
    pub vkey: Option<VerifierKey>,
    /// Who must have cosigned: the node's checkpoint, or that of the trail log which has it.
    pub policy: Option<WitnessPolicy>,
}

/// Makes the proof of a leaf.
pub(crate) fn make(
    snapshot: &Snapshot,
    vkey: &VerifierKey,
    index: u64,
    leaf: &[u8],
    fields: &Fields,
    trail: Option<Link>,
) -> Result<TlogProof, TrailError> {
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let opening =
        |(field, r, bytes): (u8, &[u8; 32], &[u8])| Opening { field, r: encode(r), bytes: encode(bytes) };
    let extra = Extra {
        trailgate_proof: 1,
        vkey: vkey.to_string(),
        leaf: encode(leaf),
        openings: fields.iter().map(opening).collect(),
        trail,
    };
    let mut proof = snapshot.prove(index)?;
    let extra = serde_json::to_vec(&extra).map_err(|error| TrailError::Proof(error.to_string()))?;
    proof.extra = Some(extra);
    Ok(proof)
}

/// The newest of a node's checkpoints in a trail log that stands for at least the same entries as `checkpoint`, proven in the
/// trail log's latest cosigned checkpoint, or its latest.
pub(crate) fn link(trail_log: &LedgerReader, checkpoint: &Checkpoint) -> Result<Option<Link>, TrailError> {
    /// Leaves looked at, from the newest: minutes of a busy trail log.
    const LOOK_BACK: u64 = 4096;
    let snapshot = match trail_log.witnessed()? {
        Some(witnessed) if witnessed.size() > 0 => trail_log.snapshot_at(witnessed),
        _ => trail_log.snapshot()?,
    };
    let text = signed_alone(checkpoint);
    let first = snapshot.size().saturating_sub(LOOK_BACK);
    for entry in snapshot.entries(first..snapshot.size()).rev() {
        let (index, bytes) = entry?;
        if bytes == text.as_bytes() {
            let proof = snapshot.prove(index)?.to_string();
            return Ok(Some(Link { vkey: trail_log.verifier().to_string(), leaf: text, proof }));
        }
    }
    Ok(None)
}

/// A checkpoint with the log's own signature alone, as it stands in a trail log.
#[must_use]
pub fn signed_alone(checkpoint: &Checkpoint) -> String {
    let own = checkpoint.note().signatures().iter().find(|line| line.name == checkpoint.origin());
    let line = own.map(|line| format!("{line}\n")).unwrap_or_default();
    format!("{}\n{line}", checkpoint.note().text())
}

/// Checks the proof of an entry, from the file alone.
///
/// # Errors
/// [`TrailError::Proof`] says what does not hold.
pub fn verify_proof(text: &str, trust: &ProofTrust) -> Result<Proven, TrailError> {
    let wrong = |what: &dyn std::fmt::Display| TrailError::Proof(what.to_string());
    let proof = TlogProof::parse(text).map_err(|error| wrong(&in_full(&error)))?;
    let extra =
        proof.extra.as_deref().ok_or_else(|| wrong(&"it does not bring the leaf along (no `extra`)"))?;
    let extra: Extra =
        serde_json::from_slice(extra).map_err(|error| wrong(&format!("its extra: {error}")))?;
    if extra.trailgate_proof != 1 {
        return Err(wrong(&format!("its extra is of version {}, not 1", extra.trailgate_proof)));
    }
    let (vkey, own_is_named) = log_key(&proof.checkpoint, &extra.vkey, trust)?;
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| wrong(&error));
    let bytes = decode(&extra.leaf)?;
    proof.verify(&bytes, &vkey).map_err(|error| wrong(&in_full(&error)))?;
    let leaf = Leaf::decode(&bytes).map_err(|error| wrong(&error))?;
    let fields = openings(&leaf, vkey.name(), &extra.openings)?;
    let checkpoint = &proof.checkpoint;
    let link = extra.trail.as_ref().map(|link| verify_link(link, checkpoint, &vkey, trust)).transpose()?;
    let (trail, trail_is_named) = link.map_or((None, false), |(trail, named)| (Some(trail), named));
    // Cosignatures say that a log has one history, not whose log it is.
    let names_logs = trust.policy.as_ref().is_some_and(|policy| !policy.logs().is_empty());
    if names_logs && !own_is_named && !trail_is_named {
        return Err(wrong(&format!(
            "it is of the log {}, which the witness policy does not name",
            vkey.name()
        )));
    }
    let cosigners = |checkpoint: &Checkpoint| -> Vec<(String, u64)> {
        let policy = trust.policy.iter();
        let found = policy.flat_map(|policy| policy.cosigners(checkpoint.note()));
        found.map(|(witness, time)| (witness.name.clone(), time)).collect()
    };
    if let Some(policy) = &trust.policy {
        let counts = |is_named: bool| !names_logs || is_named;
        let by_trail =
            counts(trail_is_named) && trail.as_ref().is_some_and(|trail| policy.is_met_by(trail.note()));
        let by_itself = counts(own_is_named) && policy.is_met_by(checkpoint.note());
        if !by_trail && !by_itself {
            return Err(wrong(
                &"neither its checkpoint nor that of the trail log is cosigned as the policy asks",
            ));
        }
    }
    Ok(Proven {
        log: vkey.name().to_owned(),
        index: proof.index,
        size: checkpoint.size(),
        entry: leaf.id(),
        kind: leaf.kind,
        at: leaf.at,
        commitments: leaf.commitments.len(),
        leaf: bytes,
        fields,
        cosigners: cosigners(checkpoint),
        trail: trail.map(|trail| (trail.origin().to_owned(), cosigners(&trail))),
    })
}

/// The key that the proof's checkpoint must be signed with, and whether it is one that was named to us; otherwise it is
/// what the proof itself says.
fn log_key(
    checkpoint: &Checkpoint,
    hint: &str,
    trust: &ProofTrust,
) -> Result<(VerifierKey, bool), TrailError> {
    if let Some(vkey) = &trust.vkey {
        return Ok((vkey.clone(), true));
    }
    let hint = VerifierKey::parse(hint)?;
    let named = trust.policy.as_ref().and_then(|policy| policy.log_key(checkpoint.origin()));
    Ok(named.map_or((hint, false), |key| (key.clone(), true)))
}

/// Payload fields that are what the leaf commits to. All or none are given.
fn openings(leaf: &Leaf, origin: &str, given: &[Opening]) -> Result<Vec<ProvenField>, TrailError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |what: String| TrailError::Proof(what);
    if given.len() != leaf.commitments.len() {
        return Err(wrong(format!(
            "it opens {} fields, and the leaf commits to {}",
            given.len(),
            leaf.commitments.len()
        )));
    }
    let mut committer = Committer::new(origin);
    committer.entry(leaf.session, leaf.seq, leaf.kind);
    let mut fields = Vec::with_capacity(given.len());
    for (opening, commitment) in given.iter().zip(&leaf.commitments) {
        let name = Field::name_of(opening.field);
        let decoded =
            BASE64_STANDARD.decode(&opening.r).ok().zip(BASE64_STANDARD.decode(&opening.bytes).ok());
        let (r, bytes) = decoded.ok_or_else(|| wrong(format!("its {name} is no Base64")))?;
        let holds = <[u8; 32]>::try_from(r.as_slice()).is_ok_and(|r| {
            opening.field == commitment.field && committer.holds(&r, opening.field, &bytes, &commitment.hmac)
        });
        if !holds {
            return Err(wrong(format!("its {name} is not what the leaf commits to")));
        }
        fields.push(ProvenField { name, code: opening.field, bytes });
    }
    Ok(fields)
}

/// Checks that the trail log has a checkpoint of the node which is the proof's. Gives the trail log's checkpoint, and whether
/// the trail log is one that was named to us.
fn verify_link(
    link: &Link,
    node: &Checkpoint,
    node_key: &VerifierKey,
    trust: &ProofTrust,
) -> Result<(Checkpoint, bool), TrailError> {
    let wrong = |what: String| TrailError::Proof(format!("its place in the trail log: {what}"));
    let leaf = TrailLeaf::parse(link.leaf.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let TrailLeaf::Checkpoint(checkpoint) = leaf else {
        return Err(wrong("the leaf is no checkpoint".to_owned()));
    };
    checkpoint.note().verify(node_key).map_err(|error| wrong(error.to_string()))?;
    if checkpoint.head() != node.head() {
        return Err(wrong("it is about another checkpoint".to_owned()));
    }
    let proof = TlogProof::parse(&link.proof).map_err(|error| wrong(in_full(&error)))?;
    let hint = VerifierKey::parse(&link.vkey)?;
    let named = trust.policy.as_ref().and_then(|policy| policy.log_key(hint.name()));
    proof.verify(link.leaf.as_bytes(), named.unwrap_or(&hint)).map_err(|error| wrong(in_full(&error)))?;
    Ok((proof.checkpoint, named.is_some()))
}

/// An error with what led to it.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
