//! A connection that its owner keeps.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::{StoreError, connect};

/// How long a connection is kept. One that never errs would otherwise stay for
/// ever with a server that an address has moved away from, and read what was true
/// once.
const KEPT: Duration = Duration::from_mins(10);

/// A connection, and until when it is kept.
pub(super) struct Owned {
    pub connection: PgConnection,
    until: Instant,
}

impl Owned {
    /// Opens one.
    pub async fn connect(options: &PgConnectOptions) -> Result<Self, StoreError> {
        let connection = connect(options).await?;
        Ok(Self { connection, until: Instant::now() + KEPT })
    }

    /// Whether it has been kept for long enough.
    pub fn is_old(&self) -> bool {
        Instant::now() >= self.until
    }
}
