//! What has happened, in two ways: by asking again (`ListAccountChanges`), as a
//! backend does that holds no stream, and by watching (`WatchAccounts`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template as _;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::Demo;
use super::backend::Backend;
use super::pages::{Change, ChangeItem, Events, reason_page, trouble};
use super::reasons::reason;
use super::session::{Here, Session};
use crate::proto::v1::account_change::Kind;
use crate::proto::v1::{AccountChange, WatchAccountsResponse};

/// The most changes that are kept.
const KEPT_MAX: usize = 500;
/// The most pages of changes that one look goes through.
const PAGES_MAX: usize = 50;
/// The most pages that follow events at once.
pub(super) const WATCHES_MAX: usize = 16;
/// How long a page follows them.
const WATCH_MAX: Duration = Duration::from_hours(1);

/// Where the stream goes on in the page.
const MARK: &str = "<!--more-->";
const END: &str = "<li class=\"end\">The list ends here. Load the page again to go on.</li>";

/// What has been heard of so far.
#[derive(Default)]
pub(super) struct News(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    cursor: Option<String>,
    changes: VecDeque<AccountChange>,
}

impl Heard {
    fn keep(&mut self, change: AccountChange) {
        // Erased: what was kept of the account goes too.
        if change.kind() == Kind::Erased {
            self.changes.retain(|kept| kept.account_id != change.account_id);
        }
        self.changes.push_back(change);
        while self.changes.len() > KEPT_MAX {
            self.changes.pop_front();
        }
    }
}

impl News {
    /// Asks what is new. Answers with what concerns the user, oldest first, and
    /// from where a watch goes on.
    pub(super) async fn look(
        &self,
        backend: &Backend,
        user_id: &str,
    ) -> Result<(Vec<Change>, String), Status> {
        let mut heard = self.0.lock().await;
        for _ in 0..PAGES_MAX {
            let answer = match backend.changes(heard.cursor.clone()).await {
                // Away for longer than changes are kept: what is true is in the
                // accounts, and the changes go on from here.
                Err(status) if reason(&status) == "CURSOR_EXPIRED" => {
                    heard.cursor = None;
                    continue;
                }
                answer => answer?,
            };
            heard.cursor = Some(answer.cursor);
            answer.changes.into_iter().for_each(|change| heard.keep(change));
            if !answer.more {
                break;
            }
        }
        let concerns =
            |change: &&AccountChange| change.user_id == user_id || change.previous_user_id == user_id;
        let changes = heard.changes.iter().filter(concerns).map(Change::from).collect();
        Ok((changes, heard.cursor.clone().unwrap_or_default()))
    }
}

/// The page of events: it is never finished while it is open, and each change is
/// added to it when it happens. That needs no script.
pub(super) async fn events(State(demo): State<Arc<Demo>>, Extension(session): Here) -> Response {
    let Ok(permit) = Arc::clone(&demo.watches).try_acquire_owned() else {
        return trouble(StatusCode::SERVICE_UNAVAILABLE);
    };
    match follow(&demo, &session, permit).await {
        Ok(response) => response,
        Err(status) => reason_page(&session, &reason(&status)),
    }
}

async fn follow(
    demo: &Arc<Demo>,
    session: &Session,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Status> {
    let (changes, cursor) = demo.news.look(&demo.backend, &session.user_id).await?;
    let watch = demo.backend.watch(session, cursor).await?;
    let html = Events { session, changes, mark: MARK }.render();
    let html = html.map_err(|_| Status::internal("the page cannot be made"))?;
    let (before, after) = html.split_once(MARK).unwrap_or((&html, ""));
    let page = Page {
        demo: Arc::clone(demo),
        watch,
        until: Instant::now() + WATCH_MAX,
        after: Some(after.to_owned()),
        _permit: permit,
    };
    let rest = stream::unfold(page, Page::next);
    let parts = futures_util::StreamExt::chain(stream::iter([Ok(before.to_owned())]), rest);
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    Ok((html, Body::from_stream(parts)).into_response())
}

/// A page that grows.
struct Page {
    demo: Arc<Demo>,
    watch: Streaming<WatchAccountsResponse>,
    until: Instant,
    /// The end of the page; none once it has been sent.
    after: Option<String>,
    _permit: OwnedSemaphorePermit,
}

impl Page {
    async fn next(mut self) -> Option<(Result<String, Infallible>, Self)> {
        self.after.as_ref()?;
        let message = tokio::select! {
            message = self.watch.message() => message,
            () = sleep_until(self.until) => Ok(None),
            () = self.demo.stop.cancelled() => Ok(None),
        };
        let part = match message {
            Ok(Some(message)) => match message.change {
                Some(change) => ChangeItem { change: Change::from(&change) }.render().unwrap_or_default(),
                // Only a sign of life, which also finds out whether anybody is there.
                None => "\n".to_owned(),
            },
            // Stopped, or cut off: whoever loads it again goes on from there.
            Ok(None) | Err(_) => format!("{END}{}", self.after.take().unwrap_or_default()),
        };
        Some((Ok(part), self))
    }
}
