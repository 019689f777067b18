//! `trailgate trail verify`: offline, with nothing but the files.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ledger::VerifierKey;
use serde_json::json;
use store::KeySource;
use trail::{KeyWrap, VerifyOptions, VerifyReport};

use super::{Failure, args, output};
use crate::witness::read_policy;

/// Findings that are listed for people.
const SHOWN_FINDINGS: usize = 20;

/// Verifies the trail in a data directory and says what was found.
///
/// # Errors
/// [`Failure`] if anything does not hold, or the files can't be read.
pub fn verify(
    data: &Path,
    asked: &args::Verify,
    identity: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    if !data.join("ledger").is_dir() {
        return Err(Failure::new(
            format!("there is no trail in {}", data.display()),
            "name the data directory of a gateway with --data",
        ));
    }
    let keys = keys_at_hand(data, identity)?;
    let sealed = keys.is_none();
    let bar = progress_bar();
    let options = VerifyOptions {
        keys,
        vkey: vkey(asked)?,
        policy: asked.witness_policy.as_deref().map(read_policy).transpose()?,
    };
    let report = trail::verify(data, &options, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::from_sentence(&error.in_full()))?;
    if as_json {
        output::json(&as_object(&report))?;
    } else if report.is_sound() {
        output::line(&format!("{report}"))?;
        if sealed {
            eprintln!("payloads were not opened: the node key is not in this directory");
        }
    } else {
        for finding in report.findings.iter().take(SHOWN_FINDINGS) {
            output::line(&finding.to_string())?;
        }
    }
    if report.is_sound() {
        return Ok(());
    }
    let advice =
        "keep the directory as it is, and compare with a backup and with what witnesses or exports hold";
    Err(Failure::new(format!("the trail does not verify: {} findings", report.problems), advice))
}

/// The key that was given, by itself or in a file.
///
/// # Errors
/// [`Failure`] if it is none.
pub fn vkey(asked: &args::Verify) -> Result<Option<VerifierKey>, Failure> {
    let Some(given) = &asked.vkey else { return Ok(None) };
    let text = match std::fs::read_to_string(given) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => given.clone(),
    };
    VerifierKey::parse(&text).map(Some).map_err(|error| Failure::from_error(&error))
}

/// What opens payloads: the node key of the data directory, and an identity. `None` if both are elsewhere.
///
/// # Errors
/// [`Failure`] if one of them can't be used.
pub fn keys_at_hand(data: &Path, identity: Option<&Path>) -> Result<Option<Arc<dyn KeyWrap>>, Failure> {
    crate::keys::reading(node_key(data)?, identity)
}

fn node_key(data: &Path) -> Result<Option<Arc<dyn KeyWrap>>, Failure> {
    let path = data.join("node.key");
    if !path.exists() {
        return Ok(None);
    }
    let key = KeySource::File(path)
        .load(&data.join("control.db"), store::key_file::process_environment)
        .map_err(|error| Failure::from_error(&error))?;
    crate::up::vault_keys(&key).map(Some)
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // Drawn at most four times a second, so nothing flashes up for what is quick.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("verifying {bar:40} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn as_object(report: &VerifyReport) -> serde_json::Value {
    let findings: Vec<serde_json::Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "file": finding.file.as_ref().map(|file| file.display().to_string()),
                "leaf": finding.index,
                "entry": finding.entry,
                "problem": finding.problem,
            })
        })
        .collect();
    json!({
        "sound": report.is_sound(),
        "log": report.origin,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "sessions": report.sessions,
        "open_sessions": report.open_sessions,
        "payloads": {
            "verified": report.verified,
            "erased": report.erased,
            "missing": report.missing,
            "sealed": report.sealed,
        },
        "unsealed": report.unsealed,
        "witnessed": report.witnessed,
        "trail_log": report.trail_log.as_ref().map(|log| json!({
            "log": log.origin,
            "entries": log.entries,
            "nodes": log.nodes,
            "silent": log.silent,
        })),
        "problems": report.problems,
        "findings": findings,
    })
}
