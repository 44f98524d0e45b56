//! The layer that every call passes first and last: a request id, the caller,
//! the deadline, and a reason for whatever tonic answers by itself.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service as TowerService};
use tracing::Instrument as _;

use super::caller::Callers;
use super::status::{self, REQUEST_ID};
use crate::error::{Error, Reason};
use crate::metrics::{CallLabels, Metrics};
use crate::secret;
use crate::service::Service;
use crate::trace;

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("grpc-timeout");
const HEALTH: &str = "/grpc.health.v1.Health/";
/// What stands in the place of a reason when there was no error.
const OK: &str = "OK";

/// The longest that an answer may take; calls to Threads take longer.
const DEADLINE_MAX: Duration = Duration::from_secs(15);
const DEADLINE_MAX_PROVIDER: Duration = Duration::from_secs(30);
/// How much earlier than the caller's own deadline we answer, so that the
/// answer with its reason arrives, and before tonic answers CANCELLED.
const DEADLINE_MARGIN: Duration = Duration::from_millis(5);

/// The methods of this package, for metrics: a label must not be whatever
/// somebody sends.
const METHODS: [&str; 14] = [
    "/threads.identity.v1.AuthorizationService/CreateAuthorizationUrl",
    "/threads.identity.v1.AuthorizationService/CompleteAuthorization",
    "/threads.identity.v1.AuthorizationService/GetAuthorization",
    "/threads.identity.v1.AccountService/GetAccount",
    "/threads.identity.v1.AccountService/ListAccounts",
    "/threads.identity.v1.AccountService/UnlinkAccount",
    "/threads.identity.v1.AccountService/WatchAccounts",
    "/threads.identity.v1.AccountService/ListAccountChanges",
    "/threads.identity.v1.AccountService/EraseUser",
    "/threads.identity.v1.ProfileService/GetProfile",
    "/threads.identity.v1.ProfileService/BatchGetProfiles",
    "/threads.identity.v1.ProfileService/ListProfiles",
    "/threads.identity.v1.AccessTokenService/FetchAccessToken",
    "/threads.identity.v1.AccessTokenService/ReportInvalidToken",
];
/// Those that call Threads and may take longer.
const PROVIDER_METHODS: [&str; 2] = [METHODS[1], METHODS[12]];

/// Until when an answer is of use.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub Instant);

/// Until when the caller itself is ready to wait. It ends a stream too, which
/// otherwise goes on after its first answer was in time.
#[derive(Clone, Copy)]
pub(super) struct Patience(pub Option<Instant>);

/// The layer.
#[derive(Clone)]
pub struct Outer {
    service: Arc<Service>,
    callers: Callers,
}

impl Outer {
    pub(super) fn new(service: Arc<Service>, callers: Callers) -> Self {
        Self { service, callers }
    }
}

impl<S> Layer<S> for Outer {
    type Service = OuterService<S>;

    fn layer(&self, inner: S) -> OuterService<S> {
        OuterService { outer: self.clone(), inner }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub struct OuterService<S> {
    outer: Outer,
    inner: S,
}

impl<S> TowerService<Request<Body>> for OuterService<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let start = Instant::now();
        let outer = self.outer.clone();
        let method = METHODS.into_iter().find(|method| *method == request.uri().path());
        let is_health = request.uri().path().starts_with(HEALTH);
        let request_id = request_id(request.headers());
        let span = tracing::info_span!(
            "call",
            request.id = %request_id,
            rpc.method = method.unwrap_or("unknown"),
            caller = tracing::field::Empty,
            trace.id = tracing::field::Empty,
        );
        let header = HeaderValue::from_str(&request_id).ok();
        // Open to everybody, and so bounded in time; a watch answers at once.
        let open = Deadline(start + DEADLINE_MAX);
        let admitted = if is_health { Ok(request) } else { outer.admit(request, method, start, &span) };
        let answer = admitted.map(|request| {
            let deadline = request.extensions().get::<Deadline>().copied().unwrap_or(open);
            // Called here, where `self` is the service that said it was ready.
            (self.inner.call(request), deadline)
        });
        let record = Record::begin(&outer.service.metrics, method, start);
        let work = async move {
            let mut response = match answer {
                Ok((answer, deadline)) => run(answer, deadline).await,
                Err(status) => Ok(status.into_http()),
            };
            if let Ok(response) = &mut response {
                if !is_health {
                    give_reason(response, method.is_some());
                }
                if let Some(value) = header {
                    response.headers_mut().insert(REQUEST_ID_HEADER, value);
                }
                record.end(reason_of(response.headers()));
            }
            response
        };
        Box::pin(REQUEST_ID.scope(request_id, work).instrument(span))
    }
}

impl Outer {
    /// Lets a call in: who calls, and until when.
    fn admit(
        &self,
        mut request: Request<Body>,
        method: Option<&'static str>,
        start: Instant,
        span: &tracing::Span,
    ) -> Result<Request<Body>, Status> {
        if self.service.stopping.is_cancelled() {
            return Err(refuse(Reason::ShuttingDown));
        }
        let Some(caller) = self.callers.identify(request.headers()) else {
            return Err(refuse(Reason::CallerUnknown));
        };
        span.record("caller", caller.name.as_str());
        // Only now: a stranger decides nothing about traces.
        trace::adopt(span, request.headers());
        let longest = match method {
            Some(method) if PROVIDER_METHODS.contains(&method) => DEADLINE_MAX_PROVIDER,
            _ => DEADLINE_MAX,
        };
        let asked = asked_timeout(request.headers()).map(|asked| asked.saturating_sub(DEADLINE_MARGIN));
        let deadline = Deadline(start + asked.map_or(longest, |asked| asked.min(longest)));
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(deadline);
        request.extensions_mut().insert(Patience(asked.and_then(|asked| start.checked_add(asked))));
        Ok(request)
    }
}

/// A call that is being answered. It is counted however it ends, also when the
/// caller goes away and the future is dropped.
struct Record {
    metrics: Arc<Metrics>,
    method: &'static str,
    start: Instant,
    /// `None` until there is an answer.
    reason: Option<&'static str>,
}

impl Record {
    fn begin(metrics: &Arc<Metrics>, method: Option<&'static str>, start: Instant) -> Self {
        metrics.calls_in_flight.inc();
        Self { metrics: Arc::clone(metrics), method: method.unwrap_or("unknown"), start, reason: None }
    }

    /// Ends it with the reason of an error, or with success.
    fn end(mut self, reason: Option<&'static str>) {
        self.reason = Some(reason.unwrap_or(OK));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let reason = self.reason.unwrap_or("CALLER_GONE");
        self.metrics.calls_in_flight.dec();
        self.metrics.calls.get_or_create(&CallLabels { method: self.method, reason }).inc();
        self.metrics.call_seconds.observe(seconds);
        trace::note_end(reason, is_our_failure(reason));
        if reason == OK {
            tracing::debug!(duration_ms = seconds * 1e3, "answered");
        } else {
            tracing::info!(duration_ms = seconds * 1e3, reason, "answered with an error");
        }
    }
}

/// Waits for an answer until the deadline. What had begun goes on in its own
/// task; what panics is an error of this call alone.
async fn run<E>(
    answer: impl Future<Output = Result<Response<Body>, E>>,
    Deadline(deadline): Deadline,
) -> Result<Response<Body>, E> {
    match timeout_at(deadline, AssertUnwindSafe(answer).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        // The panic hook has logged where.
        Ok(Err(_)) => Ok(status::from_error(Error::internal("a handler panicked")).into_http()),
        Err(_) => Ok(refuse(Reason::DeadlineExceeded).into_http()),
    }
}

fn refuse(reason: Reason) -> Status {
    status::from_error(Error::new(reason))
}

/// Gives a reason to a status that has none: those are tonic's own.
fn give_reason(response: &mut Response<Body>, method_is_known: bool) {
    let headers = response.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return;
    }
    let reason = match Status::from_header_map(headers).map(|status| status.code()) {
        None | Some(Code::Ok) => return,
        Some(Code::Unimplemented) if !method_is_known => Reason::MethodUnknown,
        // A compression that we do not take; bytes that are not the message.
        Some(Code::Unimplemented | Code::Internal | Code::InvalidArgument) => Reason::RequestMalformed,
        Some(Code::OutOfRange | Code::ResourceExhausted) => Reason::RequestTooLarge,
        Some(Code::Cancelled | Code::DeadlineExceeded) => Reason::DeadlineExceeded,
        Some(_) => Reason::Internal,
    };
    *response = refuse(reason).into_http();
}

/// The reason of an error; `None` for success.
fn reason_of(headers: &HeaderMap) -> Option<&'static str> {
    if !headers.contains_key("grpc-status") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    if status.code() == Code::Ok {
        return None;
    }
    let reason = status.get_details_error_info().and_then(|info| Reason::from_str_name(&info.reason));
    Some(reason.map_or("NONE", |reason| reason.as_str_name()))
}

/// Whether an error is the service's own, by OpenTelemetry's conventions for what a
/// gRPC server answers.
fn is_our_failure(reason: &str) -> bool {
    let code = Reason::from_str_name(reason).map(status::code);
    matches!(
        code,
        Some(
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        )
    )
}

/// The caller's request id if it gave a decent one, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let decent = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    given.filter(decent).map_or_else(
        || uuid::Builder::from_random_bytes(secret::random()).into_uuid().simple().to_string(),
        str::to_owned,
    )
}

/// `grpc-timeout`: up to eight digits and a unit, by the gRPC protocol's
/// specification. What does not read so is ignored.
fn asked_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let unit = text.len().checked_sub(1).filter(|at| (1..=8).contains(at) && text.is_char_boundary(*at))?;
    let (digits, unit) = text.split_at(unit);
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn timeouts_read_as_the_protocol_writes_them() {
        let read = |text: &str| asked_timeout(&headers(TIMEOUT_HEADER, text));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "999999999S", "-1S", "1s", "1.5S", "+1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_decent_request_id_is_taken_over() {
        let id = |text: &str| request_id(&headers(REQUEST_ID_HEADER, text));
        assert_eq!(id("abc-1_2.3"), "abc-1_2.3");
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert_ne!(id(bad), bad);
            assert_eq!(id(bad).len(), 32);
        }
    }

    #[test]
    fn the_methods_are_those_of_the_descriptors() {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
        let mut known: Vec<String> = Vec::new();
        for file in set.file.iter().filter(|file| file.package() == status::DOMAIN) {
            for service in &file.service {
                let path = |method: &prost_types::MethodDescriptorProto| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                };
                known.extend(service.method.iter().map(path));
            }
        }
        known.sort();
        let mut listed = METHODS.map(str::to_owned).to_vec();
        listed.sort();
        assert_eq!(known, listed);
    }
}
