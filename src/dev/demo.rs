//! The demo backend: what a caller's own backend does, in one file.
//!
//! It has its own cookie session and its own gRPC client. It takes the user from
//! its session and never from the callback, and binds the authorization to the
//! browser by a hash of its cookie.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::Failure;
use crate::proto::v1::account_service_client::AccountServiceClient;
use crate::proto::v1::authorization_service_client::AuthorizationServiceClient;
use crate::proto::v1::complete_authorization_request::Answer;
use crate::proto::v1::create_authorization_url_request::{Flow, Link};
use crate::proto::v1::profile_service_client::ProfileServiceClient;
use crate::proto::v1::{
    AccountProfile, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, ListProfilesRequest,
    UnlinkAccountRequest,
};
use crate::secret;

const COOKIE: &str = "demo_session";
/// How long open requests may take to finish once it is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Demo {
    channel: Channel,
    key: MetadataValue<Ascii>,
}

/// Serves the demo until it is told to stop.
pub(super) async fn run(
    listener: TcpListener,
    grpc: &SocketAddr,
    caller_key: &str,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(format!("http://{grpc}"))?.connect_lazy();
    let demo = Demo { channel, key: format!("Bearer {caller_key}").parse()? };
    let router = Router::new()
        .route("/", get(page))
        .route("/link", post(link))
        .route("/callback", get(callback))
        .route("/unlink", post(unlink))
        .route("/style.css", get(style))
        .layer(map_response(headers))
        .with_state(Arc::new(demo));
    let served = serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        ended = served => Ok(ended?),
        // A browser that sends half a request would be waited for without end.
        () = async { stop.cancelled().await; sleep(FAREWELL).await } => Ok(()),
    }
}

impl Demo {
    /// Sends the caller key with every call.
    fn with_key(
        &self,
    ) -> InterceptedService<Channel, impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>>
    {
        let key = self.key.clone();
        InterceptedService::new(self.channel.clone(), move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", key.clone());
            Ok(request)
        })
    }
}

/// The browser's session: a random cookie. Its hash is the user's name, so that
/// this demo needs no storage; a real backend has users.
struct Session {
    cookie: String,
    is_new: bool,
}

impl Session {
    fn of(headers: &HeaderMap) -> Self {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let known = pairs.find(|(name, value)| *name == COOKIE && value.len() == 32);
        match known {
            Some((_, value)) => Self { cookie: value.to_owned(), is_new: false },
            None => Self { cookie: secret::hex(&secret::random::<16>()), is_new: true },
        }
    }

    fn user_id(&self) -> String {
        format!("demo-{}", secret::hex(&secret::sha256(&[b"user", self.cookie.as_bytes()])[..16]))
    }

    /// What only this browser session knows.
    fn binding(&self) -> Vec<u8> {
        secret::sha256(&[b"binding", self.cookie.as_bytes()]).to_vec()
    }

    fn answer(&self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", self.cookie);
        if let (true, Ok(value)) = (self.is_new, HeaderValue::from_str(&cookie)) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        response
    }
}

#[derive(Template)]
#[template(path = "demo/page.html")]
struct Page {
    user_id: String,
    notice: Option<String>,
    profiles: Vec<Shown>,
}

struct Shown {
    account_id: String,
    threads_user_id: String,
    username: Option<String>,
    name: Option<String>,
    biography: Option<String>,
    is_verified: Option<bool>,
}

impl From<AccountProfile> for Shown {
    fn from(profile: AccountProfile) -> Self {
        let account_id = profile.account_id;
        let profile = profile.profile.unwrap_or_default();
        Self {
            account_id,
            threads_user_id: profile.id,
            username: profile.username,
            name: profile.name,
            biography: profile.threads_biography,
            is_verified: profile.is_verified,
        }
    }
}

async fn page(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Response {
    let session = Session::of(&headers);
    let shown = show(&demo, &session, None).await;
    session.answer(shown)
}

/// The page, with what there is to say.
async fn show(demo: &Demo, session: &Session, notice: Option<String>) -> Response {
    let mut profiles = ProfileServiceClient::new(demo.with_key());
    let request = ListProfilesRequest { user_id: session.user_id(), ..ListProfilesRequest::default() };
    let (profiles, notice) = match profiles.list_profiles(request).await {
        Ok(response) => (response.into_inner().profiles, notice),
        Err(status) => (Vec::new(), Some(sentence(&status))),
    };
    let profiles = profiles.into_iter().map(Shown::from).collect();
    match (Page { user_id: session.user_id(), notice, profiles }).render() {
        Ok(page) => Html(page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn link(State(demo): State<Arc<Demo>>, headers: HeaderMap) -> Response {
    let session = Session::of(&headers);
    let mut authorizations = AuthorizationServiceClient::new(demo.with_key());
    let link =
        Link { user_id: session.user_id(), session_binding: Some(session.binding()), ..Link::default() };
    let request = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(link)),
        ..CreateAuthorizationUrlRequest::default()
    };
    match authorizations.create_authorization_url(request).await {
        Ok(response) => session.answer(Redirect::to(&response.into_inner().authorization_url)),
        Err(status) => session.answer(show(&demo, &session, Some(sentence(&status))).await),
    }
}

/// Where Threads sends the browser back to.
async fn callback(State(demo): State<Arc<Demo>>, uri: Uri, headers: HeaderMap) -> Response {
    let session = Session::of(&headers);
    let mut authorizations = AuthorizationServiceClient::new(demo.with_key());
    let request = CompleteAuthorizationRequest {
        answer: Some(Answer::CallbackUrl(uri.to_string())),
        user_id: Some(session.user_id()),
        session_binding: Some(session.binding()),
    };
    match authorizations.complete_authorization(request).await {
        // Away from the address that holds the code.
        Ok(_) => session.answer(Redirect::to("/")),
        Err(status) => session.answer(show(&demo, &session, Some(sentence(&status))).await),
    }
}

#[derive(Deserialize)]
struct Unlink {
    account_id: String,
}

async fn unlink(
    State(demo): State<Arc<Demo>>,
    headers: HeaderMap,
    Form(Unlink { account_id }): Form<Unlink>,
) -> Response {
    let session = Session::of(&headers);
    let mut accounts = AccountServiceClient::new(demo.with_key());
    let request = UnlinkAccountRequest { account_id, user_id: session.user_id() };
    match accounts.unlink_account(request).await {
        Ok(_) => session.answer(Redirect::to("/")),
        Err(status) => session.answer(show(&demo, &session, Some(sentence(&status))).await),
    }
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../templates/demo/style.css"))
}

/// What a person is told: by the reason, never by the message.
fn sentence(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let text = match reason.as_str() {
        "AUTHORIZATION_DENIED" => "You did not allow it, so nothing was linked.",
        "ACCOUNT_LINKED_TO_ANOTHER_USER" => "That Threads account is linked to somebody else here.",
        "PERMISSION_MISSING" => {
            "Threads gives this app no permission for that account. Is it an accepted tester?"
        }
        "AUTHORIZATION_EXPIRED" | "AUTHORIZATION_CLOSED" | "CODE_REJECTED" | "AUTHORIZATION_INTERRUPTED" => {
            "That attempt is over. Please start again."
        }
        "PROVIDER_UNAVAILABLE" | "STORAGE_UNAVAILABLE" | "AUTHORIZATION_IN_PROGRESS" => {
            "That did not work just now. Reload this page to try again."
        }
        _ => return format!("That did not work ({reason})."),
    };
    text.to_owned()
}

/// Nothing may be loaded from elsewhere, framed, cached, or told by a referrer.
async fn headers(mut response: Response) -> Response {
    // Chromium holds redirects of a form to form-action too, and where Threads
    // is differs between the simulator's ports.
    const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
                          form-action 'self' http://127.0.0.1:*";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
