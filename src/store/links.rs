//! The last write of a link: account, event and outcome in one statement, and
//! many links in one commit.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::accounts::{Account, AccountRow};
use super::coalescer::Batch;
use super::{CorruptRow, join_scopes};
use crate::error::Reason;
use crate::ids::{AccountId, AuthorizationId};
use crate::profile::Profile;
use crate::states::LinkOutcome;

/// What to do about an account that is linked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// Refuse it if it is another user's.
    Reject,
    /// Take it over.
    Transfer,
    /// Answer with the user it is linked to.
    SignIn,
}

impl LinkMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "REJECT",
            Self::Transfer => "TRANSFER",
            Self::SignIn => "SIGN_IN",
        }
    }
}

/// A link that Threads has answered for in full.
pub struct Link {
    /// The authorization.
    pub authorization_id: AuthorizationId,
    /// Whose claim it must still be.
    pub claim_id: Uuid,
    /// The account.
    pub account_id: AccountId,
    /// The app.
    pub app_id: String,
    /// The user to link to; for a sign-in, the one to use if nobody has it.
    pub user_id: String,
    /// What to do about an account that is linked already.
    pub mode: LinkMode,
    /// Whether the account must be this user's already.
    pub bound: bool,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// The sealed long-lived token.
    pub sealed_token: Vec<u8>,
    /// When it dies.
    pub token_expire_time: OffsetDateTime,
    /// When it is refreshed.
    pub next_refresh_time: OffsetDateTime,
    /// The profile.
    pub profile: Profile,
    /// When the URL was made: the person has not consented before.
    pub begin_time: OffsetDateTime,
    /// When the person had consented, as far as we know: when the browser came back.
    pub authorize_time: OffsetDateTime,
    /// Now.
    pub now: OffsetDateTime,
}

/// An account, and what linking did to it.
#[derive(Debug, Clone)]
pub struct LinkedAccount {
    /// As it now stands.
    pub account: Account,
    /// What was done to it.
    pub outcome: LinkOutcome,
}

/// How a link ended.
pub enum Linked {
    /// The account is linked.
    Done(Box<LinkedAccount>),
    /// The authorization has ended without it, for this reason.
    Refused(Reason),
    /// The claim is somebody else's now, or the authorization has ended.
    ClaimLost,
}

/// Links accounts.
pub struct Links;

impl Batch for Links {
    type Request = Link;
    type Answer = Linked;
    const NAME: &'static str = "links";

    fn writes(link: &Link) -> Option<Uuid> {
        Some(link.account_id.0)
    }

    #[expect(clippy::too_many_lines, reason = "one statement, and the arrays that feed it")]
    async fn run(connection: &mut PgConnection, links: &[Link]) -> sqlx::Result<Vec<Linked>> {
        let authorizations: Vec<Uuid> = links.iter().map(|link| link.authorization_id.0).collect();
        let claims: Vec<Uuid> = links.iter().map(|link| link.claim_id).collect();
        let accounts: Vec<Uuid> = links.iter().map(|link| link.account_id.0).collect();
        let apps: Vec<&str> = links.iter().map(|link| link.app_id.as_str()).collect();
        let persons: Vec<&str> = links.iter().map(|link| link.profile.id.as_str()).collect();
        let users: Vec<&str> = links.iter().map(|link| link.user_id.as_str()).collect();
        let modes: Vec<&str> = links.iter().map(|link| link.mode.as_str()).collect();
        let bound: Vec<bool> = links.iter().map(|link| link.bound).collect();
        let scopes: Vec<String> = links.iter().map(|link| join_scopes(&link.scopes)).collect();
        let tokens: Vec<&[u8]> = links.iter().map(|link| link.sealed_token.as_slice()).collect();
        let expiries: Vec<OffsetDateTime> = links.iter().map(|link| link.token_expire_time).collect();
        let due: Vec<OffsetDateTime> = links.iter().map(|link| link.next_refresh_time).collect();
        let usernames: Vec<Option<&str>> =
            links.iter().map(|link| link.profile.username.as_deref()).collect();
        let names: Vec<Option<&str>> = links.iter().map(|link| link.profile.name.as_deref()).collect();
        let pictures: Vec<Option<&str>> =
            links.iter().map(|link| link.profile.picture_url.as_deref()).collect();
        let biographies: Vec<Option<&str>> =
            links.iter().map(|link| link.profile.biography.as_deref()).collect();
        let verified: Vec<Option<bool>> = links.iter().map(|link| link.profile.is_verified).collect();
        let consents: Vec<OffsetDateTime> = links.iter().map(|link| link.authorize_time).collect();
        let begun: Vec<OffsetDateTime> = links.iter().map(|link| link.begin_time).collect();
        let nows: Vec<OffsetDateTime> = links.iter().map(|link| link.now).collect();
        let rows = sqlx::query!(
            r#"with wanted as (
                   select * from unnest((select $1::uuid[]), $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                                        $7::text[], $8::bool[], $9::text[], $10::bytea[], $11::timestamptz[],
                                        $12::text[], $13::text[], $14::text[], $15::text[], $16::bool[],
                                        $17::timestamptz[], $18::timestamptz[], $19::timestamptz[],
                                        $20::timestamptz[])
                   with ordinality as w(authorization_id, claim_id, account_id, app_id, threads_user_id, user_id,
                                        link_mode, bound, scopes, token, token_expire_time, username, name,
                                        picture_url, biography, is_verified, authorize_time, now, next_refresh_time,
                                        begin_time, n)
               ), fenced as (
                   -- Only who still holds the claim may write; the lock keeps it so.
                   select w.*,
                          exists (select from erasures x
                                  where x.account_id = w.account_id and x.erase_time > w.begin_time) as erased
                   from wanted w
                   join authorizations a
                     on a.authorization_id = w.authorization_id and a.claim_id = w.claim_id
                    and a.state = 'IN_PROGRESS'
                   order by a.authorization_id
                   for update of a
               ), linked as (
                   insert into accounts as t (
                       account_id, app_id, threads_user_id, user_id, state, scopes, token, token_expire_time,
                       token_refresh_time, username, name, picture_url, biography, is_verified,
                       profile_fetch_time, create_time, update_time, authorize_time,
                       link_mode, link_authorization_id, link_outcome, next_refresh_time, consent_begin_time,
                       refresh_attempt)
                   select account_id, app_id, threads_user_id, user_id, 'ACTIVE', scopes, token,
                          token_expire_time, now, username, name, picture_url, biography, is_verified,
                          now, now, now, authorize_time, link_mode, authorization_id, 'LINKED', next_refresh_time,
                          begin_time,
                          -- Above every attempt of an account of this id that has been erased: one that
                          -- is still under way must not take this one for its own.
                          (extract(epoch from now) * 1000000)::bigint
                   from fenced f
                   -- Whoever erased it after the URL was made has the last word: the consent may be older.
                   where not f.erased
                     and (not f.bound
                          or exists (select from accounts x
                                     where x.account_id = f.account_id and x.user_id = f.user_id))
                   -- In one order everywhere, so that two batches never wait for each other in a circle.
                   order by account_id
                   on conflict (account_id) do update set
                       -- The newest consent's token and scopes win, whichever finishes first; a
                       -- sign-in that asked for less than an ACTIVE account holds takes nothing away.
                       -- A token that is replaced takes with it every attempt to refresh it.
                       (scopes, token, token_expire_time, token_refresh_time, state, state_reason,
                        next_refresh_time, refresh_attempt, refresh_lease_time, previous_token,
                        previous_token_expire_time, previous_token_refresh_time, strike_time, strike_reason,
                        refresh_failing_time, refresh_failures, refresh_failing_told) = (
                           select k.scopes, k.token, k.token_expire_time, k.token_refresh_time, k.state, k.reason,
                                  k.next_refresh_time, k.attempt, k.lease_time, k.previous_token,
                                  k.previous_expire_time, k.previous_refresh_time, k.strike_time, k.strike_reason,
                                  k.failing_time, k.failures, k.told
                           from (values
                               (true, excluded.scopes, excluded.token, excluded.token_expire_time,
                                excluded.token_refresh_time, 'ACTIVE', null,
                                excluded.next_refresh_time, t.refresh_attempt + 1, null, null,
                                null, null, null, null, null, 0, false),
                               (false, t.scopes, t.token, t.token_expire_time,
                                t.token_refresh_time, t.state, t.state_reason,
                                t.next_refresh_time, t.refresh_attempt, t.refresh_lease_time, t.previous_token,
                                t.previous_token_expire_time, t.previous_token_refresh_time, t.strike_time,
                                t.strike_reason, t.refresh_failing_time, t.refresh_failures,
                                t.refresh_failing_told)
                           ) as k(newest, scopes, token, token_expire_time, token_refresh_time, state, reason,
                                  next_refresh_time, attempt, lease_time, previous_token, previous_expire_time,
                                  previous_refresh_time, strike_time, strike_reason, failing_time, failures, told)
                           where k.newest = (
                               t.state = 'UNLINKED'
                               or (excluded.link_mode <> 'SIGN_IN' and t.user_id <> excluded.user_id)
                               or (t.authorize_time <= excluded.authorize_time
                                   and (excluded.link_mode <> 'SIGN_IN' or t.state <> 'ACTIVE'
                                        or string_to_array(excluded.scopes, ' ')
                                           @> string_to_array(t.scopes, ' '))))
                       ),
                       user_id = case when excluded.link_mode = 'SIGN_IN' then t.user_id else excluded.user_id end,
                       create_time = case when excluded.link_mode = 'SIGN_IN' or t.user_id = excluded.user_id
                                          then t.create_time else excluded.create_time end,
                       last_token_fetch_time = case when excluded.link_mode = 'SIGN_IN'
                                                      or t.user_id = excluded.user_id
                                                    then t.last_token_fetch_time end,
                       authorize_time = greatest(t.authorize_time, excluded.authorize_time),
                       consent_begin_time = greatest(t.consent_begin_time, excluded.consent_begin_time),
                       update_time = excluded.update_time,
                       username = excluded.username, name = excluded.name,
                       picture_url = excluded.picture_url, biography = excluded.biography,
                       is_verified = excluded.is_verified, profile_fetch_time = excluded.profile_fetch_time,
                       link_mode = excluded.link_mode,
                       link_authorization_id = excluded.link_authorization_id,
                       link_outcome = case
                           when excluded.link_mode = 'SIGN_IN' or t.user_id = excluded.user_id then
                               case when t.state = 'UNLINKED' then 'RELINKED' else 'REAUTHORIZED' end
                           when t.state = 'UNLINKED' then 'LINKED'
                           else 'TRANSFERRED' end,
                       link_previous_user_id = case
                           when excluded.link_mode <> 'SIGN_IN' and t.user_id <> excluded.user_id
                                and t.state <> 'UNLINKED' then t.user_id end
                   where (excluded.link_mode <> 'REJECT' or t.state = 'UNLINKED' or t.user_id = excluded.user_id)
                     -- Whoever unlinked it after the URL was made has the last word, too.
                     and (t.state <> 'UNLINKED' or t.update_time <= excluded.consent_begin_time)
                     -- An older consent takes an account over from nobody who consented since.
                     and (excluded.link_mode <> 'TRANSFER' or t.state = 'UNLINKED'
                          or t.user_id = excluded.user_id or t.authorize_time <= excluded.authorize_time)
                   returning t.*
               ), emitted as (
                   insert into events (app_id, account_id, user_id, previous_user_id, kind, event_time)
                   select app_id, account_id, user_id, link_previous_user_id, link_outcome, update_time
                   from linked
               ), ended as (
                   update authorizations a
                   set state = case when l.account_id is null then 'FAILED' else 'SUCCEEDED' end,
                       failure_reason = case
                           when l.account_id is not null then null
                           when f.erased then 'ACCOUNT_UNLINKED'
                           when exists (select from accounts x
                                        where x.account_id = f.account_id
                                          and (x.state = 'UNLINKED' or x.user_id = f.user_id))
                           then 'ACCOUNT_UNLINKED'
                           when f.bound then 'ACCOUNT_NOT_FOUND'
                           else 'ACCOUNT_LINKED_TO_ANOTHER_USER' end,
                       outcome = l.link_outcome,
                       user_id = coalesce(l.user_id, a.user_id),
                       account_id = coalesce(l.account_id, a.account_id),
                       end_time = f.now,
                       short_lived_token = null, short_lived_expire_time = null, token_account_id = null
                   from fenced f left join linked l on l.link_authorization_id = f.authorization_id
                   where a.authorization_id = f.authorization_id
                   returning a.authorization_id, a.failure_reason
               )
               select e.authorization_id is not null as "held!", e.failure_reason,
                      l.user_id as "user_id?", l.state as "state?", l.state_reason, l.scopes as "scopes?",
                      l.create_time as "create_time?", l.authorize_time as "authorize_time?",
                      l.token_expire_time, l.token_refresh_time, l.last_token_fetch_time, l.link_outcome
               from wanted w
               left join ended e using (authorization_id)
               left join linked l on l.link_authorization_id = w.authorization_id
               order by w.n"#,
            &authorizations,
            &claims,
            &accounts,
            &apps as _,
            &persons as _,
            &users as _,
            &modes as _,
            &bound,
            &scopes,
            &tokens as _,
            &expiries,
            &usernames as _,
            &names as _,
            &pictures as _,
            &biographies as _,
            &verified as _,
            &consents,
            &nows,
            &due,
            &begun
        )
        .fetch_all(connection)
        .await?;
        let mut answers = Vec::with_capacity(links.len());
        for (link, row) in links.iter().zip(rows) {
            let corrupt = |what| CorruptRow { table: "accounts", id: link.account_id.0, what }.into_sqlx();
            answers.push(match (row.held, row.failure_reason, row.user_id, row.link_outcome) {
                (false, ..) => Linked::ClaimLost,
                (true, Some(reason), ..) => {
                    Linked::Refused(Reason::from_str_name(&reason).ok_or_else(|| corrupt("unknown reason"))?)
                }
                (true, None, Some(user_id), Some(outcome)) => {
                    let profile = link.profile.clone();
                    let account = AccountRow {
                        account_id: link.account_id.0,
                        app_id: link.app_id.clone(),
                        threads_user_id: profile.id.as_str().to_owned(),
                        user_id,
                        state: row.state.unwrap_or_default(),
                        state_reason: row.state_reason,
                        scopes: row.scopes.unwrap_or_default(),
                        create_time: row.create_time.unwrap_or(link.now),
                        update_time: link.now,
                        authorize_time: row.authorize_time.unwrap_or(link.authorize_time),
                        token_expire_time: row.token_expire_time,
                        token_refresh_time: row.token_refresh_time,
                        last_token_fetch_time: row.last_token_fetch_time,
                        username: profile.username,
                        name: profile.name,
                        picture_url: profile.picture_url,
                        biography: profile.biography,
                        is_verified: profile.is_verified,
                        profile_fetch_time: Some(link.now),
                    };
                    let account = Account::try_from(account).map_err(CorruptRow::into_sqlx)?;
                    let outcome = LinkOutcome::parse(&outcome).ok_or_else(|| corrupt("unknown outcome"))?;
                    Linked::Done(Box::new(LinkedAccount { account, outcome }))
                }
                (true, None, ..) => return Err(corrupt("linked and not linked")),
            });
        }
        Ok(answers)
    }
}
