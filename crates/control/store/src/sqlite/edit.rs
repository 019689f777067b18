//! What is common to all edits: the transaction, the list of changes, ids.

use aws_lc_rs::rand;
use identity::{Role, SshPublicKey};
use rusqlite::Connection;
use serde_json::Value;
use vocabulary::{CredentialId, Name, PrincipalKind, Timestamp};

use super::Place;
use crate::Edit;
use crate::change::{Action, Change, Subject};
use crate::error::StoreError;
use crate::key_file::Environment;
use crate::request::{Minted, NewPolicy, NewPrincipal, NewTarget};
use crate::seal::NodeKey;

/// An open transaction and what has changed in it.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) place: &'a Place,
    pub(super) key: &'a NodeKey,
    pub(super) environment: Environment,
    pub(super) now: Timestamp,
    pub(super) changes: Vec<Change>,
}

impl Transaction<'_> {
    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.place.of(self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params)))
    }

    /// Notes a change, unless nothing changed.
    pub(super) fn changed(
        &mut self,
        subject: Subject,
        action: Action,
        id: String,
        name: &Name,
        (before, after): (Option<Value>, Option<Value>),
    ) {
        if before != after {
            self.changes.push(Change { subject, action, id, name: name.clone(), before, after });
        }
    }

    /// Time and randomness of a new id.
    pub(super) fn id_parts(&self) -> Result<(u64, [u8; 10]), StoreError> {
        let mut random = [0; 10];
        rand::fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
        Ok((self.now.unix_ms(), random))
    }
}

impl Edit for Transaction<'_> {
    fn add_target(&mut self, target: &NewTarget) -> Result<(), StoreError> {
        self.insert_target(target)
    }

    fn replace_target(&mut self, target: &NewTarget) -> Result<(), StoreError> {
        self.update_target(target)
    }

    fn remove_target(&mut self, name: &Name) -> Result<(), StoreError> {
        self.delete_target(name)
    }

    fn add_principal(&mut self, principal: &NewPrincipal) -> Result<Minted, StoreError> {
        self.insert_principal(principal)
    }

    fn rotate(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        expires_at: Option<Timestamp>,
        old_until: Timestamp,
    ) -> Result<Minted, StoreError> {
        self.rotate_tokens(kind, name, expires_at, old_until)
    }

    fn revoke(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        credential: CredentialId,
    ) -> Result<(), StoreError> {
        self.revoke_token(kind, name, credential)
    }

    fn set_disabled(&mut self, kind: PrincipalKind, name: &Name, disabled: bool) -> Result<(), StoreError> {
        self.update_disabled(kind, name, disabled)
    }

    fn set_groups(&mut self, kind: PrincipalKind, name: &Name, groups: &[Name]) -> Result<(), StoreError> {
        self.replace_groups(kind, name, groups)
    }

    fn set_ssh_keys(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        keys: &[SshPublicKey],
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.replace_ssh_keys(kind, name, keys, expires_at)
    }

    fn set_roles(&mut self, kind: PrincipalKind, name: &Name, roles: &[Role]) -> Result<(), StoreError> {
        self.replace_roles(kind, name, roles)
    }

    fn remove_principal(&mut self, kind: PrincipalKind, name: &Name) -> Result<(), StoreError> {
        self.delete_principal(kind, name)
    }

    fn apply_policy(&mut self, policy: &NewPolicy) -> Result<(), StoreError> {
        self.insert_policy(policy)
    }
}
