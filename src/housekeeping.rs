//! What goes on beside the calls: what has had its time is removed, a little at a
//! time, and what only the tables know is measured.
//!
//! Every replica does this, each for itself. Two that meet do each other no harm:
//! whoever comes second finds nothing left to do.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::sleep;

use crate::erasures::{self, BATCH as ERASE_BATCH};
use crate::error::Result;
use crate::ids::AuthorizationId;
use crate::metrics::{LifeLabels, TableLabels};
use crate::secret;
use crate::service::Service;
use crate::store::erasures::{By, Cause, Whom, ledger};
use crate::store::{StoreError, deletions, gauges, housekeeping as rows};

/// The most rows of one statement.
const BATCH: i64 = 1000;
/// Between two batches, so that others come in between.
const PAUSE: Duration = Duration::from_millis(50);
/// How much later than its end an authorization can have been minted: clocks
/// of replicas differ.
const SKEW: Duration = Duration::from_secs(60);

/// How often the gauges are measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(60);
/// The days of life left that tokens are counted by, and as far as they are
/// counted: the number of a crowd need not be exact, and counting it is not cheap.
const LIVES: [u8; 5] = [1, 3, 7, 14, 30];
const COUNTED_MAX: i64 = 10_000;

/// What a round removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Authorizations that had ended.
    pub authorizations: u64,
    /// Codes that can no longer be used.
    pub codes: u64,
    /// Events.
    pub events: u64,
    /// Rows of the trail.
    pub audit: u64,
    /// Unlinked accounts, now erased.
    pub accounts: u64,
    /// Entries of the ledger of erasures.
    pub erasures: u64,
    /// What people could look up of being forgotten.
    pub deletion_requests: u64,
}

/// Keeps house and measures until the service stops. What fails is tried again
/// the next time: nothing is lost by waiting. Each step is one statement, so that
/// stopping in the middle leaves nothing half done.
pub async fn run(service: Arc<Service>) {
    tokio::select! {
        () = keep(&service) => {}
        () = measure_often(&service) => {}
        () = service.stopping.cancelled() => {}
    }
}

async fn keep(service: &Service) {
    loop {
        sleep(jittered(service.retention.interval)).await;
        match round(service).await {
            Ok(removed) if removed == Removed::default() => {}
            Ok(removed) => tracing::info!(?removed, "removed what had had its time"),
            // Logged where it happened, with its table.
            Err(_) => {}
        }
    }
}

async fn measure_often(service: &Service) {
    loop {
        if let Err(error) = measure(service).await {
            tracing::warn!("the gauges could not be measured: {error:?}");
        }
        sleep(jittered(MEASURE_INTERVAL)).await;
    }
}

/// Removes everything that has had its time by now.
///
/// # Errors
/// The store's. What can be removed of other tables is removed all the same.
pub async fn round(service: &Service) -> Result<Removed> {
    // By a clock that has jumped ahead everything would be old.
    if !service.clock_is_right().await? {
        tracing::error!("nothing is removed: this process' clock and Postgres' are far apart");
        return Ok(Removed::default());
    }
    let now = service.clock.now();
    let authorizations = remove_all(service, Table::Authorizations, now).await;
    let codes = remove_all(service, Table::Codes, now).await;
    let events = remove_all(service, Table::Events, now).await;
    let audit = remove_all(service, Table::Audit, now).await;
    let accounts = remove_all(service, Table::Accounts, now).await;
    let erasures = remove_all(service, Table::Erasures, now).await;
    let deletion_requests = remove_all(service, Table::DeletionRequests, now).await;
    let removed = Removed {
        authorizations: authorizations?,
        codes: codes?,
        events: events?,
        audit: audit?,
        accounts: accounts?,
        erasures: erasures?,
        deletion_requests: deletion_requests?,
    };
    service.metrics.housekeeping_last_success.set(now.unix_timestamp());
    Ok(removed)
}

/// What rows are removed from.
#[derive(Clone, Copy)]
enum Table {
    Authorizations,
    Codes,
    Events,
    Audit,
    Accounts,
    Erasures,
    DeletionRequests,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Authorizations => "authorizations",
            Self::Codes => "codes",
            Self::Events => "events",
            Self::Audit => "audit",
            Self::Accounts => "accounts",
            Self::Erasures => "erasures",
            Self::DeletionRequests => "deletion_requests",
        }
    }
}

/// Removes batch after batch until there is nothing left. One that is not full does
/// not say so: another replica may have had a part of it.
async fn remove_all(service: &Service, table: Table, now: OffsetDateTime) -> Result<u64> {
    let labels = TableLabels { table: table.name() };
    let mut removed = 0;
    loop {
        let batch = remove(service, table, now).await.inspect_err(|error| {
            tracing::warn!(table = table.name(), "what is old could not be removed: {error}");
        })?;
        service.metrics.rows_removed.get_or_create(&labels).inc_by(batch);
        removed += batch;
        if batch == 0 {
            return Ok(removed);
        }
        sleep(PAUSE).await;
    }
}

/// Removes one batch.
async fn remove(
    service: &Service,
    table: Table,
    now: OffsetDateTime,
) -> std::result::Result<u64, StoreError> {
    let (pool, retention) = (&service.store.pool, &service.retention);
    match table {
        Table::Authorizations => {
            let until = now - retention.authorizations;
            let before = AuthorizationId::first_of(until + SKEW);
            rows::remove_authorizations(pool, before, until, BATCH).await
        }
        Table::Codes => rows::remove_codes(pool, now - retention.codes, BATCH).await,
        Table::Events => rows::remove_events(pool, now - retention.events, BATCH).await,
        Table::Audit => rows::remove_audit(pool, now - retention.audit, BATCH).await,
        Table::Accounts => {
            let until = now - retention.unlinked;
            let limit = i64::try_from(ERASE_BATCH).unwrap_or(i64::MAX);
            let named = rows::unlinked(pool, until, limit).await?;
            if named.is_empty() {
                return Ok(0);
            }
            let by = By { cause: Cause::Retention, caller: "housekeeping", detail: None, now };
            erasures::batch(pool, Whom::Unlinked(&named, until), by).await
        }
        Table::Erasures => ledger::remove(pool, now - retention.erasures, BATCH).await,
        Table::DeletionRequests => deletions::remove(pool, now - retention.deletion_requests, BATCH).await,
    }
}

/// Measures what only the tables know.
///
/// # Errors
/// The store's. The gauges then show what they showed before.
pub async fn measure(service: &Service) -> Result<()> {
    let (pool, metrics, now) = (&service.store.pool, &service.metrics, service.clock.now());
    let within = |days: u8| now + Duration::from_hours(24) * u32::from(days);
    let longest = within(LIVES[LIVES.len() - 1]);
    let expiries = gauges::next_expiries(pool, longest, COUNTED_MAX).await?;
    for days in LIVES {
        let count = expiries.partition_point(|time| *time <= within(days));
        let labels = LifeLabels { days };
        metrics.tokens_expiring.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let due = gauges::oldest_due_refresh(pool).await?;
    let overdue = due.map_or(0.0, |due| (now - due).as_seconds_f64());
    metrics.refresh_oldest_overdue.set(overdue.max(0.0));
    let paused = service.apps.values().filter(|app| app.threads.pause().is_some()).count();
    metrics.provider_paused.set(i64::try_from(paused).unwrap_or(i64::MAX));
    Ok(())
}

/// A pause of about this length, so that not all replicas come at once.
fn jittered(pause: Duration) -> Duration {
    let chance = f64::from(u32::from_be_bytes(secret::random())) / f64::from(u32::MAX);
    pause.mul_f64(0.875 + 0.25 * chance)
}
