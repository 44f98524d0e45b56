//! How often somebody may: so many at once, and then so many a second (the generic
//! cell rate algorithm). In this process alone: each replica counts for itself.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

fn quota(per_second: NonZeroU32, burst: NonZeroU32) -> Quota {
    Quota::per_second(per_second).allow_burst(burst)
}

fn wait<C: Clock>(clock: &C, not_until: &NotUntil<C::Instant>) -> Duration {
    not_until.wait_time_from(clock.now())
}

/// How often one may.
pub struct Pace {
    clock: MonotonicClock,
    limiter: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>,
}

impl Pace {
    /// Lets through `burst` at once, and then `per_second`.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let limiter = RateLimiter::direct_with_clock(quota(per_second, burst), MonotonicClock);
        Self { clock: MonotonicClock, limiter }
    }

    /// Counts one in.
    ///
    /// # Errors
    /// If it is one too many: how long to wait.
    pub fn admit(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_until| wait(&self.clock, &not_until))
    }
}

type Limiter<K, C> = RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// How often each of many may.
pub struct Paces<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    clock: C,
    quota: Quota,
    /// How many are remembered.
    remembered_max: usize,
    limiter: ArcSwap<Limiter<K, C>>,
    sweeping: AtomicBool,
}

impl<K: Hash + Eq + Clone> Paces<K> {
    /// Lets each through `burst` times at once, and then `per_second`. Remembers
    /// about `remembered_max`; when that many have come at once, all begin anew:
    /// whoever comes from more places than this could ask so often anyhow.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32, remembered_max: usize) -> Self {
        Self::with_clock(per_second, burst, remembered_max, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Paces<K, C> {
    fn with_clock(per_second: NonZeroU32, burst: NonZeroU32, remembered_max: usize, clock: C) -> Self {
        let quota = quota(per_second, burst);
        let limiter = ArcSwap::from_pointee(RateLimiter::hashmap_with_clock(quota, clock.clone()));
        Self { clock, quota, remembered_max, limiter, sweeping: AtomicBool::new(false) }
    }

    /// Counts one in.
    ///
    /// # Errors
    /// If it is one too many: how long to wait.
    pub fn admit(&self, key: &K) -> Result<(), Duration> {
        let limiter = self.limiter.load();
        if limiter.len() >= self.remembered_max && !self.sweeping.swap(true, Ordering::Acquire) {
            limiter.retain_recent();
            if limiter.len() >= self.remembered_max {
                self.limiter.store(RateLimiter::hashmap_with_clock(self.quota, self.clock.clone()).into());
            }
            self.sweeping.store(false, Ordering::Release);
        }
        let limiter = self.limiter.load();
        limiter.check_key(key).map_err(|not_until| wait(&self.clock, &not_until))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;
    const SECOND: Duration = Duration::from_secs(1);

    fn paces(burst: u32, remembered_max: usize) -> (Paces<u32, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let burst = NonZeroU32::new(burst).unwrap();
        (Paces::with_clock(ONE, burst, remembered_max, clock.clone()), clock)
    }

    #[test]
    fn each_has_its_burst_and_then_one_a_second() {
        let (paces, clock) = paces(60, 100);
        assert!((0..60).all(|_| paces.admit(&1).is_ok()));
        assert_eq!(paces.admit(&1), Err(SECOND));
        assert_eq!(paces.admit(&2), Ok(()), "another is another");
        clock.advance(Duration::from_millis(999));
        assert_eq!(paces.admit(&1), Err(Duration::from_millis(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!(paces.admit(&1), Ok(()));
        assert_eq!(paces.admit(&1), Err(SECOND));
        clock.advance(Duration::from_hours(1000));
        assert_eq!((0..100).filter(|_| paces.admit(&1).is_ok()).count(), 60);
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let (paces, clock) = paces(1, 100);
        for key in 0..1000 {
            assert_eq!(paces.admit(&key), Ok(()));
            assert!(paces.limiter.load().len() <= 100, "{key}");
        }
        // Whoever has been idle makes room for the others, who stay remembered.
        let (paces, clock_2) = (paces, clock);
        clock_2.advance(10 * SECOND);
        assert_eq!(paces.admit(&5000), Ok(()));
        assert!((5001..5050).all(|key| paces.admit(&key).is_ok()));
        assert!(paces.admit(&5000).is_err());
    }

    #[test]
    fn a_pace_lets_its_burst_through_and_then_says_how_long_to_wait() {
        let pace = Pace::new(ONE, NonZeroU32::new(3).unwrap());
        assert!((0..3).all(|_| pace.admit().is_ok()));
        let wait = pace.admit().unwrap_err();
        assert!(wait > Duration::ZERO && wait <= SECOND, "{wait:?}");
    }
}
