//! A handler that panics when it is asked to, so that what becomes of a panic can be
//! seen of the process itself. In builds with debug assertions alone: nobody serves
//! with those.

use std::future::Future;

use http::HeaderMap;

/// Whoever sends it has its own call fail.
const HEADER: &str = "x-threads-identity-panic";

/// Whether a call is to panic.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    cfg!(debug_assertions) && headers.contains_key(HEADER)
}

/// The answer, or a panic in its place.
pub(super) async fn guard<F: Future>(panics: bool, answer: F) -> F::Output {
    assert!(!panics, "a caller asked for it");
    answer.await
}
