//! Who is calling, and what they may do.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::{CallerConfig, Config, Role};
use crate::error::{Error, Reason, Result};
use crate::rates::Pace;
use crate::secret;
use crate::service::{App, Service};

/// How every caller key begins, so that secret scanners know one.
pub const CALLER_KEY_PREFIX: &str = "tidkey_";

/// A backend that calls.
pub(super) struct Caller {
    pub name: String,
    pub app: Arc<App>,
    roles: BTreeSet<Role>,
    /// How often it may call, if that is limited.
    pub pace: Option<Pace>,
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

/// Everybody who may call.
#[derive(Clone)]
pub struct Callers(Arc<Known>);

enum Known {
    /// Nobody is configured: whoever reaches the (loopback) listener.
    Anybody(Arc<Caller>),
    /// By SHA-256 of the key.
    ByKey(HashMap<[u8; 32], Arc<Caller>>),
}

impl Callers {
    /// The callers that the configuration names.
    #[must_use]
    pub fn new(config: &Config, service: &Service) -> Self {
        let caller = |caller: &CallerConfig| {
            let app = Arc::clone(&service.apps[&caller.app]);
            let rate = caller.rate.or(config.limits.caller);
            let pace = rate.map(|rate| Pace::new(rate.per_second, rate.burst));
            Arc::new(Caller { name: caller.name.clone(), app, roles: caller.roles.clone(), pace })
        };
        if config.is_open() {
            let local = CallerConfig {
                name: "local".to_owned(),
                // Without callers there is exactly one app; the configuration says so.
                app: config.apps[0].id.clone(),
                roles: Role::ALL.into(),
                key_sha256: Vec::new(),
                rate: None,
            };
            return Self(Arc::new(Known::Anybody(caller(&local))));
        }
        let mut by_key = HashMap::new();
        for configured in &config.callers {
            let caller = caller(configured);
            by_key.extend(configured.key_sha256.iter().map(|key| (*key, Arc::clone(&caller))));
        }
        Self(Arc::new(Known::ByKey(by_key)))
    }

    /// The caller behind a call's `authorization: Bearer KEY`. Looked up by
    /// hash, so that no comparison tells how near a guess came.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        match &*self.0 {
            Known::Anybody(local) => Some(Arc::clone(local)),
            Known::ByKey(by_key) => {
                let mut values = headers.get_all(AUTHORIZATION).iter();
                let (value, None) = (values.next()?, values.next()) else { return None };
                let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return None;
                }
                by_key.get(key_hash(key).as_slice()).cloned()
            }
        }
    }
}

fn key_hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

/// Makes a caller key: what the caller sends, and the hash that the
/// configuration holds. The last six characters are a checksum, so that a typo
/// is told from a stranger.
#[must_use]
pub fn new_caller_key() -> (String, String) {
    let secret = URL_SAFE_NO_PAD.encode(secret::random::<32>());
    let checksum = crc32fast::hash(secret.as_bytes()).to_be_bytes();
    let key = format!("{CALLER_KEY_PREFIX}{secret}{}", URL_SAFE_NO_PAD.encode(checksum));
    let hash = secret::hex(&key_hash(&key));
    (key, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_long_recognisable_and_hashed_as_it_is_sent() {
        let (key, hash) = new_caller_key();
        assert!(key.starts_with(CALLER_KEY_PREFIX));
        assert_eq!(key.len(), CALLER_KEY_PREFIX.len() + 43 + 6);
        assert_eq!(hash.len(), 64);
        assert_ne!(key, new_caller_key().0);
    }
}
