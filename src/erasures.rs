//! Erasing people: one path, whoever asks for it, which leaves a row in the trail
//! that names nobody and an entry in the ledger that only a Threads id leads to.
//!
//! Everything here may be interrupted and repeated: each batch is one transaction,
//! and what is erased is not found again.

use crate::error::Result;
use crate::service::{App, Service};
use crate::store::erasures::{self, By, Cause, Named, Whom};
use crate::store::{Pool, StoreError};

/// The most accounts of one transaction, each of which is looked for in three
/// more tables.
pub const BATCH: usize = 250;
/// The most rows from which names are taken in one statement.
const FORGET_BATCH: u16 = 1000;
/// How often a batch is tried that lost against another transaction, or waited for
/// one in vain: those of one user at once queue behind each other.
const CONFLICT_TRIES: usize = 5;

/// Erases every account of a user for a caller, and answers how many there were.
/// An unknown user has none.
///
/// # Errors
/// The store's. What has been erased by then stays erased.
pub async fn erase_user(service: &Service, app: &App, user_id: &str, caller: &str) -> Result<u64> {
    let (pool, now) = (service.store.pool.clone(), service.clock.now());
    let (app_id, user, caller) = (app.id().to_owned(), user_id.to_owned(), caller.to_owned());
    let work = async move {
        let by = By { cause: Cause::Caller, caller: &caller, detail: None, now };
        Ok(all_of_user(&pool, &app_id, &user, by, |_| ()).await?)
    };
    let erased = service.finish(work).await?;
    tracing::info!(erased, "a caller had a user erased");
    Ok(erased)
}

/// Erases every account of a user, batch after batch; tells of each how many.
///
/// # Errors
/// [`StoreError`].
pub async fn all_of_user(
    pool: &Pool,
    app_id: &str,
    user_id: &str,
    by: By<'_>,
    mut each: impl FnMut(u64),
) -> std::result::Result<u64, StoreError> {
    let mut total = 0;
    loop {
        let erased = batch(pool, Whom::User { app_id, user_id }, by).await?;
        total += erased;
        each(erased);
        if erased < BATCH as u64 {
            return Ok(total);
        }
    }
}

/// Erases the accounts of one batch, and answers how many there were.
///
/// # Errors
/// [`StoreError`].
pub async fn batch(pool: &Pool, whom: Whom<'_>, by: By<'_>) -> std::result::Result<u64, StoreError> {
    let mut tries = 1;
    loop {
        match erase(pool, whom, by).await {
            Err(StoreError::Conflict | StoreError::LOCKED) if tries < CONFLICT_TRIES => tries += 1,
            erased => return erased,
        }
    }
}

async fn erase(pool: &Pool, whom: Whom<'_>, by: By<'_>) -> std::result::Result<u64, StoreError> {
    forget_bulk(pool, whom, by).await?;
    erasures::erase(pool, whom, by, limit()).await
}

fn limit() -> i64 {
    i64::try_from(BATCH).unwrap_or(i64::MAX)
}

/// Takes the bulk of the names out before a transaction erases, which is to be
/// short.
///
/// # Errors
/// [`StoreError`].
pub async fn forget_bulk(pool: &Pool, whom: Whom<'_>, by: By<'_>) -> std::result::Result<(), StoreError> {
    let due = erasures::due(pool, whom, by.now, limit()).await?;
    while erasures::forget(pool, whom, &due, by.now, FORGET_BATCH.into()).await? >= FORGET_BATCH.into() {}
    Ok(())
}

/// Each account once, with its newest time.
#[must_use]
pub fn distinct(mut named: Vec<Named>) -> Vec<Named> {
    named.sort_by(|a, b| (a.id, b.erase_time).cmp(&(b.id, a.erase_time)));
    named.dedup_by(|later, first| later.id == first.id);
    named
}
