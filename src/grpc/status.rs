//! Errors as callers see them: the one place that makes a status.

use std::collections::HashMap;

use tokio::task_local;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::error::{Error, Reason};

/// The domain of every reason.
pub(super) const DOMAIN: &str = "threads.identity.v1";
/// The longest value in metadata, in bytes: details stay under 4 KiB.
const METADATA_VALUE_MAX: usize = 512;

task_local! {
    /// The request id of the call that this task answers.
    pub(super) static REQUEST_ID: String;
}

/// The gRPC code of a reason: by who must act.
#[must_use]
pub fn code(reason: Reason) -> Code {
    match reason {
        Reason::FieldInvalid | Reason::RequestMalformed | Reason::StateInvalid => Code::InvalidArgument,
        Reason::RequestTooLarge | Reason::ProviderRateLimited | Reason::CallerRateLimited => {
            Code::ResourceExhausted
        }
        Reason::MethodUnknown => Code::Unimplemented,
        Reason::CallerUnknown => Code::Unauthenticated,
        Reason::CallerNotAllowed | Reason::SessionMismatch => Code::PermissionDenied,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::AccountNotFound | Reason::ProfileNotFound | Reason::AuthorizationNotFound => Code::NotFound,
        Reason::AccountUnlinked
        | Reason::ReauthorizationRequired
        | Reason::PermissionMissing
        | Reason::AuthorizationExpired
        | Reason::AuthorizationClosed
        | Reason::AuthorizationDenied
        | Reason::CodeRejected
        | Reason::AccountMismatch => Code::FailedPrecondition,
        Reason::AuthorizationInProgress | Reason::AuthorizationInterrupted | Reason::WatchLagged => {
            Code::Aborted
        }
        Reason::CursorExpired => Code::OutOfRange,
        Reason::AccountLinkedToAnotherUser => Code::AlreadyExists,
        Reason::ProviderUnavailable
        | Reason::StorageUnavailable
        | Reason::ShuttingDown
        | Reason::Overloaded
        | Reason::KeyUnavailable => Code::Unavailable,
        Reason::SealedDataInvalid => Code::DataLoss,
        Reason::Unspecified
        | Reason::Internal
        | Reason::ProviderConfiguration
        | Reason::ProviderIdentityConflict => Code::Internal,
    }
}

/// Makes the status of an error, and logs it once if an operator must look.
#[expect(clippy::needless_pass_by_value, reason = "the end of an error's way; fits map_err")]
pub(super) fn from_error(error: Error) -> Status {
    let reason = if error.reason() == Reason::Unspecified { Reason::Internal } else { error.reason() };
    let code = code(reason);
    let mut metadata: HashMap<String, String> = HashMap::with_capacity(error.metadata().len() + 1);
    for (key, value) in error.metadata() {
        let end = value.floor_char_boundary(METADATA_VALUE_MAX);
        metadata.insert((*key).to_owned(), value[..end].to_owned());
    }
    match code {
        Code::Internal | Code::DataLoss => {
            if code == Code::Internal {
                let _ = REQUEST_ID.try_with(|id| metadata.insert("request_id".to_owned(), id.clone()));
            }
            tracing::error!(reason = reason.as_str_name(), "{error:?}");
        }
        // What an operator has asked for, as many times as there are watches; and what is
        // meant to cost next to nothing when there is far too much of it.
        Code::Unavailable if matches!(reason, Reason::ShuttingDown | Reason::Overloaded) => {}
        Code::Unavailable => tracing::warn!(reason = reason.as_str_name(), "{error:?}"),
        _ => {}
    }
    let mut details = ErrorDetails::with_error_info(reason.as_str_name(), DOMAIN, metadata);
    if !error.violations().is_empty() {
        let violations = error.violations().iter();
        details.set_bad_request(
            violations.map(|v| FieldViolation::new(&v.field, v.description.as_ref())).collect::<Vec<_>>(),
        );
    }
    if let Some(wait) = error.retry_after() {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(code, error.to_string(), details)
}
