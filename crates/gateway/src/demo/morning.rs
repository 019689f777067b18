//! What the agent does this morning: a report, a correction, an export, and a mistake.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use api::card::ConnectCard;

use super::tools::Tools;
use crate::cli::{Failure, output, terminal};

/// How the destructive command begins.
pub const MISTAKE: &str = "DELETE FROM carts";

/// Lines of psql's output that are shown per step.
const SHOWN_LINES: usize = 12;

/// One run of psql.
struct Step {
    /// What the agent is at.
    aim: &'static str,
    /// What it types.
    script: &'static str,
}

const STEPS: [Step; 6] = [
    Step {
        aim: "The report that alice asked for",
        script: "SELECT status, count(*), sum(total) FROM orders GROUP BY status ORDER BY status;",
    },
    Step { aim: "A guess at the schema", script: "SELECT * FROM order_items LIMIT 5;" },
    Step {
        aim: "A prepared statement, used twice",
        script: "PREPARE open_of (text) AS SELECT count(*), sum(o.total) FROM orders o JOIN customers c ON c.id = o.customer\n  WHERE o.status = 'open' AND c.country = $1;\nEXECUTE open_of('DE');\nEXECUTE open_of('JP');",
    },
    Step {
        aim: "A correction, in one transaction",
        script: "BEGIN;\nUPDATE orders SET status = 'shipped' WHERE id IN (17, 21);\nINSERT INTO orders VALUES (2001, 42, 'open', 18.50, '2026-11-23');\nCOMMIT;",
    },
    Step {
        aim: "An export",
        script: "\\copy (SELECT id, total FROM orders WHERE placed = '2026-11-22' ORDER BY id) TO 'report.csv' CSV HEADER",
    },
    Step {
        aim: "Cleaning up abandoned carts, and the WHERE is missing",
        script: "DELETE FROM carts;\nROLLBACK;\nSELECT count(*) FROM carts;",
    },
];

/// Runs every step through psql, with nothing but the card's own values.
pub fn run(tools: &Tools, card: &ConnectCard, token: &str, folder: &Path) -> Result<(), Failure> {
    for step in &STEPS {
        output::line(&format!("\n-- {}", step.aim))?;
        for line in step.script.lines() {
            output::line(&format!("orders=> {line}"))?;
        }
        output::line(&through_psql(tools, card, token, folder, step.script)?)?;
    }
    Ok(())
}

fn through_psql(
    tools: &Tools,
    card: &ConnectCard,
    token: &str,
    folder: &Path,
    script: &str,
) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("psql can't be run: {error}"), "try again");
    // One file for both, so that results and complaints stay in the order in which they came.
    let said = folder.join("psql.out");
    let output = std::fs::File::create(&said).map_err(failed)?;
    let mut psql = Command::new(&tools.psql);
    psql.args(["-X", "-f", "-"])
        .env("PGHOST", &card.host)
        .env("PGPORT", card.port.to_string())
        .env("PGUSER", card.principal.as_str())
        .env("PGPASSWORD", token)
        .env("PGDATABASE", card.target.as_str())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output);
    if let Some(file) = &card.ca_file {
        psql.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", file);
    }
    let mut child = psql.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(failed)?;
    }
    let done = child.wait().map_err(failed)?;
    let said =
        String::from_utf8_lossy(&std::fs::read(&said).map_err(failed)?).replace("psql:<stdin>:", "line ");
    // With -f, psql goes on after an error of the server and ends with 0; 2 means that there was no connection.
    if !done.success() {
        return Err(Failure::new(
            format!("psql did not get through: {}", terminal::one_line(&said)),
            "please report this",
        ));
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut shown: Vec<String> =
        lines.iter().take(SHOWN_LINES).map(|line| terminal::printable(line)).collect();
    if lines.len() > SHOWN_LINES {
        shown.push(format!("… {} more lines", lines.len() - SHOWN_LINES));
    }
    Ok(shown.join("\n"))
}
