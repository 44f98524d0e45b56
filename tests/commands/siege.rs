//! The real process under siege: with two apps, and whoever is outside of it.

use std::fs;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use sqlx::Connection as _;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::{
    Account, CompleteAuthorizationRequest, CompleteAuthorizationResponse, CreateAuthorizationUrlRequest,
    CreateAuthorizationUrlResponse, GetAccountRequest, get_account_request,
};
use threads_identity::simulator::{Controls, Decision, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::raw;
use crate::run::{database, sha256};
use crate::serve::{Service, Setting};

pub const RETURN_TO: &str = "https://app.example.com/linked";
pub const PATH: &str = "/api/auth/callback/threads";
pub const SECOND_SECRET: &str = "sim-threads-app-secret-0002";
pub const SECOND_CLIENT_ID: &str = "17841400000000002";
pub const REDIRECT_URI: &str = "https://id.example.com/api/auth/callback/threads";

/// A process with two apps, and whoever is outside of it.
pub struct Siege {
    pub setting: Setting,
    pub service: Service,
    pub controls: Controls,
    pub database_url: String,
    http: reqwest::Client,
    _database: threads_identity::postgres::scratch::Database,
}

impl Siege {
    pub async fn new(name: &str) -> Self {
        Self::with(name, "").await
    }

    /// What a call with these headers comes to.
    pub async fn called(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<(), Status> {
        raw::call(self.service.grpc, path, headers, body).await.result()
    }

    /// The `authorization` of its caller.
    pub fn key(&self) -> String {
        format!("Bearer {}", self.setting.key)
    }

    /// The same with these lines in its configuration.
    pub async fn with(name: &str, settings: &str) -> Self {
        let database = database().await;
        let setting = Setting::new(name, database.url()).await;
        let controls = setting.simulator.controls();
        controls.add_app(SECOND_CLIENT_ID, SECOND_SECRET, ["https://second.example.com/callback"]);
        let mut serve = setting.serve();
        let file = setting.directory.path("config.toml");
        let base = setting.simulator.base_url();
        let first = fs::read_to_string(&file).unwrap();
        let first = first
            .replace("graph_url =", &format!("return_to = [\"{RETURN_TO}\"]\ngraph_url ="))
            .replace("\"sync\", \"token\"]", "\"sync\", \"token\", \"erase\"]\napp = \"default\"");
        let second = format!(
            "[[apps]]\nid = \"second\"\nclient_id = \"{SECOND_CLIENT_ID}\"\nclient_secret = \"{SECOND_SECRET}\"\n\
             redirect_uris = [\"https://second.example.com/callback\"]\n\
             authorize_url = \"{base}/oauth/authorize\"\ngraph_url = \"{base}\"\n\
             [[callers]]\nname = \"other\"\napp = \"second\"\nroles = [\"link\", \"read\", \"sync\", \"erase\"]\n\
             key_sha256 = [\"{}\"]\n",
            sha256("tidkey_second")
        );
        fs::write(&file, format!("{settings}\n{first}{second}")).unwrap();
        serve.env("THREADS_IDENTITY__SERVER__PUBLIC_URL", "https://id.example.com");
        let service = Service::start(serve, &setting.key).await;
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        let database_url = database.url().to_owned();
        Self { setting, service, controls, database_url, http, _database: database }
    }

    pub async fn create(&self, link: Link) -> Result<CreateAuthorizationUrlResponse, Status> {
        self.create_with(link, None).await
    }

    pub async fn create_with(
        &self,
        link: Link,
        return_to: Option<&str>,
    ) -> Result<CreateAuthorizationUrlResponse, Status> {
        let message = CreateAuthorizationUrlRequest {
            flow: Some(Flow::Link(link)),
            return_to: return_to.map(str::to_owned),
            ..Default::default()
        };
        let mut client = AuthorizationServiceClient::new(self.service.channel.clone());
        Ok(client.create_authorization_url(self.service.request(message)).await?.into_inner())
    }

    /// A person consents; what Threads sends the browser back with.
    pub async fn consent(&self, user_id: &str, person: &str) -> (CreateAuthorizationUrlResponse, String) {
        let created = self.create(user(user_id)).await.unwrap();
        let url = self.controls.consent(&created.authorization_url, person, Decision::Allow).unwrap();
        let query = url.split_once('?').unwrap().1.split('#').next().unwrap().to_owned();
        (created, query)
    }

    pub async fn complete(
        &self,
        answer: Answer,
        user_id: &str,
    ) -> Result<CompleteAuthorizationResponse, Status> {
        let message = CompleteAuthorizationRequest {
            answer: Some(answer),
            user_id: Some(user_id.to_owned()),
            session_binding: None,
        };
        let mut client = AuthorizationServiceClient::new(self.service.channel.clone());
        Ok(client.complete_authorization(self.service.request(message)).await?.into_inner())
    }

    pub async fn link(&self, user_id: &str, person: &str) -> Result<Account, Status> {
        let (_, query) = self.consent(user_id, person).await;
        Ok(self.complete(by_url(&query), user_id).await?.account.unwrap())
    }

    /// A browser; the status, where it is sent, and what it is shown.
    pub async fn browse(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String, String) {
        let mut request = self.http.get(format!("http://{}{path}", self.service.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert_guarded(&answer);
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        (answer.status(), location.unwrap_or_default(), answer.text().await.unwrap())
    }

    pub async fn ticket(&self, query: &str) -> String {
        let (status, location, _) = self.browse(&format!("{PATH}?{query}"), &[]).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let ticket = location.strip_prefix(&format!("{RETURN_TO}?ticket=")).expect("a ticket");
        ticket.split(['#', '&']).next().unwrap().to_owned()
    }

    /// Somebody says something in Meta's name.
    pub async fn tell(&self, path: &str, signed: &str) -> (StatusCode, String) {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("signed_request", signed)
            .finish();
        let request = self.http.post(format!("http://{}{path}", self.service.http));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = request.send().await.unwrap();
        assert_guarded(&answer);
        (answer.status(), answer.text().await.unwrap())
    }

    pub async fn account(&self, account_id: &str) -> Result<Account, Status> {
        let account = Some(get_account_request::Account::AccountId(account_id.to_owned()));
        let message = GetAccountRequest { account, user_id: None };
        let mut client = AccountServiceClient::new(self.service.channel.clone());
        Ok(client.get_account(self.service.request(message)).await?.into_inner().account.unwrap())
    }

    pub async fn counted(&self, query: &'static str) -> i64 {
        let mut sql = sqlx::PgConnection::connect(&self.database_url).await.unwrap();
        sqlx::query_scalar(query).fetch_one(&mut sql).await.unwrap()
    }

    pub fn exchanges(&self) -> usize {
        self.controls.count(Endpoint::CodeExchange)
    }
}

pub fn user(user_id: &str) -> Link {
    Link { user_id: user_id.to_owned(), ..Link::default() }
}

pub fn by_url(query: &str) -> Answer {
    Answer::CallbackUrl(format!("{REDIRECT_URI}?{query}"))
}

pub fn parameter(query: &str, name: &str) -> String {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = result.unwrap_err();
    let told = status.get_details_error_info().unwrap().reason;
    assert_eq!((status.code(), told.as_str()), (code, reason), "{status:?}");
    status
}

/// T52, T54 and the rest of what every answer carries.
#[track_caller]
pub fn assert_guarded(answer: &reqwest::Response) {
    let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("x-frame-options"), "DENY");
    assert!(header("x-robots-tag").contains("noindex"));
    assert!(answer.headers().get("vary").is_none() && answer.headers().get("set-cookie").is_none());
}

pub fn sign(secret: &str, payload: &str) -> String {
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, payload.as_bytes())))
}
