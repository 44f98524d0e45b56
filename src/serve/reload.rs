//! The keyring's file, taken anew when it has changed, so that a key is rotated
//! without a restart.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::config::{Config, Keys};
use crate::metrics::ReloadLabels;
use crate::sealing::Keyring;
use crate::secret::sha256;
use crate::service::Service;

/// How long a changed file must stay as it is before it counts: one that is
/// being written in place may be a keyring that lacks its last keys.
const SETTLE: Duration = Duration::from_millis(200);

/// What a look at the file found, as far as it must be recognised.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Content([u8; 32]),
    Unreadable(io::ErrorKind),
}

/// Looks at the file again and again. It is read by its path each time, so it
/// makes no difference whether it is written over, replaced by another, or
/// reached through a link that is turned to elsewhere. Never ends, not even for a
/// keyring that is no file.
pub(super) async fn keep_keyring_current(config: &Config, service: &Service) {
    let Some(Keys::File { path, reload_interval }) = &config.keys else {
        return std::future::pending().await;
    };
    let (mut seen, mut refused) = (None, false);
    loop {
        sleep(*reload_interval).await;
        let (found, _) = read(path).await;
        if Some(found) != seen {
            sleep(SETTLE.min(*reload_interval)).await;
            let (settled, text) = read(path).await;
            if settled != found {
                continue;
            }
            seen = Some(found);
            refused = !take(service, path, &text);
        }
        if refused {
            service.metrics.keyring_reloads.get_or_create(&ReloadLabels { result: "refused" }).inc();
        }
    }
}

type Text = io::Result<Zeroizing<String>>;

async fn read(path: &Path) -> (Found, Text) {
    let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
    let found = match &text {
        Ok(text) => Found::Content(sha256(&[text.as_bytes()])),
        Err(error) => Found::Unreadable(error.kind()),
    };
    (found, text)
}

/// Puts to use what the file says; false, and everything as before, if it cannot
/// be used.
fn take(service: &Service, path: &Path, text: &Text) -> bool {
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
