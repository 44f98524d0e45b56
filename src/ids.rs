//! Ids. Those that we mint are UUIDs inside and opaque text outside; the
//! caller's are opaque bytes; Threads' are decimal text, because they exceed
//! what a double can hold.

use std::fmt;

use aws_lc_rs::hmac;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::clock;
use crate::secret;

/// The longest user id a caller may use, in bytes.
pub const USER_ID_MAX: usize = 128;
/// The longest Threads id, in digits.
pub const THREADS_USER_ID_MAX: usize = 32;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the text form; `None` for anything that we never mint.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                // try_parse also takes braces, URNs and bare hex: one id, one text.
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return None;
                }
                Uuid::try_parse(text).ok().map(Self)
            }

            /// Reads the 16 bytes that sealed values carry.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A linked Threads account, derived from app and Threads id (see
    /// [`IdKey`]): linking is one upsert on one primary key.
    AccountId
);
uuid_id!(
    /// One attempt to link or sign in.
    AuthorizationId
);

impl AuthorizationId {
    /// Mints one. They sort by time (UUIDv7, RFC 9562), which keeps inserts at
    /// one end of the index.
    #[must_use]
    pub fn mint(now: OffsetDateTime) -> Self {
        let milliseconds = u64::try_from(clock::unix_milliseconds(now)).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &secret::random()).into_uuid())
    }

    /// The least id that can be minted at a time: whatever is less was minted
    /// before it. Housekeeping finds old rows by it.
    #[must_use]
    pub fn first_of(time: OffsetDateTime) -> Self {
        let milliseconds = u64::try_from(clock::unix_milliseconds(time)).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid())
    }
}

/// Mints the id of one try at something: whoever writes back later proves by it
/// that the try is still its own.
#[must_use]
pub fn mint_claim() -> Uuid {
    uuid::Builder::from_random_bytes(secret::random()).into_uuid()
}

/// Mints the user id of somebody who signs in for the first time.
#[must_use]
pub fn mint_user_id() -> String {
    uuid::Builder::from_random_bytes(secret::random()).into_uuid().to_string()
}

/// The id that Threads gives a person for one app: decimal digits, kept as text
/// so that no digit is ever lost.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ThreadsUserId(String);

impl ThreadsUserId {
    /// Takes 1 to 32 decimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=THREADS_USER_ID_MAX).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_digit())).then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ThreadsUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It names a person: logs carry account ids instead.
        f.write_str("ThreadsUserId(redacted)")
    }
}

/// Letters and digits that are not taken for one another (Crockford's), of five bits
/// each.
pub const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What the person who asked to be forgotten looks the request up by. Whoever has
/// it sees the page, so it is told to nobody but Meta; what is stored is its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfirmationCode(String);

impl ConfirmationCode {
    /// Five bits a letter, so that 160 bits are 32 of them.
    const BYTES: usize = 20;
    const LEN: usize = Self::BYTES * 8 / 5;

    fn new(bytes: &[u8; Self::BYTES]) -> Self {
        let mut text = String::with_capacity(Self::LEN);
        for five in bytes.as_chunks::<5>().0 {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            let letters = (0..8).rev().map(|i| LETTERS[usize::from((bits >> (5 * i)).to_le_bytes()[0] & 31)]);
            text.extend(letters.map(char::from));
        }
        Self(text)
    }

    /// Reads the one form that a code has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == Self::LEN && text.bytes().all(|b| LETTERS.contains(&b));
        fits.then(|| Self(text.to_owned()))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        secret::sha256(&[b"confirmation code", self.0.as_bytes()])
    }
}

impl fmt::Debug for ConfirmationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfirmationCode(redacted)")
    }
}

/// The key from which account ids are derived. It never changes: with another
/// one every account would be a stranger.
#[derive(Clone)]
pub struct IdKey(hmac::Key);

impl IdKey {
    /// Takes the 32 bytes of the key.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The id of a Threads account in an app: UUIDv8 (RFC 9562) of
    /// HMAC-SHA-256 over app id and Threads id.
    #[must_use]
    pub fn account_id(&self, app_id: &str, threads_user_id: &ThreadsUserId) -> AccountId {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(app_id.len() as u64).to_be_bytes());
        context.update(app_id.as_bytes());
        context.update(threads_user_id.as_str().as_bytes());
        let tag = context.sign();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag.as_ref()[..16]);
        AccountId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// The code of a person's request to be forgotten, by when Meta says it was
    /// made: the same request has the same code, whoever brings it how often.
    /// Without the key it is as good as random.
    #[must_use]
    pub fn confirmation_code(
        &self,
        app_id: &str,
        threads_user_id: &ThreadsUserId,
        issue_time: Option<OffsetDateTime>,
    ) -> ConfirmationCode {
        let mut context = hmac::Context::with_key(&self.0);
        // An account id's input begins with zeros, so that none is the other's.
        context.update(b"threads-identity confirmation code");
        context.update(&(app_id.len() as u64).to_be_bytes());
        context.update(app_id.as_bytes());
        context.update(&issue_time.map_or(i64::MIN, OffsetDateTime::unix_timestamp).to_be_bytes());
        context.update(threads_user_id.as_str().as_bytes());
        let tag = context.sign();
        let mut bytes = [0; ConfirmationCode::BYTES];
        bytes.copy_from_slice(&tag.as_ref()[..ConfirmationCode::BYTES]);
        ConfirmationCode::new(&bytes)
    }

    /// What is stored of the key, so that a start with another one is refused.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, b"threads-identity id key fingerprint").as_ref());
        bytes
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(id: &str) -> ThreadsUserId {
        ThreadsUserId::parse(id).unwrap()
    }

    #[test]
    fn an_account_id_depends_on_key_app_and_every_digit() {
        let key = IdKey::new(&[7; 32]);
        let id = key.account_id("default", &threads("17841405793187219"));
        assert_eq!(id, key.account_id("default", &threads("17841405793187219")));
        assert_eq!(id.0.get_version_num(), 8);
        assert_ne!(id, key.account_id("default", &threads("17841405793187220")));
        assert_ne!(id, key.account_id("other", &threads("17841405793187219")));
        assert_ne!(id, IdKey::new(&[8; 32]).account_id("default", &threads("17841405793187219")));
        assert_ne!(key.account_id("a1", &threads("2")), key.account_id("a", &threads("12")));
    }

    #[test]
    fn a_confirmation_code_depends_on_key_app_person_and_time() {
        let key = IdKey::new(&[7; 32]);
        let time = Some(time::macros::datetime!(2026-03-01 12:00 UTC));
        let code = key.confirmation_code("default", &threads("17841405793187219"), time);
        assert_eq!(code, key.confirmation_code("default", &threads("17841405793187219"), time));
        assert_eq!(ConfirmationCode::parse(code.as_str()), Some(code.clone()));
        for other in [
            key.confirmation_code("other", &threads("17841405793187219"), time),
            key.confirmation_code("default", &threads("17841405793187218"), time),
            key.confirmation_code("default", &threads("17841405793187219"), None),
            key.confirmation_code(
                "default",
                &threads("17841405793187219"),
                time.map(|t| t + time::Duration::SECOND),
            ),
            IdKey::new(&[8; 32]).confirmation_code("default", &threads("17841405793187219"), time),
        ] {
            assert_ne!(code, other);
            assert_ne!(code.hash(), other.hash());
        }
        assert_eq!(ConfirmationCode::new(&[0xff; 20]).as_str(), "Z".repeat(32));
        let mut counted = [0; 20];
        counted[4] = 1;
        assert_eq!(ConfirmationCode::new(&counted).as_str(), "00000001000000000000000000000000");
        let text = code.as_str();
        for bad in
            ["", &text[1..], &format!("{text}0"), &text.to_lowercase(), &"I".repeat(32), &"é".repeat(16)]
        {
            if bad != text {
                assert_eq!(ConfirmationCode::parse(bad), None, "{bad}");
            }
        }
    }

    #[test]
    fn an_authorization_id_tells_before_from_after() {
        let time = time::macros::datetime!(2026-03-01 12:00:00.007 UTC);
        let id = AuthorizationId::mint(time);
        assert!(AuthorizationId::first_of(time) <= id);
        assert!(id < AuthorizationId::first_of(time + std::time::Duration::from_millis(1)));
    }

    #[test]
    fn one_id_has_one_text() {
        let text = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90";
        assert_eq!(AccountId::parse(text).unwrap().to_string(), text);
        for other in [
            "",
            "5B1C6A34-8F0E-8D52-9C1A-3F0D2B7E6A90",
            "5b1c6a348f0e8d529c1a3f0d2b7e6a90",
            "{5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90}",
            "urn:uuid:5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90",
        ] {
            assert_eq!(AccountId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_threads_id_is_digits_alone() {
        assert!(ThreadsUserId::parse("28753684917596557").is_some());
        for bad in ["", "1.5", "-1", "1e3", "١٢", "12 ", &"9".repeat(33)] {
            assert!(ThreadsUserId::parse(bad).is_none(), "{bad}");
        }
    }
}
