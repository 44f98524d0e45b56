//! The side that browsers and Meta see, on its own listener: the hosted callback,
//! Meta's notices, and what became of a request to be forgotten.
//!
//! Every answer, errors included, carries the same headers: nothing is loaded from
//! elsewhere, framed, cached, indexed, or told by a referrer. Nothing of a request
//! is ever echoed, and `Host` is not looked at. `X-Forwarded-For` counts only from
//! proxies that an operator trusts, and only for who asks too often.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use askama::Template as _;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ipnet::IpNet;

use crate::metrics::PageLabels;
use crate::rates::Paces;
use crate::service::Service;

mod callback;
mod deletion;
mod forwarded;
mod headers;
mod notices;
mod page;
mod trouble;

use page::Page;

/// How many looks at a request one peer may have at once; then one a second.
const LOOKS_BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// How many peers are remembered.
const PEERS_MAX: usize = 16 * 1024;

/// What every page needs.
#[derive(Clone)]
struct Web {
    service: Arc<Service>,
    /// Where people and Meta reach this, without a slash at the end.
    public_url: Arc<str>,
    /// Whose word counts about whom they speak for.
    trusted_proxies: Arc<[IpNet]>,
    /// How often each peer may look requests up.
    looks: Arc<Paces<IpAddr>>,
}

/// The router. Every request must carry its [`crate::peer::Peer`].
pub fn router(service: Arc<Service>, public_url: &str, trusted_proxies: Arc<[IpNet]>) -> Router {
    let looks = Arc::new(Paces::new(NonZeroU32::MIN, LOOKS_BURST, PEERS_MAX));
    Router::new()
        .route("/api/auth/callback/threads", get(callback::come_back))
        // The dashboard of Meta may have added a slash to what was registered.
        .route("/api/auth/callback/threads/", get(callback::come_back))
        .route("/api/auth/callback/threads/{app}", get(callback::come_back))
        .route("/api/auth/callback/threads/{app}/", get(callback::come_back))
        .route("/threads/deauthorize", post(notices::removed))
        .route("/threads/deauthorize/", post(notices::removed))
        .route("/threads/deauthorize/{app}", post(notices::removed))
        .route("/threads/deauthorize/{app}/", post(notices::removed))
        .route("/threads/data-deletion", post(notices::forgotten))
        .route("/threads/data-deletion/", post(notices::forgotten))
        // One path, two meanings: Meta posts to an app, a person asks by a code.
        .route("/threads/data-deletion/{app}", get(deletion::status).post(notices::forgotten))
        .route("/threads/data-deletion/{app}/", get(deletion::status).post(notices::forgotten))
        .route(&format!("{}/{{result}}/{{reference}}", trouble::PATH), get(trouble::told))
        .fallback(async || nothing_here())
        .method_not_allowed_fallback(async || not_in_this_way())
        .layer(map_response(headers::add))
        .with_state(Web { service, public_url: Arc::from(public_url), trusted_proxies, looks })
}

impl Web {
    /// Counts an answer.
    fn count(&self, page: &'static str, result: &'static str) {
        self.service.metrics.pages.get_or_create(&PageLabels { page, result }).inc();
    }
}

/// Sends a browser on.
fn see_other(location: &str) -> Response {
    // A URL is ASCII without control characters, so it always is a header's value.
    HeaderValue::from_str(location).map_or_else(
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        |location| (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
    )
}

/// What is said to somebody whose request cannot even be read: it has the headers of
/// every other answer.
pub fn unreadable(status: StatusCode) -> (HeaderMap, String) {
    let (heading, text) = match status {
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "Too long",
            "The address, or what your browser sent with it, is longer than any that we give out.",
        ),
        _ => ("Not understood", "This was no request that we can read. Nothing was done."),
    };
    let mut headers = HeaderMap::new();
    headers::put(&mut headers, false);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    (headers, Page::new(heading, &[text]).render().unwrap_or_default())
}

fn nothing_here() -> Response {
    let text = ["There is no page at this address. If a link brought you here, it may have been cut short."];
    (StatusCode::NOT_FOUND, Page::new("Nothing here", &text)).into_response()
}

fn not_in_this_way() -> Response {
    let text = ["This address answers, but not to this kind of request."];
    (StatusCode::METHOD_NOT_ALLOWED, Page::new("Not in this way", &text)).into_response()
}
