//! Accounts: reading, listing and unlinking them.

use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, ThreadsUserId};
use crate::service::{App, Service};
use crate::states::{AccountState, StateReason};
use crate::store::accounts::{self, Account, Filter, Unlinking};

/// How often an account is unlinked that somebody links again at the same time.
const UNLINK_TRIES: usize = 5;

/// How a caller names an account.
#[derive(Debug, Clone)]
pub enum AccountName {
    /// By our id.
    Id(AccountId),
    /// By Threads' id.
    Threads(ThreadsUserId),
}

impl AccountName {
    /// Our id; Threads' leads to it without a look-up.
    #[must_use]
    pub fn id(&self, service: &Service, app: &App) -> AccountId {
        match self {
            Self::Id(id) => *id,
            Self::Threads(id) => service.keyring.id_key().account_id(app.id(), id),
        }
    }

    fn not_found(&self) -> Error {
        let error = Error::new(Reason::AccountNotFound);
        match self {
            Self::Id(id) => error.with("account_id", id),
            // Naming our id here would tell which Threads ids are known.
            Self::Threads(_) => error,
        }
    }
}

/// An account of the caller's app and, if a user is named, of that user.
///
/// # Errors
/// `ACCOUNT_NOT_FOUND`, or the store's.
pub async fn get(service: &Service, app: &App, name: &AccountName, user_id: Option<&str>) -> Result<Account> {
    let found = service.store.accounts.submit(Box::new([name.id(service, app)])).await?.pop().flatten();
    found.filter(|account| is_visible(account, app, user_id)).ok_or_else(|| name.not_found())
}

/// Several accounts at once, in the order asked for; `None` for what the caller
/// cannot see.
///
/// # Errors
/// The store's.
pub async fn get_all(
    service: &Service,
    app: &App,
    ids: Vec<AccountId>,
    user_id: Option<&str>,
) -> Result<Vec<Option<Account>>> {
    let found = service.store.accounts.submit(ids.into_boxed_slice()).await?;
    Ok(found.into_iter().map(|account| account.filter(|account| is_visible(account, app, user_id))).collect())
}

/// A page of accounts, and where the next begins if there is one.
///
/// # Errors
/// The store's.
pub async fn list(
    service: &Service,
    filter: &Filter<'_>,
    after: Option<AccountId>,
    page_size: usize,
) -> Result<(Vec<Account>, Option<AccountId>)> {
    // One more than asked for tells whether there is a next page.
    let limit = i64::try_from(page_size + 1).unwrap_or(i64::MAX);
    let mut page = accounts::page(&service.store.pool, filter, after, limit).await?;
    let more = page.len() > page_size;
    page.truncate(page_size);
    let next = page.last().map(|account| account.id).filter(|_| more);
    Ok((page, next))
}

/// Unlinks an account of a user. Doing it again changes nothing.
///
/// # Errors
/// `ACCOUNT_NOT_FOUND`, or the store's.
pub async fn unlink(service: &Service, app: &App, id: AccountId, user_id: &str) -> Result<Account> {
    for _ in 0..UNLINK_TRIES {
        let now = service.clock.now();
        let pool = service.store.pool.clone();
        let (app_id, user) = (app.id().to_owned(), user_id.to_owned());
        let unlinked = service.finish(async move {
            let unlinking = Unlinking {
                app_id: &app_id,
                id,
                user_id: Some(&user),
                consented_until: None,
                issue_time: None,
                reason: StateReason::UnlinkedByCaller,
                noted: None,
                now,
            };
            Ok(accounts::unlink(&pool, &unlinking).await?)
        });
        if let Some(account) = unlinked.await? {
            tracing::info!(account.id = %id, "unlinked by a caller");
            return Ok(account);
        }
        let account = get(service, app, &AccountName::Id(id), Some(user_id)).await?;
        if account.state == AccountState::Unlinked {
            return Ok(account);
        }
        // Linked again between the two looks: once more.
    }
    Err(Error::new(Reason::StorageUnavailable))
}

/// What is not the caller's app's, or not the named user's, does not exist.
fn is_visible(account: &Account, app: &App, user_id: Option<&str>) -> bool {
    account.app_id == app.id() && user_id.is_none_or(|user_id| account.user_id == user_id)
}
