//! Everything that a measurement stands on, and the turns in which it is made.

use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use threads_identity::postgres::{Cluster, Options, Places};
use tonic::transport::Channel;

use crate::calls::Calls;
use crate::process::{processor, processor_of_children};
use crate::world::{Process, Served, Settings};
use crate::{load, seed};

/// Accounts of the smaller database, which all but the largest is compared in.
pub const ACCOUNTS: u64 = 100_000;
/// People to link: more than a run gets to.
pub const PEOPLE: u64 = 400_000;
/// Calls in flight.
pub const AT_ONCE: usize = 256;

const SMALL: &str = "small";
const LARGE: &str = "large";
/// Two services, the rivals and a few of our own.
const CONNECTIONS_MAX: u32 = 200;
/// Each side is warmed up before the first turn.
const WARM_UP: Duration = Duration::from_millis(700);

/// A side of a comparison.
pub struct Side {
    pub name: &'static str,
    pub id: u32,
    pub channels: Vec<Channel>,
}

impl Side {
    async fn of(name: &'static str, process: &Process) -> Self {
        Self { name, id: process.id(), channels: process.connections().await }
    }
}

/// What a side has done in one turn: calls a second, and the processor time that one
/// call took here, at the side, in Postgres and in the simulator, in microseconds.
#[derive(Clone, Copy)]
pub struct Turn {
    pub rate: f64,
    pub generator: f64,
    pub server: f64,
    pub postgres: f64,
    pub simulator: f64,
}

/// What a side has done in all turns of a comparison.
pub struct Turns {
    pub side: &'static str,
    pub turns: Vec<Turn>,
}

impl Turns {
    /// One figure of each turn.
    pub fn each(&self, figure: impl Fn(&Turn) -> f64) -> Vec<f64> {
        self.turns.iter().map(figure).collect()
    }
}

/// Postgres with both databases, the simulator, the service and its rivals. Its
/// fields end in order.
pub struct Ground {
    pub ours: Side,
    pub memory: Side,
    pub bare: Side,
    /// The service on the larger database, if that is wanted.
    pub large: Option<Side>,
    pub calls: Calls,
    pub provider: String,
    pub settings: Settings,
    _served: Vec<Served>,
    _rivals: [Process; 2],
    simulator: Process,
    cluster: Cluster,
    _home: Home,
}

/// A directory on the disk that everything else is built on, gone afterwards.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Ground {
    /// Sets everything up. `accounts` is the size of the larger database; none leaves
    /// it out. `binary` is another build of the service to measure. `shared_buffers` is
    /// Postgres' own setting; none is its default.
    pub async fn new(accounts: Option<u64>, binary: Option<&Path>, shared_buffers: Option<&str>) -> Self {
        let home = Home(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compare"));
        let _ = fs::remove_dir_all(&home.0);
        fs::create_dir_all(&home.0).unwrap();
        let simulator = Process::part(&["simulator", &PEOPLE.to_string()]);
        let provider = format!("http://{}", simulator.address);
        let settings = Settings::new(&home.0, &provider, binary);
        let cluster = seeded(&home, &settings, accounts, shared_buffers).await;
        // By TCP, as a database on another machine is reached.
        let url = cluster.tcp_url(SMALL).unwrap();
        let rival = |kind| Process::part(&["rival", kind, &url, &provider]);
        let (memory, bare) = (rival("memory"), rival("bare"));
        let mut served = vec![Served::start(&settings, &url)];
        let mut large = None;
        if accounts.is_some() {
            let one = Served::start(&settings, &cluster.tcp_url(LARGE).unwrap());
            large = Some(Side::of("large", &one.process).await);
            served.push(one);
        }
        Self {
            ours: Side::of("the service", &served[0].process).await,
            memory: Side::of("(a)", &memory).await,
            bare: Side::of("(b)", &bare).await,
            large,
            calls: Calls::new(settings.authorization(), ACCOUNTS),
            provider,
            settings,
            _served: served,
            _rivals: [memory, bare],
            simulator,
            cluster,
            _home: home,
        }
    }

    pub fn url(&self) -> String {
        self.cluster.tcp_url(SMALL).unwrap()
    }

    /// Starts the service once more.
    pub fn start(&self) -> Served {
        Served::start(&self.settings, &self.url())
    }

    /// Lets the sides work in turns, each with its call: the turns of each, after so
    /// many rounds.
    pub async fn turns<F, Fut>(
        &self,
        sides: &[(&Side, F)],
        at_once: usize,
        rounds: usize,
        time: Duration,
    ) -> Vec<Turns>
    where
        F: Fn(Channel, u64) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        for (side, call) in sides {
            load::rate(&side.channels, at_once, WARM_UP, call.clone()).await;
        }
        let mut all: Vec<Turns> =
            sides.iter().map(|(side, _)| Turns { side: side.name, turns: Vec::new() }).collect();
        for _ in 0..rounds {
            for ((side, call), of_side) in sides.iter().zip(&mut all) {
                let used = || {
                    let of_postgres = processor_of_children(self.cluster.process_id());
                    let [here, there, simulator] =
                        [std::process::id(), side.id, self.simulator.id()].map(processor);
                    [here, there, of_postgres, simulator]
                };
                let before = used();
                let (calls, seconds) = load::rate(&side.channels, at_once, time, call.clone()).await;
                let after = used();
                let per_call = |i: usize| (after[i] - before[i]) * 1e6 / calls;
                let rate = calls / seconds;
                let [generator, server, postgres, simulator] = [0, 1, 2, 3].map(per_call);
                of_side.turns.push(Turn { rate, generator, server, postgres, simulator });
            }
        }
        all
    }
}

/// Nobody else listens on it yet.
fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// A durable Postgres with the accounts in it. They are put there by one that is not,
/// and are on the disk before anything is measured.
async fn seeded(
    home: &Home,
    settings: &Settings,
    accounts: Option<u64>,
    shared_buffers: Option<&str>,
) -> Cluster {
    let environment = |name: &str| std::env::var(name).ok();
    let installation = Places::from_env(&environment).locate().await.unwrap();
    let data = home.0.join("postgres");
    let options = Options { max_connections: CONNECTIONS_MAX, ..Options::new(data) };
    let hasty = Options { durable: false, ..options.clone() };
    let cluster = Cluster::start(&installation, hasty).await.unwrap();
    let databases = [(SMALL, Some(ACCOUNTS)), (LARGE, accounts)];
    for (name, accounts) in databases.into_iter().filter_map(|(name, count)| Some((name, count?))) {
        println!("making {accounts} accounts …");
        let url = cluster.url(name);
        seed::database(&cluster.url("postgres"), &url, name, &settings.keyring, accounts).await;
    }
    if let Some(size) = shared_buffers {
        seed::set_shared_buffers(&cluster.url("postgres"), size).await;
    }
    cluster.stop().await;
    let written = Command::new("sync").status().unwrap();
    assert!(written.success());
    Cluster::start(&installation, Options { port: Some(free_port()), ..options }).await.unwrap()
}
