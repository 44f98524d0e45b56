//! `serve`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sqlx::Connection as _;
use threads_identity::grpc::new_caller_key;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    CompleteAuthorizationRequest, CompleteAuthorizationResponse, CreateAuthorizationUrlRequest,
    CreateAuthorizationUrlResponse, ListProfilesRequest,
};
use threads_identity::sealing::Keyring;
use threads_identity::simulator::{self, Decision, Fault, Options, Simulator};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::run::{Directory, Running, command, database, empty_database, end, run, sha256, until};

const REDIRECT_URI: &str = "https://id.example.com/api/auth/callback/threads";
pub const CLIENT_SECRET: &str = "sim-threads-app-secret-0001";

/// What a deployment of one app sets.
pub struct Setting {
    pub database_url: String,
    pub keyring: String,
    pub key: String,
    pub simulator: Simulator,
    pub directory: Directory,
}

impl Setting {
    pub async fn new(name: &str, database_url: &str) -> Self {
        Self::beside(name, database_url, &[]).await
    }

    /// The same, where others use the same Threads app, with addresses of theirs.
    pub async fn beside(name: &str, database_url: &str, others: &[&str]) -> Self {
        let redirect_uris = [REDIRECT_URI].iter().chain(others).map(|&uri| uri.to_owned()).collect();
        let options = Options { redirect_uris, ..Options::default() };
        Self {
            database_url: database_url.to_owned(),
            keyring: Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string(),
            key: new_caller_key().0,
            simulator: Simulator::start(options).await.unwrap(),
            directory: Directory::new(name),
        }
    }

    /// `serve` with nothing but environment, except that the addresses of
    /// Threads stand in a file: nobody else overrides them.
    pub fn serve(&self) -> Command {
        let mut serve = self.serve_without_app();
        serve.arg("--config").arg(self.config());
        serve
    }

    /// A command that works beside it.
    pub fn beside_it(&self, arguments: &[&str]) -> Command {
        let mut beside = command(arguments);
        beside.arg("--config").arg(self.config());
        beside.env("DATABASE_URL", &self.database_url).env("THREADS_IDENTITY_KEY", &self.keyring);
        beside
    }

    fn config(&self) -> PathBuf {
        let base = self.simulator.base_url();
        let file = self.directory.path("config.toml");
        let hash = sha256(&self.key);
        let text = format!(
            "[[apps]]\nid = \"default\"\nclient_id = \"990602627938098\"\nclient_secret = \"{CLIENT_SECRET}\"\n\
             redirect_uris = [\"{REDIRECT_URI}\"]\nauthorize_url = \"{base}/oauth/authorize\"\n\
             graph_url = \"{base}\"\n\n[[callers]]\nname = \"web\"\nroles = [\"link\", \"read\", \"sync\", \"token\"]\n\
             key_sha256 = [\"{hash}\"]\n",
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn serve_without_app(&self) -> Command {
        let mut serve = command(["serve", "--json"]);
        serve
            .env("DATABASE_URL", &self.database_url)
            .env("THREADS_IDENTITY_KEY", &self.keyring)
            .env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", "127.0.0.1:0")
            .env("THREADS_IDENTITY__SERVER__HTTP_LISTEN", "127.0.0.1:0")
            .env("THREADS_IDENTITY__SERVER__OPS_LISTEN", "127.0.0.1:0");
        serve
    }
}

/// A service that runs, and a client of it.
pub struct Service {
    pub running: Running,
    pub grpc: SocketAddr,
    pub ops: String,
    pub http: String,
    pub channel: Channel,
    key: MetadataValue<Ascii>,
}

impl Service {
    pub async fn start(mut serve: Command, key: &str) -> Self {
        let running = Running::start(&mut serve);
        let places = running.json();
        let text = |name: &str| places[name].as_str().unwrap().to_owned();
        let channel =
            Endpoint::from_shared(format!("http://{}", text("grpc"))).unwrap().connect().await.unwrap();
        let service = Self {
            running,
            grpc: text("grpc").parse().unwrap(),
            ops: text("ops"),
            http: text("http"),
            channel,
            key: format!("Bearer {key}").parse().unwrap(),
        };
        service.until_ready().await;
        service
    }

    async fn until_ready(&self) {
        let url = format!("http://{}/readyz", self.ops);
        for _ in 0..600 {
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not ready: {:#?}", self.running.errors());
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.key.clone());
        request
    }

    pub async fn create(&self, user_id: &str) -> CreateAuthorizationUrlResponse {
        let link = Link { user_id: user_id.to_owned(), ..Link::default() };
        let message = CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..Default::default() };
        let mut client = AuthorizationServiceClient::new(self.channel.clone());
        client.create_authorization_url(self.request(message)).await.unwrap().into_inner()
    }

    pub async fn complete(&self, callback_url: &str, user_id: &str) -> CompleteAuthorizationResponse {
        self.complete_with(callback_url, user_id, None).await
    }

    /// The same within a trace of the caller's.
    pub async fn complete_traced(&self, callback_url: &str, user_id: &str, traceparent: &str) {
        self.complete_with(callback_url, user_id, Some(traceparent)).await;
    }

    async fn complete_with(
        &self,
        callback_url: &str,
        user_id: &str,
        traceparent: Option<&str>,
    ) -> CompleteAuthorizationResponse {
        let message = CompleteAuthorizationRequest {
            answer: Some(Answer::CallbackUrl(callback_url.to_owned())),
            user_id: Some(user_id.to_owned()),
            session_binding: None,
        };
        let mut client = AuthorizationServiceClient::new(self.channel.clone());
        let mut request = self.request(message);
        if let Some(traceparent) = traceparent {
            request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        }
        client.complete_authorization(request).await.unwrap().into_inner()
    }
}

#[test]
fn every_problem_is_told_at_once_by_its_key() {
    let error = run(&["serve"]).bad();
    for key in ["apps:", "database.url:", "keys.file:"] {
        assert!(error.contains(&format!("\n  {key}")), "{key} is not in {error}");
    }
    assert!(error.contains("has 3 problems"), "{error}");

    let directory = Directory::new("serve-bad");
    let file = directory.path("config.toml");
    let text = "[server]\ngrpc_listen = \"localhost\"\ndrain_timeout = 3\noops = 1\n\
                [database]\nurl = \"mysql://canary\"\n[keys]\nfile = \"a\"\nvalue = \"canary\"\n\
                [[apps]]\nid = \"A\"\nclient_id = \"x\"\nclient_secret = \"canary\"\nredirect_uris = [\"http://a.example\"]\n\
                [[callers]]\nname = \"web\"\napp = \"none\"\nroles = [\"admin\"]\nkey_sha256 = [\"canary\"]\n";
    fs::write(&file, text).unwrap();
    let error = run(&["serve", "--config", file.to_str().unwrap()]).bad();
    for key in [
        "server.grpc_listen:",
        "server.drain_timeout:",
        "server.oops:",
        "database.url:",
        "keys.file:",
        "apps.0.id:",
        "apps.0.client_id:",
        "apps.0.redirect_uris.0:",
        "callers.0.app:",
        "callers.0.roles:",
        "callers.0.key_sha256.0:",
    ] {
        assert!(error.contains(&format!("\n  {key}")), "{key} is not in {error}");
    }
    assert!(!error.contains("canary"), "a secret is shown: {error}");

    fs::write(&file, "[server\nurl = \"canary\"").unwrap();
    let error = run(&["serve", "--config", file.to_str().unwrap()]).bad();
    assert!(error.contains("line 1: is not TOML") && !error.contains("canary"), "{error}");
    let error = run(&["serve", "--config", "/nowhere/at-all.toml"]).bad();
    assert!(error.contains("/nowhere/at-all.toml: cannot be read"), "{error}");
}

#[tokio::test]
async fn it_refuses_to_run_without_keys_or_open_to_others() {
    let setting = Setting::new("serve-refused", "postgres://127.0.0.1:1/none").await;
    let mut serve = setting.serve();
    serve.env_remove("THREADS_IDENTITY_KEY");
    let error = end(serve).bad();
    assert!(error.contains("keys.file: is required") && error.contains("keys generate"), "{error}");

    let mut serve = setting.serve();
    serve.env("THREADS_IDENTITY_KEY", "tik1.canary");
    let error = end(serve).bad();
    assert!(error.contains("keys: is not a keyring") && !error.contains("canary"), "{error}");

    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let mut serve = setting.serve_without_app();
        serve
            .env("THREADS_CLIENT_ID", "1")
            .env("THREADS_CLIENT_SECRET", "canary")
            .env("THREADS_REDIRECT_URIS", "https://a.example/cb")
            .env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", address);
        let error = end(serve).bad();
        assert!(error.contains("is not loopback") && error.contains("callers add"), "{error}");
    }

    // With callers, what is missing is TLS; each setting that allows it names it.
    let mut serve = setting.serve();
    serve.env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", "0.0.0.0:0");
    let error = end(serve).bad();
    for part in
        ["server.grpc_listen: 0.0.0.0:0 is not loopback", "server.tls.certificate_file", "allow_plaintext"]
    {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    let mut serve = setting.serve();
    serve
        .env("THREADS_IDENTITY__SERVER__TLS__CERTIFICATE_FILE", "/nowhere/server.pem")
        .env("THREADS_IDENTITY__SERVER__TLS__KEY_FILE", "/nowhere/server.key");
    let error = end(serve).bad();
    assert!(error.contains("server.tls.certificate_file: cannot be read"), "{error}");
    for allowed in ["ALLOW_PLAINTEXT", "ALLOW_ANYONE"] {
        let mut serve = setting.serve_without_app();
        serve
            .env("THREADS_CLIENT_ID", "1")
            .env("THREADS_CLIENT_SECRET", "canary")
            .env("THREADS_REDIRECT_URIS", "https://a.example/cb")
            .env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", "0.0.0.0:0")
            .env(format!("THREADS_IDENTITY__SERVER__INSECURE_{allowed}"), "true");
        let error = end(serve).bad();
        assert_eq!(error.contains("callers add"), allowed == "ALLOW_PLAINTEXT", "{error}");
        assert_eq!(error.contains("server.tls.key_file"), allowed == "ALLOW_ANYONE", "{error}");
    }

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut serve = setting.serve();
    serve.env("THREADS_IDENTITY__SERVER__OPS_LISTEN", taken.local_addr().unwrap().to_string());
    let error = end(serve).bad();
    assert!(error.contains("server.ops_listen: cannot listen on"), "{error}");
}

#[tokio::test]
async fn it_waits_for_a_schema_and_says_what_makes_one() {
    let database = empty_database().await;
    let setting = Setting::new("serve-unmigrated", database.url()).await;
    let running = Running::start(&mut setting.serve());
    let places = running.json();
    let url = format!("http://{}/readyz", places["ops"].as_str().unwrap());
    let says_what_to_do = |log: &str| log.contains("run `threads-identity migrate`");
    until("it says what to do", || says_what_to_do(&running.errors().join("\n")));
    let answer = reqwest::get(&url).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(says_what_to_do(&answer.text().await.unwrap()));

    let mut migrate = command(["migrate"]);
    migrate.env("DATABASE_URL", database.url());
    end(migrate).good();
    until("it is ready", || running.errors().iter().any(|line| line.contains("\"ready\"")));
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_database_that_is_older_or_not_ours_ends_it_with_what_to_do() {
    let database = database().await;
    let setting = Setting::new("serve-other", database.url()).await;
    let mut first = Service::start(setting.serve(), &setting.key).await;
    first.running.signal("-TERM");
    assert_eq!(first.running.wait().code(), Some(0));

    let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
    let newest = "update _sqlx_migrations set success = $1 where version = 3";
    sqlx::query(newest).bind(false).execute(&mut sql).await.unwrap();
    let error = end(setting.serve()).bad();
    assert!(error.contains("run `threads-identity migrate`"), "{error}");
    sqlx::query(newest).bind(true).execute(&mut sql).await.unwrap();

    let mut other = setting.serve();
    other.env("THREADS_IDENTITY_KEY", Keyring::generate("2026-01-01T00:00:00Z").to_inline().as_str());
    let error = end(other).bad();
    assert!(error.contains("id_key is not the one"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_away_makes_it_wait_and_term_ends_it_even_so() {
    let setting = Setting::new("serve-away", "postgres://canary:canary@127.0.0.1:1/canary").await;
    let mut running = Running::start(&mut setting.serve());
    let ops = running.json()["ops"].as_str().unwrap().to_owned();
    let answer = reqwest::get(format!("http://{ops}/readyz")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(reqwest::get(format!("http://{ops}/livez")).await.unwrap().status(), 200);
    running.signal("-TERM");
    let status = running.wait();
    assert_eq!(status.code(), Some(0), "{:#?}", running.errors());
    assert!(!running.errors().join("\n").contains("canary"), "{:#?}", running.errors());
}

#[tokio::test]
async fn whoever_was_told_the_addresses_may_stop_it_at_once() {
    let database = database().await;
    let setting = Setting::new("serve-at-once", database.url()).await;
    for _ in 0..5 {
        let mut running = Running::start(&mut setting.serve());
        running.json();
        running.signal("-TERM");
        assert_eq!(running.wait().code(), Some(0), "{:#?}", running.errors());
    }
}

#[tokio::test]
async fn it_logs_json_and_drains_on_term() {
    let database = database().await;
    let setting = Setting::new("serve-logs", database.url()).await;
    let mut serve = setting.serve();
    serve.env("RUST_LOG", "trace,h2=info,hyper=info");
    let mut service = Service::start(serve, &setting.key).await;
    let created = service.create("user-of-the-caller").await;
    let callback_url =
        setting.simulator.controls().consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    service.complete(&callback_url, "user-of-the-caller").await;

    service.running.signal("-TERM");
    assert_eq!(service.running.wait().code(), Some(0));
    let lines = service.running.errors();
    assert!(lines.len() > 5, "{lines:#?}");
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    let log = lines.join("\n");
    for word in ["starting", "listening", "ready", "draining"] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[tokio::test]
async fn what_has_begun_is_finished_before_it_ends() {
    let database = database().await;
    let setting = Setting::new("serve-drains", database.url()).await;
    let mut service = Service::start(setting.serve(), &setting.key).await;
    let controls = setting.simulator.controls();
    let created = service.create("user-1").await;
    let callback_url = controls.consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    controls.fault_next(simulator::Endpoint::CodeExchange, Fault::Delay(Duration::from_secs(1)));
    let stopped = async {
        while controls.count(simulator::Endpoint::CodeExchange) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        service.running.signal("-TERM");
    };
    let (completed, ()) = tokio::join!(service.complete(&callback_url, "user-1"), stopped);
    assert_eq!(completed.account.unwrap().user_id, "user-1");
    let status = tokio::task::spawn_blocking(move || service.running.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn one_app_needs_nothing_but_environment() {
    let database = database().await;
    let setting = Setting::new("serve-environment", database.url()).await;
    let mut serve = setting.serve_without_app();
    serve
        .env("THREADS_CLIENT_ID", "990602627938098")
        .env("THREADS_CLIENT_SECRET", CLIENT_SECRET)
        .env("THREADS_REDIRECT_URIS", format!("{REDIRECT_URI},https://id.example.com/other"))
        .env("THREADS_IDENTITY_CALLER_KEY_SHA256", sha256(&setting.key));
    let service = Service::start(serve, &setting.key).await;
    let created = service.create("user-1").await;
    assert!(created.authorization_url.starts_with("https://threads.com/oauth/authorize?"));
    assert!(created.authorization_url.contains("990602627938098"));
    let mut profiles = ProfileServiceClient::new(service.channel.clone());
    let list = || ListProfilesRequest { user_id: "user-1".to_owned(), ..Default::default() };
    assert!(profiles.list_profiles(service.request(list())).await.unwrap().into_inner().profiles.is_empty());
    let status = profiles.list_profiles(list()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");

    let metrics =
        reqwest::get(format!("http://{}/metrics", service.ops)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("ListProfiles"), "{metrics}");
}

#[tokio::test]
async fn two_replicas_finish_each_others_authorizations() {
    let database = database().await;
    let setting = Setting::new("serve-replicas", database.url()).await;
    let first = Service::start(setting.serve(), &setting.key).await;
    let second = Service::start(setting.serve(), &setting.key).await;
    let controls = setting.simulator.controls();
    for (here, there, user_id, persona) in
        [(&first, &second, "user-1", "full"), (&second, &first, "user-2", "bare")]
    {
        let created = here.create(user_id).await;
        let callback_url = controls.consent(&created.authorization_url, persona, Decision::Allow).unwrap();
        // At both at once, and once more: one outcome, and one call of Threads.
        let (a, b) =
            tokio::join!(there.complete(&callback_url, user_id), here.complete(&callback_url, user_id));
        assert_eq!(a, b);
        assert_eq!(here.complete(&callback_url, user_id).await, a);
        let list = ListProfilesRequest { user_id: user_id.to_owned(), ..Default::default() };
        let mut profiles = ProfileServiceClient::new(here.channel.clone());
        let listed = profiles.list_profiles(here.request(list)).await.unwrap().into_inner().profiles;
        assert_eq!(listed[0].profile, a.profile);
    }
    assert_eq!(controls.count(simulator::Endpoint::CodeExchange), 2);
    assert_eq!(controls.violations(), Vec::<String>::new());
    let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
    let accounts: i64 =
        sqlx::query_scalar("select count(*) from accounts").fetch_one(&mut sql).await.unwrap();
    assert_eq!(accounts, 2);
}

#[tokio::test]
async fn a_hangup_takes_callers_at_once_and_the_log_says_who_is_refused_and_no_secret() {
    let database = database().await;
    let setting = Setting::new("serve-hangup", database.url()).await;
    let mut serve = setting.serve();
    // So long that only the signal can be what makes it look.
    serve.env("THREADS_IDENTITY__SERVER__RELOAD_INTERVAL", "1h");
    let mut service = Service::start(serve, &setting.key).await;
    let logged =
        |service: &Service, text: &str| service.running.errors().iter().any(|line| line.contains(text));
    let (second, second_hash) = new_caller_key();
    let mistyped = format!("{}x", setting.key);
    let call = async |service: &Service, key: &str| {
        let mut request =
            Request::new(ListProfilesRequest { user_id: "user-1".to_owned(), ..Default::default() });
        let value: MetadataValue<Ascii> = format!("Bearer {key}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let listed = ProfileServiceClient::new(service.channel.clone()).list_profiles(request).await;
        listed.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(call(&service, &second).await, Code::Unauthenticated);
    assert_eq!(call(&service, &mistyped).await, Code::Unauthenticated);
    until("both refusals are logged", || logged(&service, "key_unknown") && logged(&service, "key_mistyped"));

    let file = setting.directory.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let added =
        format!("[[callers]]\nname = \"second\"\nroles = [\"read\"]\nkey_sha256 = [\"{second_hash}\"]\n");
    fs::write(&file, format!("{text}\n{added}[server]\noops = 1\n")).unwrap();
    service.running.signal("-HUP");
    until("the problem is logged", || logged(&service, "server.oops: is not a known key"));
    assert_eq!(call(&service, &second).await, Code::Unauthenticated);
    fs::write(&file, format!("{text}\n{added}[watch]\nheartbeat = \"9s\"\n")).unwrap();
    service.running.signal("-HUP");
    until("the callers are taken", || logged(&service, "took callers and issuers anew"));
    assert_eq!(call(&service, &second).await, Code::Ok);
    assert_eq!(call(&service, &setting.key).await, Code::Ok);
    until("the other section is named", || logged(&service, "these sections have changed"));

    service.running.signal("-TERM");
    assert!(service.running.wait().success());
    let log = service.running.errors().join("\n");
    for secret in [&setting.key, &second, &mistyped, &second_hash, CLIENT_SECRET] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
