//! A row whose every field has been looked at.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Fate, Refusal, Told};
use crate::config::{is_scope, with_basic_scope};
use crate::ids::{AccountId, IdKey, ThreadsUserId, USER_ID_MAX};
use crate::secret::AccessToken;
use crate::service::App;
use crate::states::{AccountState, StateReason};
use crate::store::foreign::Row;

/// The longest token that is taken, as of Threads itself.
const TOKEN_MAX: usize = 4096;
/// The digits of a nonce and a tag, which every encrypted value has.
const ENCRYPTED_MIN: usize = 80;
/// The most scopes of a row.
const SCOPES_MAX: usize = 50;
/// How far another machine's clock may be ahead.
const AHEAD_MAX: Duration = Duration::from_mins(5);
/// What is above that is in milliseconds: as seconds it would be the year 5138.
const SECONDS_MAX: f64 = 100_000_000_000.0;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// It cannot be taken apart.
    Row,
    /// `user_id`.
    UserId,
    /// `threads_user_id`.
    ThreadsUserId,
    /// `access_token`: no token of Threads.
    Token,
    /// `access_token`: encrypted, by better-auth.
    Encrypted,
    /// `expires_at`.
    ExpiresAt,
    /// `issued_at`.
    IssuedAt,
    /// `authorized_at`, or when the row was made.
    AuthorizedAt,
    /// `scopes`.
    Scopes,
    /// `state`.
    State,
    /// `state_reason`.
    StateReason,
}

/// A row that makes sense.
#[derive(Clone)]
pub struct Entry {
    /// What it is called when it is told of.
    pub told: Told,
    /// The account that it is.
    pub id: AccountId,
    /// The person at Threads.
    pub threads_user_id: ThreadsUserId,
    /// The token.
    pub token: Option<AccessToken>,
    /// When the token dies, by the source's word.
    pub expire_time: Option<OffsetDateTime>,
    /// When the token was obtained or refreshed.
    pub issue_time: Option<OffsetDateTime>,
    /// The person has not consented before: the epoch, if nobody knows.
    pub begin_time: OffsetDateTime,
    /// The person had consented by then: now, if nobody knows.
    pub authorize_time: OffsetDateTime,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Why it is not ACTIVE, by another deployment's word.
    pub state_reason: Option<StateReason>,
}

impl Entry {
    /// Reads a row.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(
        row: &Row,
        told: Told,
        app: &App,
        id_key: &IdKey,
        now: OffsetDateTime,
    ) -> Result<Self, Invalid> {
        // As the API has it: whom it cannot name nobody could unlink.
        if !(1..=USER_ID_MAX).contains(&row.user_id.len()) || row.user_id.chars().any(char::is_control) {
            return Err(Invalid::UserId);
        }
        let threads_user_id = ThreadsUserId::parse(&row.threads_user_id).ok_or(Invalid::ThreadsUserId)?;
        let token = read_token(row.access_token.as_ref())?;
        let time = |text: &Option<String>, invalid| match text.as_deref().map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => parse_time(text).map(Some).ok_or(invalid),
        };
        let past = |text, invalid| match time(text, invalid)? {
            Some(time) if time > now + AHEAD_MAX => Err(invalid),
            time => Ok(time.map(|time| time.min(now))),
        };
        let expire_time = time(&row.expires_at, Invalid::ExpiresAt)?;
        let issue_time = past(&row.issued_at, Invalid::IssuedAt)?;
        let consent_begin = past(&row.consent_begin, Invalid::AuthorizedAt)?;
        let consent_end = past(&row.consent_end, Invalid::AuthorizedAt)?;
        let begin_time = consent_begin.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let state_reason = match row.state_reason.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(word) => Some(StateReason::parse(word).ok_or(Invalid::StateReason)?),
        };
        Ok(Self {
            id: id_key.account_id(app.id(), &threads_user_id),
            threads_user_id,
            token,
            expire_time,
            issue_time,
            begin_time,
            authorize_time: consent_end.unwrap_or(now).max(begin_time),
            scopes: read_scopes(row.scopes.as_deref(), app)?,
            state_reason,
            told,
        })
    }
}

/// What becomes of a row by what it says of its state alone.
pub(super) fn settled(row: &Row) -> Option<Fate> {
    let word = row.state.as_deref().map(str::trim).filter(|word| !word.is_empty())?;
    match AccountState::parse(word) {
        Some(AccountState::Unlinked) => Some(Fate::Passed),
        Some(_) => None,
        None => Some(Fate::Refused(Refusal::Invalid(Invalid::State))),
    }
}

fn read_token(token: Option<&AccessToken>) -> Result<Option<AccessToken>, Invalid> {
    let Some(text) = token.map(|token| token.expose().trim()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // The two forms of better-auth's `account.encryptOAuthTokens`: an envelope, or hexadecimal digits alone.
    // A token of Threads begins with TH.
    let is_hex =
        text.len() >= ENCRYPTED_MIN && text.len() % 2 == 0 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.starts_with("$ba$") || is_hex {
        return Err(Invalid::Encrypted);
    }
    let fits = text.len() <= TOKEN_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(Some(AccessToken::new(text.to_owned()))) } else { Err(Invalid::Token) }
}

/// Scopes as they are found: separated by commas, as Threads is asked, or by spaces,
/// as RFC 6749 has it. Without any, what the app asks for.
fn read_scopes(text: Option<&str>, app: &App) -> Result<Vec<String>, Invalid> {
    let names = text.unwrap_or_default().split([',', ' ']).filter(|name| !name.is_empty());
    let scopes: Vec<String> = names.map(str::to_owned).collect();
    if scopes.is_empty() {
        return Ok(with_basic_scope(&app.config.scopes));
    }
    let fits = scopes.len() <= SCOPES_MAX && scopes.iter().all(|scope| is_scope(scope));
    if fits { Ok(with_basic_scope(&scopes)) } else { Err(Invalid::Scopes) }
}

/// A time as sources write it: RFC 3339, or seconds or milliseconds since 1970.
fn parse_time(text: &str) -> Option<OffsetDateTime> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time);
    }
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = text.parse().ok().filter(|_| is_number)?;
    let seconds = if number > SECONDS_MAX { number / 1000.0 } else { number };
    if seconds > SECONDS_MAX {
        return None;
    }
    // To the microsecond, which is what Postgres keeps.
    #[expect(clippy::cast_possible_truncation, reason = "below 10^17 by now")]
    let microseconds = (seconds * 1_000_000.0).round() as i128;
    OffsetDateTime::from_unix_timestamp_nanos(microseconds * 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn times_are_read_as_they_are_written_elsewhere() {
        let noon = datetime!(2026-03-01 12:00:00 UTC);
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01T13:00:00+01:00",
            "1772366400",
            "1772366400000",
            "1772366400.000000",
        ] {
            assert_eq!(parse_time(text), Some(noon), "{text}");
        }
        assert_eq!(parse_time("0"), Some(OffsetDateTime::UNIX_EPOCH));
        for text in ["", "soon", "-1", "1e9", "NaN", "inf", "2026-03-01", "12.3.4", "999999999999999999"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_better_auth_has_encrypted_is_no_token() {
        let read = |text: &str| read_token(Some(&AccessToken::new(text.to_owned())));
        assert!(matches!(read("$ba$1$00ff"), Err(Invalid::Encrypted)));
        assert!(matches!(read(&"00ff".repeat(40)), Err(Invalid::Encrypted)));
        assert!(matches!(read("TH\u{e4}"), Err(Invalid::Token)));
        assert!(matches!(read("TH a"), Err(Invalid::Token)));
        assert!(matches!(read(&"T".repeat(TOKEN_MAX + 1)), Err(Invalid::Token)));
        assert!(matches!(read("  "), Ok(None)) && matches!(read_token(None), Ok(None)));
        assert!(read(" THabc ").is_ok_and(|token| token.is_some_and(|token| token.expose() == "THabc")));
    }
}
