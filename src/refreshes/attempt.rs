//! What an attempt does: refresh, prove, look again or check, and write back what
//! came of it.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::schedule;
use crate::error::{Error, Reason, Result};
use crate::ids::AccountId;
use crate::secret::AccessToken;
use crate::service::{App, Service};
use crate::states::StateReason;
use crate::store::StoreError;
use crate::store::refreshes::{Failing, Held, Strike, refresh_soon};
use crate::store::settlements::{Settlement, TokenMove, Told};
use crate::threads::Failure;

/// How often the writing of a token that exists nowhere else is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// When a row that cannot be opened is looked at again.
const UNREADABLE_WAIT: Duration = Duration::from_mins(5);

/// An attempt under way.
pub(super) struct Attempt<'a> {
    pub service: &'a Service,
    pub app: &'a App,
    pub deadline: Instant,
}

impl Attempt<'_> {
    /// `works` says that Threads has just accepted the token.
    pub async fn renew(&self, mut held: Held, works: bool) -> Result<()> {
        let token = self.open(&held, &held.token).await?;
        let long = match self.app.threads.refresh(&token, self.deadline).await {
            Ok(long) => long,
            Err(failure) if works && failure.strike().is_some() => {
                return Err(self.refused_to_refresh(&held, failure).await);
            }
            Err(failure) => {
                let (id, attempt, is_unknown) = (held.id, held.attempt, failure.sent && !failure.answered);
                let error = self.refused(held, failure, TokenMove::Keep).await;
                // Before that nobody can have taken over, and an outage costs no statement more.
                if is_unknown && Instant::now() >= self.lease_end() {
                    self.overtaken(id, attempt).await;
                }
                return Err(error);
            }
        };
        let now = self.service.clock.now();
        let expire_time = now + long.lifetime;
        let sealed = self.service.seal_token(self.app, held.id, &long.token);
        let settlement = Settlement {
            token: TokenMove::Renew { sealed, expire_time },
            // Whoever comes after a crash proves it at once.
            next_refresh_time: now,
            // A refusal of before has been refuted: the new token has a life of its own.
            strike: None,
            keeps_lease: true,
            ..Settlement::unchanged(&held, now)
        };
        // The new token exists nowhere else: a database that is away for a moment
        // must not lose it.
        if !self.store_firmly(&settlement).await? {
            tracing::info!(account.id = %held.id, "a token was refreshed after the account had moved on");
            self.overtaken(held.id, held.attempt).await;
            return Ok(());
        }
        held.strike = None;
        held.previous_token = Some(std::mem::take(&mut held.token));
        (held.token_refresh_time, held.token_expire_time) = (now, expire_time);
        self.prove(held, &long.token).await
    }

    /// A refresh that outlived its lease may have reached Threads after that of whoever
    /// took over, and then the stored token is not the newest. Nothing tells which of
    /// the two is; both work, and the next refresh, which comes early, settles it.
    async fn overtaken(&self, id: AccountId, attempt: i64) {
        let Service { store, clock, refresh, .. } = self.service;
        let early = refresh_soon(&store.pool, id, attempt, refresh.minimum_age, clock.now()).await;
        if let Err(error) = early {
            tracing::warn!(account.id = %id, "an early refresh was not planned: {error}");
        }
    }

    /// Threads has refused once: whether the token works decides, not whether it can be
    /// refreshed, which its pages do not promise of a private profile's. What works
    /// is not ended before it dies.
    pub async fn look_again(&self, mut held: Held) -> Result<()> {
        let token = self.open(&held, &held.token).await?;
        let me = match self.app.threads.me(&token, self.deadline).await {
            Ok(me) => me,
            Err(failure) => return Err(self.refused(held, failure, TokenMove::Keep).await),
        };
        if me.profile.id != held.threads_user_id {
            return Err(self.quarantine(&held, TokenMove::Keep).await);
        }
        held.strike = None;
        self.renew(held, true).await
    }

    /// A refusal to refresh a token that has just been seen to work.
    async fn refused_to_refresh(&self, held: &Held, failure: Failure) -> Error {
        let now = self.service.clock.now();
        let failing = self.failing(held, now);
        let stored = self.store(Settlement {
            strike: None,
            failing: Some(failing),
            next_refresh_time: schedule::retry_time(held.id, failing.attempts, now),
            told: self.tells_of(held, failing),
            ..Settlement::unchanged(held, now)
        });
        match stored.await {
            // It lives, but no longer than it does.
            Ok(()) => Error::new(Reason::ProviderUnavailable).because(failure),
            Err(error) => error,
        }
    }

    pub async fn prove_stored(&self, held: Held) -> Result<()> {
        let token = self.open(&held, &held.token).await?;
        self.prove(held, &token).await
    }

    /// The profile behind the new token decides which of the two stays.
    async fn prove(&self, held: Held, token: &AccessToken) -> Result<()> {
        let me = match self.app.threads.me(token, self.deadline).await {
            Ok(me) => me,
            Err(failure) if failure.strike().is_some() && self.is_second(&held) => {
                return self.fall_back(held, failure).await;
            }
            Err(failure) => return Err(self.refused(held, failure, TokenMove::Keep).await),
        };
        if me.profile.id != held.threads_user_id {
            return Err(self.quarantine(&held, TokenMove::Restore).await);
        }
        let now = self.service.clock.now();
        let mut told = vec![Told::Refreshed];
        if held.failing.is_some_and(|failing| failing.told) {
            told.push(Told::Recovered);
        }
        self.store(Settlement {
            token: TokenMove::Prove,
            strike: None,
            failing: None,
            next_refresh_time: self.due_time(&held),
            profile: Some(me.profile),
            told,
            ..Settlement::unchanged(&held, now)
        })
        .await?;
        self.service.metrics.refresh_last_success.set(now.unix_timestamp());
        tracing::info!(account.id = %held.id, "refreshed a token");
        Ok(())
    }

    /// Threads has refused the new token twice: the one before it is put back, and
    /// asked whether it works.
    async fn fall_back(&self, mut held: Held, failure: Failure) -> Result<()> {
        let Some(previous) = held.previous_token.take() else {
            return Err(self.refused(held, failure, TokenMove::Keep).await);
        };
        let token = self.open(&held, &previous).await?;
        tracing::warn!(account.id = %held.id, "Threads refuses a refreshed token: back to the one before it");
        match self.app.threads.me(&token, self.deadline).await {
            Ok(me) if me.profile.id == held.threads_user_id => {
                let now = self.service.clock.now();
                let failing = self.failing(&held, now);
                self.store(Settlement {
                    token: TokenMove::Restore,
                    strike: None,
                    failing: Some(failing),
                    next_refresh_time: schedule::retry_time(held.id, failing.attempts, now),
                    profile: Some(me.profile),
                    told: self.tells_of(&held, failing),
                    ..Settlement::unchanged(&held, now)
                })
                .await?;
                Err(Error::from(failure))
            }
            Ok(_) => Err(self.quarantine(&held, TokenMove::Restore).await),
            // The strike that led here stands: refused as well, it was the second.
            Err(refusal) if refusal.strike().is_some() => {
                Err(self.refused(held, refusal, TokenMove::Restore).await)
            }
            Err(trouble) => Err(self.refused(held, trouble, TokenMove::Keep).await),
        }
    }

    /// Whether the token works, without refreshing it.
    pub async fn check(&self, held: Held) -> Result<()> {
        let token = self.open(&held, &held.token).await?;
        let me = match self.app.threads.me(&token, self.deadline).await {
            Ok(me) => me,
            Err(failure) => return Err(self.refused(held, failure, TokenMove::Keep).await),
        };
        if me.profile.id != held.threads_user_id {
            return Err(self.quarantine(&held, TokenMove::Keep).await);
        }
        let now = self.service.clock.now();
        // A strike is refuted; failures to refresh are not.
        let is_of_strike = |failing: &Failing| held.strike.is_some_and(|strike| failing.since >= strike.time);
        let failing = held.failing.filter(|failing| !is_of_strike(failing));
        let told = held.failing.is_some_and(|failing| failing.told) && failing.is_none();
        self.store(Settlement {
            strike: None,
            failing,
            next_refresh_time: self.due_time(&held).max(now),
            profile: Some(me.profile),
            told: if told { vec![Told::Recovered] } else { Vec::new() },
            ..Settlement::unchanged(&held, now)
        })
        .await
    }

    /// Threads answered for somebody else: the token it gave is destroyed, and what
    /// is left is not handed out any more.
    async fn quarantine(&self, held: &Held, token: TokenMove) -> Error {
        tracing::error!(account.id = %held.id, "a token answers for another person: the account is in quarantine");
        let stored = self
            .store(Settlement {
                token,
                ending: Some(StateReason::IdentityMismatch),
                strike: None,
                told: vec![Told::ReauthorizationRequired],
                ..Settlement::unchanged(held, self.service.clock.now())
            })
            .await;
        stored.err().unwrap_or_else(|| {
            Error::new(Reason::ReauthorizationRequired)
                .with("state_reason", StateReason::IdentityMismatch.as_str())
        })
    }

    /// Writes back a refusal of Threads, and makes of it what a caller is told.
    async fn refused(&self, held: Held, failure: Failure, token: TokenMove) -> Error {
        let now = self.service.clock.now();
        let failing = self.failing(&held, now);
        let mut settlement = Settlement {
            token,
            failing: Some(failing),
            next_refresh_time: schedule::retry_time(held.id, failing.attempts, now),
            told: self.tells_of(&held, failing),
            ..Settlement::unchanged(&held, now)
        };
        let error = if let Some(reason) = failure.strike() {
            self.strike(&held, reason, failure, &mut settlement)
        } else {
            if let Some(wait) = failure.retry_after {
                settlement.next_refresh_time = now + schedule::spread(wait, held.id, now);
            }
            Error::from(failure)
        };
        // What Threads said stays true if it cannot be written down.
        if let Err(unstored) = self.store(settlement).await {
            tracing::warn!(account.id = %held.id, "what came of an attempt was not stored: {unstored}");
        }
        error
    }

    /// The first refusal changes nothing but when to ask again; the second, long
    /// enough after it, ends the account's token.
    fn strike(&self, held: &Held, reason: StateReason, failure: Failure, into: &mut Settlement) -> Error {
        let (now, interval) = (into.now, self.service.refresh.strike_interval);
        if self.is_second(held) {
            into.ending = Some(reason);
            into.strike = None;
            into.told = vec![Told::ReauthorizationRequired];
            tracing::info!(account.id = %held.id, reason = reason.as_str(), "the person must consent again");
            return Error::from(failure);
        }
        let first = held.strike.unwrap_or(Strike { time: now, reason });
        into.strike = Some(Strike { reason, ..first });
        into.next_refresh_time = first.time + schedule::spread(interval, held.id, first.time);
        let wait = Duration::try_from(into.next_refresh_time - now).unwrap_or(interval);
        if reason == StateReason::PermissionLost {
            return Error::from(failure);
        }
        // Not condemned yet: Threads has been wrong before.
        Error::new(Reason::ProviderUnavailable).after(wait).because(failure)
    }

    fn is_second(&self, held: &Held) -> bool {
        let interval = self.service.refresh.strike_interval;
        held.strike.is_some_and(|strike| self.service.clock.now() - strike.time >= interval)
    }

    fn failing(&self, held: &Held, now: OffsetDateTime) -> Failing {
        let before = held.failing.unwrap_or(Failing { since: now, attempts: 0, told: false });
        Failing {
            attempts: before.attempts.saturating_add(1),
            told: before.told || now - before.since >= self.service.refresh.failing_after,
            ..before
        }
    }

    /// Those who watch are told of failures once.
    fn tells_of(&self, held: &Held, failing: Failing) -> Vec<Told> {
        if !failing.told || held.failing.is_some_and(|before| before.told) {
            return Vec::new();
        }
        let hours = self.service.refresh.failing_after.as_secs() / 3600;
        tracing::warn!(account.id = %held.id, hours, "refreshing has failed for long");
        vec![Told::Failing]
    }

    fn due_time(&self, held: &Held) -> OffsetDateTime {
        let minimum_age = self.service.refresh.minimum_age;
        schedule::due_time(held.id, held.token_refresh_time, held.token_expire_time, minimum_age)
    }

    /// Opens a token of the account. One that does not open is left for later: the
    /// key may be on its way to this replica.
    async fn open(&self, held: &Held, sealed: &[u8]) -> Result<AccessToken> {
        let opened = self.service.open_token(self.app, held.id, sealed);
        if let Err(error) = &opened {
            tracing::error!(account.id = %held.id, "a token to be refreshed does not open: {error}");
            let now = self.service.clock.now();
            let next_refresh_time = now + schedule::spread(UNREADABLE_WAIT, held.id, now);
            self.store(Settlement { next_refresh_time, ..Settlement::unchanged(held, now) }).await?;
        }
        opened
    }

    /// When the lease is over at the earliest: it was taken when the attempt began.
    fn lease_end(&self) -> Instant {
        let refresh = &self.service.refresh;
        self.deadline + refresh.lease.saturating_sub(refresh.attempt_timeout)
    }

    /// Stores what must not be lost, for as long as the lease holds. Tells whether
    /// the attempt was still the account's own.
    async fn store_firmly(&self, settlement: &Settlement) -> Result<bool> {
        let lease_end = self.lease_end();
        loop {
            match self.service.store.settlements.submit(settlement.clone()).await {
                Err(StoreError::Refused(why)) => return Err(StoreError::Refused(why).into()),
                Err(error) if Instant::now() + STORE_PAUSE >= lease_end => {
                    tracing::error!(account.id = %settlement.id, "a refreshed token could not be stored: {error}");
                    return Err(error.into());
                }
                Err(_) => sleep(STORE_PAUSE).await,
                Ok(held) => return Ok(held),
            }
        }
    }

    async fn store(&self, settlement: Settlement) -> Result<()> {
        let id = settlement.id;
        if !self.service.store.settlements.submit(settlement).await? {
            // Linked anew, unlinked, or somebody else's by now: theirs is newer.
            tracing::info!(account.id = %id, "an attempt ended after the account had moved on");
        }
        Ok(())
    }
}
