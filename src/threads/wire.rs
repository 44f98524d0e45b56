//! The answers of Threads, exactly as Meta documents them, and no more lenient
//! than has been seen to be needed.
//!
//! Long-lived tokens: developers.facebook.com/docs/threads/get-started/long-lived-tokens
//! Code exchange: developers.facebook.com/documentation/threads/get-started/get-access-tokens-and-permissions
//! Profiles: developers.facebook.com/documentation/threads/threads-profiles

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;

use crate::ids::ThreadsUserId;
use crate::profile::Profile;
use crate::secret::AccessToken;

/// The longest token that is accepted, in bytes. Real ones have about 200.
const TOKEN_MAX: usize = 4096;
/// What a long-lived token lives when Threads does not say, and at most.
const LONG_LIFETIME_MAX: Duration = Duration::from_hours(60 * 24);

const USERNAME_MAX: usize = 256;
const NAME_MAX: usize = 1024;
const PICTURE_URL_MAX: usize = 4096;
const BIOGRAPHY_MAX: usize = 8192;

/// A Threads id, which the code exchange sends as a number beyond 2^53 and
/// everything else as a string. Read from the text itself, so that no digit can
/// be lost on the way through a float.
#[derive(Debug)]
struct Digits(ThreadsUserId);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
        ThreadsUserId::parse(text).map(Self).ok_or_else(|| D::Error::custom("not a Threads id"))
    }
}

/// Seconds, which some answers have been seen to hold as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Seconds {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

#[derive(Deserialize)]
struct CodeExchangeAnswer {
    access_token: String,
    #[serde(default)]
    user_id: Option<Digits>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(bound = "W: Deserialize<'de>")]
struct MeAnswer<W> {
    #[serde(default)]
    id: Option<Digits>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    threads_profile_picture_url: Option<String>,
    #[serde(default)]
    threads_biography: Option<String>,
    #[serde(default)]
    is_verified: Option<bool>,
    /// Not documented for profiles; other libraries expect it, so it is
    /// tolerated in case Threads ever sends it.
    data: Option<W>,
}

/// A profile in a wrapper. One within it is not looked at: nobody decides how deep
/// this is read.
struct Wrapped(MeAnswer<IgnoredAny>);

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        read(raw.as_bytes()).map(Self).ok_or_else(|| D::Error::custom("not a profile"))
    }
}

/// The short-lived token, good for one hour, and whose it is.
pub struct ShortLived {
    /// The token.
    pub token: AccessToken,
    /// The person, when the answer names one.
    pub user_id: Option<ThreadsUserId>,
}

/// A long-lived token and how long it lives.
pub struct LongLived {
    /// The token.
    pub token: AccessToken,
    /// By the answer's own word, at most sixty days.
    pub lifetime: Duration,
}

/// A profile, and how many of its values could not be taken.
pub struct Me {
    /// The profile.
    pub profile: Profile,
    /// Values too long or with a NUL in them, which count as absent.
    pub dropped: u64,
}

/// Reads the answer to a code; `None` unless it is as documented.
#[must_use]
pub fn parse_code_exchange(body: &[u8]) -> Option<ShortLived> {
    let answer: CodeExchangeAnswer = read(body)?;
    Some(ShortLived {
        token: parse_token(answer.access_token)?,
        user_id: answer.user_id.map(|digits| digits.0),
    })
}

/// Reads the answer to an exchange or a refresh; `None` unless it is as documented.
#[must_use]
pub fn parse_long_lived(body: &[u8]) -> Option<LongLived> {
    let answer: TokenAnswer = read(body)?;
    let lifetime = match answer.expires_in {
        None => LONG_LIFETIME_MAX,
        // A token that is dead on arrival is no answer.
        Some(seconds) => Duration::from_secs(seconds.value().filter(|seconds| *seconds > 0)?),
    };
    Some(LongLived { token: parse_token(answer.access_token)?, lifetime: lifetime.min(LONG_LIFETIME_MAX) })
}

/// Reads a profile; `None` unless it is as documented and names somebody.
#[must_use]
pub fn parse_me(body: &[u8]) -> Option<Me> {
    let answer: MeAnswer<Wrapped> = read(body)?;
    if answer.id.is_some() { profile_of(answer) } else { profile_of(answer.data?.0) }
}

fn profile_of<W>(answer: MeAnswer<W>) -> Option<Me> {
    let mut dropped = 0;
    let mut keep = |value: Option<String>, max: usize| {
        let fits = |text: &String| text.len() <= max && !text.contains('\0');
        dropped += u64::from(value.as_ref().is_some_and(|text| !fits(text)));
        value.filter(fits)
    };
    let profile = Profile {
        id: answer.id?.0,
        username: keep(answer.username, USERNAME_MAX),
        name: keep(answer.name, NAME_MAX),
        picture_url: keep(answer.threads_profile_picture_url, PICTURE_URL_MAX),
        biography: keep(answer.threads_biography, BIOGRAPHY_MAX),
        is_verified: answer.is_verified,
    };
    Some(Me { profile, dropped })
}

/// Reads a JSON object. An array would do for serde's own reading of a structure, its
/// elements taken for fields in their order.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    // What is skipped over would not be looked at for UTF-8.
    let text = std::str::from_utf8(body).ok()?;
    text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
}

fn parse_token(text: String) -> Option<AccessToken> {
    let fits = !text.is_empty() && text.len() <= TOKEN_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| AccessToken::new(text))
}

/// Whether an answer holds an app's own token, which nobody needs to see.
pub(super) fn is_app_token(body: &[u8]) -> bool {
    let token = serde_json::from_slice::<serde_json::Value>(body).ok();
    let token = token.as_ref().and_then(|answer| answer.get("access_token")?.as_str());
    token.is_some_and(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_digit_of_an_id_is_lost() {
        for (body, expected) in [
            (r#"{"access_token":"THa","user_id":17841405793187219}"#, Some("17841405793187219")),
            (r#"{"access_token":"THa","user_id":"28753684917596557"}"#, Some("28753684917596557")),
            (
                r#"{"access_token":"THa","user_id": 99999999999999999999999999999999 }"#,
                Some("99999999999999999999999999999999"),
            ),
            (r#"{"access_token":"THa"}"#, None),
            (r#"{"access_token":"THa","user_id":null}"#, None),
        ] {
            let answer = parse_code_exchange(body.as_bytes()).unwrap();
            assert_eq!(answer.user_id.as_ref().map(ThreadsUserId::as_str), expected, "{body}");
        }
    }

    #[test]
    fn a_code_exchange_without_a_usable_token_is_none() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":17}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":"a b"}"#,
            r#"{"access_token":"THa","user_id":1.5}"#,
            r#"{"access_token":"THa","user_id":-1}"#,
            r#"{"access_token":"THa","user_id":1e3}"#,
            r#"{"access_token":"THa","user_id":""}"#,
            r#"{"access_token":"THa","access_token":"THb"}"#,
            r#"{"access_token":"THa""#,
            r#"["THa"]"#,
        ] {
            assert!(parse_code_exchange(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_lifetime_is_what_threads_says_up_to_sixty_days() {
        let lifetime = |expires: &str| {
            parse_long_lived(format!(r#"{{"access_token":"THa","token_type":"bearer"{expires}}}"#).as_bytes())
                .map(|answer| answer.lifetime.as_secs())
        };
        assert_eq!(lifetime(r#","expires_in":5102784"#), Some(5_102_784));
        assert_eq!(lifetime(r#","expires_in":"5183944""#), Some(5_183_944));
        assert_eq!(lifetime(""), Some(5_184_000));
        assert_eq!(lifetime(r#","expires_in":null"#), Some(5_184_000));
        assert_eq!(lifetime(r#","expires_in":99999999999"#), Some(5_184_000));
        for bad in ["0", "-5", "{}", "\"soon\"", "1.5"] {
            assert_eq!(lifetime(&format!(r#","expires_in":{bad}"#)), None, "{bad}");
        }
    }

    #[test]
    fn absent_empty_and_null_are_told_apart() {
        let me =
            parse_me(br#"{"id":"1","name":"","threads_biography":null,"is_verified":false,"other":[1]}"#)
                .unwrap();
        assert_eq!(me.profile.name.as_deref(), Some(""));
        assert_eq!(me.profile.biography, None);
        assert_eq!(me.profile.username, None);
        assert_eq!(me.profile.is_verified, Some(false));
        assert_eq!(me.dropped, 0);
    }

    #[test]
    fn a_profile_is_flat_but_a_wrapper_is_tolerated() {
        let url = r#""threads_profile_picture_url":"https:\/\/cdn.example\/a.jpg""#;
        for body in [format!(r#"{{"id":"1",{url}}}"#), format!(r#"{{"data":{{"id":"1",{url}}}}}"#)] {
            let me = parse_me(body.as_bytes()).unwrap();
            assert_eq!(me.profile.picture_url.as_deref(), Some("https://cdn.example/a.jpg"), "{body}");
        }
        assert!(parse_me(br#"{"data":{"name":"x"}}"#).is_none());
        assert!(parse_me(br#"{"data":["1"]}"#).is_none());
        assert!(parse_me(br#"{"data":{"data":{"id":"1"}}}"#).is_none());
        assert!(parse_me(format!("{}1", r#"{"data":"#.repeat(30_000)).as_bytes()).is_none());
        assert!(parse_me(br#"{"id":"1","name":17}"#).is_none());
    }

    #[test]
    fn values_that_cannot_be_kept_are_absent_and_counted() {
        let body = format!(r#"{{"id":"1","username":"a\u0000b","name":"{}"}}"#, "n".repeat(NAME_MAX + 1));
        let me = parse_me(body.as_bytes()).unwrap();
        assert_eq!((me.profile.username, me.profile.name, me.dropped), (None, None, 2));
    }
}
