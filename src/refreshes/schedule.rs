//! When to refresh, and when to try again.

use std::time::Duration;

use time::OffsetDateTime;

use crate::ids::AccountId;
use crate::secret::sha256;

/// The most by which a refresh is moved from the middle of a token's life, so
/// that those who linked on one day do not come back on one day for ever.
const JITTER_MAX: Duration = Duration::from_hours(10 * 24);
/// The wait after a failed attempt, by how many have failed in a row.
const WAITS: [Duration; 4] =
    [Duration::from_mins(1), Duration::from_mins(5), Duration::from_mins(15), Duration::from_hours(1)];

/// When a token is due: half-way between the time at which it was obtained and
/// the one at which it dies, give or take ten days (of sixty; less of a shorter
/// life), but never before it is old enough.
#[must_use]
pub fn due_time(
    id: AccountId,
    refresh_time: OffsetDateTime,
    expire_time: OffsetDateTime,
    minimum_age: Duration,
) -> OffsetDateTime {
    let lifetime = Duration::try_from(expire_time - refresh_time).unwrap_or_default();
    let jitter = JITTER_MAX.min(lifetime / 6);
    let due = refresh_time + lifetime / 2 - jitter + jitter.mul_f64(2.0 * fraction(id, refresh_time));
    due.max(refresh_time + minimum_age)
}

/// When to try again after the attempt with this number, counted from one, has
/// failed: later each time, and some of them earlier than others.
#[must_use]
pub fn retry_time(id: AccountId, attempts: i32, now: OffsetDateTime) -> OffsetDateTime {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(WAITS.len() - 1);
    now + spread(WAITS[place], id, now)
}

/// A wait made longer by up to a fifth, so that those who wait for the same thing
/// do not come back at the same moment.
#[must_use]
pub fn spread(wait: Duration, id: AccountId, now: OffsetDateTime) -> Duration {
    wait + (wait / 5).mul_f64(fraction(id, now))
}

/// A number from 0 to 1 that is as good as drawn by lot for this account at this
/// time, and the same whoever draws.
fn fraction(id: AccountId, time: OffsetDateTime) -> f64 {
    let hash = sha256(&[b"refresh jitter", id.0.as_bytes(), &time.unix_timestamp_nanos().to_be_bytes()]);
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&hash[..4]);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-03-01 12:00:00 UTC);
    const DAY: Duration = Duration::from_hours(24);
    const AGE: Duration = Duration::from_hours(25);

    fn account(n: u128) -> AccountId {
        AccountId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn a_token_is_due_in_the_middle_of_its_life_give_or_take_ten_days() {
        let mut days = Vec::new();
        for n in 0..1000 {
            let due = due_time(account(n), START, START + 60 * DAY, AGE);
            assert_eq!(due, due_time(account(n), START, START + 60 * DAY, AGE), "drawn once");
            days.push((due - START).as_seconds_f64() / DAY.as_secs_f64());
        }
        assert!(days.iter().all(|day| (20.0..=40.0).contains(day)));
        let mean = days.iter().sum::<f64>() / 1000.0;
        assert!((29.0..31.0).contains(&mean), "{mean}");
        assert!(days.iter().any(|day| *day < 21.0) && days.iter().any(|day| *day > 39.0));
    }

    #[test]
    fn a_short_life_has_a_small_jitter_and_youth_is_waited_for() {
        for n in 0..100 {
            let due = due_time(account(n), START, START + 6 * DAY, AGE);
            assert!((2 * DAY..=4 * DAY).contains(&Duration::try_from(due - START).unwrap()));
            assert_eq!(due_time(account(n), START, START + DAY, AGE), START + AGE);
            assert_eq!(due_time(account(n), START, START - DAY, AGE), START + AGE);
        }
    }

    #[test]
    fn the_waits_grow_to_an_hour() {
        let wait = |attempts| Duration::try_from(retry_time(account(1), attempts, START) - START).unwrap();
        for (attempts, minutes) in [(0, 1), (1, 1), (2, 5), (3, 15), (4, 60), (5, 60), (i32::MAX, 60)] {
            let shortest = Duration::from_mins(minutes);
            assert!((shortest..=shortest * 6 / 5).contains(&wait(attempts)), "{attempts}");
        }
    }
}
