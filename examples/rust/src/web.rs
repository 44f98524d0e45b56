//! The backend's pages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_extra::extract::CookieJar;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::{Accounts, Entry};
use crate::errors::patiently;
use crate::identity::Identity;
use crate::sessions::{Session, Sessions};
use crate::trouble::Trouble;

/// How long a person who waits for a page lets us wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// No ticket is longer.
const TICKET_MAX: usize = 4096;

/// What the pages need.
pub struct Backend {
    identity: Identity,
    accounts: Arc<Accounts>,
    graph_url: String,
    sessions: Sessions,
    http: reqwest::Client,
}

type App = State<Arc<Backend>>;

/// The backend's pages.
pub fn router(identity: Identity, accounts: Arc<Accounts>, graph_url: String) -> Router {
    let backend = Backend {
        identity,
        accounts,
        graph_url,
        sessions: Sessions::default(),
        http: reqwest::Client::new(),
    };
    Router::new()
        .route("/login", post(login))
        .route("/link", post(link))
        .route("/unlink", post(unlink))
        .route("/linked", get(linked))
        .route("/me", get(me))
        .route("/threads/me", get(threads_me))
        .route("/accounts", get(accounts_of))
        .with_state(Arc::new(backend))
}

/// Who sits at the browser.
struct Here(Session);

impl FromRequestParts<Arc<Backend>> for Here {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, backend: &Arc<Backend>) -> Result<Self, Trouble> {
        let jar = CookieJar::from_headers(&parts.headers);
        backend.sessions.of(&jar).map(Self).ok_or(Trouble::LoggedOut)
    }
}

impl Backend {
    /// The account that was linked here, or one that the copy knows of.
    fn known(&self, session: &Session) -> Option<String> {
        let copied = || self.accounts.of(&session.user_id).into_iter().next().map(|entry| entry.account_id);
        session.account_id.clone().or_else(copied)
    }

    fn account(&self, session: &Session) -> Result<String, Trouble> {
        self.known(session).ok_or(Trouble::NotLinked)
    }
}

#[derive(Deserialize)]
struct Login {
    user_id: String,
}

/// In place of the login that you have.
async fn login(State(app): App, jar: CookieJar, Form(form): Form<Login>) -> Response {
    if form.user_id.is_empty() {
        return (StatusCode::BAD_REQUEST, "user_id is required").into_response();
    }
    (app.sessions.begin(jar, form.user_id), StatusCode::NO_CONTENT).into_response()
}

#[derive(Deserialize)]
struct Again {
    again: Option<String>,
}

async fn link(State(app): App, Here(session): Here, Form(again): Form<Again>) -> Result<Redirect, Trouble> {
    // Which account is consented to again is ours to know, not the browser's.
    let again = again.again.and_then(|_| app.known(&session));
    let again = again.as_deref();
    let url = patiently(PATIENCE, || {
        app.identity.authorization_url(&session.user_id, &session.binding, again, &[])
    });
    Ok(Redirect::to(&url.await?))
}

async fn unlink(State(app): App, jar: CookieJar, Here(session): Here) -> Result<StatusCode, Trouble> {
    let account = app.account(&session)?;
    patiently(PATIENCE, || app.identity.unlink(&account, &session.user_id)).await?;
    app.sessions.linked(&jar, None);
    // Threads has no way to give a token back: tell the person to remove the app there, too.
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    ticket: String,
}

/// Where the hosted callback sends the browser on to (`return_to`).
async fn linked(
    State(app): App,
    headers: HeaderMap,
    jar: CookieJar,
    Here(session): Here,
    Query(back): Query<Back>,
) -> Result<Response, Trouble> {
    // A browser that guesses where its person will go has not got its person there.
    if headers.contains_key("sec-purpose") {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if back.ticket.is_empty() || back.ticket.len() > TICKET_MAX {
        return Err(Trouble::NoTicket);
    }
    // The user is that of this session, whoever the ticket may be of.
    let done =
        patiently(PATIENCE, || app.identity.complete(&back.ticket, &session.user_id, &session.binding));
    let account = done.await?.account.unwrap_or_default();
    app.sessions.linked(&jar, Some(account.account_id));
    Ok(Redirect::to("/me").into_response())
}

async fn me(
    State(app): App,
    Here(session): Here,
    Query(asked): Query<HashMap<String, String>>,
) -> Result<Json<Value>, Trouble> {
    let (account, fresh) = (app.account(&session)?, asked.contains_key("fresh"));
    let got = patiently(PATIENCE, || app.identity.profile(&account, &session.user_id, fresh)).await?;
    let profile = got.profile.unwrap_or_default();
    // None: absent is not empty.
    Ok(Json(json!({
        "account_id": got.account_id,
        "threads_user_id": profile.id,
        "username": profile.username,
        "name": profile.name,
    })))
}

/// Calls Threads itself, with the person's token.
async fn threads_me(State(app): App, Here(session): Here) -> Result<Json<Value>, Trouble> {
    let account = app.account(&session)?;
    let token = patiently(PATIENCE, || {
        app.identity.access_token(&account, &session.user_id, &["threads_basic"], "to show the handle")
    });
    let token = token.await?;
    let answer = app
        .http
        .get(format!("{}/v1.0/me", app.graph_url))
        .query(&[("fields", "id,username")])
        .bearer_auth(&token)
        .timeout(Duration::from_secs(10))
        .send()
        .await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    if status.is_success() {
        return Ok(Json(body));
    }
    if status == StatusCode::UNAUTHORIZED || body["error"]["code"] == 190 {
        // Threads refuses the token. The service asks Threads itself, and gives the account
        // up once it is sure; the copy hears of it then.
        app.identity.report_invalid(&account, &session.user_id, &token).await?;
        return Err(Trouble::TokenRefused);
    }
    Err(Trouble::ThreadsUnavailable)
}

/// What the copy says, without a call.
async fn accounts_of(State(app): App, Here(session): Here) -> Json<Vec<Entry>> {
    Json(app.accounts.of(&session.user_id))
}
