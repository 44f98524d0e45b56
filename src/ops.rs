//! The operations side, on its own listener: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::readiness::Readiness;
use crate::service::Service;

#[derive(Clone)]
struct Ops {
    service: Arc<Service>,
    readiness: Readiness,
}

/// The router.
pub fn router(service: Arc<Service>, readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Ops { service, readiness })
}

/// Ready, or what is in the way. That Threads is away is told, and is no reason to be
/// taken out: nobody else would do better, and what is stored is handed out as ever.
async fn readyz(State(ops): State<Ops>) -> impl IntoResponse {
    match ops.readiness.obstacle() {
        None => {
            let mut text = "ready\n".to_owned();
            let away = ops.service.apps.values().filter(|app| app.threads.is_away());
            text.extend(
                away.map(|app| format!("but Threads has not answered app {} for two minutes\n", app.id())),
            );
            (StatusCode::OK, text)
        }
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match ops.service.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
