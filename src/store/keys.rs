//! The register of sealing keys, and the sealed values that hold to them.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Pool, StoreError, UrlError, connect, connect_options, run};
use crate::secret::DatabaseUrl;

/// A key that the database has heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub key_id: String,
    /// When a replica last reported that it seals under it.
    pub last_active_time: Option<OffsetDateTime>,
    /// Since when nobody needs it any more.
    pub retire_time: Option<OffsetDateTime>,
}

/// Reports that this process seals under a key, and answers all the keys that
/// were ever reported. A key that has been retired stays retired.
///
/// # Errors
/// [`StoreError`].
pub async fn report_active(
    pool: &Pool,
    key_id: &str,
    now: OffsetDateTime,
) -> Result<Vec<Registered>, StoreError> {
    let query = sqlx::query_as!(
        Registered,
        "with reported as (
             insert into sealing_keys as k (key_id, last_active_time) values ($1, $2)
             on conflict (key_id) do update set last_active_time = greatest(k.last_active_time, $2)
             where k.retire_time is null
         )
         select key_id, last_active_time, retire_time from sealing_keys",
        key_id,
        now
    );
    run(pool, async |connection| query.fetch_all(connection).await).await
}

/// The keys that nobody needs any more.
///
/// # Errors
/// [`StoreError`].
pub async fn retired(pool: &Pool) -> Result<Vec<String>, StoreError> {
    let query = sqlx::query_scalar!("select key_id from sealing_keys where retire_time is not null");
    run(pool, async |connection| query.fetch_all(connection).await).await
}

/// A connection for work that takes its time: no statement is cut off.
///
/// # Errors
/// [`OpenError`].
pub async fn open(url: &DatabaseUrl) -> Result<PgConnection, OpenError> {
    let options = connect_options(url)?.options([("statement_timeout", "0"), ("lock_timeout", "10s")]);
    Ok(connect(&options).await?)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fingerprint of the id key that the database was filled under; `None` if
/// no service has ever used it.
///
/// # Errors
/// [`StoreError`].
pub async fn id_key_fingerprint(connection: &mut PgConnection) -> Result<Option<Vec<u8>>, StoreError> {
    let query = sqlx::query_scalar!("select id_key_fingerprint from deployment");
    Ok(query.fetch_optional(connection).await?)
}

/// The keys that the database has heard of.
///
/// # Errors
/// [`StoreError`].
pub async fn registered(connection: &mut PgConnection) -> Result<Vec<Registered>, StoreError> {
    let query = sqlx::query_as!(
        Registered,
        "select key_id, last_active_time, retire_time from sealing_keys order by key_id"
    );
    Ok(query.fetch_all(connection).await?)
}

/// Enters a key that values are about to be sealed under.
///
/// # Errors
/// [`StoreError`].
pub async fn register(connection: &mut PgConnection, key_id: &str) -> Result<(), StoreError> {
    let query = sqlx::query!("insert into sealing_keys (key_id) values ($1) on conflict do nothing", key_id);
    query.execute(connection).await?;
    Ok(())
}

/// Notes that nobody needs a key any more.
///
/// # Errors
/// [`StoreError`].
pub async fn retire(
    connection: &mut PgConnection,
    key_id: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let query = sqlx::query!(
        "insert into sealing_keys (key_id, retire_time) values ($1, $2)
         on conflict (key_id) do update set retire_time = excluded.retire_time",
        key_id,
        now
    );
    query.execute(connection).await?;
    Ok(())
}

/// A stored value, sealed for its row.
pub struct Sealed {
    /// The row's primary key.
    pub row: Uuid,
    /// The app whose it is.
    pub app_id: String,
    /// The value.
    pub value: Vec<u8>,
}

/// A value that is to take the place of another.
pub struct Exchange {
    /// The row's primary key.
    pub row: Uuid,
    /// What stands there, unless somebody has written meanwhile.
    pub old: Vec<u8>,
    /// What is to stand there.
    pub new: Vec<u8>,
}

/// The columns that hold sealed values: for each one line, and in its three
/// queries nothing but its names differs. A function could not do it, because
/// SQL is checked when it is compiled.
macro_rules! sealed_columns {
    ($($(#[$doc:meta])* $variant:ident: $table:literal, $id:literal, $column:literal;)+) => {
        /// A column that holds sealed values.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SealedColumn {
            $($(#[$doc])* $variant,)+
        }

        impl SealedColumn {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, with the table's.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($table, ".", $column),)+
                }
            }

            /// How many values each key holds; under `None`, what is no sealed value
            /// at all.
            async fn count(self, connection: &mut PgConnection) -> sqlx::Result<Vec<(Option<String>, i64)>> {
                match self {
                    $(Self::$variant => {
                        // 37 bytes are the shortest sealed value there can be.
                        let query = sqlx::query!(
                            "select case when length(" + $column + ") >= 37 and get_byte(" + $column + ", 0) = 1
                                         then encode(substr(" + $column + ", 2, 4), 'hex') end as key_id,
                                    count(*) as \"count!\"
                             from " + $table + " where " + $column + " is not null group by 1"
                        );
                        let rows = query.fetch_all(connection).await?;
                        Ok(rows.into_iter().map(|row| (row.key_id, row.count)).collect())
                    })+
                }
            }

            /// The next values that are not under a key, in the order of rows.
            ///
            /// # Errors
            /// [`StoreError`].
            pub async fn not_under(
                self,
                connection: &mut PgConnection,
                key_id: &str,
                after: Uuid,
                limit: i64,
            ) -> Result<Vec<Sealed>, StoreError> {
                match self {
                    $(Self::$variant => {
                        let query = sqlx::query_as!(
                            Sealed,
                            "select " + $id + " as \"row\", app_id, " + $column + " as \"value!\"
                             from " + $table + "
                             where " + $id + " > $2 and " + $column + " is not null
                               and substr(" + $column + ", 2, 4) <> decode($1, 'hex')
                             order by " + $id + "
                             limit $3",
                            key_id,
                            after,
                            limit
                        );
                        Ok(query.fetch_all(connection).await?)
                    })+
                }
            }

            /// Exchanges values that are still what they were when they were read, and
            /// answers how many. Rows are locked in one order, as everywhere.
            ///
            /// # Errors
            /// [`StoreError`].
            pub async fn exchange(
                self,
                connection: &mut PgConnection,
                exchanges: &[Exchange],
            ) -> Result<u64, StoreError> {
                let rows: Vec<Uuid> = exchanges.iter().map(|exchange| exchange.row).collect();
                let old: Vec<&[u8]> = exchanges.iter().map(|exchange| exchange.old.as_slice()).collect();
                let new: Vec<&[u8]> = exchanges.iter().map(|exchange| exchange.new.as_slice()).collect();
                match self {
                    $(Self::$variant => {
                        let query = sqlx::query!(
                            "with wanted as (
                                 select * from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as w(id, old, new)
                             ), unchanged as (
                                 select t." + $id + " as id, w.new
                                 from " + $table + " t
                                 join wanted w on t." + $id + " = w.id
                                 where t." + $column + " = w.old
                                 order by t." + $id + "
                                 for no key update of t
                             )
                             update " + $table + " t
                             set " + $column + " = u.new
                             from unchanged u
                             where t." + $id + " = u.id",
                            &rows,
                            &old as _,
                            &new as _
                        );
                        Ok(query.execute(connection).await?.rows_affected())
                    })+
                }
            }
        }
    };
}

sealed_columns! {
    /// The token of an account.
    AccountToken: "accounts", "account_id", "token";
    /// The token before it, while that is not proven.
    PreviousToken: "accounts", "account_id", "previous_token";
    /// The short-lived token of an authorization that is being completed.
    ShortLivedToken: "authorizations", "authorization_id", "short_lived_token";
}

/// How many stored values each key holds.
#[derive(Debug, Default)]
pub struct Holdings {
    /// By key id.
    pub by_key: BTreeMap<String, i64>,
    /// What is no sealed value at all.
    pub unsealed: i64,
}

impl Holdings {
    /// How many a key holds.
    #[must_use]
    pub fn of(&self, key_id: &str) -> i64 {
        self.by_key.get(key_id).copied().unwrap_or(0)
    }
}

/// Counts the stored values of each key.
///
/// # Errors
/// [`StoreError`].
pub async fn holdings(connection: &mut PgConnection) -> Result<Holdings, StoreError> {
    let mut holdings = Holdings::default();
    // All columns as of one moment: a value that moves from one to another is in one of them.
    let mut snapshot = connection.begin_with("begin isolation level repeatable read, read only").await?;
    for column in SealedColumn::ALL {
        for (key_id, count) in column.count(&mut snapshot).await? {
            match key_id {
                Some(id) => *holdings.by_key.entry(id).or_default() += count,
                None => holdings.unsealed += count,
            }
        }
    }
    Ok(holdings)
}
