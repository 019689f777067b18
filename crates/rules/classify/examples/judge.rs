//! Judges SQL as a gateway would, one JSON object a line in, one a line out; `tests/evasion` drives it.
//!
//! A text: `{"session": 7, "text": "SELECT 1"}` (`"hex"` instead of `"text"` for bytes that are no text) is answered
//! with `{"statements": [{"span": [0, 8], "facts": {…}, "copy": null}], "unknown": null}`; `unknown` says why a text
//! was not understood. What came of it: `{"session": 7, "ran": 1, "failed": false, "transaction": "I", "parameters":
//! {"search_path": "public"}}` says how many statements of the session's last text succeeded, whether an error came
//! behind them, the transaction status after it and what the server reported; `"starts": true` ends what the session
//! began with; `"told": {"search_path": "public", "role": "none"}` is its answer to a question behind code. None of this is answered. Settings, prepared statements and cursors are followed by it, in the way
//! that `protocols/postgres` follows them.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use classify::postgres::{
    Cache, Following, Name, Parsed, PreparedStatement, SearchPath, Settings, Statement, TransactionStatus,
};
use serde::Deserialize;
use serde_json::json;
use vocabulary::Facts;

#[derive(Deserialize)]
struct Line {
    session: u64,
    text: Option<String>,
    hex: Option<String>,
    ran: Option<usize>,
    #[serde(default)]
    failed: bool,
    #[serde(default)]
    starts: bool,
    transaction: Option<char>,
    #[serde(default)]
    parameters: HashMap<String, String>,
    told: Option<HashMap<String, String>>,
}

struct Session {
    following: Following,
    /// With the path that they were judged under: the server reads their texts again under another.
    prepared: HashMap<String, (Arc<SearchPath>, Arc<Facts>)>,
    cursors: HashMap<String, Arc<Facts>>,
    /// Statements of the last text.
    last: Vec<Statement>,
}

impl Default for Session {
    fn default() -> Self {
        let following = Following::new(Settings::default());
        Self { following, prepared: HashMap::new(), cursors: HashMap::new(), last: Vec::new() }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut cache = Cache::new();
    let mut sessions: HashMap<u64, Session> = HashMap::new();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let session = sessions.entry(line.session).or_default();
        let text = match (line.text, line.hex) {
            (Some(text), _) => Some(text.into_bytes()),
            (None, hex) => hex.as_deref().map(bytes).transpose()?,
        };
        if let Some(text) = text {
            writeln!(out, "{}", session.judge(&text, &mut cache))?;
            out.flush()?;
        }
        if let Some(ran) = line.ran {
            session.ran(ran);
        }
        if line.failed {
            session.following.failed();
        }
        for (name, value) in &line.parameters {
            session.following.reports(name, value);
        }
        if line.starts {
            session.following.starts_here();
        }
        match line.transaction {
            Some('I') => session.following.ready(TransactionStatus::Idle),
            Some('T') => session.following.ready(TransactionStatus::Open),
            Some(_) => session.following.ready(TransactionStatus::Failed),
            None => {}
        }
        if let Some(told) = line.told {
            let said = |name: &str| told.get(name).map(String::as_str);
            session.following.told(said("search_path"), said("role"));
        }
    }
    Ok(())
}

fn bytes(hex: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

impl Session {
    fn judge(&mut self, text: &[u8], cache: &mut Cache) -> serde_json::Value {
        let named = |name: Name<'_>| match name {
            Name::Statement(name) => {
                let known = self.prepared.get(name).filter(|(path, _)| path == self.following.path());
                known.map(|(_, facts)| Arc::clone(facts))
            }
            Name::Cursor(name) => self.cursors.get(name).map(Arc::clone),
        };
        let doubtful = self.following.in_doubt().then(|| self.following.doubtful());
        let parsed = cache.classify(text, doubtful.as_ref().unwrap_or(self.following.settings()), &named);
        let (statements, unknown) = match &*parsed {
            Parsed::Empty => (Vec::new(), None),
            Parsed::Statements(statements) => (statements.clone(), None),
            Parsed::Unknown(reason, facts) => {
                let whole = Statement {
                    span: 0..text.len(),
                    facts: Arc::clone(facts),
                    copy: None,
                    prepares: None,
                    declares: None,
                    frees: None,
                    by_name: false,
                };
                (vec![whole], Some(reason.to_string()))
            }
        };
        let shown: Vec<_> = statements
            .iter()
            .map(|one| {
                json!({
                    "span": [one.span.start, one.span.end],
                    "facts": *one.facts,
                    "copy": one.copy.map(|copy| format!("{copy:?}").to_lowercase()),
                })
            })
            .collect();
        self.last = statements;
        json!({ "statements": shown, "unknown": unknown })
    }

    /// The first so many statements of the last text succeeded.
    fn ran(&mut self, count: usize) {
        for statement in std::mem::take(&mut self.last).into_iter().take(count) {
            self.following.completed(&statement.facts);
            if let Some(PreparedStatement { name, facts }) = statement.prepares {
                self.prepared.insert(name, (Arc::clone(self.following.path()), facts));
            }
            if let Some(PreparedStatement { name, facts }) = statement.declares {
                self.cursors.insert(name, facts);
            }
        }
    }
}
