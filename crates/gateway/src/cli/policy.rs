//! `trailgate policy …`

mod cases;
mod explain;

use std::path::Path;

use api::types::policy::{ApplyPolicy, PolicyApplied, PolicyView};
use policy::{MAX_BYTES, PolicyError, Problem, shipped};
use serde::Serialize;
use vocabulary::Name;

use super::args::{Policy, Shared};
use super::output::{self, cut, number, text};
use super::{Failure, terminal};
use crate::client::Client;

pub async fn run(shared: &Shared, data: &Path, command: Policy) -> Result<(), Failure> {
    // Only where it is needed: checking and testing work without any gateway.
    let client = || Client::from_environment(data);
    match command {
        Policy::Check { file } => check(shared, &file),
        Policy::Apply { file } => apply(shared, &client()?, &file).await,
        Policy::Show => show(shared, &client()?.get("/v1/policy").await?),
        Policy::History => {
            let all: Vec<PolicyView> = client()?.get("/v1/policy/history?limit=1000").await?;
            history(shared, &all)
        }
        Policy::Explain(asked) => explain::run(shared, &client()?, asked).await,
        Policy::Test { dir } => cases::run(shared, &dir),
    }
}

/// A policy's text and where it is from.
struct Text {
    /// As problems name it.
    place: String,
    source: String,
    /// As the gateway calls it.
    name: Name,
}

/// Reads a file, or takes a shipped policy by its name if there is no such file.
fn read(file: &Path) -> Result<Text, Failure> {
    let place = file.display().to_string();
    if !file.exists()
        && let Some((source, name)) = shipped::source(&place).zip(place.parse::<Name>().ok())
    {
        return Ok(Text { place, source: source.to_owned(), name });
    }
    let bytes = std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            format!("there is neither a file nor a shipped policy `{place}`"),
            format!("give a file, or one of {}", shipped::names().join(", ")),
        ),
        _ => Failure::file("read", file, &error),
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(Failure::new(
            format!("{place} is longer than {MAX_BYTES} bytes"),
            "give a policy's text",
        ));
    }
    let source = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("{place} is not UTF-8"), "give a policy's text"))?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    // Only what it is called in lists and entries; the hash says which it is.
    let name = stem
        .parse::<Name>()
        .or_else(|_| "policy".parse::<Name>())
        .map_err(|error| Failure::from_error(&error))?;
    Ok(Text { place, source, name })
}

/// A policy's text, and the policy; problems are printed.
fn compiled(shared: &Shared, file: &Path) -> Result<(Text, policy::Policy), Failure> {
    let text = read(file)?;
    match policy::Policy::parse(&text.source) {
        Ok(policy) => Ok((text, policy)),
        Err(error) => Err(problems(shared, &text.place, &error)?),
    }
}

/// One problem, as `--json` prints it.
#[derive(Serialize)]
struct ProblemLine<'a> {
    severity: &'static str,
    file: &'a str,
    line: u32,
    column: u32,
    problem: &'a str,
    advice: &'a str,
}

fn problem_line<'a>(severity: &'static str, file: &'a str, problem: &'a Problem) -> ProblemLine<'a> {
    let Problem { line, column, what, advice } = problem;
    ProblemLine { severity, file, line: *line, column: *column, problem: what, advice }
}

/// Prints every problem, and returns how the command fails.
fn problems(shared: &Shared, place: &str, error: &PolicyError) -> Result<Failure, Failure> {
    for problem in &error.problems {
        if shared.json {
            output::json(&problem_line("error", place, problem))?;
        } else {
            output::line(&format!("{place}:{}", terminal::one_line(&problem.to_string())))?;
        }
    }
    let count = match error.problems.len() {
        1 => "a problem".to_owned(),
        several => format!("{several} problems"),
    };
    Ok(Failure::new(
        format!("{place} is no policy: it has {count}"),
        "put right what is named above; docs/guides/policy.md shows what policies may say",
    ))
}

fn check(shared: &Shared, file: &Path) -> Result<(), Failure> {
    let (text, policy) = compiled(shared, file)?;
    for warning in policy.warnings() {
        if shared.json {
            output::json(&problem_line("warning", &text.place, warning))?;
        } else {
            output::line(&format!("{}:{} (warning)", text.place, terminal::one_line(&warning.to_string())))?;
        }
    }
    if shared.json {
        return output::json(&serde_json::json!({
            "severity": "ok", "file": text.place, "hash": policy.hash(), "warnings": policy.warnings().len(),
        }));
    }
    output::line(&format!("{} is a policy: {}", text.place, policy.hash()))
}

async fn apply(shared: &Shared, client: &Client, file: &Path) -> Result<(), Failure> {
    let (text, _) = compiled(shared, file)?;
    let request = ApplyPolicy { name: text.name, source: Some(text.source) };
    let applied: PolicyApplied = client.post("/v1/policy", &request).await?;
    if shared.json {
        return output::json(&applied);
    }
    let PolicyView { name, hash, warnings, .. } = &applied.policy;
    for warning in warnings {
        eprintln!("warning: {}", terminal::one_line(warning));
    }
    if applied.changed {
        output::line(&format!("policy {name} is in force: {hash}"))?;
        eprintln!("before: {}", applied.before);
        Ok(())
    } else {
        output::line(&format!("policy {name} was in force already: {hash}"))
    }
}

fn show(shared: &Shared, policy: &PolicyView) -> Result<(), Failure> {
    if shared.json {
        return output::json(policy);
    }
    let since = match (&policy.applied_at, &policy.applied_by) {
        (Some(at), Some(by)) => format!("since {at}, by {by}"),
        _ => "none was applied yet".to_owned(),
    };
    eprintln!("policy {}, {}; {since}", policy.name, policy.hash);
    output::line(policy.source.trim_end())
}

fn history(shared: &Shared, policies: &[PolicyView]) -> Result<(), Failure> {
    if shared.json {
        return policies.iter().try_for_each(output::json);
    }
    if policies.is_empty() {
        eprintln!("no policy was applied yet; `observe` is in force");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = policies
        .iter()
        .map(|policy| {
            vec![
                policy.number.to_string(),
                policy.applied_at.map(|at| at.to_string()).unwrap_or_default(),
                policy.applied_by.as_ref().map(ToString::to_string).unwrap_or_default(),
                policy.name.to_string(),
                policy.hash.to_string(),
            ]
        })
        .collect();
    let header = [number("NUMBER"), text("SINCE"), text("BY"), text("NAME"), cut("HASH")];
    output::line(&output::table(&header, &rows, terminal::width()))
}
