//! Entries of the trail for people: a line in a table, or everything.

use serde_json::Value;

use super::output::{self, Column, cut, number, text};
use super::terminal;

/// Columns of the table.
const HEADER: [Column; 8] = [
    text("TIME (UTC)"),
    text("WHO"),
    text("TARGET"),
    text("CLASS"),
    cut("COMMAND"),
    text("STATUS"),
    number("ROWS"),
    number("TOOK"),
];

/// Widths of the columns before and after the command in `tail`, where no later row is known.
const TAIL_WIDTHS: [usize; 8] = [14, 22, 12, 10, 0, 14, 7, 8];

/// A table of entries, in the order given.
pub fn table(entries: &[Value], columns: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = entries.iter().map(cells).collect();
    output::table(&HEADER, &rows, columns)
}

/// One line for `tail`: columns of fixed width, the command last.
pub fn tail_line(entry: &Value, columns: Option<usize>) -> String {
    let mut line = String::new();
    let mut command = String::new();
    for ((cell, width), column) in cells(entry).into_iter().zip(TAIL_WIDTHS).zip(HEADER) {
        let cell = terminal::one_line(&cell);
        if column.gives_way {
            command = cell;
        } else if column.right {
            line.push_str(&format!("{cell:>width$}  "));
        } else {
            line.push_str(&format!("{cell:<width$}  "));
        }
    }
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(line.chars().count()).max(12));
    line.push_str(&terminal::shortened(&command, room));
    line
}

/// Everything about one entry.
pub fn in_full(entry: &Value) -> String {
    let all = |pointer: &str| at(entry, pointer);
    let listed = |pointer: &str| {
        let values = entry.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        values.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    let principal = match (who(entry), all("/principal/kind")) {
        (who, kind) if who.is_empty() || kind.is_empty() => who,
        (who, kind) => format!(
            "{kind} {who} ({} by {}, {})",
            all("/principal/certainty"),
            all("/principal/proven_by"),
            all("/principal/credential")
        ),
    };
    let client = [
        all("/client/addr"),
        known("application", &all("/client/application")),
        known("task", &all("/client/task")),
        known("tls", &all("/client/tls")),
    ];
    let target = [
        all("/target/name"),
        all("/target/kind"),
        known("role", &all("/target/role")),
        known("database", &all("/target/database")),
        all("/target/peer"),
    ];
    let params: Vec<String> = entry
        .pointer("/command/params")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, value)| {
            format!(
                "${} = {}",
                index + 1,
                if value.is_null() { "NULL".to_owned() } else { value.to_string() }
            )
        })
        .collect();
    let took = entry.get("duration_us").and_then(Value::as_u64).map(terminal::duration).unwrap_or_default();
    let leaf = match (all("/leaf/index"), all("/leaf/log")) {
        (index, log) if !index.is_empty() => format!("{index} in {log}"),
        _ => String::new(),
    };
    output::fields(&[
        ("id", all("/id")),
        ("kind", all("/kind")),
        ("at", all("/at")),
        ("duration", took),
        ("node", all("/node")),
        ("who", principal),
        ("client", joined(&client)),
        ("target", joined(&target)),
        ("command", all("/command/text")),
        ("params", params.join("\n")),
        ("class", joined(&[all("/command/class"), all("/command/verb")])),
        ("objects", listed("/command/objects")),
        ("digest", all("/command/digest")),
        ("decision", joined(&[all("/decision/effect"), known("by", &listed("/decision/policies"))])),
        ("status", all("/outcome/status")),
        ("executed", all("/outcome/executed")),
        ("rows", all("/outcome/rows")),
        ("bytes in", all("/outcome/bytes_in")),
        ("bytes out", all("/outcome/bytes_out")),
        ("code", all("/outcome/code")),
        ("message", all("/outcome/message")),
        ("exit", all("/outcome/exit")),
        ("captured", captured(entry)),
        ("details", details(entry)),
        ("payload", all("/payload")),
        ("leaf", leaf),
    ])
}

/// What was captured, and how much of it.
fn captured(entry: &Value) -> String {
    let captured =
        entry.pointer("/captured").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sizes = captured.iter().map(|one| format!("{} {} bytes", at(one, "/field"), at(one, "/bytes")));
    sizes.collect::<Vec<_>>().join(", ")
}

fn cells(entry: &Value) -> Vec<String> {
    let status = match (at(entry, "/outcome/status"), at(entry, "/outcome/code")) {
        (status, code) if !code.is_empty() && status != "ok" => format!("{status} {code}"),
        (status, _) => status,
    };
    let took = entry.get("duration_us").and_then(Value::as_u64).map(terminal::duration).unwrap_or_default();
    vec![
        at(entry, "/at").chars().skip(5).take(14).map(|c| if c == 'T' { ' ' } else { c }).collect(),
        who(entry),
        first_of(entry, ["/target/name", "/target/id"]),
        at(entry, "/command/class"),
        what(entry),
        status,
        at(entry, "/outcome/rows"),
        if at(entry, "/kind") == "command" { took } else { String::new() },
    ]
}

/// `chatgpt for alice`
fn who(entry: &Value) -> String {
    // After an erasure the name is gone, and the id is what is left.
    let name = first_of(entry, ["/principal/name", "/principal/id"]);
    let person = at(entry, "/principal/on_behalf_of");
    if person.is_empty() { name } else { format!("{name} for {person}") }
}

/// The command, or what happened.
fn what(entry: &Value) -> String {
    let kind = at(entry, "/kind");
    let command = match at(entry, "/command/text") {
        text if text.is_empty() => at(entry, "/command/verb"),
        text => text,
    };
    match kind.as_str() {
        "command" => command,
        "command.started" => format!("(still runs) {command}"),
        _ => match in_words(entry, &kind) {
            words if words.trim().is_empty() => kind,
            words => format!("{kind}: {words}"),
        },
    }
}

/// An event of a well-known shape as a few words; others as their details.
fn in_words(entry: &Value, kind: &str) -> String {
    let of = |pointer: &str| at(entry, pointer);
    match kind {
        "control.changed" => {
            let made = if of("/event/made") == "false" { " (recorded, but not made)" } else { "" };
            format!("{} {} {}{made}", of("/event/action"), of("/event/subject"), of("/event/name"))
        }
        "trail.read" => {
            let what = [of("/event/read"), of("/event/entry"), known("count", &of("/event/count"))];
            let filters = entry.pointer("/event/filters").map(pairs).unwrap_or_default();
            format!("{} {filters}", joined(&what))
        }
        "auth.failed" => format!("{}: {}", of("/event/claimed"), of("/event/reason")),
        "session.end" => {
            format!("{} entries, {} {}", of("/event/entries"), of("/event/reason"), of("/event/detail"))
        }
        _ => details(entry),
    }
}

/// What the entry tells beyond the fields that all have, in few words.
fn details(entry: &Value) -> String {
    entry.get("event").map(pairs).unwrap_or_default()
}

/// `name=value` for each member that is not null.
fn pairs(object: &Value) -> String {
    let Value::Object(members) = object else { return shown(object) };
    let pairs: Vec<String> = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| format!("{key}={}", shown(value)))
        .collect();
    pairs.join(" ")
}

fn known(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("{name} {value}") }
}

fn joined(parts: &[String]) -> String {
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// The first of two places that holds something.
fn first_of(entry: &Value, [first, second]: [&str; 2]) -> String {
    match at(entry, first) {
        empty if empty.is_empty() => at(entry, second),
        found => found,
    }
}

fn at(entry: &Value, pointer: &str) -> String {
    entry.pointer(pointer).map(shown).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Value> {
        vec![
            serde_json::json!({
                "id": "s-3", "kind": "command", "at": "2026-11-23T09:00:00.123456Z", "duration_us": 812,
                "session": "s", "seq": 3, "node": "no_1",
                "principal": {"kind": "agent", "name": "chatgpt", "on_behalf_of": "alice", "credential": "cr_1",
                              "proven_by": "scram-sha-256", "certainty": "verified"},
                "client": {"addr": "10.0.0.7:51234", "application": "psql", "task": null},
                "target": {"name": "orders", "kind": "postgres", "role": "app", "peer": "backend 4242"},
                "command": {"text": "DELETE FROM carts\n WHERE id = $1", "params": ["42", null], "verb": "DELETE",
                            "class": "write", "objects": ["public.carts"], "digest": "sha256:00"},
                "decision": {"effect": "permit", "policies": ["observe"], "policy_hash": "sha256:00", "review": null},
                "outcome": {"status": "error", "rows": null, "bytes_in": 61, "bytes_out": 28, "code": "42501",
                            "message": "permission denied", "exit": null},
                "leaf": {"log": "trailgate/n1", "index": 123}
            }),
            serde_json::json!({
                "id": "n-2", "kind": "control.changed", "at": "2026-11-23T08:59:00.000000Z",
                "principal": {"kind": "person", "name": "local-administrator"},
                "event": {"subject": "target", "action": "add", "name": "orders"}
            }),
        ]
    }

    #[test]
    fn a_table_of_entries() {
        insta::assert_snapshot!(table(&entries(), Some(110)));
    }

    #[test]
    fn one_entry_in_full() {
        insta::assert_snapshot!(in_full(&entries()[0]));
    }

    #[test]
    fn lines_as_they_come() {
        let lines: Vec<String> = entries().iter().map(|entry| tail_line(entry, Some(130))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
