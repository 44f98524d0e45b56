//! What every answer carries.

use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::Response;

use super::page;

/// All but the policy, which names the stylesheet.
const FIXED: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Adds them.
pub(super) async fn add(mut response: Response) -> Response {
    let is_redirect = response.status().is_redirection();
    put(response.headers_mut(), is_redirect);
    response
}

/// Puts them among others.
pub(super) fn put(headers: &mut HeaderMap, is_redirect: bool) {
    headers.insert(CONTENT_SECURITY_POLICY, page::POLICY.clone());
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Not on the way through: it would cut a caller's popup off from its opener.
    if !is_redirect {
        headers.insert(COOP, HeaderValue::from_static("same-origin"));
    }
}
