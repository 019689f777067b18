//! `trailgate doctor`: checks the installation, and says what to do per finding.

mod checks;

use std::path::Path;
use std::time::{Duration, Instant};

use api::types::{Health, TargetTest, TargetView};
use serde::Serialize;

use crate::cli::args::{Doctor, Shared};
use crate::cli::{Failure, output, terminal};
use crate::client::{Client, ClientError};

/// How often it is asked while waiting for a gateway.
const GLANCE: Duration = Duration::from_millis(50);

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

/// One check, and what it found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
    /// One sentence about what was found.
    pub finding: String,
    /// What to do; `None` if nothing.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, finding: finding.into(), advice: None }
    }

    fn warning(check: impl Into<String>, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check: check.into(), verdict: Verdict::Warning, finding: finding.into(), advice }
    }

    fn failed(check: impl Into<String>, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(check, finding, advice) }
    }
}

/// Checks everything that can be checked from here.
///
/// # Errors
/// [`Failure`] if any check failed.
pub async fn run(shared: &Shared, client: &Client, data: &Path, options: &Doctor) -> Result<(), Failure> {
    if options.wait {
        wait(client, Duration::from_secs(options.timeout)).await?;
    }
    let mut findings =
        vec![Finding::ok("version", format!("this is trailgate {}", env!("CARGO_PKG_VERSION")))];
    if client.is_local() {
        findings.extend(checks::directory(data));
    }
    match client.get::<Health>("/v1/status").await {
        Ok(health) => {
            findings.extend(checks::gateway(&health));
            if client.is_local() {
                findings.extend(checks::open_files(health.pid));
            }
            findings.extend(checks::listeners(&health.addresses, client.host()).await);
            findings.extend(targets(client).await?);
        }
        Err(error) => {
            let Failure { what, advice } = error.into();
            findings.push(Finding::failed("gateway", what, advice));
        }
    }
    print(shared, &findings)?;
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new("one check failed", "what to do stands below it")),
        count => Err(Failure::new(format!("{count} checks failed"), "what to do stands below each of them")),
    }
}

/// Waits until a gateway answers.
async fn wait(client: &Client, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        match client.get::<serde_json::Value>("/v1/health").await {
            // A gateway that is failing or refuses answers as well.
            Ok(_) | Err(ClientError::Refused(_)) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(GLANCE).await,
        }
    }
}

/// Each target, one login each.
async fn targets(client: &Client) -> Result<Vec<Finding>, Failure> {
    let targets: Vec<TargetView> = client.get("/v1/targets").await?;
    if targets.is_empty() {
        let advice = "add one: `trailgate target add NAME postgres://USER:PASSWORD@HOST/DATABASE`";
        return Ok(vec![Finding::warning("targets", "there is no target yet", advice)]);
    }
    let mut findings = Vec::new();
    for target in targets {
        let check = format!("target {}", target.name);
        let path = format!("/v1/targets/{}/test", target.name);
        findings.push(match client.post::<TargetTest>(&path, &serde_json::json!({})).await {
            Ok(test) if test.ok => {
                let server = terminal::one_line(test.server.as_deref().unwrap_or("it"));
                Finding::ok(check, format!("{server} answers in {}", terminal::duration(test.duration_us)))
            }
            Ok(test) => Finding::failed(
                check,
                terminal::one_line(test.problem.as_deref().unwrap_or("the login failed")),
                terminal::one_line(test.advice.as_deref().unwrap_or("see the target's own log")),
            ),
            Err(error) => {
                let Failure { what, advice } = error.into();
                Finding::warning(check, what, advice)
            }
        });
    }
    Ok(findings)
}

fn print(shared: &Shared, findings: &[Finding]) -> Result<(), Failure> {
    if shared.json {
        return findings.iter().try_for_each(output::json);
    }
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "look at",
            Verdict::Failed => "FAILED ",
        };
        output::line(&format!("{mark}  {:width$}  {}", finding.check, finding.finding))?;
        if let Some(advice) = finding.advice.as_deref().filter(|advice| !advice.is_empty()) {
            output::line(&format!("{:9}{:width$}  → {advice}", "", ""))?;
        }
    }
    Ok(())
}
