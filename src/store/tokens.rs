//! Tokens leave storage here, each with a row that says to whom.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::coalescer::Batch;
use super::{CorruptRow, Pool, StoreError, join_scopes, run, split_scopes};
use crate::ids::{AccountId, ThreadsUserId};
use crate::states::{AccountState, StateReason};

/// A caller's wish for the token of an account.
pub struct TokenFetch {
    /// The account.
    pub account_id: AccountId,
    /// The caller's app.
    pub app_id: String,
    /// The user it must be linked to.
    pub user_id: String,
    /// The token must live until then.
    pub good_until: OffsetDateTime,
    /// The token must have been asked for all of these.
    pub required_scopes: Vec<String>,
    /// The name of the caller, for the trail.
    pub caller: String,
    /// What for, for the trail.
    pub purpose: Option<String>,
    /// Now.
    pub now: OffsetDateTime,
}

/// The account behind a wish, and its sealed token if the wish is granted.
///
/// Until a refreshed token is proven, the one before it is handed out.
pub struct TokenFetched {
    /// Where the account stands.
    pub state: AccountState,
    /// Why it is not ACTIVE.
    pub state_reason: Option<StateReason>,
    /// What the token was asked for.
    pub scopes: Vec<String>,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
    /// When the token dies.
    pub token_expire_time: Option<OffsetDateTime>,
    /// Since when a token may be refreshed again, but for its age: none while a
    /// refreshed one waits to be proven.
    pub refreshed: Option<OffsetDateTime>,
    /// Not to be tried again before, because the last attempt failed.
    pub pause_until: Option<OffsetDateTime>,
    /// What a first refusal of Threads would make of the account.
    pub strike_reason: Option<StateReason>,
    /// The sealed token. Present exactly when the fetch has been recorded.
    pub granted: Option<Vec<u8>>,
}

/// Fetches tokens: concurrent fetches share one update and one insert, which are
/// committed before any token leaves. `None`: that user has no such account.
///
/// A corrupt row is the answer of its own fetch and no error of the statement:
/// that is committed, and to run it again would record the others twice.
pub struct FetchTokens;

impl Batch for FetchTokens {
    type Request = TokenFetch;
    type Answer = Result<Option<TokenFetched>, StoreError>;
    const NAME: &'static str = "token_fetches";

    #[expect(clippy::too_many_lines, reason = "one statement, and the arrays that feed it")]
    async fn run(connection: &mut PgConnection, fetches: &[TokenFetch]) -> sqlx::Result<Vec<Self::Answer>> {
        let accounts: Vec<Uuid> = fetches.iter().map(|fetch| fetch.account_id.0).collect();
        let apps: Vec<&str> = fetches.iter().map(|fetch| fetch.app_id.as_str()).collect();
        let users: Vec<&str> = fetches.iter().map(|fetch| fetch.user_id.as_str()).collect();
        let good_until: Vec<OffsetDateTime> = fetches.iter().map(|fetch| fetch.good_until).collect();
        let required: Vec<String> = fetches.iter().map(|fetch| join_scopes(&fetch.required_scopes)).collect();
        let callers: Vec<&str> = fetches.iter().map(|fetch| fetch.caller.as_str()).collect();
        let purposes: Vec<Option<&str>> = fetches.iter().map(|fetch| fetch.purpose.as_deref()).collect();
        let nows: Vec<OffsetDateTime> = fetches.iter().map(|fetch| fetch.now).collect();
        let rows = sqlx::query!(
            r#"with wanted as (
                   select * from unnest((select $1::uuid[]), $2::text[], $3::text[], $4::timestamptz[], $5::text[],
                                        $6::text[], $7::text[], $8::timestamptz[])
                   with ordinality as w(account_id, app_id, user_id, good_until, required_scopes, caller,
                                        purpose, now, n)
               ), granted as (
                   select w.n, w.account_id, w.app_id, w.user_id, w.caller, w.purpose, w.now
                   from wanted w
                   join accounts a using (account_id, app_id, user_id)
                   where a.state = 'ACTIVE'
                     and coalesce(a.previous_token_expire_time, a.token_expire_time) > w.now
                     and coalesce(a.previous_token_expire_time, a.token_expire_time) >= w.good_until
                     and string_to_array(a.scopes, ' ') @> string_to_array(w.required_scopes, ' ')
                   -- Who is being erased is waited for: a row of the trail that comes after the erasure would
                   -- name them for as long as it is kept. This lock meets a deletion alone.
                   order by a.account_id
                   for key share of a
               ), due as (
                   -- Once a minute at most, so that a busy token is not a busy row. Locked in one order
                   -- everywhere, so that two replicas never wait for each other in a circle.
                   select a.account_id, g.minute
                   from accounts a
                   join (select account_id, date_trunc('minute', max(now)) as minute
                         from granted group by account_id) g using (account_id)
                   where a.last_token_fetch_time is null or a.last_token_fetch_time < g.minute
                   order by a.account_id
                   for no key update of a
               ), touched as (
                   update accounts a
                   set last_token_fetch_time = d.minute
                   from due d
                   where a.account_id = d.account_id
               ), audited as (
                   insert into audit (app_id, account_id, user_id, caller, action, purpose, audit_time)
                   select app_id, account_id, user_id, caller, 'FETCH_ACCESS_TOKEN', purpose, now
                   from granted order by n
               )
               select a.account_id as "account_id?", a.state as "state?", a.state_reason, a.scopes as "scopes?",
                      a.threads_user_id as "threads_user_id?",
                      coalesce(a.previous_token_expire_time, a.token_expire_time) as token_expire_time,
                      case when a.previous_token is null then a.token_refresh_time end as refreshed,
                      case when a.refresh_failures > 0 then a.next_refresh_time end as pause_until,
                      a.strike_reason,
                      case when g.n is not null then coalesce(a.previous_token, a.token) end as token
               from wanted w
               left join accounts a using (account_id, app_id, user_id)
               left join granted g using (n)
               order by w.n"#,
            &accounts,
            &apps as _,
            &users as _,
            &good_until,
            &required,
            &callers as _,
            &purposes as _,
            &nows
        )
        .fetch_all(connection)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let Some(id) = row.account_id else { return Ok(None) };
                let corrupt = |what| CorruptRow { table: "accounts", id, what }.into_sqlx();
                let state = row.state.as_deref().and_then(AccountState::parse);
                let known = |text: Option<&str>| match text.map(StateReason::parse) {
                    Some(None) => Err(corrupt("unknown state reason")),
                    known => Ok(known.flatten()),
                };
                let person = row.threads_user_id.as_deref().and_then(ThreadsUserId::parse);
                Ok(Some(TokenFetched {
                    state: state.ok_or_else(|| corrupt("unknown state"))?,
                    state_reason: known(row.state_reason.as_deref())?,
                    scopes: split_scopes(&row.scopes.unwrap_or_default()),
                    threads_user_id: person.ok_or_else(|| corrupt("not a Threads id"))?,
                    token_expire_time: row.token_expire_time,
                    refreshed: row.refreshed,
                    pause_until: row.pause_until,
                    strike_reason: known(row.strike_reason.as_deref())?,
                    granted: row.token,
                }))
            })
            .collect())
    }
}

/// The sealed token of an account, for our own calls to Threads.
///
/// # Errors
/// [`StoreError`].
pub async fn sealed_token(pool: &Pool, id: AccountId) -> Result<Option<SealedToken>, StoreError> {
    let token = sqlx::query_as!(
        SealedToken,
        r#"select coalesce(previous_token, token) as "sealed!", token_refresh_time as "refresh_time!",
                  strike_time, case when refresh_failures > 0 then next_refresh_time end as pause_until
           from accounts where account_id = $1 and token is not null"#,
        id.0
    );
    run(pool, async |connection| token.fetch_optional(connection).await).await
}

/// A token as it is stored.
pub struct SealedToken {
    /// The token that is handed out now.
    pub sealed: Vec<u8>,
    /// When the newest one was obtained.
    pub refresh_time: OffsetDateTime,
    /// When Threads refused it, if nothing has refuted that since.
    pub strike_time: Option<OffsetDateTime>,
    /// Not to be asked about again before, because the last attempt failed.
    pub pause_until: Option<OffsetDateTime>,
}
