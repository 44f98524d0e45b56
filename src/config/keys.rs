//! `[keys]`: where the keyring is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::section::Section;
use super::{Config, ConfigError, Database, folder, read_all, read_file};
use crate::secret::DatabaseUrl;

/// `[keys]`: where the keyring is.
#[derive(Clone)]
pub enum Keys {
    /// A file.
    File {
        /// `file`
        path: PathBuf,
        /// `reload_interval`, default 5 s: how often the file is looked at while
        /// the service runs.
        reload_interval: Duration,
    },
    /// `value`, or the variable `THREADS_IDENTITY_KEY`: the one-line form, which
    /// stays as it is until the process ends.
    Value(Zeroizing<String>),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(redacted)"),
        }
    }
}

impl Config {
    /// Reads where the database and the keyring are and nothing else, for the
    /// commands that look after keys. Either may be missing.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load_database_and_keys(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Option<DatabaseUrl>, Option<Keys>), ConfigError> {
        read_all(&read_file(file)?, folder(file), environment, |mut root| {
            let database = Database::read(root.section("database"), false).for_sessions();
            Some((database, read(root.section("keys"), false)))
        })
    }
}

pub(super) fn read(mut section: Section<'_>, required: bool) -> Option<Keys> {
    let file = section.path("file");
    let value = section.secret("value").map(Zeroizing::new);
    let reload_interval = section.duration("reload_interval", Duration::from_secs(5));
    if file.is_some() && value.is_some() {
        section.problem("file", "is set beside a key value: one of the two is the keyring");
    }
    if required && file.is_none() && value.is_none() && !section.has_problems_in("") {
        section.problem(
            "file",
            "is required (or the variable THREADS_IDENTITY_KEY): make a keyring with `threads-identity keys generate`",
        );
    }
    section.finish();
    file.map(|path| Keys::File { path, reload_interval }).or(value.map(Keys::Value))
}
