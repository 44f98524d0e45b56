//! Where accounts and authorizations stand, in the words that the proto, the
//! SQL and the metrics use too.

/// A closed set of words, each written as the database and the API write it.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(
    /// Where an account stands.
    AccountState {
        /// Linked, with a token believed to work.
        Active = "ACTIVE",
        /// Linked, but only the person's consent can bring a token.
        ReauthorizationRequired = "REAUTHORIZATION_REQUIRED",
        /// No longer linked; token and profile are destroyed.
        Unlinked = "UNLINKED",
    }
);

words!(
    /// Why an account is not ACTIVE, or what Threads said of a token.
    StateReason {
        /// The token outlived its sixty days.
        TokenExpired = "TOKEN_EXPIRED",
        /// The person removed the app.
        AccessRevoked = "ACCESS_REVOKED",
        /// Threads ended the session behind the token.
        SessionInvalidated = "SESSION_INVALIDATED",
        /// The person must do something at Threads first.
        UserActionRequired = "USER_ACTION_REQUIRED",
        /// The permissions lapsed.
        PermissionLost = "PERMISSION_LOST",
        /// Threads answered for another person.
        IdentityMismatch = "IDENTITY_MISMATCH",
        /// The Threads account does not exist any more.
        AccountGone = "ACCOUNT_GONE",
        /// A caller asked to unlink it.
        UnlinkedByCaller = "UNLINKED_BY_CALLER",
        /// Threads told us that the person removed the app.
        Deauthorized = "DEAUTHORIZED",
    }
);

words!(
    /// Where an authorization stands.
    AuthorizationState {
        /// Being completed, or interrupted in a way that can go on.
        InProgress = "IN_PROGRESS",
        /// The account is linked.
        Succeeded = "SUCCEEDED",
        /// The person said no.
        Denied = "DENIED",
        /// It ended otherwise.
        Failed = "FAILED",
    }
);

words!(
    /// How far a completion has come.
    Step {
        /// The code may have been sent.
        Exchanging = "EXCHANGING",
        /// The code has certainly not been sent: it may still be.
        Unsent = "UNSENT",
        /// The short-lived token is stored.
        Exchanged = "EXCHANGED",
    }
);

words!(
    /// What linking did to the account's row.
    LinkOutcome {
        /// The account is new to this user.
        Linked = "LINKED",
        /// The user had unlinked it.
        Relinked = "RELINKED",
        /// It was linked to this user already.
        Reauthorized = "REAUTHORIZED",
        /// It was another user's.
        Transferred = "TRANSFERRED",
    }
);

words!(
    /// What happened to an account.
    ChangeKind {
        /// Linked to a user for whom it is new.
        Linked = "LINKED",
        /// Linked again by the user who had unlinked it.
        Relinked = "RELINKED",
        /// Consented to anew.
        Reauthorized = "REAUTHORIZED",
        /// Taken over from another user.
        Transferred = "TRANSFERRED",
        /// Its profile reads otherwise.
        ProfileChanged = "PROFILE_CHANGED",
        /// Its token was refreshed.
        TokenRefreshed = "TOKEN_REFRESHED",
        /// Its token could not be refreshed, again and again.
        RefreshFailing = "REFRESH_FAILING",
        /// Its token was refreshed after all.
        Recovered = "RECOVERED",
        /// Only the person's consent can bring a token.
        ReauthorizationRequired = "REAUTHORIZATION_REQUIRED",
        /// Unlinked by a caller.
        Unlinked = "UNLINKED",
        /// Unlinked because Threads told us that the person removed the app.
        Deauthorized = "DEAUTHORIZED",
        /// Gone.
        Erased = "ERASED",
    }
);
