//! What went wrong with a call, and what to do about it: by its reason, never by its
//! message.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::terminal::plain;
use crate::error::Reason;

/// The reason of an error; `None` if it comes from this side of the connection, or
/// from whatever lies between.
pub(super) fn reason(status: &Status) -> Option<Reason> {
    Reason::from_str_name(&status.get_details_error_info()?.reason)
}

/// How long the service asks to wait before the same call is made again; `None` if
/// that is of no use.
pub(super) fn wait(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Whether the service was not reached, or not to the end of its answer.
pub(super) fn is_unreached(status: &Status) -> bool {
    let is_broken =
        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
    is_broken && status.get_details_error_info().is_none()
}

/// What happened, on one line, with all that the service says to go by.
pub(super) fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        if !is_unreached(status) {
            let (code, said) = (status.code(), plain(status.message()));
            return format!("What answers there is not this service: {code:?}, {said}");
        }
        return format!("The service cannot be reached: {}.", cause(status).trim_end_matches('.'));
    };
    let mut text = plain(status.message()).into_owned();
    if !text.ends_with('.') {
        text.push('.');
    }
    for violation in details.bad_request().iter().flat_map(|fields| &fields.field_violations) {
        let _ = write!(text, " {}: {}.", plain(&violation.field), plain(&violation.description));
    }
    let _ = write!(text, " ({}", plain(&info.reason));
    let mut metadata: Vec<_> = info.metadata.iter().filter(|(key, _)| *key != "cursor").collect();
    metadata.sort();
    for (key, value) in metadata {
        let _ = write!(text, ", {}: {}", plain(key), plain(value));
    }
    text.push(')');
    text
}

/// What happened and what to do, as the end of a command.
pub(super) fn failure(status: &Status) -> Box<dyn StdError + Send + Sync> {
    let mut text = explain(status);
    if let Some(wait) = wait(status).filter(|wait| *wait > Duration::from_secs(1)) {
        let _ = write!(text, "\n  It is worth trying again in {} s.", wait.as_secs());
    }
    let advice = match reason(status) {
        Some(reason) => advice(reason),
        None if status.get_details_error_info().is_some() => "",
        None if cause(status).contains("CertificateRequired") => {
            "The service wants a certificate of yours: --certificate-file and --client-key-file."
        }
        None if cause(status).contains("ertificate") => {
            "Name with --ca-file whose certificates are to be believed, and with --server the host that the \
             certificate is for."
        }
        None => {
            "Is it running, and is that its address? Name it with --server or THREADS_IDENTITY_SERVER; it \
             begins with https:// where the service has TLS, which may want a certificate of yours \
             (--certificate-file)."
        }
    };
    if !advice.is_empty() {
        let _ = write!(text, "\n  {advice}");
    }
    text.into()
}

/// What lies behind an error that the service did not send.
fn cause(status: &Status) -> String {
    let mut cause: &dyn StdError = status;
    while let Some(behind) = cause.source() {
        cause = behind;
    }
    let is_status = cause.downcast_ref::<Status>().is_some();
    plain(&if is_status { status.message().to_owned() } else { cause.to_string() }).into_owned()
}

fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::FieldInvalid => "Correct what is named; --help says what it may be.",
        Reason::RequestMalformed | Reason::RequestTooLarge | Reason::MethodUnknown => {
            "This program and the service are of different versions: use the one that came with the service."
        }
        Reason::CallerUnknown => {
            "Put the key of a caller into THREADS_IDENTITY_CALLER_KEY, or into a file for --key-file. \
             `threads-identity callers add NAME` makes a key, and the lines for the service's configuration."
        }
        Reason::CallerNotAllowed => {
            "Add the role to the `roles` of this caller in the service's configuration, or use the key of a \
             caller that has it."
        }
        Reason::CallerRateLimited | Reason::Overloaded | Reason::ShuttingDown => {
            "Run the command again in a moment."
        }
        Reason::DeadlineExceeded => {
            "Run the command again: what had begun is finished all the same, and nothing is done twice."
        }
        Reason::Internal | Reason::ProviderIdentityConflict => {
            "Look for the request id in the log of the service."
        }
        Reason::ProviderConfiguration => {
            "Look for the request id in the log of the service; `threads-identity doctor` asks Threads whether \
             it knows the app."
        }
        Reason::StorageUnavailable => {
            "Run the command again in a moment; `threads-identity doctor`, where the service runs, says more."
        }
        Reason::KeyUnavailable => {
            "Give every replica every key (`threads-identity keys list`), and run the command again."
        }
        Reason::SealedDataInvalid => {
            "Somebody has changed the database. `threads-identity link USER --account ACCOUNT_ID` stores a new \
             token in its place."
        }
        Reason::AccountNotFound => "`threads-identity accounts USER --all` shows what the user has.",
        Reason::ProfileNotFound | Reason::AccountUnlinked => "`threads-identity link USER` links it again.",
        Reason::ReauthorizationRequired => {
            "`threads-identity link USER --account ACCOUNT_ID` asks the person for consent again."
        }
        Reason::PermissionMissing => {
            "A tester must first accept the invitation, in Threads under Settings, Account, Website \
             permissions, Invites. Otherwise the app lacks its review in Meta's dashboard. Then link again."
        }
        Reason::ProviderRateLimited => "Run the command again then, and not before.",
        Reason::ProviderUnavailable => "Run the command again in a moment. Threads itself does not answer.",
        Reason::CursorExpired => {
            "Leave --cursor out, and list the accounts anew: what happened between is not told any more."
        }
        Reason::WatchLagged => "Watch again, and let nothing hold up what reads.",
        reason => of_a_link(reason),
    }
}

/// The same of what only a link ends with.
fn of_a_link(reason: Reason) -> &'static str {
    match reason {
        Reason::StateInvalid => {
            "Paste the address whole, as the browser shows it. If it was whole, run the command again."
        }
        Reason::SessionMismatch => {
            "What is pasted must come from the URL that this very command has printed. Run it again."
        }
        Reason::AuthorizationExpired
        | Reason::AuthorizationClosed
        | Reason::AuthorizationNotFound
        | Reason::CodeRejected
        | Reason::AuthorizationInterrupted => {
            "Run the command again: each URL is good for fifteen minutes and for one consent."
        }
        Reason::AuthorizationDenied => "Run the command again if the person wants to after all.",
        Reason::AuthorizationInProgress => {
            "It goes on without this command: `threads-identity accounts USER` shows what comes of it."
        }
        Reason::AccountLinkedToAnotherUser => {
            "Unlink it from that user first, or take it over with --transfer (the caller needs the role \
             `transfer`)."
        }
        Reason::AccountMismatch => {
            "Log out of Threads in that browser, log in as the account that was asked for, and run the command \
             again."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_advice_for_every_reason() {
        let reasons = (1..100).filter_map(|number| Reason::try_from(number).ok());
        let silent: Vec<Reason> = reasons.clone().filter(|reason| advice(*reason).is_empty()).collect();
        assert!(reasons.count() > 30 && silent.is_empty(), "{silent:?}");
    }
}
