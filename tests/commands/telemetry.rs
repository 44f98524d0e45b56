//! `serve`, seen from outside: traces, and what neither a collector nor a reader of
//! the log can do to calls.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use threads_identity::proto::v1::GetAccountRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::get_account_request::Account;
use threads_identity::simulator::Decision;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::collector::{Collector, attributes};
use crate::run::{PATIENCE, database, until};
use crate::serve::{Service, Setting};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A call with these `traceparent`s; its answer is a refusal.
async fn call(service: &Service, request_id: &str, traceparents: &[&str]) {
    let account = Some(Account::AccountId("0190b8f0-0000-8000-8000-000000000000".to_owned()));
    let mut request = service.request(GetAccountRequest { account, user_id: None });
    request.metadata_mut().insert("x-request-id", request_id.parse().unwrap());
    for traceparent in traceparents {
        request.metadata_mut().append("traceparent", traceparent.parse().unwrap());
    }
    let refused = AccountServiceClient::new(service.channel.clone()).get_account(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
}

fn hex(bytes: &[u8]) -> String {
    threads_identity::secret::hex(bytes)
}

fn traced(serve: &mut Command, endpoint: &str, ratio: &str) {
    serve
        .env("THREADS_IDENTITY__TELEMETRY__OTLP_ENDPOINT", endpoint)
        .env("THREADS_IDENTITY__TELEMETRY__TRACE_RATIO", ratio)
        .env("THREADS_IDENTITY__TELEMETRY__EXPORT_INTERVAL", "100ms")
        .env("THREADS_IDENTITY__TELEMETRY__EXPORT_TIMEOUT", "500ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_from_its_caller_down_to_threads_and_the_database() {
    let database = database().await;
    let setting = Setting::new("traces", database.url()).await;
    let (collector, address) = Collector::start().await;
    let mut serve = setting.serve();
    traced(&mut serve, &format!("http://{address}"), "0");
    serve.env("RUST_LOG", "debug,h2=info,hyper=info,hyper_util=info,tower=info");
    let mut service = Service::start(serve, &setting.key).await;

    // Of others' decisions none is overruled: not sampled is not traced.
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    call(&service, "unsampled", &[&unsampled]).await;
    // What is no traceparent is as if it were not there, and nobody's calls are sampled here.
    let good = format!("00-{TRACE}-{PARENT}-01");
    let long = format!("01-{TRACE}-{PARENT}-01-{}", "x".repeat(300));
    for (i, bad) in ["", "00", &good[1..], &good.to_uppercase(), &long].into_iter().enumerate() {
        call(&service, &format!("malformed-{i}"), &[bad]).await;
    }
    call(&service, "repeated", &[&good, &good]).await;
    call(&service, "none", &[]).await;

    let created = service.create("user-1").await;
    let callback_url =
        setting.simulator.controls().consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    service.complete_traced(&callback_url, "user-1", &good).await;
    let call_span = collector.span("of the call", |span| span.name.ends_with("/CompleteAuthorization")).await;
    assert_eq!(
        (hex(&call_span.trace_id), hex(&call_span.parent_span_id)),
        (TRACE.to_owned(), PARENT.to_owned())
    );
    assert_eq!(call_span.kind(), opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server);
    let told = attributes(&call_span);
    assert_eq!((told["caller"].as_str(), told["reason"].as_str()), ("web", "OK"));
    assert_eq!(told["rpc.system"], "grpc");
    for endpoint in ["code_exchange", "long_lived_exchange", "me"] {
        let span = collector.span(endpoint, |span| span.name == format!("threads {endpoint}")).await;
        assert_eq!(span.parent_span_id, call_span.span_id, "{span:?}");
        assert_eq!(attributes(&span)["threads.result"], "ok");
        assert_eq!(attributes(&span).len(), 2, "{span:?}");
    }
    let batch = collector.span("of a batch", |span| span.name == "batch").await;
    assert_eq!(batch.parent_span_id, call_span.span_id, "{batch:?}");

    service.running.signal("-TERM");
    assert_eq!(service.running.wait().code(), Some(0));
    // Nothing of the other calls; and what was made last is sent before the end.
    assert!(collector.spans().iter().all(|span| hex(&span.trace_id) == TRACE), "{:#?}", collector.spans());
    let ids = [
        "request.id",
        "rpc.method",
        "rpc.system",
        "caller",
        "reason",
        "threads.endpoint",
        "threads.result",
        "batch",
    ];
    for span in collector.spans() {
        assert!(attributes(&span).keys().all(|key| ids.contains(&key.as_str())), "{span:#?}");
        assert!(span.events.is_empty() && span.links.is_empty() && span.trace_state.is_empty(), "{span:#?}");
    }
    let lines: Vec<Value> =
        service.running.errors().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_call = |line: &&Value| line["span"]["name"] == "call";
    let with_trace: Vec<_> =
        lines.iter().filter(of_call).filter(|line| !line["span"]["trace.id"].is_null()).collect();
    assert!(!with_trace.is_empty(), "{lines:#?}");
    for line in with_trace {
        assert_eq!(line["span"]["trace.id"], TRACE, "{line}");
        assert!(line["span"]["rpc.method"].as_str().unwrap().ends_with("CompleteAuthorization"), "{line}");
    }
    let without = |id: &str| lines.iter().any(|line| line["span"]["request.id"] == id);
    for id in ["unsampled", "malformed-0", "malformed-4", "repeated", "none"] {
        assert!(without(id), "{id} is in no line");
    }
    assert!(lines.iter().all(|line| line["span"]["name"] != "batch" && line["span"]["name"] != "threads"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_without_a_traceparent_begins_a_trace_of_its_own() {
    let database = database().await;
    let setting = Setting::new("traces-own", database.url()).await;
    let (collector, address) = Collector::start().await;
    let mut serve = setting.serve();
    traced(&mut serve, &format!("http://{address}"), "1");
    let service = Service::start(serve, &setting.key).await;
    let bad = format!("00-{TRACE}-{}-01", "0".repeat(16));
    for (id, traceparents) in [("first", vec![]), ("second", vec![bad.as_str()])] {
        call(&service, id, &traceparents).await;
        let span =
            collector.span(id, |span| attributes(span).get("request.id").is_some_and(|own| own == id)).await;
        assert!(span.parent_span_id.is_empty() && hex(&span.trace_id) != TRACE, "{span:?}");
        assert_eq!(attributes(&span)["reason"], "ACCOUNT_NOT_FOUND");
    }
    until_metric(&service, "threads_identity_spans_exported_total", |n| n > 0).await;
    assert_eq!(metric(&service, "threads_identity_spans_dropped_total").await, 0);
}

async fn metric(service: &Service, name: &str) -> u64 {
    metric_at(&service.ops, name).await
}

async fn metric_at(ops: &str, name: &str) -> u64 {
    let text = reqwest::get(format!("http://{ops}/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

async fn until_metric(service: &Service, name: &str, fits: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits(metric(service, name).await) {
        assert!(Instant::now() < deadline, "{name} stays at {}", metric(service, name).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_does_not_answer_only_costs_spans() {
    // One where nobody listens, and one that takes connections and says nothing.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [nobody, silent.local_addr().unwrap()] {
        let database = database().await;
        let setting = Setting::new("traces-down", database.url()).await;
        let mut serve = setting.serve();
        traced(&mut serve, &format!("http://{address}"), "1");
        serve.env("THREADS_IDENTITY__TELEMETRY__QUEUE_MAX", "512");
        let mut service = Service::start(serve, &setting.key).await;
        for i in 0..1500 {
            call(&service, &format!("call-{i}"), &[]).await;
        }
        until_metric(&service, "threads_identity_spans_dropped_total", |dropped| dropped > 500).await;
        assert_eq!(metric(&service, "threads_identity_spans_exported_total").await, 0);
        service.running.signal("-TERM");
        assert_eq!(service.running.wait().code(), Some(0), "it ends all the same");
    }
}

/// A process whose standard error nobody reads.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_only_costs_lines() {
    let database = database().await;
    let setting = Setting::new("log-unread", database.url()).await;
    let mut serve = setting.serve();
    serve.env("RUST_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Unread(serve.spawn().unwrap());
    let mut first = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let places: Value = serde_json::from_str(&first).unwrap();
    let (grpc, ops) = (places["grpc"].as_str().unwrap(), places["ops"].as_str().unwrap());
    let channel: Channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
    let mut accounts = AccountServiceClient::new(channel);
    let mut dropped = 0;
    for i in 0..20_000 {
        let mut request = Request::new(GetAccountRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {}", setting.key).parse().unwrap());
        let refused = accounts.get_account(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        if i % 100 == 99 {
            dropped = metric_at(ops, "threads_identity_log_lines_dropped_total").await;
        }
        if dropped > 1000 {
            break;
        }
    }
    assert!(dropped > 1000, "the queue takes everything, or the pipe");
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut status = None;
    until("it has ended", || {
        status = process.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

/// Whoever owns the files of a process below `/proc` is root once it cannot be dumped.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn there_are_no_core_dumps_of_it() {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;

    let setting = Setting::new("no-core", "postgres://nobody@127.0.0.1:1/none").await;
    let mut serve = setting.serve();
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let user = if own == 0 { 65_534 } else { own };
    if own == 0 {
        // From where anybody may run it.
        let binary = setting.directory.path("threads-identity");
        std::fs::copy(serve.get_program(), &binary).unwrap();
        let mut other = crate::run::command_of(&binary, serve.get_args());
        other.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
        other.uid(user).gid(user);
        serve = other;
    }
    let before = std::fs::metadata("/proc/self/environ").unwrap().uid();
    assert_eq!(before, own, "this process can be dumped, and its files are its own");
    let running = crate::run::Running::start(&mut serve);
    running.json();
    let process = format!("/proc/{}", running.id());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    assert!(
        status.lines().any(|line| line.starts_with("Uid:") && line.contains(&user.to_string())),
        "{status}"
    );
    assert_eq!(std::fs::metadata(format!("{process}/environ")).unwrap().uid(), 0);
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"], "{core}");
}
