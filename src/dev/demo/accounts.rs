//! The start page, the page of an account, and what its owner can do with it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use tonic::Status;

use super::super::threads::Greeting;
use super::Demo;
use super::pages::{AccountPage, Linked, Start, failure_page, instant, moment, page, reason_page};
use super::reasons::reason;
use super::session::{Here, Posted, Session};
use crate::clock::Clock as _;
use crate::proto::v1::{Account, AccountProfile};

/// How many of the latest changes the start page shows.
const LATEST: usize = 8;

type Said = Query<HashMap<String, String>>;

/// What has just been done, by its name in the address.
fn notice(said: &HashMap<String, String>) -> Option<&'static str> {
    Some(match said.get("said")?.as_str() {
        "linked" => "Your Threads account is linked.",
        "signed-in" => "You are signed in as the user to whom this Threads account is linked.",
        "signed-up" => "You are signed in. Nobody had this Threads account yet, so you are a new user.",
        "unlinked" => {
            "It is unlinked. Its token and profile are destroyed; only ids and times are kept for a while."
        }
        "erased" => "You are forgotten: every token, profile and name of yours is gone.",
        "read" => "The profile has just been read from Threads.",
        "greeted" => "Threads took the token and told the username.",
        "refused" => {
            "Threads refused the token, and this backend reported it. threads-identity then asks Threads itself, and \
             gives an account up when Threads says so twice, ten minutes apart: let 20 minutes pass, and use it again."
        }
        "renamed" => "Renamed at Threads. Here the old name stands until the profile is read anew.",
        "revoked" => "The person removed the app at Threads. Nobody told us: use the token and see.",
        "removed-before" => {
            "The person has removed the app before, so there is nothing to tell. Link again first."
        }
        "deauthorized" => "The person removed the app at Threads, and Threads told us at once.",
        "time" => "Time has passed.",
        _ => return None,
    })
}

/// The start page.
pub(super) async fn start(
    State(demo): State<Arc<Demo>>,
    Extension(session): Here,
    Query(said): Said,
) -> Response {
    match gather(&demo, &session, notice(&said)).await {
        Ok(response) => response,
        Err(status) => reason_page(&session, &reason(&status)),
    }
}

async fn gather(demo: &Demo, session: &Session, notice: Option<&'static str>) -> Result<Response, Status> {
    let accounts = demo.backend.list_accounts(session).await?;
    let profiles = demo.backend.list_profiles(session).await?;
    let mut profiles: HashMap<String, AccountProfile> =
        profiles.into_iter().map(|profile| (profile.account_id.clone(), profile)).collect();
    let linked = |account: &Account| Linked::new(account, profiles.remove(&account.account_id));
    let accounts = accounts.iter().map(linked).collect();
    let (mut changes, _) = demo.news.look(&demo.backend, &session.user_id).await?;
    changes.reverse();
    changes.truncate(LATEST);
    let clock = demo.travel.clock();
    let start = Start {
        session,
        notice,
        accounts,
        changes,
        now: instant(clock.now()),
        days_ahead: clock.ahead().as_secs() / 86_400,
        places: &demo.places,
    };
    Ok(page(StatusCode::OK, &start))
}

/// The page of one account.
pub(super) async fn account(
    State(demo): State<Arc<Demo>>,
    Extension(session): Here,
    Path(account_id): Path<String>,
    Query(said): Said,
) -> Response {
    match one(&demo, &session, &account_id, notice(&said)).await {
        Ok(response) => response,
        Err(status) => reason_page(&session, &reason(&status)),
    }
}

async fn one(
    demo: &Demo,
    session: &Session,
    account_id: &str,
    notice: Option<&'static str>,
) -> Result<Response, Status> {
    let account = demo.backend.account(session, account_id).await?;
    // An account that is unlinked has none.
    let profile = match demo.backend.profile(session, account_id, false).await {
        Ok(profile) => Some(profile),
        Err(status) if reason(&status) == "PROFILE_NOT_FOUND" => None,
        Err(status) => return Err(status),
    };
    let (mut changes, _) = demo.news.look(&demo.backend, &session.user_id).await?;
    changes.retain(|change| change.account_id == account.account_id);
    changes.reverse();
    changes.truncate(LATEST);
    let facts = facts(&account, profile.as_ref());
    let account = Linked::new(&account, profile);
    Ok(page(StatusCode::OK, &AccountPage { session, notice, account, facts, changes }))
}

/// What is known about an account beside the profile.
fn facts(account: &Account, profile: Option<&AccountProfile>) -> Vec<(&'static str, String)> {
    let times = [
        ("Consented", &account.authorize_time),
        ("Token refreshed", &account.token_refresh_time),
        ("Token lives until", &account.token_expire_time),
        ("Token last fetched", &account.last_token_fetch_time),
    ];
    let profile = [
        ("Profile read", profile.and_then(|profile| profile.fetch_time.as_ref())),
        ("Picture address works until", profile.and_then(|profile| profile.picture_expire_time.as_ref())),
    ];
    let times = times.map(|(name, time)| (name, time.as_ref()));
    let times = times.into_iter().chain(profile);
    let times = times.filter_map(|(name, time)| time.map(|time| (name, moment(time))));
    let scopes = (!account.scopes.is_empty()).then(|| ("Asked for", account.scopes.join(", ")));
    scopes.into_iter().chain(times).collect()
}

/// Reads the profile from Threads again.
pub(super) async fn read(
    State(demo): State<Arc<Demo>>,
    Path(account_id): Path<String>,
    posted: Posted,
) -> Response {
    let profile = demo.backend.profile(&posted.session, &account_id, true).await;
    done(&posted.session, profile, &format!("/accounts/{account_id}?said=read"))
}

/// Fetches the token and uses it, as a backend does that wants something of
/// Threads. If Threads refuses it, that is reported.
pub(super) async fn greet(
    State(demo): State<Arc<Demo>>,
    Path(account_id): Path<String>,
    posted: Posted,
) -> Response {
    let session = &posted.session;
    let fetched = match demo.backend.fetch_token(session, &account_id).await {
        Ok(fetched) => fetched,
        Err(status) => return reason_page(session, &reason(&status)),
    };
    match demo.threads.greet(&fetched.access_token).await {
        Ok(Greeting::Taken) => Redirect::to(&format!("/accounts/{account_id}?said=greeted")).into_response(),
        Ok(Greeting::Refused) => {
            let reported = demo.backend.report_token(session, &account_id, &fetched.access_token).await;
            done(session, reported, &format!("/accounts/{account_id}?said=refused"))
        }
        Err(failure) => failure_page(session, &failure),
    }
}

/// Ends a link.
pub(super) async fn unlink(
    State(demo): State<Arc<Demo>>,
    Path(account_id): Path<String>,
    posted: Posted,
) -> Response {
    let unlinked = demo.backend.unlink(&posted.session, &account_id).await;
    done(&posted.session, unlinked, &format!("/accounts/{account_id}?said=unlinked"))
}

/// Forgets the user.
pub(super) async fn erase(State(demo): State<Arc<Demo>>, posted: Posted) -> Response {
    done(&posted.session, demo.backend.erase(&posted.session).await, "/?said=erased")
}

fn done<T>(session: &Session, result: Result<T, Status>, there: &str) -> Response {
    match result {
        Ok(_) => Redirect::to(there).into_response(),
        Err(status) => reason_page(session, &reason(&status)),
    }
}
