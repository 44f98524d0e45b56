//! Where a configuration was read from, so that it can be read again while the
//! process runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::section::Problems;
use super::{Config, ConfigError, environment, folder, read_all};
use crate::secret::sha256;

/// What can be exchanged while a process runs; all else needs a restart.
const LIVE_SECTIONS: [&str; 2] = ["callers", "issuers"];

/// Where a configuration was read from.
#[derive(Clone, Default)]
pub struct Origin {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// A hash of each section as it was read, files that it names not included.
    sections: BTreeMap<String, [u8; 32]>,
}

/// It holds the environment, and so secrets.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.file).finish()
    }
}

impl Origin {
    /// Remembers a file, the environment that was laid over it, and what both said.
    pub(super) fn new(file: Option<&Path>, variables: Vec<(String, String)>, text: &str) -> Self {
        let mut table: toml::Table = text.parse().unwrap_or_default();
        environment::overlay(&mut table, variables.iter().cloned(), &Problems::default());
        let hash = |value: toml::Value| sha256(&[value.to_string().as_bytes()]);
        let sections = table.into_iter().map(|(name, value)| (name, hash(value))).collect();
        Self { file: file.map(Path::to_owned), environment: variables, sections }
    }

    /// The file, if there is one to read again.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the text that the file holds by now, and the environment as it was over
    /// it.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn read_again(&self, text: &str) -> Result<Config, ConfigError> {
        let file = self.file.as_deref();
        let environment = self.environment.clone();
        let mut config =
            read_all(text, folder(file), environment.iter().cloned(), |root| Config::read(root, true))?;
        config.origin = Self::new(file, environment, text);
        Ok(config)
    }

    /// The sections that say something else there, and that only a restart takes.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> =
            self.sections.keys().chain(other.sections.keys()).collect();
        let differs = |name: &&&String| self.sections.get(**name) != other.sections.get(**name);
        let is_fixed = |name: &&&String| !LIVE_SECTIONS.contains(&name.as_str());
        names.iter().filter(is_fixed).filter(differs).map(|name| (**name).clone()).collect()
    }
}
