//! Who is calling, and what they may do.
//!
//! Whoever calls proves it by a key, a client certificate or a token of an issuer.
//! What a call brings in its header decides; the certificate of its connection
//! counts only for calls without one. Everything that is not certain is a refusal,
//! and what is wrong is for the operator to know: to the caller all refusals are one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use prometheus_client::metrics::counter::Counter;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, Role};
use crate::error::{Error, Reason, Result};
use crate::issuers::{self, Fetcher};
use crate::peer::Peer;
use crate::rates::Pace;
use crate::service::{App, Service};

mod key;
mod known;
mod refusal;
mod verified;

pub use key::{CALLER_KEY_PREFIX, new_caller_key};
pub use refusal::{Refusal, Refused};

use super::room::Room;
use known::Known;

/// A backend that calls, by one of its credentials.
pub(super) struct Caller {
    pub name: String,
    pub app: Arc<App>,
    roles: BTreeSet<Role>,
    credential: Credential,
    /// How often it may call, by all its credentials together, if that is limited.
    pub pace: Option<Arc<Pace>>,
    /// How many calls it may have in flight, by all its credentials together.
    pub room: Room,
    /// Calls that came with this credential.
    uses: Counter,
}

/// What a caller proves itself by.
#[derive(Clone)]
enum Credential {
    /// Nobody is configured: whoever reaches the (loopback) listener.
    Local,
    /// The SHA-256 of a key.
    Key([u8; 32]),
    /// A name in a client certificate.
    Certificate(String),
    /// A subject of an issuer. A token of it is good until some time.
    Token { issuer: String, subject: String, until: Option<OffsetDateTime> },
}

impl Caller {
    /// Fails unless the caller has the role.
    pub fn require(&self, role: Role) -> Result<()> {
        if self.roles.contains(&role) {
            Ok(())
        } else {
            Err(Error::new(Reason::CallerNotAllowed).with("role", role.name()))
        }
    }
}

/// Everybody who may call, exchanged as a whole when the configuration changes.
#[derive(Clone)]
pub struct Callers(Arc<Shared>);

struct Shared {
    service: Arc<Service>,
    fetcher: Fetcher,
    known: ArcSwap<Known>,
    /// Tells that `known` has been exchanged.
    exchanged: watch::Sender<()>,
}

impl Callers {
    /// The callers that the configuration names.
    ///
    /// # Errors
    /// If the HTTP client for the keys of issuers cannot be set up.
    pub fn new(config: &Config, service: &Arc<Service>) -> std::result::Result<Self, reqwest::Error> {
        let fetcher = Fetcher {
            http: issuers::http_client()?,
            metrics: Arc::clone(&service.metrics),
            tasks: service.tasks.clone(),
            stopping: service.stopping.clone(),
        };
        let known = ArcSwap::from_pointee(Known::new(config, None, service, &fetcher));
        let service = Arc::clone(service);
        Ok(Self(Arc::new(Shared { service, fetcher, known, exchanged: watch::Sender::new(()) })))
    }

    /// Puts the callers and issuers of another configuration in the place of those
    /// that are known, for calls that begin from now on, and ends the watches of
    /// credentials that are gone. Answers whether anything is different.
    ///
    /// # Errors
    /// What keeps it from being used, each with its key; everything is then as it was.
    pub fn replace(&self, config: &Config) -> std::result::Result<bool, Vec<String>> {
        let Shared { service, fetcher, known, exchanged } = &*self.0;
        let before = known.load();
        if before.is_from(config) {
            return Ok(false);
        }
        let mut problems = Vec::new();
        if config.is_open() {
            problems.push(
                "callers: none are left, and whoever reaches this process may then do everything: that needs \
                 a restart"
                    .to_owned(),
            );
        }
        for (i, caller) in config.callers.iter().enumerate() {
            if !service.apps.contains_key(&caller.app) {
                let app = &caller.app;
                problems.push(format!(
                    "callers.{i}.app: this process does not serve the app `{app}`: restart it"
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        known.store(Arc::new(Known::new(config, Some(&before), service, fetcher)));
        exchanged.send_replace(());
        Ok(true)
    }

    /// The caller behind a call: by its `authorization: Bearer CREDENTIAL` if there
    /// is such a header, and else by the certificate of its connection. Looked up by
    /// hash, so that no comparison tells how near a guess came.
    ///
    /// Waits only where a token's issuer has keys that may have to be read, and not
    /// beyond the deadline.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        deadline: Instant,
    ) -> std::result::Result<Arc<Caller>, Refused> {
        let known = self.0.known.load_full();
        let caller = self.find(&known, headers, peer, deadline).await?;
        caller.uses.inc();
        Ok(caller)
    }

    async fn find(
        &self,
        known: &Known,
        headers: &HeaderMap,
        peer: Option<&Peer>,
        deadline: Instant,
    ) -> std::result::Result<Arc<Caller>, Refused> {
        if let Some(local) = known.local() {
            return Ok(local);
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(known.by_certificate(peer.map_or(&[], |peer| &peer.names))?),
            (Some(_), Some(_)) => return Err(Refusal::HeaderRepeated.into()),
            (Some(value), None) => value.to_str().map_err(|_| Refusal::HeaderMalformed)?,
        };
        let bearer = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, bearer) = bearer.ok_or(Refusal::HeaderMalformed)?;
        let hash = key::hash(bearer);
        if let Some(caller) = known.by_key(&hash) {
            Ok(caller)
        } else if let Some(stranger) = key::stranger(bearer) {
            Err(stranger.into())
        } else if bearer.matches('.').count() == 2 {
            known.by_token(bearer, hash, self.0.service.clock.now(), deadline).await
        } else {
            Err(Refusal::CredentialUnknown.into())
        }
    }

    /// Ends when a caller's credential no longer opens a role: because it is not
    /// configured any more, or because its token is not good any more.
    pub(super) async fn revoked(self, caller: Arc<Caller>, role: Role) {
        let Shared { service, known, exchanged, .. } = &*self.0;
        let mut exchanged = exchanged.subscribe();
        let removed = async {
            while known.load().still_opens(&caller, role) {
                if exchanged.changed().await.is_err() {
                    return;
                }
            }
        };
        let expired = async {
            match &caller.credential {
                Credential::Token { until: Some(until), .. } => {
                    // Not in steps: a clock that is corrected by minutes is not ready.
                    let left: std::result::Result<std::time::Duration, _> =
                        (*until - service.clock.now()).try_into();
                    tokio::time::sleep(left.unwrap_or_default()).await;
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = removed => {}
            () = expired => {}
        }
    }
}

#[cfg(test)]
mod tests;
