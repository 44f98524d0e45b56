//! By what is counted apart.

use prometheus_client::encoding::EncodeLabelSet;

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

/// Labels of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    /// `grpc`, `http` or `ops`.
    pub listener: &'static str,
}

/// Labels of a connection that was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionRefusalLabels {
    /// `grpc`, `http` or `ops`.
    pub listener: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Labels of a call by the credential that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CredentialLabels {
    /// The caller's name.
    pub caller: String,
    /// The kind, and which of that kind: never the credential itself.
    pub credential: String,
}

/// Labels of a call that was refused for who made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    /// Why.
    pub reason: &'static str,
}

/// Labels of an attempt to read an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IssuerLabels {
    /// The issuer, as configured.
    pub issuer: String,
    /// `ok`, or `failed`.
    pub result: &'static str,
}

/// Labels of what a caller was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallerLabels {
    /// The caller's name in the configuration.
    pub caller: String,
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
