//! Changes of accounts: watching them and listing them.
//!
//! The table of events is the truth, and its settled part is in one order for
//! everybody (`store::tail`). A cursor is a place in that order. Whoever follows
//! is told every change behind its cursor that concerns it, and the account as it
//! stands by then.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::{Error, Reason, Result};
use crate::ids::AccountId;
use crate::service::Service;
use crate::states::ChangeKind;
use crate::store::accounts::Account;
use crate::store::events::{self, Change};
use crate::store::tail::Standing;

mod cursor;
mod stream;

pub use crate::store::events::Interest;
pub use cursor::{CURSOR_MAX, Cursor};
pub use stream::Watch;

use stream::Pump;

/// How many stretches of the table one list looks through before it answers,
/// found or not.
const STRETCHES_MAX: usize = 4;

/// A change as a caller may see it.
pub struct Shown {
    /// The account.
    pub account_id: AccountId,
    /// The user it was linked to after the change.
    pub user_id: String,
    /// The user it was taken from.
    pub previous_user_id: Option<String>,
    /// What happened.
    pub kind: Option<ChangeKind>,
    /// When.
    pub time: OffsetDateTime,
    /// The account as it stands.
    pub account: Option<Account>,
}

impl Shown {
    /// To whoever asked for one user, an account that is another's by now is not
    /// shown, and the other is not named.
    fn new(change: &Change, interest: &Interest) -> Self {
        let is_hidden = |user_id: &str| interest.user_id.as_deref().is_some_and(|own| own != user_id);
        let mut user_id = change.user_id.clone();
        if is_hidden(&user_id) {
            user_id.clear();
        }
        Self {
            account_id: change.account_id,
            user_id,
            previous_user_id: change.previous_user_id.clone(),
            kind: change.kind,
            time: change.time,
            account: change.account.clone().filter(|account| !is_hidden(&account.user_id)),
        }
    }
}

/// What a watch tells at once: a change, or only how far it has come.
pub struct Told {
    /// Where it stands.
    pub cursor: String,
    /// What happened.
    pub change: Option<Shown>,
}

/// A page of changes.
pub struct Changes {
    /// The changes.
    pub changes: Vec<Shown>,
    /// Where it stands.
    pub cursor: String,
    /// Whether there is more to look through.
    pub more: bool,
}

/// Follows the end of the table until the service stops.
pub async fn follow(service: Arc<Service>) {
    let store = &service.store;
    store.tail.run(&store.accounts, service.watch.poll_interval, &service.stopping).await;
}

/// Opens a watch behind a cursor, or from now on. `patience` is the caller's own
/// deadline, at which it ends; it also ends with `revoked`, when whoever opened it
/// could not open it any more.
///
/// # Errors
/// `CURSOR_EXPIRED`, `OVERLOADED`, or the store's.
pub async fn watch(
    service: &Arc<Service>,
    interest: Interest,
    cursor: Option<Cursor>,
    patience: Option<Instant>,
    revoked: impl Future<Output = ()> + Send + 'static,
) -> Result<Watch> {
    let tail = &service.store.tail;
    let follower = tail.follow(service.watch.streams_max).ok_or_else(|| Error::new(Reason::Overloaded))?;
    let standing = tail.fresh().await?;
    let position = begin(&standing, cursor)?;
    let (steps, queue) = mpsc::channel(stream::QUEUE_MAX + 1);
    // Kept free for the last word, so that it can be said whatever is waiting.
    let last_word = steps.clone().try_reserve_owned().map_err(Error::internal)?;
    let pump = Pump::new(service, interest.clone(), &standing, position, steps);
    service.tasks.spawn(pump.run(last_word, patience, revoked, follower).in_current_span());
    Ok(Watch::new(service, interest, standing.mark.epoch, queue))
}

/// Lists changes behind a cursor; without one, none.
///
/// # Errors
/// `CURSOR_EXPIRED`, or the store's.
pub async fn list(
    service: &Service,
    interest: &Interest,
    cursor: Option<Cursor>,
    page_size: usize,
) -> Result<Changes> {
    let store = &service.store;
    let standing = store.tail.fresh().await?;
    let mut position = begin(&standing, cursor)?;
    let mut changes = Vec::new();
    for _ in 0..STRETCHES_MAX {
        if position >= standing.at || changes.len() >= page_size {
            break;
        }
        let wanted = i64::try_from(page_size - changes.len()).unwrap_or(i64::MAX);
        let page =
            events::page(&store.pool, &store.accounts, interest, position, standing.at, wanted).await?;
        if page.epoch != standing.mark.epoch || page.floor > position {
            return Err(Error::new(Reason::CursorExpired));
        }
        changes.extend(page.changes.iter().map(|change| Shown::new(change, interest)));
        position = page.examined;
    }
    let cursor = Cursor { epoch: standing.mark.epoch, event_id: position };
    let more = position < standing.at;
    Ok(Changes { changes, cursor: cursor.seal(&service.keyring, &interest.app_id), more })
}

/// Where to begin.
fn begin(standing: &Standing, cursor: Option<Cursor>) -> Result<i64> {
    match cursor {
        None => Ok(standing.at),
        Some(cursor) if standing.goes_on_from(cursor.epoch, cursor.event_id) => Ok(cursor.event_id),
        Some(_) => Err(Error::new(Reason::CursorExpired)),
    }
}
