//! The calls that are made.

/// What is asked of Threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A code for a short-lived token.
    CodeExchange,
    /// A short-lived token for a long-lived one.
    LongLivedExchange,
    /// A long-lived token for a younger one.
    Refresh,
    /// The profile behind a token.
    Me,
    /// An app's own token, for its id and secret.
    AppToken,
}

impl Endpoint {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CodeExchange => "code_exchange",
            Self::LongLivedExchange => "long_lived_exchange",
            Self::Refresh => "refresh",
            Self::Me => "me",
            Self::AppToken => "app_token",
        }
    }
}
