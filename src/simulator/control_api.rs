//! The controls over HTTP, for tests in other languages and for people with curl.
//!
//! The only secrets it ever gives out are the code in a callback URL, and a token or a `signed_request`
//! that was asked for, which is what those calls are for; codes and tokens in the ledger appear as fingerprints.

use std::sync::Arc;

use axum::extract::{Path, Query, State as Shares};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

mod callbacks;
mod index;

use super::apps::Registration;
use super::controls::Controls;
use super::faults::Fault;
use super::knobs::Knobs;
use super::ledger::{Endpoint, Entry};
use super::oauth::Decision;
use super::people::Persona;
use super::platform::Shared;
use super::variants::Variant;

/// How many ledger entries are listed unless the caller says otherwise.
const LISTED: usize = 200;

/// The routes under `/_simulator/`.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_simulator", get(index::index))
        .route("/_simulator/", get(index::index))
        .route("/_simulator/style.css", get(index::style))
        .route("/_simulator/ledger", get(ledger).delete(forget))
        .route("/_simulator/violations", get(violations))
        .route("/_simulator/personas", get(personas).post(add_persona))
        .route("/_simulator/personas/{key}/{action}", post(act))
        .route("/_simulator/personas/{key}/token", post(grant_token))
        .route("/_simulator/refreshes", get(refreshes))
        .route("/_simulator/consent", post(consent))
        .route("/_simulator/faults", get(index::faults).post(add_fault).delete(clear_faults))
        .route("/_simulator/knobs", get(knobs).post(turn_knobs))
        .route("/_simulator/time", get(time).post(set_time))
        .route("/_simulator/advance", post(advance))
        .route("/_simulator/apps", get(apps).post(add_app))
        .route("/_simulator/apps/{client_id}/throttle", post(throttle_app))
        .merge(callbacks::router())
        .route("/_simulator/{*unknown}", get(unknown).post(unknown).delete(unknown))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
}

type Here = Shares<Arc<Shared>>;

fn controls(Shares(shared): Here) -> Controls {
    Controls { shared }
}

fn done() -> Response {
    Json(json!({"done": true})).into_response()
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn unknown() -> Response {
    refused(StatusCode::NOT_FOUND, "no such control; GET /_simulator/ lists them")
}

#[derive(Deserialize)]
struct Listing {
    endpoint: Option<Endpoint>,
    limit: Option<usize>,
}

async fn ledger(shared: Here, Query(listing): Query<Listing>) -> Json<Value> {
    let entries = controls(shared).ledger();
    let wanted = |entry: &&Entry| listing.endpoint.is_none_or(|endpoint| entry.endpoint == endpoint);
    let mut newest: Vec<Value> =
        entries.iter().rev().filter(wanted).take(listing.limit.unwrap_or(LISTED)).map(shown).collect();
    newest.reverse();
    Json(json!({"entries": newest}))
}

fn shown(entry: &Entry) -> Value {
    json!({
        "sequence": entry.sequence,
        "time": entry.time,
        "endpoint": entry.endpoint,
        "method": entry.method,
        "path": entry.path,
        "parameters": entry.parameters,
        "user_agent": entry.user_agent,
        "persona": entry.persona.as_deref(),
        "code": entry.code_print(),
        "token": entry.token_print(),
        "times": entry.times,
        "status": entry.status,
        "error": entry.error,
        "fault": entry.fault,
    })
}

async fn forget(shared: Here) -> Response {
    controls(shared).clear_ledger();
    done()
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    fail: bool,
}

async fn violations(shared: Here, Query(verdict): Query<Verdict>) -> Response {
    let violations = controls(shared).violations();
    let guilty = verdict.fail && !violations.is_empty();
    let status = if guilty { StatusCode::CONFLICT } else { StatusCode::OK };
    (status, Json(json!({"violations": violations}))).into_response()
}

async fn personas(shared: Here) -> Json<Value> {
    Json(json!({"personas": controls(shared).personas()}))
}

async fn add_persona(shared: Here, Json(persona): Json<Persona>) -> Response {
    let digits = !persona.id.is_empty() && persona.id.bytes().all(|byte| byte.is_ascii_digit());
    if persona.key.is_empty() || !digits || persona.username.is_empty() {
        return refused(StatusCode::BAD_REQUEST, "key, id (digits) and username are needed");
    }
    controls(shared).add_persona(persona);
    done()
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Action {
    username: Option<String>,
    url: Option<String>,
    banned: Option<bool>,
    seconds: Option<i64>,
}

async fn act(
    shared: Here,
    Path((key, action)): Path<(String, String)>,
    body: Option<Json<Action>>,
) -> Response {
    let controls = controls(shared);
    if controls.persona(&key).is_none() {
        return refused(StatusCode::NOT_FOUND, "nobody has this key");
    }
    let details = body.map(|Json(details)| details).unwrap_or_default();
    match action.as_str() {
        "rename" => match details.username.as_deref().filter(|username| !username.is_empty()) {
            Some(username) => controls.rename(&key, username),
            None => return refused(StatusCode::BAD_REQUEST, "username is needed"),
        },
        "picture" => controls.set_picture(&key, details.url.as_deref()),
        "private" => controls.make_private(&key),
        "accept" => controls.accept_invitation(&key),
        "revoke" => {
            let deliveries = controls.revoke_app_and_wait(&key).await;
            return Json(json!({"done": true, "deliveries": deliveries})).into_response();
        }
        "password" => controls.change_password(&key),
        "checkpoint" => controls.checkpoint(&key),
        "lapse" => controls.lapse_grant(&key),
        "ban" => controls.ban(&key, details.banned.unwrap_or(true)),
        "throttle" => match details.seconds {
            Some(seconds) => controls.throttle(&key, seconds),
            None => return refused(StatusCode::BAD_REQUEST, "seconds are needed"),
        },
        _ => return refused(StatusCode::NOT_FOUND, "no such action"),
    }
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    client_id: String,
    scopes: String,
    age_seconds: i64,
}

async fn grant_token(shared: Here, Path(key): Path<String>, Json(grant): Json<Grant>) -> Response {
    let Grant { client_id, scopes, age_seconds } = grant;
    let known = shared.lock().apps.contains_key(&client_id);
    let controls = controls(shared);
    if !known || controls.persona(&key).is_none() {
        return refused(StatusCode::NOT_FOUND, "no app has this id, or nobody this key");
    }
    let token = controls.grant_token(&key, &client_id, &scopes, age_seconds);
    Json(json!({"access_token": token})).into_response()
}

async fn refreshes(shared: Here) -> Json<Value> {
    let refreshes = controls(shared).refreshes().into_iter().map(|refresh| {
        json!({
            "sequence": refresh.sequence,
            "time": refresh.time,
            "persona": &*refresh.persona,
            "token": refresh.token_print(),
            "times": refresh.times,
        })
    });
    Json(json!({"refreshes": refreshes.collect::<Vec<_>>()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Click {
    authorization_url: String,
    persona: String,
    decision: Decision,
    #[serde(default)]
    variant: Variant,
}

async fn consent(shared: Here, Json(click): Json<Click>) -> Response {
    let Click { authorization_url, persona, decision, variant } = click;
    match controls(shared).consent_variant(&authorization_url, &persona, decision, variant) {
        Ok(callback_url) => Json(json!({"callback_url": callback_url})).into_response(),
        Err(page) => {
            (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], page).into_response()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    endpoint: Endpoint,
    fault: Fault,
    times: Option<usize>,
}

async fn add_fault(shared: Here, Json(script): Json<Script>) -> Response {
    if script.endpoint.is_errand() {
        return refused(StatusCode::BAD_REQUEST, "this is sent, not received");
    }
    controls(shared).fault_times(script.endpoint, script.times.unwrap_or(1), script.fault);
    done()
}

async fn clear_faults(shared: Here) -> Response {
    controls(shared).clear_faults();
    done()
}

async fn knobs(Shares(shared): Here) -> Json<Knobs> {
    Json(shared.lock().knobs.clone())
}

/// Lays the given knobs over the present ones.
async fn turn_knobs(Shares(shared): Here, Json(changes): Json<serde_json::Map<String, Value>>) -> Response {
    let mut state = shared.lock();
    let merged = serde_json::to_value(&state.knobs).and_then(|mut all| {
        if let Value::Object(all) = &mut all {
            all.extend(changes);
        }
        serde_json::from_value(all)
    });
    match merged {
        Ok(merged) => {
            state.knobs = merged;
            done()
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn time(shared: Here) -> Json<Value> {
    Json(json!({"now": controls(shared).now()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moment {
    now: i64,
}

async fn set_time(shared: Here, Json(moment): Json<Moment>) -> Json<Value> {
    let controls = controls(shared);
    controls.set_time(moment.now);
    Json(json!({"now": controls.now()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seconds {
    seconds: i64,
}

async fn advance(shared: Here, Json(Seconds { seconds }): Json<Seconds>) -> Json<Value> {
    let controls = controls(shared);
    controls.advance(seconds);
    Json(json!({"now": controls.now()}))
}

async fn apps(Shares(shared): Here) -> Json<Value> {
    let state = shared.lock();
    let mut apps: Vec<_> = state.apps.values().collect();
    apps.sort_by_key(|app| &app.client_id);
    let shown = apps.into_iter().map(|app| {
        json!({
            "client_id": &*app.client_id,
            "redirect_uris": app.redirect_uris,
            "meta_app_id": app.meta_app_id,
            "deauthorize_url": app.deauthorize_url.as_ref().map(url::Url::as_str),
            "data_deletion_url": app.data_deletion_url.as_ref().map(url::Url::as_str),
            "webhook_url": app.webhook_url.as_ref().map(url::Url::as_str),
        })
    });
    Json(json!({"apps": shown.collect::<Vec<_>>()}))
}

async fn add_app(shared: Here, Json(registration): Json<Registration>) -> Response {
    match controls(shared).register(registration) {
        Ok(()) => done(),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}

async fn throttle_app(
    shared: Here,
    Path(client_id): Path<String>,
    Json(Seconds { seconds }): Json<Seconds>,
) -> Response {
    let known = shared.lock().apps.contains_key(&client_id);
    if !known {
        return refused(StatusCode::NOT_FOUND, "no app has this id");
    }
    controls(shared).throttle_app(&client_id, seconds);
    done()
}
