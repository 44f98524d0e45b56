//! The tour, as a demo backend: what a caller's own backend does, with a page to
//! click.
//!
//! It has its own sessions and its own gRPC client, and speaks to threads-identity
//! as any other backend would. It takes the user from its session and never from
//! what the browser brings, and binds each authorization to the session. The
//! buttons that make things go wrong are the tour's own, and in `mischief` alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, extract::State, serve};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::threads::Threads;
use super::travel::Travel;
use super::{Failure, Places};

mod accounts;
mod backend;
mod linking;
mod mischief;
mod news;
mod pages;
mod reasons;
mod session;
mod socket;

use backend::Backend;
use news::{News, WATCHES_MAX};
use pages::{STYLE_DIGEST, Shown, trouble, unreadable};
use session::Sessions;
use socket::Socket;

/// How long open requests may take to finish once it is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest form, in bytes.
const FORM_MAX: usize = 16 * 1024;

/// The addresses of the demo to which the hosted callback may send a browser on.
pub(super) fn return_to(demo: &str) -> [String; 2] {
    [format!("{demo}/linked"), format!("{demo}/signed-in")]
}

/// The demo backend.
pub(super) struct Demo {
    sessions: Sessions,
    backend: Backend,
    news: News,
    threads: Threads,
    travel: Arc<Travel>,
    places: Shown,
    policy: HeaderValue,
    watches: Arc<Semaphore>,
    /// Counts what must be called otherwise each time.
    number: AtomicU64,
    stop: CancellationToken,
}

impl Demo {
    pub(super) fn new(
        places: &Places,
        threads: Threads,
        travel: Arc<Travel>,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let Places { simulator, http, .. } = places;
        // Chromium holds every redirect after a form to form-action too: a form of
        // this demo leads to Threads, or by way of the hosted callback back here.
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; frame-ancestors 'none'; \
             form-action 'self' {simulator} {http}",
            *STYLE_DIGEST
        );
        Ok(Self {
            sessions: Sessions::load(&places.data_dir)?,
            backend: Backend::new(&places.grpc.to_string(), &places.caller_key, &places.demo)?,
            news: News::default(),
            threads,
            travel,
            places: Shown {
                grpc: places.grpc.to_string(),
                http: http.clone(),
                ops: format!("http://{}", places.ops),
                simulator: simulator.clone(),
                demo: places.demo.clone(),
                data_dir: places.data_dir.display().to_string(),
            },
            policy: HeaderValue::from_str(&policy)?,
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            number: AtomicU64::new(1),
            stop,
        })
    }

    /// Finds where the changes stand, so that the first page can tell what came
    /// after. Without it, they begin with that page.
    pub(super) async fn begin(&self) {
        if let Err(status) = self.news.look(&self.backend, "").await {
            tracing::warn!(code = %status.code(), "the demo does not know where the changes stand");
        }
    }

    fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

/// Serves the demo until it is told to stop.
pub(super) async fn run(listener: TcpListener, demo: Arc<Demo>) -> Result<(), Failure> {
    let stop = demo.stop.clone();
    let policy = demo.policy.clone();
    let words = Arc::new(move |_| {
        let mut headers = HeaderMap::new();
        put_headers(&policy, &mut headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        (headers, unreadable())
    });
    let router = Router::new()
        .route("/", get(accounts::start))
        .route("/link", post(linking::link))
        .route("/sign-in", post(linking::sign_in))
        .route("/switch", post(linking::switch))
        .route("/linked", get(linking::linked))
        .route("/signed-in", get(linking::signed_in))
        .route("/ended/{reason}", get(linking::ended))
        .route("/accounts/{id}", get(accounts::account))
        .route("/accounts/{id}/read", post(accounts::read))
        .route("/accounts/{id}/greet", post(accounts::greet))
        .route("/accounts/{id}/unlink", post(accounts::unlink))
        .route("/accounts/{id}/at-threads/{what}", post(mischief::at_threads))
        .route("/deletions/{code}", get(mischief::deletion))
        .route("/erase", post(accounts::erase))
        .route("/try/{how}", post(mischief::attempt))
        .route("/time/{how}", post(mischief::time))
        .route("/events", get(news::events))
        .fallback(async || trouble(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async || trouble(StatusCode::METHOD_NOT_ALLOWED))
        .layer(from_fn_with_state(Arc::clone(&demo), session::attach))
        .layer(DefaultBodyLimit::max(FORM_MAX))
        .layer(map_response_with_state(Arc::clone(&demo), headers))
        .with_state(demo);
    let served =
        serve(Socket { listener, words }, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        ended = served => Ok(ended?),
        // A browser that sends half a request would be waited for without end.
        () = async { stop.cancelled().await; sleep(FAREWELL).await } => Ok(()),
    }
}

async fn headers(State(demo): State<Arc<Demo>>, mut response: Response) -> Response {
    put_headers(&demo.policy, response.headers_mut());
    response
}

/// Nothing may be loaded from elsewhere, framed, cached, indexed, or told by a
/// referrer.
fn put_headers(policy: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
