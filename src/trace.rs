//! Which calls are followed from outside, by W3C Trace Context.
//!
//! A span that is exported has the target [`TARGET`], or is the span `call` of the
//! gRPC edge; `telemetry` sends them to a collector. As long as traces are off,
//! such a span costs one look at a flag and is never made.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of spans that exist for traces alone. No log line shows them.
pub const TARGET: &str = "threads_identity::trace";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `00-` trace id `-` parent id `-` flags.
const TRACEPARENT_LEN: usize = 55;
/// A longer one is of no version that there could be.
const TRACEPARENT_MAX: usize = 256;

static ON: AtomicBool = AtomicBool::new(false);

/// Says that spans are exported from now on, for the whole process.
pub fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether spans are exported.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Makes a span that has just begun the child of what its caller names in
/// `traceparent`, if it names one, and notes the trace's id in the span's field
/// `trace.id` if the call is sampled.
///
/// What is malformed, repeated or oversize is ignored, as the specification wants.
/// `tracestate` is not taken over: it could hold anything.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if !is_on() {
        return;
    }
    let mut given = headers.get_all(TRACEPARENT).iter();
    if let (Some(value), None) = (given.next(), given.next())
        && let Some(parent) = value.to_str().ok().and_then(parse)
    {
        // Fails only for a span that nobody exports.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    if own.is_sampled() {
        span.record("trace.id", tracing::field::display(own.trace_id()));
    }
}

/// Notes in the current span how its call has ended.
pub fn note_end(reason: &'static str, is_our_failure: bool) {
    if !is_on() {
        return;
    }
    let span = Span::current();
    span.set_attribute("reason", reason);
    if is_our_failure {
        span.set_status(Status::error(""));
    }
}

/// Reads a `traceparent` (W3C Trace Context, 3.2): of version 00 exactly, of a
/// later one as far as this version goes.
fn parse(text: &str) -> Option<SpanContext> {
    let bytes = text.as_bytes();
    let later = bytes.get(TRACEPARENT_LEN);
    if bytes.len() > TRACEPARENT_MAX || !(later.is_none() || later == Some(&b'-')) {
        return None;
    }
    let hex = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(digits)
    };
    let (version, trace, parent, flags) = (hex(0, 2)?, hex(3, 35)?, hex(36, 52)?, hex(53, 55)?);
    if [2, 35, 52].iter().any(|at| bytes[*at] != b'-')
        || version == "ff"
        || (version == "00" && later.is_some())
    {
        return None;
    }
    let trace = TraceId::from(u128::from_str_radix(trace, 16).ok()?);
    let parent = SpanId::from(u64::from_str_radix(parent, 16).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace, parent, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_the_specification_writes_it() {
        let context = parse(GOOD).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
        assert!(!parse(&GOOD.replace("-01", "-fe")).unwrap().is_sampled());
        for later in [GOOD.replacen("00", "01", 1), format!("{}-anything", GOOD.replacen("00", "cc", 1))] {
            assert!(parse(&later).is_some(), "{later}");
        }
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "0af7651916cd43dd8448eb211c80319c",
            &GOOD[..54],
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0g", 1),
            &GOOD.replacen("00", "+1", 1),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("af", "AF"),
            &GOOD.replace("-01", "_01"),
            &GOOD.replace("-01", "-0"),
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &format!(" {GOOD}"),
            &format!("01{}-{}", &GOOD[2..], "x".repeat(TRACEPARENT_MAX)),
            &GOOD.replace("0af7", "\u{e4}f7"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
