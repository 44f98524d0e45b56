//! What Meta tells of people: that somebody has removed the app, or wants to be
//! forgotten. It is believed if the app's secret has signed it, and it concerns what
//! the person had consented to by the time at which Meta says that it happened.
//!
//! Both may be repeated, come late, in any order, or be played back by somebody who
//! has recorded them: whoever has consented since is left alone.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::erasures;
use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, ConfirmationCode};
use crate::metrics::SignatureLabels;
use crate::service::{App, Service};
use crate::signed_request::{self, Refusal, SignedRequest};
use crate::states::{AccountState, StateReason};
use crate::store::StoreError;
use crate::store::accounts::{Unlinking, has_taken, unlink};
use crate::store::audit;
use crate::store::deletions::{Done, Shown, carry_out, find};
use crate::store::erasures::{By, Cause, Named, Whom};

/// By how much Meta's clock may be behind ours: a consent that is later than the
/// notice by no more than this may still have come before it.
const SKEW: Duration = Duration::from_secs(60);
/// By how much it may be ahead. What is further off is no time at which anything
/// happened, and would outlive consents that have not been given yet.
const AHEAD_MAX: Duration = Duration::from_mins(5);
/// How often something is tried that another transaction gets in the way of.
const TRIES: usize = 5;
/// Who the trail says it was.
const CALLER: &str = "meta";

/// What a removed app came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deauthorized {
    /// The account is unlinked; its token and profile are destroyed.
    Unlinked,
    /// It was unlinked already.
    Repeated,
    /// The person has consented since.
    Outdated,
    /// There is no such account.
    Unknown,
}

/// What a wish to be forgotten came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// The account is erased.
    Erased,
    /// The person has linked it anew since.
    Outdated,
    /// The same request has been carried out before.
    Repeated,
    /// There is no such account.
    Unknown,
}

/// Why a notice was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// It is not what the app's secret has signed.
    Refused(Refusal),
    /// It says that it was made far in the future.
    Future,
    /// It could not be carried out or recorded.
    Failed(Error),
}

impl From<Error> for NotTaken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A notice that is believed.
struct Notice {
    account_id: AccountId,
    signed: SignedRequest,
    now: OffsetDateTime,
}

impl Notice {
    fn read(service: &Service, app: &App, text: &str) -> std::result::Result<Self, NotTaken> {
        let (current, previous) = (&app.config.client_secret, app.config.client_secret_previous.as_ref());
        let signed = signed_request::verify(text, current, previous).map_err(NotTaken::Refused)?;
        let labels = SignatureLabels { secret: signed.signed_with.as_str() };
        service.metrics.signed_requests.get_or_create(&labels).inc();
        let now = service.clock.now();
        if signed.issue_time.is_some_and(|time| time > now + AHEAD_MAX) {
            return Err(NotTaken::Future);
        }
        let account_id = service.keyring.id_key().account_id(app.id(), &signed.threads_user_id);
        Ok(Self { account_id, signed, now })
    }

    /// Later consents are none of its business. A notice without a time is of the
    /// moment at which it comes, and concerns whatever is there.
    fn consented_until(&self) -> Option<OffsetDateTime> {
        self.signed.issue_time.map(|time| time + SKEW)
    }

    /// From when on a consent that is still under way counts again. Never in the
    /// future: who comes back a moment after being forgotten is welcome.
    fn erase_time(&self) -> OffsetDateTime {
        self.consented_until().map_or(self.now, |until| until.min(self.now))
    }

    /// For the trail.
    fn detail(&self) -> String {
        let time = self.signed.issue_time.and_then(|time| time.format(&Rfc3339).ok());
        let time = time.map_or_else(|| "without a time".to_owned(), |time| format!("issued {time}"));
        format!("signed with the {} secret, {time}", self.signed.signed_with.as_str())
    }
}

/// Takes the notice that a person has removed the app: the account is unlinked.
///
/// # Errors
/// [`NotTaken`].
pub async fn deauthorize(
    service: &Arc<Service>,
    app: &Arc<App>,
    text: &str,
) -> std::result::Result<Deauthorized, NotTaken> {
    let notice = Notice::read(service, app, text)?;
    let signed_with = notice.signed.signed_with.as_str();
    let account_id = notice.account_id;
    let work = {
        let (service, app) = (Arc::clone(service), Arc::clone(app));
        async move { take_away(&service, &app, &notice).await }
    };
    let done = service.finish(work).await?;
    if done == Deauthorized::Unlinked {
        tracing::info!(account.id = %account_id, signed_with, "unlinked: the person has removed the app");
    } else {
        tracing::info!(app = app.id(), signed_with, ?done, "a removal of the app changes nothing");
    }
    Ok(done)
}

async fn take_away(service: &Service, app: &App, notice: &Notice) -> Result<Deauthorized> {
    let (pool, id, now) = (&service.store.pool, notice.account_id, notice.now);
    let until = notice.consented_until();
    let detail = notice.detail();
    let unlinking = Unlinking {
        app_id: app.id(),
        id,
        user_id: None,
        consented_until: until,
        issue_time: notice.signed.issue_time,
        reason: StateReason::Deauthorized,
        noted: Some((CALLER, &detail)),
        now,
    };
    for _ in 0..TRIES {
        match unlink(pool, &unlinking).await {
            Ok(Some(_)) => return Ok(Deauthorized::Unlinked),
            Ok(None) => {}
            Err(StoreError::Conflict) => continue,
            Err(error) => return Err(error.into()),
        }
        let found = service.store.accounts.submit(Box::new([id])).await?.pop().flatten();
        let (done, action) = match found {
            None => (Deauthorized::Unknown, "DEAUTHORIZE_UNKNOWN"),
            Some(account) if account.state == AccountState::Unlinked => return Ok(Deauthorized::Repeated),
            Some(account) => {
                let is_later = until.is_some_and(|until| account.authorize_time > until);
                if !is_later && !has_been_taken(service, notice).await? {
                    // Linked between the two looks: once more.
                    continue;
                }
                (Deauthorized::Outdated, "DEAUTHORIZE_OUTDATED")
            }
        };
        audit::note_once(pool, app.id(), id, CALLER, action, &detail, now).await?;
        return Ok(done);
    }
    Err(Error::new(Reason::StorageUnavailable))
}

/// Whether it is one that has had its effect, and the person has consented since,
/// so soon that clocks could not tell.
async fn has_been_taken(service: &Service, notice: &Notice) -> Result<bool> {
    match notice.signed.issue_time {
        Some(time) => Ok(has_taken(&service.store.pool, notice.account_id, time).await?),
        None => Ok(false),
    }
}

/// Takes the notice that a person wants to be forgotten: the account is erased. The
/// code is what the person looks it up by, whether or not there was one.
///
/// # Errors
/// [`NotTaken`].
pub async fn forget(
    service: &Arc<Service>,
    app: &Arc<App>,
    text: &str,
) -> std::result::Result<(ConfirmationCode, Forgotten), NotTaken> {
    let notice = Notice::read(service, app, text)?;
    let signed_with = notice.signed.signed_with.as_str();
    let person = &notice.signed.threads_user_id;
    let code = service.keyring.id_key().confirmation_code(app.id(), person, notice.signed.issue_time);
    let work = {
        let (service, app, code) = (Arc::clone(service), Arc::clone(app), code.clone());
        async move { erase(&service, &app, &notice, &code).await }
    };
    let forgotten = service.finish(work).await?;
    tracing::info!(app = app.id(), signed_with, ?forgotten, "a person asked to be forgotten");
    Ok((code, forgotten))
}

async fn erase(service: &Service, app: &App, notice: &Notice, code: &ConfirmationCode) -> Result<Forgotten> {
    let pool = &service.store.pool;
    // Without a time it may be the same or another.
    if notice.signed.issue_time.is_some()
        && find(pool, code).await?.is_some_and(|shown| shown.complete_time.is_some())
    {
        return Ok(Forgotten::Repeated);
    }
    let detail = notice.detail();
    let by = By { cause: Cause::Meta, caller: CALLER, detail: Some(&detail), now: notice.now };
    let named = Named { id: notice.account_id, app_id: app.id().to_owned(), erase_time: notice.erase_time() };
    let named = [named];
    let whom = Whom::Requested(&named, notice.consented_until());
    let mut tries = 1;
    loop {
        let erased = async {
            erasures::forget_bulk(pool, whom, by).await?;
            carry_out(pool, &named[0], notice.consented_until(), code, by).await
        };
        match erased.await {
            Err(StoreError::Conflict) if tries < TRIES => tries += 1,
            Ok(Done::Erased) => return Ok(Forgotten::Erased),
            Ok(Done::LinkedSince) => return Ok(Forgotten::Outdated),
            Ok(Done::Nobody) => return Ok(Forgotten::Unknown),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What became of a request to be forgotten.
///
/// # Errors
/// The store's.
pub async fn look_up(service: &Service, code: &ConfirmationCode) -> Result<Option<Shown>> {
    Ok(find(&service.store.pool, code).await?)
}
