//! Access tokens, handed out to callers that may have them.

use std::time::Duration;

use time::OffsetDateTime;

use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, ThreadsUserId};
use crate::sealing::{Place, Purpose};
use crate::secret::AccessToken;
use crate::service::{App, Service};
use crate::states::{AccountState, StateReason};
use crate::store::tokens::{TokenFetch, TokenFetched};

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

/// Fetches the token of an account, once the trail says who did.
///
/// # Errors
/// The reasons that the proto lists.
pub async fn fetch(service: &Service, app: &App, wish: Wish) -> Result<Fetched> {
    let now = service.clock.now();
    let good_until = now + wish.minimum_lifetime;
    let id = wish.account_id;
    let fetch = TokenFetch {
        account_id: id,
        app_id: app.id().to_owned(),
        user_id: wish.user_id,
        good_until,
        required_scopes: wish.required_scopes.clone(),
        caller: wish.caller,
        purpose: wish.purpose,
        now,
    };
    let not_found = || Error::new(Reason::AccountNotFound).with("account_id", id);
    let found = service.store.token_fetches.submit(fetch).await??.ok_or_else(not_found)?;
    let (Some(sealed), Some(expire_time)) = (&found.granted, found.token_expire_time) else {
        return Err(refusal(id, &found, &wish.required_scopes, now));
    };
    let place = Place { purpose: Purpose::Token, app_id: app.id(), row: id.0.as_bytes() };
    let token =
        service.keyring.open(place, sealed).map_err(|error| Error::from(error).with("account_id", id))?;
    let token = std::str::from_utf8(&token).map_err(Error::internal)?;
    Ok(Fetched {
        token: AccessToken::new(token.to_owned()),
        expire_time,
        scopes: found.scopes,
        threads_user_id: found.threads_user_id,
    })
}

/// Why no token was granted.
fn refusal(id: AccountId, found: &TokenFetched, required: &[String], now: OffsetDateTime) -> Error {
    let fail = |reason| Error::new(reason).with("account_id", id);
    let consent = |why: StateReason| fail(Reason::ReauthorizationRequired).with("state_reason", why.as_str());
    let missing: Vec<&str> =
        required.iter().filter(|scope| !found.scopes.contains(scope)).map(String::as_str).collect();
    match found.state {
        AccountState::Unlinked => fail(Reason::AccountUnlinked),
        AccountState::ReauthorizationRequired => {
            consent(found.state_reason.unwrap_or(StateReason::TokenExpired))
        }
        AccountState::Active if found.token_expire_time.is_none_or(|end| end <= now) => {
            consent(StateReason::TokenExpired)
        }
        AccountState::Active if !missing.is_empty() => {
            fail(Reason::PermissionMissing).with("scopes", missing.join(" "))
        }
        // It lives, but not as long as was asked for.
        AccountState::Active => fail(Reason::ProviderUnavailable),
    }
}
