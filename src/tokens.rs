//! Access tokens, handed out to callers that may have them.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::accounts::{self, AccountName};
use crate::config::BASIC_SCOPE;
use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, ThreadsUserId};
use crate::refreshes::{self, Task};
use crate::secret::AccessToken;
use crate::service::{App, Service, Tried};
use crate::states::{AccountState, StateReason};
use crate::store::accounts::Account;
use crate::store::tokens::{TokenFetch, TokenFetched, sealed_token};
use crate::threads::Failure;

/// How often somebody who waits for another's refresh looks, at first and at last.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_millis(500);
/// How long before its deadline a caller that waits is told to come again.
const ANSWER_MARGIN: Duration = Duration::from_millis(250);
/// A token that Threads accepted so recently is not asked about again.
const CHECK_PAUSE: Duration = Duration::from_mins(1);

/// A caller's wish for a token.
pub struct Wish {
    /// The account.
    pub account_id: AccountId,
    /// The user it must be linked to.
    pub user_id: String,
    /// How long the token must still be good.
    pub minimum_lifetime: Duration,
    /// What it must have been asked for.
    pub required_scopes: Vec<String>,
    /// What for.
    pub purpose: Option<String>,
    /// The name of the caller.
    pub caller: String,
}

/// A token on its way to a caller.
pub struct Fetched {
    /// The token.
    pub token: AccessToken,
    /// When it dies.
    pub expire_time: OffsetDateTime,
    /// What it was asked for.
    pub scopes: Vec<String>,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
}

/// Fetches the token of an account, once the trail says who did. Refreshes it
/// first when it does not live long enough; those who ask at once share one
/// refresh.
///
/// # Errors
/// The reasons that the proto lists.
pub async fn fetch(service: &Arc<Service>, app: &Arc<App>, wish: Wish, deadline: Instant) -> Result<Fetched> {
    let id = wish.account_id;
    let start = Instant::now();
    let last_moment = deadline - ANSWER_MARGIN.min(deadline.saturating_duration_since(start) / 4);
    let mut look = LOOK_FIRST;
    loop {
        let now = service.clock.now();
        let good_until = now + wish.minimum_lifetime;
        let not_found = || Error::new(Reason::AccountNotFound).with("account_id", id);
        let found = service.store.token_fetches.submit(request(app, &wish, good_until, now));
        let found = found.await??.ok_or_else(not_found)?;
        if let (Some(sealed), Some(expire_time)) = (&found.granted, found.token_expire_time) {
            let token = service.open_token(app, id, sealed)?;
            let TokenFetched { scopes, threads_user_id, .. } = found;
            return Ok(Fetched { token, expire_time, scopes, threads_user_id });
        }
        if was_good(&found, &wish, now) && Instant::now() + look < last_moment {
            sleep(look).await;
            look = (look * 2).min(LOOK_LAST);
            continue;
        }
        if let Some(refusal) = refusal(service, id, &found, &wish.required_scopes, now) {
            return Err(refusal);
        }
        let refreshed = refreshes::attempt_for_caller(service, app, id, Task::Refresh, Some(good_until));
        match timeout_at(last_moment, refreshed).await {
            Ok(Ok(Tried::Done)) => {}
            Ok(Ok(Tried::Busy)) if Instant::now() + look < last_moment => {
                sleep(look).await;
                look = (look * 2).min(LOOK_LAST);
            }
            Ok(Err(error)) => return Err(naming(error, id)),
            // The refresh goes on; whoever asks again finds what came of it.
            Ok(Ok(Tried::Busy)) | Err(_) => {
                return Err(Error::new(Reason::ProviderUnavailable).with("account_id", id));
            }
        }
    }
}

/// Whether there was all that was asked for when the statement began. Then what was
/// granted was taken away in the same moment, by an erasure or an unlinking, and is
/// looked at again.
fn was_good(found: &TokenFetched, wish: &Wish, now: OffsetDateTime) -> bool {
    found.state == AccountState::Active
        && found.token_expire_time.is_some_and(|end| end > now && end >= now + wish.minimum_lifetime)
        && wish.required_scopes.iter().all(|scope| found.scopes.contains(scope))
}

fn request(app: &App, wish: &Wish, good_until: OffsetDateTime, now: OffsetDateTime) -> TokenFetch {
    TokenFetch {
        account_id: wish.account_id,
        app_id: app.id().to_owned(),
        user_id: wish.user_id.clone(),
        good_until,
        required_scopes: wish.required_scopes.clone(),
        caller: wish.caller.clone(),
        purpose: wish.purpose.clone(),
        now,
    }
}

/// Why no token was granted; `None` when a refresh may help.
fn refusal(
    service: &Service,
    id: AccountId,
    found: &TokenFetched,
    required: &[String],
    now: OffsetDateTime,
) -> Option<Error> {
    let fail = |reason| Error::new(reason).with("account_id", id);
    let consent = |why: StateReason| fail(Reason::ReauthorizationRequired).with("state_reason", why.as_str());
    let missing: Vec<&str> =
        required.iter().filter(|scope| !found.scopes.contains(scope)).map(String::as_str).collect();
    match found.state {
        AccountState::Unlinked => return Some(fail(Reason::AccountUnlinked)),
        AccountState::ReauthorizationRequired => {
            return Some(consent(found.state_reason.unwrap_or(StateReason::TokenExpired)));
        }
        AccountState::Active if !missing.is_empty() => {
            return Some(fail(Reason::PermissionMissing).with("scopes", missing.join(" ")));
        }
        AccountState::Active => {}
    }
    let is_young = found.refreshed.is_some_and(|time| now - time < service.refresh.minimum_age);
    if found.refreshed.is_some() && found.token_expire_time.is_none_or(|end| end <= now) {
        return Some(consent(StateReason::TokenExpired));
    }
    // It lives, but not as long as was asked for.
    let wait = found.pause_until.and_then(|until| Duration::try_from(until - now).ok());
    match (wait.filter(|wait| !wait.is_zero()), found.strike_reason) {
        (Some(_), Some(StateReason::PermissionLost)) => {
            Some(fail(Reason::PermissionMissing).with("scopes", BASIC_SCOPE))
        }
        (Some(wait), _) => Some(fail(Reason::ProviderUnavailable).after(wait)),
        (None, _) if is_young => Some(fail(Reason::ProviderUnavailable)),
        (None, _) => None,
    }
}

fn naming(error: Error, id: AccountId) -> Error {
    let is_named = error.metadata().iter().any(|(key, _)| *key == "account_id");
    if is_named { error } else { error.with("account_id", id) }
}

/// Checks once whether Threads still accepts a token that it is said to have
/// refused. What Threads says now counts, not the report: a report about another
/// token than the stored one changes nothing.
///
/// # Errors
/// `ACCOUNT_NOT_FOUND`, the store's, and what keeps the check from being made.
pub async fn report(
    service: &Arc<Service>,
    app: &Arc<App>,
    id: AccountId,
    user_id: &str,
    token_sha256: &[u8],
    deadline: Instant,
) -> Result<Account> {
    let name = AccountName::Id(id);
    let account = accounts::get(service, app, &name, Some(user_id)).await?;
    if account.state != AccountState::Active || !is_worth_asking(service, app, &account, token_sha256).await?
    {
        return Ok(account);
    }
    let last_moment = deadline - ANSWER_MARGIN;
    let check = refreshes::attempt_for_caller(service, app, id, Task::Check, None);
    match timeout_at(last_moment, check).await {
        // Somebody else is at it: the account will say what came of it.
        Ok(Ok(Tried::Done | Tried::Busy)) => {}
        // So will it what Threads said of the token.
        Ok(Err(error)) if is_of_token(&error) => {}
        Ok(Err(error)) => return Err(naming(error, id)),
        Err(_) => return Err(Error::new(Reason::ProviderUnavailable).with("account_id", id)),
    }
    accounts::get(service, app, &name, Some(user_id)).await
}

/// Whether the report is about the stored token, and Threads has said nothing of
/// it just now.
async fn is_worth_asking(
    service: &Service,
    app: &App,
    account: &Account,
    token_sha256: &[u8],
) -> Result<bool> {
    let Some(stored) = sealed_token(&service.store.pool, account.id).await? else { return Ok(false) };
    let token = service.open_token(app, account.id, &stored.sealed)?;
    let hash = digest::digest(&digest::SHA256, token.expose().as_bytes());
    let is_stored = constant_time::verify_slices_are_equal(hash.as_ref(), token_sha256).is_ok();
    let now = service.clock.now();
    let was_refused = stored.strike_time.is_some_and(|time| now - time < service.refresh.strike_interval);
    let was_accepted = account.profile.as_ref().is_some_and(|read| now - read.fetch_time < CHECK_PAUSE);
    if !is_stored || was_refused || was_accepted {
        return Ok(false);
    }
    // Nobody's reports make Threads be asked while it cannot answer; to a refusal it
    // must answer once more.
    let pause_until = stored.pause_until.filter(|_| stored.strike_time.is_none());
    match pause_until.and_then(|until| Duration::try_from(until - now).ok()) {
        Some(wait) if !wait.is_zero() => {
            Err(Error::new(Reason::ProviderUnavailable).with("account_id", account.id).after(wait))
        }
        _ => Ok(true),
    }
}

/// Whether an attempt failed because of what Threads said of the token, which is an
/// answer, and not for want of one.
fn is_of_token(error: &Error) -> bool {
    let failure = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Failure>());
    error.reason() == Reason::ReauthorizationRequired || failure.and_then(Failure::strike).is_some()
}
