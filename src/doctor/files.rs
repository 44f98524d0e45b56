//! The files that hold secrets: whether others on the machine can read them.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Report;

/// Keys whose value is a secret when it stands in the configuration itself.
const SECRETS: [&str; 5] = ["client_secret", "client_secret_previous", "url", "direct_url", "value"];

/// Looks at the configuration file and at those that it names. One that cannot be
/// read is told by reading the configuration.
pub(super) fn examine(report: &mut Report, file: Option<&Path>) {
    let Some(file) = file else { return };
    let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<Table>().ok());
    let Some(table) = table else { return };
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut files = Vec::new();
    let mut holds_secrets = false;
    walk("", &table, &mut |key, value| {
        let name = key.rsplit('.').next().unwrap_or(key);
        if name.ends_with("_file") || key == "keys.file" {
            files.push((key.to_owned(), folder.join(value)));
        }
        holds_secrets |= SECRETS.contains(&name);
    });
    if holds_secrets {
        files.push(("--config".to_owned(), file.to_owned()));
    }
    for (key, path) in files {
        // Certificates are for everybody.
        if !key.ends_with("certificate_file") && !key.ends_with("ca_file") && !key.ends_with("jwks_file") {
            examine_mode(report, &key, &path);
        }
    }
}

/// Every text of a configuration, with its key.
fn walk(prefix: &str, table: &Table, seen: &mut impl FnMut(&str, &str)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::String(text) => seen(&key, text),
            Value::Table(table) => walk(&key, table, seen),
            Value::Array(list) => {
                for (i, value) in list.iter().enumerate() {
                    if let Value::Table(table) = value {
                        walk(&format!("{key}.{i}"), table, seen);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(unix)]
fn examine_mode(report: &mut Report, key: &str, path: &PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        report.problem(
            key,
            format!("{} can be read by everybody on this machine (mode {mode:03o})", path.display()),
            format!("chmod 600 {}", path.display()),
        );
    } else {
        report.ok(key, format!("{} is closed to others (mode {mode:03o})", path.display()));
    }
}

#[cfg(not(unix))]
fn examine_mode(_: &mut Report, _: &str, _: &PathBuf) {}
