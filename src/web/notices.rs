//! Meta's callbacks: somebody has removed the app, or wants to be forgotten. Whoever
//! sends what the app's secret has not signed is told nothing but that.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;
use url::form_urlencoded;

use super::{Web, nothing_here};
use crate::error::Error;
use crate::ids::ConfirmationCode;
use crate::notices::{Deauthorized, Forgotten, NotTaken, deauthorize, forget};

/// The longest body that is read, in bytes: twice the longest signed request.
const BODY_MAX: usize = 16 * 1024;
/// How long a body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// The one field.
const FIELD: &str = "signed_request";
/// When Meta may try again, in seconds.
const RETRY_AFTER: &str = "5";

/// What Meta asks for in answer to a wish to be forgotten, and nothing else.
#[derive(Serialize)]
struct Deletion<'a> {
    url: &'a str,
    confirmation_code: &'a str,
}

/// Somebody has removed the app; the path names one, or does not.
pub(super) async fn removed(
    State(web): State<Web>,
    app: Option<Path<String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    const PAGE: &str = "deauthorize";
    let web = &web;
    let Some(app) = web.service.app(app.as_deref().map(String::as_str)) else { return no_app(web, PAGE) };
    let Some(signed) = signed_request(&headers, body).await else { return refused(web, PAGE, "form") };
    match deauthorize(&web.service, app, &signed).await {
        Ok(done) => {
            let result = match done {
                Deauthorized::Unlinked => "unlinked",
                Deauthorized::Repeated => "repeated",
                Deauthorized::Outdated => "outdated",
                Deauthorized::Unknown => "unknown",
            };
            web.count(PAGE, result);
            // The same whatever came of it: who is linked here is nobody's business.
            Json(json!({})).into_response()
        }
        Err(why) => not_taken(web, PAGE, app.id(), &why),
    }
}

/// Somebody wants to be forgotten; the path names an app, or does not.
pub(super) async fn forgotten(
    State(web): State<Web>,
    app: Option<Path<String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    const PAGE: &str = "data_deletion";
    let web = &web;
    let Some(app) = web.service.app(app.as_deref().map(String::as_str)) else { return no_app(web, PAGE) };
    let Some(signed) = signed_request(&headers, body).await else { return refused(web, PAGE, "form") };
    match forget(&web.service, app, &signed).await {
        Ok((code, forgotten)) => {
            let result = match forgotten {
                Forgotten::Erased => "erased",
                Forgotten::Outdated => "outdated",
                Forgotten::Repeated => "repeated",
                Forgotten::Unknown => "unknown",
            };
            web.count(PAGE, result);
            acknowledged(web, &code)
        }
        Err(why) => not_taken(web, PAGE, app.id(), &why),
    }
}

/// Meta may have been told a wrong address: an operator should see it.
fn no_app(web: &Web, page: &'static str) -> Response {
    web.count(page, "no_app");
    tracing::warn!(page, "a notice of Meta came to an address that names no app");
    nothing_here()
}

fn acknowledged(web: &Web, code: &ConfirmationCode) -> Response {
    let confirmation_code = code.as_str();
    let url = &format!("{}/threads/data-deletion/{confirmation_code}", web.public_url);
    Json(Deletion { url, confirmation_code }).into_response()
}

/// The field, if it stands there once.
async fn signed_request(headers: &HeaderMap, body: Body) -> Option<String> {
    if !is_form(headers) {
        return None;
    }
    let body = timeout(BODY_TIME_MAX, to_bytes(body, BODY_MAX)).await.ok()?.ok()?;
    let mut fields = form_urlencoded::parse(&body).filter(|(name, _)| name == FIELD);
    let (_, value) = fields.next()?;
    fields.next().is_none().then(|| value.into_owned())
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return false };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn not_taken(web: &Web, page: &'static str, app: &str, why: &NotTaken) -> Response {
    match why {
        NotTaken::Refused(refusal) => {
            tracing::info!(app, page, "a notice of Meta was refused: {refusal}");
            refused(web, page, refusal.as_str())
        }
        NotTaken::Future => {
            tracing::warn!(app, page, "a notice of Meta was refused: it says it was made in the future");
            refused(web, page, "future")
        }
        NotTaken::Failed(error) => failed(web, page, app, error),
    }
}

fn refused(web: &Web, page: &'static str, result: &'static str) -> Response {
    web.count(page, result);
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_request" }))).into_response()
}

/// Nothing was recorded: whoever sent it is to come again.
fn failed(web: &Web, page: &'static str, app: &str, error: &Error) -> Response {
    web.count(page, "failed");
    tracing::error!(app, page, "a notice of Meta could not be taken: {error:?}");
    let body = Json(json!({ "error": "unavailable" }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response()
}
