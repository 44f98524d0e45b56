//! What can be controlled, for whoever asks at `/_simulator/`; `docs/simulator.md` tells it with examples.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::simulator::page;

const INDEX: [(&str, &str); 26] = [
    ("GET /_simulator/ledger", "what was received and sent; ?endpoint=me&limit=200"),
    ("DELETE /_simulator/ledger", "forget entries, counts, violations and refreshes"),
    (
        "GET /_simulator/violations",
        "what the client did that it must not do; ?fail=true answers 409 if there is anything",
    ),
    ("GET /_simulator/personas", "the people"),
    ("POST /_simulator/personas", "add or replace one: key, id, username, …"),
    (
        "POST /_simulator/personas/{key}/{action}",
        "rename {username}, picture {url}, private, accept, revoke, password, checkpoint, lapse, ban {banned}, throttle {seconds}",
    ),
    (
        "POST /_simulator/personas/{key}/token",
        "{client_id, scopes, age_seconds} -> {access_token}: a long-lived one, without a consent",
    ),
    ("GET /_simulator/refreshes", "which tokens were refreshed, when, and how often each"),
    (
        "POST /_simulator/consent",
        "{authorization_url, persona, decision: allow|deny, variant} -> {callback_url}",
    ),
    ("GET /_simulator/faults", "every fault by name, as it is sent here"),
    ("POST /_simulator/faults", "{endpoint, fault, times}; a fault such as \"html502\" or {\"delay\": 500}"),
    ("DELETE /_simulator/faults", "forget faults still to come"),
    ("GET /_simulator/knobs", "the platform's variants"),
    ("POST /_simulator/knobs", "change some of them"),
    ("GET /_simulator/time", "the clock"),
    ("POST /_simulator/time", "{now}: set the clock"),
    ("POST /_simulator/advance", "{seconds}: move the clock"),
    ("GET /_simulator/apps", "the registered apps, without their secrets"),
    (
        "POST /_simulator/apps",
        "register or replace one: {client_id, client_secret, redirect_uris, meta_app_id, deauthorize_url, data_deletion_url, webhook_url, webhook_verify_token}",
    ),
    ("POST /_simulator/apps/{client_id}/throttle", "{seconds}"),
    (
        "POST /_simulator/apps/{client_id}/deauthorize",
        "{persona, …} -> {deliveries}: call the app's deauthorize_url",
    ),
    (
        "POST /_simulator/apps/{client_id}/data-deletion",
        "{persona, …} -> {deliveries}: call the app's data_deletion_url",
    ),
    (
        "POST /_simulator/apps/{client_id}/signed-request",
        "{persona, …} -> {signed_request}: sign one, and send it nowhere",
    ),
    ("POST /_simulator/apps/{client_id}/webhook-handshake", "{} -> {passed, delivery}"),
    ("POST /_simulator/apps/{client_id}/webhook-event", "{persona, …} -> {delivery}"),
    ("GET /_simulator/style.css", "the consent page's stylesheet"),
];

pub(super) async fn index() -> Json<Value> {
    Json(INDEX.iter().map(|(route, purpose)| ((*route).to_owned(), Value::from(*purpose))).collect())
}

pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, page::STYLE).into_response()
}

/// Every fault, as it is sent to the controls.
pub(super) async fn faults() -> Json<Value> {
    let headers = [["x-app-usage", "{\"call_count\":95,\"total_time\":20,\"total_cputime\":20}"]];
    let graph =
        json!({"status": 400, "code": 190, "subcode": 463, "kind": "OAuthException", "transient": null});
    Json(json!({
        "status": {"status": {"status": 429, "content_type": "text/plain", "body": "slow down"}},
        "graph": {"graph": graph},
        "flat": {"flat": {"status": 400, "message": "Matching code was not found or was already used"}},
        "delay": {"delay": 500},
        "hang_before_answer": "hang_before_answer",
        "cut_before_read": "cut_before_read",
        "cut_after_request": "cut_after_request",
        "truncated": "truncated",
        "html200": "html200",
        "html502": "html502",
        "empty_body": "empty_body",
        "huge": "huge",
        "slow_drip": "slow_drip",
        "wrong_types": "wrong_types",
        "redirect": {"redirect": "http://127.0.0.1:1/"},
        "garbage_json": "garbage_json",
        "headers": {"headers": headers},
    }))
}
