//! A database, a folder, and the binary that serves from both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use threads_identity::grpc::new_caller_key;
use threads_identity::postgres::scratch::{Database, Databases};
use threads_identity::proto::v1::ListAccountsRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::sealing::Keyring;
use threads_identity::secret::{self, DatabaseUrl};
use threads_identity::store;
use tokio::sync::OnceCell;
use tokio::time::sleep;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::certificates::{Authority, Issued};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

static DATABASES: OnceCell<Databases> = OnceCell::const_new();

/// What every process of a test shares.
pub struct World {
    database: Database,
    keyring: String,
    key: String,
    hash: String,
    pub folder: PathBuf,
}

impl World {
    pub async fn new() -> Self {
        let start = || async {
            let environment = |name: &str| std::env::var(name).ok();
            let migrate = async |url: String| Ok(store::migrate(&DatabaseUrl::new(url)).await?);
            Databases::start(&environment, migrate).await.unwrap()
        };
        let database = DATABASES.get_or_init(start).await.create().await.unwrap();
        let folder = std::env::temp_dir()
            .join(format!("threads-identity-listener-{}", secret::hex(&secret::random::<8>())));
        fs::create_dir(&folder).unwrap();
        let (key, hash) = new_caller_key();
        let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
        Self { database, keyring, key, hash, folder }
    }

    /// A process that serves, with this in front of the usual configuration.
    pub async fn serve(&self, config: &str) -> Process {
        self.serve_at("127.0.0.1:0", config, None).await
    }

    /// The same at an address, and with so many open files.
    pub async fn serve_at(&self, address: &str, config: &str, open_files: Option<u32>) -> Process {
        let file = self.folder.join(format!("{}.toml", secret::hex(&secret::random::<4>())));
        let text = format!(
            "{config}\n[[apps]]\nid = \"default\"\nclient_id = \"990602627938098\"\nclient_secret = \"canary\"\n\
             redirect_uris = [\"https://id.example.com/callback\"]\n\n[[callers]]\nname = \"web\"\n\
             roles = [\"read\", \"sync\"]\nkey_sha256 = [\"{}\"]\n",
            self.hash
        );
        fs::write(&file, text).unwrap();
        let binary = env!("CARGO_BIN_EXE_threads-identity");
        let mut command = match open_files {
            None => Command::new(binary),
            Some(most) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--nofile={most}:{most}")).arg(binary);
                limited
            }
        };
        let log = self.folder.join(format!("{}.log", secret::hex(&secret::random::<4>())));
        command.args(["serve", "--json", "--config"]).arg(&file).env_clear();
        command.env("PATH", std::env::var("PATH").unwrap()).env("RUST_LOG", "info");
        command.env("DATABASE_URL", self.database.url()).env("THREADS_IDENTITY_KEY", &self.keyring);
        for (listener, address) in [("GRPC", address), ("HTTP", "127.0.0.1:0"), ("OPS", "127.0.0.1:0")] {
            command.env(format!("THREADS_IDENTITY__SERVER__{listener}_LISTEN"), address);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let places: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("it does not start: {}", fs::read_to_string(&log).unwrap()));
        let place = |name: &str| places[name].as_str().unwrap().parse().unwrap();
        let process = Process { grpc: place("grpc"), http: place("http"), ops: place("ops"), child, log };
        process
            .until("it is ready", async || process.get("/readyz").await.is_some_and(|text| text == "ready\n"))
            .await;
        process
    }

    /// Asks for a user's accounts, of whom there is none: the whole way to the database
    /// and back.
    pub async fn ask(&self, channel: &Channel) -> Result<(), Status> {
        let message = ListAccountsRequest { user_id: Some("user-1".to_owned()), ..Default::default() };
        AccountServiceClient::new(channel.clone()).list_accounts(self.request(message)).await.map(drop)
    }

    /// The caller's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A message with the caller's key.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.key).parse().unwrap());
        request
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One process, killed at the end of the test if it still runs.
pub struct Process {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection in plaintext.
    pub async fn connect(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().timeout(PATIENCE)
    }

    /// What `ops` says; `None` if it cannot be asked.
    pub async fn get(&self, path: &str) -> Option<String> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("http://{}{path}", self.ops)).send().await.ok()?.text().await.ok()
    }

    /// A metric, by its full name with labels; 0 if it is absent.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for something.
    pub async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "waited too long until {what}:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How long it has kept processors busy: user and system time.
    pub fn busy(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // A hundred a second, on every Linux that there is.
        Duration::from_millis(ticks * 10)
    }

    /// The memory that it holds, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a client believes an authority, and shows what it has itself.
pub fn believing(authority: &Authority, own: Option<&Issued>) -> ClientTlsConfig {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    match own {
        None => tls,
        Some(own) => tls.identity(Identity::from_pem(&own.certificate, &own.key)),
    }
}

/// The address over TLS.
pub fn secured(grpc: SocketAddr, tls: ClientTlsConfig) -> Endpoint {
    Endpoint::from_shared(format!("https://{grpc}")).unwrap().timeout(PATIENCE).tls_config(tls).unwrap()
}
