//! `[refresh]`: how tokens are kept alive.

use std::time::Duration;

use super::section::Section;

/// `[refresh]`: how tokens are kept alive. The defaults are Threads' rules with a
/// margin; tests of several processes shorten them.
#[derive(Debug, Clone, Copy)]
pub struct Refresh {
    /// `enabled`, default true: whether this replica refreshes what is due. One
    /// that does not still refreshes a token that a caller asks for.
    pub enabled: bool,
    /// `minimum_age`, default 25 h: a younger token is never refreshed. Threads
    /// refuses one younger than 24 h.
    pub minimum_age: Duration,
    /// `poll_interval`, default 5 s: how often this replica looks for what is due.
    pub poll_interval: Duration,
    /// `concurrency`, default 16: the most refreshes at once for each app.
    pub concurrency: usize,
    /// `lease`, default 60 s: how long an account is left to whoever tries. What a
    /// replica that died or froze costs.
    pub lease: Duration,
    /// `attempt_timeout`, default 40 s: the longest that one attempt takes. Shorter
    /// than the lease.
    pub attempt_timeout: Duration,
    /// `strike_interval`, default 10 min: how far apart Threads must refuse twice
    /// before an account is taken for lost.
    pub strike_interval: Duration,
    /// `failing_after`, default 24 h: for how long attempts fail before those who
    /// watch are told.
    pub failing_after: Duration,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            enabled: true,
            minimum_age: Duration::from_hours(25),
            poll_interval: Duration::from_secs(5),
            concurrency: 16,
            lease: Duration::from_mins(1),
            attempt_timeout: Duration::from_secs(40),
            strike_interval: Duration::from_mins(10),
            failing_after: Duration::from_hours(24),
        }
    }
}

impl Refresh {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let concurrency = section.integer("concurrency", 16, 1..=1000);
        let read = Self {
            enabled: section.boolean("enabled", default.enabled),
            minimum_age: section.duration("minimum_age", default.minimum_age),
            poll_interval: section.duration("poll_interval", default.poll_interval),
            concurrency: usize::try_from(concurrency).unwrap_or(default.concurrency),
            lease: section.duration("lease", default.lease),
            attempt_timeout: section.duration("attempt_timeout", default.attempt_timeout),
            strike_interval: section.duration("strike_interval", default.strike_interval),
            failing_after: section.duration("failing_after", default.failing_after),
        };
        if read.attempt_timeout >= read.lease {
            section.problem(
                "attempt_timeout",
                "must be shorter than refresh.lease, so that no two replicas try at once",
            );
        }
        section.finish();
        read
    }
}
