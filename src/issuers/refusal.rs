//! Why a token is refused. The names are labels of a metric and words of the log;
//! whoever brought the token is never told.

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than any honest token.
    TokenTooLarge,
    /// It is not three parts of base64url (RFC 7515, section 7.1) that hold JSON with
    /// members of the right types.
    TokenMalformed,
    /// Its header brings a key, says where one is, or makes something critical that
    /// is not known here.
    TokenHeader,
    /// `typ` says that it is something else: an identity token, a logout token.
    TokenType,
    /// `alg` is none, symmetric, unknown, not one of the issuer's, or not the key's.
    TokenAlgorithm,
    /// `iss` is not configured.
    TokenIssuer,
    /// `kid` names no key of the issuer, or there is none to go by.
    TokenKeyUnknown,
    /// The issuer's keys have never been read, or not for too long.
    TokenKeysUnavailable,
    /// The signature is not that of the key.
    TokenSignature,
    /// A claim that must be there is not.
    TokenClaimMissing,
    /// `aud` does not name us.
    TokenAudience,
    /// `exp` is past.
    TokenExpired,
    /// `nbf` or `iat` is still to come.
    TokenNotYetValid,
    /// `exp` is further off than the issuer may go.
    TokenLifetime,
}

impl Refusal {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenTooLarge => "token_too_large",
            Self::TokenMalformed => "token_malformed",
            Self::TokenHeader => "token_header",
            Self::TokenType => "token_type",
            Self::TokenAlgorithm => "token_algorithm",
            Self::TokenIssuer => "token_issuer",
            Self::TokenKeyUnknown => "token_key_unknown",
            Self::TokenKeysUnavailable => "token_keys_unavailable",
            Self::TokenSignature => "token_signature",
            Self::TokenClaimMissing => "token_claim_missing",
            Self::TokenAudience => "token_audience",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenLifetime => "token_lifetime",
        }
    }
}

/// A token that was refused, and whom its signature proves to have brought it.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// Issuer and subject, once the signature was right.
    pub bearer: Option<(String, String)>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, bearer: None }
    }
}
