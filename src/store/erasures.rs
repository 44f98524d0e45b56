//! Erasing: accounts, every name that stands elsewhere, and the ledger of what
//! was erased. Whoever asks for it, it is this one transaction.

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Pool, StoreError, run};
use crate::ids::AccountId;

pub mod ledger;
mod names;

use names::{
    Names, absent, end_under_way, forget_authorizations, forget_events, forget_predecessor, forget_trail,
    lock_absent, lock_authorizations,
};

/// Why accounts are erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// They were unlinked long ago.
    Retention,
    /// A caller said so.
    Caller,
    /// An operator said so.
    Operator,
    /// They had been erased before, and a restore brought them back.
    Replay,
    /// Meta said that the person wants to be forgotten.
    Meta,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Retention => "RETENTION",
            Self::Caller => "CALLER",
            Self::Operator => "OPERATOR",
            Self::Replay => "REPLAY",
            Self::Meta => "META",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Retention => "ERASED_AFTER_RETENTION",
            Self::Caller => "ERASED_BY_CALLER",
            Self::Operator => "ERASED_BY_OPERATOR",
            Self::Replay => "ERASED_BY_REPLAY",
            Self::Meta => "ERASED_BY_META",
        }
    }
}

/// Who erases, why and when: what the trail keeps.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Why.
    pub cause: Cause,
    /// Who.
    pub caller: &'a str,
    /// What else is to be known of it.
    pub detail: Option<&'a str>,
    /// Now.
    pub now: OffsetDateTime,
}

/// An account by what the ledger knows of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The account.
    pub id: AccountId,
    /// Its app.
    pub app_id: String,
    /// Before which no consent counts.
    pub erase_time: OffsetDateTime,
}

/// Whose accounts are erased.
#[derive(Debug, Clone, Copy)]
pub enum Whom<'a> {
    /// All of a user, and the user's name wherever it stands.
    User {
        /// The app.
        app_id: &'a str,
        /// The user.
        user_id: &'a str,
    },
    /// These, each once. The ledger takes them all, also those that are not there.
    Accounts(&'a [Named]),
    /// Those of these whose newest consent is not after the time given.
    Replayed(&'a [Named]),
    /// These, unless their newest consent is after a time that is not the ledger's:
    /// when the persons asked for it, as far as clocks can tell.
    Requested(&'a [Named], Option<OffsetDateTime>),
    /// Those of these that were unlinked by then, and are still.
    Unlinked(&'a [Named], OffsetDateTime),
}

impl<'a> Whom<'a> {
    fn named(self) -> &'a [Named] {
        match self {
            Self::User { .. } => &[],
            Self::Accounts(named)
            | Self::Replayed(named)
            | Self::Requested(named, _)
            | Self::Unlinked(named, _) => named,
        }
    }

    fn names(self, ids: &'a [Uuid]) -> Names<'a> {
        match self {
            Self::User { app_id, user_id } => Names { ids, app_id: Some(app_id), user_id: Some(user_id) },
            _ => Names { ids, app_id: None, user_id: None },
        }
    }

    fn unlinked_until(self) -> Option<OffsetDateTime> {
        if let Self::Unlinked(_, until) = self { Some(until) } else { None }
    }

    fn consented_until(self) -> Option<OffsetDateTime> {
        if let Self::Requested(_, until) = self { until } else { None }
    }

    /// Whether the ledger takes also what is not there, so that no link which is
    /// under way brings it.
    fn is_of_anybody(self) -> bool {
        matches!(self, Self::Accounts(_) | Self::Replayed(_) | Self::Requested(..))
    }
}

/// Erases, at most `limit` accounts of a user, and answers how many there were.
/// Whoever watches is told once more, by ids alone.
///
/// # Errors
/// [`StoreError`]; then nothing is done.
pub async fn erase(pool: &Pool, whom: Whom<'_>, by: By<'_>, limit: i64) -> Result<u64, StoreError> {
    let work = async |connection: &mut PgConnection| {
        let mut transaction = connection.begin().await?;
        let erased = erase_within(&mut transaction, whom, by, limit).await?;
        transaction.commit().await?;
        Ok(erased)
    };
    run(pool, work).await
}

/// Erases within a transaction, at most `limit` accounts of a user, and answers how
/// many there were.
pub(super) async fn erase_within(
    connection: &mut PgConnection,
    whom: Whom<'_>,
    by: By<'_>,
    limit: i64,
) -> sqlx::Result<u64> {
    let wanted: Vec<Uuid> = whom.named().iter().map(|named| named.id.0).collect();
    queue(connection, whom).await?;
    // What is under way for them comes to its end first, or finds itself ended:
    // a link locks its authorization before its account.
    lock_authorizations(connection, whom.names(&wanted)).await?;
    if whom.is_of_anybody() {
        lock_absent(connection, &wanted).await?;
    }
    let erased = match whom {
        Whom::User { app_id, user_id } => {
            // Looked up under the locks: a link may just have ended.
            let named = of_user(connection, app_id, user_id, by.now, limit).await?;
            delete(connection, whom, &named, by).await?
        }
        _ => delete(connection, whom, whom.named(), by).await?,
    };
    let count = erased.len() as u64;
    let gone = if whom.is_of_anybody() {
        end_under_way(connection, &wanted, whom.consented_until(), by.now).await?;
        absent(connection, &wanted).await?
    } else {
        erased
    };
    let names = whom.names(&gone);
    forget_authorizations(connection, names, by.now, i64::MAX).await?;
    forget_predecessor(connection, names).await?;
    forget_events(connection, names, i64::MAX).await?;
    forget_trail(connection, names, i64::MAX).await?;
    Ok(count)
}

/// Takes names out of what may be long, `limit` rows at a time, before [`erase`]
/// takes the rest: a token that was fetched every minute for a year leaves more
/// rows than one transaction may hold. Answers how many rows it changed.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(
    pool: &Pool,
    whom: Whom<'_>,
    due: &[AccountId],
    now: OffsetDateTime,
    limit: i64,
) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = due.iter().map(|id| id.0).collect();
    let names = whom.names(&ids);
    let mut forgotten = run(pool, async |connection| forget_trail(connection, names, limit).await).await?;
    if matches!(whom, Whom::User { .. }) {
        forgotten +=
            run(pool, async |connection| forget_authorizations(connection, names, now, limit).await).await?;
        forgotten += run(pool, async |connection| forget_events(connection, names, limit).await).await?;
    }
    Ok(forgotten)
}

/// The accounts that [`erase`] would erase, at most `limit` of a user's.
///
/// # Errors
/// [`StoreError`].
pub async fn due(
    pool: &Pool,
    whom: Whom<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<AccountId>, StoreError> {
    if let Whom::User { app_id, user_id } = whom {
        let found = run(pool, async |connection| of_user(connection, app_id, user_id, now, limit).await);
        return Ok(found.await?.into_iter().map(|named| named.id).collect());
    }
    let Columns { ids, apps, times } = Columns::of(whom.named());
    let query = sqlx::query_scalar!(
        "select a.account_id
         from accounts a
         join unnest($1::uuid[], $2::text[], $3::timestamptz[]) as w(account_id, app_id, erase_time)
              using (account_id, app_id)
         where ($4::timestamptz is null or (a.state = 'UNLINKED' and a.update_time <= $4))
           and (not $5 or a.authorize_time <= w.erase_time)
           and ($6::timestamptz is null or a.authorize_time <= $6)",
        &ids,
        &apps as _,
        &times,
        whom.unlinked_until(),
        matches!(whom, Whom::Replayed(_)),
        whom.consented_until()
    );
    let found = run(pool, async |connection| query.fetch_all(connection).await).await?;
    Ok(found.into_iter().map(AccountId).collect())
}

/// How many accounts a user has, in whatever state.
///
/// # Errors
/// [`StoreError`].
pub async fn count_of_user(pool: &Pool, app_id: &str, user_id: &str) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "count!" from accounts where app_id = $1 and user_id = $2"#,
        app_id,
        user_id
    );
    let count = run(pool, async |connection| query.fetch_one(connection).await).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Whether anything of an app is, or was, in the database.
///
/// # Errors
/// [`StoreError`].
pub async fn knows_app(pool: &Pool, app_id: &str) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar!(
        r#"select exists (select from accounts where app_id = $1)
                  or exists (select from erasures where app_id = $1) as "known!""#,
        app_id
    );
    run(pool, async |connection| query.fetch_one(connection).await).await
}

/// Accounts by their columns, as a statement takes them.
struct Columns<'a> {
    ids: Vec<Uuid>,
    apps: Vec<&'a str>,
    times: Vec<OffsetDateTime>,
}

impl<'a> Columns<'a> {
    fn of(named: &'a [Named]) -> Self {
        Self {
            ids: named.iter().map(|named| named.id.0).collect(),
            apps: named.iter().map(|named| named.app_id.as_str()).collect(),
            times: named.iter().map(|named| named.erase_time).collect(),
        }
    }
}

async fn of_user(
    connection: &mut PgConnection,
    app_id: &str,
    user_id: &str,
    now: OffsetDateTime,
    limit: i64,
) -> sqlx::Result<Vec<Named>> {
    let ids = sqlx::query_scalar!(
        "select account_id from accounts where app_id = $1 and user_id = $2 order by account_id limit $3",
        app_id,
        user_id,
        limit
    )
    .fetch_all(connection)
    .await?;
    let named = |id| Named { id: AccountId(id), app_id: app_id.to_owned(), erase_time: now };
    Ok(ids.into_iter().map(named).collect())
}

/// Erasures of one user wait for each other here. Further on, what has come in
/// between their locks would let them wait in a circle.
async fn queue(connection: &mut PgConnection, whom: Whom<'_>) -> sqlx::Result<()> {
    if let Whom::User { app_id, user_id } = whom {
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended($1::text || ' ' || $2::text, 0))::text as locked",
            app_id,
            user_id
        )
        .fetch_one(connection)
        .await?;
    }
    Ok(())
}

/// Deletes the rows, tells those who watch, and enters ledger and trail.
async fn delete(
    connection: &mut PgConnection,
    whom: Whom<'_>,
    named: &[Named],
    by: By<'_>,
) -> sqlx::Result<Vec<Uuid>> {
    let Columns { ids, apps, times } = Columns::of(named);
    let user_id = if let Whom::User { user_id, .. } = whom { Some(user_id) } else { None };
    sqlx::query_scalar!(
        "with wanted as (
             select * from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as w(account_id, app_id, erase_time)
         ), locked as (
             select a.account_id, a.user_id, a.state, a.update_time, a.authorize_time, w.erase_time
             from accounts a
             join wanted w using (account_id, app_id)
             order by a.account_id
             for update of a
         ), erased as (
             -- As it is now that the lock is held: it may have been linked anew.
             delete from accounts a using locked l
             where a.account_id = l.account_id
               and ($4::text is null or l.user_id = $4)
               and ($5::timestamptz is null or (l.state = 'UNLINKED' and l.update_time <= $5))
               and (not $6 or l.authorize_time <= l.erase_time)
               and ($12::timestamptz is null or l.authorize_time <= $12)
             returning a.account_id, a.app_id, a.user_id,
                       -- Never before the consent that it ends, whatever the clocks of replicas say.
                       greatest(case when $5::timestamptz is null then l.erase_time else l.update_time end,
                                l.authorize_time) as erase_time
         ), entered as (
             insert into erasures as x (account_id, app_id, erase_time, cause)
             select w.account_id, w.app_id, coalesce(e.erase_time, w.erase_time), $8
             from wanted w left join erased e using (account_id)
             where $7 or e.account_id is not null
             order by w.account_id
             on conflict (account_id) do update
             set erase_time = excluded.erase_time, cause = excluded.cause
             where x.erase_time < excluded.erase_time
         ), emitted as (
             insert into events (app_id, account_id, user_id, kind, event_time)
             select app_id, account_id, user_id, 'ERASED', $11 from erased
         ), noted as (
             insert into audit (app_id, erasure_id, caller, action, detail, audit_time)
             select app_id, gen_random_uuid(), $9, $10, $13, $11 from erased
         )
         select account_id from erased",
        &ids,
        &apps as _,
        &times,
        user_id,
        whom.unlinked_until(),
        matches!(whom, Whom::Replayed(_)),
        whom.is_of_anybody(),
        by.cause.name(),
        by.caller,
        by.cause.action(),
        by.now,
        whom.consented_until(),
        by.detail
    )
    .fetch_all(connection)
    .await
}
