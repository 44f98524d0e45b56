//! Accounts that come from elsewhere: how they stand here, and the one statement
//! that brings a batch of them in.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{CorruptRow, Pool, StoreError, join_scopes, run};
use crate::ids::{AccountId, ThreadsUserId};
use crate::profile::Profile;
use crate::states::{AccountState, StateReason};

/// How an account stands here before it is imported.
pub struct Standing {
    /// The account, if there is one.
    pub account: Option<Found>,
    /// When it was last erased.
    pub erase_time: Option<OffsetDateTime>,
}

/// An account that is here already.
pub struct Found {
    /// Its user.
    pub user_id: String,
    /// Where it stands.
    pub state: AccountState,
    /// When that last changed.
    pub update_time: OffsetDateTime,
    /// When its token was obtained or refreshed.
    pub token_refresh_time: Option<OffsetDateTime>,
    /// Counts whatever replaces or refreshes its token.
    pub attempt: i64,
}

/// A token that Threads has just been seen to accept.
pub struct ProvenToken {
    /// Sealed for its account's row.
    pub sealed: Vec<u8>,
    /// When it dies.
    pub expire_time: OffsetDateTime,
    /// When it was obtained or refreshed.
    pub refresh_time: OffsetDateTime,
    /// When it is to be refreshed.
    pub next_refresh_time: OffsetDateTime,
    /// What Threads answered.
    pub profile: Profile,
}

/// An account to be brought in.
pub struct Import {
    /// The account.
    pub id: AccountId,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
    /// The caller's user.
    pub user_id: String,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Its token, or why the person must consent again.
    pub token: Result<ProvenToken, StateReason>,
    /// The person has not consented before.
    pub begin_time: OffsetDateTime,
    /// The person had consented by then.
    pub authorize_time: OffsetDateTime,
    /// The attempt that an ACTIVE account was seen with whose token is to be
    /// replaced. None: what is ACTIVE stays as it is.
    pub replaces: Option<i64>,
}

/// What became of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is written.
    Done,
    /// The account was this user's already, and as good.
    Unchanged,
    /// It is linked to another user.
    OthersAccount,
    /// It was unlinked after the consent.
    Unlinked,
    /// It was erased after the consent.
    Erased,
    /// Somebody linked it at the same moment: look again.
    Overtaken,
}

/// How accounts stand here. One that is neither here nor was erased is missing.
///
/// # Errors
/// [`StoreError`].
pub async fn standings(pool: &Pool, ids: &[AccountId]) -> Result<HashMap<AccountId, Standing>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let query = sqlx::query!(
        r#"select w.account_id as "account_id!", a.user_id as "user_id?", a.state as "state?",
                  a.update_time as "update_time?", a.token_refresh_time, a.refresh_attempt as "attempt?",
                  e.erase_time as "erase_time?"
           from unnest($1::uuid[]) as w(account_id)
           left join accounts a using (account_id)
           left join erasures e using (account_id)
           where a.account_id is not null or e.account_id is not null"#,
        &ids
    );
    let rows = run(pool, async |connection| query.fetch_all(connection).await).await?;
    let mut standings = HashMap::with_capacity(rows.len());
    for row in rows {
        let account = match (row.user_id, row.state, row.update_time, row.attempt) {
            (Some(user_id), Some(state), Some(update_time), Some(attempt)) => {
                let corrupt = || CorruptRow { table: "accounts", id: row.account_id, what: "unknown state" };
                let state = AccountState::parse(&state).ok_or_else(|| corrupt().into_sqlx())?;
                let token_refresh_time = row.token_refresh_time;
                Some(Found { user_id, state, update_time, token_refresh_time, attempt })
            }
            _ => None,
        };
        standings.insert(AccountId(row.account_id), Standing { account, erase_time: row.erase_time });
    }
    Ok(standings)
}

/// Brings accounts in, each of them once: with its event and its row in the trail,
/// in one commit. Repeating it changes nothing more. `source` is for the trail.
///
/// # Errors
/// [`StoreError`]; then none of them is in.
pub async fn write(
    pool: &Pool,
    app_id: &str,
    source: &str,
    imports: &[Import],
    now: OffsetDateTime,
) -> Result<Vec<Imported>, StoreError> {
    run(pool, async |connection| write_within(connection, app_id, source, imports, now).await).await
}

#[expect(clippy::too_many_lines, reason = "one statement, and the arrays that feed it")]
async fn write_within(
    connection: &mut PgConnection,
    app_id: &str,
    source: &str,
    imports: &[Import],
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Imported>> {
    let all = || imports.iter();
    let tokens = || imports.iter().map(|import| import.token.as_ref().ok());
    let profiles = || tokens().map(|token| token.map(|token| &token.profile));
    let ids: Vec<Uuid> = all().map(|import| import.id.0).collect();
    let persons: Vec<&str> = all().map(|import| import.threads_user_id.as_str()).collect();
    let users: Vec<&str> = all().map(|import| import.user_id.as_str()).collect();
    let scopes: Vec<String> = all().map(|import| join_scopes(&import.scopes)).collect();
    let sealed: Vec<Option<&[u8]>> = tokens().map(|t| Some(t?.sealed.as_slice())).collect();
    let expiries: Vec<Option<OffsetDateTime>> = tokens().map(|t| Some(t?.expire_time)).collect();
    let refreshed: Vec<Option<OffsetDateTime>> = tokens().map(|t| Some(t?.refresh_time)).collect();
    let due: Vec<Option<OffsetDateTime>> = tokens().map(|t| Some(t?.next_refresh_time)).collect();
    let reasons: Vec<Option<&str>> =
        all().map(|import| Some(import.token.as_ref().err()?.as_str())).collect();
    let usernames: Vec<Option<&str>> = profiles().map(|p| p?.username.as_deref()).collect();
    let names: Vec<Option<&str>> = profiles().map(|p| p?.name.as_deref()).collect();
    let pictures: Vec<Option<&str>> = profiles().map(|p| p?.picture_url.as_deref()).collect();
    let biographies: Vec<Option<&str>> = profiles().map(|p| p?.biography.as_deref()).collect();
    let verified: Vec<Option<bool>> = profiles().map(|p| p?.is_verified).collect();
    let begun: Vec<OffsetDateTime> = all().map(|import| import.begin_time).collect();
    let consents: Vec<OffsetDateTime> = all().map(|import| import.authorize_time).collect();
    let replaces: Vec<Option<i64>> = all().map(|import| import.replaces).collect();
    let rows = sqlx::query!(
        r#"with wanted as (
               select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[],
                                    $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
                                    $12::text[], $13::text[], $14::bool[], $15::timestamptz[], $16::timestamptz[],
                                    $17::int8[])
               with ordinality as w(account_id, threads_user_id, user_id, scopes, token, token_expire_time,
                                    token_refresh_time, next_refresh_time, state_reason, username, name,
                                    picture_url, biography, is_verified, begin_time, authorize_time, replaces, n)
           ), fenced as (
               select w.*, exists (select from erasures x
                                   where x.account_id = w.account_id and x.erase_time > w.begin_time) as erased
               from wanted w
           ), imported as (
               insert into accounts as t (
                   account_id, app_id, threads_user_id, user_id, state, state_reason, scopes, token,
                   token_expire_time, token_refresh_time, username, name, picture_url, biography, is_verified,
                   profile_fetch_time, create_time, update_time, authorize_time, consent_begin_time, link_outcome,
                   next_refresh_time, refresh_attempt)
               select account_id, $18, threads_user_id, user_id,
                      case when token is null then 'REAUTHORIZATION_REQUIRED' else 'ACTIVE' end, state_reason,
                      scopes, token, token_expire_time, token_refresh_time, username, name, picture_url,
                      biography, is_verified, case when token is not null then $20::timestamptz end, $20, $20,
                      authorize_time, begin_time, 'LINKED', next_refresh_time,
                      -- Above every attempt of an account of this id that has been erased.
                      (extract(epoch from $20::timestamptz) * 1000000)::bigint
               from fenced
               where not erased
               -- In one order everywhere, so that two batches never wait for each other in a circle.
               order by account_id
               on conflict (account_id) do update set
                   user_id = excluded.user_id, state = excluded.state, state_reason = excluded.state_reason,
                   scopes = excluded.scopes, token = excluded.token,
                   token_expire_time = excluded.token_expire_time,
                   token_refresh_time = excluded.token_refresh_time,
                   next_refresh_time = excluded.next_refresh_time,
                   -- A token that is replaced takes with it every attempt to refresh it.
                   refresh_attempt = t.refresh_attempt + 1, refresh_lease_time = null, previous_token = null,
                   previous_token_expire_time = null, previous_token_refresh_time = null,
                   strike_time = null, strike_reason = null, refresh_failing_time = null,
                   refresh_failures = 0, refresh_failing_told = false,
                   username = excluded.username, name = excluded.name, picture_url = excluded.picture_url,
                   biography = excluded.biography, is_verified = excluded.is_verified,
                   profile_fetch_time = excluded.profile_fetch_time,
                   create_time = case when t.user_id = excluded.user_id
                                      then t.create_time else excluded.create_time end,
                   last_token_fetch_time = case when t.user_id = excluded.user_id
                                                then t.last_token_fetch_time end,
                   update_time = excluded.update_time,
                   authorize_time = greatest(t.authorize_time, excluded.authorize_time),
                   consent_begin_time = greatest(t.consent_begin_time, excluded.consent_begin_time),
                   link_mode = null, link_authorization_id = null, link_previous_user_id = null,
                   link_outcome = case when t.user_id <> excluded.user_id then 'LINKED'
                                       when t.state = 'UNLINKED' then 'RELINKED'
                                       else 'REAUTHORIZED' end
               -- Whoever unlinked it after the consent has the last word. Of this user's own, only a token that
               -- works replaces what is there, and one that works only if nothing has touched it since it was
               -- looked at.
               where (t.state = 'UNLINKED' and t.update_time <= excluded.consent_begin_time)
                  or (t.user_id = excluded.user_id and excluded.state = 'ACTIVE'
                      and (t.state = 'REAUTHORIZATION_REQUIRED'
                           or (t.state = 'ACTIVE'
                               and t.refresh_attempt = (select w.replaces from wanted w
                                                        where w.account_id = excluded.account_id))))
               returning t.account_id, t.user_id, t.state, t.link_outcome
           ), emitted as (
               insert into events (app_id, account_id, user_id, kind, event_time)
               select $18, i.account_id, i.user_id, k.kind, $20
               from imported i
               cross join unnest(array[i.link_outcome, nullif(i.state, 'ACTIVE')])
                   with ordinality as k(kind, place)
               where k.kind is not null
               order by i.account_id, k.place
           ), noted as (
               insert into audit (app_id, account_id, user_id, caller, action, detail, audit_time)
               select $18, account_id, user_id, 'operator', 'IMPORTED', concat_ws(' ', $19::text, state), $20
               from imported
           )
           select i.account_id is not null as "written!", f.erased as "erased!",
                  a.user_id as "user_id?", a.state as "state?"
           from fenced f
           left join imported i using (account_id)
           -- As it stood before.
           left join accounts a using (account_id)
           order by f.n"#,
        &ids,
        &persons as _,
        &users as _,
        &scopes,
        &sealed as _,
        &expiries as _,
        &refreshed as _,
        &due as _,
        &reasons as _,
        &usernames as _,
        &names as _,
        &pictures as _,
        &biographies as _,
        &verified as _,
        &begun,
        &consents,
        &replaces as _,
        app_id,
        source,
        now
    )
    .fetch_all(connection)
    .await?;
    let unlinked = AccountState::Unlinked.as_str();
    let answers = imports.iter().zip(rows).map(|(import, row)| match (row.user_id, row.state.as_deref()) {
        _ if row.written => Imported::Done,
        _ if row.erased => Imported::Erased,
        (_, Some(state)) if state == unlinked => Imported::Unlinked,
        (Some(user_id), Some(_)) if user_id != import.user_id => Imported::OthersAccount,
        (Some(_), Some(_)) => Imported::Unchanged,
        _ => Imported::Overtaken,
    });
    Ok(answers.collect())
}
