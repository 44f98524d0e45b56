//! The page: one small set of words, readable without its style.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The stylesheet. It stands in the page, so that a page is one request and needs
/// no path of its own behind a proxy; the policy allows it by its digest.
const STYLE: &str = include_str!("../../templates/web/style.css");

/// The policy of every answer: no script, nothing from elsewhere, no frame.
#[expect(clippy::expect_used, reason = "base64 and constants are a header's characters")]
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("a policy is a header's value")
});

/// A page.
#[derive(Template)]
#[template(path = "web/page.html")]
pub(super) struct Page<'a> {
    style: &'static str,
    heading: &'a str,
    text: &'a [&'a str],
    /// Names and values, such as a date.
    facts: &'a [(&'a str, String)],
    /// What an operator finds in the log.
    reference: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// A page that says this.
    pub(super) fn new(heading: &'a str, text: &'a [&'a str]) -> Self {
        Self { style: STYLE, heading, text, facts: &[], reference: None }
    }

    /// With names and values.
    pub(super) fn with(self, facts: &'a [(&'a str, String)]) -> Self {
        Self { facts, ..self }
    }

    /// With what an operator finds in the log.
    pub(super) fn referring_to(self, reference: &'a str) -> Self {
        Self { reference: Some(reference), ..self }
    }
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> Response {
        match self.render() {
            Ok(html) => Html(html).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
