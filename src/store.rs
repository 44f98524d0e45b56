//! Postgres: connections, and the one place that reads its errors.
//!
//! The modules below hold the SQL. They are straight lines: what to do is
//! decided in the flows. Times come in as arguments, because the clock does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Reason};
use crate::metrics::Metrics;
use crate::secret::DatabaseUrl;

pub mod accounts;
pub mod audit;
pub mod authorizations;
pub mod claims;
pub mod coalescer;
pub mod deletions;
pub mod deployment;
pub mod diagnosis;
pub mod erasures;
pub mod events;
pub mod exports;
pub mod foreign;
pub mod gauges;
pub mod housekeeping;
pub mod imports;
pub mod keys;
pub mod links;
mod migration;
mod options;
mod owned;
mod pool;
pub mod refreshes;
pub mod room;
pub mod self_test;
pub mod settlements;
pub mod tail;
pub mod tokens;

pub use migration::{MigrateError, migrate, migrate_within};
pub use options::{UrlError, connect_options};
pub use pool::Pool;

use coalescer::Coalescer;
use pool::run;
use room::Room;
use tail::Tail;

/// The schema, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// How long a connection attempt may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a call waits for a connection of the pool.
const ACQUIRE_MAX: Duration = Duration::from_secs(2);
/// How long after a failed connection attempt the next one may start, in each
/// coalescer and in the pool.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// The longest that a statement may take, on top of Postgres' own limit: a
/// network that swallows everything never answers.
const RUN_MAX: Duration = Duration::from_secs(3);

/// Why the database did not do what was asked. Holds no value of any row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be used now; trying again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(&'static str),
    /// Another transaction got in the way, more than once.
    #[error("another transaction got in the way")]
    Conflict,
    /// Too much is waiting.
    #[error("too many requests wait for the database")]
    Overloaded,
    /// It refuses what it was given: a defect of ours.
    #[error("the database refuses: {0}")]
    Refused(String),
}

impl StoreError {
    /// Somebody else was in the way for too long.
    pub const LOCKED: Self = Self::Unavailable("a lock was not free in time");
    /// Nothing more can be written.
    pub const DISK_FULL: Self = Self::Unavailable("its disk is full");
    /// `PgBouncer` does not let the options pass that a connection begins with.
    pub(crate) const OPTIONS_REFUSED: Self = Self::Unavailable(
        "PgBouncer refuses the connection's options: its ignore_startup_parameters must name `options`",
    );
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let reason = match error {
            StoreError::Unavailable(_) | StoreError::Conflict => Reason::StorageUnavailable,
            StoreError::Overloaded => Reason::Overloaded,
            StoreError::Refused(_) => Reason::Internal,
        };
        Self::new(reason).because(error)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                match code.as_ref() {
                    "40001" | "40P01" => Self::Conflict,
                    "55P03" => Self::LOCKED,
                    "57014" => Self::Unavailable("a statement took too long"),
                    "53100" => Self::DISK_FULL,
                    // What a PgBouncer says that has not been told to let our options pass.
                    "08P01" if database.message().starts_with("unsupported startup parameter") => {
                        Self::OPTIONS_REFUSED
                    }
                    "53300" => Self::Unavailable("it takes no more connections"),
                    "25006" => Self::Unavailable("it is read-only"),
                    "42P01" | "3F000" => {
                        Self::Unavailable("its schema is missing: run `threads-identity migrate`")
                    }
                    _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
                        Self::Unavailable("it is shutting down or short of something")
                    }
                    // The message may quote a value; code and constraint do not.
                    _ => Self::Refused(format!("{code} {}", database.constraint().unwrap_or_default())),
                }
            }
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection could be had in time"),
            sqlx::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
            {
                Self::Unavailable("nothing listens where database.url points")
            }
            sqlx::Error::Tls(error) if error.to_string() == "server does not support TLS" => {
                Self::Unavailable("it offers no TLS, which the sslmode of database.url asks for")
            }
            sqlx::Error::Tls(_) => {
                Self::Unavailable("TLS failed: see sslmode and sslrootcert of database.url")
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => Self::Unavailable("the connection broke"),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Unavailable("the pool is closed"),
            sqlx::Error::ColumnDecode { index, .. } => {
                Self::Refused(format!("column {index} does not decode"))
            }
            sqlx::Error::Encode(_) => Self::Refused("a value does not encode".to_owned()),
            _ => Self::Refused("unexpected answer".to_owned()),
        }
    }
}

/// Whether a connection is of no use after an error.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // Read-only: a primary that was demoted under us.
            code == "25006" || code.starts_with("08") || code.starts_with("57P")
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        _ => false,
    }
}

/// A row that no version of this service writes.
#[derive(Debug, thiserror::Error)]
#[error("table {table}, row {id}: {what}")]
pub struct CorruptRow {
    /// The table.
    pub table: &'static str,
    /// The primary key.
    pub id: uuid::Uuid,
    /// What is wrong with it.
    pub what: &'static str,
}

impl CorruptRow {
    fn into_sqlx(self) -> sqlx::Error {
        tracing::error!("{self}");
        sqlx::Error::Decode(Box::new(self))
    }
}

/// The database, for one service.
pub struct Store {
    /// For lists and rare writes; guarded, see `guard`.
    pub pool: Pool,
    /// Whether there is room on its disk.
    pub room: Room,
    /// Whether the way to it has been tried since it was last away.
    pub is_proven: AtomicBool,
    /// Reads of accounts and profiles.
    pub accounts: Coalescer<accounts::ReadAccounts>,
    /// Reads of authorizations.
    pub authorizations: Coalescer<authorizations::ReadAuthorizations>,
    /// The claim that precedes every code exchange.
    pub claims: Coalescer<claims::Claims>,
    /// Short-lived tokens, stored while the rest of a link goes on.
    pub short_lived: Coalescer<claims::StoreShortLived>,
    /// Accounts, events and outcomes.
    pub links: Coalescer<links::Links>,
    /// Token fetches with their audit rows.
    pub token_fetches: Coalescer<tokens::FetchTokens>,
    /// The leases that precede every refresh.
    pub refresh_claims: Coalescer<refreshes::Claims>,
    /// What came of refreshes.
    pub settlements: Coalescer<settlements::Settlements>,
    /// The end of the table of events, as far as it is settled.
    pub tail: Tail,
}

impl Store {
    /// Prepares to use the database at `url`. Connects to nothing yet.
    ///
    /// # Errors
    /// If the URL cannot be read. The error does not show it.
    pub fn new(url: &DatabaseUrl, pool_size: u32, metrics: &Arc<Metrics>) -> Result<Self, UrlError> {
        let options = connect_options(url)?;
        // Apart from the work that a shutdown waits for: these end with the store.
        let tasks = &TaskTracker::new();
        let pool = Pool::new(options.clone(), pool_size);
        let options = Arc::new(options);
        Ok(Self {
            pool,
            room: Room::default(),
            is_proven: AtomicBool::new(false),
            accounts: Coalescer::start(&options, metrics, tasks),
            authorizations: Coalescer::start(&options, metrics, tasks),
            claims: Coalescer::start(&options, metrics, tasks),
            short_lived: Coalescer::start(&options, metrics, tasks),
            links: Coalescer::start(&options, metrics, tasks),
            token_fetches: Coalescer::start(&options, metrics, tasks),
            refresh_claims: Coalescer::start(&options, metrics, tasks),
            settlements: Coalescer::start(&options, metrics, tasks),
            tail: Tail::new(&options, metrics),
        })
    }
}

/// A pool of one guarded connection, for a command beside the service.
///
/// # Errors
/// If the URL cannot be read.
pub fn pool_of_one(url: &DatabaseUrl) -> Result<Pool, UrlError> {
    Ok(Pool::new(connect_options(url)?, 1))
}

/// Whether a connection may be lent out. One round trip in place of the ping it
/// replaces: it catches a connection that a cancelled `begin` left inside a
/// transaction (sqlx 0.9.0), and a primary that has been demoted. The simple
/// protocol keeps it safe behind `PgBouncer`.
async fn guard(connection: &mut PgConnection) -> sqlx::Result<bool> {
    use sqlx::Row as _;
    sqlx::raw_sql("select now() = statement_timestamp() and not pg_is_in_recovery() as ok")
        .fetch_one(connection)
        .await?
        .try_get("ok")
}

/// Opens a connection that a coalescer will own.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let usable = guard(&mut connection).await?;
        Ok::<_, sqlx::Error>((connection, usable))
    };
    match timeout(CONNECT_MAX, connecting).await {
        Ok(Ok((connection, true))) => Ok(connection),
        Ok(Ok((_, false))) => Err(StoreError::Unavailable("it is read-only")),
        Ok(Err(error)) => match StoreError::from(error) {
            // Whatever stops a connection, the database cannot be used now.
            StoreError::Unavailable(why) => Err(StoreError::Unavailable(why)),
            _ => Err(StoreError::Unavailable("it refuses the connection")),
        },
        Err(_) => Err(StoreError::Unavailable("connecting took too long")),
    }
}

/// Joins scopes as they are stored.
#[must_use]
pub fn join_scopes(scopes: &[String]) -> String {
    scopes.join(" ")
}

/// Reads stored scopes.
#[must_use]
pub fn split_scopes(scopes: &str) -> Vec<String> {
    scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

/// Postgres' present moment, for comparing clocks.
///
/// # Errors
/// [`StoreError`].
pub async fn postgres_time(pool: &Pool) -> Result<OffsetDateTime, StoreError> {
    let query = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#);
    run(pool, async |connection| query.fetch_one(connection).await).await
}
