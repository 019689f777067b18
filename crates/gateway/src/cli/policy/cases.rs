//! `trailgate policy test`: tables of who runs what where, and what the policy should say.
//!
//! A test file is TOML; docs/guides/policy.md describes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use api::explain::Situation;
use api::types::policy::Explained;
use policy::Policy;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;
use vocabulary::{Class, Name, PrincipalKind, TargetKind, Timestamp};

use super::read;
use crate::cli::args::Shared;
use crate::cli::output;
use crate::cli::{Failure, terminal};

/// Longest test file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// When cases run unless they say otherwise: a Monday morning, so that what they say does not change by itself.
const DEFAULT_TIME: Timestamp = Timestamp(1_795_424_400_000_000);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// A shipped policy's name, or a file beside this one.
    policy: String,
    #[serde(default)]
    principals: BTreeMap<Name, Somebody>,
    #[serde(default)]
    targets: BTreeMap<Name, Somewhere>,
    #[serde(rename = "case", default)]
    cases: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Somebody {
    #[serde(default = "agent")]
    kind: PrincipalKind,
    #[serde(default, rename = "for")]
    on_behalf_of: Option<Name>,
    #[serde(default)]
    groups: Vec<Name>,
}

const fn agent() -> PrincipalKind {
    PrincipalKind::Agent
}

impl Default for Somebody {
    fn default() -> Self {
        Self { kind: PrincipalKind::Agent, on_behalf_of: None, groups: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Somewhere {
    #[serde(default = "postgres")]
    kind: TargetKind,
    #[serde(default)]
    role: String,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

const fn postgres() -> TargetKind {
    TargetKind::Postgres
}

impl Default for Somewhere {
    fn default() -> Self {
        Self { kind: postgres(), role: String::new(), database: None, labels: BTreeMap::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    #[serde(default)]
    name: Option<String>,
    who: Name,
    target: Name,
    /// Without it: whether they may connect.
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    in_transaction: bool,
    #[serde(default)]
    from: Option<IpAddr>,
    #[serde(default, deserialize_with = "moment")]
    at: Option<Timestamp>,
    #[serde(default)]
    approved_by: Vec<Name>,
    expect: Expected,
    /// Groups that have to approve.
    #[serde(default)]
    review: Option<Vec<Name>>,
    /// Ids of the policies that decide.
    #[serde(default)]
    policies: Option<Vec<String>>,
    #[serde(default)]
    class: Option<Class>,
}

/// A time as text, or as TOML writes it.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Moment(toml::value::Datetime),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Text(text) => text,
        Written::Moment(moment) => moment.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Permit,
    Forbid,
    Review,
}

impl Expected {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
            Self::Review => "review",
        }
    }
}

/// What came of one case, as `--json` prints it.
#[derive(Serialize)]
struct Outcome {
    file: String,
    line: usize,
    case: String,
    ok: bool,
    expected: Expected,
    found: String,
    /// What is not as expected.
    differences: Vec<String>,
    /// The policy's own reason.
    reason: String,
}

/// Runs every file of a folder.
pub fn run(shared: &Shared, dir: &Path) -> Result<(), Failure> {
    let files = files(dir)?;
    let (mut cases, mut failed) = (0, 0);
    for path in &files {
        let outcomes = outcomes(path)?;
        let wrong = outcomes.iter().filter(|outcome| !outcome.ok).count();
        for outcome in &outcomes {
            if shared.json {
                output::json(outcome)?;
            } else if !outcome.ok {
                output::line(&shown(outcome))?;
            }
        }
        if !shared.json {
            let verdict =
                if wrong == 0 { "all as expected".to_owned() } else { format!("{wrong} not as expected") };
            output::line(&format!("{}: {} cases, {verdict}", path.display(), outcomes.len()))?;
        }
        cases += outcomes.len();
        failed += wrong;
    }
    if cases == 0 {
        return Err(Failure::new(
            format!("there are no cases in {}", dir.display()),
            "write a test file: docs/guides/policy.md shows one",
        ));
    }
    if failed > 0 {
        return Err(Failure::new(
            format!("{failed} of {cases} cases are not as expected"),
            "correct the policy, or what the cases expect",
        ));
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    if dir.is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let entries = std::fs::read_dir(dir).map_err(|error| Failure::file("read", dir, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::file("read", dir, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(
            format!("there is no test file (*.toml) in {}", dir.display()),
            "write one: docs/guides/policy.md shows how",
        ));
    }
    Ok(files)
}

fn outcomes(path: &Path) -> Result<Vec<Outcome>, Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, &error);
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        let what = format!("{} is longer than {MAX_FILE} bytes", path.display());
        return Err(Failure::new(what, "split it into several files"));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let place = error.span().map(|span| format!(":{}", line_of(&text, span.start))).unwrap_or_default();
        Failure::new(
            format!("{}{place}: {}", path.display(), terminal::one_line(error.message())),
            "docs/guides/policy.md shows how a test file is written",
        )
    })?;
    let policy = policy(path, &file.policy)?;
    Ok(file.cases.iter().map(|case| outcome(path, &text, &file, &policy, case)).collect())
}

/// The policy that a test file names: a file beside it, or a shipped one.
fn policy(path: &Path, named: &str) -> Result<Policy, Failure> {
    let beside = path.parent().unwrap_or_else(|| Path::new(".")).join(named);
    let text = read(if beside.is_file() { &beside } else { Path::new(named) })?;
    Policy::parse(&text.source).map_err(|error| {
        let first = error.problems.first().map(ToString::to_string).unwrap_or_default();
        Failure::new(
            format!("{}:{}", text.place, terminal::one_line(&first)),
            format!("`trailgate policy check {}` shows everything that is wrong", text.place),
        )
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

fn outcome(path: &Path, text: &str, file: &File, policy: &Policy, spanned: &Spanned<Case>) -> Outcome {
    let case = spanned.get_ref();
    let situation = situation(file, case);
    let command = case.command.as_deref().unwrap_or_default();
    let explained = match &case.command {
        Some(command) => situation.explain(policy, command),
        None => vec![situation.connect(policy)],
    };
    // Of several statements the worst counts, as on the wire.
    let worst = explained.iter().max_by_key(|one| match one.effect.as_str() {
        "permit" => 0,
        "review" => 1,
        _ => 2,
    });
    let (found, reason) =
        worst.map_or(("nothing", String::new()), |one| (one.effect.as_str(), one.words.reason.clone()));
    let differences = worst.map(|one| differences(case, one)).unwrap_or_default();
    let what = if case.command.is_some() { terminal::one_line(command) } else { "connect".to_owned() };
    let who = format!("{} on {}: {what}", case.who, case.target);
    Outcome {
        file: path.display().to_string(),
        line: line_of(text, spanned.span().start),
        case: case.name.as_ref().map_or(who.clone(), |name| format!("{name} ({who})")),
        ok: differences.is_empty(),
        expected: case.expect,
        found: found.to_owned(),
        differences,
        reason,
    }
}

fn situation(file: &File, case: &Case) -> Situation {
    let (nobody, nowhere) = (Somebody::default(), Somewhere::default());
    let who = file.principals.get(&case.who).unwrap_or(&nobody);
    let person = who.on_behalf_of.as_ref().and_then(|person| file.principals.get(person));
    let target = file.targets.get(&case.target).unwrap_or(&nowhere);
    let own = target.database.clone().unwrap_or_else(|| case.target.to_string());
    Situation {
        kind: who.kind,
        principal: case.who.clone(),
        on_behalf_of: who.on_behalf_of.clone(),
        groups: who.groups.clone(),
        person_groups: person.map(|person| person.groups.clone()).unwrap_or_default(),
        target: case.target.clone(),
        target_kind: target.kind,
        role: target.role.clone(),
        other_database: case.database.as_ref().is_some_and(|database| *database != own),
        database: Some(case.database.clone().unwrap_or(own)),
        labels: target.labels.clone(),
        allow: std::collections::BTreeSet::new(),
        from: case.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        in_transaction: case.in_transaction,
        now: case.at.unwrap_or(DEFAULT_TIME),
        approved_by: case.approved_by.clone(),
    }
}

/// What is otherwise than expected, each as `what: expected …, found …`.
fn differences(case: &Case, found: &Explained) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, expected: String, found: String| {
        if expected != found {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    compare("decision", case.expect.as_str().to_owned(), found.effect.clone());
    if let Some(groups) = &case.review {
        let asked = found.review.as_ref().map(|review| review.groups.clone()).unwrap_or_default();
        compare("review by", list(groups), list(&asked));
    }
    if let Some(policies) = &case.policies {
        compare("policies", list(policies), list(&found.decision.policies));
    }
    if let Some(class) = case.class {
        compare("class", class.to_string(), found.class.to_string());
    }
    differences
}

/// Sorted, for the order has no meaning.
fn list<T: ToString>(values: &[T]) -> String {
    let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.sort();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn shown(outcome: &Outcome) -> String {
    let Outcome { file, line, case, differences, reason, .. } = outcome;
    let mut text = format!("{file}:{line}: {case}");
    for difference in differences {
        text.push_str(&format!("\n  {difference}"));
    }
    if !reason.is_empty() {
        text.push_str(&format!("\n  because {}", terminal::one_line(reason)));
    }
    text
}
