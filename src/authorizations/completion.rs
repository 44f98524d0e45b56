//! Completing: whose flow it is, who may spend the code, and what everybody
//! else who asks the same is told.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::state::Request;
use super::{Answer, Completed, Completion, Held, Outcome, Presented, exchange, failure, ticket};
use crate::error::{Error, FieldViolation, Reason, Result};
use crate::ids::mint_claim;
use crate::sealing::OpenError;
use crate::service::{App, Service};
use crate::states::{LinkOutcome, Step};
use crate::store::StoreError;
use crate::store::audit::{self, Attempted};
use crate::store::authorizations::{Authorization, Ending, Progress};
use crate::store::claims::{self, Claim, Claimed};
use crate::store::links::LinkedAccount;

/// The longest that the work of one completion takes.
pub(super) const WORK_MAX: Duration = Duration::from_secs(25);
/// How long a claim holds. Longer than the work, so that only a process that
/// has died or frozen loses it.
const CLAIM_LIFETIME: Duration = Duration::from_secs(30);
/// The longest that anybody waits for the outcome.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long before its deadline a caller that waits is told to come again; a
/// caller in a hurry, when the last quarter of its time begins.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// How long after a failure whoever finishes what was interrupted comes back to it.
/// The caller need not wait for that.
const FINISH_WAIT: Duration = Duration::from_mins(1);
/// How often somebody who waits looks, at first and at last.
const LOOK_FIRST: Duration = Duration::from_millis(15);
const LOOK_LAST: Duration = Duration::from_millis(250);

/// Completes an authorization.
///
/// # Errors
/// The reasons that the proto lists.
pub async fn complete(
    service: &Arc<Service>,
    app: &Arc<App>,
    completion: Completion,
    deadline: Instant,
) -> Result<Completed> {
    let now = service.clock.now();
    // Before a code is spent for a token that nobody could open.
    service.keyring.require_current()?;
    let (user_id, session_binding) = (completion.user_id, completion.session_binding);
    let caller = completion.caller;
    let (request, answer) = open(service, app, completion.presented)?;
    check_fields(&request, user_id.as_deref(), session_binding.as_deref())?;
    if !request.is_of(user_id.as_deref(), session_binding.as_deref()) {
        return refuse_mismatch(service, app, request, answer, user_id, caller).await;
    }
    if now >= request.expire_time && service.store.authorizations.submit(request.id).await?.is_none() {
        return Err(failure(Reason::AuthorizationExpired, request.id));
    }
    check_account(service, app, &request).await?;
    let start = Instant::now();
    let time = deadline.saturating_duration_since(start);
    let last_moment = start + time.saturating_sub(ANSWER_MARGIN.min(time / 4));
    let (id, is_sign_in) = (request.id, request.is_sign_in());
    // Those who ask the same at once share one attempt and how it ends: when it
    // fails they must not try in turn what Threads has just been unable to do.
    let key = (id, answer.hash());
    let outcome = service.completions.join(&service.tasks, key, || {
        carry_out(Arc::clone(service), Arc::clone(app), request, answer, caller, now)
    });
    let linked = timeout_at(last_moment, outcome).await;
    let linked = linked.unwrap_or_else(|_| Err(failure(Reason::AuthorizationInProgress, id)))?;
    Ok(Completed { id, account: linked.account, outcome: Outcome::new(is_sign_in, linked.outcome) })
}

/// What was asked of the person, and what came of it. Whatever this app did not
/// seal is invalid.
fn open(service: &Service, app: &App, presented: Presented) -> Result<(Request, Answer)> {
    let opened = match presented {
        Presented::State(state, answer) => {
            Request::open(&service.keyring, app.id(), &state).map(|request| (request, answer))
        }
        Presented::Ticket(ticket) => ticket::open(&service.keyring, app.id(), &ticket),
    };
    opened.map_err(|error| match error {
        OpenError::KeyUnknown => Error::from(error),
        OpenError::Invalid => Error::new(Reason::StateInvalid),
    })
}

/// Begins the work if nobody has, and otherwise waits for it.
async fn carry_out(
    service: Arc<Service>,
    app: Arc<App>,
    request: Request,
    answer: Answer,
    caller: String,
    ask_time: OffsetDateTime,
) -> Result<LinkedAccount> {
    let deadline = Instant::now() + WAIT_MAX;
    if ask_time < request.expire_time
        && let Some(completed) = begin(&service, &app, &request, &answer, &caller).await?
    {
        return Ok(completed);
    }
    follow(&service, &app, &request, &answer, deadline).await
}

/// What the fields must be depends on what was sealed.
fn check_fields(request: &Request, user_id: Option<&str>, session_binding: Option<&[u8]>) -> Result<()> {
    let mut violations = Vec::new();
    let mut bad = |field: &str, description: &'static str| {
        violations.push(FieldViolation { field: field.to_owned(), description: description.into() });
    };
    match (&request.user_id, user_id) {
        (Some(_), None) => bad("user_id", "is required to complete a link"),
        (None, Some(_)) => bad("user_id", "must be absent for a sign-in"),
        _ => {}
    }
    // Refused rather than ignored: whoever sends one believes that it is checked.
    if request.session_binding_hash.is_none() && session_binding.is_some() {
        bad("session_binding", "must be absent: the authorization was created without one");
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::fields(violations)) }
}

/// Somebody else's flow: it ends here, its code is never spent, and the trail
/// says so.
async fn refuse_mismatch(
    service: &Arc<Service>,
    app: &Arc<App>,
    request: Request,
    answer: Answer,
    user_id: Option<String>,
    caller: String,
) -> Result<Completed> {
    let work = {
        let (service, app) = (Arc::clone(service), Arc::clone(app));
        async move {
            let now = service.clock.now();
            let ending = Ending::new(Reason::SessionMismatch);
            let claim = claim(&service, &app, &request, &answer, Some(ending));
            let (pool, user_id) = (&service.store.pool, user_id.as_deref());
            let what = Attempted::SessionMismatch;
            let trail = audit::attempted(pool, what, app.id(), request.id, user_id, &caller, now);
            let (claimed, trail) = tokio::join!(service.store.claims.submit(claim), trail);
            claimed?;
            trail?;
            tracing::warn!(authorization.id = %request.id, "an authorization was presented for another session");
            Err(failure(Reason::SessionMismatch, request.id))
        }
    };
    service.finish(work).await
}

/// A completion for one account of a user asks, before a code is spent, whether
/// the user has it.
async fn check_account(service: &Service, app: &App, request: &Request) -> Result<()> {
    let Some(id) = request.account_id else { return Ok(()) };
    let found = service.store.accounts.submit(Box::new([id])).await?.pop().flatten();
    let fits = found.is_some_and(|account| {
        account.app_id == app.id() && Some(&account.user_id) == request.user_id.as_ref()
    });
    if fits { Ok(()) } else { Err(failure(Reason::AccountNotFound, request.id).with("account_id", id)) }
}

fn claim(service: &Service, app: &App, request: &Request, answer: &Answer, ending: Option<Ending>) -> Claim {
    let now = service.clock.now();
    let answer_hash = answer.hash();
    Claim {
        id: request.id,
        app_id: app.id().to_owned(),
        user_id: request.user_id.clone(),
        account_id: request.account_id,
        scopes: request.scopes.clone(),
        transfer: request.transfer,
        answer_hash,
        code_hash: matches!(answer, Answer::Code(_)).then_some(answer_hash),
        ending,
        claim_id: mint_claim(),
        claim_expire_time: now + CLAIM_LIFETIME,
        create_time: request.create_time,
        now,
    }
}

/// Claims the authorization and, if that is won, carries it out. `None`:
/// somebody else has it, or had it.
async fn begin(
    service: &Service,
    app: &App,
    request: &Request,
    answer: &Answer,
    caller: &str,
) -> Result<Option<LinkedAccount>> {
    let work_deadline = Instant::now() + WORK_MAX;
    let ending = matches!(answer, Answer::Denied).then(|| Ending::new(Reason::AuthorizationDenied));
    let claim = claim(service, app, request, answer, ending);
    let held = Held { claim_id: claim.claim_id, consent_time: claim.now, request: request.clone() };
    if claim.ending.is_none() {
        // Before the code is spent for a token that could not be stored.
        service.store.room.require(&service.store.pool).await?;
    }
    let claimed = service.store.claims.submit(claim).await;
    if let Err(StoreError::Unavailable(_)) = claimed {
        // The claim may stand although its reply was lost. The code has not been sent.
        release(service, &held, true, None).await;
    }
    match (claimed?, answer) {
        (Claimed::Taken, _) => Ok(None),
        (_, Answer::Denied) => Err(failure(Reason::AuthorizationDenied, request.id)),
        (Claimed::Ended, _) => Err(refuse_code(service, app, request, caller).await),
        (Claimed::Won, Answer::Code(code)) => {
            exchange::from_code(service, app, &held, code, work_deadline).await
        }
    }
}

/// A code that came with another state before: somebody has it who should not.
async fn refuse_code(service: &Service, app: &App, request: &Request, caller: &str) -> Error {
    tracing::warn!(authorization.id = %request.id, "a code was presented a second time, with another state");
    let (now, user_id) = (service.clock.now(), request.user_id.as_deref());
    let pool = &service.store.pool;
    let noted = audit::attempted(pool, Attempted::CodeReuse, app.id(), request.id, user_id, caller, now);
    noted.await.map_or_else(Error::from, |()| failure(Reason::CodeRejected, request.id))
}

/// Waits for the one outcome, and takes the work over if nobody is at it.
async fn follow(
    service: &Service,
    app: &App,
    request: &Request,
    answer: &Answer,
    deadline: Instant,
) -> Result<LinkedAccount> {
    let closed = || failure(Reason::AuthorizationClosed, request.id);
    let answer_hash = answer.hash();
    let mut look = LOOK_FIRST;
    loop {
        let found = service.store.authorizations.submit(request.id).await?;
        let found = found.filter(|found| found.app_id == app.id()).ok_or_else(closed)?;
        if found.answer_hash != answer_hash {
            return Err(closed());
        }
        match &found.progress {
            Progress::Succeeded { outcome, .. } => {
                return finished(service, request, &found, *outcome).await;
            }
            Progress::Ended { failure, .. } => return Err(ended(request, *failure)),
            Progress::InProgress { claim_expire_time, .. } if *claim_expire_time <= service.clock.now() => {
                if let Some(completed) = resume(service, app, request, &found, Some(answer)).await? {
                    return Ok(completed);
                }
            }
            Progress::InProgress { .. } => {}
        }
        // Only waiting, so a shutdown need not wait for it: another replica answers.
        if service.stopping.is_cancelled() || Instant::now() + look > deadline {
            return Err(failure(Reason::AuthorizationInProgress, request.id));
        }
        sleep(look).await;
        look = (look * 2).min(LOOK_LAST);
    }
}

/// A stored success, told again.
async fn finished(
    service: &Service,
    request: &Request,
    found: &Authorization,
    outcome: LinkOutcome,
) -> Result<LinkedAccount> {
    let lost = || failure(Reason::AccountNotFound, request.id);
    let id = found.account_id.ok_or_else(lost)?;
    let account = service.store.accounts.submit(Box::new([id])).await?.pop().flatten();
    // It may have been erased since, or be another user's now.
    let account =
        account.filter(|account| Some(&account.user_id) == found.user_id.as_ref()).ok_or_else(lost)?;
    Ok(LinkedAccount { account, outcome })
}

/// A stored failure, told again.
fn ended(request: &Request, ending: Ending) -> Error {
    let error = match ending.reason {
        // Whoever asks now is the right one, but the authorization is over.
        Reason::SessionMismatch => return failure(Reason::AuthorizationClosed, request.id),
        reason => failure(reason, request.id),
    };
    let error = match (ending.reason, request.account_id) {
        (Reason::AccountMismatch | Reason::AccountNotFound, Some(id)) => error.with("account_id", id),
        _ => error,
    };
    match ending.state_reason {
        Some(why) => error.with("state_reason", why.as_str()),
        None => error,
    }
}

/// Goes on where a process that died, or a failure of Threads, left off.
/// `None`: somebody else was faster.
pub(super) async fn resume(
    service: &Service,
    app: &App,
    request: &Request,
    found: &Authorization,
    answer: Option<&Answer>,
) -> Result<Option<LinkedAccount>> {
    let work_deadline = Instant::now() + WORK_MAX;
    let now = service.clock.now();
    let claim_id = mint_claim();
    let resumed = claims::resume(&service.store.pool, request.id, claim_id, now + CLAIM_LIFETIME, now).await;
    let Some(resumed) = resumed.map_err(Error::from)? else { return Ok(None) };
    let held = Held { request: request.clone(), claim_id, consent_time: found.attempt_time };
    match (resumed.step, resumed.short_lived, answer) {
        (Step::Unsent, _, Some(Answer::Code(code))) => {
            exchange::from_code(service, app, &held, code, work_deadline).await
        }
        (Step::Exchanged, Some((sealed, expire_time)), _) if expire_time > now => {
            exchange::from_short_lived(service, app, &held, &sealed, work_deadline).await
        }
        // The code may be spent and its token is lost, or has died.
        _ => Err(end(service, &held, Ending::new(Reason::AuthorizationInterrupted)).await),
    }
}

/// Ends a held authorization and answers with the error that tells so.
pub(super) async fn end(service: &Service, held: &Held, ending: Ending) -> Error {
    let now = service.clock.now();
    let ended = claims::end(&service.store.pool, held.request.id, held.claim_id, ending, now).await;
    not_stored(held, ended);
    self::ended(&held.request, ending)
}

/// Leaves a held authorization to whoever asks next. `wait` is how long Threads asks
/// to be left alone.
pub(super) async fn release(service: &Service, held: &Held, unsent: bool, wait: Option<Duration>) {
    let (id, claim_id, now) = (held.request.id, held.claim_id, service.clock.now());
    let finish_time = now + wait.unwrap_or(FINISH_WAIT).max(FINISH_WAIT);
    let left = claims::release(&service.store.pool, id, claim_id, unsent, finish_time, now).await;
    not_stored(held, left);
}

/// What could not be written now is found out by whoever asks after the claim
/// has run out; the caller's answer stays true.
fn not_stored(held: &Held, result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(authorization.id = %held.request.id, "the end of an attempt was not stored: {error}");
    }
}
