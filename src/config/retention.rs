//! `[retention]`: how long what is over is kept.

use std::time::Duration;

use super::section::Section;

const DAY: Duration = Duration::from_hours(24);

/// The longest period: a hundred years, which no clock subtracts to before the
/// times that a database can hold.
const PERIOD_MAX: Duration = Duration::from_hours(36_500 * 24);
/// A code is good for an hour at Threads, and so is what is kept between its
/// exchange and the outcome: what keeps either from being used again must outlive
/// it.
const OUTLIVES_A_CODE: Duration = Duration::from_hours(2);
/// Longer than any transaction runs: what is removed is never still being written.
const OUTLIVES_A_WRITE: Duration = Duration::from_mins(1);

/// `[retention]`: how long what is over is kept. What is older is removed, and no
/// row before its time.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// `authorizations`, default 30 d after their end. Not longer than `unlinked`:
    /// they name users and accounts.
    pub authorizations: Duration,
    /// `events`, default 7 d: how far back a cursor of the change feed reaches.
    pub events: Duration,
    /// `audit`, default 400 d.
    pub audit: Duration,
    /// `codes`, default 24 h: for how long a code is known to have been used.
    pub codes: Duration,
    /// `unlinked`, default 30 d: after this an unlinked account is erased.
    pub unlinked: Duration,
    /// `erasures`, default 400 d: for how long it is known which accounts were
    /// erased. Longer than the oldest backup that would be put back.
    pub erasures: Duration,
    /// `deletion_requests`, default 180 d: for how long people who asked to be
    /// forgotten find what became of it.
    pub deletion_requests: Duration,
    /// `interval`, default 10 min: how often this replica looks for what is old.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            authorizations: 30 * DAY,
            events: 7 * DAY,
            audit: 400 * DAY,
            codes: DAY,
            unlinked: 30 * DAY,
            erasures: 400 * DAY,
            deletion_requests: 180 * DAY,
            interval: Duration::from_mins(10),
        }
    }
}

impl Retention {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let mut period = |key, default, least| period(&mut section, key, default, least);
        let read = Self {
            authorizations: period("authorizations", default.authorizations, OUTLIVES_A_CODE),
            events: period("events", default.events, OUTLIVES_A_WRITE),
            audit: period("audit", default.audit, OUTLIVES_A_WRITE),
            codes: period("codes", default.codes, OUTLIVES_A_CODE),
            unlinked: period("unlinked", default.unlinked, OUTLIVES_A_CODE),
            // A consent can be brought until its code and the token for it have died.
            erasures: period("erasures", default.erasures, OUTLIVES_A_CODE),
            deletion_requests: period("deletion_requests", default.deletion_requests, OUTLIVES_A_WRITE),
            interval: period("interval", default.interval, Duration::from_secs(1)),
        };
        if read.authorizations > read.unlinked {
            section.problem(
                "authorizations",
                "must not be longer than retention.unlinked: they name accounts that are erased then",
            );
        }
        section.finish();
        read
    }
}

fn period(section: &mut Section<'_>, key: &str, default: Duration, least: Duration) -> Duration {
    let period = section.duration(key, default);
    if period < least {
        section.problem(key, &format!("must be at least \"{}s\"", least.as_secs()));
    } else if period > PERIOD_MAX {
        section.problem(key, "must be at most \"36500d\"");
    }
    period
}
