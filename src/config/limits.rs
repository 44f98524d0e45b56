//! `[limits]`: what is turned away, so that the rest is served.

use std::num::NonZeroU32;
use std::time::Duration;

use super::section::Section;

/// `[limits]`: what is turned away, so that the rest is served.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `streams_per_connection_max`, default 256: the most calls at once on one
    /// connection, watches included.
    pub streams_per_connection_max: u32,
    /// `header_bytes_max`, default 16,384: the longest list of headers.
    pub header_bytes_max: u32,
    /// `request_bytes_max`, default 65,536: the largest request. The largest
    /// legitimate one holds 200 ids.
    pub request_bytes_max: usize,
    /// `response_bytes_max`, default 4,194,304: the largest response; 200 profiles of
    /// 13 KiB and their overhead.
    pub response_bytes_max: usize,
    /// `calls_max`, default 1,024: the most calls that are answered at once; one more
    /// is OVERLOADED. Watches and health are not counted.
    pub calls_max: usize,
    /// `calls_per_caller_max`, default half of `calls_max`: the most calls of one
    /// caller at once, those included whose message is still on its way; one more is
    /// `CALLER_RATE_LIMITED`. Without callers there is no such limit.
    pub calls_per_caller_max: usize,
    /// `request_timeout`, default 5 s: how long the message of a call may be on its
    /// way once its head has come.
    pub request_timeout: Duration,
    /// `caller_rate` and `caller_burst`, default none: how often each caller may
    /// call that has no `rate` of its own.
    pub caller: Option<Rate>,
    /// The time that a call may take.
    pub deadlines: Deadlines,
}

/// So many at once, and then so many a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many a second.
    pub per_second: NonZeroU32,
    /// How many at once.
    pub burst: NonZeroU32,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// `deadline`, default 15 s: of a caller that sets none.
    pub usual: Duration,
    /// `deadline_max`, default 15 s: whatever the caller sets.
    pub max: Duration,
    /// `provider_deadline`, default 30 s: `deadline` of `CompleteAuthorization` and
    /// `FetchAccessToken`, which may have to call Threads.
    pub provider: Duration,
    /// `provider_deadline_max`, default 30 s: `deadline_max` of those.
    pub provider_max: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let (own, provider) = (Duration::from_secs(15), Duration::from_secs(30));
        Self { usual: own, max: own, provider, provider_max: provider }
    }
}

impl Limits {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Deadlines::default();
        let mut deadline = |key: &str, max: Duration| {
            let max_key = format!("{key}_max");
            let max = section.duration(&max_key, max);
            let usual = section.duration(key, max);
            if usual > max {
                section.problem(key, &format!("must not be longer than limits.{max_key}"));
            }
            (usual, max)
        };
        let (usual, max) = deadline("deadline", default.max);
        let (provider, provider_max) = deadline("provider_deadline", default.provider_max);
        let streams = section.integer("streams_per_connection_max", 256, 1..=100_000);
        let headers = section.integer("header_bytes_max", 16 * 1024, 4096..=1024 * 1024);
        let calls_max = section.integer("calls_max", 1024, 1..=1_000_000);
        let read = Self {
            streams_per_connection_max: u32::try_from(streams).unwrap_or(256),
            header_bytes_max: u32::try_from(headers).unwrap_or(16 * 1024),
            request_bytes_max: section.count("request_bytes_max", 64 * 1024, 16 * 1024..=64 * 1024 * 1024),
            response_bytes_max: section.count(
                "response_bytes_max",
                4 * 1024 * 1024,
                64 * 1024..=64 * 1024 * 1024,
            ),
            calls_max: usize::try_from(calls_max).unwrap_or(1024),
            calls_per_caller_max: section.count("calls_per_caller_max", (calls_max + 1) / 2, 1..=1_000_000),
            request_timeout: section.duration("request_timeout", Duration::from_secs(5)),
            caller: Rate::read(&mut section, "caller_rate", "caller_burst"),
            deadlines: Deadlines { usual, max, provider, provider_max },
        };
        section.finish();
        read
    }
}

impl Rate {
    /// Reads a rate and a burst. A rate alone lets through twice as many at once.
    pub(super) fn read(section: &mut Section<'_>, rate_key: &str, burst_key: &str) -> Option<Self> {
        let mut number = |key: &str| {
            let is_set = section.has(key);
            let number = section.integer(key, 1, 1..=1_000_000);
            is_set.then(|| u32::try_from(number).ok().and_then(NonZeroU32::new)).flatten()
        };
        let (rate, burst) = (number(rate_key), number(burst_key));
        if rate.is_none() && burst.is_some() {
            section.problem(burst_key, &format!("needs `{rate_key}`, how many a second come after it"));
        }
        rate.map(|per_second| Self {
            per_second,
            burst: burst.unwrap_or(per_second.saturating_add(per_second.get())),
        })
    }
}
