//! The buttons that make things go wrong: at Threads through the simulator's
//! controls, in time through the clocks, and in between.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;

use super::super::Failure;
use super::super::travel::Pace;
use super::Demo;
use super::pages::{failure_page, reason_page, trouble};
use super::reasons::reason;
use super::session::Posted;

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
    match happen(&demo, &account.threads_user_id, &what).await {
        Ok(Some(said)) => Redirect::to(&format!("/accounts/{account_id}?said={said}")).into_response(),
        Ok(None) => trouble(StatusCode::NOT_FOUND),
        Err(failure) => failure_page(session, &failure),
    }
}

async fn happen(demo: &Demo, threads_user_id: &str, what: &str) -> Result<Option<&'static str>, Failure> {
    let person = demo.threads.person(threads_user_id).await?;
    match what {
        "rename" => {
            let username = format!("{}.renamed.{}", person.key, demo.next_number());
            demo.threads.act(&person, "rename", &json!({ "username": username })).await?;
            Ok(Some("renamed"))
        }
        "revoke" => {
            demo.threads.act(&person, "revoke", &json!({})).await?;
            Ok(Some("revoked"))
        }
        _ => Ok(None),
    }
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
