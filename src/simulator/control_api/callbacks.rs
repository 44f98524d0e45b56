//! The controls of what the platform itself sends: its two callbacks, and webhooks.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;

use super::{Here, controls, refused};
use crate::simulator::callbacks::CallbackKind;
use crate::simulator::platform::Shared;
use crate::simulator::signing::Callback;
use crate::simulator::webhooks::{Event, Handshake};

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_simulator/apps/{client_id}/deauthorize", post(deauthorize))
        .route("/_simulator/apps/{client_id}/data-deletion", post(data_deletion))
        .route("/_simulator/apps/{client_id}/signed-request", post(signed_request))
        .route("/_simulator/apps/{client_id}/webhook-handshake", post(handshake))
        .route("/_simulator/apps/{client_id}/webhook-event", post(event))
}

async fn deauthorize(shared: Here, client_id: Path<String>, callback: Json<Callback>) -> Response {
    send(shared, CallbackKind::Deauthorize, client_id, callback).await
}

async fn data_deletion(shared: Here, client_id: Path<String>, callback: Json<Callback>) -> Response {
    send(shared, CallbackKind::DataDeletion, client_id, callback).await
}

async fn send(
    shared: Here,
    kind: CallbackKind,
    Path(client_id): Path<String>,
    Json(callback): Json<Callback>,
) -> Response {
    match controls(shared).send_callback(kind, &client_id, &callback).await {
        Ok(deliveries) => Json(json!({"deliveries": deliveries})).into_response(),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}

async fn signed_request(
    shared: Here,
    Path(client_id): Path<String>,
    Json(callback): Json<Callback>,
) -> Response {
    match controls(shared).signed_request(&client_id, &callback) {
        Ok(signed_request) => Json(json!({"signed_request": signed_request})).into_response(),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}

async fn handshake(
    shared: Here,
    Path(client_id): Path<String>,
    handshake: Option<Json<Handshake>>,
) -> Response {
    let handshake = handshake.map(|Json(handshake)| handshake).unwrap_or_default();
    match controls(shared).shake_hands(&client_id, &handshake).await {
        Ok(shaken) => Json(shaken).into_response(),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}

async fn event(shared: Here, Path(client_id): Path<String>, Json(event): Json<Event>) -> Response {
    match controls(shared).send_event(&client_id, &event).await {
        Ok(delivery) => Json(json!({"delivery": delivery})).into_response(),
        Err(error) => refused(StatusCode::BAD_REQUEST, &error),
    }
}
