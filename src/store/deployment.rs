//! Whether this database and this process belong together.

use time::OffsetDateTime;

use super::{MIGRATOR, Pool, StoreError, run};

/// Why a database is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It could not be asked.
    #[error(transparent)]
    Store(StoreError),
    /// Its schema is older than this version needs.
    #[error("the schema is not up to date: run `threads-identity migrate`")]
    SchemaOld,
    /// It was filled under another id key.
    #[error(
        "the keyring's id_key is not the one under which this database was filled: \
         use the keyring that belongs to it"
    )]
    OtherIdKey,
    /// It was put back from a backup, and may hold people who were erased since.
    #[error(
        "the database was put back from a backup, and whoever was erased since may be in it again: \
         run `threads-identity erase --replay FILE` with the ledger that was kept beside the backup"
    )]
    ReplayRequired,
    /// What pools connections in between mixes up their statements.
    #[error(
        "database.url: what pools the connections to Postgres hands out other statements' rows: use PgBouncer 1.21 \
         or newer with max_prepared_statements = 200 (at least 100), or pool_mode = session"
    )]
    Pooled,
    /// What pools connections in between refuses ours.
    #[error(
        "database.url: PgBouncer refuses the options that a connection begins with: set \
         ignore_startup_parameters = options there, and give the role of the service its limits with \
         `alter role NAME set statement_timeout = '2s'; alter role NAME set lock_timeout = '1500ms'; \
         alter role NAME set idle_in_transaction_session_timeout = '5s'`"
    )]
    OptionsRefused,
    /// What pools connections in between drops our limits.
    #[error(
        "database.url: the sessions have no limits, because PgBouncer ignores the options that a connection \
         begins with: give them to the role of the service, `alter role NAME set statement_timeout = '2s'; \
         alter role NAME set lock_timeout = '1500ms'; \
         alter role NAME set idle_in_transaction_session_timeout = '5s'`, and let PgBouncer reconnect"
    )]
    Unlimited,
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        if error == StoreError::OPTIONS_REFUSED { Self::OptionsRefused } else { Self::Store(error) }
    }
}

/// Checks schema and id key, and that nobody who was erased is back. The first process to come gives the database its
/// id key.
///
/// # Errors
/// [`Unfit`].
pub async fn check(pool: &Pool, fingerprint: &[u8; 32], now: OffsetDateTime) -> Result<(), Unfit> {
    let query = sqlx::query_scalar!("select version from _sqlx_migrations where success");
    let applied = run(pool, async |connection| query.fetch_all(connection).await).await?;
    if MIGRATOR.iter().any(|migration| !applied.contains(&migration.version)) {
        return Err(Unfit::SchemaOld);
    }
    let query = sqlx::query!(
        "insert into deployment (id_key_fingerprint, create_time) values ($1, $2)
         on conflict (only_row) do update set only_row = true
         returning id_key_fingerprint, replay_required",
        fingerprint.as_slice(),
        now
    );
    let stored = run(pool, async |connection| query.fetch_one(connection).await).await?;
    if stored.id_key_fingerprint != fingerprint {
        return Err(Unfit::OtherIdKey);
    }
    if stored.replay_required { Err(Unfit::ReplayRequired) } else { Ok(()) }
}
