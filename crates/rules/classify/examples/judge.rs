//! Judges texts from standard input, apart by NUL bytes, and prints one line for each: class, verbs, why not.
//! Made to be fed with what a server has logged.

use std::io::{Read as _, Write as _};

use classify::postgres::{NOTHING_PREPARED, Parsed, Settings, classify};

fn main() -> std::io::Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let settings = Settings { server_major: Some(15), ..Settings::default() };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for text in input.split(|&byte| byte == 0) {
        match classify(text, &settings, NOTHING_PREPARED) {
            Parsed::Empty => writeln!(out, "empty\t\t")?,
            Parsed::Unknown(reason, facts) => writeln!(out, "unparsed\t{}\t{reason}", facts.verb)?,
            Parsed::Statements(statements) => {
                let class = statements.iter().map(|one| one.facts.class).max();
                let verbs: Vec<&str> = statements.iter().map(|one| one.facts.verb.as_str()).collect();
                let calls: Vec<String> = statements
                    .iter()
                    .flat_map(|one| &one.facts.functions)
                    .map(|call| format!("{}:{:?}", call.name, call.effect))
                    .collect();
                let class = class.map_or("empty", vocabulary::Class::as_str);
                writeln!(out, "{class}\t{}\t{}", verbs.join(";"), calls.join(","))?;
            }
        }
    }
    out.flush()
}
