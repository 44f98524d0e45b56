//! The configuration: a file, and the environment over it.

use std::path::Path;

use threads_identity::config::Config;
use toml::{Table, Value};

/// Stands in every secret's place.
const CANARY: &str = "canary-secret-7261";
/// What separates the file from the variables, one a line.
const SEPARATOR: &str = "\n---\n";
/// What is secret, wherever it stands.
const SECRETS: [&str; 6] =
    ["client_secret", "client_secret_previous", "url", "value", "client_secret_file", "url_file"];

/// Files with variables that are taken, and some that are not.
pub const EXAMPLES: [&str; 5] = [
    "[database]\nurl = \"postgres://user:canary-secret-7261@db/x\"\n[keys]\nvalue = \"canary-secret-7261\"\n\
     [[apps]]\nid = \"default\"\nclient_id = \"1\"\nclient_secret = \"canary-secret-7261\"\n\
     redirect_uris = [\"https://id.example.com/cb\"]\n---\nTHREADS_IDENTITY__SERVER__DRAIN_TIMEOUT=5s",
    "[server]\ngrpc_listen = \"127.0.0.1:0\"\nreflection = false\n[provider]\nbody_max = 2048\n\
     [refresh]\nlease = \"60s\"\n[retention]\nevents = \"7d\"\n[watch]\nheartbeat = \"20s\"\n\
     [telemetry]\notlp_endpoint = \"http://127.0.0.1:4317\"\ntrace_ratio = 0.5\n---\n\
     THREADS_CLIENT_ID=1\nTHREADS_CLIENT_SECRET=canary-secret-7261\nTHREADS_REDIRECT_URIS=https://a.example/cb",
    "---\nDATABASE_URL=postgres://u:canary-secret-7261@h/d\nTHREADS_IDENTITY_KEY=canary-secret-7261\n\
     THREADS_CLIENT_ID=2\nTHREADS_CLIENT_SECRET=canary-secret-7261\nTHREADS_REDIRECT_URIS=https://a.example/cb",
    "[[apps]]\nid = \"a\"\nclient_id = \"1\"\nclient_secret = \"canary-secret-7261\"\nredirect_uris = [\"https://a.example/cb\"]\n\
     [[apps]]\nid = \"b\"\nclient_id = \"2\"\nclient_secret = \"canary-secret-7261\"\nredirect_uris = [\"http://localhost:1/cb\"]\n\
     [[callers]]\nname = \"web\"\napp = \"a\"\nroles = [\"link\", \"read\"]\n\
     key_sha256 = [\"0000000000000000000000000000000000000000000000000000000000000001\"]\n---\n",
    "[server]\noops = 1\n[database]\nurl = \"mysql://canary-secret-7261\"\n[[apps]]\nid = \"A\"\nclient_secret = 7\n---\nX=1",
];

/// What matters to the format.
pub const PIECES: [&str; 26] = [
    "\n",
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "=",
    " = ",
    ".",
    "#",
    "\\",
    "\\u0000",
    "-1",
    "1e9",
    "true",
    "\"0s\"",
    "\"999999999999999999d\"",
    "\n---\n",
    "THREADS_IDENTITY__",
    "__",
    "\nclient_secret_file = \"x\"\n",
    "http://",
    "\u{0}",
    "nan",
];

/// The property: whether the configuration was taken.
pub fn property() -> impl Fn(&[u8]) -> bool {
    |input| {
        let text = String::from_utf8_lossy(input);
        let (file, variables) =
            text.split_once(SEPARATOR).or_else(|| text.split_once("---\n")).unwrap_or((&text, ""));
        let variables: Vec<(String, String)> = variables
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        match Config::parse(file, Path::new("/nonexistent"), variables.clone()) {
            Ok(config) => {
                holds(&config);
                true
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!error.problems.is_empty());
                let only_in_secrets =
                    file.parse().map_or(!file.contains(CANARY), |table| is_kept_in_secrets(&table))
                        && variables.iter().all(|(name, value)| {
                            !name.contains("anary") && (!value.contains("anary") || is_secret(name))
                        });
                assert!(!only_in_secrets || !told.contains("anary"), "{told}");
                // A file that cannot be read is not quoted, wherever its secrets stand.
                if file.parse::<Table>().is_err() && told.contains("is not TOML") {
                    assert!(!told.contains(CANARY) || told.contains("key"), "{told}");
                }
                false
            }
        }
    }
}

fn is_secret(variable: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.ends_with(secret)) || name.ends_with("identity_key")
}

/// Whether the canary stands nowhere but where a secret belongs: names are told.
fn is_kept_in_secrets(table: &Table) -> bool {
    table.iter().all(|(key, value)| {
        !key.contains("anary")
            && match value {
                Value::Table(inner) => is_kept_in_secrets(inner),
                Value::Array(list) => list.iter().all(|value| match value {
                    Value::Table(inner) => is_kept_in_secrets(inner),
                    other => !other.to_string().contains("anary"),
                }),
                other => !other.to_string().contains("anary") || SECRETS.contains(&key.as_str()),
            }
    })
}

/// What must be so in whatever is taken.
fn holds(config: &Config) {
    assert!(!config.apps.is_empty());
    for (i, app) in config.apps.iter().enumerate() {
        assert!(config.apps[..i].iter().all(|other| other.id != app.id && other.client_id != app.client_id));
        assert!(!app.redirect_uris.is_empty() && !app.client_secret.expose().is_empty());
        for url in [&app.authorize_url, &app.token_url, &app.graph_url] {
            assert!(url.scheme() == "https" || url.host_str().is_some_and(is_loopback), "{url}");
        }
    }
    for (i, caller) in config.callers.iter().enumerate() {
        assert!(config.apps.iter().any(|app| app.id == caller.app) && !caller.roles.is_empty());
        assert!(config.callers[..i].iter().all(|other| other.name != caller.name));
    }
    assert!(config.is_open() == config.callers.is_empty());
    assert!((0.0..=1.0).contains(&config.telemetry.trace_ratio));
    assert!(config.refresh.attempt_timeout < config.refresh.lease);
    assert!(config.retention.authorizations <= config.retention.unlinked);
    // What is logged of it at any level holds no secret.
    assert!(!format!("{config:?}").contains("anary") || config.apps.iter().any(names_hold));
}

fn names_hold(app: &threads_identity::config::AppConfig) -> bool {
    let texts = [&app.id, &app.client_id, &app.api_version];
    let lists = [&app.redirect_uris, &app.scopes, &app.profile_fields];
    texts.iter().any(|text| text.contains("anary"))
        || lists.iter().any(|list| list.iter().any(|text| text.contains("anary")))
        || format!("{:?}{:?}{:?}", app.authorize_url, app.authorize_parameters, app.return_to)
            .contains("anary")
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
