//! The environment over the file. `THREADS_IDENTITY__SERVER__GRPC_LISTEN` sets
//! `server.grpc_listen` and wins over the file; a deployment with one app needs
//! nothing but the short names below, which stand in for what is set nowhere
//! else.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::DEFAULT_APP;
use super::section::Problems;

const PREFIX: &str = "THREADS_IDENTITY__";

/// Short names for scalars: variable, section, key.
const SCALARS: [(&str, &str, &str); 6] = [
    ("DATABASE_URL", "database", "url"),
    ("DATABASE_URL_FILE", "database", "url_file"),
    ("DATABASE_DIRECT_URL", "database", "direct_url"),
    ("DATABASE_DIRECT_URL_FILE", "database", "direct_url_file"),
    ("THREADS_IDENTITY_KEY", "keys", "value"),
    ("THREADS_IDENTITY_KEY_FILE", "keys", "file"),
];
/// Short names for the one app: variable, key.
const APP: [(&str, &str); 6] = [
    ("THREADS_CLIENT_ID", "client_id"),
    ("THREADS_CLIENT_SECRET", "client_secret"),
    ("THREADS_CLIENT_SECRET_FILE", "client_secret_file"),
    ("THREADS_REDIRECT_URIS", "redirect_uris"),
    ("THREADS_RETURN_TO", "return_to"),
    ("THREADS_SCOPES", "scopes"),
];
const CALLER: &str = "THREADS_IDENTITY_CALLER_KEY_SHA256";

/// Variables of commands and of development.
const OTHERS: [&str; 6] = [
    "THREADS_IDENTITY_SERVER",
    "THREADS_IDENTITY_CALLER_KEY",
    "THREADS_IDENTITY_CALLER_KEY_FILE",
    "THREADS_IDENTITY_CA_FILE",
    "THREADS_IDENTITY_IMPORT_URL",
    "THREADS_IDENTITY_DEV_DATABASE_URL",
];

/// Whether a variable has a name like ours and means nothing: mistyped, most likely.
/// Kubernetes sets some for a service that is named as we are.
#[must_use]
pub fn is_mistyped(name: &str) -> bool {
    let is_known = name.starts_with(PREFIX)
        || name == CALLER
        || OTHERS.contains(&name)
        || SCALARS.iter().any(|(known, ..)| *known == name)
        || APP.iter().any(|(known, _)| *known == name);
    let is_of_kubernetes = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || {
        let port = name.rsplit_once("_PORT").map(|(_, rest)| rest);
        port.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    name.starts_with("THREADS_") && !is_known && !is_of_kubernetes
}

pub(super) fn overlay(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
    problems: &Problems,
) {
    let variables: BTreeMap<String, String> = environment.into_iter().collect();
    for (name, value) in &variables {
        if let Some(path) = name.strip_prefix(PREFIX) {
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            if !set(table, &path, value) {
                problems.note(name, "names something that only the file can hold");
            }
        }
    }
    for (name, section, key) in SCALARS {
        let Some(value) = variables.get(name) else { continue };
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(section) = entry else { continue };
        let base = key.trim_end_matches("_file");
        if !section.contains_key(key) && !section.contains_key(base) && !section.contains_key("file") {
            section.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    // An empty list in the file is still the file's word.
    if !table.contains_key("apps") {
        let mut app = Table::new();
        for (name, key) in APP {
            if let Some(value) = variables.get(name) {
                app.insert(key.to_owned(), Value::String(value.clone()));
            }
        }
        if !app.is_empty() {
            app.insert("id".to_owned(), Value::String(DEFAULT_APP.to_owned()));
            table.insert("apps".to_owned(), Value::Array(vec![Value::Table(app)]));
        }
    }
    if let (Some(hash), false) = (variables.get(CALLER), table.contains_key("callers")) {
        let roles = ["link", "read", "sync", "token"].map(|role| Value::String(role.to_owned()));
        let caller = Table::from_iter([
            ("name".to_owned(), Value::String("default".to_owned())),
            ("roles".to_owned(), Value::Array(roles.to_vec())),
            ("key_sha256".to_owned(), Value::String(hash.clone())),
        ]);
        table.insert("callers".to_owned(), Value::Array(vec![Value::Table(caller)]));
    }
}

/// Sets a scalar at a path; false where the path leads through a list.
fn set(table: &mut Table, path: &[String], value: &str) -> bool {
    match path {
        [] => false,
        [key] => {
            if matches!(table.get(key), Some(Value::Table(_)))
                || matches!(table.get(key), Some(Value::Array(list)) if list.iter().any(Value::is_table))
            {
                return false;
            }
            // The environment's word replaces the other spelling of a secret.
            let other = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
            table.remove(&other);
            table.insert(key.clone(), Value::String(value.to_owned()));
            true
        }
        [key, rest @ ..] => match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_commands_are_known_and_others_like_them_are_not() {
        for name in OTHERS {
            assert!(!is_mistyped(name), "{name}");
            assert!(is_mistyped(&format!("{name}X")), "{name}X");
        }
        assert!(!is_mistyped("THREADS_IDENTITY_IMPORT_URL"), "`import` reads it");
    }
}
