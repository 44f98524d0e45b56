//! The claims of those who complete authorizations: the tables `authorizations`
//! and `codes` as they are written. Whoever holds the claim may write; everybody
//! else's statement finds no row.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::authorizations::Ending;
use super::coalescer::Batch;
use super::{CorruptRow, Pool, StoreError, join_scopes, run};
use crate::error::Reason;
use crate::ids::{AccountId, AuthorizationId};
use crate::states::{StateReason, Step};

/// The first write of a completion.
pub struct Claim {
    /// The authorization.
    pub id: AuthorizationId,
    /// The app.
    pub app_id: String,
    /// The user it was created for; none for a sign-in.
    pub user_id: Option<String>,
    /// The account it was created for.
    pub account_id: Option<AccountId>,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Whether an account of another user is taken over.
    pub transfer: bool,
    /// SHA-256 of what the browser brought.
    pub answer_hash: [u8; 32],
    /// SHA-256 of the code, if it brought one.
    pub code_hash: Option<[u8; 32]>,
    /// Set when it has ended before it began: denied, or another's.
    pub ending: Option<Ending>,
    /// Who claims it.
    pub claim_id: Uuid,
    /// Until when nobody else may go on.
    pub claim_expire_time: OffsetDateTime,
    /// When its URL was created.
    pub create_time: OffsetDateTime,
    /// Now.
    pub now: OffsetDateTime,
}

/// How a claim went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// It is this claim's. The code has never been seen and is not spent.
    Won,
    /// It is this claim's, and has ended: as it asked, or because the code has
    /// been presented before.
    Ended,
    /// Somebody has claimed it before.
    Taken,
}

/// Inserts authorizations and the codes that came for them. Committed before a
/// code is spent: whoever loses here never reaches Threads.
pub struct Claims;

impl Batch for Claims {
    type Request = Claim;
    type Answer = Claimed;
    const NAME: &'static str = "claims";

    #[expect(clippy::too_many_lines, reason = "one statement, and the arrays that feed it")]
    async fn run(connection: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Claimed>> {
        let ids: Vec<Uuid> = claims.iter().map(|claim| claim.id.0).collect();
        let apps: Vec<&str> = claims.iter().map(|claim| claim.app_id.as_str()).collect();
        let users: Vec<Option<&str>> = claims.iter().map(|claim| claim.user_id.as_deref()).collect();
        let accounts: Vec<Option<Uuid>> =
            claims.iter().map(|claim| claim.account_id.map(|id| id.0)).collect();
        let scopes: Vec<String> = claims.iter().map(|claim| join_scopes(&claim.scopes)).collect();
        let transfers: Vec<bool> = claims.iter().map(|claim| claim.transfer).collect();
        let answers: Vec<&[u8]> = claims.iter().map(|claim| claim.answer_hash.as_slice()).collect();
        let codes: Vec<Option<&[u8]>> =
            claims.iter().map(|claim| claim.code_hash.as_ref().map(<[u8; 32]>::as_slice)).collect();
        let reasons: Vec<Option<&str>> =
            claims.iter().map(|claim| claim.ending.map(|ending| ending.reason.as_str_name())).collect();
        let claim_ids: Vec<Uuid> = claims.iter().map(|claim| claim.claim_id).collect();
        let expiries: Vec<OffsetDateTime> = claims.iter().map(|claim| claim.claim_expire_time).collect();
        let created: Vec<OffsetDateTime> = claims.iter().map(|claim| claim.create_time).collect();
        let nows: Vec<OffsetDateTime> = claims.iter().map(|claim| claim.now).collect();
        let rows = sqlx::query!(
            r#"with wanted as (
                   select * from unnest((select $1::uuid[]), $2::text[], $3::text[], $4::uuid[], $5::text[], $6::bool[],
                                        $7::bytea[], $8::bytea[], $9::text[], $10::uuid[], $11::timestamptz[],
                                        $12::timestamptz[], $13::timestamptz[])
                   with ordinality as w(authorization_id, app_id, user_id, account_id, scopes, transfer,
                                        answer_hash, code_hash, ending, claim_id, claim_expire_time,
                                        create_time, now, n)
               ), fresh as (
                   -- In one order everywhere, so that two batches never wait for each other in a circle.
                   insert into codes (code_hash, authorization_id, claim_time)
                   select code_hash, authorization_id, now from wanted where code_hash is not null
                   order by code_hash
                   on conflict (code_hash) do nothing
                   returning code_hash, authorization_id
               ), decided as (
                   select w.*,
                          case when w.ending is not null then w.ending
                               when f.code_hash is null then 'CODE_REJECTED'
                          end as failure_reason
                   from wanted w left join fresh f using (code_hash, authorization_id)
               ), claimed as (
                   insert into authorizations (authorization_id, app_id, sign_in, user_id, account_id, scopes, transfer,
                                               answer_hash, state, step, failure_reason, claim_id,
                                               claim_expire_time, create_time, attempt_time, end_time)
                   select authorization_id, app_id, user_id is null, user_id, account_id, scopes, transfer, answer_hash,
                          case when failure_reason is null then 'IN_PROGRESS'
                               when failure_reason = 'AUTHORIZATION_DENIED' then 'DENIED'
                               else 'FAILED' end,
                          'EXCHANGING', failure_reason, claim_id, claim_expire_time, create_time, now,
                          case when failure_reason is not null then now end
                   from decided
                   order by authorization_id
                   on conflict (authorization_id) do nothing
                   returning authorization_id, claim_id, state
               )
               -- A claim that is repeated because the reply to its commit was lost
               -- finds its own row already there, and is told the same.
               select coalesce(c.state, a.state) as state
               from wanted w
               left join claimed c using (authorization_id, claim_id)
               left join authorizations a using (authorization_id, claim_id)
               order by w.n"#,
            &ids,
            &apps as _,
            &users as _,
            &accounts as _,
            &scopes,
            &transfers,
            &answers as _,
            &codes as _,
            &reasons as _,
            &claim_ids,
            &expiries,
            &created,
            &nows
        )
        .fetch_all(connection)
        .await?;
        let claimed = rows.into_iter().map(|row| match row.state.as_deref() {
            None => Claimed::Taken,
            Some("IN_PROGRESS") => Claimed::Won,
            Some(_) => Claimed::Ended,
        });
        Ok(claimed.collect())
    }
}

/// A short-lived token on its way into storage.
pub struct ShortLivedWrite {
    /// The authorization.
    pub id: AuthorizationId,
    /// Whose claim it must still be.
    pub claim_id: Uuid,
    /// Whose it is, if Threads has said so.
    pub account_id: Option<AccountId>,
    /// The sealed token.
    pub sealed: Vec<u8>,
    /// When it dies.
    pub expire_time: OffsetDateTime,
}

/// Stores short-lived tokens; answers whether the claim still held, and nobody has
/// erased the account after this consent.
pub struct StoreShortLived;

impl Batch for StoreShortLived {
    type Request = ShortLivedWrite;
    type Answer = bool;
    const NAME: &'static str = "short_lived_tokens";

    fn writes(write: &ShortLivedWrite) -> Option<Uuid> {
        Some(write.id.0)
    }

    async fn run(connection: &mut PgConnection, writes: &[ShortLivedWrite]) -> sqlx::Result<Vec<bool>> {
        let ids: Vec<Uuid> = writes.iter().map(|write| write.id.0).collect();
        let claims: Vec<Uuid> = writes.iter().map(|write| write.claim_id).collect();
        let accounts: Vec<Option<Uuid>> =
            writes.iter().map(|write| write.account_id.map(|id| id.0)).collect();
        let sealed: Vec<&[u8]> = writes.iter().map(|write| write.sealed.as_slice()).collect();
        let expiries: Vec<OffsetDateTime> = writes.iter().map(|write| write.expire_time).collect();
        let rows = sqlx::query_scalar!(
            "with held as (
                 select a.authorization_id, w.sealed, w.expire_time, w.account_id
                 from authorizations a
                 join unnest((select $1::uuid[]), $2::uuid[], $3::bytea[], $4::timestamptz[], $5::uuid[])
                      as w(authorization_id, claim_id, sealed, expire_time, account_id)
                      using (authorization_id, claim_id)
                 where a.state = 'IN_PROGRESS'
                   and not exists (select from erasures x
                                   where x.account_id = w.account_id and x.erase_time > a.attempt_time)
                 -- In one order everywhere: a user with several of them may just be erased.
                 order by a.authorization_id
                 for update of a
             )
             update authorizations a
             set short_lived_token = h.sealed, short_lived_expire_time = h.expire_time, step = 'EXCHANGED',
                 token_account_id = h.account_id
             from held h
             where a.authorization_id = h.authorization_id
             returning a.authorization_id",
            &ids,
            &claims,
            &sealed as _,
            &expiries,
            &accounts as _
        )
        .fetch_all(connection)
        .await?;
        Ok(ids.iter().map(|id| rows.contains(id)).collect())
    }
}

/// What somebody needs who goes on where another stopped.
pub struct Resumed {
    /// How far it had come.
    pub step: Step,
    /// The sealed short-lived token and when it dies.
    pub short_lived: Option<(Vec<u8>, OffsetDateTime)>,
}

/// Takes over an authorization that is IN_PROGRESS and nobody's any more.
/// `None`: somebody was faster, or it has ended.
///
/// # Errors
/// [`StoreError`].
pub async fn resume(
    pool: &Pool,
    id: AuthorizationId,
    claim_id: Uuid,
    claim_expire_time: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Option<Resumed>, StoreError> {
    let query = sqlx::query!(
        // Back from UNSENT to EXCHANGING before the code is sent: from here on
        // it may have been.
        r#"with before as (
               select authorization_id, step from authorizations where authorization_id = $1 for update
           )
           update authorizations a
           set claim_id = $2, claim_expire_time = $3,
               step = case a.step when 'UNSENT' then 'EXCHANGING' else a.step end
           from before b
           where a.authorization_id = b.authorization_id and a.state = 'IN_PROGRESS' and a.claim_expire_time <= $4
           returning b.step, a.short_lived_token, a.short_lived_expire_time"#,
        id.0,
        claim_id,
        claim_expire_time,
        now
    );
    let row = run(pool, async |connection| query.fetch_optional(connection).await).await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = || CorruptRow { table: "authorizations", id: id.0, what: "unknown step" }.into_sqlx();
    let step = Step::parse(&row.step).ok_or_else(corrupt)?;
    Ok(Some(Resumed { step, short_lived: row.short_lived_token.zip(row.short_lived_expire_time) }))
}

/// Leaves an authorization for anybody to go on with: at once for whoever asks
/// for the same completion, and from `finish_time` on for whoever finishes what
/// was interrupted. `unsent` says that the code has certainly not been sent.
///
/// # Errors
/// [`StoreError`].
pub async fn release(
    pool: &Pool,
    id: AuthorizationId,
    claim_id: Uuid,
    unsent: bool,
    finish_time: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "update authorizations
         set claim_expire_time = $3, step = case when $4 then 'UNSENT' else step end, finish_time = $5
         where authorization_id = $1 and claim_id = $2 and state = 'IN_PROGRESS'",
        id.0,
        claim_id,
        now,
        unsent,
        finish_time
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}

/// Ends authorizations that nobody is at and nobody can finish any more, because
/// their short-lived tokens have died or they began before `closed_since`: of any
/// app, also one that is configured no longer. Answers how many.
///
/// # Errors
/// [`StoreError`].
pub async fn end_dead(
    pool: &Pool,
    closed_since: OffsetDateTime,
    now: OffsetDateTime,
    limit: i64,
) -> Result<u64, StoreError> {
    let query = sqlx::query!(
        "with dead as (
             select authorization_id from authorizations
             where state = 'IN_PROGRESS' and claim_expire_time <= $1
               and (short_lived_expire_time <= $1 or attempt_time <= $2)
             order by authorization_id
             limit $3
             for no key update
         )
         update authorizations a
         set state = 'FAILED', failure_reason = $4, end_time = $1,
             short_lived_token = null, short_lived_expire_time = null, token_account_id = null
         from dead d
         where a.authorization_id = d.authorization_id",
        now,
        closed_since,
        limit,
        Reason::AuthorizationInterrupted.as_str_name()
    );
    let done = run(pool, async |connection| query.execute(connection).await).await?;
    Ok(done.rows_affected())
}

/// Ends an authorization without an account. Its short-lived token is gone with
/// this statement.
///
/// # Errors
/// [`StoreError`].
pub async fn end(
    pool: &Pool,
    id: AuthorizationId,
    claim_id: Uuid,
    ending: Ending,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "update authorizations
         set state = $3, failure_reason = $4, failure_state_reason = $5, end_time = $6,
             short_lived_token = null, short_lived_expire_time = null, token_account_id = null
         where authorization_id = $1 and claim_id = $2 and state = 'IN_PROGRESS'",
        id.0,
        claim_id,
        ending.state().as_str(),
        ending.reason.as_str_name(),
        ending.state_reason.map(StateReason::as_str),
        now
    );
    run(pool, async |connection| query.execute(connection).await).await?;
    Ok(())
}
