//! The control state of a gateway: targets, principals, groups, credentials, policies.
//!
//! [`ControlStore`] is the interface; [`SqliteStore`] keeps the state in one file, `DATA/control.db`. All calls
//! block and belong on a control thread: the data path only ever sees the [`session::Snapshot`] that
//! [`ControlStore::snapshot`] makes.
//!
//! *Invariants.*
//! - Nothing changes unrecorded: [`ControlStore::change`] hands every [`Change`] to the caller's recorder inside
//!   the transaction, and rolls back if it can't be recorded.
//! - A token is kept only as verifiers; a target's secrets are sealed ([`seal`]) or referred to (`env:NAME`).
//!   No `Debug`, error or [`Change`] shows either.

pub mod change;
pub mod error;
pub mod expiry;
pub mod key_file;
pub mod request;
pub mod reviews;
pub mod seal;
pub mod sqlite;
pub mod target_url;

use session::Snapshot;
use vocabulary::{CredentialId, Name, PrincipalKind, Timestamp};

pub use change::{Action, Change, Subject};
pub use error::StoreError;
pub use expiry::{DEFAULT_AGENT_LIFETIME, Expiry};
pub use key_file::KeySource;
pub use request::{AppliedPolicy, Minted, NewPolicy, NewPrincipal, NewTarget};
pub use reviews::{Delivered, Delivery, NewDelivery, ReviewStore, StoredReview};
pub use seal::NodeKey;
pub use sqlite::SqliteStore;
pub use target_url::{TargetUrl, TargetUrlError};

/// Why a change could not be recorded.
pub type RecordError = Box<dyn std::error::Error + Send + Sync>;

/// Writes a change to the trail and returns when it is durable.
pub type Recorder<'a> = dyn FnMut(&Change) -> Result<(), RecordError> + 'a;

/// Where the control state lives.
pub trait ControlStore: ReviewStore + Send {
    /// Runs `work` in one transaction: all of it happens, or none.
    ///
    /// Every change goes to `record` *before* the commit. If recording fails, nothing has changed. If the
    /// commit itself fails after that, the trail names a change that did not happen: the error is then
    /// [`StoreError::NotCommitted`], and the caller records that too.
    ///
    /// # Errors
    /// What `work` returns, [`StoreError::NotRecorded`], or the database's own.
    fn change(
        &mut self,
        now: Timestamp,
        work: &mut dyn FnMut(&mut dyn Edit) -> Result<(), StoreError>,
        record: &mut Recorder<'_>,
    ) -> Result<Vec<Change>, StoreError>;

    /// The whole state, for the data path. Opens every sealed secret.
    ///
    /// # Errors
    /// If the database can't be read or a sealed value can't be opened.
    fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Policies that were applied, newest first, at most so many; the first is in force. None if `observe` is, from the
    /// beginning.
    ///
    /// # Errors
    /// If the database can't be read.
    fn policies(&self, most: usize) -> Result<Vec<AppliedPolicy>, StoreError>;
}

/// [`ControlStore::change`] with a result.
///
/// # Errors
/// As [`ControlStore::change`].
pub fn change<T>(
    store: &mut dyn ControlStore,
    now: Timestamp,
    mut work: impl FnMut(&mut dyn Edit) -> Result<T, StoreError>,
    record: &mut Recorder<'_>,
) -> Result<T, StoreError> {
    let mut result = None;
    store.change(
        now,
        &mut |edit| {
            result = Some(work(edit)?);
            Ok(())
        },
        record,
    )?;
    result.ok_or(StoreError::Nothing)
}

/// What can be done inside a transaction. Each call that changes something adds a [`Change`]; one that would
/// change nothing (disabling what is disabled) adds none.
pub trait Edit {
    /// Adds a target.
    ///
    /// # Errors
    /// If the name is taken, or a secret still has to be read from a file ([`TargetUrl::read_files`]).
    fn add_target(&mut self, target: &NewTarget) -> Result<(), StoreError>;

    /// Replaces a target's URL, secrets, labels and privileges; its id stays.
    ///
    /// # Errors
    /// If there is none of that name.
    fn replace_target(&mut self, target: &NewTarget) -> Result<(), StoreError>;

    /// Removes a target and its secrets.
    ///
    /// # Errors
    /// If there is none of that name.
    fn remove_target(&mut self, name: &Name) -> Result<(), StoreError>;

    /// Adds a principal and mints its first token.
    ///
    /// # Errors
    /// If the name is taken, the person it acts for does not exist, or the kind can't have what is asked for.
    fn add_principal(&mut self, principal: &NewPrincipal) -> Result<Minted, StoreError>;

    /// Mints a new token. The old ones are revoked from `old_until` on: now, or later where a grace is wanted.
    ///
    /// # Errors
    /// If there is no such principal.
    fn rotate(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        expires_at: Option<Timestamp>,
        old_until: Timestamp,
    ) -> Result<Minted, StoreError>;

    /// Revokes one credential now.
    ///
    /// # Errors
    /// If the principal has none of that id.
    fn revoke(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        credential: CredentialId,
    ) -> Result<(), StoreError>;

    /// Shuts a principal out, or lets it in again. A disabled person's agents are shut out with it.
    ///
    /// # Errors
    /// If there is no such principal.
    fn set_disabled(&mut self, kind: PrincipalKind, name: &Name, disabled: bool) -> Result<(), StoreError>;

    /// Puts a principal in exactly these groups.
    ///
    /// # Errors
    /// If there is no such principal.
    fn set_groups(&mut self, kind: PrincipalKind, name: &Name, groups: &[Name]) -> Result<(), StoreError>;

    /// Gives a principal exactly these public keys for SSH; new ones expire at `expires_at`.
    ///
    /// # Errors
    /// If there is no such principal, or a key belongs to another.
    fn set_ssh_keys(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        keys: &[identity::SshPublicKey],
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Gives a person exactly these roles.
    ///
    /// # Errors
    /// If there is no such principal, or it is no person.
    fn set_roles(
        &mut self,
        kind: PrincipalKind,
        name: &Name,
        roles: &[identity::Role],
    ) -> Result<(), StoreError>;

    /// Removes a principal and its credentials.
    ///
    /// # Errors
    /// If there is no such principal, or others act for it.
    fn remove_principal(&mut self, kind: PrincipalKind, name: &Name) -> Result<(), StoreError>;

    /// Puts a policy in force; the one before stays in the history.
    ///
    /// # Errors
    /// If its text is no policy.
    fn apply_policy(&mut self, policy: &NewPolicy) -> Result<(), StoreError>;
}
