//! `[telemetry]`: how log lines look, and where traces go.

use std::time::Duration;

use url::Url;

use super::section::Section;

/// The longest that an export may take or wait for the next.
const PERIOD_MAX: Duration = Duration::from_mins(5);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// `[telemetry]`: how `serve` logs, and traces for whoever has a collector. Without
/// one none are made.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `log_format`, default `json`; or `text`.
    pub log_format: LogFormat,
    /// `otlp_endpoint`: a collector that takes OTLP over gRPC, such as
    /// `http://127.0.0.1:4317`. Absent: no traces.
    pub otlp_endpoint: Option<Url>,
    /// `trace_ratio`, default 0.01: how many of the calls whose caller does not
    /// trace them are traced, from 0 to 1. A caller's own decision is followed.
    pub trace_ratio: f64,
    /// `queue_max`, default 2,048: spans that wait for the collector. What comes
    /// beyond is dropped and counted.
    pub queue_max: usize,
    /// `export_interval`, default 5 s: how long a span waits at most for others to
    /// travel with.
    pub export_interval: Duration,
    /// `export_timeout`, default 5 s: how long the collector may take for one
    /// batch. After that its spans are dropped and counted.
    pub export_timeout: Duration,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Json,
            otlp_endpoint: None,
            trace_ratio: 0.01,
            queue_max: 2048,
            export_interval: Duration::from_secs(5),
            export_timeout: Duration::from_secs(5),
        }
    }
}

impl Telemetry {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let log_format = match section.string("log_format").as_deref() {
            None => default.log_format,
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            Some(_) => {
                section.problem("log_format", "must be \"json\" or \"text\"");
                default.log_format
            }
        };
        let otlp_endpoint = read_endpoint(&mut section);
        let trace_ratio = section.fraction("trace_ratio", default.trace_ratio);
        let queue_max = section.integer("queue_max", 2048, 512..=1_000_000);
        let mut period = |key, default| {
            let period = section.duration(key, default);
            if period > PERIOD_MAX {
                section.problem(key, "must be at most \"5m\"");
            }
            period
        };
        let export_interval = period("export_interval", default.export_interval);
        let export_timeout = period("export_timeout", default.export_timeout);
        section.finish();
        Self {
            log_format,
            otlp_endpoint,
            trace_ratio,
            queue_max: usize::try_from(queue_max).unwrap_or(default.queue_max),
            export_interval,
            export_timeout,
        }
    }
}

/// The collector's address. Plain http is allowed: spans hold no secret, and a
/// collector usually stands beside the process.
fn read_endpoint(section: &mut Section<'_>) -> Option<Url> {
    const KEY: &str = "otlp_endpoint";
    let text = section.string(KEY)?;
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            if url.username().is_empty() && url.password().is_none() {
                return Some(url);
            }
            section.problem(KEY, "must have no user or password");
        }
        _ => section.problem(KEY, "must be an absolute URL, such as \"http://127.0.0.1:4317\""),
    }
    None
}
