//! The snapshot: every table once, put together by id: a handful of queries, however many principals there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use identity::scram::ScramVerifier;
use identity::{Credential, Principal, Role, SshKey, SshPublicKey, TokenDigest};
use rusqlite::{Connection, Row};
use session::{Secret, Snapshot, Target};
use vocabulary::{CredentialId, Name, PrincipalId, PrincipalKind, TargetId, TargetKind, Timestamp};

use super::Place;
use super::targets::{seal_error, secret_place};
use crate::error::StoreError;
use crate::key_file::Environment;
use crate::seal::NodeKey;

/// SQLite has no unsigned numbers; times beyond the year 294,000 are that year.
pub(super) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp(u64::try_from(micros).unwrap_or(0))
}

pub(super) fn kind(text: &str) -> Option<PrincipalKind> {
    [PrincipalKind::Agent, PrincipalKind::Person, PrincipalKind::Service]
        .into_iter()
        .find(|kind| kind.as_str() == text)
}

type Id = [u8; 16];

/// Reads one table.
struct Reader<'a> {
    connection: &'a Connection,
    place: &'a Place,
}

impl Reader<'_> {
    fn rows<T>(
        &self,
        sql: &str,
        row: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.place.of(self.connection.prepare_cached(sql))?;
        self.place.of(statement.query_map([], row).and_then(Iterator::collect))
    }

    fn name(&self, text: &str) -> Result<Name, StoreError> {
        text.parse().map_err(|_| self.place.corrupt("a name that is none"))
    }

    /// Values by the id that they belong to.
    fn grouped<T>(
        &self,
        sql: &str,
        mut value: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<HashMap<Id, Vec<T>>, StoreError> {
        let mut groups: HashMap<Id, Vec<T>> = HashMap::new();
        for (id, value) in self.rows(sql, |row| Ok((row.get::<_, Id>(0)?, value(row)?)))? {
            groups.entry(id).or_default().push(value);
        }
        Ok(groups)
    }
}

pub(super) fn snapshot(
    connection: &Connection,
    place: &Place,
    key: &NodeKey,
    environment: Environment,
) -> Result<Snapshot, StoreError> {
    let reader = Reader { connection, place };
    let revision: i64 =
        place.of(connection.query_one("SELECT revision FROM installation", [], |row| row.get(0)))?;
    Ok(Snapshot {
        principals: principals(&reader)?,
        targets: targets(&reader, key, environment)?,
        policy: Arc::default(),
        revision: u64::try_from(revision).unwrap_or(0),
    })
}

fn principals(reader: &Reader<'_>) -> Result<HashMap<Name, Arc<Principal>>, StoreError> {
    let mut groups = reader.grouped("SELECT principal, name FROM principal_groups ORDER BY name", |row| {
        row.get::<_, String>(1)
    })?;
    let mut roles =
        reader.grouped("SELECT principal, role FROM principal_roles", |row| row.get::<_, String>(1))?;
    let mut credentials = reader.grouped(
        "SELECT c.principal, c.id, p.salt, c.iterations, c.stored_key, c.server_key, c.token_digest,
                c.created_at, c.expires_at, c.revoked_at
         FROM credentials c JOIN principals p ON p.id = c.principal ORDER BY c.created_at DESC, c.id DESC",
        credential,
    )?;
    let mut ssh_keys = reader.grouped(
        "SELECT principal, id, key, created_at, expires_at, revoked_at FROM ssh_keys
         ORDER BY created_at DESC, id DESC",
        ssh_key,
    )?;
    let rows = reader.rows(
        "SELECT self.id, self.kind, self.name, person.name, self.disabled OR coalesce(person.disabled, 0)
         FROM principals self LEFT JOIN principals person ON person.id = self.on_behalf_of",
        |row| {
            let texts: (String, String, Option<String>) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get::<_, Id>(0)?, texts, row.get::<_, bool>(4)?))
        },
    )?;
    let mut principals = HashMap::with_capacity(rows.len());
    for (id, (kind_text, name, person), disabled) in rows {
        let name = reader.name(&name)?;
        let names = groups.remove(&id).unwrap_or_default();
        let mut roles: Vec<Role> =
            roles.remove(&id).unwrap_or_default().iter().filter_map(|role| role.parse().ok()).collect();
        roles.sort_unstable();
        let principal = Principal {
            id: PrincipalId::from_bytes(id),
            kind: kind(&kind_text).ok_or_else(|| reader.place.corrupt("a kind that is none"))?,
            name: name.clone(),
            on_behalf_of: person.map(|person| reader.name(&person)).transpose()?,
            groups: names.iter().map(|group| reader.name(group)).collect::<Result<_, _>>()?,
            roles,
            disabled,
            credentials: credentials.remove(&id).unwrap_or_default(),
            ssh_keys: ssh_keys.remove(&id).unwrap_or_default().into_iter().flatten().collect(),
        };
        principals.insert(name, Arc::new(principal));
    }
    Ok(principals)
}

fn credential(row: &Row<'_>) -> Result<Credential, rusqlite::Error> {
    Ok(Credential {
        id: CredentialId::from_bytes(row.get(1)?),
        scram: ScramVerifier {
            salt: row.get(2)?,
            iterations: row.get(3)?,
            stored_key: row.get(4)?,
            server_key: row.get(5)?,
        },
        token_digest: TokenDigest(row.get(6)?),
        created_at: timestamp(row.get(7)?),
        expires_at: row.get::<_, Option<i64>>(8)?.map(timestamp),
        revoked_at: row.get::<_, Option<i64>>(9)?.map(timestamp),
    })
}

/// `None` for a key of an algorithm that this release does not take any more.
fn ssh_key(row: &Row<'_>) -> Result<Option<SshKey>, rusqlite::Error> {
    let id = CredentialId::from_bytes(row.get(1)?);
    let created_at = timestamp(row.get(3)?);
    let expires_at = row.get::<_, Option<i64>>(4)?.map(timestamp);
    let revoked_at = row.get::<_, Option<i64>>(5)?.map(timestamp);
    let key = SshPublicKey::from_blob(row.get(2)?).ok();
    Ok(key.map(|key| SshKey { id, key, created_at, expires_at, revoked_at }))
}

fn targets(
    reader: &Reader<'_>,
    key: &NodeKey,
    environment: Environment,
) -> Result<HashMap<Name, Arc<Target>>, StoreError> {
    let pair = |row: &Row<'_>| Ok((row.get::<_, String>(1)?, row.get::<_, String>(2)?));
    let mut labels = reader.grouped("SELECT target, key, value FROM target_labels", pair)?;
    let mut allow =
        reader.grouped("SELECT target, privilege FROM target_privileges", |row| row.get::<_, String>(1))?;
    let mut secrets =
        reader.grouped("SELECT target, field, sealed, variable FROM target_secrets", |row| {
            let stored = (row.get::<_, Option<Vec<u8>>>(2)?, row.get::<_, Option<String>>(3)?);
            Ok((row.get::<_, String>(1)?, stored))
        })?;
    let rows = reader.rows("SELECT id, name, kind, url FROM targets", |row| {
        let texts: (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get::<_, Id>(0)?, texts))
    })?;
    let mut targets = HashMap::with_capacity(rows.len());
    for (row, (name, kind, url)) in rows {
        let (id, name) = (TargetId::from_bytes(row), reader.name(&name)?);
        let kind = TargetKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let mut material = BTreeMap::new();
        for (field, stored) in secrets.remove(&row).unwrap_or_default() {
            let secret = match stored {
                (Some(sealed), _) => {
                    let opened = key.open(&secret_place(&id, &field), &sealed);
                    Some(opened.map_err(|source| seal_error(&name, &field, source))?.to_vec())
                }
                (None, Some(variable)) => {
                    let value = environment(&variable);
                    if value.is_none() {
                        // One target that can't be reached must not keep all others from working.
                        tracing::warn!(target = %name, %field, %variable, "the environment variable is not set; the target's login will fail until it is and the gateway is restarted");
                    }
                    // Empty, and not as if none were asked for: without its CA a target must not be trusted blindly.
                    Some(value.unwrap_or_default().into_bytes())
                }
                (None, None) => None,
            };
            if let Some(secret) = secret {
                material.insert(field, Secret::new(secret));
            }
        }
        let target = Target {
            id,
            name: name.clone(),
            kind: kind.ok_or_else(|| reader.place.corrupt("a kind of target that is not known"))?,
            url,
            material,
            labels: labels.remove(&row).unwrap_or_default().into_iter().collect(),
            allow: allow.remove(&row).unwrap_or_default().into_iter().collect::<BTreeSet<_>>(),
        };
        targets.insert(name, Arc::new(target));
    }
    Ok(targets)
}
