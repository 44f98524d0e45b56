//! What can be measured from outside. The names are promises: alerts hang on
//! them.
//!
//! Metrics belong to one service, not to the process, so that several services
//! in one process (as in tests) do not count into each other.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

mod labels;
pub mod process;

pub use labels::*;

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
    /// Looks at the configuration's file that found other callers or issuers, or
    /// something that cannot be used.
    pub caller_reloads: Family<ReloadLabels, Counter>,
    /// Calls that were refused for who made them.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Calls by caller and credential.
    pub credential_uses: Family<CredentialLabels, Counter>,
    /// Attempts to read the keys of issuers.
    pub issuer_reads: Family<IssuerLabels, Counter>,
    /// Looks at the files of TLS that found others, or ones that cannot be used.
    pub tls_reloads: Family<ReloadLabels, Counter>,
    /// When the certificate that is served ends, in seconds since 1970; 0 without one.
    pub tls_certificate_end: Gauge,
    /// Connections that are open.
    pub connections_open: Family<ListenerLabels, Gauge>,
    /// Connections that were turned away.
    pub connections_refused: Family<ConnectionRefusalLabels, Counter>,
    /// Calls that were turned away because too many were being answered.
    pub calls_shed: Counter,
    /// Calls that were turned away because their caller calls too often.
    pub calls_rate_limited: Family<CallerLabels, Counter>,
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
            caller_reloads: Family::default(),
            refusals: Family::default(),
            credential_uses: Family::default(),
            issuer_reads: Family::default(),
            tls_reloads: Family::default(),
            tls_certificate_end: Gauge::default(),
            connections_open: Family::default(),
            connections_refused: Family::default(),
            calls_shed: Counter::default(),
            calls_rate_limited: Family::default(),
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
        metrics.register_callers();
        metrics.register_connections();
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

    fn register_callers(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "refusals",
            "Calls refused for who made them, by the reason that the caller is not told",
            self.refusals.clone(),
        );
        registry.register(
            "credential_uses",
            "Calls let in, by caller and credential",
            self.credential_uses.clone(),
        );
        registry.register(
            "issuer_reads",
            "Attempts to read the keys of an issuer, by result",
            self.issuer_reads.clone(),
        );
        registry.register(
            "caller_reloads",
            "Looks at the configuration file that took other callers, or refused it for as long as it is there",
            self.caller_reloads.clone(),
        );
    }

    fn register_connections(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "tls_reloads",
            "Looks at the files of TLS that found others, or ones that cannot be used",
            self.tls_reloads.clone(),
        );
        registry.register(
            "tls_certificate_end_timestamp_seconds",
            "When the certificate that is served ends, in seconds since 1970; 0 without one",
            self.tls_certificate_end.clone(),
        );
        registry.register(
            "connections_open",
            "Connections that are open, by listener",
            self.connections_open.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were turned away, by listener and reason",
            self.connections_refused.clone(),
        );
        registry.register(
            "calls_shed",
            "Calls that were turned away because too many were being answered",
            self.calls_shed.clone(),
        );
        registry.register(
            "calls_rate_limited",
            "Calls that were turned away because their caller calls too often",
            self.calls_rate_limited.clone(),
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
