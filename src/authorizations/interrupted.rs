//! Links that were interrupted (a process killed, the database away, Threads
//! failing after the exchange of the code) and whose caller does not come back:
//! any replica finishes them from the sealed short-lived token, for the hour that
//! it lives, or ends them with their reason.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::completion::resume;
use super::state::Request;
use crate::error::Result;
use crate::ids::AuthorizationId;
use crate::service::{App, Service};
use crate::store::authorizations::{Progress, interrupted};
use crate::store::claims;

/// How many are looked at in one round, and how many at once.
const ROUND_MAX: i64 = 100;
const AT_ONCE: usize = 8;
/// How long a code can be exchanged, by Meta's page on access tokens. One that was
/// not sent by then never will be.
const CODE_LIFETIME: Duration = Duration::from_hours(1);
/// After this long nothing can be open any more: a code's hour, and a token's.
const CLOSED_AFTER: Duration = Duration::from_hours(2);

/// Finishes what nobody is at, and answers how many came to an end.
///
/// # Errors
/// The store's. What one authorization fails with is its own end, or a wait.
pub async fn finish_interrupted(service: &Arc<Service>) -> Result<usize> {
    let (pool, now) = (&service.store.pool, service.clock.now());
    let dead = claims::end_dead(pool, now - CLOSED_AFTER, now, ROUND_MAX).await?;
    // Those of an app that Threads wants quiet would only stand in the others' way.
    let is_open = |app: &&Arc<App>| app.threads.pause().is_none();
    let apps: Vec<String> = service.apps.values().filter(is_open).map(|app| app.id().to_owned()).collect();
    let ids = interrupted(pool, &apps, now - CODE_LIFETIME, now, ROUND_MAX).await?;
    let finish = |id| {
        let running = Arc::clone(service);
        // Once begun it is finished, whatever becomes of the round.
        service.finish(async move { finish(&running, id).await })
    };
    let going_on = |_: &AuthorizationId| std::future::ready(!service.stopping.is_cancelled());
    let finished = stream::iter(ids).take_while(going_on).map(finish).buffer_unordered(AT_ONCE);
    let finished = finished.filter(|ended| std::future::ready(matches!(ended, Ok(true)))).count().await;
    Ok(finished + usize::try_from(dead).unwrap_or(0))
}

/// Finishes one; false when somebody else is at it, or it must wait.
async fn finish(service: &Service, id: AuthorizationId) -> Result<bool> {
    let Some(found) = service.store.authorizations.submit(id).await? else { return Ok(false) };
    let Some(app) = service.apps.get(&found.app_id) else { return Ok(false) };
    if !matches!(found.progress, Progress::InProgress { .. }) || app.threads.pause().is_some() {
        return Ok(false);
    }
    match resume(service, app, &Request::stored(&found), &found, None).await {
        Ok(linked) => Ok(linked.is_some()),
        Err(error) => {
            tracing::info!(authorization.id = %id, reason = error.reason().as_str_name(),
                           "an interrupted authorization was not finished");
            let after = service.store.authorizations.submit(id).await?;
            Ok(after.is_some_and(|after| !matches!(after.progress, Progress::InProgress { .. })))
        }
    }
}
