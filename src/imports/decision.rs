//! What can be said of a row by how its account stands here.

use super::{Entry, Fate, Lack, Refusal};
use crate::states::{AccountState, StateReason};
use crate::store::imports::Standing;

/// What is to be done about a row.
pub(super) enum Decision {
    /// Nothing.
    Done(Fate),
    /// Threads is to be asked; see [`super::Case`].
    Ask { replaces: Option<i64>, is_waiting: bool },
}

/// What can be said of a row without asking Threads. The statement that writes it
/// decides the same once more, for by then it may stand otherwise.
pub(super) fn decide(entry: &Entry, standing: Option<&Standing>) -> Decision {
    let refused = |refusal| Decision::Done(Fate::Refused(refusal));
    let new = Decision::Ask { replaces: None, is_waiting: false };
    let Some(standing) = standing else { return new };
    if standing.erase_time.is_some_and(|erased| erased > entry.begin_time) {
        return refused(Refusal::Erased);
    }
    let Some(account) = &standing.account else { return new };
    match account.state {
        AccountState::Unlinked if account.update_time > entry.begin_time => refused(Refusal::Unlinked),
        AccountState::Unlinked => new,
        _ if account.user_id != entry.told.user_id => refused(Refusal::OthersAccount),
        AccountState::Active => {
            // Only what says when it was issued can be newer.
            let is_newer = entry.token.is_some()
                && entry.issue_time.is_some_and(|issued| {
                    account.token_refresh_time.is_none_or(|refreshed| issued > refreshed)
                });
            if is_newer {
                Decision::Ask { replaces: Some(account.attempt), is_waiting: false }
            } else {
                Decision::Done(Fate::Unchanged)
            }
        }
        AccountState::ReauthorizationRequired if entry.token.is_none() => {
            let reason = entry.state_reason.unwrap_or(StateReason::TokenExpired);
            Decision::Done(Fate::ReauthorizationRequired(Lack::Missing, reason))
        }
        AccountState::ReauthorizationRequired => Decision::Ask { replaces: None, is_waiting: true },
    }
}
