//! Who signs tokens for callers, and what a token of theirs says.
//!
//! It promises that nothing in a token decides how the token is checked: its issuer
//! must be a configured one, the key one of those that the configuration leads to,
//! and the algorithm one that both the issuer and this very key are configured for.
//! The keys are read in the background; checking reads them without a lock. It knows
//! nothing of callers or of calls.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, DecodingKey};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{IssuerConfig, Role};

mod fetch;
mod keys;
mod refusal;
mod token;

pub use fetch::{Fetcher, http_client, read_once};
pub use refusal::{Refusal, Refused};
pub use token::TOKEN_MAX;

use keys::KeySet;
use token::Token;

/// How long a call waits for keys that are just being read.
const KEYS_WAIT_MAX: Duration = Duration::from_secs(6);

/// The issuers of tokens, by name.
pub struct Issuers(HashMap<String, Arc<Issuer>>);

/// One issuer, and its keys as they were read last.
struct Issuer {
    config: IssuerConfig,
    keys: ArcSwapOption<Known>,
    /// When the last attempt to read the keys ended; `None` before the first has.
    attempted: watch::Sender<Option<Instant>>,
    /// Asks for another attempt.
    wanted: Arc<Notify>,
    /// Ends the task that reads the keys.
    _reading: DropGuard,
}

/// Keys that have been read.
struct Known {
    keys: Arc<KeySet>,
    /// When they were last found to be those of the issuer.
    at: Instant,
}

/// A token that has been checked.
pub struct Verified {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// What it is limited to, where the issuer says so.
    pub roles: Option<BTreeSet<Role>>,
    /// Until when it is good; the leeway is in it.
    pub until: OffsetDateTime,
    /// What it rests on.
    pub basis: Basis,
}

/// The keys that a checked token rests on.
pub struct Basis {
    issuer: Arc<Issuer>,
    keys: Arc<KeySet>,
}

impl Basis {
    /// Whether they still are the issuer's keys. If not, what was checked with them
    /// must be checked again.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.issuer.current().is_ok_and(|keys| Arc::ptr_eq(&keys, &self.keys))
    }
}

impl Issuers {
    /// The issuers that the configuration names, with the keys that `before` has of
    /// those that are the same. The keys of the others are read from now on, until
    /// the issuers are dropped or `stopping` is cancelled.
    #[must_use]
    pub fn new(configured: &[IssuerConfig], before: Option<&Self>, fetcher: &Fetcher) -> Self {
        let issuer = |config: &IssuerConfig| {
            let known = before.and_then(|before| before.0.get(&config.issuer));
            match known.filter(|known| known.config == *config) {
                Some(known) => Arc::clone(known),
                None => Issuer::start(config.clone(), fetcher),
            }
        };
        Self(configured.iter().map(|config| (config.issuer.clone(), issuer(config))).collect())
    }

    /// Checks a token. Waits for the issuer's keys where they are just being read, or
    /// may be read because the token names one that is not among them, but not beyond
    /// the deadline.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn verify(
        &self,
        text: &str,
        now: OffsetDateTime,
        deadline: Instant,
    ) -> Result<Verified, Refused> {
        let token = Token::read(text)?;
        let issuer = self.0.get(&token.issuer).ok_or(Refusal::TokenIssuer)?;
        let algorithm = token.algorithm.ok_or(Refusal::TokenAlgorithm)?;
        if !issuer.config.algorithms.contains(&algorithm) {
            return Err(Refusal::TokenAlgorithm.into());
        }
        let (keys, key) = issuer.key(token.key_id.as_deref(), algorithm, deadline).await?;
        token.check_signature(&key, algorithm)?;
        let claims = token.check_claims(&issuer.config, now)?;
        let basis = Basis { issuer: Arc::clone(issuer), keys };
        let issuer = token.issuer;
        Ok(Verified { issuer, subject: claims.subject, roles: claims.roles, until: claims.until, basis })
    }
}

impl Issuer {
    fn start(config: IssuerConfig, fetcher: &Fetcher) -> Arc<Self> {
        let stop: CancellationToken = fetcher.stopping.child_token();
        let issuer = Arc::new(Self {
            config,
            keys: ArcSwapOption::empty(),
            attempted: watch::Sender::new(None),
            wanted: Arc::default(),
            _reading: stop.clone().drop_guard(),
        });
        fetcher.keep_current(&issuer, stop);
        issuer
    }

    /// The keys, unless there are none or they are too old to be believed.
    fn current(&self) -> Result<Arc<KeySet>, Refusal> {
        let known = self.keys.load();
        let known = known.as_ref().filter(|known| known.at.elapsed() <= self.config.stale_max);
        known.map(|known| Arc::clone(&known.keys)).ok_or(Refusal::TokenKeysUnavailable)
    }

    fn find(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<(Arc<KeySet>, DecodingKey), Refusal> {
        let keys = self.current()?;
        let key = keys.find(key_id, algorithm)?.clone();
        Ok((keys, key))
    }

    /// The key that a token names. One that is not known is looked for, once for all
    /// who ask, and not again before the retry interval is over.
    async fn key(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        deadline: Instant,
    ) -> Result<(Arc<KeySet>, DecodingKey), Refusal> {
        match self.find(key_id, algorithm) {
            Err(Refusal::TokenKeyUnknown | Refusal::TokenKeysUnavailable) => {}
            decided => return decided,
        }
        let mut attempted = self.attempted.subscribe();
        let last = *attempted.borrow_and_update();
        // An attempt may have ended between the look and the subscription.
        let found = self.find(key_id, algorithm);
        if found.is_ok() || last.is_some_and(|last| last.elapsed() < self.config.retry_interval) {
            return found;
        }
        self.wanted.notify_one();
        let _ = timeout_at(deadline.min(Instant::now() + KEYS_WAIT_MAX), attempted.changed()).await;
        self.find(key_id, algorithm)
    }
}
