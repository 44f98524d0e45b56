//! What any request may need, built once and passed by reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::config::{AppConfig, Config, Refresh, Retention, Watch, meant_app};
use crate::error::{Error, Result};
use crate::flights::Flights;
use crate::ids::{AccountId, AuthorizationId};
use crate::metrics::Metrics;
use crate::sealing::{Keyring, KeyringError, LiveKeyring, Place, Purpose};
use crate::secret::{AccessToken, DatabaseUrl};
use crate::store::accounts::Account;
use crate::store::links::LinkedAccount;
use crate::store::{self, Store, StoreError, UrlError};
use crate::threads::{self, Client};

/// How far our clock and Postgres' may be apart, in seconds.
pub const CLOCK_SKEW_MAX: f64 = 5.0;

/// The service: everything that flows work with.
pub struct Service {
    /// The Threads apps, by id.
    pub apps: BTreeMap<String, Arc<App>>,
    /// Postgres.
    pub store: Store,
    /// What seals and opens.
    pub keyring: LiveKeyring,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What can be measured.
    pub metrics: Arc<Metrics>,
    /// The limits of watches.
    pub watch: Watch,
    /// Work that has begun and finishes whatever its caller does.
    pub tasks: TaskTracker,
    /// Cancelled when the process is asked to stop.
    pub stopping: CancellationToken,
    /// Completions that are under way, by authorization and by what the browser
    /// brought.
    pub completions: Flights<(AuthorizationId, [u8; 32]), LinkedAccount>,
    /// Readings of profiles that are under way.
    pub profile_reads: Flights<AccountId, Account>,
    /// How long what is over is kept.
    pub retention: Retention,
    /// How tokens are kept alive.
    pub refresh: Refresh,
    /// Refreshes and checks that somebody waits for, by account.
    pub refreshes: Flights<AccountId, Tried>,
}

/// Whether a piece of work was done, or somebody else is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It is done.
    Done,
    /// Somebody else is at it, or it is done already.
    Busy,
}

/// One Threads app.
pub struct App {
    /// As configured.
    pub config: Arc<AppConfig>,
    /// Threads, as this app sees it.
    pub threads: Client,
}

impl App {
    /// Its permanent id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }
}

/// Why a service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No database is configured.
    #[error("database.url: is required (or the variable DATABASE_URL)")]
    NoDatabase,
    /// The database URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No keyring is configured.
    #[error(
        "keys.file: is required (or the variable THREADS_IDENTITY_KEY): \
         make a keyring with `threads-identity keys generate`"
    )]
    NoKeyring,
    /// The keyring's file cannot be read.
    #[error("keys.file: cannot be read: {0}")]
    KeyringFile(std::io::Error),
    /// The keyring is no keyring.
    #[error("keys: {0}")]
    Keyring(#[from] KeyringError),
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

impl Service {
    /// The app that a name means; without one the only app, or the one named `default`.
    #[must_use]
    pub fn app(&self, name: Option<&str>) -> Option<&Arc<App>> {
        self.apps.get(meant_app(name, self.apps.keys().map(String::as_str)))
    }

    /// Builds the service. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BuildError`], which names the key of the configuration.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> std::result::Result<Self, BuildError> {
        let keyring = LiveKeyring::new(load_keyring(config)?);
        let url: &DatabaseUrl = config.database.url.as_ref().ok_or(BuildError::NoDatabase)?;
        let metrics = Arc::new(Metrics::new());
        let store = Store::new(url, config.database.pool_size, &metrics)?;
        let http = threads::http_client(&config.provider).map_err(BuildError::Http)?;
        let apps = config.apps.iter().map(|app| {
            let app = Arc::new(app.clone());
            let threads = Client::new(
                http.clone(),
                Arc::clone(&app),
                config.provider,
                Arc::clone(&metrics),
                Arc::clone(&clock),
            );
            (app.id.clone(), Arc::new(App { config: app, threads }))
        });
        Ok(Self {
            apps: apps.collect(),
            store,
            keyring,
            clock,
            metrics,
            watch: config.watch,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            completions: Flights::default(),
            profile_reads: Flights::default(),
            refresh: config.refresh,
            refreshes: Flights::default(),
            retention: config.retention,
        })
    }

    /// By how many seconds our clock is ahead of Postgres'. Leases, expiries and ages
    /// are compared across replicas, so a clock that is off does harm.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clock_skew(&self) -> std::result::Result<f64, StoreError> {
        let before = self.clock.now();
        let theirs = store::postgres_time(&self.store.pool).await?;
        // The answer was given somewhere between the two readings.
        let half: time::Duration = (self.clock.now() - before) / 2;
        let ours: OffsetDateTime = before + half;
        let apart: time::Duration = ours - theirs;
        let skew = apart.as_seconds_f64();
        self.metrics.clock_skew_seconds.set(skew);
        Ok(skew)
    }

    /// Whether our clock may decide what is old enough to be ended or removed. One
    /// that a test moves always may.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn clock_is_right(&self) -> std::result::Result<bool, StoreError> {
        Ok(!self.clock.is_real() || self.clock_skew().await?.abs() <= CLOCK_SKEW_MAX)
    }

    /// Seals a token for its account's row.
    #[must_use]
    pub fn seal_token(&self, app: &App, id: AccountId, token: &AccessToken) -> Vec<u8> {
        self.keyring.seal(token_place(app, &id), token.expose().as_bytes())
    }

    /// Opens the stored token of an account.
    ///
    /// # Errors
    /// `KEY_UNAVAILABLE` or `SEALED_DATA_INVALID`, with the account's id.
    pub fn open_token(&self, app: &App, id: AccountId, sealed: &[u8]) -> Result<AccessToken> {
        let opened = self.keyring.open(token_place(app, &id), sealed);
        let opened = opened.map_err(|error| Error::from(error).with("account_id", id))?;
        let text = std::str::from_utf8(&opened).map_err(Error::internal)?;
        Ok(AccessToken::new(text.to_owned()))
    }

    /// Runs work to its end, whatever becomes of whoever waits for it.
    ///
    /// # Errors
    /// The work's own; INTERNAL if it panics.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.tasks.spawn(work.in_current_span()).await.unwrap_or_else(|error| Err(Error::internal(error)))
    }
}

fn token_place<'a>(app: &'a App, id: &'a AccountId) -> Place<'a> {
    Place { purpose: Purpose::Token, app_id: app.id(), row: id.0.as_bytes() }
}

/// Loads the keyring that the configuration names.
///
/// # Errors
/// [`BuildError`].
pub fn load_keyring(config: &Config) -> std::result::Result<Keyring, BuildError> {
    use crate::config::Keys;
    match &config.keys {
        None => Err(BuildError::NoKeyring),
        Some(Keys::Value(text)) => Ok(Keyring::parse(text)?),
        Some(Keys::File { path, .. }) => {
            let text = std::fs::read_to_string(path).map_err(BuildError::KeyringFile)?;
            Ok(Keyring::parse(&zeroize::Zeroizing::new(text))?)
        }
    }
}
