//! Which cosignatures make a checkpoint good enough (C2SP tlog-policy).

use std::collections::HashMap;

use crate::{KeyKind, Note, VerifierKey};

/// Logs, witnesses and groups of a policy at most, each.
const MAX_DEFINED: usize = 256;

/// What is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the witness policy: {problem}")]
pub struct PolicyError {
    /// Counted from 1; 0 is the file as a whole.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

/// A log that a policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the key's name is the origin.
    pub key: VerifierKey,
    /// Where it is served.
    pub url: Option<String>,
}

/// A witness that a policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in the policy.
    pub name: String,
    /// What it cosigns with.
    pub key: VerifierKey,
    /// Its submission prefix.
    pub url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

/// A witness policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// Members of a group come before it.
    groups: Vec<Group>,
    /// `None`: no cosignature is asked for.
    quorum: Option<Member>,
}

impl WitnessPolicy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] names the line.
    pub fn parse(file: &[u8]) -> Result<Self, PolicyError> {
        let mut policy = Self { logs: Vec::new(), witnesses: Vec::new(), groups: Vec::new(), quorum: None };
        let mut reading = Reading::default();
        let allowed = |byte: &u8| matches!(byte, b'\t' | b'\n' | 0x20..=0x7e | 0x80..);
        if !file.iter().all(allowed) {
            return Err(PolicyError { line: 0, problem: "it has control characters".to_owned() });
        }
        for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
            let words: Vec<&[u8]> = line.split(is_space).filter(|word| !word.is_empty()).collect();
            let done = match words.as_slice() {
                [] => Ok(()),
                [first, ..] if first.starts_with(b"#") => Ok(()),
                words => policy.line(words, &mut reading),
            };
            done.map_err(|problem| PolicyError { line: number, problem })?;
        }
        if !reading.has_quorum {
            return Err(PolicyError { line: 0, problem: "it has no `quorum` line".to_owned() });
        }
        Ok(policy)
    }

    fn line(&mut self, words: &[&[u8]], reading: &mut Reading) -> Result<(), String> {
        match words {
            [b"log", key, url @ ..] => {
                let key = parse_key(key, KeyKind::Ed25519)?;
                if self.logs.iter().any(|log| log.key.public_key() == key.public_key()) {
                    return Err("this log is there already".to_owned());
                }
                let url = optional_url(url)?;
                push(&mut self.logs, PolicyLog { key, url })
            }
            [b"witness", name, key, url @ ..] => {
                let key = parse_key(key, KeyKind::Cosignature)?;
                if self.witnesses.iter().any(|witness| witness.key.public_key() == key.public_key()) {
                    return Err("this witness is there already".to_owned());
                }
                reading.define(name, Member::Witness(self.witnesses.len()))?;
                let (name, url) = (text(name), optional_url(url)?);
                push(&mut self.witnesses, PolicyWitness { name, key, url })
            }
            [b"group", name, threshold, members @ ..] => {
                if members.is_empty() {
                    return Err("a group has at least one member".to_owned());
                }
                let mut found = Vec::with_capacity(members.len());
                for member in members {
                    found.push(reading.take(member)?);
                }
                let threshold = match *threshold {
                    b"any" => 1,
                    b"all" => found.len(),
                    number => std::str::from_utf8(number)
                        .ok()
                        .and_then(crate::tile::parse_decimal)
                        .and_then(|number| usize::try_from(number).ok())
                        .filter(|number| (1..=found.len()).contains(number))
                        .ok_or("a group's threshold is `any`, `all` or a number from 1 to its members")?,
                };
                reading.define(name, Member::Group(self.groups.len()))?;
                push(&mut self.groups, Group { threshold, members: found })
            }
            [b"quorum", name] => {
                if std::mem::replace(&mut reading.has_quorum, true) {
                    return Err("there is more than one `quorum` line".to_owned());
                }
                self.quorum = if *name == b"none" { None } else { Some(reading.find(name)?) };
                Ok(())
            }
            [first, ..] => Err(format!(
                "`{}` is not understood: lines are `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME K NAME…` and `quorum NAME`",
                text(first)
            )),
            [] => Ok(()),
        }
    }

    /// The logs it names; none means that the log is known otherwise.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The key of the log of this name, if the policy names that log.
    #[must_use]
    pub fn log_key(&self, name: &str) -> Option<&VerifierKey> {
        self.logs.iter().map(|log| &log.key).find(|key| key.name() == name)
    }

    /// The witnesses it names.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether it asks for any cosignature at all.
    #[must_use]
    pub const fn asks_for_cosignatures(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether a checkpoint carries enough valid cosignatures.
    #[must_use]
    pub fn is_met_by(&self, note: &Note) -> bool {
        let valid: Vec<bool> =
            self.witnesses.iter().map(|witness| note.verify_cosignature(&witness.key).is_ok()).collect();
        let mut met = Vec::with_capacity(self.groups.len());
        let holds = |member: &Member, met: &[bool]| match member {
            Member::Witness(number) => valid.get(*number).copied().unwrap_or_default(),
            Member::Group(number) => met.get(*number).copied().unwrap_or_default(),
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|member| holds(member, &met)).count();
            met.push(count >= group.threshold);
        }
        self.quorum.is_none_or(|quorum| holds(&quorum, &met))
    }

    /// Who has cosigned a checkpoint, and when (seconds since 1970).
    #[must_use]
    pub fn cosigners<'a>(&'a self, note: &Note) -> Vec<(&'a PolicyWitness, u64)> {
        let time = |witness: &'a PolicyWitness| Some((witness, note.verify_cosignature(&witness.key).ok()?));
        self.witnesses.iter().filter_map(time).collect()
    }
}

/// What has been defined so far.
#[derive(Default)]
struct Reading {
    names: HashMap<Vec<u8>, Member>,
    /// Names that are members of a group already.
    used: Vec<Vec<u8>>,
    has_quorum: bool,
}

impl Reading {
    fn define(&mut self, name: &[u8], member: Member) -> Result<(), String> {
        if name == b"none" || self.names.insert(name.to_owned(), member).is_some() {
            return Err(format!("the name `{}` is taken", text(name)));
        }
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<Member, String> {
        let member = self.names.get(name).copied();
        member.ok_or_else(|| format!("`{}` is not defined on a line before", text(name)))
    }

    /// A member of a group: each name in one group at most.
    fn take(&mut self, name: &[u8]) -> Result<Member, String> {
        let member = self.find(name)?;
        if self.used.iter().any(|used| used == name) {
            return Err(format!("`{}` is a member already", text(name)));
        }
        self.used.push(name.to_owned());
        Ok(member)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), String> {
    if list.len() >= MAX_DEFINED {
        return Err(format!("there are more than {MAX_DEFINED} of these"));
    }
    list.push(item);
    Ok(())
}

fn optional_url(words: &[&[u8]]) -> Result<Option<String>, String> {
    match words {
        [] => Ok(None),
        [url] => std::str::from_utf8(url)
            .map(|url| Some(url.to_owned()))
            .map_err(|_| "the URL is not UTF-8".to_owned()),
        _ => Err("there are too many words".to_owned()),
    }
}

fn parse_key(vkey: &[u8], kind: KeyKind) -> Result<VerifierKey, String> {
    let vkey = std::str::from_utf8(vkey).map_err(|_| "the vkey is not UTF-8".to_owned())?;
    let key = VerifierKey::parse(vkey).map_err(|error| error.to_string())?;
    if key.kind() == kind {
        return Ok(key);
    }
    Err(match kind {
        KeyKind::Ed25519 => "a log needs a vkey of type 01 (Ed25519)".to_owned(),
        KeyKind::Cosignature => "a witness needs a vkey of type 04 (cosignature)".to_owned(),
    })
}

#[cfg(test)]
mod tests;
