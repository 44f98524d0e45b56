//! Time comes in from outside, so that sixty days pass in a test in a second.
//!
//! This file alone reads the system's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;

/// Tells the time. Never earlier than what it told before by more than the
/// system's own clock is corrected.
pub trait Clock: Send + Sync + 'static {
    /// The present moment, in UTC, to the microsecond (what Postgres keeps).
    fn now(&self) -> OffsetDateTime;

    /// Whether it can be compared with another machine's.
    fn is_real(&self) -> bool {
        true
    }
}

/// The system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> OffsetDateTime {
        to_microseconds(OffsetDateTime::now_utc())
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: OffsetDateTime) -> Self {
        Self(AtomicI64::new(unix_microseconds(start)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        let nanoseconds = i128::from(self.0.load(Ordering::SeqCst)) * 1000;
        OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn is_real(&self) -> bool {
        false
    }
}

/// The system's clock, ahead by what somebody has let pass: for `dev`, where sixty
/// days are a button. It goes on by itself and is never put back.
#[derive(Debug, Default)]
pub struct TravellingClock(AtomicI64);

impl TravellingClock {
    /// A clock that is ahead by this much already.
    #[must_use]
    pub fn new(ahead: Duration) -> Self {
        let clock = Self::default();
        clock.advance(ahead);
        clock
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// By how much it is ahead.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
}

impl Clock for TravellingClock {
    fn now(&self) -> OffsetDateTime {
        let now = SystemClock.now();
        now.checked_add(time::Duration::microseconds(self.0.load(Ordering::SeqCst))).unwrap_or(now)
    }

    fn is_real(&self) -> bool {
        self.ahead().is_zero()
    }
}

fn to_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_microsecond(time.microsecond()).unwrap_or(time)
}

fn unix_microseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// Unix milliseconds, as sealed values keep times.
#[must_use]
pub fn unix_milliseconds(time: OffsetDateTime) -> i64 {
    unix_microseconds(time) / 1000
}

/// The reverse of [`unix_milliseconds`]; `None` outside the years that exist.
#[must_use]
pub fn from_unix_milliseconds(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}
