//! What a person is told: by the reason of an error, never by its message.

use axum::http::StatusCode;
use tonic::Status;
use tonic_types::StatusExt as _;

/// A page about what did not work.
pub(super) struct Telling {
    pub(super) status: StatusCode,
    pub(super) heading: &'static str,
    pub(super) text: &'static str,
    /// What the tour adds for whoever builds such a backend.
    pub(super) aside: &'static str,
}

/// The reason of an error; empty if it has none.
pub(super) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Whether the same may work in a moment.
pub(super) fn is_passing(reason: &str) -> bool {
    matches!(
        reason,
        "PROVIDER_UNAVAILABLE"
            | "PROVIDER_RATE_LIMITED"
            | "STORAGE_UNAVAILABLE"
            | "OVERLOADED"
            | "CALLER_RATE_LIMITED"
            | "SHUTTING_DOWN"
            | "KEY_UNAVAILABLE"
            | "AUTHORIZATION_IN_PROGRESS"
    )
}

/// Why something is not as the person wished, and how they are told.
const TELLINGS: &[(&[&str], Telling)] = &[
    (
        &["AUTHORIZATION_DENIED"],
        Telling {
            status: StatusCode::OK,
            heading: "You said no",
            text: "You did not allow it at Threads, so nothing was linked. You can change your mind at any time.",
            aside: "A denial comes back with a ticket like a consent does. CompleteAuthorization answers \
                    AUTHORIZATION_DENIED, and the authorization is over.",
        },
    ),
    (
        &["PERMISSION_MISSING"],
        Telling {
            status: StatusCode::CONFLICT,
            heading: "Threads gives no permission",
            text: "You allowed it, but Threads gives this app no permission for your account. If you are to test the \
                   app, accept the invitation first: in Threads under Settings, Account, Website permissions, Invites. \
                   Then start again.",
            aside: "The code was exchanged, and everything after that is refused (400, code 100, subcode 10): \
                    PERMISSION_MISSING. That token never becomes usable; a new consent does.",
        },
    ),
    (
        &["SESSION_MISMATCH"],
        Telling {
            status: StatusCode::FORBIDDEN,
            heading: "Somebody else began this",
            text: "This link to Threads was begun in another session, so it was not finished here. If you began it \
                   yourself, start again.",
            aside: "The user and the session at the browser are not those who began: SESSION_MISMATCH. The code was \
                    never spent, and the authorization is closed. This is what keeps an attacker's link from being \
                    finished by a victim.",
        },
    ),
    (
        &["ACCOUNT_LINKED_TO_ANOTHER_USER"],
        Telling {
            status: StatusCode::CONFLICT,
            heading: "That account is taken",
            text: "That Threads account is linked to somebody else here.",
            aside: "ACCOUNT_LINKED_TO_ANOTHER_USER does not say to whom. With ON_CONFLICT_TRANSFER, and the role for \
                    it, the account would have moved.",
        },
    ),
    (
        &["ACCOUNT_MISMATCH"],
        Telling {
            status: StatusCode::CONFLICT,
            heading: "That was another account",
            text: "You allowed access to another Threads account than the one that needs it. Switch accounts at \
                   Threads, and start again.",
            aside: "The authorization was created with `account_id`, so any other account is ACCOUNT_MISMATCH.",
        },
    ),
    (
        &["AUTHORIZATION_EXPIRED", "AUTHORIZATION_CLOSED", "CODE_REJECTED", "AUTHORIZATION_INTERRUPTED"],
        Telling {
            status: StatusCode::GONE,
            heading: "That attempt is over",
            text: "This link to Threads was used or given up already, or took too long. Start again.",
            aside: "A state and a code are good once. Whoever repeats the same completion is told how it ended; \
                    anything else is refused, and Threads is not asked.",
        },
    ),
    (
        &["STATE_INVALID"],
        Telling {
            status: StatusCode::BAD_REQUEST,
            heading: "We do not know this link",
            text: "What came with it cannot be used: it was cut short or changed on its way. Start again.",
            aside: "The ticket was not sealed by this service for this app: STATE_INVALID.",
        },
    ),
    (
        &["FIELD_INVALID"],
        Telling {
            status: StatusCode::BAD_REQUEST,
            heading: "That request makes no sense",
            text: "Something in the address or in the form is not what it should be.",
            aside: "FIELD_INVALID. Its BadRequest names every field; those are for whoever wrote the caller.",
        },
    ),
    (
        &["REAUTHORIZATION_REQUIRED"],
        Telling {
            status: StatusCode::CONFLICT,
            heading: "Threads asks for your consent again",
            text: "Threads no longer takes what you once allowed. Allow it again, and all is as before.",
            aside: "Only the person can mend this: create an authorization URL with `account_id` and the account's `scopes`.",
        },
    ),
    (
        &["ACCOUNT_NOT_FOUND", "PROFILE_NOT_FOUND", "ACCOUNT_UNLINKED"],
        Telling {
            status: StatusCode::NOT_FOUND,
            heading: "No such account",
            text: "There is no account of this name that is yours. It may have been unlinked or erased.",
            aside: "An account of another user looks the same as one that does not exist: ACCOUNT_NOT_FOUND.",
        },
    ),
];

/// What may work in a moment.
const PASSING: Telling = Telling {
    status: StatusCode::SERVICE_UNAVAILABLE,
    heading: "Not just now",
    text: "Something did not answer. Wait a moment, and load this page again: what you did is not lost.",
    aside: "The error carries RetryInfo. Repeating the same completion goes on from where the last one stopped.",
};

/// What nobody foresaw.
const UNFORESEEN: Telling = Telling {
    status: StatusCode::BAD_GATEWAY,
    heading: "That did not work",
    text: "Something went wrong that should not have. Start again; if it happens once more, look at the log.",
    aside: "A reason that this backend has no words for.",
};

/// What is said of a reason.
pub(super) fn telling(reason: &str) -> &'static Telling {
    if is_passing(reason) {
        return &PASSING;
    }
    let known = TELLINGS.iter().find(|(reasons, _)| reasons.contains(&reason));
    known.map_or(&UNFORESEEN, |(_, telling)| telling)
}
