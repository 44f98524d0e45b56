//! The configuration of `dev`, read through the same door as everybody's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use crate::config::{Config, Keys};
use crate::simulator::Options as SimulatorOptions;

/// Whoever changes a key while trying things out sees it work at once.
const KEYS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What the configuration is made of.
pub(super) struct Parts<'a> {
    pub(super) database_url: &'a str,
    pub(super) keyring_file: PathBuf,
    pub(super) caller_hash: &'a str,
    pub(super) redirect_uris: &'a [String],
    pub(super) return_to: &'a [String],
    pub(super) simulator_url: &'a str,
    pub(super) grpc_listen: SocketAddr,
    pub(super) http_listen: SocketAddr,
    pub(super) ops_listen: SocketAddr,
}

/// The configuration, through the same door as everybody's.
pub(super) fn configuration(parts: Parts<'_>) -> Result<Config, Failure> {
    let app = SimulatorOptions::default();
    let toml = toml::toml! {
        [[apps]]
        id = "default"

        [[callers]]
        name = "demo"
        roles = ["link", "transfer", "read", "sync", "token", "erase"]
    };
    let mut table = toml;
    let mut set = |list: &str, values: Vec<(&str, toml::Value)>| {
        if let Some(toml::Value::Table(entry)) = table.get_mut(list).and_then(|list| list.get_mut(0)) {
            entry.extend(values.into_iter().map(|(key, value)| (key.to_owned(), value)));
        }
    };
    set(
        "apps",
        vec![
            ("client_id", app.client_id.into()),
            ("client_secret", app.client_secret.into()),
            ("redirect_uris", parts.redirect_uris.to_vec().into()),
            ("return_to", parts.return_to.to_vec().into()),
            ("authorize_url", format!("{}/oauth/authorize", parts.simulator_url).into()),
            ("graph_url", parts.simulator_url.into()),
        ],
    );
    set("callers", vec![("key_sha256", vec![parts.caller_hash.to_owned()].into())]);
    let environment = [
        ("SERVER__GRPC_LISTEN", parts.grpc_listen.to_string()),
        ("SERVER__HTTP_LISTEN", parts.http_listen.to_string()),
        ("SERVER__OPS_LISTEN", parts.ops_listen.to_string()),
        ("SERVER__DRAIN_TIMEOUT", "2s".to_owned()),
        ("DATABASE__URL", parts.database_url.to_owned()),
    ];
    let environment = environment.map(|(name, value)| (format!("THREADS_IDENTITY__{name}"), value));
    let mut config = Config::parse(&table.to_string(), Path::new(""), environment)?;
    // No text: a path need not be one.
    config.keys = Some(Keys::File { path: parts.keyring_file, reload_interval: KEYS_RELOAD_INTERVAL });
    Ok(config)
}
