//! The hosted callback: where Threads sends the browser. It writes nothing and
//! exchanges nothing, because it does not know who sits at the browser; it seals
//! what came into a ticket and sends the browser on to the caller, who does.

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::trouble::{Trouble, reference};
use super::{Web, nothing_here, see_other};
use crate::authorizations::brought::QUERY_MAX;
use crate::authorizations::{NoTicket, hand_over};

const PAGE: &str = "callback";

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
    let Some(app) = web.service.app(app) else { return nothing_here() };
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
            see_other(handover.location.as_str())
        }
        Err(why) => trouble(web, app.id(), query, &why),
    }
}

/// Browsers and proxies that guess what will be clicked must not use up a page.
fn is_prefetch(headers: &HeaderMap) -> bool {
    let names = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
    let mut values = names.iter().flat_map(|name| headers.get_all(*name));
    values.any(|value| value.as_bytes().to_ascii_lowercase().windows(8).any(|part| part == b"prefetch"))
}

/// A friendly page, and a line in the log that its reference finds.
fn trouble(web: &Web, app: &str, query: &str, why: &NoTicket) -> Response {
    let trouble = Trouble::of(why);
    let (result, reference) = (trouble.result, reference());
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
    trouble.answer(web, &reference, query)
}
