//! The one error inside. It carries a published [`Reason`], what the caller
//! needs to act on it, and, for the log alone, its source.
//!
//! It knows neither tonic, axum nor sqlx: each ring converts at its own border.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::proto::v1::ErrorReason as Reason;

/// The most fields that one answer names.
pub const FIELD_VIOLATIONS_MAX: usize = 20;

/// The result of everything that can fail for a reason.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with its published reason. Cheap to clone: several callers may wait
/// for one piece of work.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: Reason,
    message: Cow<'static, str>,
    metadata: Vec<(&'static str, String)>,
    fields: Vec<FieldViolation>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A field of the request that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The proto path of the field, such as `link.user_id`.
    pub field: String,
    /// What is wrong with it and what to send. Never the value.
    pub description: Cow<'static, str>,
}

impl Error {
    /// A failure for `reason`, with the sentence that its documentation gives.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self(Box::new(Inner {
            reason,
            message: Cow::Borrowed(sentence(reason)),
            metadata: Vec::new(),
            fields: Vec::new(),
            retry_after: retry_after(reason),
            source: None,
        }))
    }

    /// The failure of a request whose fields are wrong.
    #[must_use]
    pub fn fields(mut violations: Vec<FieldViolation>) -> Self {
        let names: Vec<&str> = violations.iter().map(|v| v.field.as_str()).take(5).collect();
        let message = format!("The request has missing or wrong fields: {}.", names.join(", "));
        violations.truncate(FIELD_VIOLATIONS_MAX);
        let mut error = Self::new(Reason::FieldInvalid);
        error.0.message = Cow::Owned(message);
        error.0.fields = violations;
        error
    }

    /// The failure of a request of which one field is wrong.
    #[must_use]
    pub fn field(field: &str, description: impl Into<Cow<'static, str>>) -> Self {
        Self::fields(vec![FieldViolation { field: field.to_owned(), description: description.into() }])
    }

    /// Something that nobody foresaw.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Reason::Internal).because(source)
    }

    /// Adds a value that the caller needs, under the name of its proto field.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.metadata.push((key, value.to_string()));
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Keeps what lies behind it, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The published reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What the caller needs, by proto field name.
    #[must_use]
    pub fn metadata(&self) -> &[(&'static str, String)] {
        &self.0.metadata
    }

    /// The fields that are wrong.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        &self.0.fields
    }

    /// How long to wait before trying again, when that is worth it.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_str_name(), self.0.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What a caller is told: what happened, and what to do.
fn sentence(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified | Reason::Internal => {
            "Something unforeseen happened. Report the request id to the operator."
        }
        Reason::FieldInvalid => "The request has missing or wrong fields.",
        Reason::RequestMalformed => "The request is not the message that this method takes.",
        Reason::RequestTooLarge => "The request is larger than this server takes.",
        Reason::MethodUnknown => "There is no such method.",
        Reason::CallerUnknown => {
            "Send a caller key or an issuer's token of a configured caller as `authorization: Bearer CREDENTIAL`."
        }
        Reason::CallerRateLimited => "The caller calls more often than it may. Repeat the call later.",
        Reason::CallerNotAllowed => "The caller lacks the role that this call needs.",
        Reason::DeadlineExceeded => {
            "The deadline passed. What had begun is finished all the same; repeat the call to learn how."
        }
        Reason::AccountNotFound => "There is no such account for this caller and user.",
        Reason::ProfileNotFound => "The account is unlinked and has no profile.",
        Reason::AuthorizationNotFound => "Nobody has tried to complete such an authorization.",
        Reason::AccountUnlinked => "The account is unlinked. Link it again.",
        Reason::ReauthorizationRequired => {
            "The person must consent again. Create a new authorization URL with account_id."
        }
        Reason::PermissionMissing => "The permissions that this needs are not there.",
        Reason::StateInvalid => {
            "The state or ticket is not one that this service made for this app. Start again."
        }
        Reason::SessionMismatch => {
            "The authorization was created for another user or browser session. The right user starts again."
        }
        Reason::AuthorizationExpired => "The authorization is too old. Start again.",
        Reason::AuthorizationInProgress => "The same completion is still running. Repeat the call.",
        Reason::AuthorizationClosed => "The authorization has ended otherwise. Start again.",
        Reason::AuthorizationDenied => "The person did not consent.",
        Reason::CodeRejected => "The code is unknown, used or expired. Start again.",
        Reason::AuthorizationInterrupted => {
            "Threads gave no readable answer, so the code may be spent. Start again."
        }
        Reason::AccountLinkedToAnotherUser => "The Threads account is linked to another user.",
        Reason::AccountMismatch => "The person came back with another Threads account than asked for.",
        Reason::ProviderRateLimited => "Threads asks to slow down. Wait before trying again.",
        Reason::ProviderUnavailable => "Threads cannot be reached or understood now. Repeat the call later.",
        Reason::ProviderConfiguration => {
            "Threads says that the app is set up wrongly. Report the request id to the operator."
        }
        Reason::ProviderIdentityConflict => "The answers of Threads name two different people.",
        Reason::StorageUnavailable => "The database cannot be used now. Repeat the call later.",
        Reason::ShuttingDown => "This replica is about to stop. Repeat the call.",
        Reason::Overloaded => "This replica has more work than it can take. Repeat the call later.",
        Reason::KeyUnavailable => "This replica lacks the key under which the value is sealed.",
        Reason::CursorExpired => {
            "Changes after this cursor are gone, or it is of another history. Watch without a cursor, then list."
        }
        Reason::WatchLagged => "The watcher did not keep up. Watch again from the cursor in the metadata.",
        Reason::SealedDataInvalid => "A stored value does not open. Report it to the operator.",
    }
}

/// The wait that goes with a reason unless somebody knows better.
fn retry_after(reason: Reason) -> Option<Duration> {
    match reason {
        Reason::ProviderUnavailable => Some(Duration::from_secs(5)),
        Reason::ProviderRateLimited => Some(Duration::from_mins(1)),
        Reason::AuthorizationInProgress
        | Reason::StorageUnavailable
        | Reason::KeyUnavailable
        | Reason::CallerRateLimited => Some(Duration::from_secs(1)),
        Reason::ShuttingDown | Reason::Overloaded => Some(Duration::from_millis(250)),
        _ => None,
    }
}
