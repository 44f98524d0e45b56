//! What takes part: Postgres, the simulator, the service, its rivals. Each is a
//! process of its own, and all end with this one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use threads_identity::grpc::new_caller_key;
use threads_identity::sealing::Keyring;
use threads_identity::simulator::{Options, Persona, Simulator};
use time::OffsetDateTime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::rivals::end_with_parent;

/// The app's redirect URI.
pub const REDIRECT_URI: &str = "https://id.example.com/callback";
/// A fetch for this purpose writes the trail at the rival too; the service always does.
pub const PURPOSE_OF_TRAIL: &str = "trail";
/// How long the tokens are that Threads gives, more or less.
pub const TOKEN_LEN: usize = 190;
/// Connections of the load generator to each side.
pub const CONNECTIONS: usize = 8;
/// Room for all that those connections may have in flight: the windows of HTTP/2 are
/// not what is measured.
const WINDOW: u32 = 4 * 1024 * 1024;
/// More watches than the thousand that are measured.
const STREAMS_MAX: usize = 1100;
/// How often what the simulator remembers is thrown away.
const FORGET: Duration = Duration::from_secs(2);
/// Far longer than anything takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The instant as a message carries it.
pub fn timestamp(time: OffsetDateTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.nanosecond()).unwrap_or_default();
    prost_types::Timestamp { seconds: time.unix_timestamp(), nanos }
}

/// A process that answers calls; dropping it ends it.
pub struct Process {
    child: Child,
    /// Closing it asks the process to end.
    _input: Option<ChildStdin>,
    pub address: SocketAddr,
}

impl Process {
    /// Starts one and waits until its first line says where it listens.
    fn start(command: &mut Command, address: impl Fn(&str) -> Option<SocketAddr>) -> (Self, String) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = address(line.trim()).unwrap_or_else(|| panic!("a process ended, having said: {line}"));
        (Self { _input: child.stdin.take(), child, address }, line)
    }

    /// This program again, as another part of the whole.
    pub fn part(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self::start(command.args(arguments), |line| line.parse().ok()).0
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let endpoint = endpoint.initial_connection_window_size(WINDOW).initial_stream_window_size(WINDOW);
        endpoint.connect().await.unwrap()
    }

    /// As many as are measured with.
    pub async fn connections(&self) -> Vec<Channel> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(self.connect().await);
        }
        channels
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is a simulator with so many people until standard input ends.
pub async fn simulate(people: u64) -> ! {
    let options = Options { redirect_uris: vec![REDIRECT_URI.to_owned()], ..Options::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let controls = simulator.controls();
    controls.add_personas((0..people).map(Persona::numbered));
    end_with_parent();
    println!("{}", simulator.address());
    loop {
        tokio::time::sleep(FORGET).await;
        controls.clear_ledger();
    }
}

/// What a service is started with.
pub struct Settings {
    pub keyring: Keyring,
    binary: PathBuf,
    key: String,
    config: PathBuf,
    log: PathBuf,
}

impl Settings {
    /// One caller with a key, one app whose Threads is the simulator. Everything else
    /// is as it is by default, but for the number of watches.
    pub fn new(home: &Path, provider: &str, binary: Option<&Path>) -> Self {
        let (key, hash) = new_caller_key();
        let app = Options::default();
        let mut text = String::from("[server]\n");
        for listener in ["grpc", "http", "ops"] {
            writeln!(text, "{listener}_listen = \"127.0.0.1:0\"").unwrap();
        }
        write!(
            text,
            "[watch]\nstreams_max = {STREAMS_MAX}\n\
             [[apps]]\nid = \"default\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             redirect_uris = [\"{REDIRECT_URI}\"]\nauthorize_url = \"{provider}/oauth/authorize\"\n\
             graph_url = \"{provider}\"\n\
             [[callers]]\nname = \"bench\"\napp = \"default\"\nroles = [\"link\", \"read\", \"sync\", \"token\"]\n\
             key_sha256 = [\"{hash}\"]\n",
            app.client_id, app.client_secret
        )
        .unwrap();
        let (config, log) = (home.join("config.toml"), home.join("serve.log"));
        fs::write(&config, text).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_threads-identity"));
        let (binary, keyring) =
            (binary.unwrap_or(built).to_owned(), Keyring::generate("2026-01-01T00:00:00Z"));
        Self { keyring, binary, key, config, log }
    }

    /// What every call of the load generator carries, to either side.
    pub fn authorization(&self) -> MetadataValue<Ascii> {
        format!("Bearer {}", self.key).parse().unwrap()
    }
}

/// The real `serve`.
pub struct Served {
    pub process: Process,
    /// From its start until it answered that it is ready.
    pub ready_after: Duration,
}

impl Served {
    /// Starts it and waits until it is ready.
    pub fn start(settings: &Settings, database_url: &str) -> Self {
        let log = File::options().create(true).append(true).open(&settings.log).unwrap();
        let mut command = Command::new(&settings.binary);
        command.args(["serve", "--json", "--config"]).arg(&settings.config).env_clear();
        command.env("DATABASE_URL", database_url);
        command.env("THREADS_IDENTITY_KEY", &*settings.keyring.to_inline()).stderr(log);
        let start = Instant::now();
        let (process, told) = Process::start(&mut command, |line| address_in(line, "grpc"));
        let ops = address_in(&told, "ops").unwrap();
        while !is_ready(ops) {
            assert!(start.elapsed() < PATIENCE, "not ready, see {}", settings.log.display());
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { process, ready_after: start.elapsed() }
    }
}

fn address_in(line: &str, listener: &str) -> Option<SocketAddr> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    told[listener].as_str()?.parse().ok()
}

fn is_ready(ops: SocketAddr) -> bool {
    let mut answer = [0; 12];
    let asked = TcpStream::connect(ops).and_then(|mut stream| {
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n")?;
        stream.read_exact(&mut answer)
    });
    asked.is_ok() && answer == *b"HTTP/1.1 200"
}
