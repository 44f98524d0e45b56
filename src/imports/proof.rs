//! Whether a token works, and how old it is.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::Entry;
use crate::ids::AccountId;
use crate::profile::Profile;
use crate::refreshes::schedule::due_time;
use crate::secret::AccessToken;
use crate::service::{App, Service};
use crate::states::StateReason;
use crate::store::imports::ProvenToken;
use crate::threads::Failure;

/// How long Threads is asked about one row.
const ASK_MAX: Duration = Duration::from_secs(30);
/// What a short-lived token lives.
const SHORT_LIFETIME: Duration = Duration::from_hours(1);
/// What a long-lived one lives at most.
const LONG_LIFETIME: Duration = Duration::from_hours(60 * 24);

/// What Threads says of a token.
pub(super) enum Proof {
    /// It works, for this person.
    Works(Box<Proven>),
    /// It works no more.
    Dead(StateReason),
    /// It works for somebody else.
    OtherPerson,
    /// Nothing.
    Silent(Failure),
}

/// A token that works, and its ages.
#[derive(Clone)]
pub(super) struct Proven {
    token: AccessToken,
    times: Times,
    profile: Profile,
}

impl Proven {
    /// As it is stored.
    pub fn sealed(&self, service: &Service, app: &App, id: AccountId) -> ProvenToken {
        ProvenToken {
            sealed: service.seal_token(app, id, &self.token),
            expire_time: self.times.expire,
            refresh_time: self.times.issue,
            next_refresh_time: self.times.due,
            profile: self.profile.clone(),
        }
    }
}

/// Reads the profile behind a token. One that may be short-lived is then exchanged,
/// unless this is only a trial.
pub(super) async fn prove(service: &Service, app: &App, entry: &Entry, is_trial: bool) -> Proof {
    let Some(token) = &entry.token else { return Proof::Dead(StateReason::TokenExpired) };
    let deadline = Instant::now() + ASK_MAX;
    let profile = match app.threads.me(token, deadline).await {
        Ok(me) if me.profile.id == entry.threads_user_id => me.profile,
        Ok(_) => return Proof::OtherPerson,
        Err(failure) => return failure.strike().map_or(Proof::Silent(failure), Proof::Dead),
    };
    let minimum_age = service.refresh.minimum_age;
    let known = Times::of(entry, service.clock.now(), minimum_age);
    if known.may_be_short && !is_trial {
        match app.threads.extend(token, deadline).await {
            Ok(long) => {
                let now = service.clock.now();
                let times = Times::known(entry.id, now, now + long.lifetime, minimum_age);
                return Proof::Works(Box::new(Proven { token: long.token, times, profile }));
            }
            Err(failure) if failure.is_passing() || failure.retry_after.is_some() => {
                return Proof::Silent(failure);
            }
            // It is long-lived already, or cannot become so: it works, and its age decides.
            Err(_) => {}
        }
    }
    Proof::Works(Box::new(Proven { token: token.clone(), times: known, profile }))
}

/// When a token was issued, dies and is to be refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    issue: OffsetDateTime,
    expire: OffsetDateTime,
    due: OffsetDateTime,
    /// Whether it may be one that lives an hour, as a code gives it.
    may_be_short: bool,
}

impl Times {
    fn known(id: AccountId, issue: OffsetDateTime, expire: OffsetDateTime, minimum_age: Duration) -> Self {
        Self { issue, expire, due: due_time(id, issue, expire, minimum_age), may_be_short: false }
    }

    /// Of a token that was just seen to work. An expiry that has passed is as good as
    /// none; without one the token is refreshed once, as soon as it is old enough,
    /// and from then on is known.
    fn of(entry: &Entry, now: OffsetDateTime, minimum_age: Duration) -> Self {
        let latest = entry.issue_time.unwrap_or(now) + LONG_LIFETIME;
        let known = entry.expire_time.map(|expire| expire.min(latest)).filter(|expire| *expire > now);
        if let Some(expire) = known {
            let issue = entry.issue_time.unwrap_or_else(|| (expire - LONG_LIFETIME).min(now));
            let lives_short = entry.issue_time.is_none_or(|issue| expire - issue <= SHORT_LIFETIME);
            let may_be_short = expire - now <= SHORT_LIFETIME && lives_short;
            return Self { may_be_short, ..Self::known(entry.id, issue, expire, minimum_age) };
        }
        // Older than sixty days it would not work: somebody refreshed it and did not write it down.
        let issue = match entry.issue_time {
            Some(issue) if issue + LONG_LIFETIME <= now => now - minimum_age,
            issue => issue.unwrap_or(now),
        };
        let may_be_short = entry.issue_time.is_none_or(|issue| now - issue <= SHORT_LIFETIME);
        Self { issue, expire: issue + LONG_LIFETIME, due: (issue + minimum_age).max(now), may_be_short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ThreadsUserId;
    use crate::imports::Told;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00 UTC);
    const DAY: Duration = Duration::from_hours(24);
    const AGE: Duration = Duration::from_hours(25);

    fn times(issue_time: Option<OffsetDateTime>, expire_time: Option<OffsetDateTime>) -> Times {
        let entry = Entry {
            told: Told::default(),
            id: AccountId(uuid::Uuid::from_u128(1)),
            threads_user_id: ThreadsUserId::parse("1").unwrap(),
            token: None,
            expire_time,
            issue_time,
            begin_time: NOW,
            authorize_time: NOW,
            scopes: Vec::new(),
            state_reason: None,
        };
        Times::of(&entry, NOW, AGE)
    }

    #[test]
    fn a_known_expiry_tells_the_age_and_is_never_more_than_sixty_days_away() {
        let known = times(None, Some(NOW + 20 * DAY));
        assert_eq!((known.issue, known.expire, known.may_be_short), (NOW - 40 * DAY, NOW + 20 * DAY, false));
        assert_eq!(times(None, Some(NOW + 400 * DAY)).expire, NOW + LONG_LIFETIME);
        assert_eq!(times(Some(NOW - 10 * DAY), Some(NOW + 400 * DAY)).expire, NOW + 50 * DAY);
        assert!(known.due >= known.issue + AGE);
    }

    #[test]
    fn without_an_expiry_it_is_refreshed_once_as_soon_as_it_is_old_enough() {
        let unknown = times(None, None);
        assert_eq!((unknown.issue, unknown.due, unknown.may_be_short), (NOW, NOW + AGE, true));
        let young = times(Some(NOW - Duration::from_hours(5)), None);
        assert_eq!((young.due, young.may_be_short), (NOW + Duration::from_hours(20), false));
        let old = times(Some(NOW - 30 * DAY), None);
        assert_eq!((old.due, old.expire), (NOW, NOW + 30 * DAY));
        let ancient = times(Some(NOW - 90 * DAY), Some(NOW - 30 * DAY));
        assert_eq!((ancient.due, ancient.expire > NOW), (NOW, true));
    }

    #[test]
    fn one_that_lives_an_hour_is_told_by_its_expiry_or_its_youth() {
        let soon = NOW + Duration::from_mins(40);
        assert!(times(None, Some(soon)).may_be_short);
        assert!(times(Some(NOW - Duration::from_mins(20)), Some(soon)).may_be_short);
        assert!(!times(Some(NOW - 59 * DAY), Some(soon)).may_be_short, "the last hour of a long life");
        assert!(times(Some(NOW - Duration::from_mins(20)), None).may_be_short);
    }
}
