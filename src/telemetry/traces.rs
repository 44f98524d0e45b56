//! Traces, to a collector by OTLP over gRPC.
//!
//! A thread of its own exports what has ended, in batches; calls only put spans
//! into a bounded queue and never wait. What leaves has a name of ours, and no
//! attribute but those listed here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};

use crate::config::Telemetry;
use crate::metrics::process::{SPANS_DROPPED, SPANS_EXPORTED};

/// The most spans in one message to the collector.
const BATCH_MAX: usize = 512;
/// What may stand in an exported span. Nothing here is a person's or a secret.
const ATTRIBUTES: [&str; 8] = [
    "request.id",
    "rpc.method",
    "rpc.system",
    "caller",
    "reason",
    "threads.endpoint",
    "threads.result",
    "batch",
];

/// Makes what turns spans into traces. Must be called within the runtime; connects
/// when there is something to send.
///
/// # Errors
/// If the address or TLS cannot be set up.
pub(super) fn provider(config: &Telemetry, endpoint: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(config.export_timeout)
        .build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(config.queue_max)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(config.export_interval)
        .build();
    let exporter = Counting { inner: exporter, waiting: Arc::clone(&waiting) };
    let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio)));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("threads-identity").with_attribute(version).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_span_processor(Outgoing { inner, waiting, queue_max: config.queue_max })
        .build())
}

/// What every span passes on its way out.
#[derive(Debug)]
struct Outgoing {
    inner: BatchSpanProcessor,
    /// Spans that have ended and are not being sent yet.
    waiting: Arc<AtomicUsize>,
    /// No more than the queue behind holds, so that nothing is dropped uncounted.
    queue_max: usize,
}

impl SpanProcessor for Outgoing {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            SPANS_DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shape(&mut span);
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Gives a span the name and the kind that collectors know, and takes away what is
/// not meant to leave.
fn shape(span: &mut SpanData) {
    span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
    let named = |key: &str| {
        span.attributes.iter().find(|found| found.key.as_str() == key).map(|found| found.value.to_string())
    };
    match span.name.as_ref() {
        "call" => {
            span.span_kind = SpanKind::Server;
            // Service and method, without the slash of the path (OpenTelemetry's
            // conventions for RPC).
            if let Some(method) = named("rpc.method") {
                span.name = method.trim_start_matches('/').to_owned().into();
            }
            span.attributes.push(KeyValue::new("rpc.system", "grpc"));
        }
        "threads" => {
            span.span_kind = SpanKind::Client;
            if let Some(endpoint) = named("threads.endpoint") {
                span.name = format!("threads {endpoint}").into();
            }
        }
        _ => {}
    }
}

/// Counts what the collector has taken and what it has not.
#[derive(Debug)]
struct Counting<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let done = self.inner.export(batch).await;
        let counter = if done.is_ok() { &SPANS_EXPORTED } else { &SPANS_DROPPED };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
