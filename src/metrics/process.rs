//! What belongs to the process, and not to one service in it: logs and traces.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Spans that the collector has taken.
pub static SPANS_EXPORTED: AtomicU64 = AtomicU64::new(0);
/// Spans that were dropped: the queue was full, or the collector did not take them.
pub static SPANS_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Tells how many log lines were dropped. Set once, by whoever writes them.
pub static LOG_LINES_DROPPED: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>> = OnceLock::new();

/// Reads them when somebody asks for the metrics.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let lines = LOG_LINES_DROPPED.get().map_or(0, |dropped| dropped());
        for (name, help, value) in [
            ("log_lines_dropped", "Log lines dropped because those before had not been read", lines),
            ("spans_exported", "Spans that the collector has taken", SPANS_EXPORTED.load(Ordering::Relaxed)),
            (
                "spans_dropped",
                "Spans dropped because the collector did not take them or those before",
                SPANS_DROPPED.load(Ordering::Relaxed),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }
}
