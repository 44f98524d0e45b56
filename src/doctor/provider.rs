//! What Threads itself says of the apps, and of the time.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::DATE;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::time::Instant;

use super::Report;
use crate::clock::{Clock, SystemClock};
use crate::config::{AppConfig, Config};
use crate::metrics::Metrics;
use crate::service::CLOCK_SKEW_MAX;
use crate::threads::{self, Client, Refused};

/// How long Threads may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);
/// The form of an HTTP date (RFC 9110, section 5.6.7); always in UTC.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Asks Threads about every app.
pub(super) async fn examine(report: &mut Report, config: &Config) {
    let http = match threads::http_client(&config.provider) {
        Ok(http) => http,
        Err(error) => {
            let found = format!("no HTTP client can be set up: {}", error.without_url());
            report.problem("provider", found, "The machine has no certificates to trust, most likely.");
            return;
        }
    };
    let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(SystemClock));
    for (i, app) in config.apps.iter().enumerate() {
        let client = Client::new(
            http.clone(),
            Arc::new(app.clone()),
            config.provider,
            Arc::clone(&metrics),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        examine_app(report, i, app, &client).await;
    }
    if let Some(app) = config.apps.first() {
        examine_clock(report, app, &http).await;
    }
}

async fn examine_app(report: &mut Report, i: usize, app: &AppConfig, client: &Client) {
    let host = app.token_url.host_str().unwrap_or_default();
    let subject = |key: &str| format!("apps.{i}.{key}");
    match client.check_app(Instant::now() + PATIENCE).await {
        Ok(()) => report.ok(subject("client_secret"), format!("{host} knows the app and takes its secret")),
        Err(Refused::Secret(failure)) => report.problem(
            subject("client_secret"),
            format!("{host} does not take it: {failure}"),
            "Copy the Threads App secret from Meta's App Dashboard (Use cases, Access the Threads API, Settings); \
             the app's own secret is another one.",
        ),
        Err(Refused::App(failure)) => report.problem(
            subject("client_id"),
            format!("{host} does not know {} as a Threads app: {failure}", app.client_id),
            "Copy the Threads App ID from Meta's App Dashboard (Use cases, Access the Threads API, Settings); \
             the App ID at the top of the dashboard is another one.",
        ),
        Err(Refused::Unanswered(failure)) => report.warning(
            subject("graph_url"),
            format!("{host} gave no answer that tells anything: {failure}"),
            "Let this machine reach it over https, and try again; `doctor --offline` leaves it out.",
        ),
    }
}

/// Compares our clock with that of Threads, whose answers carry the time.
async fn examine_clock(report: &mut Report, app: &AppConfig, http: &reqwest::Client) {
    let Ok(response) = http.head(app.graph_url.clone()).timeout(PATIENCE).send().await else { return };
    let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
    let theirs = date.and_then(|text| time::PrimitiveDateTime::parse(text, HTTP_DATE).ok());
    let Some(theirs) = theirs else { return };
    let ours: OffsetDateTime = SystemClock.now();
    let apart = (ours - theirs.assume_utc()).as_seconds_f64();
    let found = format!("{apart:+.0} s from that of {}", app.graph_url.host_str().unwrap_or_default());
    // The header has whole seconds, and the answer took its time.
    if apart.abs() > CLOCK_SKEW_MAX + 2.0 {
        report.problem("the clock", found, "Let the system keep its clock by NTP.");
    } else {
        report.ok("the clock", found);
    }
}
