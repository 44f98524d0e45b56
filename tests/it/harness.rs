//! A world for one test: its own database, its own service, its own Threads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use threads_identity::clock::{Clock as _, ManualClock};
use threads_identity::config::{Config, Role};
use threads_identity::grpc::new_caller_key;
use threads_identity::postgres::scratch::{Database, Databases};
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::profile_service_client::ProfileServiceClient;
use threads_identity::proto::v1::{
    Account, Authorization, CompleteAuthorizationRequest, CompleteAuthorizationResponse,
    CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse, FetchAccessTokenRequest,
    GetAuthorizationRequest, UnlinkAccountRequest,
};
use threads_identity::readiness::Readiness;
use threads_identity::sealing::Keyring;
use threads_identity::secret::DatabaseUrl;
use threads_identity::serve::{self, Listeners};
use threads_identity::service::Service;
use threads_identity::simulator::{Controls, Decision, Options, Simulator};
use threads_identity::store;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::documented::Documented;

/// When every test begins.
pub const START: OffsetDateTime = datetime!(2026-03-01 12:00:00 UTC);
/// The redirect URI of the first app, and one that is also registered.
pub const REDIRECT_URI: &str = "https://id.example.com/api/auth/callback/threads";
pub const OTHER_REDIRECT_URI: &str = "https://id.example.com/other";
/// Where the hosted callback sends browsers of the first app on to.
pub const RETURN_TO: &str = "https://app.example.com/linked";
pub const OTHER_RETURN_TO: &str = "https://app.example.com/settings?tab=threads";
/// Where people and Meta believe the service to be.
pub const PUBLIC_URL: &str = "https://id.example.com";
/// The second app.
pub const SECOND_CLIENT_ID: &str = "17841400000000002";
pub const SECOND_SECRET: &str = "sim-threads-app-secret-0002";
pub const SECOND_REDIRECT_URI: &str = "https://second.example.com/callback";

static DATABASES: OnceCell<Databases> = OnceCell::const_new();

/// A database of its own, with the schema in it.
pub async fn database() -> Database {
    let start = || async {
        #[expect(clippy::disallowed_methods, reason = "where the tests learn which server to use")]
        let environment = |name: &str| std::env::var(name).ok();
        let migrate = async |url: String| Ok(store::migrate(&DatabaseUrl::new(url)).await?);
        Databases::start(&environment, migrate).await.expect("a Postgres for the tests")
    };
    DATABASES.get_or_init(start).await.create().await.expect("a database for this test")
}

pub type WithKey<F> = InterceptedService<Channel, F>;

/// What a test may want otherwise.
pub struct Wishes {
    /// Added to the first app's table of the configuration.
    pub app: &'static str,
    /// Added to the second app's table.
    pub second_app: &'static str,
    /// Added in front of the configuration.
    pub config: &'static str,
    /// Whether callers are configured.
    pub callers: bool,
    /// The database to use, when the test made it itself.
    pub database: Option<Database>,
    /// Where to reach the database, when not directly.
    pub database_url: Option<String>,
    /// The keyring, when not a new one.
    pub keyring: Option<String>,
    /// Whether the refresher runs by itself. Most tests make its rounds by hand.
    pub refresher: bool,
    /// The file that the keyring stands in, when it stands in one.
    pub keyring_file: Option<PathBuf>,
    /// Where the configuration is written to and read from, when it may change.
    pub config_file: Option<PathBuf>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            app: "",
            second_app: "",
            config: "",
            callers: true,
            database: None,
            database_url: None,
            keyring: None,
            refresher: false,
            keyring_file: None,
            config_file: None,
        }
    }
}

/// One running service and everything around it.
pub struct World {
    pub controls: Controls,
    pub clock: Arc<ManualClock>,
    pub service: Arc<Service>,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
    pub keyring: Arc<String>,
    keys: HashMap<String, String>,
    channel: Channel,
    simulator: Option<Simulator>,
    database: Option<Database>,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<Result<(), serve::ServeError>>>,
    /// What a service that can be killed runs on.
    runtime: Option<tokio::runtime::Runtime>,
    violations_expected: bool,
}

impl World {
    /// The usual world.
    pub async fn start() -> Self {
        Self::with(Wishes::default()).await
    }

    /// A world with wishes.
    pub async fn with(mut wishes: Wishes) -> Self {
        let options = Options {
            redirect_uris: vec![REDIRECT_URI.to_owned(), OTHER_REDIRECT_URI.to_owned()],
            start_time: Some(START.unix_timestamp()),
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        simulator.controls().add_app(SECOND_CLIENT_ID, SECOND_SECRET, [SECOND_REDIRECT_URI]);
        let database = match wishes.database.take() {
            Some(database) => database,
            None => database().await,
        };
        let url = wishes.database_url.clone().unwrap_or_else(|| database.url().to_owned());
        let new_keyring = || Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
        let keyring = Arc::new(wishes.keyring.take().unwrap_or_else(new_keyring));
        let clock = Arc::new(ManualClock::new(START));
        let controls = simulator.controls();
        let base = simulator.base_url();
        let mut world = Self::serve(&wishes, &url, &base, controls, keyring, clock).await;
        world.simulator = Some(simulator);
        world.database = Some(database);
        world
    }

    /// Another service over the same database, Threads, keys and time: a second
    /// replica, or the process that comes after one that died.
    pub async fn replica(&self) -> Self {
        self.replica_with(Wishes::default()).await
    }

    /// A replica with wishes, such as for a keyring of its own.
    pub async fn replica_with(&self, mut wishes: Wishes) -> Self {
        let url = wishes.database_url.clone().unwrap_or_else(|| self.database_url().to_owned());
        let base = self.simulator_url();
        let keyring = wishes.keyring.take().map_or_else(|| Arc::clone(&self.keyring), Arc::new);
        let clock = Arc::clone(&self.clock);
        Self::serve(&wishes, &url, &base, self.controls.clone(), keyring, clock).await
    }

    /// A replica on threads of its own, which dropping it ends at whatever
    /// point its work has reached: a process that is killed.
    pub async fn mortal(&self, wishes: Wishes) -> Self {
        let (url, base) = (self.database_url().to_owned(), self.simulator_url());
        let (keyring, clock) = (Arc::clone(&self.keyring), Arc::clone(&self.clock));
        let controls = self.controls.clone();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let serving =
            runtime.spawn(async move { Self::serve(&wishes, &url, &base, controls, keyring, clock).await });
        let mut replica = serving.await.unwrap();
        replica.runtime = Some(runtime);
        // The client lives on.
        replica.channel = replica.connect().await;
        replica
    }

    async fn serve(
        wishes: &Wishes,
        database_url: &str,
        simulator_url: &str,
        controls: Controls,
        keyring: Arc<String>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let mut keys = HashMap::new();
        let mut callers = String::new();
        let all = "\"link\", \"transfer\", \"read\", \"sync\", \"token\", \"erase\"".to_owned();
        let mut add = |name: &str, app: &str, roles: &str| {
            let (key, hash) = new_caller_key();
            callers += &format!(
                "[[callers]]\nname = \"{name}\"\napp = \"{app}\"\nroles = [{roles}]\nkey_sha256 = [\"{hash}\"]\n"
            );
            keys.insert(name.to_owned(), key);
        };
        add("web", "default", &all);
        add("second", "second", &all);
        for role in Role::ALL {
            add(&format!("only-{}", role.name()), "default", &format!("\"{}\"", role.name()));
        }
        let second = format!(
            "[[apps]]\nid = \"second\"\nclient_id = \"{SECOND_CLIENT_ID}\"\nclient_secret = \"{SECOND_SECRET}\"\n\
             redirect_uris = [\"{SECOND_REDIRECT_URI}\"]\n\
             authorize_url = \"{simulator_url}/oauth/authorize\"\ngraph_url = \"{simulator_url}\"\n{}\n",
            wishes.second_app
        );
        let defaults = Options::default();
        let toml = format!(
            "{}\n[[apps]]\nid = \"default\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             redirect_uris = [\"{REDIRECT_URI}\", \"{OTHER_REDIRECT_URI}\"]\n\
             return_to = [\"{RETURN_TO}\", \"{OTHER_RETURN_TO}\"]\n\
             authorize_url = \"{simulator_url}/oauth/authorize\"\ngraph_url = \"{simulator_url}\"\n{}\n{}",
            wishes.config,
            defaults.client_id,
            defaults.client_secret,
            wishes.app,
            if wishes.callers { second + &callers } else { String::new() },
        );
        let keyring_source = match &wishes.keyring_file {
            Some(file) => ("THREADS_IDENTITY__KEYS__FILE", file.to_str().unwrap()),
            None => ("THREADS_IDENTITY__KEYS__VALUE", keyring.as_str()),
        };
        let environment = [
            ("THREADS_IDENTITY__SERVER__GRPC_LISTEN", "127.0.0.1:0"),
            ("THREADS_IDENTITY__SERVER__HTTP_LISTEN", "127.0.0.1:0"),
            ("THREADS_IDENTITY__SERVER__PUBLIC_URL", PUBLIC_URL),
            ("THREADS_IDENTITY__SERVER__OPS_LISTEN", "127.0.0.1:0"),
            ("THREADS_IDENTITY__DATABASE__URL", database_url),
            ("THREADS_IDENTITY__KEYS__RELOAD_INTERVAL", "20ms"),
            ("THREADS_IDENTITY__SERVER__RELOAD_INTERVAL", "20ms"),
            ("THREADS_IDENTITY__REFRESH__ENABLED", if wishes.refresher { "true" } else { "false" }),
            keyring_source,
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = match &wishes.config_file {
            Some(file) => {
                std::fs::write(file, &toml).unwrap();
                Config::load(Some(file), environment).unwrap()
            }
            None => Config::parse(&toml, Path::new(""), environment).unwrap(),
        };
        let service = Arc::new(Service::new(&config, Arc::clone(&clock) as _).unwrap());
        let listeners = Listeners::bind(&config).await.unwrap();
        let (grpc, ops) = (listeners.grpc_address().unwrap(), listeners.ops_address().unwrap());
        let http = listeners.http_address().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let running = Arc::clone(&service);
        let readiness = Readiness::default();
        let looked = readiness.subscribe();
        let running =
            tokio::spawn(async move { serve::run(&config, running, readiness, listeners, stopped).await });
        // Until it has looked at its database, or has ended: what it writes there at first a test may rely
        // on. One that never gets an answer is not waited for.
        let looking = async {
            while !looked.has_changed().unwrap_or(true) && !running.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), looking).await;
        // One that has been refused its database listens no more.
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let channel = endpoint.connect().await.unwrap_or_else(|_| endpoint.connect_lazy());
        Self {
            controls,
            clock,
            service,
            grpc,
            http,
            ops,
            keyring,
            keys,
            channel,
            simulator: None,
            database: None,
            stop,
            running: Some(running),
            runtime: None,
            violations_expected: false,
        }
    }

    /// Where the simulator is.
    pub fn simulator_url(&self) -> String {
        self.service.apps["default"].config.graph_url.as_str().trim_end_matches('/').to_owned()
    }

    /// The database's own URL.
    pub fn database_url(&self) -> &str {
        self.database.as_ref().expect("the first service of a world owns its database").url()
    }

    /// A connection of the test's own.
    pub async fn sql(&self) -> sqlx::PgConnection {
        use sqlx::Connection as _;
        sqlx::PgConnection::connect(self.database_url()).await.unwrap()
    }

    /// Asks the service to stop, and waits until it has.
    pub async fn stop(&mut self) -> Result<(), serve::ServeError> {
        self.stop.cancel();
        self.running.take().expect("stopped once").await.unwrap()
    }

    /// Waits for the service to end by itself.
    pub async fn ended(&mut self) -> Result<(), serve::ServeError> {
        self.running.take().expect("ends once").await.unwrap()
    }

    /// Asks the service to stop, and does not wait.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// This test makes the service do what Threads forbids, and says why.
    pub fn expect_violations(&mut self) {
        self.violations_expected = true;
    }

    /// Time passes, for the service and for Threads.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.controls.set_time(self.clock.now().unix_timestamp());
    }

    /// The key of a caller: `web`, `second` (of the second app), `only-ROLE`.
    pub fn key(&self, caller: &str) -> &str {
        &self.keys[caller]
    }

    /// A connection of its own to the service.
    pub async fn connect(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    /// The shared connection, with a caller's key on every call.
    pub fn channel_of(
        &self,
        caller: &str,
    ) -> WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>> {
        with_key(self.channel.clone(), self.key(caller))
    }

    pub fn authorizations(
        &self,
        caller: &str,
    ) -> AuthorizationServiceClient<
        WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>>,
    > {
        AuthorizationServiceClient::new(self.channel_of(caller))
    }

    pub fn accounts(
        &self,
        caller: &str,
    ) -> AccountServiceClient<WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>>>
    {
        AccountServiceClient::new(self.channel_of(caller))
    }

    pub fn profiles(
        &self,
        caller: &str,
    ) -> ProfileServiceClient<WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>>>
    {
        ProfileServiceClient::new(self.channel_of(caller))
    }

    pub fn tokens(
        &self,
        caller: &str,
    ) -> AccessTokenServiceClient<
        WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>>,
    > {
        AccessTokenServiceClient::new(self.channel_of(caller))
    }

    /// A URL to link for a user, as caller `web`.
    pub async fn create(&self, user_id: &str) -> CreateAuthorizationUrlResponse {
        self.create_with(link(user_id)).await
    }

    /// A URL for a link as given, as caller `web`.
    pub async fn create_with(&self, link: Link) -> CreateAuthorizationUrlResponse {
        let request = CreateAuthorizationUrlRequest {
            flow: Some(Flow::Link(link)),
            ..CreateAuthorizationUrlRequest::default()
        };
        self.authorizations("web").create_authorization_url(request).await.unwrap().into_inner()
    }

    /// The person allows it; where the browser is sent.
    pub fn consent(&self, created: &CreateAuthorizationUrlResponse, persona: &str) -> String {
        self.controls.consent(&created.authorization_url, persona, Decision::Allow).unwrap()
    }

    /// Completes a link, as caller `web`.
    pub async fn complete(
        &self,
        callback_url: &str,
        user_id: &str,
    ) -> Result<CompleteAuthorizationResponse, Status> {
        let request = completion(callback_url, user_id);
        self.authorizations("web").complete_authorization(request).await.map(tonic::Response::into_inner)
    }

    /// The whole round: a URL, the person's consent, the completion.
    pub async fn link(&self, user_id: &str, persona: &str) -> Result<CompleteAuthorizationResponse, Status> {
        let created = self.create(user_id).await;
        let callback_url = self.consent(&created, persona);
        self.complete(&callback_url, user_id).await
    }

    /// Creates a URL, as any caller.
    pub async fn create_as(
        &self,
        caller: &str,
        request: CreateAuthorizationUrlRequest,
    ) -> Result<CreateAuthorizationUrlResponse, Status> {
        let created = self.authorizations(caller).create_authorization_url(request).await;
        created.map(tonic::Response::into_inner)
    }

    /// Completes whatever it is, as any caller.
    pub async fn complete_as(
        &self,
        caller: &str,
        request: CompleteAuthorizationRequest,
    ) -> Result<CompleteAuthorizationResponse, Status> {
        let completed = self.authorizations(caller).complete_authorization(request).await;
        completed.map(tonic::Response::into_inner)
    }

    /// An authorization, as caller `web`.
    pub async fn authorization(&self, authorization_id: &str) -> Result<Authorization, Status> {
        let request = GetAuthorizationRequest { authorization_id: authorization_id.to_owned() };
        let found = self.authorizations("web").get_authorization(request).await;
        found.map(|found| found.into_inner().authorization.unwrap())
    }

    /// What a query that counts finds.
    pub async fn counted(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql().await).await.unwrap()
    }

    /// Waits until a query that asks whether something is so says that it is.
    pub async fn until(&self, query: &'static str) {
        let mut sql = self.sql().await;
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&mut sql).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The token of an account as a caller fetches it.
    pub async fn token_of(&self, account: &Account) -> String {
        let request = FetchAccessTokenRequest {
            account_id: account.account_id.clone(),
            user_id: account.user_id.clone(),
            ..FetchAccessTokenRequest::default()
        };
        self.tokens("web").fetch_access_token(request).await.unwrap().into_inner().access_token
    }

    /// Unlinks an account for its user.
    pub async fn unlink(&self, account: &Account) {
        let request =
            UnlinkAccountRequest { account_id: account.account_id.clone(), user_id: account.user_id.clone() };
        self.accounts("web").unlink_account(request).await.unwrap();
    }

    /// A metric of the service, by its full name with labels; 0 if it is absent.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.ops)).await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Everything that is in the database, as text: each row of each table.
    pub async fn dump(&self) -> String {
        use sqlx::Row as _;
        let mut sql = self.sql().await;
        let tables = "select tablename from pg_tables where schemaname = 'public'";
        let tables = sqlx::query(tables).fetch_all(&mut sql).await.unwrap();
        let mut dump = String::new();
        for table in tables {
            let table: String = table.get(0);
            let query = format!("select t::text from \"{table}\" t");
            for row in sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut sql).await.unwrap() {
                dump += &format!("{table}: {}\n", row.get::<String, _>(0));
            }
        }
        dump
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.abort();
        }
        if !std::thread::panicking() && !self.violations_expected {
            assert_eq!(self.controls.violations(), Vec::<String>::new(), "the client broke Threads' rules");
        }
    }
}

pub fn with_key(
    channel: Channel,
    key: &str,
) -> WithKey<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<>> {
    let key: MetadataValue<Ascii> = format!("Bearer {key}").parse().unwrap();
    InterceptedService::new(channel, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", key.clone());
        Ok(request)
    })
}

/// A link for a user, and nothing special.
pub fn link(user_id: &str) -> Link {
    Link { user_id: user_id.to_owned(), ..Link::default() }
}

/// The value of a parameter of a URL.
pub fn parameter(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
}

/// A completion of a link.
pub fn completion(callback_url: &str, user_id: &str) -> CompleteAuthorizationRequest {
    CompleteAuthorizationRequest {
        answer: Some(Answer::CallbackUrl(callback_url.to_owned())),
        user_id: Some(user_id.to_owned()),
        session_binding: None,
    }
}

/// What the API says of a reason.
pub fn documented(name: &str) -> &'static Documented {
    static ALL: LazyLock<Vec<Documented>> =
        LazyLock::new(|| Documented::all().into_iter().map(Result::unwrap).collect());
    ALL.iter().find(|documented| documented.name() == name).expect("a reason of the API")
}

/// The details of a failure that must have this code and reason.
#[track_caller]
pub fn failed<T>(result: Result<T, Status>, code: Code, reason: &str) -> ErrorDetails {
    let Err(status) = result else { panic!("succeeded instead of failing with {reason}") };
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
    assert_eq!(info.domain, "threads.identity.v1");
    assert!(status.details().len() < 4096, "details of {} bytes", status.details().len());
    assert_eq!(
        details.retry_info().is_some(),
        matches!(
            reason,
            "AUTHORIZATION_IN_PROGRESS"
                | "PROVIDER_UNAVAILABLE"
                | "PROVIDER_RATE_LIMITED"
                | "STORAGE_UNAVAILABLE"
                | "SHUTTING_DOWN"
                | "OVERLOADED"
                | "CALLER_RATE_LIMITED"
                | "KEY_UNAVAILABLE"
        ),
        "RetryInfo of {reason}"
    );
    assert_eq!(details.bad_request().is_some(), reason == "FIELD_INVALID", "BadRequest of {reason}");
    let announced = documented(reason).announced_keys();
    let stray: Vec<_> = info.metadata.keys().filter(|key| !announced.contains(*key)).collect();
    assert!(stray.is_empty(), "the API does not say that {reason} comes with {stray:?}");
    details
}

/// The fields that a refused request was refused for, in order.
#[track_caller]
pub fn bad_fields<T>(result: Result<T, Status>) -> Vec<String> {
    let details = failed(result, Code::InvalidArgument, "FIELD_INVALID");
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    violations.iter().map(|violation| violation.field.clone()).collect()
}

/// The metadata of a failure.
pub fn metadata(details: &ErrorDetails) -> &HashMap<String, String> {
    &details.error_info().unwrap().metadata
}
