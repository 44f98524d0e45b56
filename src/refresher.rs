//! Keeps tokens alive without anybody's attention: looks for what is due, takes
//! leases for as many as may run at once, and attempts them. Beside it, interrupted
//! links are finished, and accounts ended whose tokens have died.
//!
//! Any number of replicas do this beside each other. They take candidates in
//! different orders, so that they rarely meet, and where they meet the lease
//! decides.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use crate::authorizations;
use crate::error::Result;
use crate::refreshes::{self, Task};
use crate::secret;
use crate::service::{App, Service};
use crate::store::keys;
use crate::store::refreshes::{Due, Held, due, expire};

/// How many candidates are looked at together.
const WINDOW: i64 = 1000;
/// How many accounts are ended at once because their tokens have died.
const EXPIRE_BATCH: i64 = 500;
/// A token with less life left than this is refreshed even though a limit of
/// Threads is close.
const URGENT: Duration = Duration::from_hours(3 * 24);

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Accounts whose tokens had died.
    pub expired: usize,
    /// Attempts made.
    pub attempts: usize,
    /// Interrupted authorizations that were brought to an end.
    pub finished: usize,
}

/// Works until the service stops: on what is due in each app, on interrupted links,
/// and on tokens that have died, each for itself, so that a long backlog of one keeps
/// no other waiting. What fails is tried again the next time.
pub async fn run(service: Arc<Service>) {
    if !service.refresh.enabled {
        return;
    }
    let expiring = often(&service, |service| async move { expire_all(&service).await.map(drop) });
    let finishing =
        often(
            &service,
            |service| async move { authorizations::finish_interrupted(&service).await.map(drop) },
        );
    let refreshing = service.apps.values().map(|app| {
        let app = Arc::clone(app);
        often(&service, move |service| {
            let app = Arc::clone(&app);
            async move { refresh_app(&service, &app).await.map(drop) }
        })
    });
    tokio::join!(expiring, finishing, join_all(refreshing));
}

/// Does one of these things again and again, with a pause in between that is not the
/// same in all replicas.
async fn often<F>(service: &Arc<Service>, work: impl Fn(Arc<Service>) -> F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    loop {
        let pause = service.refresh.poll_interval.mul_f64(0.875 + chance() / 4.0);
        tokio::select! {
            () = sleep(pause) => {}
            () = service.stopping.cancelled() => return,
        }
        let is_fit = match is_fit(service).await {
            // In a task of its own: what panics is an error of this one time.
            Ok(true) => service.finish(work(Arc::clone(service))).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = is_fit {
            tracing::warn!("a round of refreshing failed: {error:?}");
        }
    }
}

/// Whether this process may refresh at all. A clock that has jumped ahead would take
/// every token for dead; what is sealed under a key that has been retired could soon
/// be opened by nobody.
async fn is_fit(service: &Service) -> Result<bool> {
    if !service.clock_is_right().await? {
        tracing::error!("nothing is refreshed: this process' clock and Postgres' are far apart");
        return Ok(false);
    }
    // A token that is refreshed and cannot be stored is lost, and the one before with it.
    service.store.room.require(&service.store.pool).await?;
    service.keyring.set_retired(keys::retired(&service.store.pool).await?);
    let is_current = service.keyring.require_current().is_ok();
    if !is_current {
        tracing::error!("nothing is refreshed: the active key of this process' keyring has been retired");
    }
    Ok(is_current)
}

/// Attempts everything that is due now, brings interrupted links to an end, and
/// ends the accounts whose tokens have died: once, for tests and measurements.
///
/// # Errors
/// The store's. What has been begun is finished all the same.
pub async fn round(service: &Arc<Service>) -> Result<Round> {
    if !is_fit(service).await? {
        return Ok(Round::default());
    }
    let expired = expire_all(service).await?;
    let refreshed = join_all(service.apps.values().map(|app| refresh_app(service, app)));
    let (refreshed, finished) = tokio::join!(refreshed, authorizations::finish_interrupted(service));
    let attempts = refreshed.into_iter().sum::<Result<usize>>()?;
    Ok(Round { expired, attempts, finished: finished? })
}

async fn expire_all(service: &Service) -> Result<usize> {
    let mut expired = 0;
    loop {
        let batch = expire(&service.store.pool, service.clock.now(), EXPIRE_BATCH).await?;
        expired += usize::try_from(batch).unwrap_or(0);
        if batch < EXPIRE_BATCH {
            if expired > 0 {
                tracing::warn!(expired, "tokens have died before they could be refreshed");
            }
            return Ok(expired);
        }
    }
}

/// Attempts what is due in one app, a window after the other.
async fn refresh_app(service: &Arc<Service>, app: &Arc<App>) -> Result<usize> {
    let mut attempts = 0;
    loop {
        if service.stopping.is_cancelled() || app.threads.pause().is_some() {
            return Ok(attempts);
        }
        let now = service.clock.now();
        let mut window = due(&service.store.pool, app.id(), now, WINDOW).await?;
        let is_full = i64::try_from(window.len()) == Ok(WINDOW);
        if app.threads.is_busy() {
            window.retain(|due| due.expire_time - now < URGENT);
        }
        // Replicas that see the same window begin at different places of it.
        if !window.is_empty() {
            let start = usize::from(u16::from_be_bytes(secret::random())) % window.len();
            window.rotate_left(start);
        }
        let made = attempt_all(service, app, window).await?;
        attempts += made;
        if !is_full || made == 0 {
            return Ok(attempts);
        }
    }
}

/// Attempts a window, so many at once as may be. Leases are taken for several
/// together, the moment half of the places are free.
async fn attempt_all(service: &Arc<Service>, app: &Arc<App>, window: Vec<Due>) -> Result<usize> {
    let places = service.refresh.concurrency;
    let mut waiting = window.into_iter();
    let mut running = FuturesUnordered::new();
    let tasks = &service.tasks;
    let mut attempts = 0;
    loop {
        let is_over = service.stopping.is_cancelled() || app.threads.pause().is_some();
        let free = if is_over { 0 } else { places - running.len() };
        let wanted: Vec<Due> = waiting.by_ref().filter(|_| app.threads.admits()).take(free).collect();
        if wanted.is_empty() && running.is_empty() {
            return Ok(attempts);
        }
        let start = Instant::now();
        for held in claim_all(service, app, &wanted).await? {
            attempts += 1;
            let (service, app) = (Arc::clone(service), Arc::clone(app));
            let span = tracing::info_span!("refresh", account.id = %held.id);
            let work = async move {
                // What came of it is written back and logged there.
                let _ = refreshes::attempt(&service, &app, held, Task::Refresh, start).await;
            };
            running.push(tasks.spawn(work.instrument(span)));
        }
        while running.len() > places / 2 || (wanted.is_empty() && !running.is_empty()) {
            // An attempt that panicked has ended too; its lease runs out.
            let _ = running.next().await;
        }
    }
}

/// Takes leases for several at once. One that cannot be had stops no other: only if
/// none could be taken is that an error.
async fn claim_all(service: &Service, app: &App, wanted: &[Due]) -> Result<Vec<Held>> {
    let claims = wanted.iter().map(|due| {
        let claim = refreshes::claim(service, app, due.id, true, None);
        service.store.refresh_claims.submit(claim)
    });
    let (mut all, mut failed) = (Vec::with_capacity(wanted.len()), None);
    for claimed in join_all(claims).await {
        match claimed {
            Ok(Ok(Some(held))) => all.push(held),
            // A corrupt row has been logged.
            Ok(Ok(None) | Err(_)) => {}
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if all.is_empty() => Err(error.into()),
        _ => Ok(all),
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    f64::from(u32::from_be_bytes(secret::random())) / f64::from(u32::MAX)
}
