//! The pages, as HTML.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_types::Timestamp;
use time::OffsetDateTime;
use time::macros::format_description;

use super::reasons::{Telling, telling};
use super::session::{Person, Session};
use crate::proto::v1::account::{State, StateReason};
use crate::proto::v1::account_change::Kind;
use crate::proto::v1::{Account, AccountChange, AccountProfile};

/// The stylesheet, which stands in every page.
pub(super) const STYLE: &str = include_str!("../../../templates/demo/style.css");

/// The digest by which the policy allows it.
pub(super) static STYLE_DIGEST: LazyLock<String> =
    LazyLock::new(|| STANDARD.encode(digest(&SHA256, STYLE.as_bytes())));

/// Where everything is, as far as the start page tells.
pub(in crate::dev) struct Shown {
    pub(in crate::dev) grpc: String,
    pub(in crate::dev) http: String,
    pub(in crate::dev) ops: String,
    pub(in crate::dev) simulator: String,
    pub(in crate::dev) demo: String,
    pub(in crate::dev) data_dir: String,
}

/// The start page.
#[derive(Template)]
#[template(path = "demo/start.html")]
pub(super) struct Start<'a> {
    pub(super) session: &'a Session,
    pub(super) notice: Option<&'static str>,
    pub(super) accounts: Vec<Linked>,
    pub(super) changes: Vec<Change>,
    pub(super) now: String,
    pub(super) days_ahead: u64,
    pub(super) places: &'a Shown,
}

/// The page of one account.
#[derive(Template)]
#[template(path = "demo/account.html")]
pub(super) struct AccountPage<'a> {
    pub(super) session: &'a Session,
    pub(super) notice: Option<&'static str>,
    pub(super) account: Linked,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) changes: Vec<Change>,
}

/// The page of changes; a stream puts more where its mark stands.
#[derive(Template)]
#[template(path = "demo/events.html")]
pub(super) struct Events<'a> {
    pub(super) session: &'a Session,
    pub(super) changes: Vec<Change>,
    pub(super) mark: &'static str,
}

/// One change, for the stream.
#[derive(Template)]
#[template(path = "demo/change.html")]
pub(super) struct ChangeItem {
    pub(super) change: Change,
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "demo/message.html")]
pub(super) struct Message<'a> {
    pub(super) session: Option<&'a Session>,
    pub(super) heading: &'a str,
    pub(super) text: &'a str,
    pub(super) aside: &'a str,
    /// An address to go on to, and its name.
    pub(super) link: Option<(&'a str, &'a str)>,
}

/// An account with its profile, if it still has one.
pub(super) struct Linked {
    pub(super) account_id: String,
    pub(super) threads_user_id: String,
    pub(super) username: Option<String>,
    pub(super) name: Option<String>,
    pub(super) biography: Option<String>,
    pub(super) is_verified: Option<bool>,
    pub(super) picture_url: Option<String>,
    pub(super) state: &'static str,
    pub(super) is_active: bool,
    pub(super) is_unlinked: bool,
    pub(super) reason: Option<&'static str>,
}

impl Linked {
    pub(super) fn new(account: &Account, profile: Option<AccountProfile>) -> Self {
        let profile = profile.and_then(|profile| profile.profile).unwrap_or_default();
        let state = account.state();
        let reason = account.state_reason();
        Self {
            account_id: account.account_id.clone(),
            threads_user_id: account.threads_user_id.clone(),
            username: profile.username,
            name: profile.name,
            biography: profile.threads_biography,
            is_verified: profile.is_verified,
            picture_url: profile.threads_profile_picture_url,
            state: state.as_str_name().trim_start_matches("STATE_"),
            is_active: state == State::Active,
            is_unlinked: state == State::Unlinked,
            reason: (reason != StateReason::Unspecified)
                .then(|| reason.as_str_name().trim_start_matches("STATE_REASON_")),
        }
    }

    /// What to call it.
    pub(super) fn title(&self) -> &str {
        let given = |text: &&String| !text.trim().is_empty();
        let title = self.name.as_ref().filter(given).or(self.username.as_ref().filter(given));
        title.map_or("Threads account", String::as_str)
    }
}

/// A change, in words.
pub(super) struct Change {
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
    pub(super) account_id: String,
    pub(super) time: String,
}

impl From<&AccountChange> for Change {
    fn from(change: &AccountChange) -> Self {
        let text = match change.kind() {
            Kind::Linked => "A Threads account was linked.",
            Kind::Relinked => "An account that had been unlinked is linked again.",
            Kind::Reauthorized => "The person consented again.",
            Kind::Transferred => "The account was taken over from another user.",
            Kind::ProfileChanged => "The profile reads otherwise than before.",
            Kind::TokenRefreshed => "The token was refreshed, and lasts sixty days again.",
            Kind::RefreshFailing => "The token cannot be refreshed for the time being. It still works.",
            Kind::Recovered => "Refreshing works again.",
            Kind::ReauthorizationRequired => "The token no longer works. Only the person can give another.",
            Kind::Unlinked => "The account was unlinked. Token and profile are destroyed.",
            Kind::Deauthorized => "The person removed the app at Threads. The account is unlinked.",
            Kind::Erased => "The account was erased. Nothing is left of it.",
            Kind::Unspecified => "Something changed.",
        };
        Self {
            kind: change.kind().as_str_name().trim_start_matches("KIND_"),
            text,
            account_id: change.account_id.clone(),
            time: change.change_time.as_ref().map(moment).unwrap_or_default(),
        }
    }
}

/// A time of the API, for people.
pub(super) fn moment(timestamp: &Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(timestamp.seconds).map_or_else(|_| "?".to_owned(), instant)
}

/// A time, for people.
pub(super) fn instant(time: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.format(form).unwrap_or_else(|_| "?".to_owned())
}

impl Session {
    /// What the user is called.
    pub(super) fn name(&self) -> &'static str {
        match self.person() {
            Some(Person::Ada) => "Ada",
            Some(Person::Ben) => "Ben",
            None => "somebody who signed in with Threads",
        }
    }

    /// Who else is at hand.
    pub(super) fn other_name(&self) -> &'static str {
        if self.person() == Some(Person::Ada) { "Ben" } else { "Ada" }
    }
}

/// A page, or a bare failure if there is something wrong with its template.
pub(super) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The page about a reason.
pub(super) fn reason_page(session: &Session, reason: &str) -> Response {
    let &Telling { status, heading, text, aside } = telling(reason);
    let link = Some(("/", "Back to the tour"));
    page(status, &Message { session: Some(session), heading, text, aside, link })
}

/// A page about a request that is answered with nothing else.
pub(super) fn trouble(status: StatusCode) -> Response {
    let (heading, text) = match status {
        StatusCode::NOT_FOUND => ("Nothing here", "There is no page at this address."),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("Not in this way", "This address answers, but not to this kind of request.")
        }
        StatusCode::FORBIDDEN => (
            "Not from there",
            "This form was not sent by a page of this session. Load the page and try again.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Too many at once", "So many pages are following events that there is no room for another.")
        }
        _ => ("That request makes no sense", "Something is missing in it, or there is too much of it."),
    };
    let link = Some(("/", "Back to the tour"));
    page(status, &Message { session: None, heading, text, aside: "", link })
}

/// The page about a request that cannot even be read.
pub(super) fn unreadable() -> String {
    let (heading, text) = ("Not understood", "This was no request that can be read, or a very long one.");
    let link = Some(("/", "Back to the tour"));
    Message { session: None, heading, text, aside: "", link }.render().unwrap_or_default()
}

/// A page about something of `dev` itself that did not work, with what it said.
pub(super) fn failure_page(session: &Session, failure: &super::super::Failure) -> Response {
    let text = failure.to_string();
    let heading = "The tour got stuck";
    let link = Some(("/", "Back to the tour"));
    page(StatusCode::BAD_GATEWAY, &Message { session: Some(session), heading, text: &text, aside: "", link })
}
