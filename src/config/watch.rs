//! `[watch]`.

use std::time::Duration;

use super::section::Section;

/// `[watch]`: the streams of changes.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// `heartbeat`, default 20 s: how long a watch is silent at most.
    pub heartbeat: Duration,
    /// `send_timeout`, default 10 s: how long a watcher may take nothing while
    /// its queue is full.
    pub send_timeout: Duration,
    /// `poll_interval`, default 100 ms: how often the end of the table of events
    /// is looked at.
    pub poll_interval: Duration,
    /// `streams_max`, default 1,000: the most watches that one process serves.
    pub streams_max: i64,
}

impl Watch {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let heartbeat = section.duration("heartbeat", Duration::from_secs(20));
        let send_timeout = section.duration("send_timeout", Duration::from_secs(10));
        let poll_interval = section.duration("poll_interval", Duration::from_millis(100));
        let streams_max = section.integer("streams_max", 1000, 0..=100_000);
        section.finish();
        Self { heartbeat, send_timeout, poll_interval, streams_max }
    }
}
