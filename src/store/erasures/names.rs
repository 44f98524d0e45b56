//! Where accounts and users are named beside the accounts themselves, and how
//! that is forgotten. Each statement locks its rows in the order of their key.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// What must not be found any more: accounts, and perhaps a user.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub ids: &'a [Uuid],
    pub app_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
}

/// Locks what is under way, so that nobody writes the outcome of a link meanwhile.
pub(super) async fn lock_authorizations(connection: &mut PgConnection, names: Names<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "select authorization_id from authorizations
         where account_id = any($1) or (app_id = $2 and user_id = $3)
            or (state = 'IN_PROGRESS' and token_account_id = any($1))
         order by authorization_id
         for update",
        names.ids,
        names.app_id,
        names.user_id
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Waits for links that have inserted a row of these and not committed it, and
/// makes later ones wait: neither could be seen otherwise. The other end is the
/// function `erasure_has_the_last_word`.
pub(super) async fn lock_absent(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(uuid_hash_extended(w.account_id, 0))::text as locked
         from (select account_id from unnest($1::uuid[]) as w(account_id) order by account_id) w",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Those of these that have no row.
pub(super) async fn absent(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"select w.account_id as "account_id!" from unnest($1::uuid[]) as w(account_id)
           where not exists (select from accounts a where a.account_id = w.account_id)"#,
        ids
    )
    .fetch_all(connection)
    .await
}

/// Ends what is under way for these with a consent of `until` or before; its token
/// is gone with this statement. Whatever is locked is just being written by a link
/// that looks into the ledger.
pub(super) async fn end_under_way(
    connection: &mut PgConnection,
    ids: &[Uuid],
    until: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with named as (
             select authorization_id from authorizations
             where state = 'IN_PROGRESS' and token_account_id = any($1)
               and ($2::timestamptz is null or attempt_time <= $2)
             order by authorization_id
             for update skip locked
         )
         update authorizations a
         set state = 'FAILED', failure_reason = 'ACCOUNT_UNLINKED', end_time = $3, user_id = null, account_id = null,
             scopes = '', short_lived_token = null, short_lived_expire_time = null, token_account_id = null
         from named n
         where a.authorization_id = n.authorization_id",
        ids,
        until,
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends authorizations and takes their names out. Who asks again for a link that
/// had succeeded is told that there is no such account.
pub(super) async fn forget_authorizations(
    connection: &mut PgConnection,
    names: Names<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with named as (
             select authorization_id from authorizations
             where account_id = any($1) or (app_id = $2 and user_id = $3)
             order by authorization_id
             limit $5
             for update
         )
         update authorizations a
         set state = case a.state when 'DENIED' then a.state else 'FAILED' end,
             failure_reason = case a.state when 'SUCCEEDED' then 'ACCOUNT_NOT_FOUND'
                                           when 'IN_PROGRESS' then 'ACCOUNT_UNLINKED'
                                           else a.failure_reason end,
             outcome = null, end_time = coalesce(a.end_time, $4), user_id = null, account_id = null, scopes = '',
             short_lived_token = null, short_lived_expire_time = null, token_account_id = null
         from named n
         where a.authorization_id = n.authorization_id",
        names.ids,
        names.app_id,
        names.user_id,
        now,
        limit
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Takes a user out of the accounts that others have taken over.
pub(super) async fn forget_predecessor(connection: &mut PgConnection, names: Names<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with named as (
             select account_id from accounts
             where app_id = $1 and link_previous_user_id = $2
             order by account_id
             for no key update
         )
         update accounts a set link_previous_user_id = null from named n where a.account_id = n.account_id",
        names.app_id,
        names.user_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn forget_events(
    connection: &mut PgConnection,
    names: Names<'_>,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with named as (
             -- An ERASED holds ids alone, and its user may still have to hear of it.
             select event_id from events
             where kind <> 'ERASED'
               and ((account_id = any($1) and (user_id <> '' or previous_user_id is not null))
                    or (app_id = $2 and user_id = $3 and user_id <> '')
                    or (app_id = $2 and previous_user_id = $3 and previous_user_id is not null))
             order by event_id
             limit $4
             for update
         )
         update events e
         set user_id = case when e.account_id = any($1) or e.user_id = $3 then '' else e.user_id end,
             previous_user_id = case when e.account_id = any($1) then null
                                     else nullif(e.previous_user_id, $3) end
         from named n
         where e.event_id = n.event_id",
        names.ids,
        names.app_id,
        names.user_id,
        limit
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn forget_trail(
    connection: &mut PgConnection,
    names: Names<'_>,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "with named as (
             select audit_id from audit
             where account_id = any($1) or (app_id = $2 and user_id = $3 and user_id is not null)
             order by audit_id
             limit $4
             for update
         )
         update audit t
         set account_id = null, authorization_id = null, user_id = null, purpose = null
         from named n
         where t.audit_id = n.audit_id",
        names.ids,
        names.app_id,
        names.user_id,
        limit
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
