//! The table `events`: what changed, in the order in which it is delivered.
//!
//! The rows are written by the statements of the changes themselves. Here is how
//! they are read; how far they may be read, `tail` finds out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::accounts::{Account, ReadAccounts};
use super::coalescer::Coalescer;
use super::{Pool, StoreError, run};
use crate::ids::AccountId;
use crate::secret::sha256;
use crate::states::ChangeKind;

/// The most rows that one page looks at, whether or not they are of interest:
/// the statement takes as long for a caller who wants one in a million.
const STRETCH_MAX: i64 = 2048;

/// The history that event ids belong to: this cluster, since its last promotion
/// or restore, this database in it, and since somebody last put it back. In
/// another one the same id is another event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch([u8; 16]);

impl Epoch {
    /// Reads the bytes that a cursor carries.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn derive(system: i64, timeline: &str, database: i64, event_epoch: i32) -> Self {
        let (system, database) = (system.to_be_bytes(), database.to_be_bytes());
        let hash = sha256(&[&system, timeline.as_bytes(), &database, &event_epoch.to_be_bytes()]);
        let mut epoch = Self([0; 16]);
        epoch.0.copy_from_slice(&hash[..16]);
        epoch
    }
}

/// Where the table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The history that its ids belong to.
    pub epoch: Epoch,
    /// The highest id that was ever deleted.
    pub floor: i64,
    /// The highest id that was ever drawn; its row may not be committed yet.
    pub drawn: i64,
}

/// One change, and the account as it stood when the change was read.
#[derive(Debug)]
pub struct Change {
    /// Its place in the order.
    pub event_id: i64,
    /// The app.
    pub app_id: String,
    /// The account.
    pub account_id: AccountId,
    /// The user at the time; empty once the account is erased.
    pub user_id: String,
    /// The user it was taken from.
    pub previous_user_id: Option<String>,
    /// What happened; `None` for what a newer version writes.
    pub kind: Option<ChangeKind>,
    /// When.
    pub time: OffsetDateTime,
    /// The account, without its profile; `None` when it is erased, or cannot be
    /// read.
    pub account: Option<Account>,
    /// The cursor behind it, made once for all who are sent it.
    pub cursor: OnceLock<String>,
}

impl Change {
    /// Whether it is one that a caller of this app asks for.
    #[must_use]
    pub fn concerns(&self, app_id: &str, user_id: Option<&str>) -> bool {
        let is_users = |user_id| self.user_id == user_id || self.previous_user_id.as_deref() == Some(user_id);
        self.app_id == app_id && user_id.is_none_or(is_users)
    }

    /// What is left of it once its account is erased.
    #[must_use]
    pub(super) fn erased(&self) -> Self {
        Self {
            event_id: self.event_id,
            app_id: self.app_id.clone(),
            account_id: self.account_id,
            user_id: String::new(),
            previous_user_id: None,
            kind: self.kind,
            time: self.time,
            account: None,
            cursor: self.cursor.clone(),
        }
    }
}

/// Reads where the table stands.
///
/// The timeline is that of the log being written, not of the last checkpoint: for
/// minutes after a promotion the latter is still the old one. All of this may be
/// called by any role, and fails on a server that is not a primary.
///
/// # Errors
/// sqlx's own.
pub(super) async fn mark(connection: &mut PgConnection) -> sqlx::Result<Mark> {
    let row = sqlx::query!(
        r#"select c.system_identifier as "system!",
                  left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as "timeline!",
                  (select oid::bigint from pg_database where datname = current_database()) as "database!",
                  coalesce((select event_epoch from deployment), 0) as "event_epoch!",
                  coalesce((select events_floor from deployment), 0) as "floor!",
                  case when s.is_called then s.last_value else 0 end as "drawn!"
           from pg_control_system() c, events_event_id_seq s"#
    )
    .fetch_one(connection)
    .await?;
    let epoch = Epoch::derive(row.system, &row.timeline, row.database, row.event_epoch);
    Ok(Mark { epoch, floor: row.floor, drawn: row.drawn })
}

/// The ids of committed events in a range, in order.
pub(super) async fn ids(
    connection: &mut PgConnection,
    after: i64,
    upto: i64,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "select event_id from events where event_id > $1 and event_id <= $2 order by event_id limit $3",
        after,
        upto,
        limit
    )
    .fetch_all(connection)
    .await
}

/// The last committed event up to an id.
pub(super) async fn last(connection: &mut PgConnection, upto: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select max(event_id) from events where event_id <= $1", upto)
        .fetch_one(connection)
        .await
}

/// The transactions that have written events, or are about to, and have not
/// ended. Each holds this lock from before it draws an id until after its commit
/// can be seen.
pub(super) async fn writers(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct virtualtransaction as "virtualtransaction!" from pg_locks
           where locktype = 'relation' and relation = 'events'::regclass
             and database = (select oid from pg_database where datname = current_database())
             and mode = 'RowExclusiveLock' and granted"#
    )
    .fetch_all(connection)
    .await
}

/// A row of the table.
struct EventRow {
    event_id: i64,
    app_id: String,
    account_id: Uuid,
    user_id: String,
    previous_user_id: Option<String>,
    kind: String,
    event_time: OffsetDateTime,
}

impl EventRow {
    fn with(self, account: Option<Account>) -> Arc<Change> {
        Arc::new(Change {
            event_id: self.event_id,
            app_id: self.app_id,
            account_id: AccountId(self.account_id),
            user_id: self.user_id,
            previous_user_id: self.previous_user_id,
            kind: ChangeKind::parse(&self.kind),
            time: self.event_time,
            account,
            cursor: OnceLock::new(),
        })
    }
}

/// All events of a range, with their accounts.
pub(super) async fn stretch(
    connection: &mut PgConnection,
    accounts: &Coalescer<ReadAccounts>,
    after: i64,
    upto: i64,
    limit: i64,
) -> Result<Vec<Arc<Change>>, StoreError> {
    let rows = sqlx::query_as!(
        EventRow,
        "select event_id, app_id, account_id, user_id, previous_user_id, kind, event_time
         from events where event_id > $1 and event_id <= $2 order by event_id limit $3",
        after,
        upto,
        limit
    )
    .fetch_all(connection)
    .await?;
    with_accounts(accounts, rows).await
}

/// What somebody wants to hear of.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The app.
    pub app_id: String,
    /// One user; none for the whole app.
    pub user_id: Option<String>,
}

/// A page of changes.
pub struct Page {
    /// The history that it was read in.
    pub epoch: Epoch,
    /// The highest id that was ever deleted.
    pub floor: i64,
    /// The changes of interest, in order.
    pub changes: Vec<Arc<Change>>,
    /// Up to where there is nothing else of interest.
    pub examined: i64,
}

/// Reads at most `limit` changes of interest after one event and up to another,
/// from a bounded stretch of the table. The epoch and the floor are of the same
/// snapshot: nothing is read in another history, or beside what was deleted,
/// unnoticed.
///
/// # Errors
/// [`StoreError`].
pub async fn page(
    pool: &Pool,
    accounts: &Coalescer<ReadAccounts>,
    interest: &Interest,
    after: i64,
    upto: i64,
    limit: i64,
) -> Result<Page, StoreError> {
    let query = sqlx::query!(
        r#"with stretch as (
               select event_id, app_id, account_id, user_id, previous_user_id, kind, event_time
               from events where event_id > $1 and event_id <= $2
               order by event_id limit $3
           ), chosen as (
               select * from stretch
               where app_id = $4 and ($5::text is null or user_id = $5 or previous_user_id = $5)
               order by event_id limit $6
           )
           select c.system_identifier as "system!",
                  left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) as "timeline!",
                  (select oid::bigint from pg_database where datname = current_database()) as "database!",
                  coalesce((select event_epoch from deployment), 0) as "event_epoch!",
                  coalesce((select events_floor from deployment), 0) as "floor!",
                  (select max(event_id) from stretch) as stretch_end,
                  (select count(*) from stretch) as "stretch_len!",
                  e.event_id as "event_id?", e.app_id as "app_id?", e.account_id as "account_id?",
                  e.user_id as "user_id?", e.previous_user_id, e.kind as "kind?", e.event_time as "event_time?"
           from pg_control_system() c left join chosen e on true
           order by e.event_id"#,
        after,
        upto,
        STRETCH_MAX,
        interest.app_id,
        interest.user_id,
        limit
    );
    let rows = run(pool, async |connection| query.fetch_all(connection).await).await?;
    let Some(first) = rows.first() else {
        return Err(StoreError::Refused("a page without a mark".to_owned()));
    };
    let epoch = Epoch::derive(first.system, &first.timeline, first.database, first.event_epoch);
    let floor = first.floor;
    // A stretch that was not cut off reaches to where it was asked to.
    let end = if first.stretch_len < STRETCH_MAX { upto } else { first.stretch_end.unwrap_or(upto) };
    let events: Vec<EventRow> = rows
        .into_iter()
        .filter_map(|row| {
            Some(EventRow {
                event_id: row.event_id?,
                app_id: row.app_id?,
                account_id: row.account_id?,
                user_id: row.user_id?,
                previous_user_id: row.previous_user_id,
                kind: row.kind?,
                event_time: row.event_time?,
            })
        })
        .collect();
    let is_full = i64::try_from(events.len()).is_ok_and(|length| length >= limit);
    let examined = events.last().filter(|_| is_full).map_or(end, |last| last.event_id);
    Ok(Page { epoch, floor, changes: with_accounts(accounts, events).await?, examined })
}

/// Adds the accounts, as they are now, by the way on which everybody reads them.
async fn with_accounts(
    accounts: &Coalescer<ReadAccounts>,
    rows: Vec<EventRow>,
) -> Result<Vec<Arc<Change>>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: BTreeSet<AccountId> = rows.iter().map(|row| AccountId(row.account_id)).collect();
    let ids: Box<[AccountId]> = ids.into_iter().collect();
    let found = match accounts.submit(ids.clone()).await {
        Err(StoreError::Refused(_)) => one_by_one(accounts, &ids).await?,
        found => found?,
    };
    let mut by_id: HashMap<AccountId, Account> = HashMap::with_capacity(found.len());
    for mut account in found.into_iter().flatten() {
        // Nobody who hears of a change is told the profile.
        account.profile = None;
        by_id.insert(account.id, account);
    }
    let with = |row: EventRow| {
        let account = by_id.get(&AccountId(row.account_id)).cloned();
        row.with(account)
    };
    Ok(rows.into_iter().map(with).collect())
}

/// A row that no version of this service writes must not keep everybody from
/// hearing of the others: its change goes out without it.
async fn one_by_one(
    accounts: &Coalescer<ReadAccounts>,
    ids: &[AccountId],
) -> Result<Vec<Option<Account>>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(match accounts.submit(Box::new([*id])).await {
            Err(StoreError::Refused(_)) => None,
            read => read?.pop().flatten(),
        });
    }
    Ok(found)
}
