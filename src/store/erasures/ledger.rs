//! The ledger of erasures, as it is kept beside backups and applied after one has
//! been put back.

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Named;
use crate::ids::AccountId;
use crate::store::{Pool, StoreError, run};

/// Shows the whole ledger, the oldest first, and answers how long it is.
///
/// # Errors
/// [`StoreError`].
pub async fn export(
    connection: &mut PgConnection,
    app_id: Option<&str>,
    mut each: impl FnMut(Named),
) -> Result<u64, StoreError> {
    let mut rows = sqlx::query!(
        "select account_id, app_id, erase_time from erasures
         where $1::text is null or app_id = $1
         order by erase_time, account_id",
        app_id
    )
    .fetch(connection);
    let mut told = 0;
    while let Some(row) = rows.try_next().await? {
        each(Named { id: AccountId(row.account_id), app_id: row.app_id, erase_time: row.erase_time });
        told += 1;
    }
    Ok(told)
}

/// Removes entries of `until` or before: no backup that old is put back.
///
/// # Errors
/// [`StoreError`].
pub async fn remove(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with old as (
             select account_id from erasures where erase_time <= $1 order by erase_time limit $2
         ), locked as (
             select account_id from erasures
             where account_id = any(array(select account_id from old)) and erase_time <= $1
             order by account_id
             for update
         )
         delete from erasures x using locked l where x.account_id = l.account_id",
        until,
        limit
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}

/// Notes that a database has been put back: cursors of before are refused, and
/// nothing is served until the ledger has been applied. False when no service has
/// ever used the database.
///
/// # Errors
/// [`StoreError`].
pub async fn require_replay(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let query = sqlx::query!("update deployment set event_epoch = event_epoch + 1, replay_required = true");
    Ok(query.execute(connection).await?.rows_affected() > 0)
}

/// Notes that the ledger has been applied.
///
/// # Errors
/// [`StoreError`].
pub async fn replayed(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("update deployment set replay_required = false").execute(connection).await?;
    Ok(())
}
