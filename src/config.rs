//! The configuration: one TOML file, overlaid by the environment, read whole so
//! that every problem is reported at once with its key.
//!
//! `docs/configuration.md` is the page for operators.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use url::{Host, Url};

use crate::secret::{ClientSecret, DatabaseUrl};

mod apps;
mod callers;
mod environment;
mod issuers;
mod keys;
mod limits;
mod origin;
mod refresh;
mod retention;
mod section;
mod server;
mod telemetry;
mod tls;
mod watch;

pub(crate) use apps::endpoint;
pub use apps::{DEFAULT_APP, is_app_id, meant_app};
pub use environment::is_mistyped;

pub use callers::{CallerConfig, Role, TokenSubject, certificate_name};
pub use issuers::{IssuerConfig, KeySource};
pub use keys::Keys;
pub use limits::{Deadlines, Limits, Rate};
pub use origin::Origin;
pub use refresh::Refresh;
pub use retention::Retention;
pub use server::Server;
pub use telemetry::{LogFormat, Telemetry};
pub use tls::{ClientCertificates, Tls};
pub use watch::Watch;

use section::{Problems, Section};

/// The permission that everything at Threads needs.
pub const BASIC_SCOPE: &str = "threads_basic";
/// The fields of the profile that are read unless an app drops some.
pub const PROFILE_FIELDS: [&str; 6] =
    ["id", "username", "name", "threads_profile_picture_url", "threads_biography", "is_verified"];
/// The longest redirect URI, in bytes: it travels inside the state.
pub const REDIRECT_URI_MAX: usize = 256;
/// The longest address to return to, in bytes.
pub const RETURN_TO_MAX: usize = 1024;
/// The most scopes in one place, and the longest name of one.
pub const SCOPES_MAX: usize = 32;
/// The longest name of a scope, in bytes.
pub const SCOPE_LEN_MAX: usize = 64;

/// Everything that an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[database]`
    pub database: Database,
    /// `[keys]`: the keyring, as text or as a file.
    pub keys: Option<Keys>,
    /// `[provider]`
    pub provider: Provider,
    /// `[refresh]`
    pub refresh: Refresh,
    /// `[retention]`
    pub retention: Retention,
    /// `[watch]`
    pub watch: Watch,
    /// `[limits]`
    pub limits: Limits,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[[apps]]`, at least one.
    pub apps: Vec<AppConfig>,
    /// `[[callers]]`. None: loopback alone is served, as caller `local`.
    pub callers: Vec<CallerConfig>,
    /// `[[issuers]]`: who signs tokens for callers.
    pub issuers: Vec<IssuerConfig>,
    /// Where all of it was read from.
    pub origin: Origin,
}

/// `[database]`: where Postgres is.
#[derive(Debug, Clone)]
pub struct Database {
    /// `url` or `url_file`. Only `serve` and `migrate` need it.
    pub url: Option<DatabaseUrl>,
    /// `direct_url` or `direct_url_file`, default `url`: the way that no pooler
    /// is on, for what needs a session of its own: `migrate`, `keys`, `erase` and
    /// `audit`.
    pub direct_url: Option<DatabaseUrl>,
    /// `pool_size`, default 8: connections for lists and rare writes. The reads
    /// and links that travel together own nine more, the events one.
    pub pool_size: u32,
}

/// `[provider]`: the limits of calls to Threads.
#[derive(Debug, Clone, Copy)]
pub struct Provider {
    /// `connect_timeout`, default 3 s.
    pub connect_timeout: Duration,
    /// `call_timeout`, default 10 s: the whole of one call.
    pub call_timeout: Duration,
    /// `body_max`, default 262,144: the longest answer read, in bytes.
    pub body_max: usize,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(10),
            body_max: 256 * 1024,
        }
    }
}

/// `[[apps]]`: one Threads app.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// `id`: permanent; 1 to 32 of a-z, 0-9, `-` and `_`.
    pub id: String,
    /// `client_id`: the numeric Threads app id (not the Meta app id).
    pub client_id: String,
    /// `client_secret` or `client_secret_file`.
    pub client_secret: ClientSecret,
    /// `client_secret_previous` or `client_secret_previous_file`: the one before,
    /// while it is being replaced. What Meta has signed with it is believed.
    pub client_secret_previous: Option<ClientSecret>,
    /// `redirect_uris`: as registered with Meta, byte for byte. The first is
    /// the default.
    pub redirect_uris: Vec<String>,
    /// `return_to`: where the hosted callback may send a browser on to. The first
    /// is the default. Compared whole, never by how it begins.
    pub return_to: Vec<Url>,
    /// `scopes`: what is asked for unless a caller says otherwise.
    pub scopes: Vec<String>,
    /// `authorize_url`, default `https://threads.com/oauth/authorize`.
    pub authorize_url: Url,
    /// `authorize_parameters`: more parameters for the authorization URL.
    pub authorize_parameters: BTreeMap<String, String>,
    /// `token_url`, default `{graph_url}/oauth/access_token`: the code exchange.
    pub token_url: Url,
    /// `graph_url`, default `https://graph.threads.com`.
    pub graph_url: Url,
    /// `api_version`, default `v1.0`; empty for none.
    pub api_version: String,
    /// `profile_fields`, default all six; `id` always stays.
    pub profile_fields: Vec<String>,
}

/// What is wrong with a configuration: every problem, each with its key.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The problems, in the order of the file.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.problems.len();
        write!(f, "the configuration has {n} problem{}:", if n == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl Config {
    /// Reads a file, if one is given, and the environment over it, for a
    /// process that serves: it also needs a database and a keyring.
    ///
    /// `environment` is every variable as it stands; only those that are ours
    /// are looked at.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = read_file(file)?;
        Origin::new(file, environment.into_iter().collect(), "").read_again(&text)
    }

    /// Reads where the database is and nothing else, so that a job that
    /// migrates needs no other secret.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn load_database_url(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<DatabaseUrl, ConfigError> {
        read_all(&read_file(file)?, folder(file), environment, |mut root| {
            let section = root.section("database");
            let is_direct = section.holds("direct_url") || section.holds("direct_url_file");
            Database::read(section, !is_direct).for_sessions()
        })
    }

    /// Reads the text of a file. Relative paths in it start at `folder`. The
    /// database and the keyring may be missing.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(
        text: &str,
        folder: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        read_all(text, folder, environment, |root| Self::read(root, false))
    }

    fn read(mut root: Section<'_>, serving: bool) -> Option<Self> {
        let server = Server::read(root.section("server"));
        let database = Database::read(root.section("database"), serving);
        let keys = keys::read(root.section("keys"), serving);
        let provider = Provider::read(root.section("provider"));
        let refresh = Refresh::read(root.section("refresh"));
        let retention = Retention::read(root.section("retention"));
        let watch = Watch::read(root.section("watch"));
        let limits = Limits::read(root.section("limits"));
        let telemetry = Telemetry::read(root.section("telemetry"));
        let sections = root.sections("apps");
        if sections.is_empty() && !root.has_problems_in("apps") {
            root.problem("apps", "at least one [[apps]] is needed, or the variable THREADS_CLIENT_ID");
        }
        let apps: Vec<Option<AppConfig>> = sections.into_iter().map(AppConfig::read).collect();
        for (i, app) in apps.iter().enumerate() {
            let earlier = || apps[..i].iter().flatten();
            let Some(app) = app else { continue };
            if earlier().any(|other| other.id == app.id) {
                root.problem(&format!("apps.{i}.id"), "stands twice: every app has its own id");
            }
            if earlier().any(|other| other.client_id == app.client_id) {
                root.problem(&format!("apps.{i}.client_id"), "stands twice: one Threads app is one app here");
            }
        }
        let ids: Vec<String> = apps.iter().flatten().map(|app| app.id.clone()).collect();
        let issuers = issuers::read_all(&mut root);
        let callers = callers::read_all(&mut root, &ids, &issuers);
        root.finish();
        Some(Self {
            server,
            database,
            keys,
            provider,
            refresh,
            retention,
            watch,
            limits,
            telemetry,
            apps: apps.into_iter().collect::<Option<_>>()?,
            callers,
            issuers: issuers.into_iter().collect::<Option<_>>()?,
            origin: Origin::default(),
        })
    }

    /// Whether there is nobody to tell callers apart by.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.callers.is_empty()
    }
}

fn read_file(file: Option<&Path>) -> Result<String, ConfigError> {
    let Some(path) = file else { return Ok(String::new()) };
    std::fs::read_to_string(path).map_err(|error| ConfigError {
        problems: vec![format!("{}: cannot be read: {error}", path.display())],
    })
}

/// Where the relative paths of a file start.
fn folder(file: Option<&Path>) -> &Path {
    file.and_then(Path::parent).unwrap_or(Path::new(""))
}

/// Reads a text and the environment over it, and answers with what was made of
/// it if nothing at all was wrong.
fn read_all<T>(
    text: &str,
    folder: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(Section<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The error's own text quotes the line, which may hold a secret.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        ConfigError { problems: vec![format!("line {line}: is not TOML: {}", error.message())] }
    })?;
    let problems = Problems::default();
    environment::overlay(&mut table, environment, &problems);
    let made = read(Section::root(table, folder, &problems));
    match (made, problems.take()) {
        (Some(made), found) if found.is_empty() => Ok(made),
        (_, problems) => Err(ConfigError { problems }),
    }
}

impl Database {
    fn read(mut section: Section<'_>, required: bool) -> Self {
        let url = read_database_url(&mut section, "url");
        let direct_url = read_database_url(&mut section, "direct_url");
        if required && url.is_none() && !section.has_problems_in("url") {
            section.problem("url", "is required (or the variable DATABASE_URL)");
        }
        let pool_size = section.integer("pool_size", 8, 1..=1000);
        section.finish();
        Self { url, direct_url, pool_size: u32::try_from(pool_size).unwrap_or(8) }
    }

    /// The way for what needs a session of its own.
    fn for_sessions(self) -> Option<DatabaseUrl> {
        self.direct_url.or(self.url)
    }
}

fn read_database_url(section: &mut Section<'_>, key: &str) -> Option<DatabaseUrl> {
    let url = section.secret(key).map(DatabaseUrl::new)?;
    if !(url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://")) {
        section.problem(key, "must start with postgres://");
    }
    Some(url)
}

impl Provider {
    fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let connect_timeout = section.duration("connect_timeout", default.connect_timeout);
        let call_timeout = section.duration("call_timeout", default.call_timeout);
        let body_max = section.integer("body_max", 256 * 1024, 1024..=16 * 1024 * 1024);
        section.finish();
        Self {
            connect_timeout,
            call_timeout,
            body_max: usize::try_from(body_max).unwrap_or(default.body_max),
        }
    }
}

/// Whether a scope has a name that Threads could have given it.
#[must_use]
pub fn is_scope(name: &str) -> bool {
    (1..=SCOPE_LEN_MAX).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'-'))
}

/// Joins scopes, `threads_basic` first and none twice.
#[must_use]
pub fn with_basic_scope(scopes: &[String]) -> Vec<String> {
    let mut seen = HashSet::from([BASIC_SCOPE]);
    let rest = scopes.iter().filter(|scope| seen.insert(scope.as_str())).cloned();
    std::iter::once(BASIC_SCOPE.to_owned()).chain(rest).collect()
}

/// Whether a URL stays on this machine, where plain http is no risk.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
