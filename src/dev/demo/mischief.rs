//! The buttons that make things go wrong: at Threads through the simulator's
//! controls, in time through the clocks, and in between.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;

use super::super::Failure;
use super::super::travel::Pace;
use super::Demo;
use super::pages::{Message, failure_page, page, reason_page, trouble};
use super::reasons::reason;
use super::session::{Here, Posted};
use crate::proto::v1::Account;

/// Longer than an authorization is good, and than Threads is given between two
/// refusals.
const MINUTES: Duration = Duration::from_mins(20);
/// As long as a token of Threads lives.
const DAYS: Duration = Duration::from_hours(60 * 24);

/// An attempt to link that goes wrong without anybody having to click at Threads.
pub(super) async fn attempt(
    State(demo): State<Arc<Demo>>,
    Path(how): Path<String>,
    posted: Posted,
) -> Response {
    let session = &posted.session;
    let (persona, decision) = match how.as_str() {
        "deny" => ("denier", "deny"),
        "untested" => ("tester", "allow"),
        "dawdle" | "swap" => ("full", "allow"),
        _ => return trouble(StatusCode::NOT_FOUND),
    };
    let url = match demo.backend.link(session, None).await {
        Ok(url) => url,
        Err(status) => return reason_page(session, &reason(&status)),
    };
    let consented = async {
        if how == "dawdle" {
            demo.travel.pass(MINUTES, Pace::Awake).await?;
        }
        demo.threads.consent(&url, persona, decision).await
    };
    match consented.await {
        // Somebody else sits down at the browser just before it returns.
        Ok(back) if how == "swap" => {
            demo.sessions.change(&demo.sessions.other(session), Redirect::to(&back).into_response())
        }
        Ok(back) => Redirect::to(&back).into_response(),
        Err(failure) => failure_page(session, &failure),
    }
}

/// Something that the person does at Threads with a linked account.
pub(super) async fn at_threads(
    State(demo): State<Arc<Demo>>,
    Path((account_id, what)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    let session = &posted.session;
    // Whose account it is decides the service, not the address.
    let account = match demo.backend.account(session, &account_id).await {
        Ok(account) => account,
        Err(status) => return reason_page(session, &reason(&status)),
    };
    match happen(&demo, &account, &what).await {
        Ok(Some(there)) => Redirect::to(&there).into_response(),
        Ok(None) => trouble(StatusCode::NOT_FOUND),
        Err(failure) => failure_page(session, &failure),
    }
}

/// Lets it happen. Answers with where to go on; with nothing for what nobody does.
async fn happen(demo: &Demo, account: &Account, what: &str) -> Result<Option<String>, Failure> {
    let person = demo.threads.person(&account.threads_user_id).await?;
    let said = match what {
        "rename" => {
            let username = format!("{}.renamed.{}", person.key, demo.next_number());
            demo.threads.act(&person, "rename", &json!({ "username": username })).await?;
            "renamed"
        }
        "revoke" => {
            demo.threads.revoke(&person, false).await?;
            "revoked"
        }
        "deauthorize" if demo.threads.revoke(&person, true).await? => "deauthorized",
        "deauthorize" => "removed-before",
        "delete" => {
            let code = demo.threads.ask_for_deletion(&person).await?;
            return Ok(Some(format!("/deletions/{code}")));
        }
        _ => return Ok(None),
    };
    Ok(Some(format!("/accounts/{}?said={said}", account.account_id)))
}

/// What Threads shows to whoever has asked for deletion: where to look how it stands.
pub(super) async fn deletion(
    State(demo): State<Arc<Demo>>,
    Extension(session): Here,
    Path(code): Path<String>,
) -> Response {
    if !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return trouble(StatusCode::NOT_FOUND);
    }
    let address = format!("{}/threads/data-deletion/{code}", demo.places.http);
    let message = Message {
        session: Some(&session),
        heading: "You asked for your data to be deleted",
        text: "Threads has passed it on, and was told an address where you can see how it stands, today and for half a \
               year.",
        aside: "The service was called by Threads with a signed request. It erased the account at once (everybody who \
                watches heard ERASED) and answered with this address and a confirmation code. Nothing that names \
                the person is kept with it.",
        link: Some((&address, "See how the deletion stands")),
    };
    page(StatusCode::OK, &message)
}

/// Lets time pass.
pub(super) async fn time(State(demo): State<Arc<Demo>>, Path(how): Path<String>, posted: Posted) -> Response {
    let (time, pace) = match how.as_str() {
        "minutes" => (MINUTES, Pace::Awake),
        "days" => (DAYS, Pace::Awake),
        "sleep" => (DAYS, Pace::Asleep),
        _ => return trouble(StatusCode::NOT_FOUND),
    };
    match demo.travel.pass(time, pace).await {
        Ok(()) => Redirect::to("/?said=time").into_response(),
        Err(failure) => failure_page(&posted.session, &failure),
    }
}
