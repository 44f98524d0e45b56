//! Logs, and traces for whoever has a collector. Logs go to standard error, so that
//! standard output stays free for results.

use std::io::IsTerminal as _;
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, Telemetry};
use crate::metrics::process::LOG_LINES_DROPPED;
use crate::trace;

mod fields;
mod traces;

/// How many log lines wait at most for whoever reads them.
const LINES_MAX: usize = 16_384;
/// How much longer than one export the last spans may take at the end.
const END_MARGIN: Duration = Duration::from_secs(1);

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging, for a command that ends by itself. `filter` is what `RUST_LOG`
/// says, if it says anything.
pub fn init(format: LogFormat, filter: Option<&str>, default: &str) {
    let logs = logs(format, filter_of(filter, default), std::io::stderr);
    // Only a second call in one process fails, and then logging runs already.
    let _ = tracing_subscriber::registry().with(logs).try_init();
}

/// Logs and traces of a process that serves.
#[must_use = "what has not been written is lost when this is dropped early"]
pub struct Running {
    lines: WorkerGuard,
    traces: Option<SdkTracerProvider>,
    patience: Duration,
}

/// Starts logging and, if a collector is configured, traces, for a process that
/// serves: neither a pipe that nobody reads nor a collector that does not answer
/// ever holds a call up. What is dropped meanwhile is counted. Must be called within
/// the runtime.
///
/// A panic is logged with its place alone: what it says could hold a value.
///
/// # Errors
/// If the collector's address or TLS cannot be set up.
pub fn serve(config: &Telemetry, filter: Option<&str>) -> Result<Running, ExporterBuildError> {
    let (writer, lines) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).finish(std::io::stderr());
    let dropped = writer.error_counter();
    let _ = LOG_LINES_DROPPED.set(Box::new(move || dropped.dropped_lines() as u64));
    let endpoint = config.otlp_endpoint.as_ref();
    let traces = endpoint.map(|endpoint| traces::provider(config, endpoint.as_str())).transpose()?;
    let mut layers = vec![logs(config.log_format, filter_of(filter, "info"), writer)];
    layers.extend(traces.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("threads-identity"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        layer.with_filter(filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO)).boxed()
    }));
    if tracing_subscriber::registry().with(layers).try_init().is_ok() && traces.is_some() {
        trace::switch_on();
    }
    panic::set_hook(Box::new(log_panic));
    Ok(Running { lines, traces, patience: config.export_timeout + END_MARGIN })
}

impl Running {
    /// Sends and writes what is left, within bounded time. Blocks: not to be called
    /// on a thread of the runtime.
    pub fn end(self) {
        if let Some(traces) = self.traces {
            // Whether the collector took them stands in the metrics.
            let _ = traces.shutdown_with_timeout(self.patience);
        }
        drop(self.lines);
    }
}

/// Logs where a thread has panicked. Not what it says: that could hold a value.
fn log_panic(panicked: &PanicHookInfo<'_>) {
    let place = panicked.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "a thread panicked");
}

fn filter_of(filter: Option<&str>, default: &str) -> EnvFilter {
    filter.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(default))
}

fn logs<W>(format: LogFormat, filter: EnvFilter, writer: W) -> Boxed
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    use tracing_subscriber::filter::FilterExt as _;

    let layer =
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(std::io::stderr().is_terminal());
    // Lines show the call that they belong to, not the parts of its trace.
    let filter = filter.and(filter_fn(|metadata| metadata.target() != trace::TARGET));
    match format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            let layer = layer.fmt_fields(fields::JsonFields);
            layer.with_filter(filter).boxed()
        }
        LogFormat::Text => layer.with_target(false).with_filter(filter).boxed(),
    }
}

/// Spans of calls and of their parts. No event is exported: logs have a way of
/// their own.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && (metadata.target() == trace::TARGET
            || (metadata.name() == "call" && metadata.target().starts_with("threads_identity::grpc")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn of_a_panic_the_place_is_logged_and_nothing_that_it_says() {
        let lines = Lines::default();
        let writer = lines.clone();
        let logs = logs(LogFormat::Json, EnvFilter::new("trace"), move || writer.clone());
        let before = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs), || {
            let secret = String::from("canary");
            panic::catch_unwind(|| panic!("it holds {secret}")).unwrap_err();
        });
        panic::set_hook(before);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("a thread panicked") && text.contains("src/telemetry.rs:"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_line_tells_what_is_known_of_its_call_as_it_is() {
        let lines = Lines::default();
        let writer = lines.clone();
        let logs = logs(LogFormat::Json, EnvFilter::new("trace"), move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs), || {
            let empty = tracing::info_span!("empty", later = tracing::field::Empty);
            let names = tracing::info_span!("call", r#type = "a\"\n\u{7}é", n = -1_i64, ok = true, empty = %"", id = tracing::field::Empty, count = tracing::field::Empty);
            names.in_scope(|| tracing::info!("first"));
            names.record("id", tracing::field::display("x\\y"));
            names.record("count", 7_u64);
            names.record("count", 8_u64);
            names.in_scope(|| tracing::info!("second"));
            empty.in_scope(|| tracing::info!("third"));
            empty.record("later", 0.5);
            empty.in_scope(|| tracing::info!("fourth"));
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let spans: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["span"].clone())
            .collect();
        let known =
            serde_json::json!({ "name": "call", "type": "a\"\n\u{7}é", "n": -1, "ok": true, "empty": "" });
        assert_eq!(spans[0], known);
        let mut more = known;
        more["id"] = "x\\y".into();
        more["count"] = 8.into();
        assert_eq!(spans[1], more);
        assert_eq!(spans[2], serde_json::json!({ "name": "empty" }));
        assert_eq!(spans[3], serde_json::json!({ "name": "empty", "later": 0.5 }));
    }

    #[test]
    fn without_a_collector_no_part_of_a_trace_is_made_at_any_level() {
        let logs = logs(LogFormat::Json, EnvFilter::new("trace"), std::io::sink);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs), || {
            assert!(tracing::info_span!(target: trace::TARGET, "batch").is_disabled());
            assert!(!tracing::info_span!("call").is_disabled());
        });
        assert!(!trace::is_on());
    }
}
