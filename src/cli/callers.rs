//! `callers add`.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::{CommandResult, examples, print};
use crate::config::Role;
use crate::grpc::new_caller_key;

#[derive(Debug, Subcommand)]
pub(super) enum CallersCommand {
    /// Make a key for a caller: printed once, with the lines for the
    /// configuration.
    #[command(after_help = examples::CALLERS_ADD)]
    Add {
        /// The caller's name, for logs and the audit trail.
        name: String,
        /// The app that it sees.
        #[arg(long, default_value = "default")]
        app: String,
        /// What it may do: link, transfer, read, sync, token, erase.
        #[arg(long, value_delimiter = ',', default_value = "link,read")]
        roles: Vec<String>,
    },
}

/// Carries the command out.
pub(super) fn run(command: &CallersCommand) -> CommandResult {
    let CallersCommand::Add { name, app, roles } = command;
    add(name, app, roles)
}

/// Prints a new key once, and the lines that hold its hash.
fn add(name: &str, app: &str, roles: &[String]) -> CommandResult {
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err("the name must be 1 to 64 bytes without control characters".into());
    }
    if !crate::config::is_app_id(app) {
        return Err("--app: must be 1 to 32 of a-z, 0-9, - and _, as in the configuration".into());
    }
    let known = Role::ALL.map(Role::name);
    if let Some(unknown) = roles.iter().find(|role| !known.contains(&role.as_str())) {
        return Err(format!("`{unknown}` is not a role; the roles are {}", known.join(", ")).into());
    }
    let roles: BTreeSet<&String> = roles.iter().collect();
    let (key, hash) = new_caller_key();
    let caller = toml::Table::from_iter([
        ("name".to_owned(), name.into()),
        ("app".to_owned(), app.into()),
        ("roles".to_owned(), roles.into_iter().cloned().collect::<Vec<_>>().into()),
        ("key_sha256".to_owned(), vec![hash.clone()].into()),
    ]);
    print(format_args!("The key of {name}. It is shown this once; the caller sends it as"));
    print("`authorization: Bearer KEY`:\n");
    print(format_args!("  {key}\n"));
    print("The lines for the configuration:\n");
    print(format_args!("[[callers]]\n{caller}"));
    print("# Or without a file, for one caller with the roles link, read, sync and token:");
    print(format_args!("# THREADS_IDENTITY_CALLER_KEY_SHA256={hash}"));
    Ok(())
}
