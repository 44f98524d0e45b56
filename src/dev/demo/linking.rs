//! Linking and signing in: the way to Threads, and the way back.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use tonic::Status;

use super::Demo;
use super::backend::ReturnTo;
use super::pages::{reason_page, trouble};
use super::reasons::{is_passing, reason};
use super::session::{Here, Posted, Session};

/// The longest ticket that is looked at, as the service promises.
const TICKET_MAX: usize = 4096;

/// Sends the browser to Threads to link an account.
pub(super) async fn link(State(demo): State<Arc<Demo>>, posted: Posted) -> Response {
    let account_id = Some(posted.field("account_id")).filter(|id| !id.is_empty());
    leave(&posted.session, demo.backend.link(&posted.session, account_id).await)
}

/// Sends the browser to Threads to sign in.
pub(super) async fn sign_in(State(demo): State<Arc<Demo>>, posted: Posted) -> Response {
    leave(&posted.session, demo.backend.sign_in(&posted.session).await)
}

fn leave(session: &Session, url: Result<String, Status>) -> Response {
    match url {
        Ok(url) => Redirect::to(&url).into_response(),
        Err(status) => reason_page(session, &reason(&status)),
    }
}

type Returned = Query<Vec<(String, String)>>;

/// Where the hosted callback sends the browser on to after a link.
pub(super) async fn linked(
    demo: State<Arc<Demo>>,
    session: Here,
    headers: HeaderMap,
    returned: Returned,
) -> Response {
    complete(demo, session, &headers, returned, ReturnTo::Linked).await
}

/// The same after a sign-in.
pub(super) async fn signed_in(
    demo: State<Arc<Demo>>,
    session: Here,
    headers: HeaderMap,
    returned: Returned,
) -> Response {
    complete(demo, session, &headers, returned, ReturnTo::SignedIn).await
}

/// Completes for the user of this session, whoever the callback may speak of, and
/// leads away from the address that holds the ticket.
async fn complete(
    State(demo): State<Arc<Demo>>,
    Extension(session): Here,
    headers: &HeaderMap,
    Query(returned): Returned,
    to: ReturnTo,
) -> Response {
    // A browser that guesses where its person will go has not got its person there.
    if headers.contains_key("sec-purpose") {
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut tickets = returned.into_iter().filter(|(name, _)| name == "ticket").map(|(_, ticket)| ticket);
    let (Some(ticket), None) = (tickets.next(), tickets.next()) else {
        return trouble(StatusCode::BAD_REQUEST);
    };
    if ticket.is_empty() || ticket.len() > TICKET_MAX {
        return trouble(StatusCode::BAD_REQUEST);
    }
    match demo.backend.complete(&session, ticket, &to).await {
        Ok(completed) => {
            let account = completed.account.unwrap_or_default();
            let there =
                format!("/accounts/{}?said={}", account.account_id, said(&to, completed.user_created));
            let response = Redirect::to(&there).into_response();
            match to {
                ReturnTo::Linked => response,
                ReturnTo::SignedIn => {
                    let session = demo.sessions.signed_in(&session, account.user_id);
                    demo.sessions.change(&session, response)
                }
            }
        }
        Err(status) => {
            let reason = reason(&status);
            // The same address again is the same completion again.
            if is_passing(&reason) {
                return reason_page(&session, &reason);
            }
            Redirect::to(&format!("/ended/{reason}")).into_response()
        }
    }
}

fn said(to: &ReturnTo, user_created: bool) -> &'static str {
    match to {
        ReturnTo::Linked => "linked",
        ReturnTo::SignedIn if user_created => "signed-up",
        ReturnTo::SignedIn => "signed-in",
    }
}

/// How an attempt ended that linked nothing.
pub(super) async fn ended(Extension(session): Here, Path(reason): Path<String>) -> Response {
    reason_page(&session, &reason)
}

/// Lets the other of the two sit down at this browser.
pub(super) async fn switch(State(demo): State<Arc<Demo>>, posted: Posted) -> Response {
    let session = demo.sessions.other(&posted.session);
    demo.sessions.change(&session, Redirect::to("/").into_response())
}
