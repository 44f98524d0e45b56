//! Whether there is room on Postgres' disk.
//!
//! A claim fits where a little room is left, and the link behind it does not: a
//! code would be spent whose token nobody could store. So before codes are spent,
//! and before tokens are refreshed, it is tried whether the disk takes more.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::StoreError;
use super::pool::{Pool, run};

/// How long a disk that had room is believed to have some.
const BELIEVED: Duration = Duration::from_secs(2);
/// How long one that had none is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// What the last trial found, and when.
#[derive(Default)]
pub struct Room(Mutex<Option<(Instant, bool)>>);

impl Room {
    /// Asks for room: of the last trial if it is recent, or by another one, which
    /// those who ask at once share.
    ///
    /// # Errors
    /// [`StoreError::DISK_FULL`], or why it could not be tried.
    pub async fn require(&self, pool: &Pool) -> Result<(), StoreError> {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, true)) if at.elapsed() < BELIEVED => return Ok(()),
            Some((at, false)) if at.elapsed() < LEFT_ALONE => return Err(StoreError::DISK_FULL),
            _ => {}
        }
        let tried = attempt(pool).await;
        *last = match &tried {
            Ok(()) => Some((Instant::now(), true)),
            Err(error) if *error == StoreError::DISK_FULL => Some((Instant::now(), false)),
            // That says nothing about the disk.
            Err(_) => None,
        };
        tried
    }

    /// Hears what became of a write: one that found the disk full ends what the last
    /// trial is believed for.
    pub async fn heed(&self, error: &StoreError) {
        if *error == StoreError::DISK_FULL {
            *self.0.lock().await = None;
        }
    }
}

/// Writes more than can be left over on a page, and takes it back. The column is
/// stored as it is, so that it takes as much room as it has bytes.
async fn attempt(pool: &Pool) -> Result<(), StoreError> {
    run(pool, async |connection| {
        let write =
            "begin; insert into room_trials (filler) values (convert_to(repeat(' ', 131072), 'UTF8'))";
        let written = sqlx::raw_sql(write).execute(&mut *connection).await;
        sqlx::raw_sql("rollback").execute(connection).await?;
        written
    })
    .await
    .map(drop)
}
