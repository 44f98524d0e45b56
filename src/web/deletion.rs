//! What became of a request to be forgotten, for the person who has its code. The
//! page names nobody, and looks the same for every code that there is not.

use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::page::Page;
use super::{Web, forwarded};
use crate::ids::ConfirmationCode;
use crate::notices::look_up;
use crate::peer::{Peer, network};
use crate::store::deletions::Shown;

const PAGE: &str = "deletion_status";
const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");

/// The page.
pub(super) async fn status(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    code: Result<Path<String>, PathRejection>,
) -> Response {
    let asking = forwarded::client(peer.address.ip(), &headers, &web.trusted_proxies);
    if let Err(wait) = web.looks.admit(&network(asking)) {
        web.count(PAGE, "limited");
        return too_many(wait);
    }
    let Some(code) = code.ok().and_then(|Path(code)| ConfirmationCode::parse(&code)) else {
        return unknown(&web);
    };
    match look_up(&web.service, &code).await {
        Ok(Some(shown)) => {
            web.count(PAGE, "shown");
            page(&shown)
        }
        Ok(None) => unknown(&web),
        Err(error) => {
            web.count(PAGE, "failed");
            tracing::error!("a request to be forgotten could not be looked up: {error:?}");
            let text = ["Something of ours is not ready. Wait a moment and load this page again."];
            (StatusCode::SERVICE_UNAVAILABLE, Page::new("Not just now", &text)).into_response()
        }
    }
}

fn page(shown: &Shown) -> Response {
    let requested = ("Requested", date(shown.request_time));
    let Some(complete_time) = shown.complete_time else {
        let text = [
            "After this request was made, your Threads account was connected here again. So the request no \
             longer applied, and what is here now has been kept.",
            "If you want it to be deleted, remove the app in the settings of Threads and ask once more.",
        ];
        return Page::new("You have connected again since", &text).with(&[requested]).into_response();
    };
    let text = [
        "Nothing of your Threads account is left here: the link to it, the profile and the access have been \
         deleted.",
        "What is kept is this note, which does not say who you are, and a keyed fingerprint, so that an old \
         backup cannot bring back what was deleted. Both go by themselves.",
    ];
    let facts = [requested, ("Deleted", date(complete_time))];
    Page::new("Your data has been deleted", &text).with(&facts).into_response()
}

fn date(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(DATE).unwrap_or_default()
}

/// One answer for whatever is not a code, and for every code that there is not.
fn unknown(web: &Web) -> Response {
    web.count(PAGE, "unknown");
    let text = [
        "There is no request to delete data under this address. It may have been cut short, or the request is \
         so old that its note has gone.",
    ];
    (StatusCode::NOT_FOUND, Page::new("No such request", &text)).into_response()
}

fn too_many(wait: Duration) -> Response {
    let text = ["Too many requests have come from where you are. Wait a moment and load this page again."];
    let wait = [(header::RETRY_AFTER, (wait.as_secs() + 1).to_string())];
    (StatusCode::TOO_MANY_REQUESTS, wait, Page::new("One moment", &text)).into_response()
}
