//! What stands in for a server of our own where none can run: nothing that could be had.

#![expect(clippy::unused_async, reason = "the same form as where it is supported")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::{Error, Installation, Options};

/// A server that cannot be on this system.
pub struct Cluster(Infallible);

impl Cluster {
    /// Fails.
    ///
    /// # Errors
    ///
    /// Always: it says what to do instead.
    pub async fn start(_installation: &Installation, _options: Options) -> Result<Self, Error> {
        Err(Error::Unsupported)
    }

    /// See the Unix form.
    #[must_use]
    pub fn url(&self, _database: &str) -> String {
        match self.0 {}
    }

    /// See the Unix form.
    #[must_use]
    pub fn tcp_url(&self, _database: &str) -> Option<String> {
        match self.0 {}
    }

    /// See the Unix form.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        match self.0 {}
    }

    /// See the Unix form.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        match self.0 {}
    }

    /// See the Unix form.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        match self.0 {}
    }

    /// See the Unix form.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        match self.0 {}
    }

    /// See the Unix form.
    pub async fn stop(self) {
        match self.0 {}
    }
}
