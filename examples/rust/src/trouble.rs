//! What a page may end with, and how a browser is told.

use std::time::Duration;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::errors::{Action, IdentityError};

/// What a page may end with.
pub enum Trouble {
    LoggedOut,
    NotLinked,
    NoTicket,
    Identity(Box<IdentityError>),
    TokenRefused,
    ThreadsUnavailable,
}

impl From<IdentityError> for Trouble {
    fn from(error: IdentityError) -> Self {
        Self::Identity(Box::new(error))
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        eprintln!("Threads: {}", error.without_url());
        Self::ThreadsUnavailable
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let told = |status: StatusCode, action: &str, reason: &str| {
            (status, Json(json!({ "action": action, "reason": reason }))).into_response()
        };
        let error = match self {
            Self::LoggedOut => {
                return (StatusCode::UNAUTHORIZED, Json(json!({ "action": "log_in" }))).into_response();
            }
            Self::NotLinked => {
                return (StatusCode::NOT_FOUND, Json(json!({ "action": "link" }))).into_response();
            }
            Self::NoTicket => {
                return (StatusCode::GONE, Json(json!({ "action": "start_again" }))).into_response();
            }
            Self::TokenRefused => return told(StatusCode::SERVICE_UNAVAILABLE, "wait", "TOKEN_REFUSED"),
            Self::ThreadsUnavailable => {
                return told(StatusCode::SERVICE_UNAVAILABLE, "wait", "THREADS_UNAVAILABLE");
            }
            Self::Identity(error) => error,
        };
        match error.action() {
            Action::Tell => told(StatusCode::CONFLICT, "tell", &error.reason),
            Action::StartAgain => told(StatusCode::GONE, "start_again", &error.reason),
            Action::Consent => told(StatusCode::FORBIDDEN, "consent", &error.reason),
            Action::Wait => {
                let delay = error.retry_delay.unwrap_or(Duration::from_secs(1)).as_secs() + 1;
                let page = told(StatusCode::SERVICE_UNAVAILABLE, "wait", &error.reason);
                ([(header::RETRY_AFTER, delay.to_string())], page).into_response()
            }
            Action::Watch | Action::Alert => {
                eprintln!("threads-identity: {error}");
                told(StatusCode::INTERNAL_SERVER_ERROR, "alert", &error.reason)
            }
        }
    }
}
