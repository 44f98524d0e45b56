//! Reading an issuer's keys anew, again and again: the one task per issuer that
//! does, so that no two attempts are ever made at once.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use reqwest::header;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::keys::KeySet;
use super::{Issuer, Known};
use crate::config::{IssuerConfig, KeySource};
use crate::metrics::{IssuerLabels, Metrics};

/// The longest key set, in bytes.
const BODY_MAX: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The whole of one attempt.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What reading keys needs.
pub struct Fetcher {
    /// For keys behind an address.
    pub http: reqwest::Client,
    /// Where attempts are counted.
    pub metrics: Arc<Metrics>,
    /// What a stop waits for.
    pub tasks: TaskTracker,
    /// Cancelled when the process is asked to stop.
    pub stopping: CancellationToken,
}

/// The HTTP client for keys. They are read where the configuration says and nowhere
/// else.
///
/// # Errors
/// If the TLS back end cannot be set up.
pub fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .user_agent(concat!("threads-identity/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl Fetcher {
    /// Reads an issuer's keys until `stop` is cancelled, which dropping the issuer
    /// does.
    pub(super) fn keep_current(&self, issuer: &Arc<Issuer>, stop: CancellationToken) {
        let (http, metrics) = (self.http.clone(), Arc::clone(&self.metrics));
        let (wanted, retry_interval) = (Arc::clone(&issuer.wanted), issuer.config.retry_interval);
        let refresh_interval = issuer.config.refresh_interval;
        let issuer = Arc::downgrade(issuer);
        let read_for_ever = async move {
            loop {
                let Some((is_good, ended)) = read(&issuer, &http, &metrics).await else { return };
                let pause = if is_good { refresh_interval } else { refresh_interval.min(retry_interval) };
                let is_wanted = async {
                    // What was wanted while the attempt was made has been answered by it.
                    loop {
                        wanted.notified().await;
                        if ended.elapsed() >= retry_interval {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = is_wanted => {}
                }
            }
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(read_for_ever).await });
    }
}

/// Makes one attempt, and answers whether it went well and when it ended; `None`
/// when the issuer is gone.
async fn read(issuer: &Weak<Issuer>, http: &reqwest::Client, metrics: &Metrics) -> Option<(bool, Instant)> {
    let config = &issuer.upgrade()?.config.clone();
    let keys = obtain(http, config).await;
    let issuer = issuer.upgrade()?;
    let before = issuer.keys.load_full();
    let at = Instant::now();
    let name = &config.issuer;
    let result = match keys {
        Ok(keys) => {
            let same = before.filter(|before| before.keys.digest == keys.digest);
            let keys = same.map_or_else(
                || {
                    tracing::info!(issuer = name, keys = ?keys.ids(), "took the keys of an issuer");
                    Arc::new(keys)
                },
                |before| Arc::clone(&before.keys),
            );
            issuer.keys.store(Some(Arc::new(Known { keys, at })));
            "ok"
        }
        Err(why) => {
            let age = before.map(|before| before.at.elapsed().as_secs());
            tracing::warn!(issuer = name, age, "the keys of an issuer cannot be read anew: {why}");
            "failed"
        }
    };
    metrics.issuer_reads.get_or_create(&IssuerLabels { issuer: name.clone(), result }).inc();
    issuer.attempted.send_replace(Some(at));
    Some((result == "ok", at))
}

async fn obtain(http: &reqwest::Client, config: &IssuerConfig) -> Result<KeySet, String> {
    let body = match &config.keys {
        KeySource::Url(url) => download(http, url).await,
        KeySource::File(path) => read_file(path).await,
    };
    body.and_then(|body| KeySet::parse(&body, &config.algorithms).map_err(str::to_owned))
}

/// Reads an issuer's keys once, and counts those that can be used.
///
/// # Errors
/// Why they cannot be read.
pub async fn read_once(config: &IssuerConfig) -> Result<usize, String> {
    let http = http_client().map_err(describe)?;
    Ok(obtain(&http, config).await?.ids().len())
}

async fn download(http: &reqwest::Client, url: &Url) -> Result<Vec<u8>, String> {
    let request = http.get(url.clone()).header(header::ACCEPT, "application/json, application/jwk-set+json");
    let mut response = request.send().await.map_err(describe)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the answer was {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err("is longer than 256 KiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong, without the address, which the configuration has.
fn describe(error: reqwest::Error) -> String {
    let what = match () {
        () if error.is_timeout() => "no answer in time",
        () if error.is_connect() => "no connection",
        () => "the connection broke",
    };
    let mut cause: &dyn std::error::Error = &error.without_url();
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("{what}: {cause}")
}

async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        let mut body = Vec::new();
        file.take(BODY_MAX as u64 + 1).read_to_end(&mut body).await?;
        Ok::<_, std::io::Error>(body)
    };
    let body = read.await.map_err(|error| format!("{}: {error}", path.display()))?;
    if body.len() > BODY_MAX { Err("is longer than 256 KiB".to_owned()) } else { Ok(body) }
}
