//! What flows answer, as messages.

use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::authorizations::{Completed, Outcome};
use crate::error::Reason;
use crate::events::Shown;
use crate::profile::{self, Profile};
use crate::proto::v1;
use crate::states::{AccountState, AuthorizationState, ChangeKind, LinkOutcome, StateReason};
use crate::store::accounts::Account;
use crate::store::authorizations::{Authorization, Progress};

pub(super) fn timestamp(time: OffsetDateTime) -> Timestamp {
    // Always 0 to 999,999,999.
    Timestamp { seconds: time.unix_timestamp(), nanos: i32::try_from(time.nanosecond()).unwrap_or(0) }
}

pub(super) fn state(state: AccountState) -> v1::account::State {
    match state {
        AccountState::Active => v1::account::State::Active,
        AccountState::ReauthorizationRequired => v1::account::State::ReauthorizationRequired,
        AccountState::Unlinked => v1::account::State::Unlinked,
    }
}

fn state_reason(reason: StateReason) -> v1::account::StateReason {
    use v1::account::StateReason as Out;
    match reason {
        StateReason::TokenExpired => Out::TokenExpired,
        StateReason::AccessRevoked => Out::AccessRevoked,
        StateReason::SessionInvalidated => Out::SessionInvalidated,
        StateReason::UserActionRequired => Out::UserActionRequired,
        StateReason::PermissionLost => Out::PermissionLost,
        StateReason::IdentityMismatch => Out::IdentityMismatch,
        StateReason::AccountGone => Out::AccountGone,
        StateReason::UnlinkedByCaller => Out::UnlinkedByCaller,
        StateReason::Deauthorized => Out::Deauthorized,
    }
}

/// The account, without its profile.
pub(super) fn account(account: Account) -> v1::Account {
    v1::Account {
        account_id: account.id.to_string(),
        user_id: account.user_id,
        threads_user_id: account.threads_user_id.as_str().to_owned(),
        state: state(account.state).into(),
        state_reason: account.state_reason.map_or(0, |reason| state_reason(reason).into()),
        scopes: account.scopes,
        create_time: Some(timestamp(account.create_time)),
        update_time: Some(timestamp(account.update_time)),
        authorize_time: Some(timestamp(account.authorize_time)),
        token_expire_time: account.token_expire_time.map(timestamp),
        token_refresh_time: account.token_refresh_time.map(timestamp),
        last_token_fetch_time: account.last_token_fetch_time.map(timestamp),
    }
}

fn change_kind(kind: ChangeKind) -> v1::account_change::Kind {
    use v1::account_change::Kind as Out;
    match kind {
        ChangeKind::Linked => Out::Linked,
        ChangeKind::Relinked => Out::Relinked,
        ChangeKind::Reauthorized => Out::Reauthorized,
        ChangeKind::Transferred => Out::Transferred,
        ChangeKind::ProfileChanged => Out::ProfileChanged,
        ChangeKind::TokenRefreshed => Out::TokenRefreshed,
        ChangeKind::RefreshFailing => Out::RefreshFailing,
        ChangeKind::Recovered => Out::Recovered,
        ChangeKind::ReauthorizationRequired => Out::ReauthorizationRequired,
        ChangeKind::Unlinked => Out::Unlinked,
        ChangeKind::Deauthorized => Out::Deauthorized,
        ChangeKind::Erased => Out::Erased,
    }
}

/// A change of an account.
pub(super) fn account_change(change: Shown) -> v1::AccountChange {
    v1::AccountChange {
        kind: change.kind.map_or(0, |kind| change_kind(kind).into()),
        account_id: change.account_id.to_string(),
        user_id: change.user_id,
        previous_user_id: change.previous_user_id.unwrap_or_default(),
        change_time: Some(timestamp(change.time)),
        account: change.account.map(account),
    }
}

fn threads_profile(profile: Profile) -> v1::ThreadsProfile {
    v1::ThreadsProfile {
        id: profile.id.as_str().to_owned(),
        username: profile.username,
        name: profile.name,
        threads_profile_picture_url: profile.picture_url,
        threads_biography: profile.biography,
        is_verified: profile.is_verified,
    }
}

/// The account's profile; `None` when it has none.
pub(super) fn account_profile(account: Account) -> Option<v1::AccountProfile> {
    let fetched = account.profile?;
    let expire_time = fetched.profile.picture_url.as_deref().and_then(profile::picture_expire_time);
    Some(v1::AccountProfile {
        account_id: account.id.to_string(),
        user_id: account.user_id,
        account_state: state(account.state).into(),
        profile: Some(threads_profile(fetched.profile)),
        fetch_time: Some(timestamp(fetched.fetch_time)),
        picture_expire_time: expire_time.map(timestamp),
    })
}

fn link_outcome(outcome: LinkOutcome) -> v1::AuthorizationOutcome {
    match outcome {
        LinkOutcome::Linked => v1::AuthorizationOutcome::Linked,
        LinkOutcome::Relinked => v1::AuthorizationOutcome::Relinked,
        LinkOutcome::Reauthorized => v1::AuthorizationOutcome::Reauthorized,
        LinkOutcome::Transferred => v1::AuthorizationOutcome::Transferred,
    }
}

pub(super) fn completed(mut completed: Completed) -> v1::CompleteAuthorizationResponse {
    let (outcome, user_created) = match completed.outcome {
        Outcome::Link(outcome) => (link_outcome(outcome), false),
        Outcome::SignedIn { user_created } => (v1::AuthorizationOutcome::SignedIn, user_created),
    };
    let profile = completed.account.profile.take();
    v1::CompleteAuthorizationResponse {
        account: Some(account(completed.account)),
        profile: profile.map(|fetched| threads_profile(fetched.profile)),
        outcome: outcome.into(),
        user_created,
        authorization_id: completed.id.to_string(),
    }
}

pub(super) fn authorization(authorization: Authorization) -> v1::Authorization {
    use v1::authorization::State;
    let state = match authorization.state() {
        AuthorizationState::InProgress => State::InProgress,
        AuthorizationState::Succeeded => State::Succeeded,
        AuthorizationState::Denied => State::Denied,
        AuthorizationState::Failed => State::Failed,
    };
    let (outcome, failure_reason, end_time) = match authorization.progress {
        Progress::InProgress { .. } => (v1::AuthorizationOutcome::Unspecified, Reason::Unspecified, None),
        Progress::Succeeded { end_time, .. } if authorization.sign_in => {
            (v1::AuthorizationOutcome::SignedIn, Reason::Unspecified, Some(end_time))
        }
        Progress::Succeeded { outcome, end_time } => {
            (link_outcome(outcome), Reason::Unspecified, Some(end_time))
        }
        Progress::Ended { failure, end_time } => {
            (v1::AuthorizationOutcome::Unspecified, failure.reason, Some(end_time))
        }
    };
    v1::Authorization {
        authorization_id: authorization.id.to_string(),
        state: state.into(),
        user_id: authorization.user_id.unwrap_or_default(),
        account_id: authorization.account_id.map(|id| id.to_string()).unwrap_or_default(),
        outcome: outcome.into(),
        failure_reason: failure_reason.into(),
        create_time: Some(timestamp(authorization.create_time)),
        attempt_time: Some(timestamp(authorization.attempt_time)),
        end_time: end_time.map(timestamp),
    }
}
