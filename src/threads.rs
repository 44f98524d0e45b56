//! Threads, over HTTP: where to send a person, the three calls that turn what
//! comes back into a token and a profile, and the one that keeps a token alive.
//!
//! It promises that a code is sent at most once per call, that no redirect is
//! followed, that every answer is bounded in time and size, and that no error
//! holds a secret. It knows nothing of accounts or of the database.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{self, HeaderMap};
use tokio::time::Instant;
use tracing::Instrument as _;
use url::Url;

use crate::clock::Clock;
use crate::config::{AppConfig, Provider, endpoint};
use crate::metrics::{Metrics, ProviderLabels};
use crate::secret::{AccessToken, AuthorizationCode};
use crate::trace;

mod endpoint;
mod failure;
mod gate;
mod refused;
mod wire;

pub use endpoint::Endpoint;
pub use failure::{Class, Failure, Limited};
pub use refused::Refused;
pub use wire::{LongLived, Me, ShortLived};
#[doc(hidden)] // for tests that compare these readings with others
pub use wire::{parse_code_exchange, parse_long_lived, parse_me};

/// How often a call that may be repeated is tried in all.
const TRIES_MAX: usize = 3;
/// The shortest time that is worth starting a call for.
const CALL_MIN: Duration = Duration::from_millis(50);

/// The HTTP client that all apps share.
///
/// # Errors
/// If the TLS back end cannot be set up.
pub fn http_client(limits: &Provider) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        // Requests carry the app's secret: they go where the configuration says
        // and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(limits.connect_timeout)
        .timeout(limits.call_timeout)
        // Shorter than servers usually keep an idle connection, so that a code
        // is not written to one that is just being closed.
        .pool_idle_timeout(Duration::from_secs(20))
        .user_agent(concat!("threads-identity/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Threads, as one app sees it.
pub struct Client {
    http: reqwest::Client,
    app: Arc<AppConfig>,
    limits: Provider,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    gate: gate::Gate,
    long_lived_url: Url,
    refresh_url: Url,
    me_url: Url,
}

impl Client {
    /// A client for one app.
    #[must_use]
    pub fn new(
        http: reqwest::Client,
        app: Arc<AppConfig>,
        limits: Provider,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let long_lived_url = endpoint(&app.graph_url, "access_token");
        let refresh_url = endpoint(&app.graph_url, "refresh_access_token");
        let me_path =
            if app.api_version.is_empty() { "me".to_owned() } else { format!("{}/me", app.api_version) };
        let mut me_url = endpoint(&app.graph_url, &me_path);
        me_url.query_pairs_mut().append_pair("fields", &app.profile_fields.join(","));
        let gate = gate::Gate::default();
        Self { http, app, limits, metrics, clock, gate, long_lived_url, refresh_url, me_url }
    }

    /// How long the whole app must still be quiet, because Threads said so.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.gate.pause(self.clock.now())
    }

    /// Whether Threads says that a limit is close, so that what can wait should.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.gate.is_busy(self.clock.now())
    }

    /// Whether a call that can wait may be made now: the less Threads answers, the
    /// more rarely. Ask once for each.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.gate.admits(self.clock.now())
    }

    /// Whether Threads seems to be away: it has answered nothing of late, though it
    /// was asked.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.gate.is_unanswered(self.clock.now())
    }

    /// The URL at which a person consents. Scopes are separated by commas, as
    /// every client in use does; there is no PKCE at Threads.
    #[must_use]
    pub fn authorization_url(&self, redirect_uri: &str, scopes: &[String], state: &str) -> Url {
        let mut url = self.app.authorize_url.clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", &self.app.client_id)
                .append_pair("redirect_uri", redirect_uri)
                .append_pair("response_type", "code")
                .append_pair("scope", &scopes.join(","))
                .append_pair("state", state);
            for (name, value) in &self.app.authorize_parameters {
                query.append_pair(name, value);
            }
        }
        url
    }

    /// Exchanges a code for a short-lived token. Sends the code once: what is
    /// repeated is only a connection that could not be made.
    ///
    /// # Errors
    /// [`Failure`]; its `sent` tells whether the code may be spent.
    pub async fn exchange_code(
        &self,
        code: &AuthorizationCode,
        redirect_uri: &str,
        deadline: Instant,
    ) -> Result<ShortLived, Failure> {
        const AT: Endpoint = Endpoint::CodeExchange;
        let form = [
            ("client_id", self.app.client_id.as_str()),
            ("client_secret", self.app.client_secret.expose()),
            ("grant_type", "authorization_code"),
            ("redirect_uri", redirect_uri),
            ("code", code.expose()),
        ];
        let exchange = || async {
            let request = self.http.post(self.app.token_url.clone()).form(&form);
            let body = self.call(AT, request, deadline).await?;
            wire::parse_code_exchange(&body).ok_or_else(|| self.surprise(AT))
        };
        exchange
            .retry(backoff())
            .when(|failure| !failure.sent && failure.is_passing() && has_time(deadline))
            .await
    }

    /// Exchanges a short-lived token for a long-lived one.
    ///
    /// # Errors
    /// [`Failure`], after passing trouble was given its tries.
    pub async fn extend(&self, short: &AccessToken, deadline: Instant) -> Result<LongLived, Failure> {
        const AT: Endpoint = Endpoint::LongLivedExchange;
        // The protocol itself puts secrets into this URL, so it is built here,
        // used once, and never printed.
        let mut url = self.long_lived_url.clone();
        url.query_pairs_mut()
            .append_pair("grant_type", "th_exchange_token")
            .append_pair("client_secret", self.app.client_secret.expose())
            .append_pair("access_token", short.expose());
        let extend = || async {
            let body = self.call(AT, self.http.get(url.clone()), deadline).await?;
            wire::parse_long_lived(&body).ok_or_else(|| self.surprise(AT))
        };
        extend.retry(backoff()).when(|failure| failure.is_passing() && has_time(deadline)).await
    }

    /// Refreshes a long-lived token, which is its own refresh credential. What
    /// comes back takes its place; whether the old one lives on is not documented.
    /// Threads refuses one that is younger than 24 hours, or dead.
    ///
    /// # Errors
    /// [`Failure`], after passing trouble was given its tries.
    pub async fn refresh(&self, long: &AccessToken, deadline: Instant) -> Result<LongLived, Failure> {
        const AT: Endpoint = Endpoint::Refresh;
        let mut url = self.refresh_url.clone();
        url.query_pairs_mut()
            .append_pair("grant_type", "th_refresh_token")
            .append_pair("access_token", long.expose());
        let refresh = || async {
            let body = self.call(AT, self.http.get(url.clone()), deadline).await?;
            wire::parse_long_lived(&body).ok_or_else(|| self.surprise(AT))
        };
        refresh.retry(backoff()).when(|failure| failure.is_passing() && has_time(deadline)).await
    }

    /// Reads the profile behind a token.
    ///
    /// # Errors
    /// [`Failure`], after passing trouble was given its tries.
    pub async fn me(&self, token: &AccessToken, deadline: Instant) -> Result<Me, Failure> {
        const AT: Endpoint = Endpoint::Me;
        let me = || async {
            let request = self.http.get(self.me_url.clone()).bearer_auth(token.expose());
            let body = self.call(AT, request, deadline).await?;
            wire::parse_me(&body).ok_or_else(|| self.surprise(AT))
        };
        let me = me.retry(backoff()).when(|failure| failure.is_passing() && has_time(deadline)).await?;
        self.metrics.profile_values_dropped.inc_by(me.dropped);
        Ok(me)
    }

    /// Asks whether Threads knows the app and takes its secret: for a token of the
    /// app's own, which is dropped. Spends nothing and may be repeated. Meta:
    /// developers.facebook.com/documentation/threads/get-started/app-access-tokens
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn check_app(&self, deadline: Instant) -> Result<(), Refused> {
        const AT: Endpoint = Endpoint::AppToken;
        let mut url = self.app.token_url.clone();
        url.query_pairs_mut()
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.app.client_id)
            .append_pair("client_secret", self.app.client_secret.expose());
        let body = self.call(AT, self.http.get(url), deadline).await?;
        if wire::is_app_token(&body) { Ok(()) } else { Err(self.surprise(AT).into()) }
    }

    /// Makes one call and counts it.
    async fn call(
        &self,
        at: Endpoint,
        request: reqwest::RequestBuilder,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let start = Instant::now();
        let time = deadline.saturating_duration_since(start).min(self.limits.call_timeout);
        if time < CALL_MIN {
            return Err(Failure::unanswered(at, false, "no time left for the call"));
        }
        if let Some(wait) = self.pause() {
            return Err(Failure::paused(at, wait));
        }
        let request = request.header(header::ACCEPT, "application/json").timeout(time);
        let span = tracing::info_span!(
            target: trace::TARGET,
            "threads",
            threads.endpoint = at.name(),
            threads.result = tracing::field::Empty,
        );
        let result = self.answer(at, request).instrument(span.clone()).await;
        let result = result.map_err(|failure| self.note_limit(failure));
        let now = self.clock.now();
        let is_limited = result.as_ref().is_err_and(|failure| matches!(failure.class, Class::RateLimited(_)));
        self.gate.called(now, !result.as_ref().is_err_and(Failure::is_passing), is_limited);
        self.metrics.provider_call_seconds.observe(start.elapsed().as_secs_f64());
        let name = result.as_ref().err().map_or("ok", |failure| failure.class.name());
        span.record("threads.result", name);
        self.metrics
            .provider_calls
            .get_or_create(&ProviderLabels { endpoint: at.name(), result: name })
            .inc();
        if let Err(failure) = &result {
            tracing::warn!(
                threads.endpoint = at.name(),
                threads.class = name,
                "a call to Threads failed: {failure}"
            );
        }
        result
    }

    /// A limit of the whole app stops all its calls.
    fn note_limit(&self, mut failure: Failure) -> Failure {
        if failure.class == Class::RateLimited(Limited::App) {
            let pause = self.gate.limited(self.clock.now(), failure.retry_after);
            tracing::warn!(app = %self.app.id, seconds = pause.as_secs(), "Threads limits the app: no calls meanwhile");
            failure.retry_after = Some(pause);
        }
        failure
    }

    async fn answer(&self, at: Endpoint, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Failure> {
        let mut response = request.send().await.map_err(|error| unanswered(at, &error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        self.gate.used(self.clock.now(), &headers);
        if is_encoded(&headers) {
            return Err(Failure::surprise(at, status, "answer is compressed"));
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() > self.limits.body_max => {
                    return Err(Failure::surprise(at, status, "answer too large"));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Err(unanswered(at, &error)),
            }
        }
        if status != 200 || failure::is_error(&body) {
            return Err(failure::of_answer(at, status, &headers, &body));
        }
        if !is_json(&headers) {
            return Err(Failure::surprise(at, status, "answer is not JSON"));
        }
        Ok(body)
    }

    fn surprise(&self, at: Endpoint) -> Failure {
        let labels = ProviderLabels { endpoint: at.name(), result: Class::Surprise.name() };
        self.metrics.provider_calls.get_or_create(&labels).inc();
        tracing::warn!(
            threads.endpoint = at.name(),
            "Threads answered with something that is not documented"
        );
        Failure::surprise(at, 200, "answer is not as documented")
    }
}

/// A failure without an answer. What is kept of the error is its kind and the
/// chain of causes below the one that prints the URL.
fn unanswered(at: Endpoint, error: &reqwest::Error) -> Failure {
    let detail = match () {
        () if error.is_connect() && error.is_timeout() => "connecting took too long",
        () if error.is_connect() => "no connection",
        () if error.is_timeout() => "no answer in time",
        () if error.is_builder() => "the request could not be built",
        () => "the connection broke",
    };
    let mut chain = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(chain, ": {error}");
        cause = error.source();
    }
    tracing::debug!(threads.endpoint = at.name(), "{detail}{chain}");
    Failure::unanswered(at, !(error.is_connect() || error.is_builder()), detail)
}

/// Whether an answer would first have to be unpacked. None is asked for, and one that
/// comes so anyway could unpack to any size.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

fn is_json(headers: &HeaderMap) -> bool {
    // Graph has answered with text/javascript for years.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/json" | "text/javascript" | "application/javascript")
}

fn backoff() -> impl backon::BackoffBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .with_max_times(TRIES_MAX - 1)
}

/// Whether another try can still end in time.
fn has_time(deadline: Instant) -> bool {
    deadline.saturating_duration_since(Instant::now()) > Duration::from_secs(1) + CALL_MIN
}
