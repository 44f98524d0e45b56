//! The keyring's file.

use std::path::Path;

use super::Text;
use crate::metrics::ReloadLabels;
use crate::sealing::Keyring;
use crate::service::Service;

/// Puts to use what the file says; false, and everything as before, if it cannot
/// be used.
pub(super) fn take(service: &Service, path: &Path, text: &Text) -> bool {
    let replaced = match text {
        Ok(text) => Keyring::parse(text)
            .map_err(|error| error.to_string())
            .and_then(|keyring| service.keyring.replace(keyring).map_err(|error| error.to_string())),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    let file = path.display();
    match replaced {
        Ok(true) => {
            let keyring = service.keyring.current();
            let keys: Vec<String> = keyring.describe().into_iter().map(|key| key.id).collect();
            tracing::info!(%file, active = keyring.active_id(), ?keys, "took the keyring file anew");
            service.metrics.keyring_reloads.get_or_create(&ReloadLabels { result: "taken" }).inc();
            true
        }
        Ok(false) => true,
        Err(why) => {
            tracing::error!(%file, "the keyring file cannot be used, the keys stay as they are: {why}");
            false
        }
    }
}
