//! The hosted callback: where Threads sends the browser. It writes nothing and
//! exchanges nothing, because it does not know who sits at the browser; it seals
//! what came into a ticket and sends the browser on to the caller, who does.

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::page::Page;
use super::{Web, nothing_here};
use crate::authorizations::brought::QUERY_MAX;
use crate::authorizations::{Handover, NoTicket, hand_over};
use crate::ids::LETTERS;
use crate::secret;

const PAGE: &str = "callback";

const REFERENCE_LEN: usize = 8;

/// The path, with an app or without.
pub(super) async fn come_back(
    State(web): State<Web>,
    app: Option<Path<String>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&web, app.as_deref().map(String::as_str), query.as_deref(), &headers)
}

fn answer(web: &Web, app: Option<&str>, query: Option<&str>, headers: &HeaderMap) -> Response {
    if is_prefetch(headers) {
        web.count(PAGE, "prefetch");
        return StatusCode::NO_CONTENT.into_response();
    }
    let Some(app) = web.app(app) else { return nothing_here() };
    let query = query.unwrap_or_default();
    let handed = if query.len() > QUERY_MAX {
        Err(NoTicket::AnswerInvalid)
    } else {
        hand_over(&web.service, app, query)
    };
    match handed {
        Ok(handover) => {
            web.count(PAGE, if handover.is_denial { "denied" } else { "handed_over" });
            tracing::info!(app = app.id(), authorization.id = %handover.id, denied = handover.is_denial,
                           "a browser came back from Threads");
            redirect(&handover)
        }
        Err(why) => trouble(web, app.id(), &why),
    }
}

/// Browsers and proxies that guess what will be clicked must not use up a page.
fn is_prefetch(headers: &HeaderMap) -> bool {
    let names = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
    let mut values = names.iter().flat_map(|name| headers.get_all(*name));
    values.any(|value| value.as_bytes().to_ascii_lowercase().windows(8).any(|part| part == b"prefetch"))
}

fn redirect(handover: &Handover) -> Response {
    // A `Url` is ASCII without control characters, so it always is a header's value.
    let location = HeaderValue::from_str(handover.location.as_str());
    location.map_or_else(
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        |location| (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
    )
}

/// A friendly page, and a line in the log that its reference finds.
fn trouble(web: &Web, app: &str, why: &NoTicket) -> Response {
    let Trouble { result, status, heading, text } = Trouble::of(why);
    let reference = reference();
    web.count(PAGE, result);
    match why {
        NoTicket::Expired(id) => {
            tracing::info!(%reference, app, result, authorization.id = %id, "a browser got no ticket");
        }
        NoTicket::NoReturn(id) => {
            tracing::error!(%reference, app, result, authorization.id = %id,
                            "a browser got no ticket: set apps.return_to to where it shall go on");
        }
        NoTicket::Unavailable(error) => {
            tracing::error!(%reference, app, result, "a browser got no ticket: {error}");
        }
        _ => tracing::info!(%reference, app, result, "a browser got no ticket"),
    }
    (status, Page::new(heading, text).referring_to(&reference)).into_response()
}

/// What is said of it, and how.
struct Trouble {
    result: &'static str,
    status: StatusCode,
    heading: &'static str,
    text: &'static [&'static str],
}

const START_AGAIN: &str = "Go back to the app where you began and start again from there.";

impl Trouble {
    fn of(why: &NoTicket) -> Self {
        let (result, status, heading, text): (_, _, _, &[&str]) = match why {
            NoTicket::AnswerInvalid => (
                "answer_invalid",
                StatusCode::BAD_REQUEST,
                "This link is incomplete",
                &["What came with it cannot be used, so nothing was linked.", START_AGAIN],
            ),
            NoTicket::StateInvalid => (
                "state_invalid",
                StatusCode::BAD_REQUEST,
                "We do not know this link",
                &["It was not made here, or it was changed on its way. Nothing was linked.", START_AGAIN],
            ),
            NoTicket::DeniedWithoutState => (
                "denied_without_state",
                StatusCode::OK,
                "Nothing was linked",
                &[
                    "Threads says that you did not allow it. That is all: you can close this page.",
                    START_AGAIN,
                ],
            ),
            NoTicket::Expired(_) => (
                "expired",
                StatusCode::GONE,
                "That took too long",
                &[
                    "A link to Threads is good for 15 minutes, and this one is older. Nothing was linked.",
                    START_AGAIN,
                ],
            ),
            NoTicket::NoReturn(_) => (
                "no_return",
                StatusCode::INTERNAL_SERVER_ERROR,
                "We do not know where you came from",
                &[
                    "Threads sent you here, but the app has not told us where to send you on to. \
                     Nothing was linked.",
                    "Whoever runs the app can mend this: tell them the reference below.",
                ],
            ),
            NoTicket::Unavailable(_) => (
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "Not just now",
                &["Something of ours is not ready. Wait a moment and load this page again."],
            ),
        };
        Self { result, status, heading, text }
    }
}

/// Short enough to be read aloud.
fn reference() -> String {
    let bytes = secret::random::<REFERENCE_LEN>();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}
