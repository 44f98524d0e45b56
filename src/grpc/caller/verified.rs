//! Tokens that have been checked, so that a caller that is busy costs one signature
//! per token and not one per call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use super::Caller;
use crate::issuers::Basis;

/// The most tokens that are remembered, some 2 MiB.
const TOKENS_MAX: usize = 10_000;

/// Tokens that have been checked, by their SHA-256.
#[derive(Default)]
pub(super) struct VerifiedTokens(Mutex<HashMap<[u8; 32], Entry>>);

struct Entry {
    caller: Arc<Caller>,
    until: OffsetDateTime,
    basis: Basis,
}

impl VerifiedTokens {
    /// The caller of a token that has been checked, while it is good and its issuer
    /// still has the keys that it was checked with.
    pub(super) fn get(&self, hash: &[u8; 32], now: OffsetDateTime) -> Option<Arc<Caller>> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = tokens.get(hash)?;
        if now < entry.until && entry.basis.holds() {
            return Some(Arc::clone(&entry.caller));
        }
        tokens.remove(hash);
        None
    }

    /// Remembers a token. When there are too many, those that are not good any more
    /// are forgotten, and if that makes no room, all: each then costs one check more.
    pub(super) fn put(
        &self,
        hash: [u8; 32],
        caller: &Arc<Caller>,
        until: OffsetDateTime,
        basis: Basis,
        now: OffsetDateTime,
    ) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, entry| now < entry.until && entry.basis.holds());
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(hash, Entry { caller: Arc::clone(caller), until, basis });
    }
}
