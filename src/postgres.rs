//! A Postgres of our own, for `dev` and for tests: real, local, and gone when we are.
//!
//! [`Places`] finds the programs (installed, fetched earlier, or fetched now), [`Cluster`] runs one
//! server on one data directory, and [`scratch::Databases`] hands a database to every test. The
//! server is reached through a Unix socket that only its owner can open, so it needs no password
//! and collides with nothing; it never outlives the process that started it.
//!
//! It refuses to know what the databases are for, and it never reads the environment by itself: a
//! reader comes in as a parameter. Not for production: there the operator brings a server.

mod error;
mod fetch;
mod install;
pub mod scratch;

#[cfg(unix)]
mod cluster;
#[cfg(unix)]
mod data_dir;
#[cfg(unix)]
mod identity;
#[cfg(unix)]
mod keeper;
#[cfg(unix)]
mod socket;
#[cfg(unix)]
#[expect(unsafe_code, reason = "namespaces, the parent-death signal and signals have no safe form in std")]
mod system;

#[cfg(not(unix))]
mod unsupported;

use std::path::PathBuf;

use aws_lc_rs::rand;

#[cfg(unix)]
pub use self::cluster::Cluster;
pub use self::error::Error;
pub use self::install::{Installation, Origin, Places};
#[cfg(not(unix))]
pub use self::unsupported::Cluster;

/// The variable that names a server to use instead of starting one.
pub const SERVER_VARIABLE: &str = "THREADS_IDENTITY_DEV_DATABASE_URL";

/// Reads one environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The database superuser of every server started here.
#[cfg(unix)]
const SUPERUSER: &str = "postgres";

/// How a [`Cluster`] is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data is; made when missing. Its log, its lock and its password lie beside it, under
    /// the same name with another ending.
    pub data_dir: PathBuf,
    /// Whether a commit survives a power cut. Off, writing is several times faster.
    pub durable: bool,
    /// How many connections the server takes.
    pub max_connections: u32,
    /// Also listen on this port of the loopback interface, with a password; see
    /// [`Cluster::tcp_url`].
    pub port: Option<u16>,
    /// Who the server runs as when we are root.
    pub run_as: RunAs,
}

impl Options {
    /// A durable server that is reached through its socket alone.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durable: true,
            max_connections: 100,
            port: None,
            run_as: RunAs::Automatic,
        }
    }
}

/// Who the server runs as when we are root, which Postgres refuses to be. Ignored otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// Whoever owns the data already, else [`RunAs::UserNamespace`] where the system allows it, else
    /// [`RunAs::Nobody`].
    Automatic,
    /// Root outside, an ordinary user inside a user namespace: all files stay root's.
    UserNamespace,
    /// The user `nobody`, who must be able to enter the directories above the data.
    Nobody,
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}
