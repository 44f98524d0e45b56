//! The table `deletion_requests`: what people who asked to be forgotten may look
//! up. It names nobody.

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::erasures::{By, Named, Whom, erase_within};
use super::{Pool, StoreError, run};
use crate::ids::ConfirmationCode;

/// What was done for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// An account was erased.
    Erased,
    /// There was none.
    Nobody,
    /// The account was linked anew after the request, and stays.
    LinkedSince,
}

/// A request as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// When it came.
    pub request_time: OffsetDateTime,
    /// Since when nothing of the account is left; none if it was linked anew after
    /// the request, and stayed.
    pub complete_time: Option<OffsetDateTime>,
}

/// Erases the account and notes the request, in one transaction. The same request
/// once more adds nothing.
///
/// # Errors
/// [`StoreError`]; then nothing is done.
pub async fn carry_out(
    pool: &Pool,
    named: &Named,
    consented_until: Option<OffsetDateTime>,
    code: &ConfirmationCode,
    by: By<'_>,
) -> Result<Done, StoreError> {
    let hash = code.hash();
    let work = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin().await?;
        let whom = Whom::Requested(std::slice::from_ref(named), consented_until);
        let erased = erase_within(&mut transaction, whom, by, 1).await? > 0;
        let is_left = sqlx::query_scalar!(
            r#"with account as (
                   select exists (select from accounts where account_id = $3) as is_left
               ), noted as (
                   insert into deletion_requests as r (code_hash, app_id, state, request_time, complete_time)
                   select $1, $2, case when is_left then 'LINKED_SINCE' else 'COMPLETED' end, $4::timestamptz,
                          case when not is_left then $4 end
                   from account
                   on conflict (code_hash) do update
                   set state = excluded.state, request_time = excluded.request_time,
                       complete_time = excluded.complete_time
                   -- Only if it came to more than before: a replay makes it no younger.
                   where $5 or (r.state = 'LINKED_SINCE' and excluded.state = 'COMPLETED')
                   returning app_id
               ), audited as (
                   -- Whoever was erased has a row already.
                   insert into audit (app_id, caller, action, detail, audit_time)
                   select app_id, $6, 'DATA_DELETION_REQUESTED', $7, $4 from noted where not $5
               )
               select is_left as "is_left!" from account"#,
            hash.as_slice(),
            named.app_id,
            named.id.0,
            by.now,
            erased,
            by.caller,
            by.detail
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(match (erased, is_left) {
            (true, _) => Done::Erased,
            (false, false) => Done::Nobody,
            (false, true) => Done::LinkedSince,
        })
    };
    run(pool, work).await
}

/// A request by its code.
///
/// # Errors
/// [`StoreError`].
pub async fn find(pool: &Pool, code: &ConfirmationCode) -> Result<Option<Shown>, StoreError> {
    let hash = code.hash();
    let query = sqlx::query!(
        "select request_time, complete_time from deletion_requests where code_hash = $1",
        hash.as_slice()
    );
    let row = run(pool, async |connection| query.fetch_optional(connection).await).await?;
    // The table holds the two to each other.
    Ok(row.map(|row| Shown { request_time: row.request_time, complete_time: row.complete_time }))
}

/// Removes requests of `until` or before.
///
/// # Errors
/// [`StoreError`].
pub async fn remove(pool: &Pool, until: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with old as (
             select code_hash from deletion_requests where request_time <= $1 order by request_time limit $2
         ), locked as (
             select code_hash from deletion_requests
             where code_hash = any(array(select code_hash from old)) and request_time <= $1
             order by code_hash
             for update
         )
         delete from deletion_requests r using locked l where r.code_hash = l.code_hash",
        until,
        limit
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}
