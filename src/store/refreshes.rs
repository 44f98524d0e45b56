//! Refreshing as it is stored: what is due, who may try, and what came of it.
//!
//! A lease is one conditional update by the database's own clock. Whoever holds
//! it names its attempt when writing back; a statement of an attempt that is no
//! longer the account's own finds no row.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::coalescer::Batch;
use super::{CorruptRow, Pool, StoreError, run};
use crate::ids::{AccountId, ThreadsUserId};
use crate::states::StateReason;

/// An account whose token is due.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// The account.
    pub id: AccountId,
    /// When its token dies.
    pub expire_time: OffsetDateTime,
}

/// What is due in an app and nobody's yet: first what dies first, of ten times as
/// many as are asked for.
///
/// # Errors
/// [`StoreError`].
pub async fn due(pool: &Pool, app_id: &str, now: OffsetDateTime, limit: i64) -> Result<Vec<Due>, StoreError> {
    let query = sqlx::query!(
        // Found by the index of what is due, and only then put in order: the other way round
        // the planner walks all tokens by expiry when it believes that many are due.
        r#"with due as materialized (
               select account_id, token_expire_time
               from accounts
               where state = 'ACTIVE' and app_id = $1 and next_refresh_time <= $2
                 and token_expire_time > $2
                 and (refresh_lease_time is null or refresh_lease_time <= now())
               order by next_refresh_time
               limit 10 * $3::int8
           )
           select account_id, token_expire_time as "expire_time!"
           from due
           order by token_expire_time, account_id
           limit $3::int8"#,
        app_id,
        now,
        limit
    );
    let rows = run(pool, async |connection| query.fetch_all(connection).await).await?;
    Ok(rows
        .into_iter()
        .map(|row| Due { id: AccountId(row.account_id), expire_time: row.expire_time })
        .collect())
}

/// A wish to hold the lease of an account.
pub struct Claim {
    /// The account.
    pub id: AccountId,
    /// The app.
    pub app_id: String,
    /// Only if it is due.
    pub due: bool,
    /// Only if the token that is handed out dies before.
    pub dies_before: Option<OffsetDateTime>,
    /// How long the lease holds.
    pub lease: Duration,
    /// Now.
    pub now: OffsetDateTime,
}

/// An account whose lease is held, as it stands. Nobody else tries meanwhile.
#[derive(Clone)]
pub struct Held {
    /// The account.
    pub id: AccountId,
    /// The number of this attempt.
    pub attempt: i64,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
    /// The newest token, sealed.
    pub token: Vec<u8>,
    /// When it dies.
    pub token_expire_time: OffsetDateTime,
    /// When it was obtained or refreshed.
    pub token_refresh_time: OffsetDateTime,
    /// The sealed token before it, while the newest is not proven.
    pub previous_token: Option<Vec<u8>>,
    /// When Threads first refused, and what that makes of the account.
    pub strike: Option<Strike>,
    /// Since when every attempt has failed.
    pub failing: Option<Failing>,
}

/// A refusal that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// When.
    pub time: OffsetDateTime,
    /// What it makes of the account when it is said again.
    pub reason: StateReason,
}

/// An unbroken row of failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// When the first failed.
    pub since: OffsetDateTime,
    /// How many did.
    pub attempts: i32,
    /// Whether those who watch have been told.
    pub told: bool,
}

/// Takes leases; many in one statement. `None`: not to be had, or not due.
pub struct Claims;

impl Batch for Claims {
    type Request = Claim;
    type Answer = Result<Option<Held>, StoreError>;
    const NAME: &'static str = "refresh_claims";

    fn writes(claim: &Claim) -> Option<Uuid> {
        Some(claim.id.0)
    }

    #[expect(clippy::too_many_lines, reason = "one statement, the arrays that feed it, and a row")]
    async fn run(connection: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Self::Answer>> {
        let ids: Vec<Uuid> = claims.iter().map(|claim| claim.id.0).collect();
        let apps: Vec<&str> = claims.iter().map(|claim| claim.app_id.as_str()).collect();
        let due: Vec<bool> = claims.iter().map(|claim| claim.due).collect();
        let dying: Vec<Option<OffsetDateTime>> = claims.iter().map(|claim| claim.dies_before).collect();
        let leases: Vec<f64> = claims.iter().map(|claim| claim.lease.as_secs_f64()).collect();
        let nows: Vec<OffsetDateTime> = claims.iter().map(|claim| claim.now).collect();
        let rows = sqlx::query!(
            r#"with wanted as (
                   select * from unnest((select $1::uuid[]), $2::text[], $3::bool[], $4::timestamptz[], $5::float8[],
                                        $6::timestamptz[])
                   with ordinality as w(account_id, app_id, due, dies_before, lease, now, n)
               ), free as (
                   select a.account_id, w.n, w.lease
                   from accounts a
                   join wanted w using (account_id, app_id)
                   where a.state = 'ACTIVE' and a.token_expire_time > w.now
                     and (a.refresh_lease_time is null or a.refresh_lease_time <= now())
                     and (not w.due or a.next_refresh_time <= w.now)
                     and (w.dies_before is null
                          or coalesce(a.previous_token_expire_time, a.token_expire_time) < w.dies_before)
                   -- In one order everywhere, so that two replicas never wait for each other in a circle.
                   order by a.account_id
                   for no key update of a
               )
               update accounts a
               set refresh_attempt = a.refresh_attempt + 1,
                   refresh_lease_time = now() + make_interval(secs => f.lease)
               from free f
               where a.account_id = f.account_id
               returning f.n as "n!", a.account_id, a.refresh_attempt, a.threads_user_id, a.token as "token!",
                         a.token_expire_time as "token_expire_time!",
                         a.token_refresh_time as "token_refresh_time!", a.previous_token,
                         a.strike_time, a.strike_reason,
                         a.refresh_failing_time, a.refresh_failures, a.refresh_failing_told"#,
            &ids,
            &apps as _,
            &due,
            &dying as _,
            &leases,
            &nows
        )
        .fetch_all(connection)
        .await?;
        let mut held: Vec<Self::Answer> = claims.iter().map(|_| Ok(None)).collect();
        for row in rows {
            let corrupt = |what| CorruptRow { table: "accounts", id: row.account_id, what }.into_sqlx();
            let strike = match (row.strike_time, row.strike_reason.as_deref().map(StateReason::parse)) {
                (Some(time), Some(Some(reason))) => Ok(Some(Strike { time, reason })),
                (None, None) => Ok(None),
                _ => Err(corrupt("strike and reason do not go together").into()),
            };
            let person = ThreadsUserId::parse(&row.threads_user_id);
            let failing = row.refresh_failing_time.map(|since| Failing {
                since,
                attempts: row.refresh_failures,
                told: row.refresh_failing_told,
            });
            let Some(place) = usize::try_from(row.n - 1).ok().and_then(|n| held.get_mut(n)) else { continue };
            *place = strike.and_then(|strike| {
                Ok(Some(Held {
                    id: AccountId(row.account_id),
                    attempt: row.refresh_attempt,
                    threads_user_id: person.ok_or_else(|| corrupt("not a Threads id"))?,
                    token: row.token,
                    token_expire_time: row.token_expire_time,
                    token_refresh_time: row.token_refresh_time,
                    previous_token: row.previous_token,
                    strike,
                    failing,
                }))
            });
        }
        Ok(held)
    }
}

/// Ends the accounts whose tokens have died and that nobody is at: at most `limit`
/// of them, and how many there were. What Threads said last is the reason, if it said anything.
///
/// # Errors
/// [`StoreError`].
pub async fn expire(pool: &Pool, now: OffsetDateTime, limit: i64) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar!(
        r#"with dead as (
               select account_id from accounts
               where state = 'ACTIVE' and token_expire_time <= $1
                 and (refresh_lease_time is null or refresh_lease_time <= now())
                 and (previous_token_expire_time is null or previous_token_expire_time <= $1)
               order by token_expire_time
               limit $2
           ), locked as (
               select a.account_id from accounts a join dead using (account_id)
               where a.state = 'ACTIVE' and a.token_expire_time <= $1
                 and (a.refresh_lease_time is null or a.refresh_lease_time <= now())
                 and (a.previous_token_expire_time is null or a.previous_token_expire_time <= $1)
               order by a.account_id
               for no key update of a
           ), ended as (
               update accounts a
               set state = 'REAUTHORIZATION_REQUIRED', state_reason = coalesce(a.strike_reason, 'TOKEN_EXPIRED'),
                   update_time = $1, next_refresh_time = null, refresh_lease_time = null,
                   refresh_attempt = a.refresh_attempt + 1,
                   previous_token = null, previous_token_expire_time = null, previous_token_refresh_time = null,
                   strike_time = null, strike_reason = null
               from locked l
               where a.account_id = l.account_id
               returning a.app_id, a.account_id, a.user_id
           ), emitted as (
               insert into events (app_id, account_id, user_id, kind, event_time)
               select app_id, account_id, user_id, 'REAUTHORIZATION_REQUIRED', $1 from ended
           )
           select count(*) as "count!" from ended"#,
        now,
        limit
    );
    run(pool, async |connection| query.fetch_one(connection).await).await
}

/// Has an account's token refreshed as soon as its age allows, if another attempt
/// than this one has come after it.
///
/// # Errors
/// [`StoreError`].
pub async fn refresh_soon(
    pool: &Pool,
    id: AccountId,
    attempt: i64,
    minimum_age: Duration,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "update accounts
         set next_refresh_time = least(next_refresh_time,
                                       greatest(token_refresh_time + make_interval(secs => $3), $4))
         where account_id = $1 and state = 'ACTIVE' and refresh_attempt > $2",
        id.0,
        attempt,
        minimum_age.as_secs_f64(),
        now
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}

/// Notes a refusal that was met outside an attempt, as the first strike, unless
/// the token is another by now or somebody is at it.
///
/// # Errors
/// [`StoreError`].
pub async fn strike(
    pool: &Pool,
    id: AccountId,
    refresh_time: OffsetDateTime,
    strike: Strike,
    next_refresh_time: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "update accounts
         set strike_time = $3, strike_reason = $4, next_refresh_time = $5,
             refresh_failing_time = coalesce(refresh_failing_time, $3), refresh_failures = refresh_failures + 1
         where account_id = $1 and state = 'ACTIVE' and token_refresh_time = $2 and strike_time is null
           -- While a new token waits to be proven, what was refused is the one before it.
           and previous_token is null
           and (refresh_lease_time is null or refresh_lease_time <= now())",
        id.0,
        refresh_time,
        strike.time,
        strike.reason.as_str(),
        next_refresh_time
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}
