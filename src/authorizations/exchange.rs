//! What happens at Threads: the code for a short-lived token, that for a
//! long-lived one, the profile beside it, and then everything stored at once.

use std::time::Duration;

use prost::Message as _;
use time::OffsetDateTime;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::completion::{end, release};
use super::{Held, failure};
use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, ThreadsUserId, mint_user_id};
use crate::profile::Profile;
use crate::proto::internal;
use crate::refreshes::schedule::due_time;
use crate::sealing::{Place, Purpose};
use crate::secret::{AccessToken, AuthorizationCode};
use crate::service::{App, Service};
use crate::states::StateReason;
use crate::store::authorizations::Ending;
use crate::store::claims::ShortLivedWrite;
use crate::store::links::{Link, LinkMode, Linked, LinkedAccount};
use crate::threads::{Class, Failure, LongLived, ShortLived};

/// What a short-lived token lives, by Meta's page on long-lived tokens. The
/// answer does not say it.
const SHORT_LIFETIME: Duration = Duration::from_secs(3600);

/// Spends the code, and goes on. `None`: the claim was lost on the way.
pub(super) async fn from_code(
    service: &Service,
    app: &App,
    held: &Held,
    code: &AuthorizationCode,
    deadline: Instant,
) -> Result<Option<LinkedAccount>> {
    let request = &held.request;
    let short = match app.threads.exchange_code(code, &request.redirect_uri, deadline).await {
        Ok(short) => short,
        Err(refusal) if !refusal.sent => {
            release(service, held, true, refusal.retry_after).await;
            return Err(Error::from(refusal));
        }
        Err(refusal) => return Err(end_after(service, held, exchange_ending(&refusal), refusal).await),
    };
    let stored = store_short_lived(service, app, held, &short);
    let (stored, answers) = tokio::join!(stored, ask(app, &short.token, deadline));
    if let Err(error) = stored {
        // The link may still succeed; only a crash before it does would now cost
        // the person another consent.
        tracing::warn!(authorization.id = %request.id, "the short-lived token was not stored: {error}");
    }
    conclude(service, app, held, short.user_id.as_ref(), answers).await
}

/// Goes on from the stored short-lived token.
pub(super) async fn from_short_lived(
    service: &Service,
    app: &App,
    held: &Held,
    sealed: &[u8],
    deadline: Instant,
) -> Result<Option<LinkedAccount>> {
    let opened = service.keyring.open(short_lived_place(app, held), sealed);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            release(service, held, false, None).await;
            return Err(Error::from(error).with("authorization_id", held.request.id));
        }
    };
    let short = internal::ShortLivedToken::decode(opened.as_slice()).map_err(Error::internal)?;
    let token = AccessToken::new(short.access_token);
    let user_id = short.threads_user_id.as_deref().and_then(ThreadsUserId::parse);
    let answers = ask(app, &token, deadline).await;
    conclude(service, app, held, user_id.as_ref(), answers).await
}

fn short_lived_place<'a>(app: &'a App, held: &'a Held) -> Place<'a> {
    Place { purpose: Purpose::ShortLivedToken, app_id: app.id(), row: held.request.id.0.as_bytes() }
}

async fn store_short_lived(service: &Service, app: &App, held: &Held, short: &ShortLived) -> Result<()> {
    let plaintext = internal::ShortLivedToken {
        access_token: short.token.expose().to_owned(),
        threads_user_id: short.user_id.as_ref().map(|id| id.as_str().to_owned()),
    };
    let plaintext = Zeroizing::new(plaintext.encode_to_vec());
    let write = ShortLivedWrite {
        id: held.request.id,
        claim_id: held.claim_id,
        account_id: short.user_id.as_ref().map(|id| service.keyring.id_key().account_id(app.id(), id)),
        sealed: service.keyring.seal(short_lived_place(app, held), &plaintext),
        expire_time: service.clock.now() + SHORT_LIFETIME,
    };
    let stored = service.store.short_lived.submit(write).await;
    if let Err(error) = &stored {
        service.store.room.heed(error).await;
    }
    stored?;
    Ok(())
}

type Answers = (Result<LongLived, Failure>, Result<Profile, Failure>);

/// The long-lived token and the profile, asked for side by side; the profile
/// once more, with the long-lived token, if the short-lived one did not get it.
async fn ask(app: &App, short: &AccessToken, deadline: Instant) -> Answers {
    let (long, me) = tokio::join!(app.threads.extend(short, deadline), app.threads.me(short, deadline));
    let me = match (&long, me) {
        (Ok(long), Err(_)) => app.threads.me(&long.token, deadline).await,
        (_, me) => me,
    };
    (long, me.map(|me| me.profile))
}

/// Compares, seals and stores.
async fn conclude(
    service: &Service,
    app: &App,
    held: &Held,
    exchange_user_id: Option<&ThreadsUserId>,
    answers: Answers,
) -> Result<Option<LinkedAccount>> {
    let (long, profile) = match answers {
        (Ok(long), Ok(profile)) => (long, profile),
        (Err(refusal), _) | (_, Err(refusal)) => return Err(stop(service, held, refusal).await),
    };
    let request = &held.request;
    if exchange_user_id.is_some_and(|id| *id != profile.id) {
        tracing::error!(authorization.id = %request.id, "Threads' answers name two different people");
        return Err(end(service, held, Ending::new(Reason::ProviderIdentityConflict)).await);
    }
    let account_id = service.keyring.id_key().account_id(app.id(), &profile.id);
    if request.account_id.is_some_and(|wanted| wanted != account_id) {
        return Err(end(service, held, Ending::new(Reason::AccountMismatch)).await);
    }
    let now = service.clock.now();
    let link = link(service, app, held, account_id, &long, profile, now);
    let id = request.id;
    match service.store.links.submit(link).await {
        Ok(Linked::Done(linked)) => {
            let outcome = linked.outcome.as_str();
            tracing::info!(account.id = %linked.account.id, authorization.id = %id, outcome, "linked");
            Ok(Some(*linked))
        }
        Ok(Linked::Refused(reason)) => {
            let error = failure(reason, id);
            Err(match request.account_id {
                Some(wanted) => error.with("account_id", wanted),
                None => error,
            })
        }
        Ok(Linked::ClaimLost) => Ok(None),
        Err(error) => {
            service.store.room.heed(&error).await;
            release(service, held, false, None).await;
            Err(Error::from(error).with("authorization_id", id))
        }
    }
}

fn link(
    service: &Service,
    app: &App,
    held: &Held,
    account_id: AccountId,
    long: &LongLived,
    profile: Profile,
    now: OffsetDateTime,
) -> Link {
    let request = &held.request;
    let expire_time = now + long.lifetime;
    Link {
        authorization_id: request.id,
        claim_id: held.claim_id,
        account_id,
        app_id: app.id().to_owned(),
        user_id: request.user_id.clone().unwrap_or_else(mint_user_id),
        mode: match (&request.user_id, request.transfer) {
            (None, _) => LinkMode::SignIn,
            (Some(_), true) => LinkMode::Transfer,
            (Some(_), false) => LinkMode::Reject,
        },
        bound: request.account_id.is_some(),
        scopes: request.scopes.clone(),
        sealed_token: service.seal_token(app, account_id, &long.token),
        token_expire_time: expire_time,
        next_refresh_time: due_time(account_id, now, expire_time, service.refresh.minimum_age),
        profile,
        begin_time: request.create_time,
        authorize_time: held.consent_time,
        now,
    }
}

/// How an authorization ends when the exchange of its code was sent and failed.
fn exchange_ending(refusal: &Failure) -> Ending {
    match refusal.class {
        // No readable answer: the code may be spent.
        Class::Retry | Class::Surprise => Ending::new(Reason::AuthorizationInterrupted),
        Class::RateLimited(_) => Ending::new(Reason::ProviderRateLimited),
        _ => decisive_ending(refusal),
    }
}

/// How an authorization ends after an answer that waiting does not better.
fn decisive_ending(refusal: &Failure) -> Ending {
    match refusal.class {
        Class::Dead(why) => Ending { reason: Reason::ReauthorizationRequired, state_reason: Some(why) },
        Class::Gone => {
            Ending { reason: Reason::ReauthorizationRequired, state_reason: Some(StateReason::AccountGone) }
        }
        Class::Permission => Ending::new(Reason::PermissionMissing),
        Class::CodeRejected => Ending::new(Reason::CodeRejected),
        _ => Ending::new(Reason::ProviderConfiguration),
    }
}

/// After the exchange: passing trouble leaves the short-lived token for the next
/// try, anything else ends the authorization.
async fn stop(service: &Service, held: &Held, refusal: Failure) -> Error {
    if refusal.is_passing() || matches!(refusal.class, Class::RateLimited(_)) {
        release(service, held, false, refusal.retry_after).await;
        // Without the authorization's id: that would say that it has ended.
        return Error::from(refusal);
    }
    let ending = decisive_ending(&refusal);
    end_after(service, held, ending, refusal).await
}

async fn end_after(service: &Service, held: &Held, ending: Ending, refusal: Failure) -> Error {
    let error = end(service, held, ending).await;
    match refusal.retry_after.filter(|_| error.retry_after().is_some()) {
        Some(wait) => error.after(wait).because(refusal),
        None => error.because(refusal),
    }
}
