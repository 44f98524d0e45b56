//! One Postgres server on one data directory, for as long as this process wants it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::data_dir::DataDir;
use super::identity::Identity;
use super::keeper::Keeper;
use super::socket::SocketDir;
use super::{Error, Installation, Options, SUPERUSER, random};

/// How long a server may take to be ready: after a crash it replays its log first.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// The port in the socket's file name when there is no real one.
const DEFAULT_PORT: u16 = 5432;

/// A running server. Dropping it stops the server and waits for that; a process that dies takes the
/// server with it (on Linux; elsewhere the next start stops what was left).
///
/// Its fields are dropped in order: the server goes first, the lock on its data last.
pub struct Cluster {
    keeper: Keeper,
    socket: SocketDir,
    data: DataDir,
    port: Option<u16>,
    password: Option<String>,
}

impl Cluster {
    /// Starts a server, having made the data directory if there is none.
    ///
    /// # Errors
    ///
    /// When another process uses the directory, it belongs to another version of Postgres, or the
    /// server does not come up; the end of its log is in the error.
    pub async fn start(installation: &Installation, options: Options) -> Result<Self, Error> {
        let data = DataDir::take(&options.data_dir)?;
        data.outlast_predecessor().await?;
        let postgres = installation.program("postgres");
        let identity = Identity::choose(options.run_as, data.path(), &postgres);
        identity.check_reach(data.path())?;
        identity.check_reach(&postgres)?;
        data.prepare(installation, identity, options.durable).await?;
        let socket = SocketDir::of(data.path(), identity)?;

        let mut command = Command::new(&postgres);
        configure(&mut command, &options, &data, &socket);
        write_log_to(&mut command, &data.log())?;
        identity.apply(&mut command);
        let keeper = Keeper::spawn(command).await.map_err(Error::io("run", &postgres))?;
        let mut cluster = Self { keeper, socket, data, port: options.port, password: None };
        cluster.wait_until_ready().await?;
        if options.port.is_some() {
            cluster.set_password().await?;
        }
        Ok(cluster)
    }

    /// A connection URL for one of the server's databases, through the socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (host, port) = (self.socket.as_host(), self.port.unwrap_or(DEFAULT_PORT));
        format!("postgres://{SUPERUSER}@{host}:{port}/{database}?sslmode=disable")
    }

    /// A connection URL through the loopback port, with its password, for other programs; none
    /// without [`Options::port`].
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let (port, password) = (self.port?, self.password.as_ref()?);
        Some(format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable"))
    }

    /// Where the data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Where the socket is; only its owner may enter.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.socket.path()
    }

    /// Where the server's log is.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.data.log()
    }

    /// The number of the server's main process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.keeper.pid()
    }

    /// Ends all sessions, stops the server and waits until it is gone.
    pub async fn stop(mut self) {
        self.keeper.stop().await;
    }

    async fn wait_until_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let file = self.data.pid_file();
            // The file of an earlier start may still lie there.
            if file.ready && file.pid == Some(self.keeper.pid()) {
                return Ok(());
            }
            let why = match self.keeper.ended() {
                Some(how) => format!("it ended ({how})"),
                None if Instant::now() > deadline => "it was not ready in time".to_owned(),
                None => {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    continue;
                }
            };
            return Err(Error::Start { why, log: self.data.log(), tail: self.data.tail_of_log() });
        }
    }

    /// Gives the superuser the password that lies beside the data: the same at every start, so that
    /// a URL once copied stays good.
    async fn set_password(&mut self) -> Result<(), Error> {
        let password = password(&self.data.password_file())?;
        let doing = "set the password of the loopback port";
        let mut connection = PgConnection::connect(&self.url("postgres")).await.map_err(Error::sql(doing))?;
        // Hexadecimal, see below; a role's password cannot be a parameter.
        let statement = format!("alter role {SUPERUSER} password '{password}'");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.map_err(Error::sql(doing))?;
        connection.close().await.map_err(Error::sql(doing))?;
        self.password = Some(password);
        Ok(())
    }
}

/// The server's arguments. Nothing is written into its configuration files, so that an old data
/// directory runs with today's settings.
fn configure(command: &mut Command, options: &Options, data: &DataDir, socket: &SocketDir) {
    let set = |command: &mut Command, setting: &str| {
        command.args(["-c", setting]);
    };
    command.arg("-D").arg(data.path());
    command.arg("-k").arg(socket.path());
    command.args(["-p", &options.port.unwrap_or(DEFAULT_PORT).to_string()]);
    set(command, "cluster_name=threads-identity");
    set(command, "unix_socket_permissions=0700");
    set(command, "logging_collector=off");
    set(command, "log_destination=stderr");
    set(command, &format!("max_connections={}", options.max_connections));
    match options.port {
        Some(_) => set(command, "listen_addresses=127.0.0.1"),
        None => set(command, "listen_addresses="),
    }
    if options.durable {
        set(command, "fsync=on");
    } else {
        for setting in [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            // The log of what need not be recovered is kept small: it may lie in memory.
            "wal_level=minimal",
            "max_wal_senders=0",
            "max_wal_size=256MB",
        ] {
            set(command, setting);
        }
    }
}

/// Sends what the server prints to a fresh log file.
fn write_log_to(command: &mut Command, path: &Path) -> Result<(), Error> {
    let log = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))?;
    let other = log.try_clone().map_err(Error::io("open", path))?;
    command.stdout(log).stderr(other);
    Ok(())
}

/// The password in the file, made on first use.
fn password(path: &Path) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Ok(found) if is_hexadecimal(found.trim()) => return Ok(found.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("read", path)(error));
        }
        // Missing, or cut short by a crash: a new one.
        _ => {}
    }
    let password = format!("{:032x}", u128::from_ne_bytes(random()?));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    io::Write::write_all(&mut file, password.as_bytes()).map_err(Error::io("write", path))?;
    Ok(password)
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
