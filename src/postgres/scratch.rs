//! Databases for tests: one server per process, one migrated template, a copy of it for each test.
//!
//! A copy takes some 20 ms, where migrating anew would take as long as there are migrations. What is
//! made here belongs to no async runtime, so tests with a runtime each can share it.

#[cfg(unix)]
mod home;
mod janitor;

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use self::janitor::Janitor;
use super::{Environment, Error, SERVER_VARIABLE, random};

/// What every database made here is called first; the run and a number follow.
const PREFIX: &str = "threads_identity_test_";

/// How many connections all tests together may hold.
#[cfg(unix)]
const MAX_CONNECTIONS: u32 = 300;

/// An error of the caller's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The server and template of a test process; keep it in a `static`.
///
/// A static is never dropped, and need not be: a server of our own ends with the process, and what
/// is left on another's is dropped by the next run.
pub struct Databases {
    janitor: Janitor,
    run: Run,
    made: AtomicU32,
    server: Server,
}

/// One database for one test, gone when dropped.
pub struct Database {
    name: String,
    url: String,
    janitor: Janitor,
}

impl Databases {
    /// Starts a server (or takes the one that `THREADS_IDENTITY_DEV_DATABASE_URL` names) and has the
    /// caller prepare the template that every test gets a copy of.
    ///
    /// # Errors
    ///
    /// When no server is to be had, or the caller's preparation fails.
    pub async fn start(
        env: Environment<'_>,
        prepare: impl AsyncFnOnce(String) -> Result<(), BoxError>,
    ) -> Result<Self, Error> {
        let server = match env(SERVER_VARIABLE).filter(|url| !url.is_empty()) {
            Some(url) => Server::Given { url },
            None => Server::own(env).await?,
        };
        let run = Run::new()?;
        let janitor = Janitor::start(server.admin_url(), run).await?;
        let databases = Self { janitor, run, made: AtomicU32::new(0), server };
        let template = databases.run.template();
        let create = format!("create database {template}");
        databases.execute("create the template database", create).await?;
        prepare(databases.server.url(&template)).await.map_err(Error::Prepare)?;
        // A template with a session in it cannot be copied: end the caller's, let nobody in again.
        let close = format!(
            "alter database {template} allow_connections false;
             select pg_terminate_backend(pid) from pg_stat_activity where datname = '{template}'"
        );
        databases.execute("close the template database", close).await?;
        Ok(databases)
    }

    /// Makes a database for one test.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or has no room.
    pub async fn create(&self) -> Result<Database, Error> {
        let name = self.run.database(self.made.fetch_add(1, Ordering::Relaxed));
        // Before there is one, so that whatever fails on the way leaves none behind.
        let database = Database { url: self.server.url(&name), janitor: self.janitor.clone(), name };
        let create =
            format!("create database {} template {} strategy file_copy", database.name, self.run.template());
        self.execute("create a test database", create).await?;
        Ok(database)
    }

    /// Runs statements on a connection of their own: the caller's runtime may end before the next.
    async fn execute(&self, doing: &'static str, statements: String) -> Result<(), Error> {
        let mut connection =
            PgConnection::connect(&self.server.admin_url()).await.map_err(Error::sql(doing))?;
        // One at a time: creating a database is not allowed in the transaction that several make.
        for statement in statements.split(';') {
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
                .execute(&mut connection)
                .await
                .map_err(Error::sql(doing))?;
        }
        connection.close().await.map_err(Error::sql(doing))
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        self.janitor.drop_database(self.run.template());
    }
}

impl Database {
    /// Its connection URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    /// Drops the database and waits for that, ending what sessions are left in it.
    fn drop(&mut self) {
        self.janitor.drop_database(std::mem::take(&mut self.name));
    }
}

/// The number that tells one test run from others on the same server.
#[derive(Clone, Copy)]
struct Run(u32);

impl Run {
    fn new() -> Result<Self, Error> {
        Ok(Self(u32::from_ne_bytes(random()?)))
    }

    fn template(self) -> String {
        format!("{PREFIX}{:08x}_template", self.0)
    }

    fn database(self, number: u32) -> String {
        format!("{PREFIX}{:08x}_{number}", self.0)
    }

    /// The run that a database of this name belongs to.
    fn of(database: &str) -> Option<Self> {
        let run = database.strip_prefix(PREFIX)?.get(..8)?;
        u32::from_str_radix(run, 16).ok().map(Self)
    }

    /// The number as the half of an advisory lock's key.
    fn lock(self) -> i32 {
        self.0.cast_signed()
    }
}

/// The server that the databases are on.
enum Server {
    /// One of our own, with the directory that goes after it.
    #[cfg(unix)]
    Own { cluster: super::Cluster, _home: home::Home },
    /// Somebody else's, by the URL of a database on it.
    Given { url: String },
}

impl Server {
    #[cfg(unix)]
    async fn own(env: Environment<'_>) -> Result<Self, Error> {
        let installation = super::Places::from_env(env).locate().await?;
        let home = home::Home::new(env)?;
        let options = super::Options {
            durable: false,
            max_connections: MAX_CONNECTIONS,
            ..super::Options::new(home.path().join("data"))
        };
        let cluster = super::Cluster::start(&installation, options).await?;
        Ok(Self::Own { cluster, _home: home })
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_async, reason = "the same form as where it is supported")]
    async fn own(_env: Environment<'_>) -> Result<Self, Error> {
        Err(Error::Unsupported)
    }

    /// A database to connect to for making others.
    fn admin_url(&self) -> String {
        match self {
            #[cfg(unix)]
            Self::Own { cluster, .. } => cluster.url(super::SUPERUSER),
            Self::Given { url } => url.clone(),
        }
    }

    fn url(&self, database: &str) -> String {
        match self {
            #[cfg(unix)]
            Self::Own { cluster, .. } => cluster.url(database),
            Self::Given { url } => with_database(url, database),
        }
    }
}

/// The URL with its database exchanged; options stay.
fn with_database(url: &str, database: &str) -> String {
    let (address, options) = match url.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (url, String::new()),
    };
    let authority = address.find("://").map_or(0, |at| at + 3);
    let server = match address[authority..].find('/') {
        Some(at) => &address[..authority + at],
        None => address,
    };
    format!("{server}/{database}{options}")
}

#[cfg(test)]
mod tests {
    use super::{Run, with_database};

    #[test]
    fn a_url_keeps_all_but_its_database() {
        for (url, expected) in [
            ("postgres://u:p@h:1/old?sslmode=disable", "postgres://u:p@h:1/new?sslmode=disable"),
            ("postgres://u@%2Ftmp%2Fx/old", "postgres://u@%2Ftmp%2Fx/new"),
            ("postgres://h", "postgres://h/new"),
            ("postgres://h?host=/tmp", "postgres://h/new?host=/tmp"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }

    #[test]
    fn a_database_is_known_by_its_run() {
        let run = Run(0x00ab_cdef);
        assert_eq!(Run::of(&run.template()).map(|run| run.0), Some(run.0));
        assert_eq!(Run::of(&run.database(7)).map(|run| run.0), Some(run.0));
        assert!(Run::of("threads_identity").is_none());
    }
}
