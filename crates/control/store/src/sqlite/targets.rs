//! Edits of targets.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};
use vocabulary::{Name, TargetId};

use super::edit::Transaction;
use super::read;
use crate::change::{Action, Subject};
use crate::error::StoreError;
use crate::request::NewTarget;
use crate::seal;
use crate::target_url::{Material, TargetUrlError};

/// The place of a target's secret, which it is sealed for.
pub(super) const fn secret_place<'a>(target: &'a TargetId, field: &'a str) -> seal::Place<'a> {
    seal::Place { table: "target_secrets", row: target.as_bytes(), field }
}

impl Transaction<'_> {
    pub(super) fn insert_target(&mut self, target: &NewTarget) -> Result<(), StoreError> {
        target.check()?;
        if self.target_id(&target.name)?.is_some() {
            return Err(StoreError::TargetExists(target.name.clone()));
        }
        let (unix_ms, random) = self.id_parts()?;
        let id = TargetId::from_parts(unix_ms, random);
        self.execute(
            "INSERT INTO targets (id, name, kind, url, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                id.as_bytes(),
                target.name.as_str(),
                target.url.kind().as_str(),
                target.url.to_string(),
                read::micros(self.now)
            ],
        )?;
        self.fill_target(&id, target, &HashMap::new())?;
        let after = self.target_state(&id)?;
        self.changed(Subject::Target, Action::Add, id.to_string(), &target.name, (None, Some(after)));
        Ok(())
    }

    pub(super) fn update_target(&mut self, target: &NewTarget) -> Result<(), StoreError> {
        target.check()?;
        let id = self.existing_target(&target.name)?;
        let before = self.target_state(&id)?;
        let sealed = self.sealed(&id)?;
        for table in ["target_labels", "target_privileges", "target_secrets"] {
            self.execute(&format!("DELETE FROM {table} WHERE target = ?1"), params![id.as_bytes()])?;
        }
        self.execute(
            "UPDATE targets SET kind = ?2, url = ?3 WHERE id = ?1",
            params![id.as_bytes(), target.url.kind().as_str(), target.url.to_string()],
        )?;
        self.fill_target(&id, target, &sealed)?;
        let after = self.target_state(&id)?;
        self.changed(
            Subject::Target,
            Action::Alter,
            id.to_string(),
            &target.name,
            (Some(before), Some(after)),
        );
        Ok(())
    }

    pub(super) fn delete_target(&mut self, name: &Name) -> Result<(), StoreError> {
        let id = self.existing_target(name)?;
        let before = self.target_state(&id)?;
        self.execute("DELETE FROM targets WHERE id = ?1", params![id.as_bytes()])?;
        self.changed(Subject::Target, Action::Remove, id.to_string(), name, (Some(before), None));
        Ok(())
    }

    /// `kept` has what was sealed before: the same secret stays as it is, so that putting the same target in
    /// twice changes nothing.
    fn fill_target(
        &self,
        id: &TargetId,
        target: &NewTarget,
        kept: &HashMap<String, Vec<u8>>,
    ) -> Result<(), StoreError> {
        for (key, value) in &target.labels {
            self.execute(
                "INSERT INTO target_labels (target, key, value) VALUES (?1, ?2, ?3)",
                params![id.as_bytes(), key, value],
            )?;
        }
        for privilege in &target.allow {
            self.execute(
                "INSERT INTO target_privileges (target, privilege) VALUES (?1, ?2)",
                params![id.as_bytes(), privilege],
            )?;
        }
        for (field, material) in target.url.material() {
            let (sealed, variable) = match material {
                Material::Content(secret) => {
                    let place = secret_place(id, field);
                    let same = |sealed: &&Vec<u8>| {
                        self.key.open(&place, sealed).is_ok_and(|known| known.as_slice() == secret.expose())
                    };
                    let sealed = match kept.get(field).filter(same) {
                        Some(sealed) => Ok(sealed.clone()),
                        None => self.key.seal(&place, secret.expose()),
                    };
                    (Some(sealed.map_err(|source| seal_error(&target.name, field, source))?), None)
                }
                Material::Env(variable) => {
                    if (self.environment)(variable).is_none() {
                        let (parameter, variable) = (field.clone(), variable.clone());
                        let error = TargetUrlError::NoVariable { parameter, variable };
                        return Err(StoreError::BadTarget(error.to_string()));
                    }
                    (None, Some(variable))
                }
                Material::File(_) => return Err(StoreError::UnreadFile(field.clone())),
            };
            self.execute(
                "INSERT INTO target_secrets (target, field, sealed, variable) VALUES (?1, ?2, ?3, ?4)",
                params![id.as_bytes(), field, sealed, variable],
            )?;
        }
        Ok(())
    }

    fn sealed(&self, id: &TargetId) -> Result<HashMap<String, Vec<u8>>, StoreError> {
        let mut statement = self.place.of(self.connection.prepare_cached(
            "SELECT field, sealed FROM target_secrets WHERE target = ?1 AND sealed IS NOT NULL",
        ))?;
        let rows = statement.query_map([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
        self.place.of(rows.and_then(Iterator::collect))
    }

    fn existing_target(&self, name: &Name) -> Result<TargetId, StoreError> {
        self.target_id(name)?.ok_or_else(|| StoreError::NoTarget(name.clone()))
    }

    fn target_id(&self, name: &Name) -> Result<Option<TargetId>, StoreError> {
        let mut statement =
            self.place.of(self.connection.prepare_cached("SELECT id FROM targets WHERE name = ?1"))?;
        let found = statement.query_one([name.as_str()], |row| row.get(0)).optional();
        Ok(self.place.of(found)?.map(TargetId::from_bytes))
    }

    /// What the trail may hold of a target. A changed secret shows as another fingerprint of what is sealed:
    /// random, so it tells nothing of the secret but that it was set anew.
    fn target_state(&self, id: &TargetId) -> Result<Value, StoreError> {
        let pairs = |sql: &str| -> Result<Vec<(String, String)>, StoreError> {
            let mut statement = self.place.of(self.connection.prepare_cached(sql))?;
            let rows = statement.query_map([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
            self.place.of(rows.and_then(Iterator::collect))
        };
        let url = pairs("SELECT kind, url FROM targets WHERE id = ?1")?;
        let labels = pairs("SELECT key, value FROM target_labels WHERE target = ?1")?;
        let allow = pairs("SELECT privilege, '' FROM target_privileges WHERE target = ?1")?;
        let secrets = pairs(
            "SELECT field, coalesce('env:' || variable, 'sealed:' || lower(hex(substr(sealed, 10, 12))))
             FROM target_secrets WHERE target = ?1",
        )?;
        let object = |pairs: Vec<(String, String)>| {
            pairs
                .into_iter()
                .map(|(key, value)| (key, Value::String(value)))
                .collect::<serde_json::Map<_, _>>()
        };
        let (kind, url) = url.into_iter().next().unwrap_or_default();
        Ok(json!({
            "kind": kind,
            "url": url,
            "labels": object(labels),
            "allow": allow.into_iter().map(|(privilege, _)| privilege).collect::<Vec<_>>(),
            "secrets": object(secrets),
        }))
    }
}

pub(super) fn seal_error(target: &Name, field: &str, source: seal::SealError) -> StoreError {
    StoreError::Seal { place: format!("`{field}` of target `{target}`"), source }
}
