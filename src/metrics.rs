//! What can be measured from outside. The names are promises: alerts hang on
//! them.
//!
//! Metrics belong to one service, not to the process, so that several services
//! in one process (as in tests) do not count into each other.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub mod process;

/// Labels of a finished call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// Service and method; `unknown` for what does not exist.
    pub method: &'static str,
    /// The reason of the error, or `OK`.
    pub reason: &'static str,
}

/// Labels of a call to Threads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    /// What was asked.
    pub endpoint: &'static str,
    /// `ok`, or the class of the failure.
    pub result: &'static str,
}

/// Labels of an attempt to refresh a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefreshLabels {
    /// The reason why it failed, or `OK`.
    pub reason: &'static str,
}

/// How much life a token has left.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LifeLabels {
    /// At most so many days.
    pub days: u8,
}

/// Where rows are removed from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabels {
    /// The table.
    pub table: &'static str,
}

/// The name of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BatchLabels {
    /// What travels in it.
    pub batch: &'static str,
}

/// How a look at the keyring's file went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `taken`, or `refused`.
    pub result: &'static str,
}

/// Labels of an answer of the HTTP side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PageLabels {
    /// What was asked for.
    pub page: &'static str,
    /// What came of it.
    pub result: &'static str,
}

/// Labels of something that Meta has signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignatureLabels {
    /// `current` or `previous`: which of the app's secrets signed.
    pub secret: &'static str,
}

/// Labels of a watch that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabels {
    /// The reason of its last word, or `CALLER_GONE`.
    pub reason: &'static str,
}

/// The metrics of one service.
pub struct Metrics {
    registry: Registry,
    /// Calls finished.
    pub calls: Family<CallLabels, Counter>,
    /// How long calls took.
    pub call_seconds: Histogram,
    /// Calls being answered now.
    pub calls_in_flight: Gauge,
    /// Calls to Threads.
    pub provider_calls: Family<ProviderLabels, Counter>,
    /// How long Threads took.
    pub provider_call_seconds: Histogram,
    /// Values of profiles that were too long or held a NUL, and count as absent.
    pub profile_values_dropped: Counter,
    /// Apps that leave Threads alone, because it told them to.
    pub provider_paused: Gauge,
    /// Attempts to refresh, or to check, a token.
    pub refreshes: Family<RefreshLabels, Counter>,
    /// Statements that carried what was waiting together.
    pub batches: Family<BatchLabels, Counter>,
    /// Requests that travelled in them.
    pub batch_rows: Family<BatchLabels, Counter>,
    /// Connections that had to be replaced.
    pub connections_replaced: Counter,
    /// Accounts whose token has at most so many days left, counted as far as
    /// housekeeping counts.
    pub tokens_expiring: Family<LifeLabels, Gauge>,
    /// For how long the refresh that has waited longest has been due, in seconds.
    pub refresh_oldest_overdue: Gauge<f64, AtomicU64>,
    /// When this replica last refreshed a token, in unix seconds.
    pub refresh_last_success: Gauge,
    /// Rows that were removed because they had had their time.
    pub rows_removed: Family<TableLabels, Counter>,
    /// When this replica last kept house without an error, in unix seconds.
    pub housekeeping_last_success: Gauge,
    /// Seconds by which our clock and Postgres' differed last.
    pub clock_skew_seconds: Gauge<f64, AtomicU64>,
    /// Looks at the keyring's file that found another keyring, or one that cannot
    /// be used.
    pub keyring_reloads: Family<ReloadLabels, Counter>,
    /// Answers to browsers and to Meta.
    pub pages: Family<PageLabels, Counter>,
    /// What Meta has signed, by the secret.
    pub signed_requests: Family<SignatureLabels, Counter>,
    /// Watches that are open.
    pub watch_streams: Gauge,
    /// Watches that have ended, by reason.
    pub watches_ended: Family<WatchLabels, Counter>,
    /// How long something drawn has not been settled, or could not be looked at.
    pub event_tail_lag_seconds: Gauge<f64, AtomicU64>,
    /// Event ids that have been drawn and are not settled.
    pub events_behind: Gauge,
}

impl Metrics {
    /// Makes the metrics of a service, all at zero.
    #[must_use]
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 17));
        let mut metrics = Self {
            registry: Registry::with_prefix("threads_identity"),
            calls: Family::default(),
            call_seconds: seconds(),
            calls_in_flight: Gauge::default(),
            provider_calls: Family::default(),
            provider_call_seconds: seconds(),
            profile_values_dropped: Counter::default(),
            provider_paused: Gauge::default(),
            refreshes: Family::default(),
            batches: Family::default(),
            batch_rows: Family::default(),
            connections_replaced: Counter::default(),
            tokens_expiring: Family::default(),
            refresh_oldest_overdue: Gauge::default(),
            refresh_last_success: Gauge::default(),
            rows_removed: Family::default(),
            housekeeping_last_success: Gauge::default(),
            clock_skew_seconds: Gauge::default(),
            keyring_reloads: Family::default(),
            pages: Family::default(),
            signed_requests: Family::default(),
            watch_streams: Gauge::default(),
            watches_ended: Family::default(),
            event_tail_lag_seconds: Gauge::default(),
            events_behind: Gauge::default(),
        };
        metrics.register();
        metrics.register_keeping();
        metrics.register_events();
        metrics.registry.register_collector(Box::new(process::Process));
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("calls", "Calls finished, by method and reason", self.calls.clone());
        registry.register_with_unit(
            "call_duration",
            "How long calls took",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        registry.register("calls_in_flight", "Calls being answered now", self.calls_in_flight.clone());
        registry.register(
            "provider_calls",
            "Calls to Threads, by endpoint and result",
            self.provider_calls.clone(),
        );
        registry.register_with_unit(
            "provider_call_duration",
            "How long Threads took",
            Unit::Seconds,
            self.provider_call_seconds.clone(),
        );
        registry.register(
            "profile_values_dropped",
            "Profile values too long or unstorable, treated as absent",
            self.profile_values_dropped.clone(),
        );
        registry.register(
            "provider_paused",
            "Apps that leave Threads alone because it told them to",
            self.provider_paused.clone(),
        );
        registry.register(
            "refreshes",
            "Attempts to refresh or check a token, by reason",
            self.refreshes.clone(),
        );
        registry.register(
            "batches",
            "Statements that carried waiting requests together",
            self.batches.clone(),
        );
        registry.register("batch_rows", "Requests that travelled in batches", self.batch_rows.clone());
        registry.register(
            "connections_replaced",
            "Database connections of batches that had to be replaced",
            self.connections_replaced.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "By how much this process' clock is ahead of Postgres'",
            Unit::Seconds,
            self.clock_skew_seconds.clone(),
        );
        registry.register(
            "keyring_reloads",
            "Looks at the keyring file that took another keyring, or refused one for as long as it is there",
            self.keyring_reloads.clone(),
        );
    }

    /// What is known by looking at the tables, not at calls.
    fn register_keeping(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "tokens_expiring",
            "Active accounts whose token has at most so many days left, counted up to 10000",
            self.tokens_expiring.clone(),
        );
        registry.register_with_unit(
            "refresh_oldest_overdue",
            "For how long the refresh that has waited longest has been due",
            Unit::Seconds,
            self.refresh_oldest_overdue.clone(),
        );
        registry.register_with_unit(
            "refresh_last_success_timestamp",
            "When this replica last refreshed a token",
            Unit::Seconds,
            self.refresh_last_success.clone(),
        );
        registry.register(
            "rows_removed",
            "Rows that had had their time, by table",
            self.rows_removed.clone(),
        );
        registry.register_with_unit(
            "housekeeping_last_success_timestamp",
            "When this replica last removed what was old without an error",
            Unit::Seconds,
            self.housekeeping_last_success.clone(),
        );
    }

    fn register_events(&mut self) {
        let registry = &mut self.registry;
        registry.register("pages", "Answers to browsers and to Meta, by page and result", self.pages.clone());
        registry.register(
            "signed_requests",
            "Requests of Meta with a right signature, by the secret that made it",
            self.signed_requests.clone(),
        );
        registry.register("watch_streams", "Watches that are open", self.watch_streams.clone());
        registry.register("watches_ended", "Watches that have ended, by reason", self.watches_ended.clone());
        registry.register_with_unit(
            "event_tail_lag",
            "How long events have been held back by a transaction that has not ended, or by a database \
             that cannot be asked",
            Unit::Seconds,
            self.event_tail_lag_seconds.clone(),
        );
        registry.register(
            "events_behind",
            "Event ids drawn that are not delivered yet",
            self.events_behind.clone(),
        );
    }

    /// The metrics as `OpenMetrics` text.
    ///
    /// # Errors
    /// Only if a metric's own encoder fails.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
