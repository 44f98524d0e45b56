//! Why somebody is not let in. The names are labels of a metric and words of the
//! log. The caller is told `CALLER_UNKNOWN` whatever it is: which credential is half
//! right is of use to nobody but an attacker.

use crate::issuers;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is neither an `authorization` header nor a client certificate.
    NoCredential,
    /// There is more than one `authorization` header.
    HeaderRepeated,
    /// The header is not `Bearer CREDENTIAL`.
    HeaderMalformed,
    /// What it brings is neither a key nor a token.
    CredentialUnknown,
    /// A key that does not agree with its own checksum: cut off, or mistyped.
    KeyMistyped,
    /// A key that nobody has: of another deployment, or taken out.
    KeyUnknown,
    /// A verified certificate whose names are nobody's.
    CertificateUnknown,
    /// A verified certificate with names of more than one caller.
    CertificateAmbiguous,
    /// A token that is right, of a subject that is nobody's.
    TokenSubject,
    /// A token that is not right.
    Token(issuers::Refusal),
}

impl Refusal {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::HeaderRepeated => "header_repeated",
            Self::HeaderMalformed => "header_malformed",
            Self::CredentialUnknown => "credential_unknown",
            Self::KeyMistyped => "key_mistyped",
            Self::KeyUnknown => "key_unknown",
            Self::CertificateUnknown => "certificate_unknown",
            Self::CertificateAmbiguous => "certificate_ambiguous",
            Self::TokenSubject => "token_subject",
            Self::Token(refusal) => refusal.name(),
        }
    }
}

/// Somebody who was not let in, and whom they have proven to be all the same: the
/// caller of a token that is too old, for example.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// The caller's name.
    pub caller: Option<String>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, caller: None }
    }
}
