//! `trailgate target …`

use api::types::{AddTarget, Removed, TargetTest, TargetView};
use store::{TargetUrl, TargetUrlError};

use super::args::{Shared, Target, TargetAdd};
use super::output::{self, cut, text};
use super::{Failure, terminal};
use crate::client::Client;

pub async fn run(shared: &Shared, client: &Client, command: Target) -> Result<(), Failure> {
    match command {
        Target::Add(add) => added(shared, client, add).await,
        Target::List => list(shared, &client.get::<Vec<TargetView>>("/v1/targets").await?),
        Target::Show { name } => show(shared, &client.get(&format!("/v1/targets/{name}")).await?),
        Target::Test { name } => {
            test(shared, &client.post(&format!("/v1/targets/{name}/test"), &serde_json::json!({})).await?)
        }
        Target::Remove { name } => {
            let removed: Removed = client.delete(&format!("/v1/targets/{name}")).await?;
            if shared.json {
                return output::json(&removed);
            }
            output::line(&format!("target {} is removed; its open sessions are ending", removed.name))
        }
    }
}

async fn added(shared: &Shared, client: &Client, add: TargetAdd) -> Result<(), Failure> {
    // Files are read here, in the user's own folder and with the user's rights, never by the gateway.
    let mut url: TargetUrl = add.url.parse().map_err(|error| sentence(&error))?;
    url.read_files(|path| std::fs::read(path)).map_err(|error| sentence(&error))?;
    let request = AddTarget {
        name: add.name,
        url: url.expose().map_err(|error| sentence(&error))?.to_string(),
        labels: add.labels.into_iter().collect(),
        allow: add.allow.into_iter().collect(),
    };
    let target: TargetView = client.post("/v1/targets", &request).await?;
    if shared.json {
        return output::json(&target);
    }
    output::line(&format!("target {} is added: {}", target.name, target.url))?;
    eprintln!("check it with `trailgate target test {}`", target.name);
    Ok(())
}

fn sentence(error: &TargetUrlError) -> Failure {
    let source = std::error::Error::source(error).map(|source| format!(" ({source})")).unwrap_or_default();
    Failure::from_sentence(&format!("{error}{source}"))
}

fn list(shared: &Shared, targets: &[TargetView]) -> Result<(), Failure> {
    if shared.json {
        return targets.iter().try_for_each(output::json);
    }
    if targets.is_empty() {
        eprintln!("there are no targets yet; add one with `trailgate target add NAME postgres://…`");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = targets
        .iter()
        .map(|target| {
            vec![target.name.to_string(), target.kind.to_string(), target.url.clone(), labels(target)]
        })
        .collect();
    let header = [text("NAME"), text("KIND"), cut("URL"), cut("LABELS")];
    output::line(&output::table(&header, &rows, terminal::width()))
}

fn show(shared: &Shared, target: &TargetView) -> Result<(), Failure> {
    if shared.json {
        return output::json(target);
    }
    let allow: Vec<&str> = target.allow.iter().map(String::as_str).collect();
    output::line(&output::fields(&[
        ("name", target.name.to_string()),
        ("id", target.id.to_string()),
        ("kind", target.kind.to_string()),
        ("url", target.url.clone()),
        ("secrets", target.secrets.join(", ")),
        ("labels", labels(target)),
        ("allow", allow.join(", ")),
    ]))
}

fn test(shared: &Shared, test: &TargetTest) -> Result<(), Failure> {
    let took = terminal::duration(test.duration_us);
    if shared.json {
        output::json(test)?;
    } else if test.ok {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        output::line(&format!(
            "target {} answers in {took}: {}, role {}, database {}, {}",
            test.target,
            terminal::one_line(&or_unknown(&test.server)),
            terminal::one_line(&or_unknown(&test.role)),
            terminal::one_line(&or_unknown(&test.database)),
            test.tls.as_deref().unwrap_or("no TLS"),
        ))?;
    }
    if test.ok {
        return Ok(());
    }
    let fault = test.fault.as_deref().unwrap_or("target");
    let problem = test.problem.as_deref().unwrap_or("the login failed");
    let advice = test.advice.as_deref().unwrap_or("see the target's own log");
    Err(Failure::new(
        format!(
            "target {} can't be used ({fault}, after {took}): {}",
            test.target,
            terminal::one_line(problem)
        ),
        terminal::one_line(advice),
    ))
}

fn labels(target: &TargetView) -> String {
    let labels: Vec<String> = target.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(" ")
}
