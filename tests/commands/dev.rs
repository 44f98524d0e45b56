//! `dev`: everything on one machine, with nothing installed or registered.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use threads_identity::proto::v1::access_token_service_client::AccessTokenServiceClient;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::authorization_service_client::AuthorizationServiceClient;
use threads_identity::proto::v1::complete_authorization_request::Answer;
use threads_identity::proto::v1::create_authorization_url_request::{Flow, Link};
use threads_identity::proto::v1::{
    Account, CompleteAuthorizationRequest, CreateAuthorizationUrlRequest, FetchAccessTokenRequest,
    ListAccountsRequest,
};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use crate::run::{Directory, Running, clean, command, command_of, end, run, until};

/// A `dev` that runs.
pub struct Dev {
    running: Running,
    places: Value,
}

impl Dev {
    pub fn start(data_dir: &Path) -> Self {
        Self::of(Running::start(&mut dev(data_dir)))
    }

    fn of(running: Running) -> Self {
        let places = running.json();
        Self { running, places }
    }

    pub fn text(&self, name: &str) -> &str {
        self.places[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.places))
    }

    pub fn demo(&self) -> Url {
        self.text("demo").parse().unwrap()
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.text("grpc"))).unwrap().connect().await.unwrap()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let key = format!("Bearer {}", self.text("caller_key"));
        request.metadata_mut().insert("authorization", key.parse().unwrap());
        request
    }

    pub async fn consent(&self, authorization_url: &str, persona: &str) -> String {
        let click =
            json!({ "authorization_url": authorization_url, "persona": persona, "decision": "allow" });
        let url = format!("{}/_simulator/consent", self.text("simulator"));
        let request = reqwest::Client::builder().build().unwrap().post(url);
        let request = request.header("content-type", "application/json").body(click.to_string());
        let answer: Value =
            serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        answer["callback_url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Links an account over gRPC.
    pub async fn link(&self, user_id: &str, persona: &str) -> Account {
        let mut authorizations = AuthorizationServiceClient::new(self.channel().await);
        let link = Link { user_id: user_id.to_owned(), ..Link::default() };
        let create = CreateAuthorizationUrlRequest { flow: Some(Flow::Link(link)), ..Default::default() };
        let created =
            authorizations.create_authorization_url(self.request(create)).await.unwrap().into_inner();
        let complete = CompleteAuthorizationRequest {
            answer: Some(Answer::CallbackUrl(self.consent(&created.authorization_url, persona).await)),
            user_id: Some(user_id.to_owned()),
            session_binding: None,
        };
        let completed = authorizations.complete_authorization(self.request(complete)).await.unwrap();
        completed.into_inner().account.unwrap()
    }

    pub async fn accounts(&self) -> Vec<Account> {
        let mut accounts = AccountServiceClient::new(self.channel().await);
        let request = self.request(ListAccountsRequest::default());
        accounts.list_accounts(request).await.unwrap().into_inner().accounts
    }

    /// Every address that it listens on.
    fn addresses(&self) -> Vec<String> {
        let names = ["grpc", "http", "ops", "simulator", "demo"];
        names.map(|name| self.text(name).replace("http://", "")).to_vec()
    }

    /// Asks it to stop, and checks that no server is left.
    pub fn stop(mut self, signal: &str) {
        let data = self.data();
        self.running.signal(signal);
        let status = self.running.wait();
        assert_eq!(status.code(), Some(0), "{:#?}", self.running.errors());
        assert_eq!(servers_on(&data), 0, "Postgres is left");
    }

    /// Postgres' own folder.
    fn data(&self) -> PathBuf {
        Path::new(self.text("data_dir")).join("postgres")
    }
}

pub fn dev(data_dir: &Path) -> Command {
    let mut dev = command(["dev", "--json", "--data-dir"]);
    dev.arg(data_dir);
    dev
}

/// The server's processes on a data directory: the main one and its children.
fn servers_on(data: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir == data)).count()
}

#[tokio::test]
async fn it_says_where_everything_is_and_keeps_what_was_linked() {
    let directory = Directory::new("dev-keeps");
    let data_dir = directory.path("data");
    let dev = Dev::start(&data_dir);
    for name in ["grpc", "ops", "simulator", "demo", "caller_key", "database_url", "data_dir"] {
        assert!(!dev.text(name).is_empty());
    }
    assert_eq!(dev.places.as_object().unwrap().len(), 8, "{}", dev.places);
    assert_eq!(Path::new(dev.text("data_dir")), data_dir.canonicalize().unwrap());
    let ready = reqwest::get(format!("http://{}/readyz", dev.text("ops"))).await.unwrap();
    assert_eq!(ready.status(), 200);
    let account = dev.link("user-1", "full").await;
    let fetch = FetchAccessTokenRequest {
        account_id: account.account_id.clone(),
        user_id: "user-1".to_owned(),
        ..Default::default()
    };
    let mut tokens = AccessTokenServiceClient::new(dev.channel().await);
    let before = tokens.fetch_access_token(dev.request(fetch.clone())).await.unwrap().into_inner();
    let key = dev.text("caller_key").to_owned();
    for file in ["keys.toml", "caller.key"] {
        let mode = fs::metadata(data_dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is open to others: {mode:o}");
    }
    dev.stop("-INT");

    let dev = Dev::start(&data_dir);
    assert_eq!(dev.text("caller_key"), key, "what was pasted yesterday works today");
    assert_eq!(
        dev.accounts().await,
        [Account { last_token_fetch_time: dev.accounts().await[0].last_token_fetch_time, ..account.clone() }]
    );
    let mut tokens = AccessTokenServiceClient::new(dev.channel().await);
    let after = tokens.fetch_access_token(dev.request(fetch)).await.unwrap().into_inner();
    assert_eq!(after, before, "the keys are the same");
    // The simulator has forgotten everybody; the person simply consents again.
    let again = dev.link("user-1", "full").await;
    assert_eq!(again.account_id, account.account_id);
    dev.stop("-TERM");
}

#[tokio::test]
async fn two_at_once_move_to_other_ports_and_share_no_folder() {
    let directory = Directory::new("dev-two");
    let (first_dir, second_dir) = (directory.path("first"), directory.path("second"));
    // Started together, so that they reach for the usual ports at the same time.
    let running = [&first_dir, &second_dir].map(|data_dir| Running::start(&mut dev(data_dir)));
    let [first, second] = running.map(Dev::of);
    let mut addresses = [first.addresses(), second.addresses()].concat();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 10, "{addresses:?}");
    let (linked, _) = tokio::join!(first.link("user-1", "full"), second.link("user-1", "full"));
    assert_eq!(first.accounts().await, [linked]);

    let error = end(dev(&first_dir)).bad();
    assert!(error.contains(&format!("process {}", first.running.id())), "{error}");
    assert!(error.contains(first_dir.canonicalize().unwrap().to_str().unwrap()), "{error}");
    // The first one did not notice.
    assert_eq!(first.accounts().await.len(), 1);
    first.stop("-INT");
    second.stop("-INT");
}

#[tokio::test]
async fn busy_ports_move_and_are_free_afterwards() {
    let usual = [50051, 8080, 9090, 8091, 8090];
    // Another test's `dev` may have them for a while; whoever has them longer keeps them busy, too.
    let deadline = Instant::now() + Duration::from_secs(10);
    let _busy = usual.map(|port| {
        loop {
            let ours = TcpListener::bind(("127.0.0.1", port)).ok();
            if ours.is_some() || Instant::now() > deadline {
                return ours;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let directory = Directory::new("dev-busy");
    let dev = Dev::start(&directory.path("data"));
    let addresses = dev.addresses();
    for (address, port) in addresses.iter().zip(usual) {
        assert!(!address.ends_with(&format!(":{port}")), "{address}");
    }
    dev.link("user-1", "full").await;
    dev.stop("-INT");
    for address in addresses {
        TcpListener::bind(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

#[tokio::test]
async fn nobody_who_stays_connected_keeps_it_from_stopping() {
    let directory = Directory::new("dev-silent");
    let dev = Dev::start(&directory.path("data"));
    let open = |address: &String| {
        let connect = || std::net::TcpStream::connect(address).unwrap();
        let (silent, mut half) = (connect(), connect());
        half.write_all(b"GET / HTTP/1.1\r\nhost").unwrap();
        [silent, half]
    };
    let _open: Vec<_> = dev.addresses().iter().map(open).collect();
    let begun = Instant::now();
    dev.stop("-INT");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn kill_9_leaves_no_postgres() {
    let directory = Directory::new("dev-killed");
    let data_dir = directory.path("data");
    let mut dev = Dev::start(&data_dir);
    let account = dev.link("user-1", "full").await;
    let data = dev.data();
    assert!(servers_on(&data) > 1);
    dev.running.signal("-KILL");
    dev.running.wait();
    until("no server is left", || servers_on(&data) == 0);
    let dev = Dev::start(&data_dir);
    assert_eq!(dev.accounts().await, [account], "what was committed is there");
    dev.stop("-INT");
}

#[tokio::test]
async fn keys_that_were_lost_are_named_and_end_it() {
    let directory = Directory::new("dev-keys");
    let data_dir = directory.path("data");
    Dev::start(&data_dir).stop("-INT");
    fs::remove_file(data_dir.join("keys.toml")).unwrap();
    let error = end(dev(&data_dir)).bad();
    assert!(error.contains("id_key is not the one"), "{error}");
    assert_eq!(servers_on(&data_dir.canonicalize().unwrap().join("postgres")), 0);

    fs::write(data_dir.join("keys.toml"), "nonsense").unwrap();
    let error = end(dev(&data_dir)).bad();
    assert!(error.contains("keys.toml") && error.contains("is not a keyring"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let error = run(&["dev", "--data-dir", "/proc/nowhere"]).bad();
    assert!(error.contains("/proc/nowhere"), "{error}");
}

#[test]
fn a_named_server_that_does_not_answer_is_named_without_its_password() {
    let directory = Directory::new("dev-named");
    for url in ["postgres://a:canary@127.0.0.1:1/x", "mysql://a:canary@127.0.0.1"] {
        let mut dev = dev(&directory.path("data"));
        dev.env("THREADS_IDENTITY_DEV_DATABASE_URL", url);
        let error = end(dev).bad();
        assert!(error.contains("THREADS_IDENTITY_DEV_DATABASE_URL") && !error.contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn the_guide_for_people_names_every_place() {
    let directory = Directory::new("dev-guide");
    let mut dev = command(["dev", "--data-dir"]);
    dev.arg(directory.path("data"));
    let mut running = Running::start(&mut dev);
    let guide = running.printed("Ctrl-C");
    for word in [
        "Click here",
        "gRPC service",
        "/_simulator/",
        "/readyz",
        "postgres://",
        "link user-3",
        "grpcurl",
        "pip install",
    ] {
        assert!(guide.contains(word), "{word}: {guide}");
    }
    // Who is preselected in the browser is linked to the browser's user.
    assert!(!guide.contains("\"full\""), "{guide}");
    for left in ["GRPC_ADDRESS", "SIMULATOR_URL", "Bearer CALLER_KEY"] {
        assert!(!guide.contains(left), "{left}: {guide}");
    }
    running.signal("-INT");
    assert_eq!(running.wait().code(), Some(0));
}

#[tokio::test]
async fn a_terminal_links_without_the_demo_in_between() {
    let directory = Directory::new("dev-terminal");
    let dev = Dev::start(&directory.path("data"));
    let redirect_uri = format!("{}/from-a-terminal", dev.text("http"));
    let mut link = command(["link", "user-3", "--json", "--redirect-uri", &redirect_uri]);
    link.env("THREADS_IDENTITY_SERVER", format!("http://{}", dev.text("grpc")));
    link.env("THREADS_IDENTITY_CALLER_KEY", dev.text("caller_key"));
    let mut linking = Running::start(link.stdin(std::process::Stdio::piped()));
    let begun = linking.json();
    let callback_url = dev.consent(begun["authorization_url"].as_str().unwrap(), "bare").await;
    assert!(callback_url.starts_with(&redirect_uri), "{callback_url}");
    linking.say(&callback_url);
    linking.end().good();
    assert_eq!(dev.accounts().await[0].user_id, "user-3");
    dev.stop("-INT");
}

#[tokio::test]
async fn an_ordinary_user_can_run_it() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok_and(|o| o.status.success());
    if !is_root || !has_setpriv {
        println!("left out: it takes root and setpriv to become somebody else");
        return;
    }
    let directory = Directory::new("dev-ordinary");
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o777)).unwrap();
    // The build directory may be closed to others.
    let binary = directory.path("threads-identity");
    fs::copy(env!("CARGO_BIN_EXE_threads-identity"), &binary).unwrap();
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut dev = Command::new("setpriv");
    dev.args(user).arg(&binary).args(["dev", "--json"]);
    clean(&mut dev);
    dev.env("HOME", directory.path("home")).current_dir(&directory.0);
    let dev = Dev::of(Running::start(&mut dev));
    let home = directory.path("home").canonicalize().unwrap();
    assert!(Path::new(dev.text("data_dir")).starts_with(home), "{}", dev.places);
    assert_eq!(fs::metadata(dev.data()).unwrap().uid(), 65534);
    dev.link("user-1", "full").await;
    dev.stop("-INT");

    let mut keys = Command::new("setpriv");
    keys.args(user).arg(&binary).args(["keys", "generate", "--file", "/root/keys.toml"]);
    clean(&mut keys);
    let error = end(keys).bad();
    assert!(error.contains("/root/keys.toml"), "{error}");
    assert!(end(command_of(&binary, ["--version"])).good().contains("threads-identity"));
}
