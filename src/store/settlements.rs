//! What came of an attempt to refresh, written back in one statement for all the
//! attempts that end at the same moment.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::coalescer::Batch;
use super::refreshes::{Failing, Held, Strike};
use crate::ids::AccountId;
use crate::profile::Profile;
use crate::states::StateReason;

/// What happens to the tokens of an account.
#[derive(Clone)]
pub enum TokenMove {
    /// Nothing.
    Keep,
    /// A new one takes its place; the one it replaces stays beside it.
    Renew {
        /// The new one.
        sealed: Vec<u8>,
        /// When it dies.
        expire_time: OffsetDateTime,
    },
    /// The new one is proven: the one before it is destroyed.
    Prove,
    /// The new one is destroyed: the one before it is back in its place.
    Restore,
}

impl TokenMove {
    fn name(&self) -> &'static str {
        match self {
            Self::Keep => "KEEP",
            Self::Renew { .. } => "RENEW",
            Self::Prove => "PROVE",
            Self::Restore => "RESTORE",
        }
    }
}

/// What is told to those who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The token was refreshed.
    Refreshed,
    /// Attempts have failed for a day.
    Failing,
    /// Attempts succeed again.
    Recovered,
    /// The person must consent again.
    ReauthorizationRequired,
}

impl Told {
    fn kind(self) -> &'static str {
        match self {
            Self::Refreshed => "TOKEN_REFRESHED",
            Self::Failing => "REFRESH_FAILING",
            Self::Recovered => "RECOVERED",
            Self::ReauthorizationRequired => "REAUTHORIZATION_REQUIRED",
        }
    }
}

/// What an account becomes by an attempt.
#[derive(Clone)]
pub struct Settlement {
    /// The account.
    pub id: AccountId,
    /// The attempt, which must still be the account's own.
    pub attempt: i64,
    /// The tokens.
    pub token: TokenMove,
    /// Set when the person must consent again.
    pub ending: Option<StateReason>,
    /// The strike that stands from now on.
    pub strike: Option<Strike>,
    /// The row of failures that stands from now on.
    pub failing: Option<Failing>,
    /// When to try next.
    pub next_refresh_time: OffsetDateTime,
    /// The profile, if it was read.
    pub profile: Option<Profile>,
    /// What is told. That the profile changed is found out here.
    pub told: Vec<Told>,
    /// Whether the attempt goes on.
    pub keeps_lease: bool,
    /// Now.
    pub now: OffsetDateTime,
}

impl Settlement {
    /// Ends an attempt and leaves the account as it is, to be tried again at once.
    #[must_use]
    pub fn unchanged(held: &Held, now: OffsetDateTime) -> Self {
        Self {
            id: held.id,
            attempt: held.attempt,
            token: TokenMove::Keep,
            ending: None,
            strike: held.strike,
            failing: held.failing,
            next_refresh_time: now,
            profile: None,
            told: Vec::new(),
            keeps_lease: false,
            now,
        }
    }
}

/// Writes settlements; answers whether the attempt was still the account's own.
///
/// A settlement that is repeated because the reply to its commit was lost finds
/// the lease released or the token renewed already, and is told no.
pub struct Settlements;

impl Batch for Settlements {
    type Request = Settlement;
    type Answer = bool;
    const NAME: &'static str = "refresh_settlements";

    fn writes(settlement: &Settlement) -> Option<Uuid> {
        Some(settlement.id.0)
    }

    #[expect(clippy::too_many_lines, reason = "one statement, and the arrays that feed it")]
    async fn run(connection: &mut PgConnection, settlements: &[Settlement]) -> sqlx::Result<Vec<bool>> {
        let all = || settlements.iter();
        let ids: Vec<Uuid> = all().map(|s| s.id.0).collect();
        let attempts: Vec<i64> = all().map(|s| s.attempt).collect();
        let moves: Vec<&str> = all().map(|s| s.token.name()).collect();
        let renewed = |s| match s {
            &Settlement { token: TokenMove::Renew { ref sealed, expire_time }, .. } => {
                Some((sealed.as_slice(), expire_time))
            }
            _ => None,
        };
        let tokens: Vec<Option<&[u8]>> = all().map(|s| renewed(s).map(|(sealed, _)| sealed)).collect();
        let expiries: Vec<Option<OffsetDateTime>> = all().map(|s| renewed(s).map(|(_, end)| end)).collect();
        let endings: Vec<Option<&str>> = all().map(|s| s.ending.map(StateReason::as_str)).collect();
        let strike_times: Vec<Option<OffsetDateTime>> =
            all().map(|s| s.strike.map(|strike| strike.time)).collect();
        let strikes: Vec<Option<&str>> =
            all().map(|s| s.strike.map(|strike| strike.reason.as_str())).collect();
        let failing: Vec<Option<OffsetDateTime>> = all().map(|s| s.failing.map(|f| f.since)).collect();
        let failures: Vec<i32> = all().map(|s| s.failing.map_or(0, |f| f.attempts)).collect();
        let failing_told: Vec<bool> = all().map(|s| s.failing.is_some_and(|f| f.told)).collect();
        let next: Vec<OffsetDateTime> = all().map(|s| s.next_refresh_time).collect();
        let has_profile: Vec<bool> = all().map(|s| s.profile.is_some()).collect();
        let profiles = || all().map(|s| s.profile.as_ref());
        let usernames: Vec<Option<&str>> = profiles().map(|p| p?.username.as_deref()).collect();
        let names: Vec<Option<&str>> = profiles().map(|p| p?.name.as_deref()).collect();
        let pictures: Vec<Option<&str>> = profiles().map(|p| p?.picture_url.as_deref()).collect();
        let biographies: Vec<Option<&str>> = profiles().map(|p| p?.biography.as_deref()).collect();
        let verified: Vec<Option<bool>> = profiles().map(|p| p?.is_verified).collect();
        let told = |s: &Settlement| s.told.iter().map(|told| told.kind()).collect::<Vec<_>>().join(" ");
        let kinds: Vec<String> = all().map(told).collect();
        let keeps_lease: Vec<bool> = all().map(|s| s.keeps_lease).collect();
        let nows: Vec<OffsetDateTime> = all().map(|s| s.now).collect();
        sqlx::query_scalar!(
            r#"with wanted as (
                   select * from unnest((select $1::uuid[]), $2::int8[], $3::text[], $4::bytea[], $5::timestamptz[],
                                        $6::text[], $7::timestamptz[], $8::text[], $9::timestamptz[], $10::int4[],
                                        $11::bool[], $12::timestamptz[], $13::bool[], $14::text[], $15::text[],
                                        $16::text[], $17::text[], $18::bool[], $19::text[], $20::bool[],
                                        $21::timestamptz[])
                   with ordinality as w(account_id, attempt, move, token, expire_time, ending, strike_time,
                                        strike_reason, failing_time, failures, failing_told, next_refresh_time,
                                        has_profile, username, name, picture_url, biography, is_verified, kinds,
                                        keeps_lease, now, n)
               ), fenced as (
                   select w.*, row(a.username, a.name, a.biography, a.is_verified) as shown
                   from wanted w
                   join accounts a using (account_id)
                   where a.refresh_attempt = w.attempt and a.state = 'ACTIVE'
                     and a.refresh_lease_time is not null
                     and (w.move <> 'RENEW' or a.previous_token is null)
                   -- In one order everywhere, so that two replicas never wait for each other in a circle.
                   order by a.account_id
                   for no key update of a
               ), settled as (
                   update accounts a
                   set token = case f.move when 'RENEW' then f.token when 'RESTORE' then a.previous_token
                                           else a.token end,
                       token_expire_time = case f.move when 'RENEW' then f.expire_time
                                                       when 'RESTORE' then a.previous_token_expire_time
                                                       else a.token_expire_time end,
                       token_refresh_time = case f.move when 'RENEW' then f.now
                                                        when 'RESTORE' then a.previous_token_refresh_time
                                                        else a.token_refresh_time end,
                       previous_token = case f.move when 'RENEW' then a.token
                                                    when 'KEEP' then a.previous_token end,
                       previous_token_expire_time = case f.move when 'RENEW' then a.token_expire_time
                                                                when 'KEEP' then a.previous_token_expire_time end,
                       previous_token_refresh_time = case f.move when 'RENEW' then a.token_refresh_time
                                                                 when 'KEEP' then a.previous_token_refresh_time end,
                       state = case when f.ending is null then a.state else 'REAUTHORIZATION_REQUIRED' end,
                       state_reason = f.ending,
                       strike_time = f.strike_time, strike_reason = f.strike_reason,
                       refresh_failing_time = f.failing_time, refresh_failures = f.failures,
                       refresh_failing_told = f.failing_told,
                       next_refresh_time = case when f.ending is null then f.next_refresh_time end,
                       refresh_lease_time = case when f.keeps_lease then a.refresh_lease_time end,
                       update_time = case when f.ending is not null or f.move = 'PROVE' then f.now
                                          else a.update_time end,
                       username = case when f.has_profile then f.username else a.username end,
                       name = case when f.has_profile then f.name else a.name end,
                       picture_url = case when f.has_profile then f.picture_url else a.picture_url end,
                       biography = case when f.has_profile then f.biography else a.biography end,
                       is_verified = case when f.has_profile then f.is_verified else a.is_verified end,
                       profile_fetch_time = case when f.has_profile then f.now else a.profile_fetch_time end
                   from fenced f
                   where a.account_id = f.account_id
                   returning a.app_id, a.account_id, a.user_id, f.n, f.now, f.kinds,
                             -- A picture's address changes with every reading, the picture need not.
                             f.shown is distinct from row(a.username, a.name, a.biography, a.is_verified)
                                 as is_changed
               ), emitted as (
                   insert into events (app_id, account_id, user_id, kind, event_time)
                   select s.app_id, s.account_id, s.user_id, k.kind, s.now
                   from settled s
                   cross join unnest(string_to_array(
                       s.kinds || case when s.is_changed then ' PROFILE_CHANGED' else '' end, ' ')) as k(kind)
                   where k.kind <> ''
               )
               select s.n is not null as "held!"
               from wanted w left join settled s using (n)
               order by w.n"#,
            &ids,
            &attempts,
            &moves as _,
            &tokens as _,
            &expiries as _,
            &endings as _,
            &strike_times as _,
            &strikes as _,
            &failing as _,
            &failures,
            &failing_told,
            &next,
            &has_profile,
            &usernames as _,
            &names as _,
            &pictures as _,
            &biographies as _,
            &verified as _,
            &kinds,
            &keeps_lease,
            &nows
        )
        .fetch_all(connection)
        .await
    }
}
