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

use super::arrival;
use super::caller::{Caller, Callers, Refused};
use super::deadline::{self, Deadline};
use super::ending::Ending;
use super::failpoint;
use super::room::{Room, Taken};
use super::status::{self, REQUEST_ID};
use crate::config::Limits;
use crate::error::{Error, Reason};
use crate::metrics::{CallLabels, CallerLabels, Metrics, RefusalLabels};
use crate::peer::Peer;
use crate::rates::Pace;
use crate::secret;
use crate::service::Service;
use crate::trace;

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const HEALTH: &str = "/grpc.health.v1.Health/";
/// What stands in the place of a reason when there was no error.
const OK: &str = "OK";

/// The most calls to health at once, watches included: one for each connection that
/// there may be by default.
const HEALTH_MAX: usize = 2000;
/// The largest request to health, in bytes: the name of a service.
const HEALTH_BYTES_MAX: usize = 1024;
/// How long a caller with too many calls in flight is asked to wait.
const SHORTLY: Duration = Duration::from_millis(100);

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
/// The paths of the methods that call Threads and may take longer (`Deadlines`).
pub const PROVIDER_METHODS: [&str; 2] = [METHODS[1], METHODS[12]];
/// The one that goes on and on; it has a limit of its own.
const WATCH: &str = METHODS[6];

/// The layer.
#[derive(Clone)]
pub struct Outer {
    service: Arc<Service>,
    callers: Callers,
    limits: Limits,
    room: Room,
    /// For health, which strangers may ask for and watch.
    health: Room,
}

impl Outer {
    pub(super) fn new(service: Arc<Service>, callers: Callers, limits: Limits) -> Self {
        let (room, health) = (Room::new(limits.calls_max), Room::new(HEALTH_MAX));
        Self { service, callers, limits, room, health }
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
            refusal = tracing::field::Empty,
            trace.id = tracing::field::Empty,
        );
        let header = HeaderValue::from_str(&request_id).ok();
        // The service that said it was ready is the one that is called; its copy has
        // still to be asked.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let record = Record::begin(&outer.service.metrics, method, start);
        let work = async move {
            let admitted = if is_health {
                outer.admit_to_health(request, start).await
            } else {
                outer.admit(request, method, start).await
            };
            let (mut response, room) = match admitted {
                Ok((request, deadline, room)) => {
                    let panics = failpoint::is_asked(request.headers());
                    (run(failpoint::guard(panics, inner.call(request)), deadline).await, room)
                }
                Err(status) => (Ok(status.into_http()), None),
            };
            if let Ok(response) = &mut response {
                if !is_health {
                    give_reason(response, method.is_some());
                }
                if method.is_none() {
                    end_with_the_process(response, &outer.service, room);
                }
                if let Some(value) = header {
                    response.headers_mut().insert(REQUEST_ID_HEADER, value);
                }
                let reason = reason_of(response.headers());
                if reason == Some(Reason::CallerNotAllowed.as_str_name()) {
                    outer.count_refusal("role");
                }
                record.end(reason);
            }
            response
        };
        Box::pin(REQUEST_ID.scope(request_id, work).instrument(span))
    }
}

/// A call that is let in, until when, and the room that it takes up meanwhile.
type Admitted = (Request<Body>, Deadline, Option<Places>);

/// The room of one call, among all and among its caller's.
struct Places {
    _own: Taken,
    _of_caller: Option<Taken>,
}

impl Outer {
    /// Lets a call in: until when, who calls, how often, and whether there is room.
    /// Whoever is turned away has begun nothing.
    async fn admit(
        &self,
        mut request: Request<Body>,
        method: Option<&'static str>,
        start: Instant,
    ) -> Result<Admitted, Status> {
        if self.service.stopping.is_cancelled() {
            return Err(refuse(Reason::ShuttingDown));
        }
        let calls_threads = method.is_some_and(|method| PROVIDER_METHODS.contains(&method));
        let read = deadline::read(request.headers(), start, &self.limits.deadlines, calls_threads);
        let Some((deadline, patience)) = read else { return Err(refuse(Reason::DeadlineExceeded)) };
        let peer = request.extensions().get::<Peer>();
        let caller = match self.callers.identify(request.headers(), peer, deadline.0).await {
            Ok(caller) => caller,
            Err(refused) => return Err(self.turn_away(&refused)),
        };
        let span = tracing::Span::current();
        span.record("caller", caller.name.as_str());
        // Only now: a stranger decides nothing about traces.
        trace::adopt(&span, request.headers());
        self.pace(&caller)?;
        let Some(of_caller) = caller.room.take() else { return Err(self.hold_back(&caller, SHORTLY)) };
        if method.is_some() {
            let until = deadline.0.min(start + self.limits.request_timeout);
            let arrived = arrival::whole(request, self.limits.request_bytes_max, until).await;
            request = arrived.map_err(refuse)?;
        }
        let room = if method == Some(WATCH) { None } else { Some(self.take_room(of_caller)?) };
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(deadline);
        request.extensions_mut().insert(patience);
        Ok((request, deadline, room))
    }

    /// Health is open to everybody, and so bounded in time, size and number.
    async fn admit_to_health(&self, request: Request<Body>, start: Instant) -> Result<Admitted, Status> {
        let Some(room) = self.health.take() else { return Err(refuse(Reason::Overloaded)) };
        let until = start + self.limits.request_timeout;
        let request = arrival::whole(request, HEALTH_BYTES_MAX, until).await.map_err(refuse)?;
        // A watch answers at once, and then goes on.
        let deadline = Deadline(start + self.limits.deadlines.max);
        Ok((request, deadline, Some(Places { _own: room, _of_caller: None })))
    }

    fn take_room(&self, of_caller: Taken) -> Result<Places, Status> {
        let Some(room) = self.room.take() else {
            self.service.metrics.calls_shed.inc();
            return Err(refuse(Reason::Overloaded));
        };
        Ok(Places { _own: room, _of_caller: Some(of_caller) })
    }

    /// Turns away whoever calls more often than it may.
    fn pace(&self, caller: &Caller) -> Result<(), Status> {
        match caller.pace.as_deref().map(Pace::admit) {
            Some(Err(wait)) => Err(self.hold_back(caller, wait)),
            _ => Ok(()),
        }
    }

    fn hold_back(&self, caller: &Caller, wait: Duration) -> Status {
        let labels = CallerLabels { caller: caller.name.clone() };
        self.service.metrics.calls_rate_limited.get_or_create(&labels).inc();
        status::from_error(Error::new(Reason::CallerRateLimited).after(wait))
    }

    /// Says why to the log and the metrics, and nothing of it to whoever calls.
    fn turn_away(&self, refused: &Refused) -> Status {
        let span = tracing::Span::current();
        span.record("refusal", refused.why.name());
        if let Some(name) = &refused.caller {
            span.record("caller", name.as_str());
        }
        self.count_refusal(refused.why.name());
        refuse(Reason::CallerUnknown)
    }

    fn count_refusal(&self, reason: &'static str) {
        self.service.metrics.refusals.get_or_create(&RefusalLabels { reason }).inc();
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

/// Sees to it that a stream which is not ours does not outlast the process: a watch
/// of health has no end, and reflection ends when its caller likes.
fn end_with_the_process(response: &mut Response<Body>, service: &Service, room: Option<Places>) {
    // An answer that is an error already has ended.
    if response.headers().contains_key("grpc-status") {
        return;
    }
    let body = std::mem::take(response.body_mut());
    let ending = Ending::new(body, service.stopping.clone(), refuse(Reason::ShuttingDown), room);
    *response.body_mut() = Body::new(ending);
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

#[cfg(test)]
mod tests;
