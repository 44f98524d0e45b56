//! Files that are taken anew when they have changed, so that keys are rotated and
//! callers come and go without a restart.

use std::io;
use std::path::Path;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::config::{Config, Keys};
use crate::grpc::Callers;
use crate::metrics::ReloadLabels;
use crate::secret::sha256;
use crate::service::Service;

mod callers;
mod hangups;
mod keyring;

use hangups::Hangups;

/// How long a changed file must stay as it is before it counts: one that is being
/// written in place may be a keyring that lacks its last keys, or a configuration
/// that lacks its last callers.
const SETTLE: Duration = Duration::from_millis(200);

/// Keeps the keyring, the callers and the issuers as their files say. Never ends, not
/// even for a process without a file.
pub(super) async fn keep_current(config: &Config, service: &Service, callers: &Callers) {
    let keyring = async {
        let Some(Keys::File { path, reload_interval }) = &config.keys else { return };
        let file = Followed { path, interval: *reload_interval, reloads: &service.metrics.keyring_reloads };
        file.follow(Hangups::none(), |text| keyring::take(service, path, text)).await;
    };
    let callers = async {
        let Some(path) = config.origin.file() else { return };
        let interval = config.server.reload_interval;
        let file = Followed { path, interval, reloads: &service.metrics.caller_reloads };
        file.follow(Hangups::listen(), |text| callers::take(config, service, callers, text)).await;
    };
    tokio::join!(keyring, callers);
    std::future::pending::<()>().await;
}

/// What a look at a file found, as far as it must be recognised.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Content([u8; 32]),
    Unreadable(io::ErrorKind),
}

type Text = io::Result<Zeroizing<String>>;

/// A file that is looked at again and again. It is read by its path each time, so it
/// makes no difference whether it is written over, replaced by another, or reached
/// through a link that is turned to elsewhere.
struct Followed<'a> {
    path: &'a Path,
    interval: Duration,
    /// Where it is counted how looks went.
    reloads: &'a Family<ReloadLabels, Counter>,
}

impl Followed<'_> {
    /// Hands the text to `take` whenever it is another one, and after a hangup. Counts
    /// every look at a text that `take` has refused.
    async fn follow(&self, mut hangups: Hangups, mut take: impl FnMut(&Text) -> bool) {
        let (mut seen, mut refused) = (None, false);
        loop {
            tokio::select! {
                () = sleep(self.interval) => {}
                () = hangups.next() => seen = None,
            }
            let (found, _) = read(self.path).await;
            if Some(found) != seen {
                sleep(SETTLE.min(self.interval)).await;
                let (settled, text) = read(self.path).await;
                if settled != found {
                    continue;
                }
                seen = Some(found);
                refused = !take(&text);
            }
            if refused {
                self.reloads.get_or_create(&ReloadLabels { result: "refused" }).inc();
            }
        }
    }
}

async fn read(path: &Path) -> (Found, Text) {
    let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
    let found = match &text {
        Ok(text) => Found::Content(sha256(&[text.as_bytes()])),
        Err(error) => Found::Unreadable(error.kind()),
    };
    (found, text)
}
