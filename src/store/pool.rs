//! Connections for what is rare: lists, single writes, and work in the background.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, Postgres};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{ACQUIRE_MAX, RECONNECT_PAUSE, RUN_MAX, StoreError, guard};

/// A pool of guarded connections. While the database is away it makes one
/// attempt to connect at a time and leaves a quarter of a second between two; who
/// asks meanwhile is told at once. Without that each waiting call would make
/// attempts of its own, and a server that is just coming back, or a `PgBouncer`
/// in front of it, would be met by all of them.
#[derive(Clone)]
pub struct Pool {
    connections: PgPool,
    /// When and why the last attempt to connect failed; held by whoever makes the
    /// next.
    last_failure: Arc<Mutex<Option<(Instant, StoreError)>>>,
}

impl Pool {
    /// Connects to nothing yet.
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(ACQUIRE_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(guard(connection)))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    if guard(connection).await? { Ok(()) } else { Err(sqlx::Error::PoolClosed) }
                })
            })
            .connect_lazy_with(options);
        Self { connections, last_failure: Arc::default() }
    }

    /// How its connections are made.
    pub(super) fn options(&self) -> Arc<PgConnectOptions> {
        self.connections.connect_options()
    }

    /// Closes its connections, once they have been given back.
    pub async fn close(&self) {
        self.connections.close().await;
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let is_full = self.connections.size() >= self.connections.options().get_max_connections();
        if self.connections.num_idle() > 0 || is_full {
            // Mostly no new connection is needed: one is free, or will be.
            return Ok(self.connections.acquire().await?);
        }
        let waiting = timeout(ACQUIRE_MAX, self.last_failure.lock()).await;
        let mut last_failure =
            waiting.map_err(|_| StoreError::Unavailable("no connection could be had in time"))?;
        if let Some((at, why)) = &*last_failure
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(why.clone());
        }
        let acquired = self.connections.acquire().await.map_err(StoreError::from);
        *last_failure = acquired.as_ref().err().map(|why| (Instant::now(), why.clone()));
        acquired
    }
}

/// Runs a statement on a connection of the pool, for at most [`RUN_MAX`].
pub(super) async fn run<T>(
    pool: &Pool,
    statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
) -> Result<T, StoreError> {
    let mut lent = Lent(Some(pool.acquire().await?));
    let Some(connection) = &mut lent.0 else { return Err(StoreError::Unavailable("no connection")) };
    match timeout(RUN_MAX, statement(connection)).await {
        Ok(result) => {
            drop(lent.0.take());
            Ok(result?)
        }
        Err(_) => Err(StoreError::Unavailable("a statement got no answer in time")),
    }
}

/// A connection of the pool while a statement runs on it. If that is given up,
/// the connection does not go back: the pool would ping it first, and behind a
/// network that swallows everything wait for the answer, and keep its place, for
/// ever.
struct Lent(Option<PoolConnection<Postgres>>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.take().map(PoolConnection::detach);
    }
}
