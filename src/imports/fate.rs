//! What became of a row, and what is said of it.

use super::Invalid;
use crate::states::StateReason;

/// What a row was, for whoever is told of its fate.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Which row of a file it is, as a spreadsheet counts: that of the names is 1.
    pub number: Option<u64>,
    /// The user, as the source names it.
    pub user_id: String,
    /// The person at Threads.
    pub threads_user_id: String,
}

/// Why a row is refused. Nothing of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is malformed.
    Invalid(Invalid),
    /// The account is linked to another user here.
    OthersAccount,
    /// The account was unlinked here, after the consent.
    Unlinked,
    /// The account was erased here, after the consent.
    Erased,
    /// The token is another person's.
    Mismatch,
}

/// Why a row comes in without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// There is none.
    Missing,
    /// Threads refuses it.
    Dead,
    /// Threads answers about others, and not about it.
    Unproven,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in, ACTIVE.
    Active,
    /// It is in, and its person must consent again.
    ReauthorizationRequired(Lack, StateReason),
    /// It was in already.
    Unchanged,
    /// The other deployment had unlinked it: there is nothing to bring in.
    Passed,
    /// It is refused.
    Refused(Refusal),
}

impl Fate {
    /// What it is called in a report.
    #[must_use]
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::ReauthorizationRequired(..) => "REAUTHORIZATION_REQUIRED",
            Self::Unchanged | Self::Passed => "UNCHANGED",
            Self::Refused(_) => "REFUSED",
        }
    }

    /// Why, and what to do about it; nothing where all is well.
    #[must_use]
    pub fn reason(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Active | Self::Unchanged | Self::Passed => None,
            Self::ReauthorizationRequired(Lack::Missing, _) => {
                Some(("TOKEN_MISSING", "the source holds no token: the person must consent again"))
            }
            Self::ReauthorizationRequired(Lack::Unproven, _) => {
                Some(("TOKEN_UNPROVEN", "Threads said nothing about this token: run the import again"))
            }
            Self::ReauthorizationRequired(Lack::Dead, reason) => {
                Some((reason.as_str(), "Threads refuses the token: the person must consent again"))
            }
            Self::Refused(refusal) => Some(refusal.reason()),
        }
    }
}

impl Refusal {
    fn reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Invalid(invalid) => invalid.reason(),
            Self::OthersAccount => (
                "ACCOUNT_LINKED_TO_ANOTHER_USER",
                "decide whose it is: unlink it here and run the import again, or leave it",
            ),
            Self::Unlinked => {
                ("ACCOUNT_UNLINKED", "it was unlinked here after this consent: the person must link it anew")
            }
            Self::Erased => (
                "ACCOUNT_ERASED",
                "the person was erased here after this consent: remove the row at its source",
            ),
            Self::Mismatch => (
                "IDENTITY_MISMATCH",
                "the token is another person's: correct threads_user_id, or take the token out",
            ),
        }
    }
}

impl Invalid {
    fn reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Row => ("ROW_INVALID", "give it as many fields as the first line, in UTF-8"),
            Self::UserId => {
                ("USER_ID_INVALID", "user_id must have 1 to 128 bytes, and no control characters")
            }
            Self::ThreadsUserId => (
                "THREADS_USER_ID_INVALID",
                "threads_user_id must have 1 to 32 decimal digits, none of them lost",
            ),
            Self::Token => {
                ("ACCESS_TOKEN_INVALID", "access_token must have at most 4096 printable ASCII characters")
            }
            Self::Encrypted => (
                "ACCESS_TOKEN_ENCRYPTED",
                "better-auth has encrypted the token (account.encryptOAuthTokens): import a CSV file of the \
                 tokens as better-auth decrypts them",
            ),
            Self::ExpiresAt => {
                ("EXPIRES_AT_INVALID", "expires_at must be RFC 3339, or seconds or milliseconds since 1970")
            }
            Self::IssuedAt => (
                "ISSUED_AT_INVALID",
                "issued_at must be RFC 3339, or seconds since 1970, and not in the future",
            ),
            Self::AuthorizedAt => (
                "AUTHORIZED_AT_INVALID",
                "authorized_at must be RFC 3339, or seconds since 1970, and not in the future",
            ),
            Self::Scopes => {
                ("SCOPES_INVALID", "scopes must be at most 50 names of scopes, between commas or spaces")
            }
            Self::State => ("ACCOUNT_STATE_INVALID", "state must be one that `export` writes, or empty"),
            Self::StateReason => {
                ("STATE_REASON_INVALID", "state_reason must be one that `export` writes, or empty")
            }
        }
    }
}

/// How many rows became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// In, ACTIVE.
    pub active: u64,
    /// In, and to be consented to anew.
    pub reauthorization_required: u64,
    /// In already, or unlinked where they come from.
    pub unchanged: u64,
    /// Refused.
    pub refused: u64,
}

impl Tally {
    pub(super) fn count(&mut self, fate: Fate) {
        *match fate {
            Fate::Active => &mut self.active,
            Fate::ReauthorizationRequired(..) => &mut self.reauthorization_required,
            Fate::Unchanged | Fate::Passed => &mut self.unchanged,
            Fate::Refused(_) => &mut self.refused,
        } += 1;
    }
}
