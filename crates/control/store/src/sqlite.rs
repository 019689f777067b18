//! The control state in one SQLite file.
//!
//! The file is 0600, in WAL mode with `synchronous=FULL` (a commit survives the loss of power), and overwrites
//! what is deleted. Schema changes are migrations in `migrations/`, applied in one transaction when it opens.

mod edit;
mod policies;
mod principals;
mod read;
mod reviews;
mod targets;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use policy::Policy;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};
use session::Snapshot;
use vocabulary::Timestamp;

use crate::change::Change;
use crate::error::StoreError;
use crate::key_file::Environment;
use crate::request::AppliedPolicy;
use crate::seal::{KeyId, NodeKey};
use crate::{ControlStore, Edit, Recorder};

/// How long to wait for another process that writes, before giving up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const STEPS: &[M<'_>] = &[
    M::up(include_str!("../migrations/0001_control_state.sql")),
    M::up(include_str!("../migrations/0002_policies.sql")),
    M::up(include_str!("../migrations/0003_reviews.sql")),
    M::up(include_str!("../migrations/0004_ssh_keys.sql")),
];

/// The schema, step by step. A step that was released is never edited.
const MIGRATIONS: Migrations<'_> = Migrations::from_slice(STEPS);

/// Control state in a file. Blocks; belongs on a control thread.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    place: Place,
    key: NodeKey,
    environment: Environment,
    /// The policy of the last snapshot: compiling one takes milliseconds, and most changes are of something else.
    policy: RefCell<Option<Arc<Policy>>>,
}

impl SqliteStore {
    /// Opens the database, or makes it. `environment` is where `env:` references are looked up:
    /// [`crate::key_file::process_environment`].
    ///
    /// # Errors
    /// If others can read the file, it is damaged, newer than this version, or sealed under another key.
    pub fn open(path: &Path, key: NodeKey, environment: Environment) -> Result<Self, StoreError> {
        let place = Place(path.to_owned());
        secure(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = place.of(Connection::open_with_flags(path, flags))?;
        place.of(prepare(&connection))?;
        place.check(&connection)?;
        MIGRATIONS.to_latest(&mut connection).map_err(|error| place.migration(error))?;
        let given = key.id();
        place.of(connection.execute(
            "INSERT INTO installation (one, revision, key_id) VALUES (1, 0, ?1) ON CONFLICT DO NOTHING",
            params![given.0],
        ))?;
        let written: [u8; 8] =
            place.of(connection.query_one("SELECT key_id FROM installation", [], |row| row.get(0)))?;
        if written != given.0 {
            let expected = KeyId(written).to_string();
            return Err(StoreError::WrongKey { path: place.0, expected, given: given.to_string() });
        }
        Ok(Self { connection, place, key, environment, policy: RefCell::default() })
    }
}

impl ControlStore for SqliteStore {
    fn change(
        &mut self,
        now: Timestamp,
        work: &mut dyn FnMut(&mut dyn Edit) -> Result<(), StoreError>,
        record: &mut Recorder<'_>,
    ) -> Result<Vec<Change>, StoreError> {
        let place = &self.place;
        // Dropped without a commit, the transaction rolls back.
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = place.of(transaction)?;
        let mut edit = edit::Transaction {
            connection: &transaction,
            place,
            key: &self.key,
            environment: self.environment,
            now,
            changes: Vec::new(),
        };
        work(&mut edit)?;
        let changes = edit.changes;
        if changes.is_empty() {
            return Ok(changes);
        }
        place.of(transaction.execute("UPDATE installation SET revision = revision + 1", []))?;
        for change in &changes {
            record(change).map_err(StoreError::NotRecorded)?;
        }
        transaction.commit().map_err(StoreError::NotCommitted)?;
        Ok(changes)
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        // One transaction, so that all tables are of the same moment.
        let transaction = self.place.of(self.connection.unchecked_transaction())?;
        let mut snapshot = read::snapshot(&transaction, &self.place, &self.key, self.environment)?;
        let mut known = self.policy.borrow_mut();
        snapshot.policy = policies::in_force(&transaction, &self.place, known.as_ref())?;
        *known = Some(Arc::clone(&snapshot.policy));
        Ok(snapshot)
    }

    fn policies(&self, most: usize) -> Result<Vec<AppliedPolicy>, StoreError> {
        policies::history(&self.connection, &self.place, most)
    }
}

/// Makes the file 0600 before SQLite does it with everybody's umask; refuses one that others may read. The
/// files beside it (`-wal`, `-shm`) get its mode from SQLite.
fn secure(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(failed)?;
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Permissions { path: path.to_owned(), mode }) }
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A removed secret leaves no trace in free pages.
    connection.pragma_update(None, "secure_delete", true)?;
    // Nothing inside the file may call functions of ours.
    connection.pragma_update(None, "trusted_schema", false)
}

/// Where the database is, to say so in errors.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    /// Gives the database's error a sentence.
    fn of<T>(&self, result: Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        result.map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        let path = self.0.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, detail: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path),
            Some(ErrorCode::DiskFull) => StoreError::Full(path),
            _ => StoreError::Database { path, source },
        }
    }

    fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.0.clone(), detail: detail.into() }
    }

    /// The file is small, so looking it all through costs milliseconds.
    fn check(&self, connection: &Connection) -> Result<(), StoreError> {
        let found: String = self.of(connection.query_one("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if found == "ok" { Ok(()) } else { Err(self.corrupt(found)) }
    }

    fn migration(&self, error: rusqlite_migration::Error) -> StoreError {
        let path = self.0.clone();
        match error {
            rusqlite_migration::Error::MigrationDefinition(
                rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
            ) => StoreError::Newer(path),
            rusqlite_migration::Error::RusqliteError { err, .. } => self.error(err),
            source => StoreError::Migration { path, source },
        }
    }
}
