//! The thread that drops test databases: a `Drop` cannot wait for a runtime that may be ending.
//!
//! Its one connection holds an advisory lock for as long as this process lives. On a server that
//! outlives us, a later run can thereby tell which databases belong to nobody any more.

use std::sync::mpsc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::{PREFIX, Run};
use crate::postgres::Error;

/// The first half of the advisory locks' keys, so that they meet nobody else's.
const LOCK_CLASS: i32 = 1_952_998_756;

/// How long dropping one database may hold up a test.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a session usually takes to end.
const GOODBYE: Duration = Duration::from_millis(10);

/// A database to drop, and whom to tell.
type Order = (String, mpsc::Sender<()>);

/// Drops databases, in the order they come in.
#[derive(Clone)]
pub(super) struct Janitor {
    orders: mpsc::Sender<Order>,
}

impl Janitor {
    /// Connects, and drops what runs that are over left on the server.
    pub(super) async fn start(admin_url: String, run: Run) -> Result<Self, Error> {
        let (orders, incoming) = mpsc::channel();
        let (ready, starting) = oneshot::channel();
        let work = move || {
            // Its own runtime: the connection outlives that of the test which came first.
            let started =
                Builder::new_current_thread().enable_all().build().map_err(sqlx::Error::Io).and_then(
                    |runtime| {
                        let connection = runtime.block_on(begin(&admin_url, run))?;
                        Ok((runtime, connection))
                    },
                );
            match started {
                Ok((runtime, connection)) => {
                    let _ = ready.send(Ok(()));
                    work_off(&runtime, connection, &incoming);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        };
        let doing = "start cleaning up after tests";
        std::thread::Builder::new()
            .name("test databases".to_owned())
            .spawn(work)
            .map_err(|error| Error::sql(doing)(error.into()))?;
        starting
            .await
            .map_err(|_| Error::sql(doing)(sqlx::Error::WorkerCrashed))?
            .map_err(Error::sql(doing))?;
        Ok(Self { orders })
    }

    /// Drops a database and waits until it is gone.
    pub(super) fn drop_database(&self, name: String) {
        let (done, waiting) = mpsc::channel();
        if self.orders.send((name, done)).is_ok() {
            let _ = waiting.recv_timeout(PATIENCE);
        }
    }
}

/// Works until nobody can give orders any more.
fn work_off(runtime: &Runtime, mut connection: PgConnection, incoming: &mpsc::Receiver<Order>) {
    while let Ok((name, _done)) = incoming.recv() {
        runtime.block_on(drop_database(&mut connection, &name));
    }
}

async fn begin(admin_url: &str, run: Run) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect(admin_url).await?;
    let (class, lock) = (LOCK_CLASS, run.lock());
    let take = format!("select pg_advisory_lock({class}, {lock})");
    sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut connection).await?;

    let all = format!("select datname from pg_database where datname like '{PREFIX}%'");
    for row in sqlx::raw_sql(AssertSqlSafe(all)).fetch_all(&mut connection).await? {
        let name: String = row.try_get(0)?;
        let Some(its_run) = Run::of(&name) else {
            continue;
        };
        let lock = its_run.lock();
        let over = format!("select pg_try_advisory_lock({class}, {lock})");
        let over = sqlx::raw_sql(AssertSqlSafe(over)).fetch_one(&mut connection).await?;
        if over.try_get(0)? {
            drop_database(&mut connection, &name).await;
            let give_back = format!("select pg_advisory_unlock({class}, {lock})");
            sqlx::raw_sql(AssertSqlSafe(give_back)).execute(&mut connection).await?;
        }
    }
    Ok(connection)
}

async fn drop_database(connection: &mut PgConnection, name: &str) {
    if let Err(error) = try_drop(connection, name).await {
        // Not worth failing a test that has passed; a later run tries again.
        tracing::warn!("cannot drop the test database {name}: {error}");
    }
}

async fn try_drop(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    let ended = sqlx::raw_sql(AssertSqlSafe(end)).fetch_all(&mut *connection).await?;
    if !ended.is_empty() {
        // `force` would do it too, but looks again only after 100 ms.
        tokio::time::sleep(GOODBYE).await;
    }
    let statement = format!("drop database if exists {name} with (force)");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
