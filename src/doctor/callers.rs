//! Who may call.

use super::Report;
use crate::config::{Config, Role};

/// Looks at the callers.
pub(super) fn examine(report: &mut Report, config: &Config) {
    if config.is_open() {
        report.warning(
            "callers",
            "none are configured: whoever reaches server.grpc_listen may do everything",
            "Make one with `threads-identity callers add NAME`, and put the lines that it prints into the \
             configuration.",
        );
        return;
    }
    for (i, caller) in config.callers.iter().enumerate() {
        let subject = format!("callers.{i}");
        let roles: Vec<&str> = caller.roles.iter().map(|role| role.name()).collect();
        let found = format!("{} of app {} may {}", caller.name, caller.app, roles.join(", "));
        let credentials = caller.key_sha256.len() + caller.certificate_names.len() + caller.tokens.len();
        let found = format!("{found}, by {credentials} credentials");
        if caller.roles.len() == Role::ALL.len() {
            let fix = "Leave out what it does not do: a stolen credential is worth what its roles are.";
            report.warning(&subject, format!("{found}: everything that there is"), fix);
        } else {
            report.ok(&subject, found);
        }
    }
    for app in &config.apps {
        if !config.callers.iter().any(|caller| caller.app == app.id) {
            report.warning(
                "callers",
                format!("app {} has no caller: nobody can use it", app.id),
                "Make one with `threads-identity callers add NAME --app APP`.",
            );
        }
    }
}
