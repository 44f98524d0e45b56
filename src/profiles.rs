//! Profiles: as stored, or read again from Threads.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::accounts::{self, AccountName};
use crate::error::{Error, Reason, Result};
use crate::ids::AccountId;
use crate::refreshes::schedule;
use crate::service::{App, Service};
use crate::store::accounts::{Account, store_profile};
use crate::store::refreshes::{self, Strike};
use crate::store::tokens::sealed_token;
use crate::threads::Failure;

/// The longest that reading a profile again takes.
const READ_MAX: Duration = Duration::from_secs(12);

/// An account that has a profile, no older than `max_age` if that is given.
///
/// # Errors
/// `ACCOUNT_NOT_FOUND`, `PROFILE_NOT_FOUND`, the store's; when it must be read again
/// also what Threads, the token or its sealing say.
pub async fn get(
    service: &Arc<Service>,
    app: &Arc<App>,
    name: &AccountName,
    user_id: Option<&str>,
    max_age: Option<Duration>,
) -> Result<Account> {
    let account = accounts::get(service, app, name, user_id).await?;
    let Some(fetched) = &account.profile else { return Err(no_profile(account.id)) };
    let age = service.clock.now() - fetched.fetch_time;
    match max_age {
        Some(max_age) if max_age.is_zero() || age > max_age => read_again(service, app, account).await,
        _ => Ok(account),
    }
}

fn no_profile(id: AccountId) -> Error {
    Error::new(Reason::ProfileNotFound).with("account_id", id)
}

/// Reads the profile from Threads. Those who ask at once share one reading.
async fn read_again(service: &Arc<Service>, app: &Arc<App>, account: Account) -> Result<Account> {
    let (user_id, authorize_time) = (account.user_id.clone(), account.authorize_time);
    let reading = service
        .profile_reads
        .join(&service.tasks, account.id, || read(Arc::clone(service), Arc::clone(app), account.clone()));
    let read = reading.await?;
    // A reading that somebody else began may be of before a transfer.
    if read.user_id == user_id && read.authorize_time >= authorize_time {
        Ok(read)
    } else {
        Err(Error::new(Reason::AccountNotFound).with("account_id", account.id))
    }
}

async fn read(service: Arc<Service>, app: Arc<App>, account: Account) -> Result<Account> {
    let id = account.id;
    let with_id = |error: Error| error.with("account_id", id);
    let stored = sealed_token(&service.store.pool, id).await?.ok_or_else(|| no_profile(id))?;
    let token = service.open_token(&app, id, &stored.sealed)?;
    let me = match app.threads.me(&token, Instant::now() + READ_MAX).await {
        Ok(me) => me,
        Err(failure) => {
            note_strike(&service, id, stored.refresh_time, &failure).await;
            return Err(with_id(failure.into()));
        }
    };
    if me.profile.id != account.threads_user_id {
        tracing::error!(account.id = %id, "Threads answered with another person's profile");
        return Err(with_id(Error::new(Reason::ProviderIdentityConflict)));
    }
    let now = service.clock.now();
    store_profile(&service.store.pool, id, account.authorize_time, &me.profile, now).await?;
    // As it stands now: somebody may have unlinked it, or consented anew.
    let name = AccountName::Id(id);
    let account = accounts::get(&service, &app, &name, Some(&account.user_id)).await?;
    if account.profile.is_some() { Ok(account) } else { Err(no_profile(id)) }
}

/// A refusal met on the way counts as the first strike; the refresher asks again.
async fn note_strike(service: &Service, id: AccountId, refresh_time: OffsetDateTime, failure: &Failure) {
    let Some(reason) = failure.strike() else { return };
    let time = service.clock.now();
    let next = time + schedule::spread(service.refresh.strike_interval, id, time);
    let noted = refreshes::strike(&service.store.pool, id, refresh_time, Strike { time, reason }, next).await;
    if let Err(error) = noted {
        tracing::warn!(account.id = %id, "a refusal of Threads was not noted: {error}");
    }
}
