//! What Meta signs when it tells of a person: `SIG.PAYLOAD`, both base64url, and
//! SIG the HMAC-SHA-256 of PAYLOAD as it stands, with the app's secret.
//!
//! Whose secret is said by whoever calls, never by the payload; and nothing of the
//! payload is read before the signature has been found right. See Meta's pages on
//! the data deletion callback and on `signed_request`:
//! <https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback>.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize as _;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::ids::ThreadsUserId;
use crate::secret::ClientSecret;

mod payload;

use payload::Payload;

/// The longest that is looked at, in bytes. What Meta sends has some 200.
pub const SIGNED_REQUEST_MAX: usize = 8 * 1024;
/// SHA-256's length.
const SIGNATURE_LEN: usize = 32;
/// The most `=` that old senders put behind base64url.
const PADDING_MAX: usize = 2;

/// Which of an app's secrets has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedWith {
    /// `client_secret`.
    Current,
    /// `client_secret_previous`.
    Previous,
}

impl SignedWith {
    /// As logs, metrics and the trail say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

/// What a signed request says. Its `Debug` names nobody, because the id's does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The person. Taken digit for digit: `7` and `07` are two.
    pub threads_user_id: ThreadsUserId,
    /// When Meta says that it happened.
    pub issue_time: Option<OffsetDateTime>,
    /// Which secret was right.
    pub signed_with: SignedWith,
}

/// Why something is no signed request. It is for logs and metrics; whoever sent it
/// is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has not the form `SIG.PAYLOAD`.
    #[error("it is not of the form of a signed request")]
    Form,
    /// None of the secrets made the signature.
    #[error("no secret of the app has signed it")]
    Signature,
    /// The payload, though signed, is not what Meta documents.
    #[error("its payload is signed, but not what Meta documents")]
    Payload,
    /// The payload names another way to sign.
    #[error("its payload names another algorithm than HMAC-SHA256")]
    Algorithm,
}

impl Refusal {
    /// As metrics say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Signature => "signature",
            Self::Payload => "payload",
            Self::Algorithm => "algorithm",
        }
    }
}

/// Verifies a signed request against an app's secrets, in their order, and reads
/// it.
///
/// # Errors
/// [`Refusal`].
pub fn verify(
    text: &str,
    current: &ClientSecret,
    previous: Option<&ClientSecret>,
) -> Result<SignedRequest, Refusal> {
    if text.len() > SIGNED_REQUEST_MAX || !text.is_ascii() {
        return Err(Refusal::Form);
    }
    let (signature, payload) = text.split_once('.').ok_or(Refusal::Form)?;
    // base64url has no dot, so a second one is nobody's.
    if payload.contains('.') {
        return Err(Refusal::Form);
    }
    let signature = decode(signature).filter(|bytes| bytes.len() == SIGNATURE_LEN).ok_or(Refusal::Form)?;
    let secrets = [(SignedWith::Current, Some(current)), (SignedWith::Previous, previous)];
    let signed_with = secrets
        .into_iter()
        .find_map(|(which, secret)| has_signed(secret?, payload, &signature).then_some(which))
        .ok_or(Refusal::Signature)?;
    let json = decode(payload).and_then(|json| String::from_utf8(json).ok()).ok_or(Refusal::Payload)?;
    let Payload { algorithm, user_id, issued_at } =
        serde_json::from_str(&json).map_err(|_| Refusal::Payload)?;
    if !text_of(&algorithm).is_some_and(|name| name.eq_ignore_ascii_case("HMAC-SHA256")) {
        return Err(Refusal::Algorithm);
    }
    Ok(SignedRequest {
        threads_user_id: digits_of(&user_id)
            .and_then(|id| ThreadsUserId::parse(&id))
            .ok_or(Refusal::Payload)?,
        issue_time: issued_at.as_deref().map(time_of).transpose()?,
        signed_with,
    })
}

/// Compares in constant time, over the text as it was received.
fn has_signed(secret: &ClientSecret, payload: &str, signature: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    hmac::verify(&key, payload.as_bytes(), signature).is_ok()
}

/// Strict: one text has one meaning, but for the padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    (text.len() - bare.len() <= PADDING_MAX).then(|| URL_SAFE_NO_PAD.decode(bare).ok()).flatten()
}

/// A JSON string.
fn text_of(value: &RawValue) -> Option<String> {
    String::deserialize(value).ok()
}

/// The digits of a JSON string, or of a number exactly as it is written: it may
/// exceed every type of a number.
fn digits_of(value: &RawValue) -> Option<String> {
    let digits = text_of(value).unwrap_or_else(|| value.get().to_owned());
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

fn time_of(value: &RawValue) -> Result<OffsetDateTime, Refusal> {
    let seconds = digits_of(value).and_then(|digits| digits.parse().ok()).ok_or(Refusal::Payload)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Refusal::Payload)
}

#[cfg(test)]
mod tests;
