//! When an app had better not call Threads: a limit that Threads has set, a
//! usage that comes close to one, and trouble that a crowd of calls would make
//! worse.
//!
//! A gate belongs to one app in one process. Another replica learns of a limit by
//! one call of its own.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;

use crate::secret;

/// How long a limit of the whole app lasts when Threads does not say: by how
/// often it has been said in a row.
const PAUSES: [Duration; 4] =
    [Duration::from_mins(1), Duration::from_mins(5), Duration::from_mins(15), Duration::from_hours(1)];
/// From this much of a limit used, in percent, what can wait does.
const USAGE_HIGH: u64 = 80;
/// How long it waits after such an answer.
const USAGE_PAUSE: Duration = Duration::from_mins(5);
/// Over how long calls and answers are counted, and in which steps.
const WINDOW: Duration = Duration::from_mins(2);
const STEP: Duration = Duration::from_secs(10);
/// How many calls there may be for each one that Threads answered.
const CALLS_PER_ANSWER: f64 = 2.0;

/// The gate of one app.
#[derive(Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    limited_until: Option<OffsetDateTime>,
    /// How often in a row the whole app was told to slow down.
    limits: usize,
    busy_until: Option<OffsetDateTime>,
    counts: VecDeque<Count>,
}

/// Calls of one step of time.
struct Count {
    begin: OffsetDateTime,
    calls: f64,
    answers: f64,
}

impl Gate {
    /// How long the whole app must still be quiet.
    pub(super) fn pause(&self, now: OffsetDateTime) -> Option<Duration> {
        let until = self.lock().limited_until?;
        Duration::try_from(until - now).ok().filter(|left| !left.is_zero())
    }

    /// Whether what can wait should: Threads says that a limit is close.
    pub(super) fn is_busy(&self, now: OffsetDateTime) -> bool {
        self.lock().busy_until.is_some_and(|until| now < until)
    }

    /// Notes that Threads told the whole app to slow down, and answers for how
    /// long it will.
    pub(super) fn limited(&self, now: OffsetDateTime, hint: Option<Duration>) -> Duration {
        let mut state = self.lock();
        let pause = hint.unwrap_or(PAUSES[state.limits.min(PAUSES.len() - 1)]);
        // Calls that were under way together are told so together: that is once.
        if state.limited_until.is_none_or(|until| until <= now) {
            state.limits += 1;
        }
        let until = now + pause;
        state.limited_until = state.limited_until.max(Some(until));
        pause
    }

    /// Notes a call, and whether Threads answered it with anything that it meant.
    pub(super) fn called(&self, now: OffsetDateTime, is_answered: bool, is_limited: bool) {
        let mut state = self.lock();
        let count = state.count(now);
        count.calls += 1.0;
        count.answers += f64::from(u8::from(is_answered));
        // Not by the answer to a call that was sent before the limit was heard of.
        if is_answered && !is_limited && state.limited_until.is_none_or(|until| until <= now) {
            state.limits = 0;
        }
    }

    /// Notes how much of its limits the app has used, if an answer says so.
    pub(super) fn used(&self, now: OffsetDateTime, headers: &HeaderMap) {
        if usage(headers).is_some_and(|percent| percent >= USAGE_HIGH) {
            self.lock().busy_until = Some(now + USAGE_PAUSE);
        }
    }

    /// Whether a call that can wait may be made now. While Threads answers, always;
    /// the less it answers, the fewer: the client-side throttling of Google's "Site
    /// Reliability Engineering", chapter 21.
    pub(super) fn admits(&self, now: OffsetDateTime) -> bool {
        let mut state = self.lock();
        let (calls, answers) = state.totals(now);
        let refused = ((calls - CALLS_PER_ANSWER * answers) / (calls + 1.0)).max(0.0);
        let chance = f64::from(u32::from_be_bytes(secret::random())) / f64::from(u32::MAX);
        let admitted = chance >= refused;
        if !admitted {
            // Counted too: so many wished to.
            state.count(now).calls += 1.0;
        }
        admitted
    }

    /// Whether Threads has answered none of the calls of the last two minutes, of
    /// which there were some.
    pub(super) fn is_unanswered(&self, now: OffsetDateTime) -> bool {
        let (calls, answers) = self.lock().totals(now);
        calls > 0.0 && answers == 0.0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, now: OffsetDateTime) -> &mut Count {
        let is_current = |count: &Count| now >= count.begin && now - count.begin < STEP;
        if !self.counts.back().is_some_and(is_current) {
            self.counts.push_back(Count { begin: now, calls: 0.0, answers: 0.0 });
            // A clock that is set back must not keep what lies ahead for ever.
            self.counts.retain(|count| now >= count.begin && now - count.begin < WINDOW);
        }
        let last = self.counts.len() - 1;
        &mut self.counts[last]
    }

    fn totals(&self, now: OffsetDateTime) -> (f64, f64) {
        let recent = self.counts.iter().filter(|count| now >= count.begin && now - count.begin < WINDOW);
        recent.fold((0.0, 0.0), |(calls, answers), count| (calls + count.calls, answers + count.answers))
    }
}

/// The largest percentage in the usage headers of the Graph API, none of which is
/// documented for Threads: developers.facebook.com/docs/graph-api/overview/rate-limiting
fn usage(headers: &HeaderMap) -> Option<u64> {
    const NAMES: [&str; 3] = ["call_count", "total_time", "total_cputime"];
    let read = |name: &str| serde_json::from_str::<Value>(headers.get(name)?.to_str().ok()?).ok();
    let percent = |entry: &Value| NAMES.iter().filter_map(|name| entry.get(name)?.as_u64()).max();
    let app = read("x-app-usage").and_then(|usage| percent(&usage));
    let business = read("x-business-use-case-usage");
    let lists = business.iter().filter_map(Value::as_object).flat_map(|map| map.values());
    let entries = lists.filter_map(Value::as_array).flatten();
    app.max(entries.filter_map(percent).max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00:00 UTC);

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_limit_lasts_as_long_as_threads_says_and_longer_each_time_when_it_does_not() {
        let gate = Gate::default();
        assert_eq!(gate.pause(NOW), None);
        let mut now = NOW;
        for minutes in [1, 5, 15, 60, 60] {
            let pause = Duration::from_mins(minutes);
            assert_eq!(gate.limited(now, None), pause);
            gate.called(now, true, true);
            // Another that was under way: no second step.
            gate.limited(now, Some(Duration::from_secs(1)));
            assert_eq!(gate.pause(now), Some(pause));
            now += pause;
            assert_eq!(gate.pause(now), None);
        }
        gate.called(now, true, false);
        assert_eq!(gate.limited(now, None), PAUSES[0], "an answer begins anew");
        assert_eq!(gate.limited(now, Some(Duration::from_mins(19))), Duration::from_mins(19));
        assert_eq!(gate.pause(now), Some(Duration::from_mins(19)));
    }

    #[test]
    fn usage_is_read_where_it_can_be() {
        for (name, value, expected) in [
            ("x-app-usage", r#"{"call_count":95,"total_time":2,"total_cputime":3}"#, Some(95)),
            ("x-app-usage", r#"{"total_cputime":80}"#, Some(80)),
            ("x-app-usage", "95", None),
            ("x-app-usage", "{", None),
            ("x-business-use-case-usage", r#"{"1":[{"call_count":12},{"total_time":85}]}"#, Some(85)),
            ("x-business-use-case-usage", "[]", None),
            ("retry-after", "1", None),
        ] {
            assert_eq!(usage(&headers(name, value)), expected, "{name}: {value}");
        }
        let gate = Gate::default();
        gate.used(NOW, &headers("x-app-usage", r#"{"call_count":79}"#));
        assert!(!gate.is_busy(NOW));
        gate.used(NOW, &headers("x-app-usage", r#"{"call_count":80}"#));
        assert!(gate.is_busy(NOW) && !gate.is_busy(NOW + USAGE_PAUSE));
    }

    #[test]
    fn who_is_answered_may_always_call_and_who_is_not_hardly_ever() {
        let gate = Gate::default();
        for _ in 0..1000 {
            assert!(gate.admits(NOW));
            gate.called(NOW, true, false);
        }
        let ill = Gate::default();
        let mut made = 0;
        for _ in 0..10_000 {
            if ill.admits(NOW) {
                made += 1;
                ill.called(NOW, false, false);
            }
        }
        // About one call in n for the n-th wish: the sum grows like the logarithm.
        assert!((1..100).contains(&made), "{made} calls of 10,000 were made");
        assert!(ill.admits(NOW + WINDOW), "after a while it is tried again");
    }
}
