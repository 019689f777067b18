//! Policies: which is in force, and which were before.

use std::sync::Arc;

use policy::{Policy, shipped};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use vocabulary::{Name, PolicyHash};

use super::edit::Transaction;
use super::{Place, read};
use crate::change::{Action, Subject};
use crate::error::StoreError;
use crate::request::{AppliedPolicy, NewPolicy};

/// What is needed of the policy in force.
struct Latest {
    number: i64,
    name: String,
    hash: PolicyHash,
    source: String,
}

impl Transaction<'_> {
    pub(super) fn insert_policy(&mut self, new: &NewPolicy) -> Result<(), StoreError> {
        let compiled = Policy::parse(&new.source).map_err(StoreError::BadPolicy)?;
        let hash = compiled.hash();
        let latest = latest(self.connection, self.place)?;
        let before = match &latest {
            Some(latest) => state(&latest.name, latest.hash),
            None => state(shipped::OBSERVE, Policy::observe().hash()),
        };
        let after = state(new.name.as_str(), hash);
        if before == after {
            return Ok(());
        }
        let number = latest.map_or(0, |latest| latest.number) + 1;
        self.execute(
            "INSERT INTO policies (number, name, hash, source, applied_at, applied_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                number,
                new.name.as_str(),
                hash.0,
                new.source,
                read::micros(self.now),
                new.applied_by.as_str()
            ],
        )?;
        self.changed(
            Subject::Policy,
            Action::Apply,
            number.to_string(),
            &new.name,
            (Some(before), Some(after)),
        );
        Ok(())
    }
}

/// What the trail holds of a policy: its hash binds every word of it.
fn state(name: &str, hash: PolicyHash) -> Value {
    json!({ "name": name, "hash": hash })
}

fn latest(connection: &Connection, place: &Place) -> Result<Option<Latest>, StoreError> {
    let found = connection
        .query_one(
            "SELECT number, name, hash, source FROM policies ORDER BY number DESC LIMIT 1",
            [],
            |row| {
                Ok(Latest {
                    number: row.get(0)?,
                    name: row.get(1)?,
                    hash: PolicyHash(row.get(2)?),
                    source: row.get(3)?,
                })
            },
        )
        .optional();
    place.of(found)
}

/// The policy in force, compiled. `known` is the one of the last time, which most changes leave as it is.
pub(super) fn in_force(
    connection: &Connection,
    place: &Place,
    known: Option<&Arc<Policy>>,
) -> Result<Arc<Policy>, StoreError> {
    let Some(latest) = latest(connection, place)? else {
        return Ok(Arc::new(Policy::observe()));
    };
    if let Some(known) = known.filter(|known| known.hash() == latest.hash) {
        return Ok(Arc::clone(known));
    }
    match Policy::parse(&latest.source) {
        Ok(policy) if policy.hash() == latest.hash => Ok(Arc::new(policy)),
        // It was valid when it was applied, so another version of the gateway did that, or somebody edited the file.
        // To let everything through would be worse than to stand still, and an administrator can apply another one.
        Ok(_) => Ok(locked(&latest.name, "its text does not have the hash that it was applied with")),
        Err(error) => Ok(locked(&latest.name, &error.to_string())),
    }
}

fn locked(name: &str, reason: &str) -> Arc<Policy> {
    tracing::error!(policy = %name, %reason, "the policy in force can't be used, so `locked` is in force; apply a policy that this version understands: `trailgate policy apply FILE`");
    Arc::new(Policy::locked())
}

/// A row as it is stored: number, (name, who applied it), hash, source, when.
type Row = (i64, (String, String), [u8; 32], String, i64);

/// What was applied, newest first.
pub(super) fn history(
    connection: &Connection,
    place: &Place,
    most: usize,
) -> Result<Vec<AppliedPolicy>, StoreError> {
    let mut statement = place.of(connection.prepare_cached(
        "SELECT number, name, hash, source, applied_at, applied_by FROM policies ORDER BY number DESC LIMIT ?1",
    ))?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        let texts: (String, String) = (row.get(1)?, row.get(5)?);
        Ok((row.get::<_, i64>(0)?, texts, row.get(2)?, row.get(3)?, row.get(4)?))
    });
    let rows: Vec<Row> = place.of(rows.and_then(Iterator::collect))?;
    let name = |text: &str| text.parse::<Name>().map_err(|_| place.corrupt("a name that is none"));
    rows.into_iter()
        .map(|(number, (policy, by), hash, source, at)| {
            Ok(AppliedPolicy {
                number: u64::try_from(number).unwrap_or_default(),
                name: name(&policy)?,
                hash: PolicyHash(hash),
                source,
                applied_at: read::timestamp(at),
                applied_by: name(&by)?,
            })
        })
        .collect()
}
