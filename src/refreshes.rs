//! One attempt to keep a token alive: refresh it, prove the new one, and write
//! back what came of it.
//!
//! Whoever attempts holds the account's lease. No transaction is open while
//! Threads is called. The refreshed token is committed the moment it comes, with
//! the one before it beside it, and only the profile that is then read with it
//! decides which of the two stays.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::error::{Error, Reason, Result};
use crate::ids::AccountId;
use crate::metrics::RefreshLabels;
use crate::service::{App, Service, Tried};
use crate::store::refreshes::{Claim, Held};

mod attempt;
pub mod schedule;

use attempt::Attempt;

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// To have a token that lives longer.
    Refresh,
    /// To learn whether the token works.
    Check,
}

/// Attempts what a caller waits for: those who ask at once share one attempt,
/// which goes on if they leave.
///
/// # Errors
/// What Threads, the token's sealing or the store say.
pub async fn attempt_for_caller(
    service: &Arc<Service>,
    app: &Arc<App>,
    id: AccountId,
    task: Task,
    dies_before: Option<OffsetDateTime>,
) -> Result<Tried> {
    let work = || {
        let (service, app) = (Arc::clone(service), Arc::clone(app));
        async move {
            service.keyring.require_current()?;
            if let Some(wait) = app.threads.pause() {
                return Err(Error::new(Reason::ProviderRateLimited).after(wait));
            }
            let claim = claim(&service, &app, id, false, dies_before);
            let start = Instant::now();
            let Some(held) = service.store.refresh_claims.submit(claim).await?? else {
                return Ok(Tried::Busy);
            };
            attempt(&service, &app, held, task, start).await.map(|()| Tried::Done)
        }
    };
    service.refreshes.join(&service.tasks, id, work).await
}

/// The wish for an account's lease.
pub(crate) fn claim(
    service: &Service,
    app: &App,
    id: AccountId,
    due: bool,
    dies_before: Option<OffsetDateTime>,
) -> Claim {
    let (now, lease) = (service.clock.now(), service.refresh.lease);
    Claim { id, app_id: app.id().to_owned(), due, dies_before, lease, now }
}

/// Attempts what a lease was taken for at `start`, and writes back what came of
/// it.
///
/// # Errors
/// What a caller who waits for it is told.
pub(crate) async fn attempt(
    service: &Service,
    app: &App,
    held: Held,
    task: Task,
    start: Instant,
) -> Result<()> {
    let work = Attempt { service, app, deadline: start + service.refresh.attempt_timeout };
    let age = service.clock.now() - held.token_refresh_time;
    let result = if held.previous_token.is_some() {
        // Another attempt has refreshed it and came no further.
        work.prove_stored(held).await
    } else if task == Task::Refresh && age >= service.refresh.minimum_age {
        if held.strike.is_some() { work.look_again(held).await } else { work.renew(held, false).await }
    } else {
        work.check(held).await
    };
    let reason = result.as_ref().map_or_else(|error| error.reason().as_str_name(), |()| "OK");
    service.metrics.refreshes.get_or_create(&RefreshLabels { reason }).inc();
    result
}
