//! The keyring.

use super::Report;
use crate::config::{Config, Keys};
use crate::sealing::Keyring;
use crate::service::load_keyring;

/// Looks at the keyring, and answers with it if it can be used.
pub(super) fn examine(report: &mut Report, config: &Config) -> Option<Keyring> {
    const MAKE: &str = "Make one with `threads-identity keys generate`, or put the copy back that was kept.";
    let (subject, kept) = match &config.keys {
        Some(Keys::File { .. }) => ("keys.file", None),
        _ => ("THREADS_IDENTITY_KEY", Some("a variable is not taken anew while the service runs")),
    };
    match load_keyring(config) {
        Err(error) => {
            report.problem(subject, error.to_string(), MAKE);
            None
        }
        Ok(keyring) => {
            let known = keyring.describe().len();
            let kept = kept.map_or_else(String::new, |kept| format!("; {kept}"));
            report.ok(subject, format!("{known} keys, {} seals{kept}", keyring.active_id()));
            Some(keyring)
        }
    }
}
