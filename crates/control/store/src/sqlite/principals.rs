//! Edits of principals and their credentials.

use identity::scram::{SALT_LEN, ScramVerifier};
use identity::{Role, SshPublicKey, Token};
use rusqlite::{OptionalExtension, params};
use serde_json::{Value, json};
use vocabulary::{CredentialId, Name, PrincipalId, PrincipalKind, Timestamp};

use super::edit::Transaction;
use super::read;
use crate::change::Action;
use crate::error::StoreError;
use crate::request::{MAX_GROUPS, MAX_SSH_KEYS, Minted, NewPrincipal};

/// Credentials kept per principal, revoked and expired ones included, so that the trail can name the token
/// that somebody still tries. With more, the oldest go; one that still had a grace ends then.
pub const MAX_CREDENTIALS: usize = 8;

impl Transaction<'_> {
    pub(super) fn insert_principal(&mut self, new: &NewPrincipal) -> Result<Minted, StoreError> {
        if let Some((_, kind)) = self.find(&new.name)? {
            return Err(StoreError::PrincipalExists { name: new.name.clone(), kind });
        }
        check_groups(&new.groups)?;
        if !new.roles.is_empty() && new.kind != PrincipalKind::Person {
            return Err(StoreError::RolesForPersonsOnly(new.kind));
        }
        let acts_for = new.on_behalf_of.as_ref().map(|person| self.acts_for(new.kind, person)).transpose()?;
        let (unix_ms, random) = self.id_parts()?;
        let id = PrincipalId::from_parts(unix_ms, random);
        let salt = ScramVerifier::random_salt().ok_or(StoreError::NoRandomness)?;
        self.execute(
            "INSERT INTO principals (id, kind, name, on_behalf_of, salt, disabled, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
            params![
                id.as_bytes(),
                new.kind.as_str(),
                new.name.as_str(),
                acts_for.as_ref().map(PrincipalId::as_bytes),
                salt,
                read::micros(self.now)
            ],
        )?;
        self.fill_groups(id, &new.groups)?;
        self.fill_roles(id, &new.roles)?;
        let minted = self.mint(id, salt, new.expires_at)?;
        self.fill_ssh_keys(id, &new.ssh_keys, new.expires_at)?;
        self.note(new.kind, Action::Add, id, &new.name, None)?;
        Ok(minted)
    }

    pub(super) fn rotate_tokens(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        expires_at: Option<Timestamp>,
        old_until: Timestamp,
    ) -> Result<Minted, StoreError> {
        let id = self.existing(kind, name)?;
        let before = self.principal_state(id)?;
        let salt: [u8; SALT_LEN] = self.place.of(self.connection.query_one(
            "SELECT salt FROM principals WHERE id = ?1",
            [id.as_bytes()],
            |row| row.get(0),
        ))?;
        // What ends sooner anyway, by an earlier rotation, stays as it is.
        self.execute(
            "UPDATE credentials SET revoked_at = min(coalesce(revoked_at, ?2), ?2) WHERE principal = ?1",
            params![id.as_bytes(), read::micros(old_until.max(self.now))],
        )?;
        let minted = self.mint(id, salt, expires_at)?;
        self.execute(
            "DELETE FROM credentials WHERE principal = ?1 AND id NOT IN
             (SELECT id FROM credentials WHERE principal = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2)",
            params![id.as_bytes(), i64::try_from(MAX_CREDENTIALS).unwrap_or(i64::MAX)],
        )?;
        self.note(kind, Action::Rotate, id, name, Some(before))?;
        Ok(minted)
    }

    pub(super) fn revoke_token(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        credential: CredentialId,
    ) -> Result<(), StoreError> {
        let id = self.existing(kind, name)?;
        let before = self.principal_state(id)?;
        let found = self.execute(
            "UPDATE credentials SET revoked_at = min(coalesce(revoked_at, ?3), ?3)
             WHERE principal = ?1 AND id = ?2",
            params![id.as_bytes(), credential.as_bytes(), read::micros(self.now)],
        )?;
        if found == 0 {
            return Err(StoreError::NoCredential { kind, name: name.clone(), credential });
        }
        self.note(kind, Action::Revoke, id, name, Some(before))
    }

    pub(super) fn update_disabled(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        disabled: bool,
    ) -> Result<(), StoreError> {
        let id = self.existing(kind, name)?;
        let before = self.principal_state(id)?;
        self.execute("UPDATE principals SET disabled = ?2 WHERE id = ?1", params![id.as_bytes(), disabled])?;
        let action = if disabled { Action::Disable } else { Action::Enable };
        self.note(kind, action, id, name, Some(before))
    }

    pub(super) fn replace_groups(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        groups: &[Name],
    ) -> Result<(), StoreError> {
        check_groups(groups)?;
        let id = self.existing(kind, name)?;
        let before = self.principal_state(id)?;
        self.execute("DELETE FROM principal_groups WHERE principal = ?1", [id.as_bytes()])?;
        self.fill_groups(id, groups)?;
        self.note(kind, Action::Alter, id, name, Some(before))
    }

    pub(super) fn replace_ssh_keys(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        keys: &[SshPublicKey],
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let id = self.existing(kind, name)?;
        let before = self.principal_state(id)?;
        // A key that is gone ends the sessions that it proved.
        self.execute("DELETE FROM ssh_keys WHERE principal = ?1", [id.as_bytes()])?;
        self.fill_ssh_keys(id, keys, expires_at)?;
        self.note(kind, Action::Alter, id, name, Some(before))
    }

    fn fill_ssh_keys(
        &self,
        principal: PrincipalId,
        keys: &[SshPublicKey],
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if keys.len() > MAX_SSH_KEYS {
            return Err(StoreError::TooManySshKeys(MAX_SSH_KEYS));
        }
        for key in keys {
            let (unix_ms, random) = self.id_parts()?;
            let added = self.execute(
                "INSERT INTO ssh_keys (id, principal, key, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
                params![
                    CredentialId::from_parts(unix_ms, random).as_bytes(),
                    principal.as_bytes(),
                    key.blob(),
                    read::micros(self.now),
                    expires_at.map(read::micros)
                ],
            )?;
            if added == 0 {
                return Err(StoreError::SshKeyTaken(key.fingerprint()));
            }
        }
        Ok(())
    }

    pub(super) fn replace_roles(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        roles: &[Role],
    ) -> Result<(), StoreError> {
        let id = self.existing(kind, name)?;
        if !roles.is_empty() && kind != PrincipalKind::Person {
            return Err(StoreError::RolesForPersonsOnly(kind));
        }
        let before = self.principal_state(id)?;
        self.execute("DELETE FROM principal_roles WHERE principal = ?1", [id.as_bytes()])?;
        self.fill_roles(id, roles)?;
        self.note(kind, Action::Alter, id, name, Some(before))
    }

    pub(super) fn delete_principal(&mut self, kind: PrincipalKind, name: &Name) -> Result<(), StoreError> {
        let id = self.existing(kind, name)?;
        let agents = self.texts("SELECT name FROM principals WHERE on_behalf_of = ?1 ORDER BY name", id)?;
        if !agents.is_empty() {
            let agents = agents.iter().filter_map(|agent| agent.parse().ok()).collect();
            return Err(StoreError::ActedFor { name: name.clone(), agents });
        }
        let before = self.principal_state(id)?;
        self.execute("DELETE FROM principals WHERE id = ?1", [id.as_bytes()])?;
        self.changed(kind.into(), Action::Remove, id.to_string(), name, (Some(before), None));
        Ok(())
    }

    /// Mints a token and keeps its verifiers.
    fn mint(
        &self,
        principal: PrincipalId,
        salt: [u8; SALT_LEN],
        expires_at: Option<Timestamp>,
    ) -> Result<Minted, StoreError> {
        if let Some(past) = expires_at.filter(|at| *at <= self.now) {
            return Err(StoreError::PastExpiry(past));
        }
        let token = Token::mint()?;
        let verifier = ScramVerifier::of_token(&token, salt);
        let (unix_ms, random) = self.id_parts()?;
        let credential = CredentialId::from_parts(unix_ms, random);
        self.execute(
            "INSERT INTO credentials
             (id, principal, iterations, stored_key, server_key, token_digest, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                credential.as_bytes(),
                principal.as_bytes(),
                verifier.iterations,
                verifier.stored_key,
                verifier.server_key,
                token.digest().0,
                read::micros(self.now),
                expires_at.map(read::micros)
            ],
        )?;
        Ok(Minted { principal, credential, expires_at, token })
    }

    fn fill_groups(&self, id: PrincipalId, groups: &[Name]) -> Result<(), StoreError> {
        for group in groups {
            self.execute(
                "INSERT OR IGNORE INTO principal_groups (principal, name) VALUES (?1, ?2)",
                params![id.as_bytes(), group.as_str()],
            )?;
        }
        Ok(())
    }

    fn fill_roles(&self, id: PrincipalId, roles: &[Role]) -> Result<(), StoreError> {
        for role in roles {
            self.execute(
                "INSERT OR IGNORE INTO principal_roles (principal, role) VALUES (?1, ?2)",
                params![id.as_bytes(), role.as_str()],
            )?;
        }
        Ok(())
    }

    /// The person that somebody of this kind would act for.
    fn acts_for(&self, kind: PrincipalKind, person: &Name) -> Result<PrincipalId, StoreError> {
        if kind == PrincipalKind::Person {
            return Err(StoreError::PersonForPerson);
        }
        match self.find(person)? {
            Some((id, PrincipalKind::Person)) => Ok(id),
            Some((_, kind)) => Err(StoreError::ActsForNoPerson { name: person.clone(), kind }),
            None => Err(StoreError::NoPerson(person.clone())),
        }
    }

    fn existing(&self, kind: PrincipalKind, name: &Name) -> Result<PrincipalId, StoreError> {
        match self.find(name)? {
            Some((id, found)) if found == kind => Ok(id),
            Some((_, found)) => Err(StoreError::OtherKind { name: name.clone(), asked: kind, found }),
            None => Err(StoreError::NoPrincipal { kind, name: name.clone() }),
        }
    }

    fn find(&self, name: &Name) -> Result<Option<(PrincipalId, PrincipalKind)>, StoreError> {
        let mut statement = self
            .place
            .of(self.connection.prepare_cached("SELECT id, kind FROM principals WHERE name = ?1"))?;
        let found = statement
            .query_one([name.as_str()], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
            .optional();
        let Some((id, kind)) = self.place.of(found)? else { return Ok(None) };
        let kind = read::kind(&kind).ok_or_else(|| self.place.corrupt(format!("kind of `{name}`")))?;
        Ok(Some((PrincipalId::from_bytes(id), kind)))
    }

    fn note(
        &mut self,
        kind: PrincipalKind,
        action: Action,
        id: PrincipalId,
        name: &Name,
        before: Option<Value>,
    ) -> Result<(), StoreError> {
        let after = self.principal_state(id)?;
        self.changed(kind.into(), action, id.to_string(), name, (before, Some(after)));
        Ok(())
    }

    /// What the trail may hold of a principal: of its credentials only id and times.
    fn principal_state(&self, id: PrincipalId) -> Result<Value, StoreError> {
        let (on_behalf_of, disabled): (Option<String>, bool) = self.place.of(self.connection.query_one(
            "SELECT person.name, self.disabled FROM principals self
             LEFT JOIN principals person ON person.id = self.on_behalf_of WHERE self.id = ?1",
            [id.as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        ))?;
        let mut statement = self.place.of(self.connection.prepare_cached(
            "SELECT id, created_at, expires_at, revoked_at FROM credentials WHERE principal = ?1
             ORDER BY created_at, id",
        ))?;
        let rows = statement.query_map([id.as_bytes()], |row| {
            Ok(json!({
                "id": CredentialId::from_bytes(row.get(0)?),
                "created_at": read::timestamp(row.get(1)?),
                "expires_at": row.get::<_, Option<i64>>(2)?.map(read::timestamp),
                "revoked_at": row.get::<_, Option<i64>>(3)?.map(read::timestamp),
            }))
        });
        let credentials: Vec<Value> = self.place.of(rows.and_then(Iterator::collect))?;
        let mut state = json!({
            "on_behalf_of": on_behalf_of,
            "groups": self.texts("SELECT name FROM principal_groups WHERE principal = ?1 ORDER BY name", id)?,
            "roles": self.texts("SELECT role FROM principal_roles WHERE principal = ?1 ORDER BY role", id)?,
            "disabled": disabled,
            "credentials": credentials,
        });
        let keys = self.ssh_keys(id)?;
        if let (Some(fields), false) = (state.as_object_mut(), keys.is_empty()) {
            fields.insert("ssh_keys".to_owned(), keys.into());
        }
        Ok(state)
    }

    fn ssh_keys(&self, id: PrincipalId) -> Result<Vec<Value>, StoreError> {
        let mut statement = self.place.of(self.connection.prepare_cached(
            "SELECT id, key, created_at, expires_at FROM ssh_keys WHERE principal = ?1 ORDER BY created_at, id",
        ))?;
        let rows = statement.query_map([id.as_bytes()], |row| {
            Ok(json!({
                "id": CredentialId::from_bytes(row.get(0)?),
                "fingerprint": SshPublicKey::from_blob(row.get(1)?).ok().map(|key| key.fingerprint()),
                "created_at": read::timestamp(row.get(2)?),
                "expires_at": row.get::<_, Option<i64>>(3)?.map(read::timestamp),
            }))
        });
        self.place.of(rows.and_then(Iterator::collect))
    }

    fn texts(&self, sql: &str, id: PrincipalId) -> Result<Vec<String>, StoreError> {
        let mut statement = self.place.of(self.connection.prepare_cached(sql))?;
        let rows = statement.query_map([id.as_bytes()], |row| row.get(0));
        self.place.of(rows.and_then(Iterator::collect))
    }
}

fn check_groups(groups: &[Name]) -> Result<(), StoreError> {
    if groups.len() > MAX_GROUPS { Err(StoreError::TooManyGroups(MAX_GROUPS)) } else { Ok(()) }
}
