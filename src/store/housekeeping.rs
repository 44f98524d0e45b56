//! What has had its time, removed a batch at a time.
//!
//! Each batch is one short statement. It locks what it removes in one order
//! everywhere, so that neither two replicas nor a batch of links or token fetches
//! wait for each other in a circle; whoever comes second finds nothing left to do.

use time::OffsetDateTime;

use super::erasures::Named;
use super::{Pool, StoreError, run};
use crate::ids::{AccountId, AuthorizationId};

/// Removes authorizations that ended at `until` or before. Those in progress have
/// no end and stay. All that can be among them have ids less than `before`.
///
/// # Errors
/// [`StoreError`].
pub async fn remove_authorizations(
    pool: &Pool,
    before: AuthorizationId,
    until: OffsetDateTime,
    limit: i64,
) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with old as (
             select authorization_id from authorizations
             where authorization_id < $1 and end_time <= $2
             order by authorization_id
             limit $3
             for update
         )
         delete from authorizations a using old where a.authorization_id = old.authorization_id",
        before.0,
        until,
        limit
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}

/// Forgets codes that were presented at `until` or before.
///
/// # Errors
/// [`StoreError`].
pub async fn remove_codes(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with old as (
             select code_hash from codes where claim_time <= $1 order by claim_time limit $2
         ), locked as (
             select code_hash from codes where code_hash = any(array(select code_hash from old))
             order by code_hash
             for update
         )
         delete from codes c using locked l where c.code_hash = l.code_hash",
        until,
        limit
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}

/// Removes events from the first on, up to one that is later than `until`, and
/// notes in the same statement how far: a reader that has not come so far has
/// missed something.
///
/// # Errors
/// [`StoreError`].
pub async fn remove_events(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar!(
        r#"with first as materialized (
               select event_id, event_time from events order by event_id limit $2
           ), locked as (
               select e.event_id from events e
               where e.event_id in (
                   select event_id from first
                   where event_id < coalesce((select min(event_id) from first where event_time > $1),
                                             9223372036854775807)
               )
               order by e.event_id
               for update
           ), removed as (
               delete from events e using locked l where e.event_id = l.event_id
               returning e.event_id
           ), noted as (
               update deployment d
               set events_floor = greatest(d.events_floor, r.last)
               from (select max(event_id) as last from removed) r
               where r.last is not null
           )
           select count(*) as "removed!" from removed"#,
        until,
        limit
    );
    let removed = run(pool, async |connection| query.fetch_one(connection).await).await?;
    Ok(u64::try_from(removed).unwrap_or(0))
}

/// Removes rows of the trail from the first on, up to one that is later than
/// `until`.
///
/// # Errors
/// [`StoreError`].
pub async fn remove_audit(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with first as materialized (
             select audit_id, audit_time from audit order by audit_id limit $2
         ), locked as (
             select t.audit_id from audit t
             where t.audit_id in (
                 select audit_id from first
                 where audit_id < coalesce((select min(audit_id) from first where audit_time > $1),
                                           9223372036854775807)
             )
             order by t.audit_id
             for update
         )
         delete from audit t using locked l where t.audit_id = l.audit_id",
        until,
        limit
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}

/// The accounts that were unlinked at `until` or before.
///
/// # Errors
/// [`StoreError`].
pub async fn unlinked(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<Vec<Named>, StoreError> {
    let query = sqlx::query!(
        "select account_id, app_id, update_time from accounts
         where state = 'UNLINKED' and update_time <= $1
         order by update_time, account_id
         limit $2",
        until,
        limit
    );
    let rows = run(pool, async |connection| query.fetch_all(connection).await).await?;
    let named = |id, app_id, erase_time| Named { id: AccountId(id), app_id, erase_time };
    Ok(rows.into_iter().map(|row| named(row.account_id, row.app_id, row.update_time)).collect())
}
