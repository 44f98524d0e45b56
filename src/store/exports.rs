//! Accounts on their way out, and what is stored of one user.

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::accounts::{Account, AccountRow};
use super::{CorruptRow, Pool, StoreError, run};
use crate::ids::AccountId;

/// An account with its sealed token.
pub struct Exported {
    /// The account.
    pub account: Account,
    /// The person has not consented before.
    pub consent_begin_time: Option<OffsetDateTime>,
    /// Its token, sealed for its row.
    pub sealed_token: Option<Vec<u8>>,
}

/// How many accounts an app has.
///
/// # Errors
/// [`StoreError`].
pub async fn total(pool: &Pool, app_id: &str) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar!(r#"select count(*) as "count!" from accounts where app_id = $1"#, app_id);
    let count = run(pool, async |connection| query.fetch_one(connection).await).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// A page of an app's accounts in whatever state, by id, from the first after
/// `after`. Tokens come with it only if they are wished for; then each of them has
/// its row in the trail before this answers.
///
/// # Errors
/// [`StoreError`].
pub async fn page(
    pool: &Pool,
    app_id: &str,
    after: Option<AccountId>,
    limit: i64,
    with_tokens: bool,
    now: OffsetDateTime,
) -> Result<Vec<Exported>, StoreError> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let work = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin().await?;
        let rows = sqlx::query!(
            "select account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                    create_time, update_time, authorize_time, token_expire_time, token_refresh_time,
                    last_token_fetch_time, username, name, picture_url, biography, is_verified,
                    profile_fetch_time, consent_begin_time, case when $4 then token end as token
             from accounts
             where app_id = $1 and account_id > $2
             order by account_id
             limit $3",
            app_id,
            after,
            limit,
            with_tokens
        )
        .fetch_all(&mut *transaction)
        .await?;
        let leaving = rows.iter().filter(|row| row.token.is_some());
        let (ids, users): (Vec<Uuid>, Vec<&str>) =
            leaving.map(|row| (row.account_id, row.user_id.as_str())).unzip();
        if !ids.is_empty() {
            sqlx::query!(
                "insert into audit (app_id, account_id, user_id, caller, action, audit_time)
                 select $1, w.account_id, w.user_id, 'operator', 'TOKEN_EXPORTED', $4
                 from unnest($2::uuid[], $3::text[]) as w(account_id, user_id)",
                app_id,
                &ids,
                &users as _,
                now
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        let exported = rows.into_iter().map(|row| {
            let account = AccountRow {
                account_id: row.account_id,
                app_id: row.app_id,
                threads_user_id: row.threads_user_id,
                user_id: row.user_id,
                state: row.state,
                state_reason: row.state_reason,
                scopes: row.scopes,
                create_time: row.create_time,
                update_time: row.update_time,
                authorize_time: row.authorize_time,
                token_expire_time: row.token_expire_time,
                token_refresh_time: row.token_refresh_time,
                last_token_fetch_time: row.last_token_fetch_time,
                username: row.username,
                name: row.name,
                picture_url: row.picture_url,
                biography: row.biography,
                is_verified: row.is_verified,
                profile_fetch_time: row.profile_fetch_time,
            };
            let account = Account::try_from(account).map_err(CorruptRow::into_sqlx)?;
            let (consent_begin_time, sealed_token) = (row.consent_begin_time, row.token);
            Ok(Exported { account, consent_begin_time, sealed_token })
        });
        exported.collect()
    };
    run(pool, work).await
}

/// Notes that accounts, or what is stored of a user, are taken out.
///
/// # Errors
/// [`StoreError`].
pub async fn note(
    pool: &Pool,
    app_id: &str,
    user_id: Option<&str>,
    action: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "insert into audit (app_id, user_id, caller, action, audit_time) values ($1, $2, 'operator', $3, $4)",
        app_id,
        user_id,
        action,
        now
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}

/// Everything that is stored of a user in an app, as a JSON object of lists by table.
/// Every column of every row that holds something, also those that a later version
/// adds, but for what is sealed or a hash, and for the names of other users. None: nothing is.
///
/// # Errors
/// [`StoreError`].
pub async fn of_user(pool: &Pool, app_id: &str, user_id: &str) -> Result<Option<String>, StoreError> {
    let query = sqlx::query!(
        r#"with mine as (
               select account_id from accounts where app_id = $1 and user_id = $2
           ), found as (
               select 'accounts' as place,
                      jsonb_strip_nulls(to_jsonb(a)) - array['token', 'previous_token', 'link_previous_user_id', 'refresh_attempt',
                                          'refresh_lease_time'] as value, a.create_time as time
               from accounts a
               where app_id = $1 and user_id = $2
               union all
               select 'authorizations',
                      jsonb_strip_nulls(to_jsonb(a)) - array['answer_hash', 'short_lived_token', 'claim_id', 'claim_expire_time'],
                      a.create_time
               from authorizations a
               where app_id = $1 and user_id = $2
               union all
               select 'events',
                      jsonb_strip_nulls(to_jsonb(e)) - array['xid']
                          - case when e.user_id <> $2 then 'user_id' else '' end
                          - case when e.previous_user_id <> $2 then 'previous_user_id' else '' end,
                      e.event_time
               from events e
               where app_id = $1 and (user_id = $2 or previous_user_id = $2)
               union all
               select 'audit', jsonb_strip_nulls(to_jsonb(t)), t.audit_time
               from audit t
               where app_id = $1
                 and (user_id = $2 or (user_id is null and account_id in (select account_id from mine)))
               union all
               select 'erasures', to_jsonb(x), x.erase_time
               from erasures x
               where account_id in (select account_id from mine)
           )
           select count(*) as "count!",
                  jsonb_build_object(
                      'accounts', coalesce(jsonb_agg(value order by time) filter (where place = 'accounts'), '[]'),
                      'authorizations',
                          coalesce(jsonb_agg(value order by time) filter (where place = 'authorizations'), '[]'),
                      'events', coalesce(jsonb_agg(value order by time) filter (where place = 'events'), '[]'),
                      'audit', coalesce(jsonb_agg(value order by time) filter (where place = 'audit'), '[]'),
                      'erasures', coalesce(jsonb_agg(value order by time) filter (where place = 'erasures'), '[]')
                  )::text as "document!"
           from found"#,
        app_id,
        user_id
    );
    let found = run(pool, async |connection| query.fetch_one(connection).await).await?;
    Ok((found.count > 0).then_some(found.document))
}
