//! What went wrong, and what to do about it: by the reason, never by the message.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::pb::ErrorReason;

/// What a backend does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the person; nothing is broken.
    Tell,
    /// This attempt is over: offer a new authorization URL.
    StartAgain,
    /// The same call, after `retry_delay`.
    Wait,
    /// The person must consent again: an authorization URL with the account's id.
    Consent,
    /// Of a watch: open it again, or begin anew.
    Watch,
    /// A person must mend something: you, or whoever runs the service.
    Alert,
}

/// An error of the service, or of the way to it; then `reason` is empty.
#[derive(Debug)]
pub struct IdentityError {
    pub code: Code,
    pub reason: String,
    pub metadata: HashMap<String, String>,
    /// What is wrong with which field.
    pub fields: HashMap<String, String>,
    /// How long to wait, if the service said.
    pub retry_delay: Option<Duration>,
    message: String,
}

impl From<Status> for IdentityError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == "threads.identity.v1");
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect(),
            retry_delay: details.retry_info().and_then(|retry| retry.retry_delay),
            message: status.message().to_owned(),
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {} {:?}", self.code, self.reason, self.message, self.fields)
    }
}

impl std::error::Error for IdentityError {}

impl IdentityError {
    /// What to do. `error_reason.proto` says more about each reason.
    pub fn action(&self) -> Action {
        use ErrorReason as Reason;
        let is_of_completion = self.metadata.contains_key("authorization_id");
        match Reason::from_str_name(&self.reason).unwrap_or_default() {
            // These tell of a completion when they name an authorization, which is over then.
            Reason::ProviderRateLimited | Reason::ReauthorizationRequired if is_of_completion => {
                Action::StartAgain
            }
            Reason::PermissionMissing if is_of_completion => Action::Tell,
            // You sent something that cannot be right.
            Reason::FieldInvalid
            | Reason::RequestMalformed
            | Reason::RequestTooLarge
            | Reason::MethodUnknown
            | Reason::CallerUnknown
            | Reason::CallerNotAllowed => Action::Alert,
            // Not just now.
            Reason::CallerRateLimited
            | Reason::DeadlineExceeded
            | Reason::ProviderRateLimited
            | Reason::ProviderUnavailable
            | Reason::StorageUnavailable
            | Reason::ShuttingDown
            | Reason::Overloaded
            | Reason::KeyUnavailable
            | Reason::AuthorizationInProgress => Action::Wait,
            // How things stand.
            Reason::AccountNotFound
            | Reason::ProfileNotFound
            | Reason::AuthorizationNotFound
            | Reason::AuthorizationDenied
            | Reason::AccountLinkedToAnotherUser
            | Reason::AccountMismatch => Action::Tell,
            Reason::AccountUnlinked
            | Reason::StateInvalid
            | Reason::SessionMismatch
            | Reason::AuthorizationExpired
            | Reason::AuthorizationClosed
            | Reason::CodeRejected
            | Reason::AuthorizationInterrupted => Action::StartAgain,
            Reason::ReauthorizationRequired | Reason::PermissionMissing => Action::Consent,
            // Of watches.
            Reason::CursorExpired | Reason::WatchLagged => Action::Watch,
            // The operator looks for the request id in the log.
            Reason::ProviderConfiguration
            | Reason::ProviderIdentityConflict
            | Reason::SealedDataInvalid
            | Reason::Internal => Action::Alert,
            // A reason from after this was written, or none: a connection that broke, say.
            Reason::Unspecified => match self.code {
                Code::Unavailable | Code::DeadlineExceeded => Action::Wait,
                _ if self.retry_delay.is_some() => Action::Wait,
                _ => Action::Alert,
            },
        }
    }
}

/// Makes the call, and makes it again for as long as waiting helps and is wanted.
///
/// Every call of this API may be repeated. UNAVAILABLE has been repeated by the client
/// already; here the rest is waited for, as long as the service says.
pub async fn patiently<T, F: Future<Output = Result<T, IdentityError>>>(
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, IdentityError> {
    let until = Instant::now() + patience;
    loop {
        let error = match call().await {
            Err(error) if error.action() == Action::Wait => error,
            done => return done,
        };
        let delay = error.retry_delay.unwrap_or(Duration::from_secs(1));
        let delay = delay.mul_f64(rand::random_range(1.0..1.2)); // not all at once
        if Instant::now() + delay > until {
            return Err(error);
        }
        sleep(delay).await;
    }
}
