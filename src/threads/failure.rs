//! What a failed call to Threads means. [`of_code`] is the one table; it can be
//! laid beside Meta's pages on error handling and rate limits:
//! developers.facebook.com/docs/graph-api/guides/error-handling and
//! developers.facebook.com/docs/graph-api/overview/rate-limiting
//!
//! Codes decide, not the HTTP status (nearly everything is 400) and not the
//! wording, which is looked at only where codes do not tell apart whose fault it
//! is. No text of an answer is kept: it may quote a secret.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::Endpoint;
use crate::error::{Error, Reason};
use crate::states::StateReason;

/// Blocked for a while because of what the person or the app did: a limit that
/// lasts for hours.
const POLICY: i64 = 368;
const POLICY_WAIT: Duration = Duration::from_hours(6);

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Threads is down or unreachable: try again.
    Retry,
    /// Threads asks to slow down.
    RateLimited(Limited),
    /// The token does not work any more.
    Dead(StateReason),
    /// The permission behind the token is missing.
    Permission,
    /// Our own configuration, or a request that Threads does not take.
    Configuration,
    /// The person's account cannot be read and will not be.
    Gone,
    /// The authorization code is unknown, used or expired.
    CodeRejected,
    /// An answer that cannot be understood.
    Surprise,
}

/// What a rate limit stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Every call of the app.
    App,
    /// Calls for one person.
    Account,
}

impl Class {
    /// The name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RateLimited(_) => "rate_limited",
            Self::Dead(_) => "token_dead",
            Self::Permission => "permission",
            Self::Configuration => "configuration",
            Self::Gone => "gone",
            Self::CodeRejected => "code_rejected",
            Self::Surprise => "surprise",
        }
    }
}

/// A failed call to Threads. Holds no URL, no token and no text of the answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// What was asked.
    pub endpoint: Endpoint,
    /// Whether a byte of the request may have reached Threads.
    pub sent: bool,
    /// Whether Threads gave an answer that could be read.
    pub answered: bool,
    /// How long Threads asks to wait.
    pub retry_after: Option<Duration>,
    status: Option<u16>,
    pub(super) code: Option<i64>,
    subcode: Option<i64>,
    trace: Option<String>,
    detail: &'static str,
}

impl Failure {
    /// A call that got no answer.
    pub(super) fn unanswered(endpoint: Endpoint, sent: bool, detail: &'static str) -> Self {
        Self::bare(Class::Retry, endpoint, sent, detail)
    }

    /// A call that is not made, because Threads asked the app to be quiet.
    pub(super) fn paused(endpoint: Endpoint, wait: Duration) -> Self {
        let class = Class::RateLimited(Limited::App);
        Self { retry_after: Some(wait), ..Self::bare(class, endpoint, false, "the app is to be quiet") }
    }

    /// An answer that cannot be understood.
    pub(super) fn surprise(endpoint: Endpoint, status: u16, detail: &'static str) -> Self {
        Self { status: Some(status), ..Self::bare(Class::Surprise, endpoint, true, detail) }
    }

    fn bare(class: Class, endpoint: Endpoint, sent: bool, detail: &'static str) -> Self {
        Self {
            class,
            endpoint,
            sent,
            answered: false,
            retry_after: None,
            status: None,
            code: None,
            subcode: None,
            trace: None,
            detail,
        }
    }

    /// What it makes of an account if Threads says it twice. Nothing but a dead
    /// token, a lost permission or an account that is gone does: an outage, a limit
    /// or our own mistake never costs anybody a link.
    #[must_use]
    pub fn strike(&self) -> Option<StateReason> {
        match self.class {
            Class::Dead(reason) => Some(reason),
            Class::Permission => Some(StateReason::PermissionLost),
            Class::Gone => Some(StateReason::AccountGone),
            Class::Retry
            | Class::RateLimited(_)
            | Class::Configuration
            | Class::CodeRejected
            | Class::Surprise => None,
        }
    }

    /// Whether the same call may do better in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.class, Class::Retry | Class::Surprise)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "threads {}: {} ({})", self.endpoint.name(), self.class.name(), self.detail)?;
        for (name, value) in
            [("status", self.status.map(i64::from)), ("code", self.code), ("subcode", self.subcode)]
        {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        self.trace.iter().try_for_each(|trace| write!(f, " fbtrace_id={trace}"))
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    /// What a failure means to a caller where nothing more is known of it.
    fn from(failure: Failure) -> Self {
        let error = match failure.class {
            Class::Retry | Class::Surprise => Self::new(Reason::ProviderUnavailable),
            Class::RateLimited(_) => Self::new(Reason::ProviderRateLimited),
            Class::Dead(why) => Self::new(Reason::ReauthorizationRequired).with("state_reason", why.as_str()),
            Class::Gone => Self::new(Reason::ReauthorizationRequired)
                .with("state_reason", StateReason::AccountGone.as_str()),
            Class::Permission => {
                Self::new(Reason::PermissionMissing).with("scopes", crate::config::BASIC_SCOPE)
            }
            Class::Configuration => Self::new(Reason::ProviderConfiguration),
            Class::CodeRejected => Self::new(Reason::CodeRejected),
        };
        let error = match failure.retry_after {
            Some(wait) if error.retry_after().is_some() => error.after(wait),
            _ => error,
        };
        error.because(failure)
    }
}

/// Classifies an answer that is an error: by its status, or by what it says.
pub(super) fn of_answer(endpoint: Endpoint, status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let envelope = Envelope::parse(body);
    let (class, detail) = match &envelope {
        Some(envelope) => (of_envelope(endpoint, status, envelope), "error answer"),
        None => (of_status(status, body), "unreadable error answer"),
    };
    let retry_after = matches!(class, Class::RateLimited(_)).then(|| wait_hint(headers)).flatten();
    let is_policy = envelope.as_ref().is_some_and(|envelope| !envelope.flat && envelope.code == Some(POLICY));
    let retry_after = retry_after.or(is_policy.then_some(POLICY_WAIT));
    let mut failure = Failure {
        status: Some(status),
        answered: envelope.is_some(),
        retry_after,
        ..Failure::bare(class, endpoint, true, detail)
    };
    if let Some(envelope) = envelope {
        failure.code = envelope.code;
        failure.subcode = envelope.subcode;
        failure.trace = envelope.trace;
    }
    failure
}

/// Whether a body that came with success holds an error all the same.
pub(super) fn is_error(body: &[u8]) -> bool {
    Envelope::parse(body).is_some()
}

fn of_envelope(endpoint: Endpoint, status: u16, envelope: &Envelope) -> Class {
    let class = envelope.code.and_then(|code| of_code(endpoint, status, code, envelope));
    match class {
        Some(class) => class,
        None if envelope.flat && endpoint == Endpoint::CodeExchange && status < 500 => envelope.whose_fault(),
        None if envelope.code.is_none() => of_status(status, b"{"),
        None if status >= 500 => Class::Retry,
        None => Class::Configuration,
    }
}

/// The table. Order: rate limits, passing trouble, the token, the permission,
/// the object, the code exchange, the rest. `None`: the code is not listed.
fn of_code(endpoint: Endpoint, status: u16, code: i64, envelope: &Envelope) -> Option<Class> {
    use StateReason::{AccessRevoked, SessionInvalidated, TokenExpired, UserActionRequired};
    if envelope.flat {
        // A flat envelope's code mirrors the HTTP status; it is no Graph code.
        return (status == 429).then_some(Class::RateLimited(Limited::App));
    }
    Some(match (code, envelope.subcode) {
        // application request limit; application limit
        (4 | 341, _) => Class::RateLimited(Limited::App),
        // user, page, policy, custom and business use case limits
        (17 | 32 | 368 | 613 | 80_000..=80_014, _) => Class::RateLimited(Limited::Account),
        _ if status == 429 => Class::RateLimited(Limited::App),
        _ if envelope.transient || status >= 500 => Class::Retry,
        (1, _) if envelope.mentions(&["client secret", "client_secret"]) => Class::Configuration,
        // unknown, possibly down; service down
        (1 | 2, _) => Class::Retry,
        (190 | 102, Some(458)) => Class::Dead(AccessRevoked),
        // checkpointed; unconfirmed
        (190 | 102, Some(459 | 464)) => Class::Dead(UserActionRequired),
        (190 | 102, Some(463)) => Class::Dead(TokenExpired),
        // 460 password changed, 467 invalid, 492 invalid session, 493, none
        // 2500 an active token is required, although one was sent
        (190 | 102 | 2500, _) => Class::Dead(SessionInvalidated),
        // no effective threads_basic; capability; permission family
        (100, Some(10)) | (3 | 10 | 200..=299, _) => Class::Permission,
        // missing or unreadable object; requested resource does not exist
        (100, Some(33)) | (24, _) => Class::Gone,
        // redirect URI differs from the one in the authorization URL
        (100, Some(36_008)) => Class::Configuration,
        // code expired; code used
        (100, Some(36_007 | 36_009)) => Class::CodeRejected,
        (100, _) if endpoint == Endpoint::CodeExchange => envelope.whose_fault(),
        // invalid parameter; app id; redirect URI
        (100 | 101 | 191, _) => Class::Configuration,
        _ => return None,
    })
}

/// What a status means when the body says nothing.
fn of_status(status: u16, body: &[u8]) -> Class {
    let is_json = body.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'['));
    match status {
        429 => Class::RateLimited(Limited::App),
        500.. => Class::Retry,
        // A page or nothing where JSON belongs: something stands in between, and its
        // 401 or 403 is not about the token.
        _ if !is_json => Class::Retry,
        401 => Class::Dead(StateReason::SessionInvalidated),
        403 => Class::Permission,
        400.. => Class::Configuration,
        _ => Class::Surprise,
    }
}

/// How long Threads asks to wait, from whichever header says so. None of them
/// is documented for Threads; all three are tolerated absent and malformed.
fn wait_hint(headers: &HeaderMap) -> Option<Duration> {
    const WAIT_MAX: Duration = Duration::from_hours(24);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = text("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let usage = text("x-business-use-case-usage").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let minutes = usage.iter().flat_map(|usage| usage.as_object().into_iter().flat_map(|map| map.values()));
    let minutes = minutes.flat_map(|list| list.as_array().into_iter().flatten());
    let minutes = minutes.filter_map(|entry| entry.get("estimated_time_to_regain_access")?.as_u64()).max();
    let regain = minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    retry_after.max(regain).filter(|wait| !wait.is_zero()).map(|wait| wait.min(WAIT_MAX))
}

/// The error envelopes that Threads is known to send, read into one form.
struct Envelope {
    /// The flat one of the code exchange.
    flat: bool,
    code: Option<i64>,
    subcode: Option<i64>,
    transient: bool,
    trace: Option<String>,
    /// Lower-cased; looked at here and dropped.
    message: String,
}

impl Envelope {
    fn parse(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let root = value.as_object()?;
        match root.get("error") {
            Some(Value::Object(error)) => Some(Self {
                flat: false,
                code: integer(error.get("code")),
                subcode: integer(error.get("error_subcode")),
                transient: error.get("is_transient").and_then(Value::as_bool).unwrap_or(false),
                trace: error.get("fbtrace_id").and_then(Value::as_str).and_then(trace_id),
                message: message(error.get("message")),
            }),
            // RFC 6749; never reported for Threads.
            Some(Value::String(_)) => Some(Self::plain(true, None, message(root.get("error_description")))),
            _ if root.contains_key("error_type") || root.contains_key("error_message") => {
                let code = integer(root.get("code").or(root.get("error_code")));
                Some(Self::plain(true, code, message(root.get("error_message"))))
            }
            _ => None,
        }
    }

    fn plain(flat: bool, code: Option<i64>, message: String) -> Self {
        Self { flat, code, subcode: None, transient: false, trace: None, message }
    }

    fn mentions(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.message.contains(word))
    }

    /// At the code exchange, codes do not tell a bad code from a bad set-up; in
    /// the flat envelope they do not tell a limit either.
    fn whose_fault(&self) -> Class {
        // Before the set-up: Graph calls one of them the application's limit.
        if self.flat && self.mentions(&["request limit", "rate limit", "too many"]) {
            Class::RateLimited(Limited::App)
        } else if self.mentions(&["redirect", "secret", "application", "client_id", "app id", "app_id"]) {
            Class::Configuration
        } else {
            Class::CodeRejected
        }
    }
}

fn integer(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn message(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_lowercase()
}

/// What Meta's support asks for. Kept only where it looks like one.
fn trace_id(text: &str) -> Option<String> {
    let fits = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'='));
    fits.then(|| text.to_owned())
}

#[cfg(test)]
#[path = "failure/tests.rs"]
mod tests;
