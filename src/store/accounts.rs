//! The table `accounts`: reading, listing, unlinking, and the profile.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::coalescer::Batch;
use super::{CorruptRow, Pool, StoreError, run, split_scopes};
use crate::ids::{AccountId, ThreadsUserId};
use crate::profile::Profile;
use crate::states::{AccountState, StateReason};

/// An account, without its token.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The app whose it is.
    pub app_id: String,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
    /// The caller's user.
    pub user_id: String,
    /// Where it stands.
    pub state: AccountState,
    /// Why it is not ACTIVE.
    pub state_reason: Option<StateReason>,
    /// What the newest consent asked for.
    pub scopes: Vec<String>,
    /// When it was first linked to this user.
    pub create_time: OffsetDateTime,
    /// When it last changed.
    pub update_time: OffsetDateTime,
    /// When the person last consented.
    pub authorize_time: OffsetDateTime,
    /// When the token dies.
    pub token_expire_time: Option<OffsetDateTime>,
    /// When the token was obtained or refreshed.
    pub token_refresh_time: Option<OffsetDateTime>,
    /// When a caller last fetched the token.
    pub last_token_fetch_time: Option<OffsetDateTime>,
    /// The profile; none once it is unlinked.
    pub profile: Option<FetchedProfile>,
}

/// A profile and when it was read.
#[derive(Clone)]
pub struct FetchedProfile {
    /// The profile.
    pub profile: Profile,
    /// When Threads was asked.
    pub fetch_time: OffsetDateTime,
}

impl std::fmt::Debug for FetchedProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchedProfile").field("fetch_time", &self.fetch_time).finish_non_exhaustive()
    }
}

/// The columns of an account as every query here selects them.
pub(super) struct AccountRow {
    pub account_id: Uuid,
    pub app_id: String,
    pub threads_user_id: String,
    pub user_id: String,
    pub state: String,
    pub state_reason: Option<String>,
    pub scopes: String,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
    pub authorize_time: OffsetDateTime,
    pub token_expire_time: Option<OffsetDateTime>,
    pub token_refresh_time: Option<OffsetDateTime>,
    pub last_token_fetch_time: Option<OffsetDateTime>,
    pub username: Option<String>,
    pub name: Option<String>,
    pub picture_url: Option<String>,
    pub biography: Option<String>,
    pub is_verified: Option<bool>,
    pub profile_fetch_time: Option<OffsetDateTime>,
}

impl TryFrom<AccountRow> for Account {
    type Error = CorruptRow;

    fn try_from(row: AccountRow) -> Result<Self, CorruptRow> {
        let corrupt = |what| CorruptRow { table: "accounts", id: row.account_id, what };
        let state = AccountState::parse(&row.state).ok_or_else(|| corrupt("unknown state"))?;
        let state_reason = match row.state_reason.as_deref().map(StateReason::parse) {
            None => None,
            Some(Some(reason)) => Some(reason),
            Some(None) => return Err(corrupt("unknown state reason")),
        };
        match (state, state_reason, row.token_expire_time, row.profile_fetch_time) {
            (AccountState::Active, None, Some(_), _)
            | (AccountState::ReauthorizationRequired, Some(_), _, _)
            | (AccountState::Unlinked, Some(_), None, None) => {}
            _ => return Err(corrupt("state, reason, token and profile do not go together")),
        }
        let threads_user_id =
            ThreadsUserId::parse(&row.threads_user_id).ok_or_else(|| corrupt("not a Threads id"))?;
        let profile = row.profile_fetch_time.map(|fetch_time| FetchedProfile {
            profile: Profile {
                id: threads_user_id.clone(),
                username: row.username,
                name: row.name,
                picture_url: row.picture_url,
                biography: row.biography,
                is_verified: row.is_verified,
            },
            fetch_time,
        });
        Ok(Self {
            id: AccountId(row.account_id),
            app_id: row.app_id,
            threads_user_id,
            user_id: row.user_id,
            state,
            state_reason,
            scopes: split_scopes(&row.scopes),
            create_time: row.create_time,
            update_time: row.update_time,
            authorize_time: row.authorize_time,
            token_expire_time: row.token_expire_time,
            token_refresh_time: row.token_refresh_time,
            last_token_fetch_time: row.last_token_fetch_time,
            profile,
        })
    }
}

fn parse_all(rows: Vec<AccountRow>) -> Result<Vec<Account>, StoreError> {
    let parsed: Result<Vec<Account>, CorruptRow> = rows.into_iter().map(Account::try_from).collect();
    parsed.map_err(|corrupt| StoreError::from(corrupt.into_sqlx()))
}

/// Reads accounts by id; each request may ask for several. The app is not part
/// of the question: whoever asks compares it.
pub struct ReadAccounts;

impl Batch for ReadAccounts {
    type Request = Box<[AccountId]>;
    type Answer = Vec<Option<Account>>;
    const NAME: &'static str = "read_accounts";
    const CONNECTIONS: usize = 2;

    async fn run(
        connection: &mut PgConnection,
        requests: &[Self::Request],
    ) -> sqlx::Result<Vec<Self::Answer>> {
        // How often each account is still needed: the last to need it takes it.
        let mut needed: HashMap<AccountId, usize> = HashMap::new();
        for id in requests.iter().flatten() {
            *needed.entry(*id).or_default() += 1;
        }
        let ids: Vec<Uuid> = needed.keys().map(|id| id.0).collect();
        let rows = sqlx::query_as!(
            AccountRow,
            "select account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                    create_time, update_time, authorize_time,
                    token_expire_time, token_refresh_time, last_token_fetch_time,
                    username, name, picture_url, biography, is_verified, profile_fetch_time
             from accounts
             where account_id = any((select $1::uuid[])::uuid[])",
            &ids
        )
        .fetch_all(connection)
        .await?;
        let mut accounts = HashMap::with_capacity(rows.len());
        for row in rows {
            let account = Account::try_from(row).map_err(CorruptRow::into_sqlx)?;
            accounts.insert(account.id, account);
        }
        let mut take = |id: &AccountId| match needed.get_mut(id) {
            Some(left) if *left > 1 => {
                *left -= 1;
                accounts.get(id).cloned()
            }
            _ => accounts.remove(id),
        };
        Ok(requests.iter().map(|ids| ids.iter().map(&mut take).collect()).collect())
    }
}

/// Which accounts a list shows.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    /// The app.
    pub app_id: &'a str,
    /// One user's; none for the whole app.
    pub user_id: Option<&'a str>,
    /// Their states.
    pub states: &'a [AccountState],
}

/// A page of accounts by id, from the first after `after`.
///
/// # Errors
/// [`StoreError`].
pub async fn page(
    pool: &Pool,
    filter: &Filter<'_>,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<Account>, StoreError> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let states: Vec<String> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
    let rows = if let Some(user_id) = filter.user_id {
        let query = sqlx::query_as!(
            AccountRow,
            "select account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                        create_time, update_time, authorize_time,
                        token_expire_time, token_refresh_time, last_token_fetch_time,
                        username, name, picture_url, biography, is_verified, profile_fetch_time
                 from accounts
                 where app_id = $1 and user_id = $2 and account_id > $3 and state = any($4)
                 order by account_id
                 limit $5",
            filter.app_id,
            user_id,
            after,
            &states,
            limit
        );
        run(pool, async |connection| query.fetch_all(connection).await).await?
    } else {
        let query = sqlx::query_as!(
            AccountRow,
            "select account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                        create_time, update_time, authorize_time,
                        token_expire_time, token_refresh_time, last_token_fetch_time,
                        username, name, picture_url, biography, is_verified, profile_fetch_time
                 from accounts
                 where app_id = $1 and account_id > $2 and state = any($3)
                 order by account_id
                 limit $4",
            filter.app_id,
            after,
            &states,
            limit
        );
        run(pool, async |connection| query.fetch_all(connection).await).await?
    };
    parse_all(rows)
}

/// What is unlinked, and why.
#[derive(Debug, Clone, Copy)]
pub struct Unlinking<'a> {
    /// The app.
    pub app_id: &'a str,
    /// The account.
    pub id: AccountId,
    /// Whose it must be.
    pub user_id: Option<&'a str>,
    /// When its newest consent may have been given at the latest.
    pub consented_until: Option<OffsetDateTime>,
    /// When it was said, if that was elsewhere: nothing that was said before counts.
    pub issue_time: Option<OffsetDateTime>,
    /// Why.
    pub reason: StateReason,
    /// Who says so, for the trail; a caller's own unlinking is in the events alone.
    pub noted: Option<(&'a str, &'a str)>,
    /// Now.
    pub now: OffsetDateTime,
}

/// Unlinks an account: its token and profile are gone with this statement. `None`
/// when there is no such account, or it is unlinked already.
///
/// # Errors
/// [`StoreError`].
pub async fn unlink(pool: &Pool, unlinking: &Unlinking<'_>) -> Result<Option<Account>, StoreError> {
    let query = sqlx::query_as!(
        AccountRow,
        r#"with unlinked as (
               update accounts
               set state = 'UNLINKED', state_reason = $4, update_time = $5,
                   token = null, token_expire_time = null, token_refresh_time = null,
                   username = null, name = null, picture_url = null, biography = null,
                   is_verified = null, profile_fetch_time = null, link_previous_user_id = null,
                   -- Whoever is refreshing the token writes nothing any more.
                   next_refresh_time = null, refresh_attempt = refresh_attempt + 1, refresh_lease_time = null,
                   previous_token = null, previous_token_expire_time = null,
                   previous_token_refresh_time = null, strike_time = null, strike_reason = null,
                   refresh_failing_time = null, refresh_failures = 0, refresh_failing_told = false,
                   deauthorize_time = coalesce($9, deauthorize_time)
               where account_id = $1 and app_id = $2 and ($3::text is null or user_id = $3)
                 and ($6::timestamptz is null or authorize_time <= $6)
                 and ($9::timestamptz is null or deauthorize_time is null or deauthorize_time < $9)
                 and state <> 'UNLINKED'
               returning *
           ), emitted as (
               insert into events (app_id, account_id, user_id, kind, event_time)
               select app_id, account_id, user_id,
                      case state_reason when 'DEAUTHORIZED' then state_reason else 'UNLINKED' end, $5
               from unlinked
           ), noted as (
               insert into audit (app_id, account_id, user_id, caller, action, detail, audit_time)
               select app_id, account_id, user_id, $7::text, state_reason, $8, $5 from unlinked where $7 is not null
           )
           select account_id as "account_id!", app_id as "app_id!", threads_user_id as "threads_user_id!",
                  user_id as "user_id!", state as "state!", state_reason, scopes as "scopes!",
                  create_time as "create_time!", update_time as "update_time!",
                  authorize_time as "authorize_time!",
                  token_expire_time, token_refresh_time, last_token_fetch_time,
                  username, name, picture_url, biography, is_verified, profile_fetch_time
           from unlinked"#,
        unlinking.id.0,
        unlinking.app_id,
        unlinking.user_id,
        unlinking.reason.as_str(),
        unlinking.now,
        unlinking.consented_until,
        unlinking.noted.map(|(caller, _)| caller),
        unlinking.noted.map(|(_, detail)| detail),
        unlinking.issue_time
    );
    let row = run(pool, async |connection| query.fetch_optional(connection).await).await?;
    Ok(parse_all(row.into_iter().collect())?.pop())
}

/// Whether an account was unlinked by a notice of this time, or of a later one.
///
/// # Errors
/// [`StoreError`].
pub async fn has_taken(pool: &Pool, id: AccountId, issue_time: OffsetDateTime) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar!(
        r#"select exists (select from accounts where account_id = $1 and deauthorize_time >= $2) as "taken!""#,
        id.0,
        issue_time
    );
    run(pool, async |connection| query.fetch_one(connection).await).await
}

/// Stores a profile that has just been read, unless the account has been
/// unlinked or consented anew since `authorize_time`. Tells whether it did.
///
/// # Errors
/// [`StoreError`].
pub async fn store_profile(
    pool: &Pool,
    id: AccountId,
    authorize_time: OffsetDateTime,
    profile: &Profile,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let query = sqlx::query!(
        "with before as (
             select account_id, row(username, name, biography, is_verified) as shown
             from accounts where account_id = $1
             -- As it is when the lock is held: of two readings at once each is compared with the other's.
             for no key update
         ), stored as (
             update accounts a
             set username = $3, name = $4, picture_url = $5, biography = $6, is_verified = $7,
                 profile_fetch_time = $8,
                 -- A token that works refutes what was said of it, unless somebody is just asking.
                 strike_time = case when a.refresh_lease_time > now() or a.previous_token is not null
                                    then a.strike_time end,
                 strike_reason = case when a.refresh_lease_time > now() or a.previous_token is not null
                                      then a.strike_reason end
             from before b
             where a.account_id = b.account_id and a.state <> 'UNLINKED' and a.authorize_time = $2
             returning a.account_id, a.app_id, a.user_id,
                       row(a.username, a.name, a.biography, a.is_verified) is distinct from b.shown as is_changed
         ), emitted as (
             -- A picture's address changes with every reading, the picture need not.
             insert into events (app_id, account_id, user_id, kind, event_time)
             select app_id, account_id, user_id, 'PROFILE_CHANGED', $8 from stored where is_changed
         )
         select account_id from stored",
        id.0,
        authorize_time,
        profile.username,
        profile.name,
        profile.picture_url,
        profile.biography,
        profile.is_verified,
        now
    );
    let stored = run(pool, async |connection| query.fetch_optional(connection).await).await?;
    Ok(stored.is_some())
}
