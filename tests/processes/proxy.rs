//! A way to the database that can be cut, frozen, slowed down and turned to
//! another one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::Url;

/// How the way is now.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where it leads.
    pub target: Target,
    /// Nobody gets through, and whoever was through is thrown out.
    pub cut: bool,
    /// Whatever is sent is swallowed; connections stay open.
    frozen: bool,
    /// Connections with a lower number are frozen for ever.
    frozen_below: u64,
    /// What each piece of data waits.
    delay: Duration,
    /// How many statements until the reply to one is lost, and its connection with
    /// it; none are while this is not positive.
    pub until_lost: Arc<AtomicI64>,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    database: Url,
    pub way: watch::Sender<Way>,
    /// How many connections there have been.
    pub accepted: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of a database.
    pub async fn start(database_url: &str) -> Self {
        let database = Url::parse(database_url).unwrap();
        let target = target(&database);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let until_lost = Arc::new(AtomicI64::new(0));
        let way =
            Way { target, cut: false, frozen: false, frozen_below: 0, delay: Duration::ZERO, until_lost };
        let (way, watching) = watch::channel(way);
        let (count, accepted) = watch::channel(0);
        let tasks = TaskTracker::new();
        let task = AbortOnDropHandle::new(tasks.clone().spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let number = *count.borrow();
                count.send_replace(number + 1);
                tasks.spawn(carry(client, number, watching.clone()));
            }
        }));
        Self { address, database, way, accepted, _task: task }
    }

    /// The URL that leads through it.
    pub fn url(&self) -> String {
        let user = self.database.username();
        let name = self.database.path();
        format!("postgres://{user}@{}{name}?sslmode=disable", self.address)
    }

    /// The database is gone: connections break, new ones come to nothing.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.cut = true);
    }

    /// A black hole: connections stay, and nothing arrives.
    pub fn freeze(&self) {
        self.way.send_modify(|way| way.frozen = true);
    }

    /// All is well again; what waited arrives.
    pub fn heal(&self) {
        self.way.send_modify(|way| (way.cut, way.frozen) = (false, false));
    }

    /// New connections get through; those of now never hear anything again, as
    /// after a failover behind an address that moves.
    pub fn forget_connections(&self) {
        let now = *self.accepted.borrow();
        self.way.send_modify(|way| (way.frozen, way.frozen_below) = (false, now));
    }

    /// Each piece of data takes so much longer.
    pub fn delay(&self, delay: Duration) {
        self.way.send_modify(|way| way.delay = delay);
    }
}

/// A Postgres.
#[derive(Debug, Clone)]
pub enum Target {
    Socket(PathBuf),
    Address(String),
}

pub fn target(url: &Url) -> Target {
    let port = url.port().unwrap_or(5432);
    // A folder in the host's place is percent-encoded.
    let encoded = url.host_str().unwrap();
    let host = url::form_urlencoded::parse(encoded.as_bytes()).next().unwrap().0.into_owned();
    if host.starts_with('/') {
        Target::Socket(format!("{host}/.s.PGSQL.{port}").into())
    } else {
        Target::Address(format!("{host}:{port}"))
    }
}

async fn carry(client: TcpStream, number: u64, mut way: watch::Receiver<Way>) {
    if way.borrow().cut {
        return;
    }
    let mut cut = way.clone();
    let (from, to) = client.into_split();
    let both = async {
        passable(number, &mut way).await;
        let target = way.borrow().target.clone();
        match target {
            Target::Socket(path) => {
                let (server_from, server_to) = UnixStream::connect(path).await?.into_split();
                pump_both(from, server_to, server_from, to, number, way).await
            }
            Target::Address(address) => {
                let (server_from, server_to) = TcpStream::connect(address).await?.into_split();
                pump_both(from, server_to, server_from, to, number, way).await
            }
        }
    };
    tokio::select! {
        _ = both => {}
        _ = cut.wait_for(|way| way.cut) => {}
    }
}

/// Waits until this connection may carry something.
async fn passable(number: u64, way: &mut watch::Receiver<Way>) {
    let delay = way.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let open = way.wait_for(|way| !way.frozen && number >= way.frozen_below).await;
    drop(open);
}

async fn pump_both(
    from_client: impl AsyncRead + Unpin,
    to_server: impl AsyncWrite + Unpin,
    from_server: impl AsyncRead + Unpin,
    to_client: impl AsyncWrite + Unpin,
    number: u64,
    way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let losing = Arc::clone(&way.borrow().until_lost);
    let is_lost = AtomicBool::new(false);
    // A prepared statement is run by what begins with Bind.
    let out = |data: &[u8]| {
        if data.first() == Some(&b'B')
            && losing.load(Ordering::SeqCst) > 0
            && losing.fetch_sub(1, Ordering::SeqCst) == 1
        {
            is_lost.store(true, Ordering::SeqCst);
        }
        true
    };
    let back = |_: &[u8]| !is_lost.load(Ordering::SeqCst);
    tokio::select! {
        ended = pump(from_client, to_server, number, way.clone(), out) => ended,
        ended = pump(from_server, to_client, number, way, back) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut way: watch::Receiver<Way>,
    passes: impl Fn(&[u8]) -> bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        passable(number, &mut way).await;
        if length == 0 || !passes(&buffer[..length]) {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
