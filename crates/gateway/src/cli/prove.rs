//! `trailgate trail prove` and `trailgate trail verify FILE`.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use trail::{ProofTrust, Proven, ProvenField, verify_proof};

use super::{Failure, args, output, trail as entries, verify};
use crate::client::{Client, ClientError};
use crate::witness::read_policy;

/// Writes the proof of one entry: from the gateway, which records the reading, or from the files if none runs.
///
/// # Errors
/// [`Failure`] if there is no such entry, or the file can't be written.
pub async fn prove(
    shared: &args::Shared,
    client: &Client,
    data: &Path,
    options: &args::Prove,
) -> Result<(), Failure> {
    let payload = !options.without_payload;
    let path = format!("/v1/trail/{}/proof?payload={payload}", options.id);
    let text = match client.text(&path).await {
        Err(ClientError::NoGateway { local: true, .. }) => entries::offline(shared, data)?
            .prove(options.id, payload)
            .map_err(|error| Failure::from_sentence(&error.in_full()))?
            .to_string(),
        answer => answer?,
    };
    if options.output == Path::new("-") {
        return output::bytes(text.as_bytes());
    }
    // The payload is in it: what was run, with its parameters.
    output::private_file(&options.output)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::file("write", &options.output, &error))?;
    eprintln!(
        "{} proves entry {}; `trailgate trail verify {}` checks it, docs/guides/verify-without-trailgate.md says how others do",
        options.output.display(),
        options.id,
        options.output.display()
    );
    Ok(())
}

/// Checks a proof from its file alone.
///
/// # Errors
/// [`Failure`] if it does not hold.
pub fn verify(file: &Path, asked: &args::Verify, as_json: bool) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::file("read", file, &error))?;
    let policy = asked.witness_policy.as_deref().map(read_policy).transpose()?;
    let trust = ProofTrust { vkey: verify::vkey(asked)?, policy };
    let proven = verify_proof(&text, &trust).map_err(|error| {
        Failure::new(error.in_full(), "get it again from whoever gave it to you; what it says is not proven")
    })?;
    if as_json {
        return output::json(&as_object(&proven));
    }
    let Proven { log, index, size, entry, kind, at, fields, commitments, cosigners, trail, .. } = &proven;
    output::line(&format!("entry {entry} ({kind}, {at}) is leaf {index} of {size} in the log {log}"))?;
    for field in fields {
        output::line(&format!("  {:<20}{}", field.name, shown(field)))?;
    }
    if fields.is_empty() && *commitments > 0 {
        output::line(&format!("  its payload of {commitments} fields is not in the proof"))?;
    }
    let named = |cosigners: &[(String, u64)]| {
        cosigners.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if !cosigners.is_empty() {
        output::line(&format!("  cosigned by         {}", named(cosigners)))?;
    }
    if let Some((origin, cosigners)) = trail {
        let by =
            if cosigners.is_empty() { String::new() } else { format!(", cosigned by {}", named(cosigners)) };
        output::line(&format!("  in the trail log    {origin}{by}"))?;
    }
    if trust.vkey.is_none() && trust.policy.as_ref().is_none_or(|policy| policy.logs().is_empty()) {
        eprintln!(
            "the log's key was taken from the proof itself: give the one that you trust with --vkey or --witness-policy"
        );
    }
    Ok(())
}

fn shown(field: &ProvenField) -> String {
    match std::str::from_utf8(&field.bytes) {
        Ok(text) => super::terminal::one_line(text),
        Err(_) => format!("{} bytes", field.bytes.len()),
    }
}

fn as_object(proven: &Proven) -> serde_json::Value {
    let witnesses = |cosigners: &[(String, u64)]| {
        cosigners.iter().map(|(name, time)| json!({ "name": name, "time_s": time })).collect::<Vec<_>>()
    };
    json!({
        "log": proven.log,
        "index": proven.index,
        "size": proven.size,
        "entry": proven.entry,
        "kind": proven.kind,
        "at": proven.at,
        "fields": proven.fields.iter().map(|field| json!({
            "name": field.name,
            "code": field.code,
            "text": std::str::from_utf8(&field.bytes).ok(),
            "bytes": field.bytes.len(),
        })).collect::<Vec<_>>(),
        "commitments": proven.commitments,
        "cosigners": witnesses(&proven.cosigners),
        "trail_log": proven.trail.as_ref().map(|(origin, cosigners)| json!({
            "log": origin,
            "cosigners": witnesses(cosigners),
        })),
    })
}
