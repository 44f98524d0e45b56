//! What can go wrong, each said so that the reader knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no server, or no database on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable Postgres on this machine, and none could be fetched.
    #[error("{0}")]
    NotFound(String),

    /// Fetching the pinned archive failed.
    #[error("cannot fetch Postgres: {0}")]
    Fetch(String),

    /// This system cannot run the embedded server at all.
    #[error(
        "an embedded Postgres is not supported on this system: set {} to the URL of a server where databases may be created",
        super::SERVER_VARIABLE
    )]
    Unsupported,

    /// Another process has the data directory.
    #[error(
        "the data directory {dir} is in use by process {pid}: stop that process, or choose another data directory"
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process that holds it.
        pid: u32,
    },

    /// The data was written by a Postgres that this one cannot stand in for.
    #[error(
        "the data directory {dir} was made by Postgres {found}, but the Postgres at {bin} is version {installed}: delete the directory to start anew, or install Postgres {found}"
    )]
    OtherVersion {
        /// The data directory.
        dir: PathBuf,
        /// The major version that made it.
        found: String,
        /// The major version at hand.
        installed: u32,
        /// Where that one is.
        bin: PathBuf,
    },

    /// Something is there already that we did not make.
    #[error("{0} exists but is not a Postgres data directory: choose another, or delete it")]
    NotADataDirectory(PathBuf),

    /// The user the server has to run as cannot get to a file it needs.
    #[error(
        "Postgres does not run as root, and {user} may not enter {blocked}, which it must to reach {wanted}: choose a place that others may enter, or do not run as root"
    )]
    Unreachable {
        /// Who it would run as.
        user: String,
        /// The directory that is closed to that user.
        blocked: PathBuf,
        /// The file or directory needed.
        wanted: PathBuf,
    },

    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),

    /// The server did not come up.
    #[error("Postgres did not start: {why}; the end of {log}:\n{tail}")]
    Start {
        /// What was seen.
        why: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },

    /// A file or a process could not be worked with.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The server refused a statement of ours.
    #[error("cannot {doing}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: sqlx::Error,
    },

    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,

    /// The caller's preparation of the template database failed.
    #[error("cannot prepare the template database")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Says what was being done to which path, for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Says what was being done to the database, for `map_err`.
    pub(super) fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }
}
