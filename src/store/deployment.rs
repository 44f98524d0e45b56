//! Whether this database and this process belong together.

use sqlx::PgPool;
use time::OffsetDateTime;

use super::{MIGRATOR, StoreError, run};

/// Why a database is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its schema is older than this version needs.
    #[error("the schema is not up to date: run `threads-identity migrate`")]
    SchemaOld,
    /// It was filled under another id key.
    #[error(
        "the keyring's id_key is not the one under which this database was filled: \
         use the keyring that belongs to it"
    )]
    OtherIdKey,
}

/// Checks schema and id key. The first process to come gives the database its
/// id key.
///
/// # Errors
/// [`Unfit`].
pub async fn check(pool: &PgPool, fingerprint: &[u8; 32], now: OffsetDateTime) -> Result<(), Unfit> {
    let query = sqlx::query_scalar!("select version from _sqlx_migrations where success");
    let applied = run(pool, async |connection| query.fetch_all(connection).await).await?;
    if MIGRATOR.iter().any(|migration| !applied.contains(&migration.version)) {
        return Err(Unfit::SchemaOld);
    }
    let query = sqlx::query_scalar!(
        "insert into deployment (id_key_fingerprint, create_time) values ($1, $2)
         on conflict (only_row) do update set only_row = true
         returning id_key_fingerprint",
        fingerprint.as_slice(),
        now
    );
    let stored = run(pool, async |connection| query.fetch_one(connection).await).await?;
    if stored == fingerprint { Ok(()) } else { Err(Unfit::OtherIdKey) }
}
