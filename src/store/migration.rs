//! The schema, brought up to date.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::{MIGRATOR, StoreError, UrlError, connect_options};
use crate::secret::DatabaseUrl;

/// How long a migration waits for a lock: that of another migration, or a
/// table's.
const MIGRATION_LOCK_MAX: Duration = Duration::from_mins(1);

/// Brings the schema up to date. One that a newer version has brought further is left
/// as it is: migrations only expand, and an older replica that starts beside newer
/// ones, during an upgrade or on the way back from one, goes along with it. Replicas that do so at once wait for each
/// other, for at most a minute. It locks by session: the URL must lead to
/// Postgres itself.
///
/// # Errors
/// If the database cannot be reached, a lock is not free in time, or a migration
/// fails. What one did that failed is undone; run again, it goes on from there.
pub async fn migrate(url: &DatabaseUrl) -> Result<(), MigrateError> {
    migrate_within(url, MIGRATION_LOCK_MAX).await
}

/// The same, waiting so long for a lock.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_within(url: &DatabaseUrl, lock_max: Duration) -> Result<(), MigrateError> {
    let lock_timeout = format!("{}ms", lock_max.as_millis());
    let options = connect_options(url)?;
    // Migrations may take their time, but not wait for a lock for ever.
    let options = options.options([("statement_timeout", "0"), ("lock_timeout", lock_timeout.as_str())]);
    let connecting = timeout(MIGRATION_LOCK_MAX, PgConnection::connect_with(&options)).await;
    let connecting = connecting.map_err(|_| MigrateError::Unreachable("connecting took too long"))?;
    let mut connection = connecting.map_err(|error| {
        MigrateError::Unreachable(match StoreError::from(error) {
            StoreError::Unavailable(why) => why,
            _ => "it refuses the connection",
        })
    })?;
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.set_ignore_missing(true);
    migrator.run_direct(None, &mut connection, false).await?;
    let _ = connection.close().await;
    Ok(())
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database does not answer.
    #[error("the database is unavailable: {0}")]
    Unreachable(&'static str),
    /// Somebody else holds what it needs.
    #[error(
        "a lock was not free in time: another migration is running, or a session holds a table that the \
         migration changes (see pg_locks); run it again when that has ended"
    )]
    Locked,
    /// A migration failed; what it did is undone.
    #[error("a migration failed")]
    Failed(#[source] sqlx::migrate::MigrateError),
}

impl From<sqlx::migrate::MigrateError> for MigrateError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
        let code = match &error {
            Execute(sqlx::Error::Database(database))
            | ExecuteMigration(sqlx::Error::Database(database), _) => database.code(),
            _ => None,
        };
        if code.as_deref() == Some("55P03") { Self::Locked } else { Self::Failed(error) }
    }
}
