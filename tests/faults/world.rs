//! One replica, its Postgres, and Threads.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use threads_identity::ids::AccountId;
use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::{
    Account, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, CreateAuthorizationUrlResponse,
    FetchAccessTokenRequest, GetAccountRequest, ListAccountsRequest, UnlinkAccountRequest,
    get_account_request,
};
use threads_identity::sealing::{Keyring, Place, Purpose};
use threads_identity::secret::{self, DatabaseUrl};
use threads_identity::simulator::{Controls, Decision, Options, Persona, Simulator};
use threads_identity::store;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::home::Home;
use crate::replica::Replica;
use crate::server::Postgres;

/// The app's redirect URI.
const REDIRECT_URI: &str = "https://id.example.com/callback";
/// Longer than any answer may take.
const CALL_MAX: Duration = Duration::from_secs(40);
/// Far longer than anything takes that is not stuck.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What lies around a replica that is not there yet.
pub struct Ground {
    pub home: Home,
    pub postgres: Postgres,
}

impl Ground {
    /// A Postgres with the schema in it.
    pub async fn new() -> Self {
        Self::with(|data| ClusterOptions { max_connections: 200, ..ClusterOptions::new(data) }).await
    }

    /// The same, run as a test wants.
    pub async fn with(options: impl FnOnce(PathBuf) -> ClusterOptions) -> Self {
        let home = Home::new();
        let postgres = Postgres::start(options(home.path.join("server"))).await;
        store::migrate(&DatabaseUrl::new(postgres.url())).await.unwrap();
        Self { home, postgres }
    }
}

/// Everything that takes part.
pub struct World {
    pub controls: Controls,
    pub postgres: Mutex<Postgres>,
    pub replica: Mutex<Replica>,
    pub keyring: Keyring,
    pub home: Home,
    grpc: SocketAddr,
    ops: SocketAddr,
    channel: Channel,
    database_url: String,
    simulator: Simulator,
}

impl World {
    /// A replica that reaches its database directly.
    pub async fn start() -> Self {
        let ground = Ground::new().await;
        let url = ground.postgres.url();
        Self::on(ground, &url, "").await
    }

    /// A replica that reaches it by this URL.
    pub async fn on_url(ground: Ground, url: &str) -> Self {
        Self::on(ground, url, "").await
    }

    /// A replica that reaches it by this URL, with these lines in its
    /// configuration.
    pub async fn on(ground: Ground, url: &str, settings: &str) -> Self {
        let Ground { home, postgres } = ground;
        let options = Options { redirect_uris: vec![REDIRECT_URI.to_owned()], ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let [grpc, http, ops] = addresses();
        let (base, defaults) = (simulator.base_url(), Options::default());
        let text = format!(
            "{settings}\n[server]\ngrpc_listen = \"{grpc}\"\nhttp_listen = \"{http}\"\nops_listen = \"{ops}\"\n\n\
             [[apps]]\nid = \"default\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             redirect_uris = [\"{REDIRECT_URI}\"]\nauthorize_url = \"{base}/oauth/authorize\"\n\
             graph_url = \"{base}\"\n",
            defaults.client_id, defaults.client_secret
        );
        let config = home.path.join("config.toml");
        fs::write(&config, text).unwrap();
        let keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let log = home.path.join("replica.log");
        let database_url = postgres.url();
        let replica = Replica::start(&config, log, url, &keyring.to_inline());
        let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect_lazy();
        Self {
            controls: simulator.controls(),
            postgres: Mutex::new(postgres),
            replica: Mutex::new(replica),
            keyring,
            home,
            grpc,
            ops,
            channel,
            database_url,
            simulator,
        }
    }

    /// People who can be asked, by numbers below this one.
    pub fn people(&self, count: u64) {
        self.controls.add_personas((0..count).map(Persona::numbered));
    }

    /// What `/readyz`, `/livez` and the like answer; 0 while nobody listens.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        match reqwest::get(format!("http://{}{path}", self.ops)).await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    pub async fn until_ready(&self) {
        self.until("it is ready", async || self.probe("/readyz").await.0 == 200).await;
    }

    /// Waits until something is so, and says how long it took.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) -> Duration {
        let start = Instant::now();
        while !so().await {
            assert!(start.elapsed() < PATIENCE, "waited too long until {what}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
        start.elapsed()
    }

    /// The end of what the replica has logged.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.home.path.join("replica.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub async fn sql(&self) -> PgConnection {
        PgConnection::connect(&self.database_url).await.unwrap()
    }

    /// What a query that counts finds, past every proxy.
    pub async fn counted(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql().await).await.unwrap()
    }

    /// A channel of its own.
    pub fn connect(&self) -> Channel {
        self.endpoint().connect_lazy()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap()
    }

    pub fn authorizations(&self) -> AuthorizationServiceClient<Channel> {
        AuthorizationServiceClient::new(self.channel.clone())
    }

    pub fn accounts(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
    }

    pub fn tokens(&self) -> AccessTokenServiceClient<Channel> {
        AccessTokenServiceClient::new(self.channel.clone())
    }

    pub async fn create(&self, user_id: &str) -> Result<CreateAuthorizationUrlResponse, Status> {
        let link = Link { user_id: user_id.to_owned(), ..Link::default() };
        let request = CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..Default::default() };
        let created = self.authorizations().create_authorization_url(within(request)).await;
        created.map(tonic::Response::into_inner)
    }

    /// Creates a URL and has the person of this number decide; where the browser
    /// is sent.
    pub async fn answered(&self, user_id: &str, person: u64, decision: Decision) -> Result<String, Status> {
        let created = self.create(user_id).await?;
        let key = Persona::numbered(person).key;
        Ok(self.controls.consent(&created.authorization_url, &key, decision).unwrap())
    }

    pub async fn complete(&self, callback_url: &str, user_id: &str) -> Result<Account, Status> {
        let request = CompleteAuthorizationRequest {
            answer: Some(Answer::CallbackUrl(callback_url.to_owned())),
            user_id: Some(user_id.to_owned()),
            session_binding: None,
        };
        let completed = self.authorizations().complete_authorization(within(request)).await;
        completed.map(|completed| completed.into_inner().account.unwrap())
    }

    /// The whole round, once.
    pub async fn link(&self, user_id: &str, person: u64) -> Result<Account, Status> {
        let callback_url = self.answered(user_id, person, Decision::Allow).await?;
        self.complete(&callback_url, user_id).await
    }

    /// Repeats a completion for as long as the API says that this may help.
    pub async fn complete_firmly(&self, callback_url: &str, user_id: &str) -> Result<Account, Status> {
        let start = Instant::now();
        loop {
            match self.complete(callback_url, user_id).await {
                Err(status) if is_passing(&status) => {
                    assert!(start.elapsed() < 2 * PATIENCE, "{status:?}\n{}", self.log());
                    sleep(Duration::from_millis(50)).await;
                }
                answer => return answer,
            }
        }
    }

    /// The whole round, from the start again where the API says so.
    pub async fn link_firmly(&self, user_id: &str, person: u64) -> Account {
        let start = Instant::now();
        loop {
            let answered = self.answered(user_id, person, Decision::Allow).await;
            let status = match answered {
                Ok(callback_url) => match self.complete_firmly(&callback_url, user_id).await {
                    Ok(account) => return account,
                    Err(status) => status,
                },
                Err(status) => status,
            };
            let again = is_passing(&status) || reason(&status) == "AUTHORIZATION_INTERRUPTED";
            assert!(again && start.elapsed() < 3 * PATIENCE, "{status:?}\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every link that was acknowledged is there, with the token that Threads gave
    /// its person last, and with one event; and there is no other.
    pub async fn require_links(&self, linked: &[Account]) {
        let mut sql = self.sql().await;
        let rows: Vec<(Uuid, String, Vec<u8>, i64)> = sqlx::query_as(
            "select account_id, user_id, token,
                    (select count(*) from events e where e.account_id = a.account_id and e.kind = 'LINKED')
             from accounts a where state = 'ACTIVE'",
        )
        .fetch_all(&mut sql)
        .await
        .unwrap();
        let stored: HashMap<String, (String, Vec<u8>, i64)> = rows
            .into_iter()
            .map(|(id, user_id, token, events)| (AccountId(id).to_string(), (user_id, token, events)))
            .collect();
        for account in linked {
            let (user_id, token, events) = &stored[&account.account_id];
            assert_eq!((user_id, *events), (&account.user_id, 1), "{}", account.account_id);
            let id = AccountId::parse(&account.account_id).unwrap();
            let place = Place { purpose: Purpose::Token, app_id: "default", row: id.0.as_bytes() };
            let token = String::from_utf8(self.keyring.open(place, token).unwrap().to_vec()).unwrap();
            assert!(self.controls.is_newest(&token), "{}: not the newest token", account.account_id);
        }
        assert_eq!(stored.len(), linked.len(), "nobody else is linked");
    }

    pub async fn account(&self, account_id: &str) -> Result<Account, Status> {
        let account = Some(get_account_request::Account::AccountId(account_id.to_owned()));
        let found = self.accounts().get_account(within(GetAccountRequest { account, user_id: None })).await;
        found.map(|found| found.into_inner().account.unwrap())
    }

    pub async fn list(&self, user_id: &str) -> Result<Vec<Account>, Status> {
        let request = ListAccountsRequest { user_id: Some(user_id.to_owned()), ..Default::default() };
        self.accounts().list_accounts(within(request)).await.map(|listed| listed.into_inner().accounts)
    }

    pub async fn token(&self, account: &Account) -> Result<String, Status> {
        let request = FetchAccessTokenRequest {
            account_id: account.account_id.clone(),
            user_id: account.user_id.clone(),
            ..Default::default()
        };
        let fetched = self.tokens().fetch_access_token(within(request)).await;
        fetched.map(|fetched| fetched.into_inner().access_token)
    }

    pub async fn unlink(&self, account: &Account) -> Result<(), Status> {
        let request =
            UnlinkAccountRequest { account_id: account.account_id.clone(), user_id: account.user_id.clone() };
        self.accounts().unlink_account(within(request)).await.map(drop)
    }

    /// Ends everything in order; the replica never ended by itself, and Threads has
    /// nothing to complain of.
    pub async fn end(self) {
        let mut replica = self.replica.into_inner();
        replica.stop();
        assert_eq!(replica.deserted, None, "{:?}", fs::read_to_string(&replica.log));
        assert_eq!(self.controls.violations(), Vec::<String>::new());
        self.simulator.stop().await;
        let mut postgres = self.postgres.into_inner();
        if postgres.cluster.is_some() {
            postgres.stop().await;
        }
    }
}

/// Addresses that are free now. They stay the same when a replica begins anew.
fn addresses() -> [SocketAddr; 3] {
    [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())))
}

/// A port that is free now, and none of those that systems give to whoever
/// connects: while its replica is down nobody else is given it.
pub fn free_port() -> u16 {
    loop {
        let port = 10_000 + u16::from_be_bytes(secret::random()) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request
}

/// The reason of a failure; empty where the connection itself broke.
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Whether repeating the same call may help.
pub fn is_passing(status: &Status) -> bool {
    match reason(status).as_str() {
        // The connection broke.
        "" => true,
        reason => matches!(
            reason,
            "STORAGE_UNAVAILABLE"
                | "OVERLOADED"
                | "SHUTTING_DOWN"
                | "PROVIDER_UNAVAILABLE"
                | "AUTHORIZATION_IN_PROGRESS"
                | "DEADLINE_EXCEEDED"
        ),
    }
}

/// A number from 0 to 1.
pub fn chance() -> f64 {
    f64::from(u32::from_be_bytes(secret::random())) / f64::from(u32::MAX)
}

pub fn between(least: u64, most: u64) -> Duration {
    Duration::from_millis(least) + Duration::from_millis(most - least).mul_f64(chance())
}

/// A number that a long form of a test is given by its command.
pub fn asked_for(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}
