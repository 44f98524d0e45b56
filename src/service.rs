//! What any request may need, built once and passed by reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::config::{AppConfig, Config, Watch};
use crate::error::{Error, Result};
use crate::flights::Flights;
use crate::ids::{AccountId, AuthorizationId};
use crate::metrics::Metrics;
use crate::sealing::{Keyring, KeyringError};
use crate::secret::DatabaseUrl;
use crate::store::accounts::Account;
use crate::store::links::LinkedAccount;
use crate::store::{Store, UrlError};
use crate::threads::{self, Client};

/// The service: everything that flows work with.
pub struct Service {
    /// The Threads apps, by id.
    pub apps: BTreeMap<String, Arc<App>>,
    /// Postgres.
    pub store: Store,
    /// What seals and opens.
    pub keyring: Keyring,
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
    /// Builds the service. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BuildError`], which names the key of the configuration.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> std::result::Result<Self, BuildError> {
        let keyring = load_keyring(config)?;
        let url: &DatabaseUrl = config.database.url.as_ref().ok_or(BuildError::NoDatabase)?;
        let metrics = Arc::new(Metrics::new());
        let store = Store::new(url, config.database.pool_size, &metrics)?;
        let http = threads::http_client(&config.provider).map_err(BuildError::Http)?;
        let apps = config.apps.iter().map(|app| {
            let app = Arc::new(app.clone());
            let threads = Client::new(http.clone(), Arc::clone(&app), config.provider, Arc::clone(&metrics));
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
        })
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

/// Loads the keyring that the configuration names.
///
/// # Errors
/// [`BuildError`].
pub fn load_keyring(config: &Config) -> std::result::Result<Keyring, BuildError> {
    use crate::config::Keys;
    match &config.keys {
        None => Err(BuildError::NoKeyring),
        Some(Keys::Value(text)) => Ok(Keyring::parse(text)?),
        Some(Keys::File(path)) => {
            let text = std::fs::read_to_string(path).map_err(BuildError::KeyringFile)?;
            Ok(Keyring::parse(&zeroize::Zeroizing::new(text))?)
        }
    }
}
