//! The watch that keeps the copy true.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::errors::{Action, IdentityError};
use crate::identity::Identity;
use crate::pb::AccountChange;

type Failure = Box<dyn Error + Send + Sync>;

/// How long to wait between two attempts to watch.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Watches until it is stopped. `on_change` is called for each change before it is in
/// the copy: at least once, so let it do no harm twice. A change that it fails for
/// comes again.
pub async fn keep_true(
    identity: Identity,
    accounts: Arc<Accounts>,
    stop: CancellationToken,
    mut on_change: impl FnMut(&AccountChange) -> Result<(), Failure>,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let ended = tokio::select! {
            ended = follow(&identity, &accounts, &mut on_change, &mut pause) => ended,
            () = stop.cancelled() => return,
        };
        if let Err(failure) = ended.or_else(|failure| note(failure, &accounts)) {
            eprintln!("a change could not be dealt with: {failure}");
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))) => {}
            () = stop.cancelled() => return,
        }
        pause = PAUSE_MAX.min(2 * pause);
    }
}

/// Deals with the end of a watch, unless that is no error of the service.
fn note(failure: Failure, accounts: &Accounts) -> Result<(), Failure> {
    let error = failure.downcast::<IdentityError>()?;
    if error.reason == "CURSOR_EXPIRED" {
        // Too old to go on from. Nothing was skipped in silence: begin anew.
        accounts.forget_cursor()?;
    } else if error.action() == Action::Alert {
        eprintln!("the accounts cannot be watched: {error}");
    } else {
        // WATCH_LAGGED, SHUTTING_DOWN, a connection that broke: go on from our own
        // cursor, behind which nothing has been applied.
        eprintln!("the watch is opened again: {:?} {}", error.code, error.reason);
    }
    Ok(())
}

async fn follow(
    identity: &Identity,
    accounts: &Accounts,
    on_change: &mut impl FnMut(&AccountChange) -> Result<(), Failure>,
    pause: &mut Duration,
) -> Result<(), Failure> {
    let mut cursor = accounts.cursor();
    let mut watch = identity.watch(cursor.clone()).await?;
    while let Some(message) = watch.message().await.map_err(IdentityError::from)? {
        if cursor.is_none() {
            // The position first, then the list: no change falls between the two.
            accounts.replace(&identity.list_accounts().await?, &message.cursor)?;
            cursor = Some(message.cursor.clone());
        }
        if let Some(change) = &message.change {
            on_change(change)?;
        }
        accounts.apply(message.change.as_ref(), &message.cursor)?;
        *pause = PAUSE_MIN;
    }
    Ok(())
}
